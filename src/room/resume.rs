//! A client comes back: its WebSocket was lost, its transports were not (livekit.md 3.7, 14).
//!
//! Order: `reconnect`, one `update` with everybody, `room_update`, `refresh_token`; v0 then gets an offer that restarts
//! ICE, v1 restarts it by its own offer. What reliable data was on its way is still with its transport, which lives on.

use super::connection::Connection;
use super::participant::{Participant, Preference};
use super::{Now, Output, Room, Seat, SessionId};
use crate::ids::ParticipantSid;
use crate::plan::Command;
use crate::protocol::join::{Join, Resume};
use crate::protocol::livekit::{
    CandidateProtocol, DisconnectReason, LeaveRequest, ParticipantInfo, ParticipantUpdate,
    ReconnectResponse, RoomUpdate, SimulateScenario, SyncState, leave_request, participant_info,
    signal_response, simulate_scenario,
};
use crate::protocol::signal::Encoded;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A WebSocket may be dead for so long before anybody notices: 35 s without a ping; and a farewell may wait for a beat.
pub(super) const UNNOTICED: Duration = Duration::from_secs(40);
/// Farewells that are remembered for those who are away.
pub(super) const MAX_DEPARTED: usize = 256;
/// The last protocol whose `leave` has no action (livekit 1.13.5 `SupportsRegionsInLeaveRequest`).
const LAST_WITHOUT_ACTIONS: u32 = 12;
/// A client that is back may take this long to get its media going again.
const REVIVAL: Duration = Duration::from_secs(20);

/// Farewells that somebody who was away has not heard.
#[derive(Debug, Default)]
pub(super) struct Departed(VecDeque<(Instant, ParticipantInfo)>);

impl Departed {
    /// `away_since`: when the first of those went who are away now.
    fn push(&mut self, now: Instant, away_since: Instant, mut info: ParticipantInfo) {
        // What it said of itself may be large, and nobody asks who is gone.
        info.metadata.clear();
        info.attributes.clear();
        // Whoever comes and goes shall not push the others out.
        self.0.retain(|(_, other)| other.identity != info.identity);
        while self.0.len() >= MAX_DEPARTED
            || self
                .0
                .front()
                .is_some_and(|(at, _)| *at + UNNOTICED < away_since)
        {
            self.0.pop_front();
        }
        self.0.push_back((now, info));
    }
}

impl Room {
    /// A farewell is told, or will be at the next beat; somebody may be away.
    pub(super) fn remember_farewell(&mut self, now: Now, info: ParticipantInfo) {
        let away = self.participants.values().filter_map(|p| p.away_since);
        let away_since = away.min().unwrap_or(now.at);
        self.departed.push(now.at, away_since, info);
    }

    /// Attaches a new session to a participant that is still here; `None`: the client has to join anew, and is told.
    pub(super) fn resume(
        &mut self,
        now: Now,
        session: SessionId,
        join: &Join,
        resume: &Resume,
    ) -> Option<ParticipantSid> {
        let identity = super::join::identity_of(join);
        let found = self.identities.get(&identity).copied().filter(|seat| {
            self.participant(*seat).is_some_and(|participant| {
                participant.guest.is_none()
                    && (resume.participant_sid.is_empty()
                        || participant.sid.as_str() == resume.participant_sid)
            })
        });
        let Some(seat) = found else {
            self.refuse_resume(session, join.protocol);
            return None;
        };
        let participant = self.participants.get_mut(&seat)?;
        let before = participant.session.replace(session);
        participant.api_key.clone_from(&join.api_key);
        participant.claims.exp = participant.claims.exp.max(join.claims.exp);
        let away_since = participant.away_since.take().unwrap_or(now.at);
        if participant.has_lost_connections() {
            participant.expires = Some((now.at + REVIVAL, DisconnectReason::ConnectionTimeout));
        }
        let sid = participant.sid.clone();
        let close_again = std::mem::take(&mut participant.close_on_resume);
        if let Some(before) = before {
            self.sessions.remove(&before);
            self.outputs.push_back(Output::Close(before));
        }
        self.sessions.insert(session, seat);
        self.qualities.forget(seat);
        self.renew_speakers(now, seat);
        self.say_reconnect(now, seat);
        self.silence_gone(seat, away_since);
        self.tell_everybody_to(seat, away_since);
        let room = Some(self.info.clone());
        self.send(
            seat,
            signal_response::Message::RoomUpdate(RoomUpdate { room }),
        );
        if close_again {
            self.detach(now, seat);
            return Some(sid);
        }
        self.refresh_token(now, seat);
        self.revive_negotiation(now, seat);
        self.tell_data_track_handles(seat);
        self.repeat_demands(seat);
        Some(sid)
    }

