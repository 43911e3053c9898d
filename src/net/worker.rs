//! A media worker: the OS thread that drives one [`Plane`].
//!
//! It owns the plane, the worker's UDP sockets and its end of every channel, and sleeps in epoll until a socket is
//! readable, somebody rings, or the plane's next timer. A turn, in this order:
//!
//! 1. what was left for it: commands, blocks of TCP frames, messages of other workers, 64 of each at most. First, because
//!    a transport may be in there that a datagram is for;
//! 2. UDP: receive a batch (GRO, recvmmsg), hand each datagram to the plane, finish the batch, send what came of it;
//! 3. the plane's timer, if due;
//! 4. what the plane has for others: messages to workers, events to rooms.
//!
//! It takes no lock and waits for nothing but epoll and, at most 20 ms, a full socket buffer. This is where media
//! reads the clock.

use super::batch::TxBatch;
use super::doorbell::Doorbell;
use super::events::{Outlets, Request};
use super::links::{Link, Links};
use super::load::{Load, Meter};
use super::tcp::{self, TcpInput};
use super::udp::{RxSlab, Udp};
use crate::ids::WorkerId;
use crate::media::io::{Path, Socket};
use crate::media::link::LinkMessage;
use crate::media::plane::Plane;
use crate::media::transport::HoldReason;
use crate::plan::{Command, LocalCandidate, WorkerReport};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc as ring;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The doorbell's token; sockets have their index.
const DOORBELL: Token = Token(usize::MAX);
/// Receive batches of one socket in one turn: another socket, commands and timers shall not starve.
const ROUNDS: usize = 4;
/// Commands, TCP blocks, link messages of one turn, of each.
pub(super) const SHARE: usize = 64;
/// The shortest sleep of a worker that has something to do soon.
const NAP: Duration = Duration::from_millis(1);
/// Turns in a row that the plane may ask for at once: it hands its control traffic out in portions. More than any
/// backlog needs would be a mistake that takes the whole core.
const EAGER: u32 = 256;

/// From the async side to a worker.
#[derive(Debug)]
pub(super) enum Input {
    /// The addresses have changed.
    Addresses {
        /// What clients of this worker are told.
        candidates: Vec<LocalCandidate>,
        /// All that this host has.
        host: Arc<[IpAddr]>,
    },
    /// A room's.
    Command(Command),
}

/// The worker's end of its channels.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) inputs: mpsc::Receiver<Input>,
    pub(super) tcp: mpsc::Receiver<TcpInput>,
    pub(super) links: ring::Receiver<LinkMessage>,
}

/// All that the thread owns.
#[derive(Debug)]
pub(super) struct Worker {
    id: WorkerId,
    plane: Plane,
    poll: Poll,
    doorbell: Arc<Doorbell>,
    inbox: Inbox,
    links: Links,
    tx: TxBatch,
    rx: RxSlab,
    readable: Vec<bool>,
    outlets: Outlets,
    load: Arc<Load>,
    /// Turns in a row that the plane asked for at once.
    eager: u32,
    stopping: bool,
}

impl Worker {
    /// A worker with its poll, in which its sockets are registered.
    pub(super) fn new(
        id: WorkerId,
        plane: Plane,
        sockets: Vec<Udp>,
        (poll, doorbell): (Poll, Arc<Doorbell>),
        inbox: Inbox,
        links: Vec<Link>,
        load: Arc<Load>,
    ) -> io::Result<Self> {
        for (index, udp) in sockets.iter().enumerate() {
            let fd = udp.socket().as_raw_fd();
            poll.registry()
                .register(&mut SourceFd(&fd), Token(index), Interest::READABLE)?;
        }
        Ok(Self {
            id,
            plane,
            poll,
            doorbell,
            inbox,
            links: Links::new(links),
            // Epoll tells of edges only: look once for what came before the registration.
            readable: vec![true; sockets.len()],
            tx: TxBatch::new(sockets, super::now())?,
            rx: RxSlab::new(),
            outlets: Outlets::default(),
            load,
            eager: 0,
            stopping: false,
        })
    }

