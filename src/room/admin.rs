//! What an application's server does to a room and those in it: the calls of RoomService (livekit.md 5.2).
//!
//! Every call is answered once, by [`Output::Answer`]; all but PerformRpc at once. Who may call is judged before, in
//! `http`.

use super::participant::{Participant, Permission};
use super::{Now, Output, Room, Seat};
use crate::config::Limits;
use crate::ids::Identity;
use crate::plan::Channel;
use crate::protocol::livekit::{
    self as proto, CreateAgentDispatchRequest, CreateRoomRequest, DataPacket, DeleteRoomRequest,
    DisconnectReason, ForwardParticipantRequest, ListParticipantsRequest, MoveParticipantRequest,
    MuteRoomTrackRequest, MuteTrackRequest, ParticipantInfo, PerformRpcRequest, RoomConfiguration,
    RoomParticipantIdentity, SendDataRequest, TrackInfo, UpdateParticipantRequest,
    UpdateRoomMetadataRequest, UpdateSubscription, UpdateSubscriptionsRequest, UserPacket,
    data_packet, signal_response,
};
use std::collections::{HashMap, VecDeque};

/// Bytes of the value by which an SDK marks a message that it may send again.
const NONCE: usize = 16;
/// Nonces remembered; an SDK repeats a request within seconds.
const MAX_NONCES: usize = 256;

/// One call, unique in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

/// A call that concerns one room.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Makes a room; of a room that is there, nothing changes.
    CreateRoom(Box<CreateRoomRequest>),
    /// Ends a room.
    DeleteRoom(DeleteRoomRequest),
    /// Makes the room if need be, for a participant that is to be moved or forwarded there.
    Expect {
        /// Its name.
        room: String,
        /// An agent or a recorder.
        is_dependent: bool,
    },
    /// Forwards a participant to another room; of two rooms, so no room gets it.
    ForwardParticipant(ForwardParticipantRequest),
    /// One participant.
    GetParticipant(RoomParticipantIdentity),
    /// All participants, hidden ones too.
    ListParticipants(ListParticipantsRequest),
    /// Moves a participant to another room; of two rooms, so no room gets it.
    MoveParticipant(MoveParticipantRequest),
    /// Mutes or unmutes a track.
    MutePublishedTrack(MuteRoomTrackRequest),
    /// Calls a method that a participant has registered.
    PerformRpc(PerformRpcRequest),
    /// Puts a participant out.
    RemoveParticipant(RoomParticipantIdentity),
    /// Sends data to some or all.
    SendData(SendDataRequest),
    /// Changes a participant's name, metadata, attributes, permission.
    UpdateParticipant(UpdateParticipantRequest),
    /// Changes the room's metadata.
    UpdateRoomMetadata(UpdateRoomMetadataRequest),
    /// Subscribes a participant to tracks, or unsubscribes it.
    UpdateSubscriptions(UpdateSubscriptionsRequest),
}

/// What a call returns.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Nothing but that it is done.
    Done,
    /// A participant as it is now.
    Participant(ParticipantInfo),
    /// Everybody, in the order of their coming.
    Participants(Vec<ParticipantInfo>),
    /// What the called method returned.
    Payload(String),
    /// The room as it is now.
    Room(proto::Room),
    /// The track as it is now; `None`: there is no such track.
    Track(Option<TrackInfo>),
}

/// Why a call failed; texts are livekit's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Somebody of that identity is in the other room.
    #[error("{0} is in the destination room already")]
    AlreadyThere(String),
    /// It has lost its WebSocket and may come back.
    #[error("participant is reconnecting")]
    Away,
    /// It is forwarded here, and this is decided where it is.
    #[error("participant is forwarded from another room: ask for this in that one")]
    Guest,
    /// An argument is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is no dispatch of that id.
    #[error("agent dispatch does not exist")]
    DispatchNotFound,
    /// Nobody of that identity is in the room, or there is no room.
    #[error("participant does not exist")]
    ParticipantNotFound,
    /// `room.enable_remote_unmute` is off.
    #[error("remote unmute not enabled")]
    RemoteUnmute,
    /// So many are there already.
    #[error("room is full: {0} of {0} participants are there")]
    RoomFull(u32),
    /// There is no room of that name.
    #[error("requested room does not exist")]
    RoomNotFound,
    /// A method call to a participant failed: the codes of LiveKit's RPC, 1400 to 1505, or the method's own.
    #[error("RpcError {code}: {message}{}{data}", if data.is_empty() { "" } else { ": " })]
    Rpc {
        /// 1400 to 1505, or the application's.
        code: u32,
        /// What it means.
        message: String,
        /// What the method adds.
        data: String,
    },
    /// The server is stopping.
    #[error("server is shutting down")]
    Stopping,
    /// So many at once are not served.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// What this server has not.
    #[error("{0}")]
    Unimplemented(&'static str),
}

