//! A participant is moved to another room with its WebSocket and its transports (`MoveParticipant`, `room_moved`).
//!
//! The old room forgets it as if it had left, but for its transports; the new one takes it in as if it had joined, but
//! with its publications. The client keeps its peer connections, and its tracks their SIDs: livekit-client and the Rust
//! core publish nothing anew. Between the rooms the owner has turned the ways of events and requests around, so that
//! none is lost.
//!
//! Clients that do not know `room_moved` (before protocol 15) get a token for the other room and are told to reconnect.

use super::admin::{Answer, CallError};
use super::dynacast::Dynacast;
use super::participant::Participant;
use super::{DownOwner, Now, Room, Seat, SessionId};
use crate::ids::{DownTrackId, TrackSid, TransportId, WorkerId};
use crate::plan::Command;
use crate::protocol::livekit::{
    DisconnectReason, ParticipantInfo, RoomMovedResponse, participant_info, signal_response,
};

/// The first protocol of which every client knows `room_moved` (livekit 1.13.5 `SupportsMoving`).
const KNOWS_MOVES: u32 = 16;

/// Who is to be moved, and what has to be turned around for it.
#[derive(Debug, Clone)]
pub struct Traveller {
    /// Its WebSocket.
    pub session: SessionId,
    /// Where its transports are.
    pub worker: WorkerId,
    /// Its transports.
    pub transports: Vec<TransportId>,
    /// `false`: its client has to reconnect, and was told so.
    pub is_moved: bool,
}

/// A participant between two rooms.
#[derive(Debug)]
pub struct Emigrant {
    participant: Box<Participant>,
    /// Down tracks of the old room that send their last frames.
    closing: Vec<(DownTrackId, DownOwner)>,
}

impl Emigrant {
    /// Its WebSocket, if it has not lost it on the way.
    pub fn session(&self) -> Option<SessionId> {
        self.participant.session
    }

    /// Where its transports are.
    pub fn worker(&self) -> WorkerId {
        self.participant.worker
    }

    /// Its transports.
    pub fn transports(&self) -> Vec<TransportId> {
        let connections = self.participant.connections();
        connections.map(|connection| connection.transport).collect()
    }
}

impl Room {
    /// Begins a move: who it is. A client that cannot be moved is sent away, to the other room.
    pub fn begin_move(
        &mut self,
        now: Now,
        identity: &str,
        destination: &str,
    ) -> Result<Traveller, CallError> {
        let seat = self.resident(identity)?;
        let participant = self.participants.get_mut(&seat);
        let participant = participant.ok_or(CallError::ParticipantNotFound)?;
        let session = participant.session.ok_or(CallError::Away)?;
        let traveller = Traveller {
            session,
            worker: participant.worker,
            transports: participant.connections().map(|c| c.transport).collect(),
            is_moved: participant.protocol >= KNOWS_MOVES,
        };
        if !traveller.is_moved {
            set_room(participant, destination);
            self.refresh_token(now, seat);
            self.make_rejoin(now, seat, DisconnectReason::Migration);
        }
        Ok(traveller)
    }

    /// Lets a participant go to another room.
    pub fn emigrate(
        &mut self,
        now: Now,
        identity: &str,
        destination: &str,
    ) -> Result<Emigrant, CallError> {
        let seat = self.resident(identity)?;
        self.silence_all_for(seat);
        let closing = self.close_downs_to(now, seat);
        let participant = self.participants.remove(&seat);
        let mut participant = participant.ok_or(CallError::ParticipantNotFound)?;
        let state = participant.state;
        self.forget(now, &mut participant, DisconnectReason::Migration);
        participant.state = state;
        participant.disconnect_reason = DisconnectReason::UnknownReason;
        participant.data_tracks.unsubscribe();
        participant
            .sif_trailer
            .get_or_insert_with(|| self.sif_trailer.clone());
        set_room(&mut participant, destination);
        Ok(Emigrant {
            participant,
            closing,
        })
    }

    /// Somebody is about to be moved here: the room waits, and says whether there is room.
    pub(super) fn expect(&mut self, now: Now, is_dependent: bool) -> Result<Answer, CallError> {
        let max = self.info.max_participants;
        let people = self.participants.values().filter(|p| !p.is_dependent());
        if max > 0 && !is_dependent && people.count() >= max as usize {
            return Err(CallError::RoomFull(max));
        }
        self.await_anew(now);
        Ok(Answer::Done)
    }

