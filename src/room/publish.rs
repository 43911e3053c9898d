//! Publishing: announced by `add_track`, bound by an offer, told to all, ended.

use super::track::{self, Publication};
use super::webhooks::brief;
use super::{Now, Room, Seat};
use crate::ids::{Ssrc, TrackSid, UpTrackId};
use crate::plan::{Command, Format, Kind};
use crate::protocol::livekit::{
    AddTrackRequest, TrackPublishedResponse, TrackType, UpdateLocalAudioTrack,
    UpdateLocalVideoTrack, request_response, signal_response,
};
use std::time::Duration;

/// Announced tracks that no offer has carried yet (livekit 1.13.5 `participant.go`).
const MAX_PENDING: usize = 20;
/// A simulcast track whose packets do not come (camera off at publish) is announced all the same. The reference waits
/// for ever.
pub(super) const ANNOUNCE_ANYWAY: Duration = Duration::from_secs(2);

impl Room {
    pub(super) fn add_track(&mut self, now: Now, seat: Seat, mut request: AddTrackRequest) {
        use request_response::Reason;
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        track::tidy(&mut request);
        if let Some(excess) = track::excess(&request) {
            let text = excess.to_string();
            return self.refuse_track(seat, Reason::LimitExceeded, &text, request);
        }
        if !participant.permission.may_publish(request.source()) {
            return self.refuse_track(
                seat,
                Reason::NotAllowed,
                "does not have permission to publish",
                request,
            );
        }
        if !matches!(request.r#type(), TrackType::Audio | TrackType::Video) {
            return self.refuse_track(
                seat,
                Reason::UnsupportedType,
                "unsupported track type",
                request,
            );
        }
        if participant.pending.len() >= MAX_PENDING {
            return self.refuse_track(seat, Reason::LimitExceeded, "too many tracks", request);
        }
        let limit = self.settings.limits.num_tracks as usize;
        if limit > 0 && self.ups.len() >= limit {
            return self.refuse_track(seat, Reason::LimitExceeded, "too many tracks", request);
        }
        if !request.sid.is_empty()
            && let Some(info) = participant
                .tracks
                .get(request.sid.as_str())
                .map(|track| track.info.clone())
        {
            // A backup codec: nobody has asked for it, the track stays as it is.
            let response = TrackPublishedResponse {
                cid: request.cid,
                track: Some(info),
            };
            return self.send(seat, signal_response::Message::TrackPublished(response));
        }
        let up = UpTrackId(self.issue());
        let mut track = Publication::new(&request, up, &mut self.random);
        self.ups.insert(up, (seat, track.sid.clone()));
        let info = track.info.clone();
        track.touch(now);
        if let Some(participant) = self.participants.get_mut(&seat) {
            participant.pending.push(track);
        }
        let response = TrackPublishedResponse {
            cid: request.cid,
            track: Some(info),
        };
        self.send(seat, signal_response::Message::TrackPublished(response));
    }

    fn refuse_track(
        &mut self,
        seat: Seat,
        reason: request_response::Reason,
        message: &str,
        request: AddTrackRequest,
    ) {
        self.refuse(
            seat,
            0,
            reason,
            message,
            Some(request_response::Request::AddTrack(request)),
        );
    }

    pub(super) fn publication(&self, seat: Seat, sid: &TrackSid) -> Option<&Publication> {
        self.participants.get(&seat)?.tracks.get(sid)
    }

