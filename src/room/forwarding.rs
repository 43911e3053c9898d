//! A participant is forwarded to another room (`ForwardParticipant`): that one has it too, as a guest.
//!
//! The room that it is in tells what it is and what it publishes (a [`Reflection`], whole, whenever something changes)
//! and how loud it is; the other room tells what its people want of the videos ([`Demands`]). The owner carries both as
//! newest values, so neither room waits for the other and nothing piles up.
//!
//! A guest is a participant without a session and without transports. Its publications are the tracks of the source, so
//! that down tracks are made of them as of any other; whether they are muted, and in which layers they come, is decided
//! where they are published. It keeps no room alive, and ends with the source's stay, by a removal, or with either room.
//!
//! Tracks and what is said of the participant are forwarded; data is not.

use super::admin::CallError;
use super::dynacast::Demand;
use super::participant::{Participant, Permission};
use super::rule::PermissionRule;
use super::track::{CodecTrack, Publication};
use super::{Now, Output, Room, Seat};
use crate::ids::{Identity, ParticipantSid, Rid, TrackSid, UpTrackId, WorkerId};
use crate::plan::{Codec, Format, Kind};
use crate::protocol::livekit::{
    self as proto, ConnectionQuality, DisconnectReason, TrackInfo, participant_info,
};
use crate::protocol::token::Claims;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One participant in one other room, unique in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ForwardId(u64);

/// What the room that a participant is in tells the other one.
#[derive(Debug)]
pub enum Forwarding {
    /// It is like this from now on.
    As(Arc<Reflection>),
    /// Its microphone is as loud as this.
    Loud(f32),
    /// It is gone.
    Ended,
}

/// What the room with the guest tells the one that the participant is in.
#[derive(Debug)]
pub enum Guesting {
    /// This is wanted from now on.
    Asks(Demands),
    /// It is gone.
    Ended,
}

/// A participant as other rooms see it.
#[derive(Debug, Clone)]
pub struct Reflection {
    /// Its stay.
    source: ParticipantSid,
    identity: Identity,
    name: String,
    metadata: String,
    attributes: HashMap<String, String>,
    kind: participant_info::Kind,
    kind_details: Vec<i32>,
    permission: Permission,
    client: proto::ClientInfo,
    rule: PermissionRule,
    worker: WorkerId,
    is_active: bool,
    is_publisher: bool,
    score: f32,
    tracks: Vec<ReflectedTrack>,
}

#[derive(Debug, Clone)]
struct ReflectedTrack {
    info: TrackInfo,
    kind: Kind,
    primary: ReflectedCodec,
    backups: Vec<ReflectedCodec>,
    regressed: bool,
}

#[derive(Debug, Clone)]
struct ReflectedCodec {
    up: UpTrackId,
    came: Option<Codec>,
    formats: Vec<Format>,
    rids: Vec<Rid>,
}

/// The highest quality wanted of each codec of a video that anybody has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demands(BTreeMap<UpTrackId, Demand>);

/// One participant of this room in another one.
#[derive(Debug)]
pub(super) struct Forward {
    seat: Seat,
    asked: Demands,
    /// How good its connection was when that was told.
    quality: ConnectionQuality,
}

/// What makes a participant a guest.
#[derive(Debug)]
pub(super) struct Guest {
    id: ForwardId,
    source: ParticipantSid,
    /// How good its connection is.
    pub(super) score: f32,
    /// As told to the room that it is in.
    asked: Demands,
}

impl Room {
    /// Begins to forward a participant. The owner brings what is returned to the other room, and later news too.
    pub fn forward(&mut self, identity: &str) -> Result<(ForwardId, Arc<Reflection>), CallError> {
        let seat = self.resident(identity)?;
        let participant = self.participants.get(&seat);
        let reflection = participant
            .map(Reflection::of)
            .ok_or(CallError::ParticipantNotFound)?;
        let id = ForwardId(self.issue());
        let forward = Forward {
            seat,
            asked: Demands::default(),
            quality: reflection.quality(),
        };
        self.forwards.insert(id, forward);
        Ok((id, Arc::new(reflection)))
    }

