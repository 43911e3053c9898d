//! The peer's other addresses once a path is selected: which of them the agent goes on checking.
//!
//! The agent by itself checks each pair until it has answered or failed, some 18 s. Clients have addresses that never
//! answer (of containers, of tunnels), and each check of one wakes a worker. RFC 8445 §8.1.2 ends the checks that a
//! nomination makes needless; livekit-server ends all.

use super::{Ice, proto_of, protocol, remote_candidate};
use crate::media::io::Path;
use crate::plan::{CandidateKind, Proto, RemoteCandidate};
use is::{Candidate, Protocol};

impl Ice {
    /// Notes that the selected path is certain at both ends, and has the agent forget addresses that this makes needless.
    /// They are remembered here, for when the peer is heard from there or the path falls silent.
    pub(super) fn confirm(&mut self) {
        self.is_confirmed = true;
        if self.agent.ice_lite() {
            return;
        }
        let Some(selected) = self.path().map(|path| (path.remote, proto_of(path))) else {
            return;
        };
        let known: Vec<_> = self.agent.remote_candidates().collect();
        let best = known
            .iter()
            .filter_map(kept)
            .filter(|known| (known.address, known.proto) == selected)
            .map(|known| self.pair_priority(&known))
            .max();
        for candidate in known {
            let Some(aside) = kept(&candidate) else {
                continue;
            };
            // The agent compares with its own candidates first: a peer that names one of our addresses as its own must
            // not take that from us.
            let is_ours = self.bases.iter().any(|base| base.address == aside.address);
            let is_selected = (aside.address, aside.proto) == selected;
            if !is_ours
                && !is_selected
                && self.is_needless(&aside, best)
                && self.agent.invalidate_candidate(&candidate)
            {
                self.aside.push(aside);
            }
        }
    }

    /// Whether a selected path of this priority makes checks of an address needless: it has not answered yet, and the
    /// path is as good or, where the peer nominates, the peer has not tried it.
    fn is_needless(&self, candidate: &RemoteCandidate, best: Option<u64>) -> bool {
        let is_untried = || {
            let mut heard = self.heard.iter();
            !heard.any(|heard| heard.path.remote == candidate.address)
        };
        !self.agent.has_viable_remote_candidate(candidate.address)
            && (best.is_some_and(|best| self.pair_priority(candidate) <= best)
                || !self.agent.controlling() && is_untried())
    }

    /// Has the agent check an address again that the peer was heard from.
    pub(super) fn recall(&mut self, path: &Path) {
        let heard = (path.remote, proto_of(path));
        let found = self
            .aside
            .iter()
            .position(|candidate| (candidate.address, candidate.proto) == heard);
        if let Some(at) = found {
            // The agent keeps what it has forgotten.
            self.learned += 1;
            let candidate = self.aside.swap_remove(at);
            self.agent.add_remote_candidate(remote_candidate(candidate));
        }
    }

    /// Has the agent check all addresses of the peer again.
    pub(super) fn recall_all(&mut self) {
        self.learned += self.aside.len();
        for candidate in self.aside.drain(..) {
            self.agent.add_remote_candidate(remote_candidate(candidate));
        }
    }

    /// The best priority that a pair with this address has (RFC 8445 §6.1.2.3).
    fn pair_priority(&self, remote: &RemoteCandidate) -> u64 {
        let local = self
            .agent
            .local_candidates()
            .filter(|local| {
                local.kind() == is::CandidateKind::Host
                    && local.proto() == protocol(remote.proto)
                    && local.addr().is_ipv4() == remote.address.is_ipv4()
            })
            .map(|local| local.prio())
            .max()
            .unwrap_or(0);
        let (controlling, controlled) = if self.agent.controlling() {
            (local, remote.priority)
        } else {
            (remote.priority, local)
        };
        (u64::from(controlling.min(controlled)) << 32)
            + 2 * u64::from(controlling.max(controlled))
            + u64::from(controlling > controlled)
    }
}

/// What is remembered of an address that the agent forgets: to the agent it is learned anew.
fn kept(candidate: &Candidate) -> Option<RemoteCandidate> {
    let proto = match candidate.proto() {
        Protocol::Udp => Proto::Udp,
        Protocol::Tcp => Proto::Tcp,
        _ => return None,
    };
    Some(RemoteCandidate {
        proto,
        address: candidate.addr(),
        priority: candidate.prio(),
        kind: CandidateKind::PeerReflexive,
    })
}
