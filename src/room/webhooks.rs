//! What receivers of webhooks are told, and when (livekit 1.13.5 `pkg/telemetry/events.go`; livekit.md 6 and 14).
//!
//! Three things are better than there: counts of the room are those of the moment, the end of a track is always told
//! before that of its publisher, and the end of the room comes last.

use super::{Now, Output, Room, Seat};
use crate::config::webhook_url;
use crate::protocol::livekit::{self as proto, ParticipantInfo, TrackInfo, WebhookEvent};
use std::collections::HashMap;
use std::sync::Arc;

/// The tag of a room that names receivers of its own, separated by spaces or commas. Tags are set by CreateRoom, by a
/// token's room configuration and by presets, all of which an application's server signs or writes.
pub const WEBHOOK_TAG: &str = "webhook_urls";
/// Receivers of one room's own.
const MAX_URLS: usize = 8;

/// The receivers that a room's tags name.
pub(super) fn urls_of(tags: &HashMap<String, String>) -> Result<Vec<Arc<str>>, String> {
    let text = tags.get(WEBHOOK_TAG).map_or("", String::as_str);
    let words = text.split([',', ' ', '\n']).filter(|word| !word.is_empty());
    let mut urls: Vec<Arc<str>> = Vec::new();
    for word in words {
        let url = webhook_url(word).map_err(|(fault, _)| format!("{WEBHOOK_TAG}: {fault}"))?;
        let url = Arc::from(url);
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    if urls.len() > MAX_URLS {
        return Err(format!("{WEBHOOK_TAG}: more than {MAX_URLS}"));
    }
    Ok(urls)
}

impl Room {
    /// The room begins. To be called once, when it is configured.
    pub fn start(&mut self, now: Now) {
        let room = self.snapshot();
        self.hook(now, "room_started", room, None, None);
        self.agents_of_start();
    }

    /// The room is over, and nothing more is told of it.
    pub(super) fn end(&mut self, now: Now) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        self.say_goodbyes();
        let room = self.snapshot();
        self.hook(now, "room_finished", room, None, None);
        self.agents_of_end();
    }

    /// A participant is ACTIVE. Tracks that its first offer brought along are told now.
    pub(super) fn hook_joined(&mut self, now: Now, seat: Seat) {
        let Some(participant) = self.participant(seat) else {
            return;
        };
        let info = participant.info();
        let tracks: Vec<TrackInfo> = info.tracks.clone();
        let room = self.snapshot();
        self.hook(now, "participant_joined", room, Some(info), None);
        self.agents_of_join(seat);
        for track in tracks {
            self.hook_published(now, seat, track);
        }
    }

    /// A participant has left; `info` is its last.
    pub(super) fn hook_left(&mut self, now: Now, info: ParticipantInfo, was_active: bool) {
        let event = if was_active {
            "participant_left"
        } else {
            "participant_connection_aborted"
        };
        let room = self.snapshot();
        self.agents_of_leave(&info);
        self.hook(now, event, room, Some(info), None);
    }

    /// Others know of a track now. Before its publisher is ACTIVE this is not told.
    pub(super) fn hook_published(&mut self, now: Now, seat: Seat, track: TrackInfo) {
        let publisher = self.participant(seat).filter(|p| p.is_active());
        if let Some(publisher) = publisher.map(brief) {
            self.hook_track(now, "track_published", publisher, track);
            self.agents_of_track(seat);
        }
    }

    /// A track of an ACTIVE participant that others knew of is over.
    pub(super) fn hook_unpublished(
        &mut self,
        now: Now,
        publisher: ParticipantInfo,
        track: TrackInfo,
    ) {
        self.hook_track(now, "track_unpublished", publisher, track);
    }

    fn hook_track(&mut self, now: Now, event: &str, publisher: ParticipantInfo, track: TrackInfo) {
        let room = if self.settings.defaults.enable_full_room_in_webhooks {
            self.snapshot()
        } else {
            proto::Room {
                sid: self.info.sid.clone(),
                name: self.info.name.clone(),
                ..Default::default()
            }
        };
        self.hook(now, event, room, Some(publisher), Some(track));
    }

    fn hook(
        &mut self,
        now: Now,
        event: &str,
        room: proto::Room,
        participant: Option<ParticipantInfo>,
        track: Option<TrackInfo>,
    ) {
        let event = WebhookEvent {
            event: event.to_owned(),
            room: Some(room),
            participant,
            track,
            id: format!("EV_{}", self.random.text(12)),
            created_at: now.unix_s() as i64,
            ..Default::default()
        };
        let extra = Arc::clone(&self.hooks);
        self.outputs
            .push_back(Output::Webhook(Box::new(event), extra));
    }
}

/// Whom a track belongs to.
pub(super) fn brief(publisher: &super::Participant) -> ParticipantInfo {
    ParticipantInfo {
        sid: publisher.sid.as_str().to_owned(),
        identity: publisher.identity.as_str().to_owned(),
        ..Default::default()
    }
}
