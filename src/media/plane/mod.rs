//! The forwarding plane of one media worker: transports, up tracks, down tracks and what lies between them.
//!
//! Owns all state of the worker; driven by the socket loop, which hands in datagrams, commands, link messages and time,
//! and afterwards drains [`Plane::poll_event`] and [`Plane::poll_link`]. It does no I/O, reads no clock, takes no lock.
//!
//! 1. A datagram is demultiplexed by its first byte (RFC 7983), its transport found by path (`receive`).
//! 2. A media packet is opened in place, read once, and kept in the cache of its feed (`receive`).
//! 3. At the end of the receive batch it goes to every down track, each with all packets of the batch in a row
//!    (`forward`), and to the workers that mirror the track.
//! 4. Then what transports, reports and timers want is done (`control`).

mod commands;
mod control;
mod forward;
mod peer;
mod quality;
mod receive;
mod stun;
#[cfg(test)]
mod tests;

use super::downtrack::DownTrack;
use super::feed::Feed;
use super::slab::Slab;
use super::stats::Counters;
use super::timers::{Timers, Wake};
use super::transport::HoldReason;
use super::uptrack::UpTrack;
use crate::ids::{DownTrackId, TransportId, UpTrackId, WorkerId};
use crate::media::io::{Path, Sink};
use crate::media::link::LinkMessage;
use crate::plan::{Command, Event, LocalCandidate, WorkerReport};
use crate::random::Random;
use peer::Peer;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use super::certificate::Certificate;

/// Transports whose control traffic is done in one turn; the others wait for the next, media goes first.
const SETTLED_PER_TURN: usize = 32;
/// Data messages of one transport that are read until the events are taken: then its room may have told to hold them.
const READ_PER_TURN: u32 = 64;
/// From 1900 to 1970, s.
const NTP_UNIX: u64 = 2_208_988_800;

/// What a plane needs to begin.
#[derive(Debug, Clone)]
pub struct PlaneConfig {
    /// Which worker it is.
    pub worker: WorkerId,
    /// The DTLS certificate of the process.
    pub certificate: Arc<Certificate>,
    /// Where the worker's sockets can be reached.
    pub candidates: Vec<LocalCandidate>,
    /// One moment on both clocks, for NTP and abs-send-time.
    pub epoch: (Instant, SystemTime),
}

/// The forwarding plane of one worker.
#[derive(Debug)]
pub struct Plane {
    config: PlaneConfig,
    random: Random,
    peers: Slab<Peer>,
    ups: Slab<UpTrack>,
    downs: Slab<DownTrack>,
    feeds: Slab<Feed>,
    peer_of: HashMap<TransportId, u32>,
    up_of: HashMap<UpTrackId, u32>,
    down_of: HashMap<DownTrackId, u32>,
    feed_of: HashMap<UpTrackId, u32>,
    by_ufrag: HashMap<Box<str>, u32>,
    by_path: HashMap<Path, u32>,
    /// The path of the last datagram and its transport: packets come in bursts.
    last_path: Option<(Path, u32)>,
    /// Feeds that have packets to forward.
    pending: Vec<u32>,
    /// Down tracks that want something besides packets; scratch of one batch.
    to_serve: Vec<u32>,
    /// Numbers of one NACK; scratch.
    lost: Vec<u16>,
    /// Transports whose events, output and timer are to be looked at.
    touched: VecDeque<u32>,
    timers: Timers,
    /// Transports whose messages were read since the events were all taken; some read all they may.
    readers: Vec<u32>,
    events: VecDeque<(TransportId, Event)>,
    links: VecDeque<(WorkerId, LinkMessage)>,
    counters: Counters,
    now: Instant,
}