impl Call {
    /// The room that it concerns.
    pub fn room(&self) -> &str {
        match self {
            Self::CreateRoom(request) => &request.name,
            Self::DeleteRoom(request) => &request.room,
            Self::Expect { room, .. } => room,
            Self::ForwardParticipant(request) => &request.room,
            Self::GetParticipant(request) | Self::RemoveParticipant(request) => &request.room,
            Self::ListParticipants(request) => &request.room,
            Self::MoveParticipant(request) => &request.room,
            Self::MutePublishedTrack(request) => &request.room,
            Self::PerformRpc(request) => &request.room,
            Self::SendData(request) => &request.room,
            Self::UpdateParticipant(request) => &request.room,
            Self::UpdateRoomMetadata(request) => &request.room,
            Self::UpdateSubscriptions(request) => &request.room,
        }
    }

    /// Whether its arguments are what they may be, be the room there or not (livekit 1.13.5 looks at them first).
    pub fn check(&self, limits: &Limits) -> Result<(), CallError> {
        match self {
            Self::CreateRoom(request) => configuration_of(limits, request).map(drop),
            Self::PerformRpc(request) if request.destination_identity.is_empty() => {
                let text = "destination identity is required";
                Err(CallError::Invalid(text.to_owned()))
            }
            Self::UpdateParticipant(request) => {
                let max = limits.max_participant_name_length;
                if max > 0 && request.name.chars().nth(max).is_some() {
                    let text = format!("participant name length exceeds limits: max length {max}");
                    return Err(CallError::Invalid(text));
                }
                check_metadata(limits, &request.metadata)?;
                check_attributes(limits, &request.attributes)
            }
            Self::UpdateRoomMetadata(request) => check_metadata(limits, &request.metadata),
            _ => Ok(()),
        }
    }

    /// What it returns when there is no such room.
    pub fn without_room(&self) -> Result<Answer, CallError> {
        match self {
            Self::ListParticipants(_) => Ok(Answer::Participants(Vec::new())),
            Self::CreateRoom(_)
            | Self::DeleteRoom(_)
            | Self::Expect { .. }
            | Self::SendData(_)
            | Self::UpdateRoomMetadata(_) => Err(CallError::RoomNotFound),
            Self::ForwardParticipant(_)
            | Self::GetParticipant(_)
            | Self::MoveParticipant(_)
            | Self::MutePublishedTrack(_)
            | Self::PerformRpc(_)
            | Self::RemoveParticipant(_)
            | Self::UpdateParticipant(_)
            | Self::UpdateSubscriptions(_) => Err(CallError::ParticipantNotFound),
        }
    }
}

/// What a request says of the room that it creates; the rest is as configured.
///
/// The error is an argument that is too large, or that asks for what this server has not.
pub fn configuration_of(
    limits: &Limits,
    request: &CreateRoomRequest,
) -> Result<RoomConfiguration, CallError> {
    check_name(limits, &request.name)?;
    check_metadata(limits, &request.metadata)?;
    for agent in &request.agents {
        check_metadata(limits, &agent.metadata)?;
        check_attributes(limits, &agent.attributes)?;
    }
    if request.egress.is_some() {
        let text = "egress is not part of this server: create the room without it";
        return Err(CallError::Unimplemented(text));
    }
    super::webhooks::urls_of(&request.tags).map_err(CallError::Invalid)?;
    Ok(RoomConfiguration {
        empty_timeout: request.empty_timeout,
        departure_timeout: request.departure_timeout,
        max_participants: request.max_participants,
        metadata: request.metadata.clone(),
        min_playout_delay: request.min_playout_delay,
        max_playout_delay: request.max_playout_delay,
        sync_streams: request.sync_streams,
        agents: request.agents.clone(),
        tags: request.tags.clone(),
        ..Default::default()
    })
}

/// Whether a dispatch's words, and the name of the room that it may make, are within the limits.
pub fn check_dispatch(
    limits: &Limits,
    request: &CreateAgentDispatchRequest,
) -> Result<(), CallError> {
    check_name(limits, &request.room)?;
    check_metadata(limits, &request.metadata)?;
    check_attributes(limits, &request.attributes)
}

fn check_name(limits: &Limits, room: &str) -> Result<(), CallError> {
    let max = limits.max_room_name_length;
    if max > 0 && room.chars().nth(max).is_some() {
        let text = format!("room name length exceeds limits: max length {max}");
        return Err(CallError::Invalid(text));
    }
    Ok(())
}

