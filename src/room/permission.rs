//! A participant's rights change while it is here (livekit.md 14, "canPublish off").

use super::participant::Permission;
use super::{Now, Room, Seat};
use crate::ids::TrackSid;
use crate::plan::Command;
use crate::protocol::livekit::{TrackUnpublishedResponse, signal_response};

impl Room {
    /// Replaces the whole set of rights: what is no longer allowed ends, all are told, the subject gets a token that
    /// says so. Nothing happens when nothing changes.
    pub(super) fn set_permission(&mut self, now: Now, seat: Seat, permission: Permission) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        if participant.permission == permission {
            return;
        }
        if permission.hidden {
            self.hide(now, seat);
        }
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let shown = participant.permission.hidden && !permission.hidden;
        let subscribing = participant.permission.can_subscribe != permission.can_subscribe;
        permission.write_to(participant.claims.video.get_or_insert_default());
        participant.permission = permission;
        self.end_forbidden_tracks(now, seat);
        self.end_forbidden_data_tracks(seat);
        if subscribing {
            self.subscribing_changed(now, seat);
            self.subscribing_to_data_changed(seat);
        }
        if let Some(participant) = self.participants.get_mut(&seat) {
            // As livekit: whoever may publish and is connected counts as a publisher, tracks or not.
            participant.is_publisher = participant.permission.can_publish
                && participant.main.as_ref().is_some_and(|main| main.connected);
        }
        self.changed_now(seat);
        if shown {
            self.bring_again(now, seat);
        }
        self.refresh_token(now, seat);
        self.counts_changed(now);
    }

    fn end_forbidden_tracks(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let permission = &participant.permission;
        let forbidden: Vec<TrackSid> = participant
            .tracks
            .values()
            .filter(|track| !permission.may_publish(track.info.source()))
            .map(|track| track.sid.clone())
            .collect();
        participant
            .queued
            .retain(|request| permission.may_publish(request.source()));
        let unsent = participant
            .pending
            .extract_if(.., |track| !permission.may_publish(track.info.source()));
        for track in unsent {
            for codec in track.codecs() {
                self.ups.remove(&codec.up);
            }
        }
        for sid in forbidden {
            self.stop_receiving(seat, &sid);
            self.unpublish(now, seat, &sid);
            let response = TrackUnpublishedResponse {
                track_sid: sid.as_str().to_owned(),
            };
            self.send(seat, signal_response::Message::TrackUnpublished(response));
        }
    }

    /// Whatever the client goes on sending, nobody reads it any more.
    fn stop_receiving(&mut self, seat: Seat, sid: &TrackSid) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let worker = participant.worker;
        let Some(track) = participant.tracks.get(sid) else {
            return;
        };
        let Some(connection) = participant.main.as_mut() else {
            return;
        };
        for codec in track.codecs() {
            connection.published.retain(|_, up| *up != codec.up);
            connection.negotiator.unpublish(codec.up);
        }
        let id = connection.transport;
        let plan = connection.negotiator.receive().clone();
        self.command(worker, Command::SetReceive { id, plan });
    }
}