    /// Somebody whose state is decided in this room.
    pub(super) fn resident(&self, identity: &str) -> Result<Seat, CallError> {
        let seat = self.named(identity)?;
        match self.participant(seat) {
            Some(participant) if participant.guest.is_some() => Err(CallError::Guest),
            _ => Ok(seat),
        }
    }

    /// Other rooms hear of a change.
    pub(super) fn reflect(&mut self, seat: Seat) {
        let mut ids = self.forwards_of(seat).into_iter().peekable();
        if ids.peek().is_none() {
            return;
        }
        let Some(reflection) = self.participant(seat).map(Reflection::of).map(Arc::new) else {
            return;
        };
        for id in ids {
            if let Some(forward) = self.forwards.get_mut(&id) {
                forward.quality = reflection.quality();
            }
            let news = Forwarding::As(Arc::clone(&reflection));
            self.outputs.push_back(Output::Forward(id, news));
        }
    }

    /// Other rooms hear how good connections are, if that is news.
    pub(super) fn reflect_qualities(&mut self) {
        let changed: Vec<Seat> = self
            .forwards
            .values()
            .filter(|forward| {
                self.participants
                    .get(&forward.seat)
                    .is_some_and(|source| super::quality::class(source.score()) != forward.quality)
            })
            .map(|forward| forward.seat)
            .collect();
        for seat in changed {
            self.reflect(seat);
        }
    }

    /// Other rooms hear how loud a microphone is.
    pub(super) fn reflect_level(&mut self, seat: Seat, level: f32) {
        for id in self.forwards_of(seat) {
            let news = Forwarding::Loud(level);
            self.outputs.push_back(Output::Forward(id, news));
        }
    }

    /// Whoever was forwarded is gone.
    pub(super) fn end_forwards(&mut self, seat: Seat) {
        for id in self.forwards_of(seat) {
            self.forwards.remove(&id);
            self.outputs
                .push_back(Output::Forward(id, Forwarding::Ended));
        }
    }

    fn forwards_of(&self, seat: Seat) -> Vec<ForwardId> {
        let mine = self.forwards.iter().filter(|(_, f)| f.seat == seat);
        mine.map(|(id, _)| *id).collect()
    }