    /// A poll with the doorbell that wakes it.
    pub(super) fn poll() -> io::Result<(Poll, Arc<Doorbell>)> {
        let poll = Poll::new()?;
        let doorbell = Arc::new(Doorbell::new(poll.registry(), DOORBELL)?);
        Ok((poll, doorbell))
    }

    /// Turns until [`Command::Stop`].
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(16);
        let mut slept = super::now();
        let mut meter = Meter::new(slept);
        let mut busy = true;
        while !self.stopping {
            let timeout = if busy {
                Some(Duration::ZERO)
            } else {
                self.sleep_for(slept)
            };
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(worker = self.id.0, %error, "epoll does not work: this worker ends");
                return;
            }
            let woke = super::now();
            for event in &events {
                if let Some(readable) = self.readable.get_mut(event.token().0) {
                    *readable = true;
                }
            }
            busy = self.turn(woke);
            slept = super::now();
            meter.turn(woke, slept, &self.load);
        }
    }

    /// How long nothing is due; `None`: until somebody rings.
    fn sleep_for(&mut self, now: Instant) -> Option<Duration> {
        let held = self.links.is_waiting().then(|| now + NAP);
        let due = [self.plane.next_timeout(), self.outlets.next_timeout(), held];
        let due = due.into_iter().flatten().min();
        let wait = due.map(|due| due.saturating_duration_since(now));
        if wait.is_none_or(|wait| wait > Duration::ZERO) {
            self.eager = 0;
            return wait;
        }
        self.eager += 1;
        if self.eager < EAGER { wait } else { Some(NAP) }
    }

    /// Returns whether there is more to do at once.
    fn turn(&mut self, now: Instant) -> bool {
        self.tx.set_now(now);
        let more = self.take_inbox(now);
        self.receive();
        let mut now = super::now();
        self.tx.set_now(now);
        if self.plane.next_timeout().is_some_and(|due| due <= now) {
            self.plane.handle_timeout(now, &mut self.tx);
            now = super::now();
        }
        self.tell_rooms(now);
        self.tell_workers();
        self.tx.flush();
        more || self.readable.contains(&true)
    }

    fn receive(&mut self) {
        for index in 0..self.readable.len() {
            for _ in 0..ROUNDS {
                if !self.readable[index] {
                    break;
                }
                // An error belongs to one datagram or one moment; the next arrival tells of itself.
                self.readable[index] = false;
                match self.tx.sockets()[index].receive(&mut self.rx) {
                    Ok((messages, more)) => {
                        self.readable[index] = more;
                        self.take_datagrams(index as u8, messages);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => {
                        tracing::debug!(worker = self.id.0, %error, "receive");
                    }
                }
            }
        }
    }

    fn take_datagrams(&mut self, index: u8, messages: usize) {
        let now = super::now();
        let (plane, tx) = (&mut self.plane, &mut self.tx);
        self.rx.datagrams(messages, |local, remote, datagram| {
            let path = Path {
                socket: Socket::Udp(index),
                local,
                remote,
            };
            plane.handle_datagram(now, &path, datagram, tx);
        });
        plane.finish_batch(now, tx);
        tx.flush();
    }

    /// Takes what others have left; returns whether there may be more.
    fn take_inbox(&mut self, now: Instant) -> bool {
        self.doorbell.clear();
        let mut commands = 0;
        while commands < SHARE
            && let Ok(input) = self.inbox.inputs.try_recv()
        {
            self.take_input(now, input);
            commands += 1;
        }
        let mut blocks = 0;
        while blocks < SHARE
            && let Ok(input) = self.inbox.tcp.try_recv()
        {
            self.take_tcp(now, input);
            blocks += 1;
        }
        let mut links = 0;
        while links < SHARE
            && let Ok(message) = self.inbox.links.try_recv()
        {
            self.plane.handle_link(now, message, &mut self.tx);
            links += 1;
        }
        if commands + blocks + links > 0 {
            self.plane.finish_batch(now, &mut self.tx);
            self.tx.flush();
        }
        commands == SHARE || blocks == SHARE || links == SHARE
    }

    fn take_input(&mut self, now: Instant, input: Input) {
        let command = match input {
            Input::Addresses { candidates, host } => {
                self.plane.set_candidates(now, candidates, &host);
                return;
            }
            Input::Command(command) => command,
        };
        let mut closed = None;
        match &command {
            Command::CloseTransport { id } => closed = Some(*id),
            Command::OpenTransport { id, events, .. } => self.outlets.open(*id, events.clone()),
            Command::Stop => self.stopping = true,
            Command::AddRemoteCandidate { .. }
            | Command::CloseDown { .. }
            | Command::CloseMirror { .. }
            | Command::LimitBandwidth { .. }
            | Command::OpenDown { .. }
            | Command::OpenMirror { .. }
            | Command::Report { .. }
            | Command::HoldData { .. }
            | Command::SendData { .. }
            | Command::SetEvents { .. }
            | Command::SetMirror { .. }
            | Command::SetMuted { .. }
            | Command::SetReceive { .. }
            | Command::SetRemote { .. }
            | Command::SetWanted { .. } => {}
        }
        if let Command::SetEvents { id, events, done } = command {
            self.outlets.redirect(id, events);
            // Whoever asked may have gone.
            done.send(()).ok();
            return;
        }
        if let Command::Report { to } = command {
            if to.send(self.report(now)).is_err() {
                tracing::debug!("nobody waits for the report any more");
            }
            return;
        }
        self.plane.handle_command(now, command, &mut self.tx);
        if let Some(id) = closed {
            self.outlets.close(id);
        }
        self.load.set_transports(self.outlets.len());
    }

    fn take_tcp(&mut self, now: Instant, input: TcpInput) {
        match input {
            TcpInput::Closed(id) => self.tx.streams().close(id),
            TcpInput::Frames(id, mut block) => {
                let Some(path) = self.tx.streams().path(id) else {
                    return;
                };
                let (plane, tx) = (&mut self.plane, &mut self.tx);
                tcp::each_frame(&mut block, |frame| {
                    plane.handle_datagram(now, &path, frame, tx);
                });
            }
            TcpInput::Opened(path, stream) => self.tx.streams().open(path, stream),
        }
    }

    fn tell_rooms(&mut self, now: Instant) {
        let mut requests = Vec::new();
        self.outlets.retry(now, |request| requests.push(request));
        for request in requests {
            self.grant(now, request);
        }
        while let Some((id, event)) = self.plane.poll_event() {
            if let Some(request) = self.outlets.push(now, id, event) {
                self.grant(now, request);
            }
        }
    }

    fn grant(&mut self, now: Instant, request: Request) {
        match request {
            Request::Close(id) => {
                let command = Command::CloseTransport { id };
                self.plane.handle_command(now, command, &mut self.tx);
                self.load.set_transports(self.outlets.len());
            }
            Request::Hold(id, hold) => self.plane.set_data_hold(id, HoldReason::Room, hold),
        }
    }

    fn tell_workers(&mut self) {
        self.links.retry();
        while let Some((to, message)) = self.plane.poll_link() {
            self.links.push(to, message);
        }
        self.links.ring();
    }

    fn report(&self, now: Instant) -> WorkerReport {
        let mut report = self.plane.report();
        let drops = self.tx.drops();
        report.load = self.load.permille(now) as f32 / 1000.0;
        report.dropped.extend([
            ("event_lost", self.outlets.dropped()),
            ("link_full", self.links.dropped()),
            ("send_blocked", drops.blocked),
            ("send_oversized", drops.oversized),
            ("send_refused", drops.refused),
            ("stream_slow", drops.stream),
        ]);
        report
    }
}
