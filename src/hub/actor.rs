//! The task of one room: inputs in, outputs carried out, nothing decided.

use super::counters::{Counters, Tracks};
use super::directory::Directory;
use super::forwarding::{Forwards, Guest};
use super::inbox::{Signals, Switch, inbox};
use super::moving::Immigrant;
use super::outbox::{OutboxSender, outbox};
use super::{Inbound, JoinError, Session};
use crate::agent;
use crate::clock::Clock;
use crate::ids::RoomName;
use crate::net;
use crate::plan::{Command, Event};
use crate::protocol::join::Join;
use crate::protocol::livekit as proto;
use crate::room::{
    Answer, Call, CallError, CallId, Census, Fault, JoinRefused, Now, Output, Place, Room,
    RoomCommand, SessionId,
};
use crate::webhook;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot, watch};

/// Joins and checks that wait for a room.
pub(super) const ASKS: usize = 64;
/// Requests of clients that wait for their room; sessions wait with theirs.
pub(super) const SIGNALS: usize = 256;
/// Events of workers that wait; past this they hold data back and merge the rest.
pub(super) const EVENTS: usize = 1024;
/// Inputs handled before outputs are carried out: a burst of events is one walk over the outputs.
const BURST: usize = 64;

/// What the directory asks of a room.
#[derive(Debug)]
pub(super) enum Ask {
    /// Let somebody in.
    Join {
        join: Box<Join>,
        session: SessionId,
        reply: oneshot::Sender<Result<Session, JoinError>>,
    },
    /// Would somebody be let in?
    Check {
        join: Box<Join>,
        reply: oneshot::Sender<Result<(), JoinError>>,
    },
    /// What does the room hold?
    Census { reply: oneshot::Sender<Census> },
    /// Do what an application's server asks for.
    Call {
        call: Box<Call>,
        reply: oneshot::Sender<Result<Answer, CallError>>,
    },
    /// Forward somebody to another room.
    Forward {
        request: proto::ForwardParticipantRequest,
        reply: oneshot::Sender<Result<Box<Guest>, CallError>>,
    },
    /// Take in somebody who is in another room.
    Welcome {
        room: String,
        guest: Box<Guest>,
        reply: oneshot::Sender<Result<Answer, CallError>>,
    },
    /// Let somebody go to another room.
    Emigrate {
        request: proto::MoveParticipantRequest,
        reply: oneshot::Sender<Result<Option<Box<Immigrant>>, CallError>>,
    },
    /// Take in somebody from another room.
    Immigrate {
        room: String,
        immigrant: Box<Immigrant>,
        reply: oneshot::Sender<()>,
    },
    /// End, telling everybody to come back.
    ShutDown { done: oneshot::Sender<()> },
}

/// The room's ends of one session.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) outbox: OutboxSender,
    pub(super) switch: Switch,
}

/// The ways into and out of a room, beside the questions of the directory.
#[derive(Debug)]
pub(super) struct Ways {
    pub(super) signals_in: Signals,
    pub(super) signals: mpsc::Receiver<(SessionId, Inbound)>,
    pub(super) events_in: mpsc::Sender<Event>,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) lines: HashMap<SessionId, Line>,
    pub(super) forwards: Forwards,
}

impl Ways {
    fn new() -> Self {
        let (signals_in, signals) = mpsc::channel(SIGNALS);
        let (events_in, events) = mpsc::channel(EVENTS);
        Self {
            signals_in,
            signals,
            events_in,
            events,
            lines: HashMap::new(),
            forwards: Forwards::default(),
        }
    }
}

/// Everything that one room's task owns.
pub(super) struct Actor {
    pub(super) name: RoomName,
    pub(super) room: Room,
    pub(super) net: net::Handle,
    pub(super) webhooks: webhook::Handle,
    pub(super) agents: agent::Handle,
    pub(super) counters: Arc<Counters>,
    pub(super) tracks: Tracks,
    pub(super) directory: Directory,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) clock: Clock,
    /// The room as the directory lists it.
    pub(super) listed: Listed,
    pub(super) calls: Calls,
}

