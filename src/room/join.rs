//! A participant comes in.

use super::connection::Connection;
use super::describe::unsent;
use super::participant::{Participant, Permission, TOKEN_REFRESH, kind_of};
use super::track::known;
use super::{JOIN_TIMEOUT, Now, Output, Place, Room, RoomCommand, Seat, SessionId};
use crate::ids::{Identity, ParticipantSid, TransportId};
use crate::negotiate::{Negotiator, Role, Setup};
use crate::plan::{DataChannels, IceCredentials};
use crate::protocol::join::Join;
use crate::protocol::livekit::{
    self as proto, DisconnectReason, SignalTarget, client_info, participant_info, signal_response,
};
use crate::secret::Secret;

/// Why a room takes somebody not in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefused {
    /// So many may be here, and are.
    #[error("the room is full: {0} of {0} participants are there")]
    Full(u32),
    /// Metadata or attributes in the join without the grant.
    #[error("no permissions to access the room")]
    MayNotSetMetadata,
    /// The client asked for its next resume to fail.
    #[error("simulated failure")]
    Simulated,
    /// What is too large.
    #[error("{0} exceeds its limit")]
    LimitExceeded(&'static str),
}

impl Room {
    /// Whether a join would be taken; nothing changes.
    pub fn check(&self, join: &Join) -> Result<(), JoinRefused> {
        let grant = join.claims.video.clone().unwrap_or_default();
        let permission = Permission::of(&grant);
        let adds = !join.metadata.is_empty() || !join.attributes.is_empty();
        if adds && !permission.can_update_metadata {
            return Err(JoinRefused::MayNotSetMetadata);
        }
        let limits = &self.settings.limits;
        // What the participant would have: the token's words, and the join's in their place.
        let metadata = if join.metadata.is_empty() {
            &join.claims.metadata
        } else {
            &join.metadata
        };
        if limits.max_metadata_size > 0 && metadata.len() > limits.max_metadata_size {
            return Err(JoinRefused::LimitExceeded("metadata size"));
        }
        let size = |(key, value): (&String, &String)| key.len() + value.len();
        let own = join
            .attributes
            .iter()
            .filter(|(_, value)| !value.is_empty());
        let kept = join
            .claims
            .attributes
            .iter()
            .filter(|(key, _)| join.attributes.get(*key).is_none_or(String::is_empty));
        let attributes: usize = own.chain(kept).map(size).sum();
        if limits.max_attributes_size > 0 && attributes > limits.max_attributes_size {
            return Err(JoinRefused::LimitExceeded("attributes size"));
        }
        let dependent = permission.recorder
            || permission.agent
            || matches!(
                kind_of(&join.claims),
                participant_info::Kind::Agent | participant_info::Kind::Egress
            );
        let max = self.info.max_participants;
        if max > 0 && !dependent {
            let identity = identity_of(join);
            let others = self
                .participants
                .values()
                .filter(|p| !p.is_dependent() && p.identity != identity)
                .count();
            if others >= max as usize {
                return Err(JoinRefused::Full(max));
            }
        }
        Ok(())
    }

    /// Takes a participant in; the session's first message is `join`, or `reconnect` on a resume. A resume that finds
    /// nobody is told to come back as new (STATE_MISMATCH), and `None` is returned.
    pub fn join(
        &mut self,
        now: Now,
        session: SessionId,
        join: Join,
        place: Place,
    ) -> Result<Option<ParticipantSid>, JoinRefused> {
        if let Some(resume) = &join.resume {
            let identity = identity_of(&join);
            let seat = self.identities.get(&identity).copied();
            if let Some(participant) = seat.and_then(|seat| self.participants.get_mut(&seat))
                && std::mem::take(&mut participant.fail_resume)
            {
                return Err(JoinRefused::Simulated);
            }
            return Ok(self.resume(now, session, &join, resume));
        }
        self.check(&join)?;
        let identity = identity_of(&join);
        let video = join.claims.video.as_ref();
        self.make_way(now, &identity, video.is_some_and(|grant| grant.hidden));
        let seat = self.admit(now, session, join.clone(), identity, place);
        let response = self.join_response(now, seat);
        self.send(seat, signal_response::Message::Join(response));
        if let Some(participant) = self.participants.get_mut(&seat) {
            participant.state = participant_info::State::Joined;
        }
        self.refresh_token(now, seat);
        // Agents and recorders keep no room alive.
        if !self.is_deserted() {
            self.ends_at = None;
        }
        for request in join.add_tracks {
            self.add_track(now, seat, request);
        }
        let single = join.single_pc;
        if single {
            self.open_main(seat, Role::Single);
            self.subscribe_to_all(now, seat);
            if let Some(offer) = &join.publisher_offer {
                self.hold_first_answer(now, seat);
                // The mark is all: a client whose very first offer is refused gains nothing by joining anew.
                self.try_offer(now, seat, offer).ok();
            }
        } else {
            // The first offer holds the data channels alone; tracks follow in the second (livekit.md 14). Whoever waits
            // for its own connection has its channels there, and is offered tracks alone.
            self.open_subscriber(seat);
            self.offer(now, seat);
            self.subscribe_to_all(now, seat);
        }
        self.subscribe_to_data_tracks(seat);
        self.changed(now, seat);
        self.counts_changed(now);
        Ok(self.participants.get(&seat).map(|p| p.sid.clone()))
    }

