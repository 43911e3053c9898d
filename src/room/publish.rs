//! Publishing: announced by `add_track`, bound by an offer, told to all, ended.

use super::track::{self, CodecTrack, Publication};
use super::webhooks::brief;
use super::{Now, Room, Seat};
use crate::ids::{Ssrc, TrackSid, UpTrackId};
use crate::plan::{Command, Format, Kind};
use crate::protocol::livekit::{
    AddTrackRequest, AudioTrackFeature, MuteTrackRequest, TrackPublishedResponse, TrackType,
    UpdateLocalAudioTrack, UpdateLocalVideoTrack, request_response, signal_response,
};
use std::time::Duration;

/// Announced tracks that no offer has carried yet (livekit 1.13.5 `participant.go`).
const MAX_PENDING: usize = 20;
/// Announced tracks of one id: one is pending, the others wait for its end (livekit 1.13.5 `participant.go`).
const MAX_OF_ONE_ID: usize = 3;
/// A simulcast track whose packets do not come (camera off at publish) is announced all the same. The reference waits
/// for ever.
pub(super) const ANNOUNCE_ANYWAY: Duration = Duration::from_secs(2);

/// Said of an SID that its client has no track of.
pub(super) const NO_SUCH_TRACK: &str = "no such track";

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
        if !request.sid.is_empty() {
            return self.add_backup(seat, request);
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
        let limit = self.settings.limits.num_tracks as usize;
        if participant.pending.len().max(participant.queued.len()) >= MAX_PENDING
            || (limit > 0 && self.publications() >= limit)
        {
            return self.refuse_track(seat, Reason::LimitExceeded, "too many tracks", request);
        }
        let pending = participant.pending.iter().map(|track| &track.cid);
        let queued = participant.queued.iter().map(|request| &request.cid);
        let of_this_id = pending.chain(queued).filter(|cid| **cid == request.cid);
        match of_this_id.count() {
            0 => self.publish_pending(now, seat, request),
            MAX_OF_ONE_ID.. => {
                let text = "too many tracks of this id";
                self.refuse_track(seat, Reason::LimitExceeded, text, request);
            }
            _ => {
                if let Some(participant) = self.participants.get_mut(&seat) {
                    participant.queued.push(request.clone());
                }
                self.refuse_track(seat, Reason::Queued, "", request);
            }
        }
    }

    /// Another track of the same id waits for the end of this one.
    fn publish_queued(&mut self, now: Now, seat: Seat, cid: &str) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let mut queued = participant.queued.iter();
        if let Some(place) = queued.position(|request| request.cid == cid) {
            let request = participant.queued.remove(place);
            self.publish_pending(now, seat, request);
        }
    }

    fn publish_pending(&mut self, now: Now, seat: Seat, request: AddTrackRequest) {
        let up = UpTrackId(self.issue());
        let mut track = Publication::new(&request, up, &mut self.random);
        for _ in 1..track.info.codecs.len() {
            let up = UpTrackId(self.issue());
            track.backups.push(CodecTrack::new(up));
        }
        for codec in track.codecs() {
            self.ups.insert(codec.up, (seat, track.sid.clone()));
        }
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

    /// Tracks of everybody here, announced or not.
    fn publications(&self) -> usize {
        let tracks = self.participants.values();
        tracks.map(|p| p.tracks.len() + p.pending.len()).sum()
    }

    /// A publication is over.
    pub(super) fn forget_ups(&mut self, track: &Publication) {
        for codec in track.codecs() {
            self.ups.remove(&codec.up);
        }
    }

    pub(super) fn refuse_track(
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
                track.primary.dynacast.start(now.at);
            }
        }
        let muted = track.info.muted && !is_guest;
        let up = track.primary.up;
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
        let is_primary = track.primary.up == up;
        if is_primary {
            track.format_seen(format);
        }
        let news = track.layer_seen(up, spatial, ssrc) && is_primary;
        let (announced, kind) = (track.announced, track.kind);
        if news && announced && kind == Kind::Video {
            track.touch(now);
        }
        if is_primary {
            self.primary_came(now, seat, &sid, format.codec);
        } else {
            self.backup_came(now, seat, &sid, up, format.codec);
        }
        if !announced && is_primary {
            self.announce(now, seat, &sid);
        } else if news && kind == Kind::Video {
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
        let publisher = participant.is_active().then(|| brief(participant));
        self.forget_ups(&track);
        self.tracks.remove(sid);
        if track.announced {
            self.changed(now, seat);
            if let Some(publisher) = publisher {
                self.hook_unpublished(now, publisher, track.info);
            }
        }
        self.end_track(now, sid);
        self.publish_queued(now, seat, &track.cid);
    }

    pub(super) fn mute_own_track(&mut self, now: Now, seat: Seat, mute: MuteTrackRequest) {
        if !self.mute_track(now, seat, &mute.sid, mute.muted) {
            let echo = request_response::Request::Mute(mute);
            self.refuse_unknown(seat, echo);
        }
    }

    fn refuse_unknown(&mut self, seat: Seat, echo: request_response::Request) {
        let reason = request_response::Reason::NotFound;
        self.refuse(seat, 0, reason, NO_SUCH_TRACK, Some(echo));
    }

    /// `false`: there is no such track.
    pub(super) fn mute_track(&mut self, now: Now, seat: Seat, sid: &str, muted: bool) -> bool {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return false;
        };
        let worker = participant.worker;
        let Some(track) = participant.own_track(sid) else {
            return false;
        };
        if track.info.muted == muted {
            return true;
        }
        track.info.muted = muted;
        track.touch(now);
        for codec in track.codecs_mut() {
            codec.quality.change(now.at);
            codec.heard = None;
        }
        let live = track.codecs().filter(|codec| codec.is_live());
        let ups: Vec<UpTrackId> = live.map(|codec| codec.up).collect();
        let announced = track.announced;
        let sid = track.sid.clone();
        // Whoever announces it tells the worker.
        if !participant.tracks.contains_key(&sid) {
            return true;
        }
        for up in ups {
            self.command(worker, Command::SetMuted { up, muted });
        }
        if announced {
            self.changed(now, seat);
        }
        if !muted {
            self.repeat_demand(seat, &sid);
        }
        true
    }

    pub(super) fn update_audio_track(
        &mut self,
        now: Now,
        seat: Seat,
        mut update: UpdateLocalAudioTrack,
    ) {
        update.features = track::known::<AudioTrackFeature>(&update.features);
        let is_there = self.update_track(now, seat, &update.track_sid, |track| {
            track.set_features(&update.features);
        });
        if !is_there {
            let echo = request_response::Request::UpdateAudioTrack(update);
            self.refuse_unknown(seat, echo);
        }
    }

    pub(super) fn update_video_track(
        &mut self,
        now: Now,
        seat: Seat,
        update: UpdateLocalVideoTrack,
    ) {
        let is_there = self.update_track(now, seat, &update.track_sid, |track| {
            track.set_size(update.width, update.height);
        });
        if !is_there {
            let echo = request_response::Request::UpdateVideoTrack(update);
            self.refuse_unknown(seat, echo);
        }
    }

    /// `false`: there is no such track.
    fn update_track(
        &mut self,
        now: Now,
        seat: Seat,
        sid: &str,
        change: impl FnOnce(&mut Publication),
    ) -> bool {
        let participant = self.participants.get_mut(&seat);
        let Some(track) = participant.and_then(|participant| participant.own_track(sid)) else {
            return false;
        };
        change(track);
        track.touch(now);
        if track.announced {
            self.changed(now, seat);
        }
        true
    }
}
