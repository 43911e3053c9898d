//! Offers, answers and candidates: between a client's signalling and the SDP machines.

use super::connection::Connection;
use super::{Fault, Now, Room, Seat};
use crate::ids::{Mid, TrackSid, TransportId, UpTrackId};
use crate::negotiate::{self, Bound, Offer, Publish, Role, SdpFault};
use crate::plan::{Command, DownTrackPlan, Kind, ReceivePlan, RemoteCandidate, RemoteTransport};
use crate::protocol::livekit::{
    DisconnectReason, MediaSectionsRequirement, SessionDescription, SignalTarget, TrickleRequest,
    request_response, signal_response,
};
use std::collections::HashMap;
use std::time::Duration;

/// How long a connected client may take to answer our offer (livekit 1.13.5 `transport.go`).
const ANSWERED: Duration = Duration::from_secs(15);
/// For a client to set the offer that it joined with, after the answer to the join.
const HOLD: Duration = Duration::from_millis(30);
/// Answers that are held back; a client that makes more offers is ready for them.
const MAX_HELD: usize = 4;

impl Room {
    /// An offer of the client: publisher or single connection. After one that cannot be answered the two ends disagree
    /// about the connection for good, so the client joins anew; text that is no SDP at all is ignored (livekit 1.13.5
    /// `transport.go`).
    pub(super) fn handle_offer(&mut self, now: Now, seat: Seat, offer: &SessionDescription) {
        match self.try_offer(now, seat, offer) {
            Ok(()) | Err(SdpFault::Unparsable) => {}
            Err(_) => self.make_rejoin(now, seat, DisconnectReason::StateMismatch),
        }
    }

    /// The same, and nothing but a mark when it cannot be answered.
    pub(super) fn try_offer(
        &mut self,
        now: Now,
        seat: Seat,
        offer: &SessionDescription,
    ) -> Result<(), SdpFault> {
        self.take_offer(now, seat, offer).inspect_err(|fault| {
            tracing::debug!(room = self.info.name, ?seat, %fault, "offer refused");
            self.fault(Fault::OfferRefused);
        })
    }

    fn take_offer(
        &mut self,
        now: Now,
        seat: Seat,
        offer: &SessionDescription,
    ) -> Result<(), SdpFault> {
        let Some(participant) = self.participants.get(&seat) else {
            return Ok(());
        };
        if participant.main.is_none() {
            self.open_main(seat, Role::Publisher);
        }
        let Some(participant) = self.participants.get_mut(&seat) else {
            return Ok(());
        };
        let Some(mut connection) = participant.main.take() else {
            return Ok(());
        };
        let result = self.answer(now, seat, &mut connection, offer);
        if let Some(participant) = self.participants.get_mut(&seat) {
            participant.main = Some(connection);
        }
        let outcome = result?;
        self.after_answer(now, seat, outcome);
        Ok(())
    }

    /// Answers with the connection taken out of its participant, so that the room can be changed meanwhile.
    fn answer(
        &mut self,
        now: Now,
        seat: Seat,
        connection: &mut Connection,
        offer: &SessionDescription,
    ) -> Result<Outcome, SdpFault> {
        let parsed = connection.negotiator.parse_offer(&offer.sdp)?;
        let mut matched = self.match_sections(seat, connection, &parsed, &offer.mid_to_track_id);
        let gone: Vec<UpTrackId> = connection
            .published
            .iter()
            .filter(|(mid, up)| matched.get(*mid) != Some(*up))
            .map(|(_, up)| *up)
            .collect();
        let ended = self.ended_with(seat, connection, &gone, &mut matched);
        let publishes: HashMap<Mid, Publish> = matched
            .iter()
            .filter_map(|(mid, up)| Some((mid.clone(), self.publish_of(*up)?)))
            .collect();
        let msids: HashMap<Mid, Option<String>> = parsed
            .sections
            .iter()
            .map(|s| (s.mid.clone(), s.msid_track.clone()))
            .collect();
        let answer = connection
            .negotiator
            .answer(parsed, &publishes, &mut self.random)?;

        connection.published = matched;
        for sid in &ended {
            self.unpublish(now, seat, sid);
        }
        for up in gone {
            self.backup_ended(now, up);
        }
        let (announced, backups) = self.bind_publications(now, seat, &answer.receive, &msids);

        connection.negotiated = Some(now.at);
        connection.trickled &= !answer.restarted;
        let transport = connection.transport;
        self.set_remote(seat, connection, answer.remote);
        let worker = self.participants.get(&seat).map(|p| p.worker);
        if let Some(worker) = worker {
            for candidate in answer.candidates {
                self.command(
                    worker,
                    Command::AddRemoteCandidate {
                        id: transport,
                        candidate,
                    },
                );
            }
            self.command(
                worker,
                Command::SetReceive {
                    id: transport,
                    plan: answer.receive,
                },
            );
        }
        let description = SessionDescription {
            r#type: "answer".to_owned(),
            sdp: answer.sdp,
            id: offer.id,
            mid_to_track_id: answer.mid_to_track_id,
        };
        let message = signal_response::Message::Answer(description);
        self.send_unless_held(seat, connection, message);
        self.trickle(seat, connection);
        if connection.negotiator.pending() {
            connection.want_negotiation(now.at);
        }
        let (num_audios, num_videos) = answer.missing;
        if num_audios + num_videos > 0 {
            let requirement = MediaSectionsRequirement {
                num_audios,
                num_videos,
            };
            let message = signal_response::Message::MediaSectionsRequirement(requirement);
            self.send_unless_held(seat, connection, message);
        }
        Ok(Outcome {
            transport,
            bound: answer.bound,
            refused: answer.refused,
            unbound: answer.unbound,
            announced,
            backups,
        })
    }