    /// The only thing said to a client that this room does not know.
    pub(super) fn refuse_resume(&mut self, session: SessionId, protocol: u32) {
        let leave = LeaveRequest {
            can_reconnect: protocol <= LAST_WITHOUT_ACTIONS,
            reason: DisconnectReason::StateMismatch as i32,
            action: leave_request::Action::Reconnect as i32,
            regions: None,
        };
        let message = Encoded::new(signal_response::Message::Leave(leave));
        self.outputs
            .push_back(Output::Signal(session, message.into()));
        self.outputs.push_back(Output::Close(session));
    }

    fn say_reconnect(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        let response = ReconnectResponse {
            ice_servers: self.ice_servers(now, participant),
            client_configuration: super::describe::client_configuration(participant),
            server_info: Some(self.server_info()),
            last_message_seq: participant.inbox.last_sequence(),
        };
        self.send(seat, signal_response::Message::Reconnect(response));
    }

    /// Everybody as they are now, after those who left while this one was away. Somebody whose identity is back, to be
    /// seen, is not said to have left.
    fn tell_everybody_to(&mut self, seat: Seat, away_since: Instant) {
        let is_seen = |info: &ParticipantInfo| {
            let other = self.identities.get(info.identity.as_str());
            let other = other.and_then(|other| self.participants.get(other));
            other.is_some_and(|other| other.seat == seat || !other.permission.hidden)
        };
        let departed = self.departed.0.iter();
        let gone = departed.filter(|(at, info)| *at + UNNOTICED >= away_since && !is_seen(info));
        let here = self.participants.values().filter(|other| {
            other.seat == seat
                || (!other.permission.hidden
                    && other.state != participant_info::State::Disconnected)
        });
        let participants: Vec<ParticipantInfo> = gone
            .map(|(_, info)| info.clone())
            .chain(here.map(Participant::info))
            .collect();
        self.send(
            seat,
            signal_response::Message::Update(ParticipantUpdate { participants }),
        );
    }

    /// What was asked of the client while it was away is asked again.
    fn revive_negotiation(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        if participant.single_pc {
            if let Some(connection) = participant.main.as_mut() {
                connection.negotiator.forget_requests();
                if connection.negotiator.pending() || connection.negotiator.waiting() {
                    connection.want_negotiation(now.at);
                }
            }
            return;
        }
        let worker = participant.worker;
        if participant.subscriber.is_none() {
            return;
        }
        let local = self.fresh_credentials(worker);
        let connection = self
            .participants
            .get_mut(&seat)
            .and_then(|participant| participant.subscriber.as_mut());
        if let Some(connection) = connection {
            connection.negotiator.abandon_offer();
            connection.answer_by = None;
            connection.trickled = false;
            connection.restart = Some(local);
        }
        self.offer(now, seat);
    }

