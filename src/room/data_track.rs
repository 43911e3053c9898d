//! Data tracks: published by handle, subscribed to by name, packets forwarded with the subscriber's own handle
//! (livekit.md 3.12).

use super::participant::Participant;
use super::subscribe::MAX_IDS;
use super::{Fault, Now, Room, Seat};
use crate::ids::{TransportId, WorkerId};
use crate::plan::{Channel, Command};
use crate::protocol::livekit::{
    DataTrackInfo, DataTrackSchemaId, DataTrackSubscriberHandles, PublishDataTrackRequest,
    PublishDataTrackResponse, UnpublishDataTrackRequest, UnpublishDataTrackResponse,
    UpdateDataSubscription, data_track_frame_encoding,
    data_track_frame_encoding::WellKnownFrameEncoding, data_track_schema_encoding,
    data_track_schema_encoding::WellKnownSchemaEncoding,
    data_track_subscriber_handles::PublishedDataTrack, request_response, signal_response,
};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet};

/// Length of a data-track packet's fixed header; the handle stands in bytes 2 and 3 (livekit 1.13.5
/// `pkg/rtc/datatrack/packet.go`).
const HEADER_LEN: usize = 12;
/// Data tracks of one participant.
const MAX_TRACKS: usize = 256;
/// Characters of a name, of the track and of its schema.
const MAX_NAME: usize = 256;
/// Bytes of the name of an encoding that is not in the protocol (livekit 1.13.5,
/// `limit.max_data_track_custom_encoding_length`).
const MAX_ENCODING: usize = 32;

/// What one participant publishes and gets.
#[derive(Debug, Default)]
pub(super) struct DataTracks {
    /// By the publisher's handle.
    published: BTreeMap<u16, DataTrackInfo>,
    /// By `DTR_…`: the handle under which it comes; `None` while its publisher does not let it come, or its subscriber
    /// may not subscribe.
    subscribed: BTreeMap<String, Option<u16>>,
    last_handle: u16,
}

impl DataTracks {
    pub(super) fn published(&self) -> Vec<DataTrackInfo> {
        self.published.values().cloned().collect()
    }

    /// Gets nothing any more.
    pub(super) fn unsubscribe(&mut self) {
        self.subscribed.clear();
    }

    /// A handle that no subscription has; `None` when all are taken.
    fn free_handle(&mut self) -> Option<u16> {
        let taken: BTreeSet<u16> = self.subscribed.values().copied().flatten().collect();
        (0..u16::MAX).find_map(|_| {
            self.last_handle = self.last_handle.wrapping_add(1).max(1);
            (!taken.contains(&self.last_handle)).then_some(self.last_handle)
        })
    }
}

impl Room {
    pub(super) fn publish_data_track(
        &mut self,
        now: Now,
        seat: Seat,
        mut request: PublishDataTrackRequest,
    ) {
        use request_response::Reason;
        tidy(&mut request);
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        let tracks = &participant.data_tracks.published;
        let handle = u16::try_from(request.pub_handle)
            .ok()
            .filter(|handle| *handle > 0);
        let length = request.name.chars().count();
        let refusal = if !participant.permission.can_publish_data
            || !self.settings.defaults.enable_data_tracks
        {
            Some((
                Reason::NotAllowed,
                "does not have permission to publish data",
            ))
        } else if handle.is_none() {
            Some((Reason::InvalidHandle, "handle must be 1 to 65535"))
        } else if length == 0 || length > MAX_NAME {
            Some((Reason::InvalidName, "name must have 1 to 256 characters"))
        } else if !is_described_in_bounds(&request) {
            Some((
                Reason::InvalidRequest,
                "encoding is empty or longer than 32 bytes, or schema name longer than 256 characters",
            ))
        } else if handle.is_some_and(|handle| tracks.contains_key(&handle)) {
            Some((Reason::DuplicateHandle, "handle is in use"))
        } else if tracks.values().any(|track| track.name == request.name) {
            Some((Reason::DuplicateName, "name is in use"))
        } else if tracks.len() >= MAX_TRACKS {
            Some((Reason::LimitExceeded, "too many data tracks"))
        } else {
            None
        };
        if let Some((reason, text)) = refusal {
            let echo = request_response::Request::PublishDataTrack(request);
            return self.refuse(seat, 0, reason, text, Some(echo));
        }
        let info = DataTrackInfo {
            pub_handle: request.pub_handle,
            sid: format!("DTR_{}", self.random.text(12)),
            name: request.name,
            encryption: request.encryption,
            frame_encoding: request.frame_encoding,
            schema: request.schema,
        };
        let (Some(handle), Some(participant)) = (handle, self.participants.get_mut(&seat)) else {
            return;
        };
        participant.is_publisher = true;
        let tracks = &mut participant.data_tracks;
        tracks.published.insert(handle, info.clone());
        let sid = info.sid.clone();
        let response = PublishDataTrackResponse { info: Some(info) };
        self.send(
            seat,
            signal_response::Message::PublishDataTrackResponse(response),
        );
        self.changed_now(seat);
        self.offer_data_track(seat, &sid);
        self.counts_changed(now);
    }