    /// The answer to the offer of a join waits, for clients that are not ready for it at once.
    pub(super) fn hold_first_answer(&mut self, now: Now, seat: Seat) {
        if let Some(participant) = self.participants.get_mut(&seat)
            && participant.is_slow_to_offer()
            && let Some(main) = &mut participant.main
        {
            main.hold_until = Some(now.at + HOLD);
        }
    }

    fn send_unless_held(
        &mut self,
        seat: Seat,
        connection: &mut Connection,
        message: signal_response::Message,
    ) {
        connection.held.push(message);
        if connection.hold_until.is_none() || connection.held.len() > MAX_HELD {
            connection.hold_until = None;
            for message in std::mem::take(&mut connection.held) {
                self.send(seat, message);
            }
        }
    }

    /// What was held back is said.
    pub(super) fn release_answers(&mut self, now: Now, seat: Seat) {
        let participant = self.participants.get_mut(&seat);
        let Some(main) = participant.and_then(|participant| participant.main.as_mut()) else {
            return;
        };
        if main.hold_until.take_if(|at| *at <= now.at).is_some() {
            for message in std::mem::take(&mut main.held) {
                self.send(seat, message);
            }
        }
    }

    fn after_answer(&mut self, now: Now, seat: Seat, outcome: Outcome) {
        self.open_bound(now, seat, outcome.transport, outcome.bound);
        for down in outcome.unbound {
            self.unbind(seat, down);
        }
        for down in outcome.refused {
            self.codec_unsupported(now, seat, down);
        }
        for sid in outcome.announced {
            self.announce(now, seat, &sid);
        }
        for up in outcome.backups {
            self.backup_comes(now, up);
        }
    }

    /// Which track each sending section carries: by section, by the client's own ids, else by kind in order (Firefox and
    /// React Native rewrite track ids).
    fn match_sections(
        &mut self,
        seat: Seat,
        connection: &Connection,
        offer: &Offer,
        mid_to_cid: &HashMap<String, String>,
    ) -> HashMap<Mid, UpTrackId> {
        let mut matched = HashMap::new();
        let Some(participant) = self.participants.get_mut(&seat) else {
            return matched;
        };
        let mut open = Vec::new();
        for section in offer.sections.iter().filter(|section| section.sends) {
            let cids: Vec<&str> = mid_to_cid
                .get(section.mid.as_str())
                .map(String::as_str)
                .into_iter()
                .chain(section.msid_track.as_deref())
                .collect();
            let fresh = participant.pending.iter().position(|track| {
                track.kind == section.kind && cids.iter().any(|cid| track.has_cid(cid))
            });
            if let Some(index) = fresh {
                let track = participant.pending.remove(index);
                matched.insert(section.mid.clone(), track.primary.up);
                participant.tracks.insert(track.sid.clone(), track);
            } else if let Some(up) = participant.expected_backup(section.kind, Some(&cids)) {
                matched.insert(section.mid.clone(), up);
            } else if let Some(up) = connection
                .published
                .get(&section.mid)
                .filter(|up| self.ups.contains_key(up))
            {
                matched.insert(section.mid.clone(), *up);
            } else {
                open.push(section);
            }
        }
        for section in open {
            let mut pending = participant.pending.iter();
            if let Some(index) = pending.position(|t| t.kind == section.kind) {
                let track = participant.pending.remove(index);
                matched.insert(section.mid.clone(), track.primary.up);
                participant.tracks.insert(track.sid.clone(), track);
            } else if let Some(up) = participant.expected_backup(section.kind, None) {
                matched.insert(section.mid.clone(), up);
            }
        }
        matched
    }