    fn admit(
        &mut self,
        now: Now,
        session: SessionId,
        join: Join,
        identity: Identity,
        place: Place,
    ) -> Seat {
        self.next_seat += 1;
        let seat = Seat(self.next_seat);
        let mut claims = join.claims;
        if !join.metadata.is_empty() {
            claims.metadata = join.metadata;
        }
        claims.attributes.extend(
            join.attributes
                .into_iter()
                .filter(|(_, value)| !value.is_empty()),
        );
        // All are told of these.
        let mut client = join.client;
        client.capabilities = known::<client_info::Capability>(&client.capabilities);
        let mut permission = Permission::of(&claims.video.clone().unwrap_or_default());
        if join.publish.is_some() {
            permission.can_subscribe = false;
        }
        let preference = self.preferences.get(&identity).copied();
        let candidates = super::addresses::allowed(place.candidates, preference);
        let sid = ParticipantSid::from(format!("PA_{}", self.random.text(12)));
        let worker = place.worker;
        let participant = Participant {
            session: Some(session),
            candidates,
            api_key: join.api_key,
            client,
            protocol: join.protocol,
            single_pc: join.single_pc,
            subscriber_primary: !join.single_pc && join.protocol > 2 && permission.can_subscribe,
            auto_subscribe: join.auto_subscribe,
            auto_subscribe_data_track: join.auto_subscribe_data_track,
            adaptive_stream: join.adaptive_stream,
            permission,
            preference,
            expires: Some((now.at + JOIN_TIMEOUT, DisconnectReason::JoinFailure)),
            ..Participant::new(now, seat, sid, identity.clone(), worker, claims)
        };
        self.participants.insert(seat, Box::new(participant));
        self.identities.insert(identity, seat);
        self.sessions.insert(session, seat);
        seat
    }

    /// The connection that the client offers on: v1's only one, v0's publisher.
    pub(super) fn open_main(&mut self, seat: Seat, role: Role) {
        let Some(connection) = self.open_connection(seat, role) else {
            return;
        };
        if let Some(participant) = self.participants.get_mut(&seat) {
            participant.main = Some(connection);
        }
    }

    /// v0: the connection that we offer on.
    pub(super) fn open_subscriber(&mut self, seat: Seat) {
        let Some(connection) = self.open_connection(seat, Role::Subscriber) else {
            return;
        };
        if let Some(participant) = self.participants.get_mut(&seat) {
            participant.subscriber = Some(connection);
        }
    }

    pub(super) fn fresh_credentials(&mut self, worker: crate::ids::WorkerId) -> IceCredentials {
        IceCredentials {
            ufrag: format!("{}{}", worker.ufrag_char(), self.random.text(15)),
            password: Secret::new(self.random.text(32)),
        }
    }

