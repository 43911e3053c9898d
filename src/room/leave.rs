//! A participant goes: by its own will, because its network is gone, or because it was replaced.

use super::participant::Participant;
use super::webhooks::brief;
use super::{DISCONNECT_GRACE, Fault, Now, Output, Room, Seat, SessionId};
use crate::ids::{Identity, TransportId};
use crate::plan::{Command, Proto};
use crate::protocol::livekit::{
    DisconnectReason, LeaveRequest, leave_request, participant_info, signal_response,
};
use crate::protocol::signal::Encoded;
use std::net::SocketAddr;
use std::time::Duration;

/// How long after a goodbye without a reason its answer goes out, if the client is still there then.
const LATE_GOODBYE: Duration = Duration::from_millis(100);

impl Room {
    /// The client says goodbye; it gets its `leave` back (livekit.md 14). It may give these reasons; what the server
    /// alone can know, that it was replaced above all, it cannot say (livekit 1.13.5 `signalhandler.go`).
    ///
    /// Whoever gives no reason gets its `leave` a little later: the SDK for Go says goodbye so before it joins anew, then
    /// closes its WebSocket, and takes an answer in between for the end of everything (`engine.go`, `OnLeave`).
    pub(super) fn handle_leave(&mut self, now: Now, seat: Seat, leave: &LeaveRequest) {
        let reason = match leave.reason() {
            DisconnectReason::UnknownReason => {
                let participant = self.participants.get_mut(&seat);
                if let Some(session) = participant.and_then(|p| p.session.take()) {
                    self.sessions.remove(&session);
                    self.goodbyes.push_back((now.at + LATE_GOODBYE, session));
                }
                return self.discard(now, seat, DisconnectReason::ClientInitiated);
            }
            reason @ (DisconnectReason::AgentError
            | DisconnectReason::UserRejected
            | DisconnectReason::UserUnavailable) => reason,
            _ => DisconnectReason::ClientInitiated,
        };
        self.remove(now, seat, reason);
    }

    /// Answers those who have gone without a reason.
    pub(super) fn say_goodbyes_if_due(&mut self, now: Now) {
        while self.goodbyes.front().is_some_and(|(at, _)| *at <= now.at) {
            self.say_goodbye();
        }
    }

    /// Answers all of them, at the end of the room.
    pub(super) fn say_goodbyes(&mut self) {
        while !self.goodbyes.is_empty() {
            self.say_goodbye();
        }
    }

    fn say_goodbye(&mut self) {
        let Some((_, session)) = self.goodbyes.pop_front() else {
            return;
        };
        let leave = LeaveRequest {
            reason: DisconnectReason::ClientInitiated as i32,
            ..Default::default()
        };
        let message = Encoded::new(signal_response::Message::Leave(leave));
        self.outputs
            .push_back(Output::Signal(session, message.into()));
        self.outputs.push_back(Output::Close(session));
    }

    /// A session's WebSocket is gone.
    pub fn handle_gone(&mut self, now: Now, session: SessionId) {
        let Some(seat) = self.sessions.remove(&session) else {
            return;
        };
        // Nobody reads what the task still has for it.
        self.outputs.push_back(Output::Close(session));
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        if participant.session == Some(session) {
            participant.session = None;
            participant.away_since = Some(now.at);
        }
        // Without media there is nothing to come back to, unless it was about to get it going again.
        let is_reviving = participant.has_lost_connections() && participant.expires.is_some();
        if !is_reviving
            && !participant
                .connections()
                .any(|connection| connection.connected)
        {
            self.remove(now, seat, DisconnectReason::SignalClose);
        }
    }

    /// The server stops: everybody is told to come back.
    pub fn shut_down(&mut self, now: Now) {
        let seats: Vec<Seat> = self.participants.keys().copied().collect();
        for seat in seats {
            let can_reconnect = true;
            self.say_leave(
                seat,
                DisconnectReason::ServerShutdown,
                leave_request::Action::Reconnect,
                can_reconnect,
            );
            self.discard(now, seat, DisconnectReason::ServerShutdown);
        }
        self.end(now);
    }