    /// What the answer decided about each publication. Returns those that are announced now (audio, and video whose SSRC
    /// is known; the rest waits for its first packet), and the backup codecs that come.
    fn bind_publications(
        &mut self,
        now: Now,
        seat: Seat,
        receive: &ReceivePlan,
        msids: &HashMap<Mid, Option<String>>,
    ) -> (Vec<TrackSid>, Vec<UpTrackId>) {
        let (mut announced, mut backups) = (Vec::new(), Vec::new());
        let Some(participant) = self.participants.get_mut(&seat) else {
            return (announced, backups);
        };
        for section in &receive.tracks {
            let mut tracks = participant.tracks.values_mut();
            let Some(track) = tracks.find(|t| t.place_of(section.up).is_some()) else {
                continue;
            };
            let is_primary = track.primary.up == section.up;
            if track
                .codec_track_mut(section.up)
                .is_none_or(|c| c.is_live())
            {
                continue;
            }
            let msid = msids.get(&section.mid).and_then(Option::as_deref);
            track.bind(section, msid);
            if !is_primary {
                backups.push(section.up);
            } else if track.primary.rids.is_empty() {
                announced.push(track.sid.clone());
            } else {
                track.announce_by = Some(now.at + super::publish::ANNOUNCE_ANYWAY);
            }
        }
        (announced, backups)
    }

