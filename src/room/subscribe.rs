//! Who receives what: wanted, allowed, bound to a section, told to the publisher.

use super::backup::Waiting;
use super::participant::Participant;
use super::quality::DownQuality;
use super::settings::TrackSettings;
use super::{DownOwner, Fault, Mirror, Now, Room, Seat};
use crate::ids::{DownTrackId, Ssrc, TrackSid, UpTrackId, WorkerId};
use crate::negotiate::SendSpec;
use crate::plan::{Codec, Command, DownTrackPlan, Format, Kind, Wanted};
use crate::protocol::livekit::{
    AudioTrackFeature, StreamStateInfo, StreamStateUpdate, SubscriptionError, SubscriptionResponse,
    TrackSubscribed, UpdateSubscription, signal_response,
};
use std::collections::HashSet;
use std::time::Instant;

/// Ids of tracks that are read of one message, more than the tracks of any room that a client could show.
pub(super) const MAX_IDS: usize = 4096;

/// One participant's subscription to one track.
#[derive(Debug)]
pub(super) struct Subscription {
    /// The subscriber wants it.
    pub(super) desired: bool,
    pub(super) settings: TrackSettings,
    /// New settings take effect at this moment (debounce).
    pub(super) apply_at: Option<Instant>,
    pub(super) down: Option<Down>,
    /// The publisher does not let the subscriber have it, and the subscriber was told.
    pub(super) refused: bool,
    /// Its publication has ended: it goes away with its down track.
    pub(super) ended: bool,
}

/// The down track of a subscription.
#[derive(Debug)]
pub(super) struct Down {
    pub(super) id: DownTrackId,
    pub(super) kind: Kind,
    pub(super) ssrc: Ssrc,
    pub(super) rtx_ssrc: Option<Ssrc>,
    pub(super) stream_id: String,
    /// A section is agreed.
    pub(super) bound: bool,
    /// The worker has it.
    pub(super) opened: bool,
    /// A section is agreed, and its codec has not come.
    pub(super) waiting: Option<Waiting>,
    /// The publisher knows.
    pub(super) told: bool,
    /// The worker sends its last frames.
    pub(super) closing: bool,
    /// How it arrives.
    pub(super) quality: DownQuality,
}

impl Down {
    /// How long its subscriber waits for its codec in silence.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.waiting.as_ref()?.until()
    }
}

impl Room {
    /// Everything that is published, for somebody who has just come.
    pub(super) fn subscribe_to_all(&mut self, now: Now, seat: Seat) {
        if !self.participant(seat).is_some_and(|p| p.auto_subscribe) {
            return;
        }
        let mut all: Vec<(Seat, TrackSid)> = self
            .participants
            .values()
            .filter(|p| p.seat != seat)
            .flat_map(|p| {
                p.tracks
                    .values()
                    .filter(|t| t.announced)
                    .map(|t| (p.seat, t.sid.clone()))
            })
            .collect();
        all.sort();
        for (_, sid) in all {
            self.subscribe(now, seat, &sid);
        }
    }

    /// Makes a subscription wanted; a down track is made when that is allowed. The wish of one who may not subscribe is
    /// kept (livekit 1.13.5 `subscriptionmanager.go`), unless it is what its client wants of every track: a room may
    /// have many who only publish.
    pub(super) fn subscribe(&mut self, now: Now, seat: Seat, sid: &TrackSid) {
        let Some(&publisher) = self.tracks.get(sid) else {
            return;
        };
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        if publisher == seat {
            return;
        }
        let adaptive = participant.adaptive_stream;
        let settings = participant.awaited.take(sid);
        let is_default = participant.auto_subscribe
            && settings.is_none()
            && !participant.subscriptions.contains_key(sid);
        if is_default && !participant.permission.can_subscribe {
            return;
        }
        let subscription = participant
            .subscriptions
            .entry(sid.clone())
            .or_insert_with(|| Subscription::new(adaptive));
        if let Some(settings) = settings {
            subscription.settings = settings;
        }
        subscription.desired = true;
        // A track may come back under its name: with somebody who is moved here, or is forwarded here again.
        subscription.ended = false;
        self.start_down(now, seat, publisher, sid);
    }