    /// The room is deleted: everybody is told, and it is over.
    pub(super) fn delete(&mut self, now: Now) {
        let seats: Vec<Seat> = self.participants.keys().copied().collect();
        for seat in seats {
            self.remove(now, seat, DisconnectReason::RoomDeleted);
        }
        self.end(now);
    }

    /// Nobody has come back in time: agents and recorders that are left are told, and it is over.
    pub(super) fn close(&mut self, now: Now) {
        self.ends_at = None;
        let seats: Vec<Seat> = self.participants.keys().copied().collect();
        for seat in seats {
            self.remove(now, seat, DisconnectReason::RoomClosed);
        }
        self.end(now);
    }

    /// Ends a participant with `leave` (action DISCONNECT) and tells the others.
    pub(super) fn remove(&mut self, now: Now, seat: Seat, reason: DisconnectReason) {
        self.say_leave(seat, reason, leave_request::Action::Disconnect, false);
        self.discard(now, seat, reason);
    }

    /// Somebody of this identity comes, to be seen by the others or not: whoever has it is replaced.
    pub(super) fn make_way(&mut self, now: Now, identity: &Identity, is_hidden: bool) {
        if let Some(&old) = self.identities.get(identity) {
            if is_hidden {
                self.hide(now, old);
            }
            self.remove(now, old, DisconnectReason::DuplicateIdentity);
        }
        self.settle_farewell(identity, is_hidden);
    }

    /// Ends a participant and makes its client join anew.
    pub(super) fn make_rejoin(&mut self, now: Now, seat: Seat, reason: DisconnectReason) {
        self.say_leave(seat, reason, leave_request::Action::Reconnect, true);
        self.discard(now, seat, reason);
    }

    fn say_leave(
        &mut self,
        seat: Seat,
        reason: DisconnectReason,
        action: leave_request::Action,
        can_reconnect: bool,
    ) {
        let leave = LeaveRequest {
            can_reconnect,
            reason: reason as i32,
            action: action as i32,
            regions: None,
        };
        self.send(seat, signal_response::Message::Leave(leave));
    }

    fn discard(&mut self, now: Now, seat: Seat, reason: DisconnectReason) {
        let Some(mut participant) = self.participants.remove(&seat) else {
            return;
        };
        if let Some(session) = participant.session {
            self.outputs.push_back(Output::Close(session));
        }
        self.forget(now, &mut participant, reason);
        let worker = participant.worker;
        for connection in participant.connections() {
            let id = connection.transport;
            self.command(worker, Command::CloseTransport { id });
        }
    }

    /// Takes a participant that is no longer listed out of all books, and tells the others that it is gone.
    pub(super) fn forget(
        &mut self,
        now: Now,
        participant: &mut Participant,
        reason: DisconnectReason,
    ) {
        let seat = participant.seat;
        participant.disconnect_reason = reason;
        self.forget_speaker(now, participant);
        self.qualities.forget(seat);
        let was_active = participant.is_active();
        self.fail_rpcs_of(seat);
        self.forget_holds(now, seat);
        self.drop_cache_if_served();
        self.end_forwards(seat);
        self.forget_guest(participant);
        let replaced = reason == DisconnectReason::DuplicateIdentity;
        if self.identities.get(&participant.identity) == Some(&seat) {
            self.identities.remove(&participant.identity);
        }
        if let Some(session) = participant.session {
            self.sessions.remove(&session);
        }
        for subscription in participant.subscriptions.values() {
            if let Some(down) = &subscription.down {
                self.forget_down(now, down.id);
            }
        }
        let transports: Vec<TransportId> = participant
            .connections()
            .map(|connection| connection.transport)
            .collect();
        for track in participant.tracks.values() {
            self.tracks.remove(&track.sid);
            self.forget_ups(track);
            if was_active && track.announced {
                self.hook_unpublished(now, brief(participant), track.info.clone());
            }
        }
        for track in &participant.pending {
            self.forget_ups(track);
        }
        self.end_subscriptions_to(now, participant);
        for id in transports {
            self.transports.remove(&id);
        }
        self.data_tracks_ended(participant);
        let was_told = participant.version > 0;
        let is_publisher = participant.is_publisher;
        let info = participant.farewell();
        if !participant.permission.hidden {
            self.remember_farewell(now, info.clone());
        }
        self.hook_left(now, info.clone(), was_active);
        if replaced {
            // Whoever takes its place may record too.
            self.tell_counts_later(now);
        } else if self.counts_are_due(now) {
            self.tell_counts(now);
        } else {
            self.counts_changed(now);
        }
        if !was_told || replaced {
            self.forget_pending(&info.sid);
        }
        if was_told && replaced {
            self.tell_replaced(info);
        } else if was_told && is_publisher {
            self.tell(seat, info);
        } else if was_told {
            self.tell_later(now, seat, info);
        }
        if self.is_deserted() && (self.ends_at.is_none() || participant.keeps_room()) {
            self.ends_at = Some(now.at + self.settings.defaults.departure_timeout);
        }
    }

