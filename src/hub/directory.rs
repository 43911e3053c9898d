//! Names of rooms and the way to each room's task.

use super::actor::{ASKS, Actor, Ask};
use super::counters::{Counted, Counters};
use super::{JoinError, Session};
use crate::clock::Clock;
use crate::config::Config;
use crate::ids::RoomName;
use crate::net;
use crate::protocol::join::Join;
use crate::protocol::livekit::RoomConfiguration;
use crate::random::Random;
use crate::room::{Census, Now, Room, SessionId, Settings};
use crate::task::Tasks;
use crate::webhook;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Questions to the directory that wait; sessions wait with theirs.
const QUESTIONS: usize = 256;
/// For the numbers of all rooms.
const CENSUS_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Question {
    Join {
        join: Box<Join>,
        reply: oneshot::Sender<Result<Session, JoinError>>,
    },
    Check {
        join: Box<Join>,
        reply: oneshot::Sender<Result<(), JoinError>>,
    },
    /// A room's task is over; what had been asked of it meanwhile comes back.
    Ended {
        name: RoomName,
        number: u32,
        unanswered: Vec<Ask>,
    },
    /// The ways to all rooms.
    Rooms {
        reply: oneshot::Sender<Vec<mpsc::Sender<Ask>>>,
    },
    ShutDown {
        done: oneshot::Sender<()>,
    },
}

/// A way to reach the hub; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    questions: mpsc::Sender<Question>,
    counters: Arc<Counters>,
    node_id: Arc<str>,
}

/// A room's way back to the directory.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    questions: mpsc::Sender<Question>,
    number: u32,
}

/// Starts the directory's task.
pub fn start(
    config: &Config,
    net: net::Handle,
    webhooks: webhook::Handle,
    mut random: Random,
    tasks: &Tasks,
    clock: Clock,
) -> Handle {
    let (questions, receiver) = mpsc::channel(QUESTIONS);
    let settings = Settings {
        defaults: config.room.clone(),
        limits: config.limits.clone(),
        keys: config.keys.clone(),
        fingerprint: net.fingerprint(),
        lite: config.rtc.use_ice_lite,
        ice_servers: config.rtc.ice_servers.clone(),
        node_id: format!("ND_{}", random.text(12)),
    };
    let counters = Arc::new(Counters::default());
    let node_id = settings.node_id.as_str().into();
    let hub = Hub {
        counters: Arc::clone(&counters),
        settings,
        net,
        webhooks,
        random,
        tasks: tasks.clone(),
        clock,
        questions: questions.clone(),
        rooms: HashMap::new(),
        last_room: 0,
        last_session: 0,
        stopping: false,
    };
    tasks.spawn("hub", hub.run(receiver));
    Handle {
        questions,
        counters,
        node_id,
    }
}

impl Handle {
    /// Joins or resumes. The room is created if that is allowed.
    pub async fn join(&self, join: Join) -> Result<Session, JoinError> {
        let join = Box::new(join);
        self.ask(|reply| Question::Join { join, reply }).await
    }

    /// A way to a hub that is gone: every join is answered by [`JoinError::Stopping`].
    #[cfg(test)]
    pub fn of_no_hub() -> Self {
        Self {
            questions: mpsc::channel(1).0,
            counters: Arc::default(),
            node_id: "".into(),
        }
    }

    /// What `join` would say of room and limits, without joining (`/rtc/validate`).
    pub async fn check(&self, join: &Join) -> Result<(), JoinError> {
        let join = Box::new(join.clone());
        self.ask(|reply| Question::Check { join, reply }).await
    }

    /// Lets nobody in any more and tells everybody to come back later. Returns when all have been told.
    pub async fn shut_down(&self) {
        let (done, told) = oneshot::channel();
        if self
            .questions
            .send(Question::ShutDown { done })
            .await
            .is_ok()
        {
            // An error means that the hub is gone already, and all rooms with it.
            drop(told.await);
        }
    }