    /// Makes the down track of a wanted, allowed subscription and asks for a section.
    pub(super) fn start_down(&mut self, now: Now, seat: Seat, publisher: Seat, sid: &TrackSid) {
        let Some(source) = self.participants.get(&publisher) else {
            return;
        };
        let Some(track) = source.tracks.get(sid) else {
            return;
        };
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        if !participant.permission.can_subscribe {
            return;
        }
        let over = self.over_subscription_limit(participant, track.kind);
        let Some(subscription) = participant.subscriptions.get(sid) else {
            return;
        };
        if subscription.down.is_some() || !subscription.desired || over {
            return;
        }
        if !source.lets(participant, sid.as_str()) {
            return self.say_refused(seat, publisher, sid);
        }
        let formats = formats_for(track.kind, track.formats());
        let sync = self.settings.defaults.sync_streams
            && participant.protocol > 9
            && !participant.is_firefox();
        let stream = if sync {
            track.info.stream.as_str()
        } else {
            sid.as_str()
        };
        let stream_id = format!("{}|{stream}", source.sid);
        let kind = track.kind;
        let up = track.first_choice();
        let stereo = track.has_feature(AudioTrackFeature::TfStereo);
        let publisher_red = formats
            .first()
            .is_some_and(|format| format.codec == Codec::Red);
        let worker = participant.worker;
        let id = DownTrackId(self.issue());
        let ssrc = Ssrc(self.random.u32());
        let rtx_ssrc = (kind == Kind::Video).then(|| Ssrc(self.random.u32()));
        let spec = SendSpec {
            down: id,
            kind,
            formats,
            stream_id: stream_id.clone(),
            track_sid: sid.clone(),
            ssrc,
            rtx_ssrc,
            stereo,
            publisher_red,
        };
        // The subscriber must know the publisher before it meets the track.
        self.tell_pending_of(publisher);
        self.downs.insert(
            id,
            DownOwner {
                subscriber: seat,
                track: sid.clone(),
                up,
                worker,
                demand: None,
            },
        );
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        if let Some(connection) = participant.downstream_mut() {
            connection.negotiator.attach(spec);
            connection.want_negotiation(now.at);
        }
        if let Some(subscription) = participant.subscriptions.get_mut(sid) {
            subscription.refused = false;
            subscription.down = Some(Down {
                id,
                kind,
                ssrc,
                rtx_ssrc,
                stream_id,
                bound: false,
                opened: false,
                waiting: None,
                told: false,
                closing: false,
                quality: DownQuality::default(),
            });
        }
        self.say_allowed(seat, publisher, sid.as_str(), true);
        self.ask(now, id, self.demand(seat, sid));
    }

    /// The subscriber hears that its publisher does not let it have a track, once while it wants it.
    fn say_refused(&mut self, seat: Seat, publisher: Seat, sid: &TrackSid) {
        let subscription = self
            .participants
            .get_mut(&seat)
            .and_then(|participant| participant.subscriptions.get_mut(sid));
        if subscription.is_some_and(|s| !std::mem::replace(&mut s.refused, true)) {
            self.say_allowed(seat, publisher, sid.as_str(), false);
        }
    }

    /// The right to subscribe came or went: what is wanted starts, or all of it stops and stays wanted.
    pub(super) fn subscribing_changed(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        let mut wanted: Vec<TrackSid> = participant.subscriptions.keys().cloned().collect();
        wanted.sort();
        if participant.permission.can_subscribe {
            for sid in wanted {
                if let Some(&publisher) = self.tracks.get(&sid) {
                    self.start_down(now, seat, publisher, &sid);
                }
            }
            self.subscribe_to_new(now, seat);
        } else {
            for sid in wanted {
                self.stop_down(now, seat, &sid);
            }
        }
    }

    /// Tracks that were published while the participant might not subscribe, and of which it said nothing.
    fn subscribe_to_new(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        let mut fresh: Vec<TrackSid> = self
            .tracks
            .keys()
            .filter(|sid| participant.wants(sid) && !participant.subscriptions.contains_key(*sid))
            .cloned()
            .collect();
        fresh.sort();
        for sid in fresh {
            self.subscribe(now, seat, &sid);
        }
    }

    /// So many tracks may one participant have; 0: all.
    fn subscription_limit(&self, kind: Kind) -> u32 {
        let limits = &self.settings.limits;
        match kind {
            Kind::Audio => limits.subscription_limit_audio,
            Kind::Video => limits.subscription_limit_video,
        }
    }

    fn over_subscription_limit(&self, participant: &Participant, kind: Kind) -> bool {
        let limit = self.subscription_limit(kind);
        let used = participant
            .subscriptions
            .values()
            .filter(|s| s.down.as_ref().is_some_and(|down| down.kind == kind))
            .count();
        limit > 0 && used >= limit as usize
    }