    /// What the client believes after a resume. Publications that this room does not know mean that it has to begin
    /// anew.
    pub(super) fn sync_state(&mut self, now: Now, seat: Seat, state: &SyncState) {
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        let known = |sid: &str| {
            participant.tracks.contains_key(sid)
                || participant
                    .pending
                    .iter()
                    .any(|track| track.sid.as_str() == sid)
        };
        let tracks = state
            .publish_tracks
            .iter()
            .filter_map(|published| published.track.as_ref());
        let strange = tracks.into_iter().any(|track| !known(&track.sid));
        let data = participant.data_tracks.published();
        let strange_data = state
            .publish_data_tracks
            .iter()
            .filter_map(|published| published.info.as_ref())
            .any(|info| !data.iter().any(|known| known.sid == info.sid));
        if strange || strange_data {
            return self.make_rejoin(now, seat, DisconnectReason::StateMismatch);
        }
        if let Some(subscription) = &state.subscription {
            self.update_subscription(now, seat, subscription);
        }
        self.disable_tracks(now, seat, &state.track_sids_disabled);
    }

    /// Media to a client is gone while its signalling lives: it is told to resume, which restarts ICE.
    pub(super) fn ask_to_resume(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        if participant.session.is_none() {
            return;
        }
        // Older clients take any `leave` for one that ends it, and resume when their session is closed.
        if participant.protocol > LAST_WITHOUT_ACTIONS {
            let leave = LeaveRequest {
                can_reconnect: true,
                reason: DisconnectReason::UnknownReason as i32,
                action: leave_request::Action::Resume as i32,
                regions: None,
            };
            self.send(seat, signal_response::Message::Leave(leave));
        }
        self.detach(now, seat);
    }

    /// Closes a participant's session; the participant stays.
    fn detach(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        participant.away_since = Some(now.at);
        if let Some(session) = participant.session.take() {
            self.sessions.remove(&session);
            self.outputs.push_back(Output::Close(session));
        }
    }

    /// `simulateScenario` of the SDKs, which application developers test their reconnects with.
    pub(super) fn simulate(&mut self, now: Now, seat: Seat, scenario: &SimulateScenario) {
        use simulate_scenario::Scenario;
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        match scenario.scenario {
            Some(Scenario::ServerLeave(true)) => {
                self.remove(now, seat, DisconnectReason::ServerShutdown);
            }
            Some(Scenario::Migration(true)) => self.vanish(now, seat, DisconnectReason::Migration),
            Some(Scenario::NodeFailure(true)) => {
                let worker = participant.worker;
                let ids: Vec<_> = participant.connections().map(|c| c.transport).collect();
                for id in ids {
                    self.command(worker, Command::CloseTransport { id });
                }
                self.vanish(now, seat, DisconnectReason::UnknownReason);
            }
            Some(Scenario::DisconnectSignalOnResume(true)) => participant.close_on_resume = true,
            Some(Scenario::DisconnectSignalOnResumeNoMessages(true)) => {
                participant.fail_resume = true;
            }
            Some(Scenario::SwitchCandidateProtocol(protocol)) => {
                let preference = match CandidateProtocol::try_from(protocol) {
                    Ok(CandidateProtocol::Tcp) => Some(Preference::Tcp),
                    Ok(CandidateProtocol::Tls) => Some(Preference::Tls),
                    _ => None,
                };
                let identity = participant.identity.clone();
                match preference {
                    Some(preference) => self.preferences.insert(identity, preference),
                    None => self.preferences.remove(&identity),
                };
            }
            Some(Scenario::SpeakerUpdate(seconds)) => self.simulate_speaker(now, seat, seconds),
            Some(Scenario::SubscriberBandwidth(bitrate)) => {
                let worker = participant.worker;
                let bitrate = u64::try_from(bitrate).ok().filter(|bitrate| *bitrate > 0);
                if let Some(id) = participant.downstream().map(|c| c.transport) {
                    self.command(worker, Command::LimitBandwidth { id, bitrate });
                }
            }
            // What is left asks for nothing.
            _ => {}
        }
    }

    /// Ends a participant without a word to its client, as a failing node would.
    fn vanish(&mut self, now: Now, seat: Seat, reason: DisconnectReason) {
        self.detach(now, seat);
        self.remove(now, seat, reason);
    }
}

impl Connection {
    /// The credentials of a restart that the next offer begins.
    pub(super) fn take_restart(&mut self) -> Option<crate::plan::IceCredentials> {
        self.restart.take()
    }
}
