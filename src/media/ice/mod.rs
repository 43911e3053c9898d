//! ICE of one transport (RFC 8445): the crate `is` with what it leaves to its user.
//!
//! Driven by [`super::transport::Transport`]. Owns the checks, the path that was selected, and which [`Path`] each
//! address of the peer was heard on. It never touches DTLS or media.
//!
//! The agent knows addresses only, and drops what came to an address that is no local candidate. Here a local
//! candidate is a *base*: one per protocol and family to begin with, whatever the socket's real address, and one more
//! for each further local address or socket on which the *same* peer address is heard, so that an answer always leaves
//! the way the question came and a selected path stays the one that was checked.

mod bases;
mod others;

use super::io::{Path, Socket};
use crate::plan::{CandidateKind, IceCredentials, LocalCandidate, Proto, RemoteCandidate};
use aws_lc_rs::hmac;
use bases::add_local;
use is::stun::{StunMessage, StunPacket};
use is::{
    Candidate, IceAgent, IceAgentEvent, IceConnectionState, IceCreds, Protocol, Sha1HmacProvider,
};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// With the agent's back-off up to 3 s a dead pair is given up after about 18 s.
const MAX_RETRANSMITS: usize = 7;
/// Pause between two checks (Ta of RFC 8445 §14.2, which allows 5 ms).
const PACE: Duration = Duration::from_millis(20);
/// Longest USERNAME that the agent can write; it panics beyond.
const MAX_USERNAME: usize = 128;
/// Candidates of the peer that are taken.
const MAX_SIGNALLED: usize = 32;
/// Addresses of the peer of which the path is remembered.
const MAX_HEARD: usize = 64;
/// Addresses that the agent may learn by itself before it begins anew: it never forgets one.
const MAX_LEARNED: usize = 128;
/// A controlling peer that nominates another path has moved when the selected one was silent this long: its check of
/// the old path may have overtaken this one. The agent would keep the old pair until it has failed, some 18 s.
const MOVED: Duration = Duration::from_millis(700);
/// The same where we nominate, and only see that the peer checks elsewhere; checks are up to 3 s apart.
const LEFT: Duration = Duration::from_secs(4);
/// Where the selected path has answered and no other is to be tried soon, our own checks wait until no message has come
/// on it for this long. What the peer sends is authentic too, and browsers check every 2.5 s, so that both ends need not
/// (consent by the peer's requests, as a lite agent has it). Below [`LEFT`] by more than a round trip.
const REST: Duration = Duration::from_secs(3);
/// Other pairs are not to be tried soon when the agent's next check is this far away; those of open questions are closer.
const CALM: Duration = Duration::from_secs(1);
/// How a check begins (RFC 8489 §5).
const BINDING_REQUEST: [u8; 2] = [0, 1];
/// Messages that wait for a flush.
const MAX_OUT: usize = 64;

/// What became of a STUN message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Not for this transport: wrong credentials, unknown transaction, or not STUN.
    Nothing,
    /// Authentic, on another path than the selected one.
    Elsewhere,
    /// Authentic, on the selected path.
    Selected,
}

#[derive(Debug)]
pub(super) struct Ice {
    agent: IceAgent,
    bases: Vec<Base>,
    heard: Vec<Place>,
    signalled: Vec<RemoteCandidate>,
    selected: Option<Place>,
    /// When an authentic message came on the selected path, or it was selected.
    selected_heard: Option<Instant>,
    /// The selected path begins at an address that we have no longer.
    is_cut_off: bool,
    /// Another path was taken because the selected one had ended.
    has_moved: bool,
    /// The latest path that an authentic message came on.
    latest: Option<Path>,
    out: VecDeque<(Path, Vec<u8>)>,
    /// Peer addresses learned by the agent since it began.
    learned: usize,
    /// Our addresses as seen by the peer.
    mapped: Vec<SocketAddr>,
    deadline: Option<Instant>,
    restarting: bool,
    /// Our latest check on the selected path that has no answer, by its transaction.
    asked: Option<[u8; 12]>,
    /// The selected path is certain at both ends. Where the peer nominates it is so when selected, as a check of ours has
    /// made it valid; where we nominate, when another has told the peer.
    is_confirmed: bool,
    /// Addresses of the peer that need no checks while that path serves: the agent does not know them.
    aside: Vec<RemoteCandidate>,
    /// The agent's next check can wait for silence ([`REST`]).
    rests: bool,
}

/// A local candidate of the agent.
#[derive(Debug, Clone, Copy)]
struct Base {
    proto: Proto,
    /// Its name in the agent; need not be a real address.
    address: SocketAddr,
}