    /// What all rooms hold right now; a room that does not answer within a second is left out.
    pub async fn census(&self) -> Census {
        let (reply, rooms) = oneshot::channel();
        let mut census = Census::default();
        if self
            .questions
            .send(Question::Rooms { reply })
            .await
            .is_err()
        {
            return census;
        }
        let mut answers = Vec::new();
        for room in rooms.await.unwrap_or_default() {
            let (reply, answer) = oneshot::channel();
            // A full queue is that of a room without time for numbers.
            if room.try_send(Ask::Census { reply }).is_ok() {
                answers.push(answer);
            }
        }
        let all = async {
            for answer in answers {
                // An error is the answer of a room that has ended meanwhile.
                if let Ok(room) = answer.await {
                    census.add(&room);
                }
            }
        };
        // Late rooms are left out.
        tokio::time::timeout(CENSUS_TIMEOUT, all).await.ok();
        census
    }

    /// What has happened in all rooms since the start.
    pub fn counted(&self) -> Counted {
        self.counters.read()
    }

    /// `ND_…` of this process.
    pub fn node_id(&self) -> &str {
        &self.node_id
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, JoinError>>) -> Question,
    ) -> Result<T, JoinError> {
        let (reply, answer) = oneshot::channel();
        self.questions
            .send(question(reply))
            .await
            .map_err(|_| JoinError::Stopping)?;
        answer.await.map_err(|_| JoinError::Stopping)?
    }
}

impl Directory {
    /// Says that the room is over and hands back what is still asked of it.
    pub(super) async fn ended(&self, name: RoomName, asks: &mut mpsc::Receiver<Ask>) {
        asks.close();
        let mut unanswered = Vec::new();
        while let Some(ask) = asks.recv().await {
            unanswered.push(ask);
        }
        let question = Question::Ended {
            name,
            number: self.number,
            unanswered,
        };
        // Without a directory there is nobody left to be told.
        drop(self.questions.send(question).await);
    }
}

struct Entry {
    number: u32,
    asks: mpsc::Sender<Ask>,
}

/// The directory's task: owns the names and nothing else.
struct Hub {
    counters: Arc<Counters>,
    settings: Settings,
    net: net::Handle,
    webhooks: webhook::Handle,
    random: Random,
    tasks: Tasks,
    clock: Clock,
    questions: mpsc::Sender<Question>,
    rooms: HashMap<RoomName, Entry>,
    last_room: u32,
    last_session: u64,
    stopping: bool,
}

impl Hub {
    async fn run(mut self, mut questions: mpsc::Receiver<Question>) {
        loop {
            let question = tokio::select! {
                question = questions.recv() => question,
                () = self.tasks.cancelled() => None,
            };
            match question {
                None => return,
                Some(Question::Join { join, reply }) => {
                    self.last_session += 1;
                    let session = SessionId(self.last_session);
                    self.dispatch(Ask::Join {
                        join,
                        session,
                        reply,
                    })
                    .await;
                }
                Some(Question::Check { join, reply }) => {
                    self.dispatch(Ask::Check { join, reply }).await;
                }
                Some(Question::Ended {
                    name,
                    number,
                    unanswered,
                }) => {
                    if self
                        .rooms
                        .get(&name)
                        .is_some_and(|entry| entry.number == number)
                    {
                        self.rooms.remove(&name);
                    }
                    for ask in unanswered {
                        self.dispatch(ask).await;
                    }
                }
                Some(Question::Rooms { reply }) => {
                    let rooms = self.rooms.values().map(|entry| entry.asks.clone());
                    // An asker that is gone needs no answer.
                    drop(reply.send(rooms.collect()));
                }
                Some(Question::ShutDown { done }) => {
                    self.shut_down().await;
                    done.send(()).ok();
                }
            }
        }
    }