    /// Takes in somebody who comes from another room.
    pub fn immigrate(&mut self, now: Now, emigrant: Emigrant) {
        let Emigrant {
            mut participant,
            closing,
        } = emigrant;
        let is_hidden = participant.permission.hidden;
        self.make_way(now, &participant.identity, is_hidden);
        self.next_seat += 1;
        let seat = Seat(self.next_seat);
        participant.seat = seat;
        self.register(seat, &mut participant);
        for (id, owner) in closing {
            let subscriber = seat;
            self.downs.insert(
                id,
                DownOwner {
                    subscriber,
                    ..owner
                },
            );
        }
        let is_active = participant.is_active();
        self.participants.insert(seat, participant);
        if !self.is_deserted() {
            self.ends_at = None;
        }
        self.say_moved(now, seat);
        self.changed_now(seat);
        if is_active {
            self.qualities.start(now.at, self.update.born());
            self.hook_joined(now, seat);
        }
        self.publish_again(now, seat);
        self.subscribe_to_all(now, seat);
        self.exchange_data_tracks(seat);
        self.counts_changed(now);
    }

    /// Puts everything that is found by its number into the books.
    fn register(&mut self, seat: Seat, participant: &mut Participant) {
        self.identities.insert(participant.identity.clone(), seat);
        if let Some(session) = participant.session {
            self.sessions.insert(session, seat);
        }
        for connection in participant.connections() {
            self.transports.insert(connection.transport, seat);
        }
        for track in participant.tracks.values_mut() {
            for codec in track.codecs_mut() {
                codec.dynacast = Dynacast::default();
            }
        }
        for track in participant.tracks.values().chain(&participant.pending) {
            for codec in track.codecs() {
                self.ups.insert(codec.up, (seat, track.sid.clone()));
            }
        }
    }

    fn say_moved(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participant(seat) else {
            return;
        };
        let others = self.participants.values().filter(|other| {
            other.seat != seat
                && !other.permission.hidden
                && other.state != participant_info::State::Disconnected
        });
        let other_participants: Vec<ParticipantInfo> = others.map(Participant::info).collect();
        let message = RoomMovedResponse {
            room: Some(self.snapshot()),
            token: self.token_of(now, participant).unwrap_or_default(),
            participant: Some(participant.info()),
            other_participants,
        };
        self.send(seat, signal_response::Message::RoomMoved(message));
    }

    /// Everybody here may have the tracks that a newcomer brought along.
    fn publish_again(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let mut sids: Vec<TrackSid> = Vec::new();
        for track in participant.tracks.values_mut().filter(|t| t.announced) {
            for codec in track.codecs_mut().filter(|codec| codec.is_live()) {
                codec.dynacast.start(now.at);
            }
            sids.push(track.sid.clone());
        }
        for sid in &sids {
            self.tracks.insert(sid.clone(), seat);
        }
        let others = self.participants.values().filter(|p| p.seat != seat);
        let mut wishes: Vec<(Seat, &TrackSid)> = Vec::new();
        for other in others {
            let wanted = sids.iter().filter(|sid| other.wants(sid));
            wishes.extend(wanted.map(|sid| (other.seat, sid)));
        }
        for (other, sid) in wishes {
            self.subscribe(now, other, sid);
        }
    }

    /// Ends what a participant gets in this room. Returns the down tracks whose last frames are still on their way:
    /// their sections are free only after these.
    fn close_downs_to(&mut self, now: Now, seat: Seat) -> Vec<(DownTrackId, DownOwner)> {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return Vec::new();
        };
        let worker = participant.worker;
        let mut downs: Vec<(DownTrackId, bool, bool)> = Vec::new();
        for subscription in participant.subscriptions.values_mut() {
            subscription.desired = false;
            subscription.ended = true;
            if let Some(down) = &mut subscription.down {
                let was_closing = std::mem::replace(&mut down.closing, true);
                downs.push((down.id, down.opened, was_closing));
            }
        }
        participant.subscriptions.retain(|_, s| s.down.is_some());
        let mut closing = Vec::new();
        for (id, opened, was_closing) in downs {
            let is_mirrored = self.mirrors.values().any(|m| m.downs.contains(&id));
            if opened && !was_closing {
                self.command(worker, Command::CloseDown { down: id });
            }
            if opened && !is_mirrored {
                closing.extend(self.forget_down(now, id).map(|owner| (id, owner)));
            } else {
                // It has no section, or its mirror is in this room's books.
                self.down_closed(now, id);
            }
        }
        closing
    }
}

fn set_room(participant: &mut Participant, room: &str) {
    let grant = participant.claims.video.get_or_insert_default();
    room.clone_into(&mut grant.room);
}