/// A base and the path from it to one address of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    base: usize,
    path: Path,
}

impl Ice {
    pub(super) fn new(
        local: &IceCredentials,
        controlling: bool,
        lite: bool,
        candidates: &[LocalCandidate],
    ) -> Self {
        let mut agent = IceAgent::with_hmac(creds(local), &HMAC);
        agent.set_max_stun_retransmits(MAX_RETRANSMITS);
        agent.set_timing_advance(PACE);
        agent.set_ice_lite(lite);
        // A lite agent is always controlled by a full peer (RFC 8445 §6.1.1).
        agent.set_controlling(controlling && !lite);
        let mut ice = Self {
            agent,
            bases: Vec::new(),
            heard: Vec::new(),
            signalled: Vec::new(),
            selected: None,
            selected_heard: None,
            is_cut_off: false,
            has_moved: false,
            latest: None,
            out: VecDeque::new(),
            learned: 0,
            mapped: Vec::new(),
            deadline: None,
            restarting: false,
            asked: None,
            is_confirmed: false,
            aside: Vec::new(),
            rests: false,
        };
        let mut candidates: Vec<_> = candidates.iter().collect();
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.preference));
        for candidate in candidates {
            if ice
                .bases_of(candidate.proto, candidate.address.is_ipv4())
                .next()
                .is_none()
            {
                ice.add_base(candidate.proto, candidate.address);
            }
        }
        ice
    }

    /// The path that media takes.
    pub(super) fn path(&self) -> Option<&Path> {
        self.selected.as_ref().map(|place| &place.path)
    }

    /// Where an answer goes before a path is selected.
    pub(super) fn reply_path(&self) -> Option<Path> {
        self.path().copied().or(self.latest)
    }

    /// `false` while no nominated pair is valid, except during a restart, when the path before it serves on.
    pub(super) fn is_valid(&self) -> bool {
        self.restarting || self.agent.state().is_connected()
    }

    pub(super) fn has_remote(&self) -> bool {
        self.agent.remote_credentials().is_some()
    }

    /// Takes the peer's credentials; others than before restart ICE. `false` when they cannot be used.
    pub(super) fn set_remote(
        &mut self,
        now: Instant,
        remote: &IceCredentials,
        local: Option<&IceCredentials>,
    ) -> bool {
        let local = local.map_or_else(|| self.agent.local_credentials().clone(), creds);
        if local.ufrag.len() + 1 + remote.ufrag.len() > MAX_USERNAME {
            return false;
        }
        let remote = creds(remote);
        match self.agent.remote_credentials() {
            Some(known) if *known == remote && local == *self.agent.local_credentials() => {
                return true;
            }
            Some(_) => {
                self.signalled.clear();
                self.restarting = self.selected.is_some();
                self.begin(local, remote);
            }
            None => {
                self.agent.set_local_credentials(local);
                self.agent.set_remote_credentials(remote);
            }
        }
        self.handle_timeout(now);
        true
    }

    /// Takes an address of the peer. TCP is refused: the peer connects to us, and is learned from its checks.
    pub(super) fn add_remote(&mut self, now: Instant, candidate: RemoteCandidate) {
        let usable = candidate.proto == Proto::Udp
            && candidate.address.port() != 0
            && !candidate.address.ip().is_unspecified()
            && !candidate.address.ip().is_multicast();
        if usable && self.signalled.len() < MAX_SIGNALLED && !self.signalled.contains(&candidate) {
            self.signalled.push(candidate);
            self.agent.add_remote_candidate(remote_candidate(candidate));
            self.handle_timeout(now);
        }
    }

    /// Paths and peer addresses that are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.heard.len(), self.agent.remote_candidates().count())
    }

    /// Keeps checking for as long as a browser does.
    #[cfg(test)]
    pub(super) fn be_patient(&mut self) {
        self.agent.set_max_stun_retransmits(40);
    }

    /// Plays the active side of ICE-TCP, which this server never is.
    #[cfg(test)]
    pub(super) fn dial_tcp(&mut self, now: Instant, path: &Path) {
        self.learn(path);
        self.agent
            .add_remote_candidate(remote_candidate(RemoteCandidate {
                proto: Proto::Tcp,
                address: path.remote,
                priority: 1_000_000_000,
                kind: CandidateKind::Host,
            }));
        self.handle_timeout(now);
    }

    /// Takes a STUN message.
    pub(super) fn handle(&mut self, now: Instant, path: &Path, datagram: &[u8]) -> Heard {
        let Ok(message) = StunMessage::parse(datagram) else {
            return Heard::Nothing;
        };
        if !self.has_remote() || !self.agent.accepts_message(&message) {
            return Heard::Nothing;
        }
        let elsewhere = self.selected.is_some() && self.path() != Some(path);
        if !elsewhere {
            self.selected_heard = Some(now);
            self.is_cut_off = false;
        } else if self.has_left(now, &message) {
            self.begin_anew(now);
        }
        let is_answer = message.is_successful_binding_response();
        if is_answer && self.asked.is_some() && self.asked == transaction(datagram) {
            self.asked = None;
            if !self.is_confirmed {
                self.confirm();
            }
        }
        let base = self.learn(path);
        self.recall(path);
        if let Some(mapped) = message.mapped_address()
            && !self.mapped.contains(&mapped)
        {
            self.mapped.push(mapped);
        }
        let proto = proto_of(path);
        let handled = self.agent.handle_packet(
            now,
            StunPacket {
                proto: protocol(proto),
                source: path.remote,
                destination: self.bases[base].address,
                message,
            },
        );
        if !handled {
            return Heard::Nothing;
        }
        self.latest = Some(*path);
        if elsewhere && is_answer && self.is_cut_off {
            self.is_cut_off = false;
            if self.agent.controlling() {
                self.begin_anew(now);
            } else {
                // The peer nominates when it has noticed, seconds later. What is sent until then reaches it this way.
                self.has_moved = true;
                self.selected = Some(Place { base, path: *path });
                self.selected_heard = Some(now);
            }
        }
        if elsewhere || !self.rests {
            // At once: the check that a request triggers, and the start of DTLS, must not wait for a timer.
            self.handle_timeout(now);
        } else {
            self.collect(now);
            self.postpone();
        }
        if self.learned + self.mapped.len() > MAX_LEARNED {
            self.begin_anew(now);
            self.handle_timeout(now);
        }
        if self.path() == Some(path) {
            Heard::Selected
        } else {
            Heard::Elsewhere
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.is_silent_for(now, LEFT) {
            self.recall_all();
        }
        let was_certain = self.is_confirmed;
        self.agent.handle_timeout(now);
        self.collect(now);
        if self.is_confirmed && !was_certain {
            // The agent sees only now that it is connected, and which pairs are left.
            self.agent.handle_timeout(now);
            self.collect(now);
        }
        self.rests = self.is_confirmed
            && self.asked.is_none()
            && !self.restarting
            && !self.is_cut_off
            && match self.agent.state() {
                // There is no other pair, or all others have failed.
                IceConnectionState::Completed => true,
                IceConnectionState::Connected => self
                    .agent
                    .poll_timeout()
                    .is_some_and(|due| due >= now + CALM),
                _ => false,
            };
        self.postpone();
    }

    /// Takes what the agent has decided, and what it wants sent.
    fn collect(&mut self, now: Instant) {
        while let Some(event) = self.agent.poll_event() {
            if let IceAgentEvent::NominatedSend {
                proto,
                source,
                destination,
            } = event
                && let Some(place) = self.place(proto, source, destination)
            {
                if self.selected.replace(place) != Some(place) {
                    self.selected_heard = Some(now);
                }
                self.asked = None;
                self.restarting = false;
                self.is_confirmed = false;
                if !self.agent.controlling() {
                    self.confirm();
                }
            }
        }
        while let Some(transmit) = self.agent.poll_transmit() {
            let place = self.place(transmit.proto, transmit.source, transmit.destination);
            if let Some(place) = place
                && self.out.len() < MAX_OUT
            {
                if self.selected == Some(place) && transmit.contents[..2] == BINDING_REQUEST {
                    self.asked = transaction(&transmit.contents);
                }
                self.out
                    .push_back((place.path, Vec::from(transmit.contents)));
            }
        }
    }

    /// Sets when the agent is called next.
    fn postpone(&mut self) {
        let rest = self
            .selected_heard
            .filter(|_| self.rests)
            .map(|heard| heard + REST);
        self.deadline = self.agent.poll_timeout().max(rest);
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// The next message to send.
    pub(super) fn poll(&mut self) -> Option<(Path, Vec<u8>)> {
        self.out.pop_front()
    }

    /// This host has these addresses now: a selected path from another one has ended.
    pub(super) fn handle_host_addresses(&mut self, now: Instant, host: &[IpAddr]) {
        self.is_cut_off = self.path().is_some_and(|path| {
            !host.is_empty()
                && !path.local.is_unspecified()
                && !host.contains(&path.local.to_canonical())
        });
        if self.is_cut_off {
            self.recall_all();
            self.handle_timeout(now);
        }
    }

    /// Whether the path was changed because the one before had ended; `true` once.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    /// Whether a check on another path than the selected one says that the peer has left that.
    fn has_left(&self, now: Instant, message: &StunMessage<'_>) -> bool {
        let patience = if self.agent.controlling() {
            LEFT
        } else if message.use_candidate() {
            MOVED
        } else {
            return false;
        };
        message.is_binding_request() && self.is_silent_for(now, patience)
    }

    fn is_silent_for(&self, now: Instant, patience: Duration) -> bool {
        self.selected_heard
            .is_some_and(|heard| now.saturating_duration_since(heard) >= patience)
    }

    /// Has the agent look for a path again, under the same credentials; the selected one serves until it has found one.
    fn begin_anew(&mut self, now: Instant) {
        if let Some(remote) = self.agent.remote_credentials().cloned() {
            let local = self.agent.local_credentials().clone();
            self.restarting = self.selected.is_some();
            self.has_moved = self.restarting;
            self.selected_heard = self.selected.map(|_| now);
            self.begin(local, remote);
        }
    }

    /// Clears what the agent knows of the peer, and bases that stood for addresses beyond the first of their kind; what
    /// is heard from now on brings them again. The selected path stays.
    fn begin(&mut self, local: IceCreds, remote: IceCreds) {
        let mut first: Vec<Base> = Vec::new();
        for base in std::mem::take(&mut self.bases) {
            let is_like = |kept: &Base| {
                kept.proto == base.proto && kept.address.is_ipv4() == base.address.is_ipv4()
            };
            if !first.iter().any(is_like) {
                first.push(base);
            }
        }
        self.bases = first;
        self.heard.clear();
        if let Some(path) = self.path().copied() {
            let base = self
                .bases_of(proto_of(&path), path.remote.is_ipv4())
                .next()
                .unwrap_or(0);
            let place = Place { base, path };
            self.heard.push(place);
            self.selected = Some(place);
        }
        self.agent.ice_restart(local, false);
        self.agent.set_remote_credentials(remote);
        for base in &self.bases {
            add_local(&mut self.agent, *base);
        }
        for candidate in &self.signalled {
            self.agent
                .add_remote_candidate(remote_candidate(*candidate));
        }
        self.learned = 0;
        self.mapped.clear();
        self.aside.clear();
        self.asked = None;
        self.is_confirmed = false;
    }
}

/// The id of a STUN message's transaction (RFC 8489 §5).
fn transaction(message: &[u8]) -> Option<[u8; 12]> {
    message.get(8..20)?.try_into().ok()
}

pub(super) fn proto_of(path: &Path) -> Proto {
    match path.socket {
        Socket::Tcp(_) => Proto::Tcp,
        Socket::Udp(_) => Proto::Udp,
    }
}

fn protocol(proto: Proto) -> Protocol {
    match proto {
        Proto::Tcp => Protocol::Tcp,
        Proto::Udp => Protocol::Udp,
    }
}

fn creds(credentials: &IceCredentials) -> IceCreds {
    IceCreds {
        ufrag: credentials.ufrag.clone(),
        pass: credentials.password.reveal().clone(),
    }
}

fn remote_candidate(candidate: RemoteCandidate) -> Candidate {
    let kind = match candidate.kind {
        CandidateKind::Host => is::CandidateKind::Host,
        CandidateKind::PeerReflexive => is::CandidateKind::PeerReflexive,
        CandidateKind::Relayed => is::CandidateKind::Relayed,
        CandidateKind::ServerReflexive => is::CandidateKind::ServerReflexive,
    };
    // The agent checks without freezing: foundations do not matter (RFC 8445 §6.1.2.6).
    Candidate::from_parts(
        String::from("1"),
        1,
        protocol(candidate.proto),
        candidate.priority,
        candidate.address,
        kind,
        None,
        None,
        None,
    )
}

/// HMAC-SHA1 for MESSAGE-INTEGRITY (RFC 8489 §14.5).
#[derive(Debug)]
struct AwsHmac;

static HMAC: AwsHmac = AwsHmac;

impl Sha1HmacProvider for AwsHmac {
    fn sha1_hmac(&self, key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
        let mut context = hmac::Context::with_key(&key);
        for payload in payloads {
            context.update(payload);
        }
        let mut tag = [0; 20];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}