    fn open_connection(&mut self, seat: Seat, role: Role) -> Option<Connection> {
        let transport = TransportId(self.issue());
        let worker = self.participants.get(&seat)?.worker;
        let local = self.fresh_credentials(worker);
        let first_offer_id = 1 + self.random.u32() % 256;
        let participant = self.participants.get(&seat)?;
        // Firefox fails with a lite server (livekit.md 9.7).
        let lite = self.settings.lite && !participant.is_firefox();
        let setup = Setup {
            role,
            local: local.clone(),
            fingerprint: self.settings.fingerprint,
            lite,
            candidates: participant.candidates.to_vec(),
            codecs: self.codecs_of(participant, role),
            unsent: unsent(participant),
            firefox: participant.is_firefox(),
            holds_data: participant.subscriber_primary,
            first_offer_id,
            // Audio and video that stay in step are not told apart by sections that change hands.
            reuse_sections: participant.reuses_sections() && !self.settings.defaults.sync_streams,
            playout_delay: self.settings.defaults.playout_delay.is_some(),
            red_capable: !participant.is_firefox(),
        };
        let target = match role {
            Role::Publisher | Role::Single => SignalTarget::Publisher,
            Role::Subscriber => SignalTarget::Subscriber,
        };
        let we_offer = role == Role::Subscriber;
        // As `Participant::data_connection` has it.
        let channels = match role {
            Role::Subscriber if setup.holds_data => DataChannels::Ours,
            Role::Publisher if setup.holds_data => DataChannels::TheirsAlone,
            Role::Publisher | Role::Single | Role::Subscriber => DataChannels::Theirs,
        };
        self.transports.insert(transport, seat);
        self.outputs.push_back(Output::Net(
            worker,
            RoomCommand::Open {
                id: transport,
                local,
                controlling: we_offer,
                lite,
                channels,
            },
        ));
        Some(Connection::new(transport, target, Negotiator::new(setup)))
    }

    /// A token is good for ten minutes at least: every five a new one comes.
    pub(super) fn refresh_token_if_due(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        if participant.refresh_at <= now.at {
            participant.refresh_at = now.at + TOKEN_REFRESH;
            self.refresh_token(now, seat);
        }
    }

    /// A new token of the same rights with the present name, metadata and attributes (livekit.md 2).
    pub(super) fn refresh_token(&mut self, now: Now, seat: Seat) {
        let Some(token) = self.participant(seat).and_then(|p| self.token_of(now, p)) else {
            return;
        };
        self.send(seat, signal_response::Message::RefreshToken(token));
    }

    /// A token as it stands in a refresh; `None`: its key is no longer configured.
    pub(super) fn token_of(&self, now: Now, participant: &Participant) -> Option<String> {
        /// A refreshed token is good for at least this long.
        const MIN_TTL_S: u64 = 600;
        let secret = self.settings.keys.secret(&participant.api_key)?;
        let mut claims = participant.claims.clone();
        let now_s = now.unix_s();
        claims.exp = claims.exp.max(now_s + MIN_TTL_S);
        participant.api_key.clone_into(&mut claims.iss);
        participant.identity.as_str().clone_into(&mut claims.sub);
        Some(crate::protocol::token::sign(&claims, secret))
    }

    /// The pair of counts that `room_update` carries.
    pub(super) fn count(&self) -> (u32, u32) {
        let people = self.participants.values().filter(|p| !p.is_dependent());
        let publishers = self.participants.values().filter(|p| p.is_publisher);
        (people.count() as u32, publishers.count() as u32)
    }

    /// Whether a recorder is here. One that is forwarded here records its own room: it gets nothing of this one.
    pub(super) fn is_recorded(&self) -> bool {
        let mut recorders = self.participants.values().filter(|p| p.is_recorder());
        recorders.any(|recorder| recorder.guest.is_none())
    }

    /// Refuses a request by `request_response`.
    pub(super) fn refuse(
        &mut self,
        seat: Seat,
        request_id: u32,
        reason: proto::request_response::Reason,
        message: &str,
        request: Option<proto::request_response::Request>,
    ) {
        if !self
            .participant(seat)
            .is_some_and(Participant::takes_request_response)
        {
            return;
        }
        let response = proto::RequestResponse {
            request_id,
            reason: reason as i32,
            message: message.to_owned(),
            request,
        };
        self.send(seat, signal_response::Message::RequestResponse(response));
    }
}

pub(super) fn identity_of(join: &Join) -> Identity {
    match &join.publish {
        Some(suffix) => Identity::from(format!("{}#{suffix}", join.claims.sub)),
        None => Identity::from(join.claims.sub.as_str()),
    }
}
