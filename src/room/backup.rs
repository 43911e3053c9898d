//! Backup codecs: a video that is published in VP9 for those who take it comes in VP8 too once somebody takes nothing
//! else (livekit 1.13.5 `mediatrack.go`, `mediatrackreceiver.go`, `wrappedreceiver.go`).
//!
//! 1. `add_track` announces the codecs, the primary first; each has an up track of its own from then on.
//! 2. A subscriber is offered all of them. What it agrees to decides which one its down track takes; a codec that has not
//!    come is waited for.
//! 3. Its wish is counted for that codec (`super::dynacast`), which asks the publisher for it.
//! 4. The publisher sends `add_track` with the SID, then an offer with a further section. Whoever waited gets it.
//! 5. If the publication's policy is regression, everybody who takes it gets it from its first packet on, and the primary
//!    is wanted by the others alone. A down track goes on with the other codec, or, if its client cannot change codecs,
//!    ends and begins anew.
//!
//! What a codec really is, its packets tell: a publisher's section lists others that its encoder may fall back to. Who
//! does not take what comes gets the next codec of the publication, or hears CODEC_UNSUPPORTED.
//!
//! A publication ends with its primary; a backup that ends alone is asked for again when somebody needs it.

use super::connection::Connection;
use super::participant::Participant;
use super::publish::NO_SUCH_TRACK;
use super::quality::UpQuality;
use super::track::{self, CodecTrack, Publication};
use super::{Now, Room, Seat};
use crate::ids::{DownTrackId, Mid, TrackSid, TransportId, UpTrackId};
use crate::negotiate::{Bound, Publish};
use crate::plan::{Codec, Command, Kind, SendFormat};
use crate::protocol::livekit::{
    AddTrackRequest, BackupCodecPolicy, SubscriptionError, SubscriptionResponse,
    TrackPublishedResponse, request_response, signal_response,
};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The backup that is preferred after a regression: the first (livekit 1.13.5 `mediatrack.go`).
const TARGET: usize = 1;
/// With this many participants codecs are not regressed where that is only preferred (livekit 1.13.5
/// `video.codec_regression_threshold`).
const CROWD: usize = 5;
/// A subscriber whose codec has not come after this time hears that there is something wrong, and goes on waiting
/// (livekit 1.13.5 `subscriptionTimeout`).
const PATIENCE: Duration = Duration::from_secs(15);

/// A down track that has a section, and whose codec has not come.
#[derive(Debug)]
pub(super) struct Waiting {
    /// When the subscriber hears of it; `None`: it has.
    until: Option<Instant>,
}

impl Waiting {
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// Why a client cannot publish another codec of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum BackupRefused {
    #[error("this codec was not announced as a backup")]
    NotAnnounced,
    #[error("this codec is published already")]
    Published,
}

/// Which codecs of a publication come, and whether it is regressed.
#[derive(Debug)]
pub(super) struct Coming {
    live: Vec<bool>,
    regressed: bool,
    /// What the packets of the primary are.
    came: Option<Codec>,
}

impl Room {
    /// `add_track` with the SID of a track: its publisher is about to send another codec of it.
    pub(super) fn add_backup(&mut self, seat: Seat, request: AddTrackRequest) {
        use request_response::Reason;
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let Some(track) = participant.tracks.get_mut(request.sid.as_str()) else {
            return self.refuse_track(seat, Reason::NotFound, NO_SUCH_TRACK, request);
        };
        // The request need not repeat what the track is, and the Go SDK does not.
        if !participant.permission.may_publish(track.info.source()) {
            let text = "does not have permission to publish";
            return self.refuse_track(seat, Reason::NotAllowed, text, request);
        }
        match track.expect_backups(&request) {
            Ok(()) => {
                let response = TrackPublishedResponse {
                    cid: request.cid,
                    track: Some(track.info.clone()),
                };
                self.send(seat, signal_response::Message::TrackPublished(response));
            }
            Err(refused) => {
                let reason = match refused {
                    BackupRefused::NotAnnounced => Reason::UnsupportedType,
                    BackupRefused::Published => Reason::InvalidRequest,
                };
                self.refuse_track(seat, reason, &refused.to_string(), request);
            }
        }
    }