    /// What people of the other room want of a participant of this one.
    pub fn forward_asks(&mut self, now: Now, id: ForwardId, asked: &Demands) {
        let Some(forward) = self.forwards.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut forward.asked, asked.clone());
        self.demands_changed(now, &before, asked);
    }

    /// The other room has it no more.
    pub fn forward_ended(&mut self, now: Now, id: ForwardId) {
        if let Some(forward) = self.forwards.remove(&id) {
            self.demands_changed(now, &forward.asked, &Demands::default());
        }
    }

    /// Another room counts as one down track of each video.
    fn demands_changed(&mut self, now: Now, before: &Demands, after: &Demands) {
        let (Demands(before), Demands(after)) = (before, after);
        let gone = before.keys().filter(|up| !after.contains_key(*up));
        for up in after.keys().chain(gone) {
            let (before, after) = (before.get(up).copied(), after.get(up).copied());
            if before != after {
                self.demand_changed(now, *up, before, after);
            }
        }
    }

    /// Takes in a participant of another room. `false`: it is here already.
    pub fn welcome(
        &mut self,
        now: Now,
        id: ForwardId,
        reflection: &Reflection,
    ) -> Result<bool, CallError> {
        let identity = &reflection.identity;
        if let Some(there) = self.identities.get(identity) {
            let guest = self.participant(*there).and_then(|p| p.guest.as_ref());
            if guest.is_some_and(|guest| guest.source == reflection.source) {
                return Ok(false);
            }
            return Err(CallError::AlreadyThere(identity.as_str().to_owned()));
        }
        self.next_seat += 1;
        let seat = Seat(self.next_seat);
        let sid = ParticipantSid::from(format!("PA_{}", self.random.text(12)));
        let participant = guest_of(now, id, seat, sid, reflection);
        let people = self.participants.values().filter(|p| !p.is_dependent());
        let max = self.info.max_participants;
        if max > 0 && !participant.is_dependent() && people.count() >= max as usize {
            return Err(CallError::RoomFull(max));
        }
        self.settle_farewell(identity, participant.permission.hidden);
        self.participants.insert(seat, Box::new(participant));
        self.identities.insert(identity.clone(), seat);
        self.guests.insert(id, seat);
        self.counts_changed(now);
        if !reflection.is_active {
            self.changed(now, seat);
        }
        self.guest_changed(now, id, reflection);
        Ok(true)
    }

    /// A guest is like this from now on.
    pub fn guest_changed(&mut self, now: Now, id: ForwardId, reflection: &Reflection) {
        let Some(&seat) = self.guests.get(&id) else {
            return;
        };
        if reflection.permission.hidden {
            self.hide(now, seat);
        }
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let shown = participant.permission.hidden && !reflection.permission.hidden;
        let mut is_news = participant.take_over(reflection);
        let is_listed = |sid: &TrackSid| {
            let mut tracks = reflection.tracks.iter();
            tracks.any(|track| track.info.sid == sid.as_str())
        };
        let gone: Vec<TrackSid> = participant
            .tracks
            .keys()
            .filter(|sid| !is_listed(sid))
            .cloned()
            .collect();
        let mut new = Vec::new();
        let mut changes = Vec::new();
        for track in &reflection.tracks {
            if let Some(known) = participant.tracks.get_mut(track.info.sid.as_str()) {
                is_news |= known.info != track.info;
                let before = known.coming();
                track.write_to(known);
                changes.push((known.sid.clone(), before));
            } else {
                new.push(track);
            }
        }
        let new: Vec<TrackSid> = new
            .into_iter()
            .map(|track| self.add_reflected(seat, track))
            .collect();
        if is_news {
            self.changed_now(seat);
            self.counts_changed(now);
        }
        if shown {
            self.bring_again(now, seat);
        }
        if reflection.is_active {
            self.becomes_active(now, seat);
        }
        for sid in gone {
            self.unpublish(now, seat, &sid);
        }
        for (sid, before) in changes {
            self.codecs_changed(now, seat, &sid, &before);
        }
        if self
            .participant(seat)
            .is_some_and(|p| p.rule != reflection.rule)
        {
            self.set_rule(now, seat, &reflection.rule);
        }
        for sid in new {
            self.announce(now, seat, &sid);
        }
    }

    fn add_reflected(&mut self, seat: Seat, track: &ReflectedTrack) -> TrackSid {
        let publication = track.publication();
        let sid = publication.sid.clone();
        for codec in publication.codecs() {
            self.ups.insert(codec.up, (seat, sid.clone()));
        }
        if let Some(participant) = self.participants.get_mut(&seat) {
            participant.tracks.insert(sid.clone(), publication);
        }
        sid
    }

    /// A guest's microphone is as loud as this.
    pub fn guest_heard(&mut self, now: Now, id: ForwardId, level: f32) {
        if let Some(&seat) = self.guests.get(&id) {
            self.heard(now, seat, level);
        }
    }

    /// The room that a guest is from has it no more.
    pub fn guest_left(&mut self, now: Now, id: ForwardId) {
        if let Some(&seat) = self.guests.get(&id) {
            self.remove(now, seat, DisconnectReason::UnknownReason);
        }
    }

    /// A guest is taken out of the books.
    pub(super) fn forget_guest(&mut self, participant: &Participant) {
        if let Some(guest) = &participant.guest {
            self.guests.remove(&guest.id);
            self.outputs
                .push_back(Output::Guest(guest.id, Guesting::Ended));
        }
    }

    /// The room that a guest is from hears what is wanted of its videos, if that is news.
    pub(super) fn ask_for_guest(&mut self, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let codecs = participant.tracks.values().flat_map(Publication::codecs);
        let wanted = codecs.filter_map(|codec| Some((codec.up, codec.dynacast.demand()?)));
        let asks = Demands(wanted.collect());
        let Some(guest) = &mut participant.guest else {
            return;
        };
        if guest.asked != asks {
            guest.asked = asks.clone();
            let id = guest.id;
            self.outputs
                .push_back(Output::Guest(id, Guesting::Asks(asks)));
        }
    }
}