fn check_attributes(
    limits: &Limits,
    attributes: &HashMap<String, String>,
) -> Result<(), CallError> {
    let max = limits.max_attributes_size;
    let sizes = attributes
        .iter()
        .map(|(key, value)| key.len() + value.len());
    if max > 0 && sizes.sum::<usize>() > max {
        let text = format!("attributes size exceeds limits: max size {max}");
        return Err(CallError::Invalid(text));
    }
    Ok(())
}

fn check_metadata(limits: &Limits, metadata: &str) -> Result<(), CallError> {
    let max = limits.max_metadata_size;
    if max > 0 && metadata.len() > max {
        let text = format!("metadata size exceeds limits: max size {max}");
        return Err(CallError::Invalid(text));
    }
    Ok(())
}

/// The newest nonces of SendData.
#[derive(Debug, Default)]
pub(super) struct Nonces(VecDeque<[u8; NONCE]>);

impl Nonces {
    /// Remembers a nonce. `false`: it is known.
    fn insert(&mut self, nonce: [u8; NONCE]) -> bool {
        if self.0.contains(&nonce) {
            return false;
        }
        if self.0.len() == MAX_NONCES {
            self.0.pop_front();
        }
        self.0.push_back(nonce);
        true
    }
}

impl Room {
    /// Does what a call asks for.
    pub fn handle_call(&mut self, now: Now, id: CallId, call: Call) {
        if let Err(error) = call.check(&self.settings.limits) {
            return self.answer_call(id, Err(error));
        }
        let answer = match call {
            Call::CreateRoom(_) => {
                self.await_anew(now);
                Ok(Answer::Room(self.snapshot()))
            }
            Call::DeleteRoom(_) => {
                self.delete(now);
                Ok(Answer::Done)
            }
            Call::Expect { is_dependent, .. } => self.expect(now, is_dependent),
            Call::GetParticipant(request) => self
                .named(&request.identity)
                .map(|seat| self.participant_answer(seat)),
            Call::ListParticipants(_) => {
                let all = self.participants.values();
                Ok(Answer::Participants(all.map(Participant::info).collect()))
            }
            // The directory sees to them.
            Call::ForwardParticipant(_) | Call::MoveParticipant(_) => {
                Err(CallError::ParticipantNotFound)
            }
            Call::MutePublishedTrack(request) => self.mute_remotely(now, &request),
            // Answered when the participant has answered.
            Call::PerformRpc(request) => return self.perform_rpc(now, id, request),
            Call::RemoveParticipant(request) => self.named(&request.identity).map(|seat| {
                self.remove(now, seat, DisconnectReason::ParticipantRemoved);
                Answer::Done
            }),
            Call::SendData(request) => self.send_data_of_server(now, request),
            Call::UpdateParticipant(request) => self.update_participant(now, request),
            Call::UpdateRoomMetadata(request) => Ok(self.update_metadata(now, request)),
            Call::UpdateSubscriptions(request) => self.update_subscriptions(now, request),
        };
        self.answer_call(id, answer);
    }

    pub(super) fn answer_call(&mut self, id: CallId, answer: Result<Answer, CallError>) {
        self.outputs.push_back(Output::Answer(id, Box::new(answer)));
    }

    /// Who created an empty room that was there already is about to use it. Without this its last second may be
    /// now, and a join that must not create rooms would find none.
    pub(super) fn await_anew(&mut self, now: Now) {
        if self.is_deserted() {
            let at = now.at + self.settings.defaults.empty_timeout;
            self.ends_at = Some(self.ends_at.map_or(at, |before| before.max(at)));
        }
    }

    pub(super) fn named(&self, identity: &str) -> Result<Seat, CallError> {
        self.identities
            .get(identity)
            .copied()
            .ok_or(CallError::ParticipantNotFound)
    }

    fn participant_answer(&self, seat: Seat) -> Answer {
        let info = self.participant(seat).map(Participant::info);
        Answer::Participant(info.unwrap_or_default())
    }

    /// The client is told, and everybody hears of it at once: a client that does not obey is muted all the same.
    fn mute_remotely(
        &mut self,
        now: Now,
        request: &MuteRoomTrackRequest,
    ) -> Result<Answer, CallError> {
        if !request.muted && !self.settings.defaults.enable_remote_unmute {
            return Err(CallError::RemoteUnmute);
        }
        let seat = self.resident(&request.identity)?;
        // Sent for a track that is muted already, or that does not exist, too (livekit.md 14).
        self.send(
            seat,
            signal_response::Message::Mute(MuteTrackRequest {
                sid: request.track_sid.clone(),
                muted: request.muted,
            }),
        );
        self.mute_track(now, seat, &request.track_sid, request.muted);
        let track = self.participant(seat).and_then(|participant| {
            let mut all = participant.tracks.values().chain(&participant.pending);
            all.find(|track| track.sid.as_str() == request.track_sid)
        });
        Ok(Answer::Track(track.map(|track| track.info.clone())))
    }