    /// Tells all of a track and subscribes those who want everything.
    pub(super) fn announce(&mut self, now: Now, seat: Seat, sid: &TrackSid) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let is_guest = participant.guest.is_some();
        let Some(track) = participant.tracks.get_mut(sid) else {
            return;
        };
        if std::mem::replace(&mut track.announced, true) {
            return;
        }
        track.announce_by = None;
        // What its publisher and the worker hear of a guest's track, its own room decides.
        if !is_guest {
            track.touch(now);
            if track.kind == Kind::Video {
                track.dynacast.start(now.at);
            }
        }
        let muted = track.info.muted && !is_guest;
        let up = track.up;
        let info = track.info.clone();
        participant.is_publisher = true;
        let worker = participant.worker;
        self.tracks.insert(sid.clone(), seat);
        if muted {
            self.command(worker, Command::SetMuted { up, muted });
        }
        self.changed(now, seat);
        self.counts_changed(now);
        self.hook_published(now, seat, info);
        let others: Vec<Seat> = self
            .participants
            .values()
            .filter(|p| p.seat != seat && p.wants(sid))
            .map(|p| p.seat)
            .collect();
        for other in others {
            self.subscribe(now, other, sid);
        }
    }

    /// A simulcast track is announced at its first packet; later layers add their SSRC.
    pub(super) fn layer_seen(
        &mut self,
        now: Now,
        up: UpTrackId,
        spatial: u8,
        ssrc: Ssrc,
        format: Format,
    ) {
        let Some((seat, sid)) = self.ups.get(&up).cloned() else {
            return;
        };
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let Some(track) = participant.tracks.get_mut(&sid) else {
            return;
        };
        track.format_seen(format);
        let news = track.layer_seen(spatial, ssrc);
        if !track.announced {
            self.announce(now, seat, &sid);
        } else if news && track.kind == Kind::Video {
            track.touch(now);
            self.changed(now, seat);
        }
    }

    pub(super) fn announce_if_due(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        let due: Vec<TrackSid> = participant
            .tracks
            .values()
            .filter(|t| !t.announced && t.announce_by.is_some_and(|at| at <= now.at))
            .map(|t| t.sid.clone())
            .collect();
        for sid in due {
            self.announce(now, seat, &sid);
        }
    }

    /// The client stopped sending a track: all are told, its subscriptions end.
    pub(super) fn unpublish(&mut self, now: Now, seat: Seat, sid: &TrackSid) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let Some(track) = participant.tracks.remove(sid) else {
            return;
        };
        self.ups.remove(&track.up);
        self.tracks.remove(sid);
        if track.announced {
            let publisher = participant.is_active().then(|| brief(participant));
            self.changed(now, seat);
            if let Some(publisher) = publisher {
                self.hook_unpublished(now, publisher, track.info);
            }
        }
        self.end_track(now, sid);
    }

    pub(super) fn mute_track(&mut self, now: Now, seat: Seat, sid: &str, muted: bool) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let worker = participant.worker;
        let track = participant
            .tracks
            .values_mut()
            .find(|track| track.sid.as_str() == sid);
        let Some(track) = track else {
            if let Some(track) = participant
                .pending
                .iter_mut()
                .find(|t| t.sid.as_str() == sid)
            {
                track.info.muted = muted;
            }
            return;
        };
        if track.info.muted == muted {
            return;
        }
        track.info.muted = muted;
        track.touch(now);
        track.quality.change(now.at);
        let (up, announced) = (track.up, track.announced);
        let sid = track.sid.clone();
        self.command(worker, Command::SetMuted { up, muted });
        if announced {
            self.changed(now, seat);
        }
        if !muted {
            self.repeat_demand(seat, &sid);
        }
    }

    pub(super) fn update_audio_track(
        &mut self,
        now: Now,
        seat: Seat,
        update: &UpdateLocalAudioTrack,
    ) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let Some(track) = participant.tracks.get_mut(update.track_sid.as_str()) else {
            return;
        };
        track.set_features(&update.features);
        track.touch(now);
        self.changed(now, seat);
    }

    pub(super) fn update_video_track(
        &mut self,
        now: Now,
        seat: Seat,
        update: &UpdateLocalVideoTrack,
    ) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let Some(track) = participant.tracks.get_mut(update.track_sid.as_str()) else {
            return;
        };
        track.set_size(update.width, update.height);
        track.touch(now);
        self.changed(now, seat);
    }
}