    /// Somebody's data track for all others who want them.
    fn offer_data_track(&mut self, seat: Seat, sid: &str) {
        let others: Vec<Seat> = self
            .participants
            .values()
            .filter(|p| p.seat != seat && p.auto_subscribe_data_track)
            .map(|p| p.seat)
            .collect();
        for other in others {
            self.subscribe_data_track(other, seat, sid);
            self.tell_data_track_handles(other);
        }
    }

    /// Somebody has come with data tracks of its own, and finds those of others.
    pub(super) fn exchange_data_tracks(&mut self, seat: Seat) {
        let own = self.participant(seat).map(|p| p.data_tracks.published());
        for track in own.into_iter().flatten() {
            self.offer_data_track(seat, &track.sid);
        }
        self.subscribe_to_data_tracks(seat);
        self.tell_data_track_handles(seat);
    }

    pub(super) fn unpublish_data_track(
        &mut self,
        now: Now,
        seat: Seat,
        request: UnpublishDataTrackRequest,
    ) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let removed = u16::try_from(request.pub_handle)
            .ok()
            .and_then(|handle| participant.data_tracks.published.remove(&handle));
        let Some(info) = removed else {
            let reason = request_response::Reason::NotFound;
            let echo = request_response::Request::UnpublishDataTrack(request);
            return self.refuse(seat, 0, reason, "no such data track", Some(echo));
        };
        let sid = info.sid.clone();
        let response = UnpublishDataTrackResponse { info: Some(info) };
        self.send(
            seat,
            signal_response::Message::UnpublishDataTrackResponse(response),
        );
        self.changed_now(seat);
        self.end_data_track(&sid);
        self.counts_changed(now);
    }

    pub(super) fn update_data_subscription(&mut self, seat: Seat, update: &UpdateDataSubscription) {
        let wishes: BTreeMap<&str, bool> = update
            .updates
            .iter()
            .take(MAX_IDS)
            .map(|change| (change.track_sid.as_str(), change.subscribe))
            .collect();
        if let Some(participant) = self.participants.get_mut(&seat) {
            let subscribed = &mut participant.data_tracks.subscribed;
            subscribed.retain(|sid, _| wishes.get(sid.as_str()) != Some(&false));
        }
        self.subscribe_to_data_tracks_of(seat, |sid| wishes.get(sid) == Some(&true));
        self.tell_data_track_handles(seat);
    }

    /// Every data track there is, for somebody who has just come and wants them.
    pub(super) fn subscribe_to_data_tracks(&mut self, seat: Seat) {
        if self
            .participant(seat)
            .is_some_and(|p| p.auto_subscribe_data_track)
        {
            self.subscribe_to_data_tracks_of(seat, |_| true);
        }
    }

    fn subscribe_to_data_tracks_of(&mut self, seat: Seat, is_wanted: impl Fn(&str) -> bool) {
        let mut wanted: Vec<(Seat, String)> = Vec::new();
        for publisher in self.participants.values().filter(|p| p.seat != seat) {
            let sids = publisher.data_tracks.published.values().map(|t| &t.sid);
            let sids = sids.filter(|sid| is_wanted(sid));
            wanted.extend(sids.map(|sid| (publisher.seat, sid.clone())));
        }
        for (publisher, sid) in wanted {
            self.subscribe_data_track(seat, publisher, &sid);
        }
    }

    /// The subscriber hears whether the publisher lets it have the track. The wish of one who may not subscribe is kept.
    fn subscribe_data_track(&mut self, seat: Seat, publisher: Seat, sid: &str) {
        let (Some(source), Some(participant)) =
            (self.participant(publisher), self.participant(seat))
        else {
            return;
        };
        if participant.data_tracks.subscribed.contains_key(sid) {
            return;
        }
        if participant.permission.can_subscribe {
            let allowed = source.lets(participant, sid);
            self.let_data_track(seat, publisher, sid, allowed);
        } else if let Some(participant) = self.participants.get_mut(&seat) {
            let subscribed = &mut participant.data_tracks.subscribed;
            subscribed.insert(sid.to_owned(), None);
        }
    }

    /// Whoever may subscribe now gets the data tracks that it wants, and whoever may not any more gets none.
    pub(super) fn subscribing_to_data_changed(&mut self, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let subscribed = &mut participant.data_tracks.subscribed;
        if participant.permission.can_subscribe {
            let kept = subscribed.iter().filter(|(_, handle)| handle.is_none());
            let wanted: BTreeSet<String> = kept.map(|(sid, _)| sid.clone()).collect();
            subscribed.retain(|_, handle| handle.is_some());
            self.subscribe_to_data_tracks_of(seat, |sid| wanted.contains(sid));
        } else {
            for handle in subscribed.values_mut() {
                *handle = None;
            }
        }
        self.tell_data_track_handles(seat);
    }

    fn let_data_track(&mut self, seat: Seat, publisher: Seat, sid: &str, allowed: bool) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let tracks = &mut participant.data_tracks;
        let handle = allowed.then(|| tracks.free_handle()).flatten();
        tracks.subscribed.insert(sid.to_owned(), handle);
        self.say_allowed(seat, publisher, sid, allowed);
    }

    /// A publisher lets others have its data tracks than before: some end, some come.
    pub(super) fn follow_rule_of_data(&mut self, publisher: Seat) {
        let Some(source) = self.participant(publisher) else {
            return;
        };
        let mut changes: Vec<(Seat, String, bool)> = Vec::new();
        let others = self.participants.values();
        for subscriber in others.filter(|p| p.seat != publisher && p.permission.can_subscribe) {
            for track in source.data_tracks.published.values() {
                let Some(handle) = subscriber.data_tracks.subscribed.get(&track.sid) else {
                    continue;
                };
                let allowed = source.lets(subscriber, &track.sid);
                if allowed != handle.is_some() {
                    changes.push((subscriber.seat, track.sid.clone(), allowed));
                }
            }
        }
        let changed: BTreeSet<Seat> = changes.iter().map(|(seat, ..)| *seat).collect();
        for (seat, sid, allowed) in changes {
            self.let_data_track(seat, publisher, &sid, allowed);
        }
        for seat in changed {
            self.tell_data_track_handles(seat);
        }
    }

    /// The whole map of handles, as every change sends it.
    pub(super) fn tell_data_track_handles(&mut self, seat: Seat) {
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        if participant.data_tracks.last_handle == 0 {
            return;
        }
        let mut sub_handles = std::collections::HashMap::new();
        let coming = participant.data_tracks.subscribed.iter();
        for (sid, handle) in coming.filter_map(|(sid, handle)| Some((sid, (*handle)?))) {
            let publisher = self.participants.values().find(|p| {
                p.data_tracks
                    .published
                    .values()
                    .any(|track| track.sid == *sid)
            });
            if let Some(publisher) = publisher {
                sub_handles.insert(
                    u32::from(handle),
                    PublishedDataTrack {
                        publisher_identity: publisher.identity.as_str().to_owned(),
                        publisher_sid: publisher.sid.as_str().to_owned(),
                        track_sid: sid.clone(),
                    },
                );
            }
        }
        let message = DataTrackSubscriberHandles { sub_handles };
        self.send(
            seat,
            signal_response::Message::DataTrackSubscriberHandles(message),
        );
    }

    /// A publisher is gone, its data tracks with it.
    pub(super) fn data_tracks_ended(&mut self, gone: &Participant) {
        let sids: Vec<String> = gone
            .data_tracks
            .published
            .values()
            .map(|track| track.sid.clone())
            .collect();
        for sid in sids {
            self.end_data_track(&sid);
        }
    }

    /// Whoever may no longer publish data loses its data tracks (livekit 1.13.5 `participant.go`, `SetPermission`).
    pub(super) fn end_forbidden_data_tracks(&mut self, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        if participant.permission.can_publish_data {
            return;
        }
        let ended = std::mem::take(&mut participant.data_tracks.published);
        for info in ended.into_values() {
            self.end_data_track(&info.sid);
            let response = UnpublishDataTrackResponse { info: Some(info) };
            let response = signal_response::Message::UnpublishDataTrackResponse(response);
            self.send(seat, response);
        }
    }

    /// The clients of those who get somebody's data tracks have forgotten what these were.
    pub(super) fn name_data_tracks_again(&mut self, publisher: Seat) {
        let Some(publisher) = self.participant(publisher) else {
            return;
        };
        let published = &publisher.data_tracks.published;
        let getting = self.participants.values().filter(|other| {
            let gets =
                |track: &DataTrackInfo| other.data_tracks.subscribed.contains_key(&track.sid);
            published.values().any(gets)
        });
        let seats: Vec<Seat> = getting.map(|other| other.seat).collect();
        for seat in seats {
            self.tell_data_track_handles(seat);
        }
    }

    fn end_data_track(&mut self, sid: &str) {
        let subscribers = self
            .participants
            .values()
            .filter(|participant| participant.data_tracks.subscribed.contains_key(sid));
        let seats: Vec<Seat> = subscribers.map(|participant| participant.seat).collect();
        for seat in seats {
            if let Some(participant) = self.participants.get_mut(&seat) {
                participant.data_tracks.subscribed.remove(sid);
            }
            self.tell_data_track_handles(seat);
        }
    }

    /// A packet of a data track: to each subscriber under its own handle; equal handles share one copy.
    pub(super) fn forward_data_track(&mut self, seat: Seat, message: &Bytes) {
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        if message.len() < HEADER_LEN {
            return self.fault(Fault::DataTrackPacket);
        }
        let handle = u16::from_be_bytes([message[2], message[3]]);
        let Some(track) = participant.data_tracks.published.get(&handle) else {
            return self.fault(Fault::DataTrackPacket);
        };
        let mut targets: BTreeMap<(WorkerId, u16), Vec<TransportId>> = BTreeMap::new();
        for subscriber in self.participants.values() {
            let subscribed = &subscriber.data_tracks.subscribed;
            let Some(handle) = subscribed.get(&track.sid).copied().flatten() else {
                continue;
            };
            if let Some(connection) = subscriber.data_connection() {
                targets
                    .entry((subscriber.worker, handle))
                    .or_default()
                    .push(connection.transport);
            }
        }
        let mut copies: BTreeMap<u16, Bytes> = BTreeMap::new();
        for ((worker, handle), to) in targets {
            let payload = copies
                .entry(handle)
                .or_insert_with(|| {
                    let mut copy = BytesMut::from(message.as_ref());
                    copy[2..4].copy_from_slice(&handle.to_be_bytes());
                    copy.freeze()
                })
                .clone();
            self.command(
                worker,
                Command::SendData {
                    to,
                    channel: Channel::DataTrack,
                    payload,
                },
            );
        }
    }
}

