//! What a participant wishes of tracks that it has no subscription to: that it gets them as soon as they are there, and
//! how they are to be shown then.
//!
//! An application may name a track before this room knows of it, and a client says how it shows a track before it
//! subscribes. livekit 1.13.5 (`subscriptionmanager.go`) keeps both; a track that has not come after a minute is not
//! found.

use super::settings::TrackSettings;
use super::{Now, Room, Seat};
use crate::ids::TrackSid;
use crate::protocol::livekit::{SubscriptionError, SubscriptionResponse, signal_response};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A track is waited for this long (livekit 1.13.5 `notFoundTimeout`).
const PATIENCE: Duration = Duration::from_secs(60);
/// Wishes of one participant, a bound of our own; what goes beyond is counted and forgotten.
const MAX_WISHES: usize = 64;
/// Bytes of an SID that can be one of a track; ours have 17.
const MAX_SID: usize = 64;

/// The wishes of one participant.
#[derive(Debug, Default)]
pub(super) struct Awaited(BTreeMap<TrackSid, Wish>);

#[derive(Debug)]
struct Wish {
    until: Instant,
    /// It is to be subscribed to.
    subscribes: bool,
    settings: Option<TrackSettings>,
}

impl Awaited {
    /// Whether a track is to be subscribed to when it comes.
    pub(super) fn wants(&self, sid: &TrackSid) -> bool {
        self.0.get(sid).is_some_and(|wish| wish.subscribes)
    }

    /// `false`: there are too many wishes.
    #[must_use]
    pub(super) fn want(&mut self, now: Instant, sid: &str) -> bool {
        let wish = self.wish(now, sid);
        wish.map(|wish| wish.subscribes = true).is_some()
    }

    pub(super) fn forget(&mut self, sid: &str) {
        self.0.remove(sid);
    }

    /// `false`: there are too many wishes.
    #[must_use]
    pub(super) fn set(&mut self, now: Instant, sid: &str, settings: TrackSettings) -> bool {
        let wish = self.wish(now, sid);
        wish.map(|wish| wish.settings = Some(settings)).is_some()
    }

    /// A track is subscribed to: how it is to be shown, if that was said.
    pub(super) fn take(&mut self, sid: &TrackSid) -> Option<TrackSettings> {
        self.0.remove(sid)?.settings
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.0.values().map(|wish| wish.until).min()
    }

    fn wish(&mut self, now: Instant, sid: &str) -> Option<&mut Wish> {
        let is_new = !self.0.contains_key(sid);
        if is_new && (self.0.len() >= MAX_WISHES || sid.len() > MAX_SID) {
            return None;
        }
        let wish = self.0.entry(TrackSid::from(sid)).or_insert(Wish {
            until: now,
            subscribes: false,
            settings: None,
        });
        wish.until = now + PATIENCE;
        Some(wish)
    }
}

impl Room {
    /// Tracks that have not come are given up, and whoever wanted them is told.
    pub(super) fn give_up_awaited_if_due(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let mut wanted = Vec::new();
        participant.awaited.0.retain(|sid, wish| {
            let waits_on = wish.until > now.at;
            if !waits_on && wish.subscribes {
                wanted.push(sid.clone());
            }
            waits_on
        });
        for sid in wanted {
            // One that is there may only not be subscribed to.
            if !self.tracks.contains_key(&sid) {
                let response = SubscriptionResponse {
                    track_sid: sid.as_str().to_owned(),
                    err: SubscriptionError::SeTrackNotfound as i32,
                };
                self.send(
                    seat,
                    signal_response::Message::SubscriptionResponse(response),
                );
            }
        }
    }
}