    /// The participant's time to connect, or to come back, has run out.
    pub(super) fn expire(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        if let Some((at, reason)) = participant.expires
            && at <= now.at
        {
            self.remove(now, seat, reason);
        }
    }

    pub(super) fn transport_connected(
        &mut self,
        now: Now,
        id: TransportId,
        proto: Proto,
        remote: SocketAddr,
    ) {
        let Some(&seat) = self.transports.get(&id) else {
            return;
        };
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let primary = participant.is_primary(id);
        if let Some(connection) = participant.connection_mut(id) {
            connection.connect();
        }
        tracing::debug!(
            room = self.info.name, participant = %participant.identity, ?proto, %remote, "connected"
        );
        if primary {
            self.becomes_active(now, seat);
        } else if let Some(participant) = self.participants.get_mut(&seat)
            && participant.is_active()
            && !participant.has_lost_connections()
        {
            participant.expires = None;
        }
        self.tell_publishers_of_bound(seat);
        self.replay_data(now, seat);
    }

    pub(super) fn transport_disconnected(&mut self, now: Now, id: TransportId) {
        let Some(&seat) = self.transports.get(&id) else {
            return;
        };
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let at = now.at + DISCONNECT_GRACE;
        // The other connection was lost before, and its client has resumed: it sees to both.
        let is_coming_back = participant.session.is_some()
            && participant.has_lost_connections()
            && participant.expires.is_some_and(|(until, _)| until > at);
        if let Some(connection) = participant.connection_mut(id) {
            connection.lose();
        }
        if is_coming_back {
            return;
        }
        participant.expires = Some((at, DisconnectReason::ConnectionTimeout));
        self.ask_to_resume(now, seat);
    }

    /// The peer closed its connection without a `leave`, or its handshake failed for good.
    pub(super) fn transport_closed(&mut self, now: Now, id: TransportId) {
        let Some(&seat) = self.transports.get(&id) else {
            return;
        };
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let active = participant.state == participant_info::State::Active;
        if let Some(connection) = participant.connection_mut(id) {
            connection.lose();
        }
        let reason = if active {
            DisconnectReason::ConnectionTimeout
        } else {
            DisconnectReason::JoinFailure
        };
        participant.expires = Some((now.at + DISCONNECT_GRACE, reason));
    }

    pub(super) fn channel_open(&mut self, now: Now, id: TransportId) {
        let Some(&seat) = self.transports.get(&id) else {
            return;
        };
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        if let Some(connection) = participant.connection_mut(id) {
            connection.takes_data = true;
        }
        self.replay_data(now, seat);
    }

    /// A receiver so slow that 4 MB wait for it begins again, rather than holding everything in memory.
    pub(super) fn channel_stuck(&mut self, now: Now, id: TransportId) {
        let Some(&seat) = self.transports.get(&id) else {
            return;
        };
        self.fault(Fault::DataChannelStuck);
        if let Some(participant) = self.participant(seat) {
            tracing::info!(
                room = self.info.name,
                identity = participant.identity.as_str(),
                "told to join anew: its connection is too slow for the messages sent to it, 4 MB of them wait"
            );
        }
        self.make_rejoin(now, seat, DisconnectReason::UnknownReason);
    }
}
