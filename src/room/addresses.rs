//! Where clients reach us: our candidates, told by trickle, and told again when the host's addresses change.
//!
//! A worker takes checks on any address of its sockets, so that a new candidate under the present credentials is all a
//! client needs to move; no ICE restart (RFC 8838 §4 lets candidates be added at any time).

use super::connection::Connection;
use super::participant::Preference;
use super::{Room, Seat};
use crate::ids::WorkerId;
use crate::negotiate;
use crate::plan::{LocalCandidate, Proto};
use crate::protocol::livekit::{TrickleRequest, signal_response};
use std::sync::Arc;

/// Which of a worker's candidates a client is told.
pub(super) fn allowed(
    candidates: Arc<[LocalCandidate]>,
    preference: Option<Preference>,
) -> Arc<[LocalCandidate]> {
    match preference {
        Some(Preference::Tcp) => candidates
            .iter()
            .copied()
            .filter(|candidate| candidate.proto == Proto::Tcp)
            .collect(),
        // A relay reaches us by UDP, and the client is told to use nothing else.
        Some(Preference::Tls) | None => candidates,
    }
}

impl Room {
    /// The addresses of a worker have changed: whoever is on it is told those that are new.
    pub fn set_candidates(&mut self, worker: WorkerId, candidates: &Arc<[LocalCandidate]>) {
        let seats: Vec<Seat> = self
            .participants
            .values()
            .filter(|participant| participant.worker == worker)
            .map(|participant| participant.seat)
            .collect();
        for seat in seats {
            let Some(participant) = self.participants.get_mut(&seat) else {
                continue;
            };
            let preference = self.preferences.get(&participant.identity).copied();
            let mine = allowed(Arc::clone(candidates), preference);
            let before = std::mem::replace(&mut participant.candidates, Arc::clone(&mine));
            let new: Vec<LocalCandidate> = mine
                .iter()
                .copied()
                .filter(|candidate| !before.contains(candidate))
                .collect();
            let mut told = Vec::new();
            for connection in participant
                .main
                .iter_mut()
                .chain(&mut participant.subscriber)
            {
                connection.negotiator.set_candidates(mine.to_vec());
                // Who has not been told any yet will be told all.
                if connection.trickled {
                    told.extend(trickled(connection, &new));
                }
            }
            for trickle in told {
                self.send(seat, signal_response::Message::Trickle(trickle));
            }
        }
    }

    /// Our candidates, once per set of credentials; the last one says that it is.
    pub(super) fn trickle(&mut self, seat: Seat, connection: &mut Connection) {
        if std::mem::replace(&mut connection.trickled, true) {
            return;
        }
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        for trickle in trickled(connection, &participant.candidates) {
            self.send(seat, signal_response::Message::Trickle(trickle));
        }
    }
}

fn trickled(connection: &Connection, candidates: &[LocalCandidate]) -> Vec<TrickleRequest> {
    let ufrag = &connection.negotiator.local().ufrag;
    let last = candidates.len().saturating_sub(1);
    candidates
        .iter()
        .enumerate()
        .map(|(index, candidate)| {
            let line = negotiate::candidate_line(candidate, ufrag);
            TrickleRequest {
                // The client hands this to the browser, which wants the fields in this form (livekit.md 14).
                candidate_init: format!(
                    r#"{{"candidate":"{line}","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":null}}"#
                ),
                target: connection.target as i32,
                r#final: index == last,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_told_our_udp_addresses_and_tcp_alone_is_tcp_alone() {
        let candidates: Arc<[LocalCandidate]> = [Proto::Udp, Proto::Tcp]
            .map(|proto| LocalCandidate {
                proto,
                address: ([192, 0, 2, 1], 7882).into(),
                preference: 1,
            })
            .into();
        let protos = |preference| -> Vec<Proto> {
            let told = allowed(Arc::clone(&candidates), preference);
            told.iter().map(|candidate| candidate.proto).collect()
        };
        assert_eq!(protos(Some(Preference::Tcp)), [Proto::Tcp]);
        assert_eq!(protos(Some(Preference::Tls)), [Proto::Udp, Proto::Tcp]);
        assert_eq!(protos(None), [Proto::Udp, Proto::Tcp]);
    }
}