    pub(super) fn update_subscription(
        &mut self,
        now: Now,
        seat: Seat,
        update: &UpdateSubscription,
    ) {
        let listed = update
            .participant_tracks
            .iter()
            .flat_map(|tracks| &tracks.track_sids);
        let mut sids: Vec<&str> = update
            .track_sids
            .iter()
            .chain(listed)
            .take(MAX_IDS)
            .map(String::as_str)
            .collect();
        sids.sort_unstable();
        sids.dedup();
        for sid in sids {
            if update.subscribe {
                self.subscribe_or_await(now, seat, sid);
            } else {
                self.unsubscribe(now, seat, sid);
            }
        }
    }

    fn subscribe_or_await(&mut self, now: Now, seat: Seat, sid: &str) {
        if let Some((sid, _)) = self.tracks.get_key_value(sid) {
            let sid = sid.clone();
            self.subscribe(now, seat, &sid);
        } else if let Some(participant) = self.participants.get_mut(&seat)
            && !participant.awaited.want(now.at, sid)
        {
            self.fault(Fault::AwaitedTracks);
        }
    }

    /// What is kept of a participant's wish for a track, if anything is. Of one that comes anyhow as soon as it may
    /// subscribe, something is kept from now on.
    pub(super) fn wish(&mut self, seat: Seat, sid: &str) -> Option<&mut Subscription> {
        let participant = self.participants.get_mut(&seat)?;
        if participant.auto_subscribe
            && !participant.subscriptions.contains_key(sid)
            && let Some((sid, publisher)) = self.tracks.get_key_value(sid)
            && *publisher != seat
        {
            let subscription = Subscription::new(participant.adaptive_stream);
            participant.subscriptions.insert(sid.clone(), subscription);
        }
        participant.subscriptions.get_mut(sid)
    }