    /// To the room's task; a join makes the room if that is allowed, a check says whether it would.
    async fn dispatch(&mut self, ask: Ask) {
        if self.stopping {
            return refuse(ask, JoinError::Stopping);
        }
        let name = match &ask {
            Ask::Join { join, .. } | Ask::Check { join, .. } => room_of(join),
            Ask::Census { .. } | Ask::ShutDown { .. } => return,
        };
        if let Some(entry) = self.rooms.get(&name) {
            // A full queue makes everybody wait for this room's task, which never waits for the hub.
            match entry.asks.send(ask).await {
                Ok(()) => return,
                Err(mpsc::error::SendError(back)) => {
                    self.rooms.remove(&name);
                    return Box::pin(self.dispatch(back)).await;
                }
            }
        }
        match self.may_create(&ask) {
            Err(error) => refuse(ask, error),
            Ok(configuration) => match ask {
                Ask::Check { reply, .. } => reply.send(Ok(())).map_or((), |()| ()),
                ask => self.create(name, configuration, ask).await,
            },
        }
    }

    fn may_create(&self, ask: &Ask) -> Result<Option<RoomConfiguration>, JoinError> {
        let (Ask::Join { join, .. } | Ask::Check { join, .. }) = ask else {
            return Ok(None);
        };
        let grant = join.claims.video.as_ref();
        if !self.settings.defaults.auto_create && !grant.is_some_and(|grant| grant.room_create) {
            return Err(JoinError::RoomNotFound);
        }
        let preset = &join.claims.room_preset;
        let value = if preset.is_empty() {
            join.claims.room_config.clone()
        } else {
            let known = self.settings.defaults.presets.get(preset);
            Some(
                known
                    .cloned()
                    .ok_or_else(|| JoinError::UnknownPreset(preset.clone()))?,
            )
        };
        // What cannot be read as a configuration is left aside, as unknown claims are.
        Ok(value.and_then(|value| serde_json::from_value(value).ok()))
    }

    async fn create(&mut self, name: RoomName, configuration: Option<RoomConfiguration>, ask: Ask) {
        self.last_room += 1;
        let number = self.last_room;
        let now = Now {
            at: self.clock.now(),
            unix_us: self.clock.unix_us(),
        };
        let random = match &mut self.random {
            Random::System(_) => Random::system(),
            seeded @ Random::Seeded(_) => Random::seeded(seeded.u64()),
        };
        let mut room = Room::new(now, name.as_str(), number, self.settings.clone(), random);
        if let Some(configuration) = configuration {
            room.configure(now, &configuration);
        }
        let (asks, receiver) = mpsc::channel(ASKS);
        let directory = Directory {
            questions: self.questions.clone(),
            number,
        };
        let actor = Actor {
            name: name.clone(),
            room,
            net: self.net.clone(),
            webhooks: self.webhooks.clone(),
            counters: Arc::clone(&self.counters),
            directory,
            asks: receiver,
            clock: self.clock,
        };
        self.tasks.spawn("room", actor.run());
        // The queue is new and its reader lives.
        drop(asks.send(ask).await);
        self.rooms.insert(name, Entry { number, asks });
    }

    async fn shut_down(&mut self) {
        self.stopping = true;
        let mut waiting = Vec::new();
        for (_, entry) in self.rooms.drain() {
            let (done, told) = oneshot::channel();
            if entry.asks.send(Ask::ShutDown { done }).await.is_ok() {
                waiting.push(told);
            }
        }
        for told in waiting {
            // A room that ended by itself meanwhile has told everybody too.
            drop(told.await);
        }
    }
}

fn room_of(join: &Join) -> RoomName {
    let grant = join.claims.video.as_ref();
    RoomName::from(grant.map_or("", |grant| grant.room.as_str()))
}

fn refuse(ask: Ask, error: JoinError) {
    match ask {
        // An asker who has gone away needs no answer.
        Ask::Join { reply, .. } => drop(reply.send(Err(error))),
        Ask::Check { reply, .. } => drop(reply.send(Err(error))),
        Ask::Census { .. } => {}
        Ask::ShutDown { done } => {
            done.send(()).ok();
        }
    }
}