    /// An answer of the client to our offer (v0 subscriber connection).
    pub(super) fn handle_answer(&mut self, now: Now, seat: Seat, answer: &SessionDescription) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let Some(mut connection) = participant.subscriber.take() else {
            return;
        };
        let accepted = connection.negotiator.accept(&answer.sdp, answer.id);
        // An answer that comes late, to an offer that was given up, is nobody's fault.
        let failed = accepted
            .as_ref()
            .is_err_and(|fault| *fault != SdpFault::NotOurOffer);
        let result = match accepted {
            Ok(accepted) => {
                connection.answer_by = None;
                let transport = connection.transport;
                self.set_remote(seat, &mut connection, accepted.remote);
                if let Some(worker) = self.participants.get(&seat).map(|p| p.worker) {
                    for candidate in accepted.candidates {
                        self.command(
                            worker,
                            Command::AddRemoteCandidate {
                                id: transport,
                                candidate,
                            },
                        );
                    }
                }
                if connection.negotiator.pending() {
                    connection.want_negotiation(now.at);
                }
                Some((transport, accepted.bound, accepted.refused))
            }
            Err(fault) => {
                tracing::debug!(room = self.info.name, ?seat, %fault, "answer refused");
                self.fault(Fault::AnswerRefused);
                None
            }
        };
        if let Some(participant) = self.participants.get_mut(&seat) {
            participant.subscriber = Some(connection);
        }
        if let Some((transport, bound, refused)) = result {
            self.open_bound(now, seat, transport, bound);
            for down in refused {
                self.codec_unsupported(now, seat, down);
            }
        }
        if failed {
            self.make_rejoin(now, seat, DisconnectReason::StateMismatch);
        }
    }

    /// Without an answer no further offer can be made: a client that is connected and gives none joins anew.
    pub(super) fn expire_offer(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let Some(connection) = &mut participant.subscriber else {
            return;
        };
        if connection.answer_by.take_if(|at| *at <= now.at).is_some()
            && connection.connected
            && participant.session.is_some()
        {
            tracing::debug!(room = self.info.name, ?seat, "no answer to our offer");
            self.make_rejoin(now, seat, DisconnectReason::StateMismatch);
        }
    }

    /// Tells the worker the peer's side when it or our own is new, and what was trickled before it.
    fn set_remote(&mut self, seat: Seat, connection: &mut Connection, remote: RemoteTransport) {
        let Some(worker) = self.participants.get(&seat).map(|p| p.worker) else {
            return;
        };
        let id = connection.transport;
        let local = connection.take_new_local();
        if connection.remote.as_ref() != Some(&remote) || local.is_some() {
            connection.remote = Some(remote.clone());
            self.command(worker, Command::SetRemote { id, remote, local });
        }
        for candidate in std::mem::take(&mut connection.early_candidates) {
            self.command(worker, Command::AddRemoteCandidate { id, candidate });
        }
    }

    pub(super) fn handle_trickle(&mut self, seat: Seat, trickle: &TrickleRequest) {
        let candidate = match parse_init(&trickle.candidate_init) {
            Ok(Some(candidate)) => candidate,
            Ok(None) => return,
            Err(text) => {
                self.fault(Fault::TrickleUnreadable);
                let reason = request_response::Reason::UnclassifiedError;
                let echo = request_response::Request::Trickle(trickle.clone());
                return self.refuse(seat, 0, reason, text, Some(echo));
            }
        };
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let worker = participant.worker;
        let connection = if trickle.target() == SignalTarget::Subscriber && !participant.single_pc {
            participant.subscriber.as_mut()
        } else {
            participant.main.as_mut()
        };
        let Some(connection) = connection else { return };
        if connection.remote.is_none() {
            connection.keep_early(candidate);
            return;
        }
        let id = connection.transport;
        self.command(worker, Command::AddRemoteCandidate { id, candidate });
    }

    /// Begins to send the down tracks that a negotiation gave a section.
    fn open_bound(&mut self, now: Now, seat: Seat, transport: TransportId, bound: Vec<Bound>) {
        for bound in bound {
            self.take_codec(now, seat, transport, bound);
        }
        self.tell_publishers_of_bound(seat);
    }

    pub(super) fn down_plan(
        &mut self,
        seat: Seat,
        transport: TransportId,
        bound: Bound,
    ) -> Option<DownTrackPlan> {
        let owner = self.downs.get(&bound.down)?;
        let wanted = self.wanted(seat, &owner.track);
        let playout_delay = self.playout_delay();
        let participant = self.participants.get_mut(&seat)?;
        let needs_packets = participant.needs_packets();
        let own = participant.sif_trailer.clone();
        let sif_trailer = own.unwrap_or_else(|| self.sif_trailer.clone());
        let down = participant
            .subscriptions
            .get_mut(&owner.track)?
            .down
            .as_mut()?;
        if down.id != bound.down || down.closing {
            return None;
        }
        down.bound = true;
        down.opened = true;
        Some(DownTrackPlan {
            down: bound.down,
            up: owner.up,
            kind: down.kind,
            transport,
            mid: bound.mid,
            ssrc: down.ssrc,
            rtx_ssrc: down.rtx_ssrc,
            formats: bound.formats,
            extensions: bound.extensions,
            nack: bound.nack,
            cname: down.stream_id.clone(),
            wanted,
            playout_delay: playout_delay.filter(|_| down.kind == Kind::Video),
            sif_trailer,
            needs_packets,
        })
    }

    /// Our next offer (v0), or the nudge to re-offer (v1), when it is due.
    pub(super) fn negotiate_if_due(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let single = participant.single_pc;
        let Some(connection) = participant.downstream_mut() else {
            return;
        };
        if connection.negotiate_at.is_none_or(|at| at > now.at) {
            return;
        }
        // After an answer that is held back.
        connection.negotiate_at = connection.hold_until;
        if connection.hold_until.is_some() {
            return;
        }
        if single {
            connection.negotiated = Some(now.at);
            let (num_audios, num_videos) = connection.negotiator.missing();
            self.send(
                seat,
                signal_response::Message::MediaSectionsRequirement(MediaSectionsRequirement {
                    num_audios,
                    num_videos,
                }),
            );
        } else {
            self.offer(now, seat);
        }
    }

    /// Our offer on the subscriber connection; nothing while one is outstanding (its answer brings the next).
    pub(super) fn offer(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let Some(mut connection) = participant.subscriber.take() else {
            return;
        };
        let restart = connection.take_restart();
        if let Some(offer) = connection.negotiator.offer(restart) {
            connection.negotiated = Some(now.at);
            connection.answer_by = Some(now.at + ANSWERED);
            self.send(
                seat,
                signal_response::Message::Offer(SessionDescription {
                    r#type: "offer".to_owned(),
                    sdp: offer.sdp,
                    id: offer.id,
                    mid_to_track_id: offer.mid_to_track_id,
                }),
            );
            self.trickle(seat, &mut connection);
        }
        if let Some(participant) = self.participants.get_mut(&seat) {
            participant.subscriber = Some(connection);
        }
    }
}

struct Outcome {
    transport: TransportId,
    bound: Vec<Bound>,
    refused: Vec<crate::ids::DownTrackId>,
    unbound: Vec<crate::ids::DownTrackId>,
    announced: Vec<TrackSid>,
    backups: Vec<UpTrackId>,
}

/// The candidate of an `RTCIceCandidateInit` as JSON. One that cannot be used is no fault (end of candidates, mDNS);
/// what is no such object is one (livekit 1.13.5 `participant.go`, `HandleICETrickle`).
fn parse_init(json: &str) -> Result<Option<RemoteCandidate>, &'static str> {
    use serde_json::Value;
    let init = serde_json::from_str(json).map_err(|_| "candidateInit is no JSON")?;
    match init {
        Value::Null => Ok(None),
        Value::Object(init) => match init.get("candidate") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(negotiate::parse_candidate(text)),
            Some(_) => Err("the candidate is no text"),
        },
        _ => Err("candidateInit is no object"),
    }
}