    fn unsubscribe(&mut self, now: Now, seat: Seat, sid: &str) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        participant.awaited.forget(sid);
        if let Some(subscription) = self.wish(seat, sid) {
            subscription.desired = false;
            subscription.refused = false;
            self.stop_down(now, seat, &TrackSid::from(sid));
        }
    }

    /// Ends the down track of a subscription: at once when it has no section, else after its last frames.
    pub(super) fn stop_down(&mut self, now: Now, seat: Seat, sid: &TrackSid) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let worker = participant.worker;
        let Some(down) = participant
            .subscriptions
            .get_mut(sid)
            .and_then(|s| s.down.as_mut())
        else {
            return;
        };
        if std::mem::replace(&mut down.closing, true) {
            return;
        }
        let (id, opened) = (down.id, down.opened);
        self.ask(now, id, None);
        if opened {
            self.command(worker, Command::CloseDown { down: id });
        } else {
            self.down_closed(now, id);
        }
    }

    /// A down track has sent its last: its section is free again.
    pub(super) fn down_closed(&mut self, now: Now, id: DownTrackId) {
        let Some(owner) = self.forget_down(now, id) else {
            return;
        };
        let Some(participant) = self.participants.get_mut(&owner.subscriber) else {
            return;
        };
        if let Some(connection) = participant.downstream_mut() {
            connection.negotiator.detach(id);
            connection.want_negotiation(now.at);
        }
        let Some(subscription) = participant.subscriptions.get_mut(&owner.track) else {
            return;
        };
        let kind = subscription.down.take().map(|down| down.kind);
        if subscription.ended {
            participant.subscriptions.remove(&owner.track);
        } else if subscription.desired
            && let Some(&publisher) = self.tracks.get(&owner.track)
        {
            // Wanted again while it was closing; or revoked, which the subscriber hears now that it has ended.
            self.start_down(now, owner.subscriber, publisher, &owner.track);
        }
        if let Some(kind) = kind {
            self.start_waiting(now, owner.subscriber, kind);
        }
    }

    /// A place under the limit of subscriptions is free: another track that is wanted gets it.
    fn start_waiting(&mut self, now: Now, seat: Seat, kind: Kind) {
        if self.subscription_limit(kind) == 0 {
            return;
        }
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        let mut waiting: Vec<(TrackSid, Seat)> = participant
            .subscriptions
            .iter()
            .filter(|(_, subscription)| subscription.desired && subscription.down.is_none())
            .filter_map(|(sid, _)| {
                let publisher = *self.tracks.get(sid)?;
                let track = self.publication(publisher, sid)?;
                (track.kind == kind).then(|| (sid.clone(), publisher))
            })
            .collect();
        waiting.sort();
        for (sid, publisher) in waiting {
            self.start_down(now, seat, publisher, &sid);
        }
    }

    /// Takes a down track out of the room's books; ends the mirror that only it needed.
    pub(super) fn forget_down(&mut self, now: Now, id: DownTrackId) -> Option<DownOwner> {
        self.ask(now, id, None);
        let owner = self.downs.remove(&id)?;
        self.leave_mirror(id, owner.up, owner.worker);
        Some(owner)
    }

    /// A down track needs this mirror no more.
    pub(super) fn leave_mirror(&mut self, id: DownTrackId, up: UpTrackId, to: WorkerId) {
        let Some(mirror) = self.mirrors.get_mut(&(up, to)) else {
            return;
        };
        mirror.downs.remove(&id);
        if mirror.downs.is_empty() {
            // The track may live on in another room, so its worker is told whoever published it here.
            let origin = mirror.origin;
            self.mirrors.remove(&(up, to));
            self.command(to, Command::CloseMirror { up });
            self.command(origin, Command::SetMirror { up, to, on: false });
        }
    }

    fn worker_of(&self, up: UpTrackId) -> Option<WorkerId> {
        let (seat, _) = self.ups.get(&up)?;
        Some(self.participants.get(seat)?.worker)
    }

    /// Hands a bound down track to its worker, which may first need a mirror of the track.
    pub(super) fn open_down(&mut self, seat: Seat, plan: DownTrackPlan) {
        let Some(worker) = self.participants.get(&seat).map(|p| p.worker) else {
            return;
        };
        let Some(origin) = self.worker_of(plan.up) else {
            return;
        };
        if origin != worker {
            let mirror = self
                .mirrors
                .entry((plan.up, worker))
                .or_insert_with(|| Mirror {
                    origin,
                    downs: HashSet::new(),
                });
            let first = mirror.downs.is_empty();
            mirror.downs.insert(plan.down);
            if first {
                let (up, kind) = (plan.up, plan.kind);
                self.command(
                    worker,
                    Command::OpenMirror {
                        up,
                        from: origin,
                        kind,
                    },
                );
                self.command(
                    origin,
                    Command::SetMirror {
                        up,
                        to: worker,
                        on: true,
                    },
                );
            }
        }
        self.command(
            worker,
            Command::OpenDown {
                plan: Box::new(plan),
            },
        );
    }

    /// The client stopped a section and there is no other: the track waits, silent, until there is.
    pub(super) fn unbind(&mut self, seat: Seat, id: DownTrackId) {
        let Some(owner) = self.downs.get(&id) else {
            return;
        };
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let worker = participant.worker;
        let down = participant
            .subscriptions
            .get_mut(&owner.track)
            .and_then(|subscription| subscription.down.as_mut());
        if let Some(down) = down
            && std::mem::replace(&mut down.bound, false)
            && down.waiting.take().is_none()
        {
            let wanted = Wanted {
                paused: true,
                max_spatial: 0,
                max_temporal: 0,
            };
            self.command(worker, Command::SetWanted { down: id, wanted });
        }
    }

    /// `track_subscribed`: the first time that somebody visible has a track, bound and connected.
    pub(super) fn tell_publishers_of_bound(&mut self, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        if !participant
            .downstream()
            .is_some_and(|connection| connection.connected)
        {
            return;
        }
        let hidden = participant.permission.hidden;
        let mut sids = Vec::new();
        for (sid, subscription) in &mut participant.subscriptions {
            if let Some(down) = subscription
                .down
                .as_mut()
                .filter(|d| d.bound && d.waiting.is_none() && !d.told && !d.closing)
            {
                down.told = true;
                sids.push(sid.clone());
            }
        }
        if hidden {
            return;
        }
        for sid in sids {
            let Some(&publisher) = self.tracks.get(&sid) else {
                continue;
            };
            let Some(track) = self
                .participants
                .get_mut(&publisher)
                .and_then(|p| p.tracks.get_mut(&sid))
            else {
                continue;
            };
            if !std::mem::replace(&mut track.subscribed, true) {
                let message = TrackSubscribed {
                    track_sid: sid.as_str().to_owned(),
                };
                self.send(
                    publisher,
                    signal_response::Message::TrackSubscribed(message),
                );
            }
        }
    }

    /// v0 clients are told that a video flows, once (livekit.md 14: never in single-connection mode).
    pub(super) fn down_started(&mut self, id: DownTrackId) {
        let Some(owner) = self.downs.get(&id) else {
            return;
        };
        let seat = owner.subscriber;
        let track_sid = owner.track.as_str().to_owned();
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        let video = participant
            .subscriptions
            .get(&owner.track)
            .and_then(|s| s.down.as_ref())
            .is_some_and(|down| down.kind == Kind::Video);
        if participant.single_pc || !video {
            return;
        }
        let publisher = self
            .tracks
            .get(&owner.track)
            .and_then(|seat| self.participants.get(seat));
        let Some(participant_sid) = publisher.map(|p| p.sid.as_str().to_owned()) else {
            return;
        };
        let state = StreamStateInfo {
            participant_sid,
            track_sid,
            ..Default::default()
        };
        let message = StreamStateUpdate {
            stream_states: vec![state],
        };
        self.send(seat, signal_response::Message::StreamStateUpdate(message));
    }

    /// No payload type could be agreed for a track.
    pub(super) fn codec_unsupported(&mut self, now: Now, seat: Seat, id: DownTrackId) {
        let Some(owner) = self.downs.get(&id) else {
            return;
        };
        let track = owner.track.clone();
        let mut opened_on = None;
        if let Some(participant) = self.participants.get_mut(&seat)
            && let Some(subscription) = participant.subscriptions.get_mut(&track)
        {
            subscription.desired = false;
            let opened = subscription.down.as_ref().is_some_and(|down| down.opened);
            opened_on = opened.then_some(participant.worker);
        }
        if let Some(worker) = opened_on {
            self.command(worker, Command::CloseDown { down: id });
        }
        self.down_closed(now, id);
        let response = SubscriptionResponse {
            track_sid: track.as_str().to_owned(),
            err: SubscriptionError::SeCodecUnsupported as i32,
        };
        self.send(
            seat,
            signal_response::Message::SubscriptionResponse(response),
        );
    }

    /// A publication has ended: so do all its subscriptions.
    pub(super) fn end_track(&mut self, now: Now, sid: &TrackSid) {
        let seats: Vec<Seat> = self.participants.keys().copied().collect();
        for seat in seats {
            let Some(participant) = self.participants.get_mut(&seat) else {
                continue;
            };
            let Some(subscription) = participant.subscriptions.get_mut(sid) else {
                continue;
            };
            subscription.desired = false;
            subscription.ended = true;
            if subscription.down.is_some() {
                self.stop_down(now, seat, sid);
            } else {
                participant.subscriptions.remove(sid);
            }
        }
    }

    /// Somebody is shown who was hidden. The clients of the others have dropped its tracks, or never knew whose they
    /// are: they get them anew.
    pub(super) fn bring_again(&mut self, now: Now, publisher: Seat) {
        let Some(participant) = self.participants.get(&publisher) else {
            return;
        };
        let sids: Vec<TrackSid> = participant.tracks.keys().cloned().collect();
        for sid in sids {
            let others = self.participants.values();
            let getting = others.filter(|other| {
                let subscription = other.subscriptions.get(&sid);
                subscription.is_some_and(|subscription| subscription.down.is_some())
            });
            let getting: Vec<Seat> = getting.map(|other| other.seat).collect();
            for other in getting {
                self.stop_down(now, other, &sid);
            }
        }
        self.name_data_tracks_again(publisher);
    }

    /// A participant is gone: all subscriptions to its tracks end.
    pub(super) fn end_subscriptions_to(&mut self, now: Now, gone: &Participant) {
        for sid in gone.tracks.keys() {
            self.end_track(now, sid);
        }
    }
}

impl Subscription {
    fn new(adaptive: bool) -> Self {
        Self {
            desired: true,
            settings: TrackSettings::initial(adaptive),
            apply_at: None,
            down: None,
            refused: false,
            ended: false,
        }
    }
}

/// What a publisher may send, as a subscriber can get it: RED is unwrapped for those who take Opus alone.
fn formats_for(kind: Kind, mut all: Vec<Format>) -> Vec<Format> {
    let opus = Format {
        codec: Codec::Opus,
        variant: 0,
    };
    if kind == Kind::Audio && all.iter().any(|f| f.codec == Codec::Red) && !all.contains(&opus) {
        all.push(opus);
    }
    all
}
