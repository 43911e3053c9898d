//! The forwarding plane of one media worker: transports, up tracks, down tracks and what lies between them.
//!
//! Owns all state of the worker; driven by the socket loop, which hands in datagrams, commands, link messages and time,
//! and afterwards drains [`Plane::poll_event`] and [`Plane::poll_link`]. It does no I/O, reads no clock, takes no lock.
//!
//! A datagram: demultiplexed by its first byte (RFC 7983), its transport found by path; a media packet is opened in
//! place, read once, and kept in the cache of its feed; at the end of the receive batch it goes to every down track,
//! each with all packets of the batch in a row.

use crate::ids::{TransportId, WorkerId};
use crate::media::io::{Path, Sink};
use crate::media::link::LinkMessage;
use crate::plan::{Command, Event, LocalCandidate, WorkerReport};
use crate::random::Random;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

pub use super::certificate::Certificate;

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
    events: VecDeque<(TransportId, Event)>,
    links: VecDeque<(WorkerId, LinkMessage)>,
}

impl Plane {
    /// An empty plane.
    pub fn new(config: PlaneConfig, random: Random) -> Self {
        Self {
            config,
            random,
            events: VecDeque::new(),
            links: VecDeque::new(),
        }
    }

    /// Does what a room asks. The `events` sender of [`Command::OpenTransport`] is the driver's business.
    pub fn handle_command(&mut self, _now: Instant, _command: Command, _sink: &mut impl Sink) {}

    /// Takes a datagram; it is decrypted in place.
    pub fn handle_datagram(
        &mut self,
        _now: Instant,
        _path: &Path,
        _datagram: &mut [u8],
        _sink: &mut impl Sink,
    ) {
    }

    /// Ends a receive batch: forwards what came, and flushes the transports that were touched.
    pub fn finish_batch(&mut self, _now: Instant, _sink: &mut impl Sink) {}

    /// Takes what another worker sent.
    pub fn handle_link(&mut self, _now: Instant, _message: LinkMessage, _sink: &mut impl Sink) {}

    /// The next message for another worker.
    pub fn poll_link(&mut self) -> Option<(WorkerId, LinkMessage)> {
        self.links.pop_front()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, _now: Instant, _sink: &mut impl Sink) {}

    /// When [`Self::handle_timeout`] wants to be called; `None`: nothing waits.
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// The next event, with the transport whose room it is for.
    pub fn poll_event(&mut self) -> Option<(TransportId, Event)> {
        self.events.pop_front()
    }

    /// Holds incoming data messages of a transport back in SCTP, or lets them come again.
    pub fn set_data_hold(&mut self, _transport: TransportId, _hold: bool) {}

    /// The worker's addresses have changed.
    pub fn set_candidates(&mut self, candidates: Vec<LocalCandidate>) {
        self.config.candidates = candidates;
    }

    /// The counters.
    pub fn report(&self) -> WorkerReport {
        WorkerReport::default()
    }
}