/// Calls that the room has not answered yet.
#[derive(Debug, Default)]
pub(super) struct Calls {
    waiting: HashMap<CallId, oneshot::Sender<Result<Answer, CallError>>>,
    last: u64,
}

/// The room's record where the directory can see it without asking.
#[derive(Debug)]
pub(super) struct Listed {
    sender: watch::Sender<Arc<proto::Room>>,
    revision: u64,
}

impl Listed {
    pub(super) fn new(room: &Room) -> (Self, watch::Receiver<Arc<proto::Room>>) {
        let (sender, receiver) = watch::channel(Arc::new(room.snapshot()));
        let revision = room.revision();
        (Self { sender, revision }, receiver)
    }

    fn refresh(&mut self, room: &Room) {
        let revision = room.revision();
        if std::mem::replace(&mut self.revision, revision) != revision {
            self.sender.send_replace(Arc::new(room.snapshot()));
        }
    }
}

impl Actor {
    /// Runs until the room is over.
    pub(super) async fn run(mut self) {
        let mut ways = Ways::new();
        let mut addresses = self.net.watch_addresses();
        self.room.start(self.now());
        while !self.room.is_finished() {
            let due = self.room.next_timeout();
            // By chance, not in order: whoever floods a room with data must not keep others from being let in.
            tokio::select! {
                Some(event) = ways.events.recv() => {
                    self.room.handle_event(self.now(), event);
                    for _ in 0..BURST {
                        let Ok(event) = ways.events.try_recv() else { break };
                        self.room.handle_event(self.now(), event);
                    }
                }
                Some((session, inbound)) = ways.signals.recv() => self.inbound(session, inbound),
                Some(ask) = self.asks.recv() => match ask {
                    Ask::Join { join, session, reply } => {
                        let answer = self.join(*join, session, &mut ways);
                        Counters::count(match &answer {
                            Ok(_) => &self.counters.joins_accepted,
                            Err(_) => &self.counters.joins_refused,
                        });
                        if let Err(Ok(_)) = reply.send(answer) {
                            // The client hung up while it was let in.
                            self.room.handle_gone(self.now(), session);
                        }
                    }
                    Ask::Check { join, reply } => {
                        // A check whose asker is gone needs no answer.
                        reply.send(self.room.check(&join).map_err(|e| self.refusal(&e))).ok();
                    }
                    // An asker that is gone needs no answer.
                    Ask::Census { reply } => drop(reply.send(self.room.census())),
                    Ask::Call { call, reply } => {
                        self.calls.last += 1;
                        let id = CallId(self.calls.last);
                        self.calls.waiting.insert(id, reply);
                        self.room.handle_call(self.now(), id, *call);
                    }
                    Ask::Forward { request, reply } => {
                        // Dropped with its asker, and the forwarding ends.
                        drop(reply.send(self.forward(&request, &mut ways)));
                    }
                    Ask::Welcome { guest, reply, .. } => {
                        // A caller who has gone away needs no answer.
                        drop(reply.send(self.welcome(*guest, &mut ways)));
                    }
                    Ask::Emigrate { request, reply } => {
                        let answer = self.emigrate(&request, &mut ways).await;
                        // Dropped with its asker, at the end of the process: its transports close.
                        drop(reply.send(answer));
                    }
                    Ask::Immigrate { immigrant, reply, .. } => {
                        self.immigrate(*immigrant, &mut ways).await;
                        reply.send(()).ok();
                    }
                    Ask::ShutDown { done } => {
                        self.room.shut_down(self.now());
                        self.carry_out(&mut ways).await;
                        done.send(()).ok();
                        break;
                    }
                },
                Ok(()) = addresses.changed() => {
                    for worker in self.net.worker_ids() {
                        self.room.set_candidates(worker, &self.net.candidates(worker));
                    }
                }
                news = ways.forwards.news() => self.handle_news(news, &mut ways),
                () = sleep_until(due) => self.room.handle_timeout(self.now()),
            }
            self.carry_out(&mut ways).await;
        }
        self.directory
            .ended(self.name.clone(), &mut self.asks)
            .await;
    }