    /// Name, metadata, attributes and permission one after the other; each that changes is an `update` and a
    /// `refresh_token` of its own (livekit.md 14).
    fn update_participant(
        &mut self,
        now: Now,
        request: UpdateParticipantRequest,
    ) -> Result<Answer, CallError> {
        let seat = self.resident(&request.identity)?;
        // What it has beside these counts too.
        let attributes = self.merged_attributes(seat, &request.attributes);
        if !request.attributes.is_empty() {
            check_attributes(&self.settings.limits, &attributes)?;
        }
        if !request.name.is_empty() {
            self.change_claims(now, seat, |claims| &mut claims.name, request.name);
        }
        if !request.metadata.is_empty() {
            self.change_claims(now, seat, |claims| &mut claims.metadata, request.metadata);
        }
        if !request.attributes.is_empty() {
            self.change_claims(now, seat, |claims| &mut claims.attributes, attributes);
        }
        if let Some(permission) = &request.permission {
            self.set_permission(now, seat, Permission::from_proto(permission));
        }
        Ok(self.participant_answer(seat))
    }

    /// The present attributes with new ones set, and those taken out whose new value is empty.
    fn merged_attributes(
        &self,
        seat: Seat,
        changes: &HashMap<String, String>,
    ) -> HashMap<String, String> {
        let mut merged = self
            .participant(seat)
            .map(|p| p.claims.attributes.clone())
            .unwrap_or_default();
        for (key, value) in changes {
            if value.is_empty() {
                merged.remove(key);
            } else {
                merged.insert(key.clone(), value.clone());
            }
        }
        merged
    }

    fn change_claims<T: PartialEq>(
        &mut self,
        now: Now,
        seat: Seat,
        place: impl FnOnce(&mut crate::protocol::token::Claims) -> &mut T,
        value: T,
    ) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let place = place(&mut participant.claims);
        if *place == value {
            return;
        }
        *place = value;
        self.changed_now(seat);
        self.refresh_token(now, seat);
    }

    fn update_metadata(&mut self, now: Now, request: UpdateRoomMetadataRequest) -> Answer {
        self.info.metadata = request.metadata;
        self.tell_counts(now);
        self.agents_of_change();
        Answer::Room(self.info.clone())
    }

    fn update_subscriptions(
        &mut self,
        now: Now,
        request: UpdateSubscriptionsRequest,
    ) -> Result<Answer, CallError> {
        let seat = self.resident(&request.identity)?;
        let update = UpdateSubscription {
            track_sids: request.track_sids,
            subscribe: request.subscribe,
            participant_tracks: request.participant_tracks,
        };
        self.update_subscription(now, seat, &update);
        Ok(Answer::Done)
    }

    fn send_data_of_server(
        &mut self,
        now: Now,
        request: SendDataRequest,
    ) -> Result<Answer, CallError> {
        if !request.nonce.is_empty() {
            let nonce = <[u8; NONCE]>::try_from(request.nonce.as_slice()).map_err(|_| {
                CallError::Invalid(format!(
                    "nonce should be {NONCE} bytes or not present, got {} bytes",
                    request.nonce.len()
                ))
            })?;
            if !self.nonces.insert(nonce) {
                return Ok(Answer::Done);
            }
        }
        let kind = request.kind();
        #[expect(deprecated, reason = "older applications name participants by SID")]
        let sids = request.destination_sids;
        let to = if request.destination_identities.is_empty() && sids.is_empty() {
            None
        } else {
            let by_sid = sids
                .iter()
                .filter_map(|sid| self.participant(self.seat_of(sid)?))
                .map(|participant| participant.identity.clone());
            let by_identity = request.destination_identities.iter();
            let all = by_identity.map(|identity| Identity::from(identity.as_str()));
            Some(all.chain(by_sid).collect())
        };
        #[expect(deprecated, reason = "older clients read the kind")]
        let packet = DataPacket {
            kind: kind as i32,
            destination_identities: request.destination_identities,
            value: Some(data_packet::Value::User(UserPacket {
                payload: request.data,
                topic: request.topic,
                nonce: request.nonce,
                ..Default::default()
            })),
            ..Default::default()
        };
        let channel = match kind {
            data_packet::Kind::Reliable => Channel::Reliable,
            data_packet::Kind::Lossy => Channel::Lossy,
        };
        if self.send_data(now, channel, to, &packet) {
            Ok(Answer::Done)
        } else {
            Err(CallError::Invalid("data exceeds 64 kB".to_owned()))
        }
    }
}