    /// What the SDP machine must know of a track.
    pub(super) fn publish_of(&self, up: UpTrackId) -> Option<Publish> {
        let (seat, sid) = self.ups.get(&up)?;
        let track = self.publication(*seat, sid)?;
        track.publish(track.place_of(up)?)
    }

    /// The publications that end because the client has stopped these tracks. Their backups are read no more, whatever
    /// the client goes on sending.
    pub(super) fn ended_with(
        &self,
        seat: Seat,
        connection: &mut Connection,
        stopped: &[UpTrackId],
        matched: &mut HashMap<Mid, UpTrackId>,
    ) -> Vec<TrackSid> {
        let mut ended = Vec::new();
        for up in stopped {
            let sid = self.ups.get(up).map(|(_, sid)| sid);
            let Some(track) = sid.and_then(|sid| self.publication(seat, sid)) else {
                continue;
            };
            if track.primary.up == *up {
                ended.push(track.sid.clone());
                for backup in &track.backups {
                    matched.retain(|_, up| *up != backup.up);
                    connection.negotiator.unpublish(backup.up);
                }
            }
        }
        ended
    }

    /// The section of a backup is agreed: whoever waits gets it.
    pub(super) fn backup_comes(&mut self, now: Now, up: UpTrackId) {
        let Some((seat, sid)) = self.ups.get(&up).cloned() else {
            return;
        };
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let worker = participant.worker;
        let Some(track) = participant.tracks.get_mut(&sid) else {
            return;
        };
        let (kind, muted) = (track.kind, track.info.muted);
        if let Some(codec) = track.codec_track_mut(up).filter(|_| kind == Kind::Video) {
            codec.dynacast.start(now.at);
        }
        if muted {
            self.command(worker, Command::SetMuted { up, muted });
        }
        self.open_waiting(now, &sid, up);
        self.reflect(seat);
    }

    /// A packet of a primary has told its codec: whoever does not take that gets another one, or hears so.
    pub(super) fn primary_came(&mut self, now: Now, seat: Seat, sid: &TrackSid, came: Codec) {
        let Some(track) = self.publication_mut(seat, sid) else {
            return;
        };
        let before = track.coming();
        if track.primary.came.replace(came) != Some(came) {
            self.codecs_changed(now, seat, sid, &before);
            self.reflect(seat);
        }
    }

    /// A packet of a backup has come: everybody who takes it gets it, where that is the policy.
    pub(super) fn backup_came(
        &mut self,
        now: Now,
        seat: Seat,
        sid: &TrackSid,
        up: UpTrackId,
        came: Codec,
    ) {
        let crowded = self.participants.len() >= CROWD;
        let Some(track) = self.publication_mut(seat, sid) else {
            return;
        };
        let before = track.coming();
        let is_target = track.place_of(up) == Some(TARGET);
        let codec = track.codec_track_mut(up).filter(|codec| codec.is_live());
        let is_first = codec.is_some_and(|codec| codec.came.replace(came).is_none());
        if !is_target || !is_first {
            return;
        }
        track.regressed = match track.info.backup_codec_policy() {
            BackupCodecPolicy::PreferRegression => !crowded,
            BackupCodecPolicy::Regression => true,
            BackupCodecPolicy::Simulcast => false,
        };
        if track.regressed {
            self.codecs_changed(now, seat, sid, &before);
            self.reflect(seat);
        }
    }