    pub(super) fn now(&self) -> Now {
        Now {
            at: self.clock.now(),
            unix_us: self.clock.unix_us(),
        }
    }

    pub(super) fn inbound(&mut self, session: SessionId, inbound: Inbound) {
        match inbound {
            Inbound::Request(request) => {
                Counters::count(&self.counters.messages_in);
                self.room.handle_request(self.now(), session, *request);
            }
            Inbound::Malformed => self.room.fault(Fault::FrameUnreadable),
            Inbound::Gone => self.room.handle_gone(self.now(), session),
        }
    }

    fn join(
        &mut self,
        join: Join,
        session: SessionId,
        ways: &mut Ways,
    ) -> Result<Session, JoinError> {
        let worker = self.net.place(self.room.home());
        let place = Place {
            worker,
            candidates: self.net.candidates(worker),
        };
        let now = self.now();
        let participant = self
            .room
            .join(now, session, join, place)
            .map_err(|refused| self.refusal(&refused))?;
        let (sender, receiver) = outbox();
        let (switch, inbox) = inbox(session, ways.signals_in.clone());
        let outbox = sender;
        ways.lines.insert(session, Line { outbox, switch });
        Ok(Session {
            participant,
            outbox: receiver,
            inbox,
            id: session,
        })
    }

    fn refusal(&self, refused: &JoinRefused) -> JoinError {
        match refused {
            JoinRefused::Full(max) => JoinError::RoomFull(self.name.as_str().to_owned(), *max),
            JoinRefused::Simulated => JoinError::Simulated,
            JoinRefused::MayNotSetMetadata => JoinError::MayNotSetMetadata,
            JoinRefused::LimitExceeded(what) => {
                JoinError::LimitExceeded(format!("{what} exceeds its limit"))
            }
        }
    }

    /// Carries out what the room decided.
    pub(super) async fn carry_out(&mut self, ways: &mut Ways) {
        while let Some(output) = self.room.poll() {
            match output {
                Output::Signal(session, message) => {
                    Counters::count(&self.counters.messages_out);
                    let line = ways.lines.get(&session);
                    if !line.is_none_or(|line| line.outbox.push(message)) {
                        ways.lines.remove(&session);
                        self.room.handle_gone(self.now(), session);
                    }
                }
                Output::Close(session) => {
                    if let Some(line) = ways.lines.remove(&session) {
                        line.outbox.close();
                    }
                }
                Output::Answer(id, answer) => {
                    if let Some(reply) = self.calls.waiting.remove(&id) {
                        // A caller who has gone away needs no answer.
                        drop(reply.send(*answer));
                    }
                }
                Output::Webhook(event, extra) => {
                    self.counters.note(&event);
                    self.webhooks.notify(event, extra);
                }
                Output::Forward(id, forwarding) => ways.forwards.tell(id, forwarding),
                Output::Guest(id, guesting) => ways.forwards.ask(id, guesting),
                // The keeper of agents waits for nobody, so this is soon done.
                Output::Agent(fact) => self.agents.tell(fact).await,
                Output::Net(worker, command) => {
                    self.net
                        .send(worker, complete(command, &ways.events_in))
                        .await;
                }
            }
        }
        self.counters.add_faults(self.room.take_faults());
        self.tracks.set(self.room.track_count());
        self.listed.refresh(&self.room);
    }
}

/// A command as the worker takes it, with the room's own channel for events.
fn complete(command: RoomCommand, events: &mpsc::Sender<Event>) -> Command {
    match command {
        RoomCommand::Plain(command) => command,
        RoomCommand::Open {
            id,
            local,
            controlling,
            lite,
            channels,
        } => Command::OpenTransport {
            id,
            local,
            controlling,
            lite,
            channels,
            events: events.clone(),
        },
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