impl Plane {
    /// An empty plane.
    pub fn new(config: PlaneConfig, random: Random) -> Self {
        Self {
            now: config.epoch.0,
            config,
            random,
            peers: Slab::default(),
            ups: Slab::default(),
            downs: Slab::default(),
            feeds: Slab::default(),
            peer_of: HashMap::new(),
            up_of: HashMap::new(),
            down_of: HashMap::new(),
            feed_of: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_path: HashMap::new(),
            last_path: None,
            pending: Vec::new(),
            to_serve: Vec::new(),
            lost: Vec::new(),
            touched: VecDeque::new(),
            timers: Timers::default(),
            readers: Vec::new(),
            events: VecDeque::new(),
            links: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Does what a room asks. What follows from it happens in [`Self::finish_batch`]: messages come in floods, and what
    /// a transport does about one of them it does for all. The `events` sender of [`Command::OpenTransport`] is the
    /// driver's business.
    pub fn handle_command(&mut self, now: Instant, command: Command, sink: &mut impl Sink) {
        self.now = now;
        self.apply(now, command, sink);
    }

    /// Takes a datagram; it is decrypted in place. What follows from it happens in [`Self::finish_batch`].
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        path: &Path,
        datagram: &mut [u8],
        sink: &mut impl Sink,
    ) {
        self.now = now;
        self.receive(now, path, datagram, sink);
    }

    /// Ends a batch of datagrams or commands: forwards what came, and flushes the transports that were touched.
    pub fn finish_batch(&mut self, now: Instant, sink: &mut impl Sink) {
        self.now = now;
        self.forward_pending(now, sink);
        self.settle(now, sink);
    }

    /// Takes what another worker sent.
    pub fn handle_link(&mut self, now: Instant, message: LinkMessage, sink: &mut impl Sink) {
        self.now = now;
        match message {
            LinkMessage::Clock { up, spatial, map } => {
                if let Some(feed) = self.feed_mut(up) {
                    feed.set_clock(spatial, map);
                }
            }
            LinkMessage::KeyFrame { up, spatial } => self.request_key_frame(up, spatial),
            LinkMessage::Muted { up, muted } => self.set_feed_muted(now, up, muted, sink),
            LinkMessage::Packets(batch) => {
                if let Some(&place) = self.feed_of.get(&batch.up)
                    && let Some(feed) = self.feeds.get_mut(place)
                {
                    feed.insert_batch(now, &batch);
                    self.forward(now, place, sink);
                }
            }
        }
        self.settle(now, sink);
    }

    /// The next message for another worker.
    pub fn poll_link(&mut self) -> Option<(WorkerId, LinkMessage)> {
        self.links.pop_front()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut impl Sink) {
        self.now = now;
        while let Some((at, wake)) = self.timers.pop(now) {
            match wake {
                Wake::Down(place) => {
                    if self
                        .downs
                        .get_mut(place)
                        .is_some_and(|down| down.armed.fired(at))
                    {
                        self.serve(now, place, sink);
                    }
                }
                Wake::Transport(place) => {
                    if let Some(peer) = self.peers.get_mut(place)
                        && peer.armed.fired(at)
                    {
                        peer.transport.handle_timeout(now);
                        self.touch(place);
                    }
                }
            }
        }
        self.forward_pending(now, sink);
        self.settle(now, sink);
    }

    /// When [`Self::handle_timeout`] wants to be called; `None`: nothing waits.
    pub fn next_timeout(&self) -> Option<Instant> {
        if !self.touched.is_empty() || !self.pending.is_empty() {
            return Some(self.now);
        }
        self.timers.next()
    }

    /// The next event, with the transport whose room it is for. Not more than [`READ_PER_TURN`] messages of each until
    /// there is none: [`Self::set_data_hold`] has to come in time.
    pub fn poll_event(&mut self) -> Option<(TransportId, Event)> {
        let event = self.events.pop_front();
        if event.is_none() {
            for place in std::mem::take(&mut self.readers) {
                if let Some(peer) = self.peers.get_mut(place)
                    && std::mem::take(&mut peer.read) >= READ_PER_TURN
                {
                    self.touch(place);
                }
            }
        }
        event
    }

    /// Holds incoming data messages of a transport back, or lets them come again when no other reason is left.
    pub fn set_data_hold(&mut self, transport: TransportId, reason: HoldReason, hold: bool) {
        if let Some(&place) = self.peer_of.get(&transport)
            && let Some(peer) = self.peers.get_mut(place)
        {
            peer.transport.set_data_hold(reason, hold);
            self.touch(place);
        }
    }

    /// The addresses have changed: transports opened from now on tell these, and those whose path begins at one that
    /// `host` has not look for another.
    pub fn set_candidates(
        &mut self,
        now: Instant,
        candidates: Vec<LocalCandidate>,
        host: &[IpAddr],
    ) {
        self.now = now;
        self.config.candidates = candidates;
        let places: Vec<_> = self.peer_of.values().copied().collect();
        for place in places {
            if let Some(peer) = self.peers.get_mut(place) {
                peer.transport.handle_host_addresses(now, host);
                self.touch(place);
            }
        }
    }

    /// The counters.
    pub fn report(&self) -> WorkerReport {
        WorkerReport {
            transports: self.peers.len() as u32,
            up_tracks: self.feeds.len() as u32,
            down_tracks: self.downs.len() as u32,
            ..self.counters.report()
        }
    }

    /// Bytes that caches and histories take.
    pub fn memory(&self) -> usize {
        let feeds: usize = self.feeds.iter().map(|(_, feed)| feed.memory()).sum();
        let downs: usize = self
            .downs
            .iter()
            .map(|(_, down)| size_of::<DownTrack>() + down.history.memory())
            .sum();
        feeds + downs
    }

    /// Since 1900, 32 bits of seconds and 32 of fraction.
    fn ntp(&self, now: Instant) -> u64 {
        let wall = self.wall(now);
        let fraction = (u64::from(wall.subsec_nanos()) << 32) / 1_000_000_000;
        (wall.as_secs().wrapping_add(NTP_UNIX) << 32) | fraction
    }

    /// abs-send-time: 6 bits of seconds, 18 of fraction.
    fn send_time(&self, now: Instant) -> u32 {
        ((self.ntp(now) >> 14) & 0xff_ffff) as u32
    }

    fn wall(&self, now: Instant) -> Duration {
        let (instant, system) = self.config.epoch;
        let start = system.duration_since(UNIX_EPOCH).unwrap_or_default();
        start + now.saturating_duration_since(instant)
    }

    fn feed_mut(&mut self, up: UpTrackId) -> Option<&mut Feed> {
        self.feeds.get_mut(*self.feed_of.get(&up)?)
    }

    fn touch(&mut self, place: u32) {
        if let Some(peer) = self.peers.get_mut(place)
            && !peer.is_touched
        {
            peer.is_touched = true;
            self.touched.push_back(place);
        }
    }

    fn tell(&mut self, transport: u32, event: Event) {
        if let Some(peer) = self.peers.get(transport) {
            self.events.push_back((peer.id, event));
        }
    }
}