/// Numbers that no enum has, which have no JSON form, give way to the default.
fn tidy(request: &mut PublishDataTrackRequest) {
    request.encryption = request.encryption() as i32;
    let frames = request.frame_encoding.as_mut().map(|e| &mut e.value);
    if let Some(Some(data_track_frame_encoding::Value::WellKnown(number))) = frames
        && WellKnownFrameEncoding::try_from(*number).is_err()
    {
        *number = WellKnownFrameEncoding::Unspecified as i32;
    }
    let schema = request.schema.as_mut().and_then(|s| s.encoding.as_mut());
    if let Some(data_track_schema_encoding::Value::WellKnown(number)) =
        schema.and_then(|encoding| encoding.value.as_mut())
        && WellKnownSchemaEncoding::try_from(*number).is_err()
    {
        *number = WellKnownSchemaEncoding::Unspecified as i32;
    }
}

/// Whether names of encodings and schema are such as all can be told.
fn is_described_in_bounds(request: &PublishDataTrackRequest) -> bool {
    let frames = match request.frame_encoding.as_ref().map(|e| &e.value) {
        Some(Some(data_track_frame_encoding::Value::Custom(name))) => Some(name),
        _ => None,
    };
    frames.is_none_or(|name| (1..=MAX_ENCODING).contains(&name.len()))
        && request.schema.as_ref().is_none_or(|schema| {
            schema.name.chars().count() <= MAX_NAME && is_encoding_in_bounds(schema)
        })
}

/// Whether the encoding of a schema, when it is none of the protocol's, has a name of bounded length.
pub(super) fn is_encoding_in_bounds(schema: &DataTrackSchemaId) -> bool {
    match schema.encoding.as_ref().map(|encoding| &encoding.value) {
        Some(Some(data_track_schema_encoding::Value::Custom(name))) => {
            (1..=MAX_ENCODING).contains(&name.len())
        }
        _ => true,
    }
}
