//! One peer connection of a participant as the room sees it: the transport's id, its SDP machine, what was sent.

use crate::ids::{Mid, TransportId, UpTrackId};
use crate::negotiate::Negotiator;
use crate::plan::{IceCredentials, RemoteCandidate, RemoteTransport};
use crate::protocol::livekit::{SignalTarget, signal_response};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The first negotiation after a quiet time waits this long for others to join in (livekit 1.13.5 `transport.go`).
const DEBOUNCE_QUIET: Duration = Duration::from_millis(10);
/// Negotiations are at least this far apart.
const DEBOUNCE_BUSY: Duration = Duration::from_millis(150);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) transport: TransportId,
    pub(super) target: SignalTarget,
    pub(super) negotiator: Negotiator,
    /// ICE and DTLS stand.
    pub(super) connected: bool,
    /// They do not stand any more.
    pub(super) is_lost: bool,
    /// Our credentials as the worker knows them.
    local: IceCredentials,
    /// What the worker was told of the peer.
    pub(super) remote: Option<RemoteTransport>,
    /// Trickled before the peer's SDP.
    pub(super) early_candidates: Vec<RemoteCandidate>,
    /// Our candidates have been trickled for the present credentials.
    pub(super) trickled: bool,
    /// Our credentials for an ICE restart that the next offer begins.
    pub(super) restart: Option<IceCredentials>,
    /// What is sent to everybody can be sent on it.
    pub(super) takes_data: bool,
    /// Codecs of publications by section.
    pub(super) published: HashMap<Mid, UpTrackId>,
    /// Answers wait until then in `held`.
    pub(super) hold_until: Option<Instant>,
    pub(super) held: Vec<signal_response::Message>,
    /// An offer of ours, or a nudge to re-offer, is due.
    pub(super) negotiate_at: Option<Instant>,
    pub(super) negotiated: Option<Instant>,
    /// Until when our offer is to be answered; `None` without one.
    pub(super) answer_by: Option<Instant>,
}

/// Trickled candidates kept before the peer's SDP is there; more are dropped.
const MAX_EARLY_CANDIDATES: usize = 64;

impl Connection {
    pub(super) fn new(
        transport: TransportId,
        target: SignalTarget,
        negotiator: Negotiator,
    ) -> Self {
        Self {
            transport,
            target,
            local: negotiator.local().clone(),
            negotiator,
            connected: false,
            is_lost: false,
            remote: None,
            early_candidates: Vec::new(),
            trickled: false,
            restart: None,
            takes_data: false,
            published: HashMap::new(),
            hold_until: None,
            held: Vec::new(),
            negotiate_at: None,
            negotiated: None,
            answer_by: None,
        }
    }

    /// ICE and DTLS stand, or stand again.
    pub(super) fn connect(&mut self) {
        self.connected = true;
        self.is_lost = false;
    }

    /// They have broken.
    pub(super) fn lose(&mut self) {
        self.connected = false;
        self.is_lost = true;
    }

    /// Asks for a negotiation from our side, debounced.
    pub(super) fn want_negotiation(&mut self, now: Instant) {
        if self.negotiate_at.is_some() {
            return;
        }
        let quiet = now + DEBOUNCE_QUIET;
        self.negotiate_at = Some(match self.negotiated {
            Some(last) => quiet.max(last + DEBOUNCE_BUSY),
            None => quiet,
        });
    }

    /// Our credentials when an ICE restart has changed them since the worker was told; then it has to be told now.
    pub(super) fn take_new_local(&mut self) -> Option<IceCredentials> {
        let local = self.negotiator.local();
        if *local == self.local {
            return None;
        }
        self.local = local.clone();
        Some(self.local.clone())
    }

    pub(super) fn keep_early(&mut self, candidate: RemoteCandidate) {
        if self.early_candidates.len() < MAX_EARLY_CANDIDATES {
            self.early_candidates.push(candidate);
        }
    }
}