    /// The client sends a backup no more, and its primary still: whoever had it waits for it again, or gets the primary.
    pub(super) fn backup_ended(&mut self, now: Now, up: UpTrackId) {
        let Some((seat, sid)) = self.ups.get(&up).cloned() else {
            return;
        };
        let Some(track) = self.publication_mut(seat, &sid) else {
            return;
        };
        let before = track.coming();
        track.withdraw(up);
        self.codecs_changed(now, seat, &sid, &before);
        self.reflect(seat);
    }

    /// Does for the subscribers of a track what follows from codecs that come, end, or prove to be others.
    pub(super) fn codecs_changed(&mut self, now: Now, seat: Seat, sid: &TrackSid, before: &Coming) {
        let Some(track) = self.publication(seat, sid) else {
            return;
        };
        let was_live = before.live.iter().copied();
        let (mut ended, mut come) = (Vec::new(), Vec::new());
        for (codec, was_live) in track.codecs().zip(was_live) {
            match (was_live, codec.is_live()) {
                (true, false) => ended.push(codec.up),
                (false, true) => come.push(codec.up),
                _ => {}
            }
        }
        let regressed = track.regressed && !before.regressed;
        let shown = (track.primary.came != before.came).then_some(track.primary.up);
        let target = track.codecs().nth(TARGET).map(|codec| codec.up);
        for up in come {
            self.open_waiting(now, sid, up);
        }
        for (_, seat) in self.downs_of(sid, |up| ended.contains(&up)) {
            // It begins anew when it has ended.
            self.stop_down(now, seat, sid);
        }
        let is_left = |up| regressed && Some(up) != target;
        for (id, subscriber) in self.downs_of(sid, |up| is_left(up) || Some(up) == shown) {
            let connection = self
                .participant(subscriber)
                .and_then(Participant::downstream);
            let bound = connection.and_then(|connection| connection.negotiator.bound(id));
            let track = self.publication(seat, sid);
            let chosen = bound.and_then(|bound| track.map(|track| track.choose(bound)));
            let up = self.downs.get(&id).map(|owner| owner.up);
            // Whoever has no section yet will choose.
            if chosen != Some(up) && (chosen.is_some() || up.is_some_and(is_left)) {
                self.choose_again(now, subscriber, sid, id);
            }
        }
    }

    /// Down tracks of a publication that have, or are to have, certain of its codecs, and whose they are.
    fn downs_of(
        &self,
        sid: &TrackSid,
        concerns: impl Fn(UpTrackId) -> bool,
    ) -> Vec<(DownTrackId, Seat)> {
        let owners = self.downs.iter().filter(|(_, owner)| owner.track == *sid);
        let concerned = owners.filter(|(_, owner)| concerns(owner.up));
        let mut downs: Vec<(DownTrackId, Seat)> = concerned
            .map(|(id, owner)| (*id, owner.subscriber))
            .collect();
        downs.sort_unstable();
        downs
    }

    /// A down track may not have its codec any more.
    fn choose_again(&mut self, now: Now, seat: Seat, sid: &TrackSid, id: DownTrackId) {
        let connection = self.participant(seat).and_then(Participant::downstream);
        let agreed = connection.and_then(|connection| {
            let bound = connection.negotiator.bound(id)?.clone();
            Some((connection.transport, bound))
        });
        match agreed {
            Some((transport, bound)) => self.take_codec(now, seat, transport, bound),
            None => self.stop_down(now, seat, sid),
        }
    }