fn guest_of(
    now: Now,
    id: ForwardId,
    seat: Seat,
    sid: ParticipantSid,
    reflection: &Reflection,
) -> Participant {
    let identity = reflection.identity.clone();
    let guest = Guest {
        id,
        source: reflection.source.clone(),
        score: reflection.score,
        asked: Demands::default(),
    };
    let claims = Claims {
        sub: identity.as_str().to_owned(),
        ..Default::default()
    };
    let mut kind_details = reflection.kind_details.clone();
    let forwarded = participant_info::KindDetail::Forwarded as i32;
    if !kind_details.contains(&forwarded) {
        kind_details.push(forwarded);
    }
    let mut participant = Participant {
        client: reflection.client.clone(),
        permission: reflection.permission.clone(),
        kind: reflection.kind,
        kind_details,
        state: participant_info::State::Joined,
        rule: reflection.rule.clone(),
        guest: Some(guest),
        ..Participant::new(now, seat, sid, identity, reflection.worker, claims)
    };
    participant.take_over(reflection);
    participant
}

impl Participant {
    /// A guest becomes what it is in its room, but for its tracks. `true`: others have to hear of it.
    fn take_over(&mut self, reflection: &Reflection) -> bool {
        if let Some(guest) = &mut self.guest {
            guest.score = reflection.score;
        }
        let claims = &mut self.claims;
        let is_news = claims.name != reflection.name
            || claims.metadata != reflection.metadata
            || claims.attributes != reflection.attributes
            || self.permission != reflection.permission
            || self.is_publisher != reflection.is_publisher;
        claims.name.clone_from(&reflection.name);
        claims.metadata.clone_from(&reflection.metadata);
        claims.attributes.clone_from(&reflection.attributes);
        self.permission.clone_from(&reflection.permission);
        self.is_publisher = reflection.is_publisher;
        is_news
    }
}

impl Reflection {
    fn of(participant: &Participant) -> Self {
        let announced = participant.tracks.values().filter(|t| t.announced);
        Self {
            source: participant.sid.clone(),
            identity: participant.identity.clone(),
            name: participant.claims.name.clone(),
            metadata: participant.claims.metadata.clone(),
            attributes: participant.claims.attributes.clone(),
            kind: participant.kind,
            kind_details: participant.kind_details.clone(),
            permission: participant.permission.clone(),
            client: participant.client.clone(),
            rule: participant.rule.clone(),
            worker: participant.worker,
            is_active: participant.is_active(),
            is_publisher: participant.is_publisher,
            score: participant.score(),
            tracks: announced.map(ReflectedTrack::of).collect(),
        }
    }

    fn quality(&self) -> ConnectionQuality {
        super::quality::class(self.score)
    }
}

impl ReflectedTrack {
    fn of(track: &Publication) -> Self {
        Self {
            info: track.info.clone(),
            kind: track.kind,
            primary: ReflectedCodec::of(&track.primary),
            backups: track.backups.iter().map(ReflectedCodec::of).collect(),
            regressed: track.regressed,
        }
    }

    fn write_to(&self, track: &mut Publication) {
        track.info.clone_from(&self.info);
        track.regressed = self.regressed;
        let codecs = std::iter::once(&self.primary).chain(&self.backups);
        for (known, codec) in track.codecs_mut().zip(codecs) {
            known.came = codec.came;
            known.formats.clone_from(&codec.formats);
            known.rids.clone_from(&codec.rids);
        }
    }

    fn publication(&self) -> Publication {
        Publication {
            sid: TrackSid::from(self.info.sid.as_str()),
            info: self.info.clone(),
            cid: String::new(),
            kind: self.kind,
            primary: self.primary.track(),
            backups: self.backups.iter().map(ReflectedCodec::track).collect(),
            regressed: self.regressed,
            announced: false,
            announce_by: None,
            subscribed: true,
        }
    }
}

impl ReflectedCodec {
    fn of(codec: &CodecTrack) -> Self {
        Self {
            up: codec.up,
            came: codec.came,
            formats: codec.formats.clone(),
            rids: codec.rids.clone(),
        }
    }

    fn track(&self) -> CodecTrack {
        CodecTrack {
            came: self.came,
            formats: self.formats.clone(),
            rids: self.rids.clone(),
            ..CodecTrack::new(self.up)
        }
    }
}