    /// A negotiation gave a down track a section: it takes a codec that was agreed to, or waits for it.
    pub(super) fn take_codec(
        &mut self,
        now: Now,
        seat: Seat,
        transport: TransportId,
        mut bound: Bound,
    ) {
        let id = bound.down;
        let Some(owner) = self.downs.get(&id) else {
            return;
        };
        let sid = owner.track.clone();
        let (before, worker) = (owner.up, owner.worker);
        let track = self.tracks.get(&sid);
        let Some(track) = track.and_then(|publisher| self.publication(*publisher, &sid)) else {
            return;
        };
        let Some(up) = track.choose(&bound) else {
            return self.codec_unsupported(now, seat, id);
        };
        let has_backups = !track.backups.is_empty();
        if let Some(codec) = track
            .place_of(up)
            .filter(|_| has_backups)
            .and_then(|place| track.codec(place))
        {
            let is_its = |sent: &SendFormat| track::is_same(sent.format.codec, codec);
            if self
                .participant(seat)
                .is_some_and(Participant::needs_packets)
            {
                // A greeting of ours must not be taken for another codec.
                bound.formats.retain(is_its);
            } else {
                // Its encoder may fall back to another one that its section lists.
                bound.formats.sort_by_key(|sent| !is_its(sent));
            }
        }
        let is_live = track
            .codecs()
            .any(|codec| codec.up == up && codec.is_live());
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let may_change = is_live && participant.takes_codec_changes();
        let subscription = participant.subscriptions.get_mut(&sid);
        let Some(down) = subscription.and_then(|subscription| subscription.down.as_mut()) else {
            return;
        };
        if down.id != id || down.closing {
            return;
        }
        if down.opened && up != before && !may_change {
            return self.stop_down(now, seat, &sid);
        }
        down.bound = true;
        down.waiting = (!is_live).then(|| Waiting {
            until: Some(now.at + PATIENCE),
        });
        if up != before {
            // Its wish was counted there.
            self.ask(now, id, None);
        }
        if let Some(owner) = self.downs.get_mut(&id) {
            owner.up = up;
        }
        if is_live && let Some(plan) = self.down_plan(seat, transport, bound) {
            self.open_down(seat, plan);
        }
        if up != before {
            // Not sooner: a mirror takes along the down tracks that it has when it is closed.
            self.leave_mirror(id, before, worker);
        }
        if has_backups {
            self.ask(now, id, self.demand(seat, &sid));
        }
    }

    /// A codec has come: down tracks that waited for it begin.
    fn open_waiting(&mut self, now: Now, sid: &TrackSid, up: UpTrackId) {
        for (id, seat) in self.downs_of(sid, |other| other == up) {
            let waiting = self
                .participants
                .get_mut(&seat)
                .and_then(|participant| participant.subscriptions.get_mut(sid)?.down.as_mut())
                .and_then(|down| down.waiting.take());
            if waiting.is_some() {
                self.choose_again(now, seat, sid, id);
                self.tell_publishers_of_bound(seat);
            }
        }
    }

    /// Whoever waits for a codec for long hears of it, once.
    pub(super) fn tell_waiting_if_due(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let mut late = Vec::new();
        for (sid, subscription) in &mut participant.subscriptions {
            let waiting = subscription.down.as_mut().and_then(|d| d.waiting.as_mut());
            if waiting.is_some_and(|w| w.until.take_if(|at| *at <= now.at).is_some()) {
                late.push(sid.as_str().to_owned());
            }
        }
        late.sort_unstable();
        for track_sid in late {
            let response = SubscriptionResponse {
                track_sid,
                err: SubscriptionError::SeUnknown as i32,
            };
            self.send(
                seat,
                signal_response::Message::SubscriptionResponse(response),
            );
        }
    }
}

impl Participant {
    /// A backup whose section comes, of these ids or of any. It is expected no more.
    pub(super) fn expected_backup(
        &mut self,
        kind: Kind,
        cids: Option<&[&str]>,
    ) -> Option<UpTrackId> {
        let tracks = self.tracks.values_mut().filter(|track| track.kind == kind);
        for track in tracks {
            let infos = track.info.codecs.iter().skip(1);
            for (backup, info) in track.backups.iter_mut().zip(infos) {
                if backup.expected && cids.is_none_or(|cids| cids.contains(&info.cid.as_str())) {
                    backup.expected = false;
                    return Some(backup.up);
                }
            }
        }
        None
    }
}

impl Publication {
    /// Takes in which backups are to come; nothing changes when one of them cannot.
    fn expect_backups(&mut self, request: &AddTrackRequest) -> Result<(), BackupRefused> {
        let mut places = Vec::new();
        for codec in &request.simulcast_codecs {
            let cid = match codec.cid.as_str() {
                "" => &request.cid,
                cid => cid,
            };
            let known = Codec::from_mime(&codec.codec);
            let place = (1..=self.backups.len())
                .find(|place| known.is_some() && self.codec(*place) == known)
                .filter(|_| !cid.is_empty())
                .ok_or(BackupRefused::NotAnnounced)?;
            let info = self.info.codecs.get(place);
            let is_live = self.codecs().nth(place).is_some_and(CodecTrack::is_live);
            if is_live && info.is_some_and(|info| info.cid != cid && info.sdp_cid != cid) {
                return Err(BackupRefused::Published);
            }
            if !is_live {
                places.push((place, cid.to_owned(), track::layers_of(codec)));
            }
        }
        if request.simulcast_codecs.is_empty() {
            return Err(BackupRefused::NotAnnounced);
        }
        for (place, cid, layers) in places {
            if let Some(info) = self.info.codecs.get_mut(place) {
                info.cid = cid;
                if let Some(layers) = layers {
                    info.layers = layers;
                }
            }
            if let Some(backup) = self.backups.get_mut(place - 1) {
                backup.expected = true;
            }
        }
        Ok(())
    }

    /// A backup has no section any more.
    fn withdraw(&mut self, up: UpTrackId) {
        let Some(place) = self.place_of(up).filter(|place| *place > 0) else {
            return;
        };
        if let Some(info) = self.info.codecs.get_mut(place) {
            info.mid.clear();
            info.cid.clear();
            info.sdp_cid.clear();
            for layer in &mut info.layers {
                layer.ssrc = 0;
            }
        }
        if let Some(backup) = self.backups.get_mut(place - 1) {
            backup.formats.clear();
            backup.rids.clear();
            backup.heard = None;
            backup.came = None;
            backup.quality = UpQuality::default();
            backup.dynacast.forget();
        }
        if place == TARGET {
            self.regressed = false;
        }
    }

    pub(super) fn coming(&self) -> Coming {
        Coming {
            live: self.codecs().map(CodecTrack::is_live).collect(),
            regressed: self.regressed,
            came: self.primary.came,
        }
    }

    /// The codecs that a subscriber may have, and where they stand.
    fn open_codecs(&self) -> impl Iterator<Item = (usize, &CodecTrack)> {
        let codecs = self.codecs().enumerate();
        codecs.filter(|(place, _)| !self.regressed || *place == TARGET)
    }

    /// The codec that a subscriber has before it has agreed to any.
    pub(super) fn first_choice(&self) -> UpTrackId {
        let mut codecs = self.open_codecs();
        codecs.next().map_or(self.primary.up, |(_, codec)| codec.up)
    }

    /// The first codec among those that a subscriber agreed to.
    fn choose(&self, bound: &Bound) -> Option<UpTrackId> {
        let takes = |codec| {
            let mut agreed = bound.formats.iter();
            agreed.any(|agreed| track::is_same(agreed.format.codec, codec))
        };
        if self.backups.is_empty() {
            // Before its first packet it may be any of those that its section lists.
            let is_taken = self.primary.came.is_none_or(takes);
            return is_taken.then_some(self.primary.up);
        }
        let is_taken = |place: usize| self.codec(place).is_some_and(takes);
        self.open_codecs()
            .find(|(place, _)| is_taken(*place))
            // After a regression, for whoever takes the others alone.
            .or_else(|| {
                let mut live = self.codecs().enumerate().filter(|(_, c)| c.is_live());
                live.find(|(place, _)| is_taken(*place))
            })
            .map(|(_, codec)| codec.up)
    }
}
