//! Who speaks: levels of microphones in, `speakers_changed` out, at a beat and only what changed (livekit.md 4.9).

use super::{Now, Room, Seat};
use crate::ids::UpTrackId;
use crate::protocol::livekit::{SpeakerInfo, SpeakersChanged, TrackSource, signal_response};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Changes are told at most this often (livekit 1.13.5 `audio.update_interval`).
const BEAT: Duration = Duration::from_millis(400);
/// A microphone that has not been heard of for two intervals is silent.
const STALE: Duration = Duration::from_millis(900);
/// Levels are told in steps of an eighth.
const STEPS: f32 = 8.0;
/// How loud somebody is who only wants to be said to speak (livekit 1.13.5), and how long at most.
const SIMULATED_LEVEL: f32 = 0.9;
const MAX_SIMULATED_S: u64 = 60;

/// What is known and what was told.
#[derive(Debug, Default)]
pub(super) struct Speakers {
    heard: BTreeMap<Seat, (f32, Instant)>,
    /// Eighths, as told.
    told: BTreeMap<Seat, u8>,
    beat_at: Option<Instant>,
    /// Said to speak by its own wish, until this moment.
    simulated: BTreeMap<Seat, Instant>,
}

impl Speakers {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.beat_at
            .into_iter()
            .chain(self.simulated.values().copied())
            .min()
    }
}

impl Room {
    /// A microphone's level over the last interval; 0: it has stopped.
    pub(super) fn audio_level(&mut self, now: Now, up: UpTrackId, level: f32) {
        let Some((seat, sid)) = self.ups.get(&up).cloned() else {
            return;
        };
        let Some(track) = self.publication_mut(seat, &sid) else {
            return;
        };
        if track.info.source() != TrackSource::Microphone || track.info.muted {
            return;
        }
        if let Some(codec) = track.codec_track_mut(up) {
            codec.heard = Some((level, now.at));
        }
        // It may come in two codecs, and is heard once.
        let level = track
            .codecs()
            .filter_map(|codec| codec.heard.filter(|(_, at)| now.at < *at + STALE))
            .map(|(level, _)| level)
            .fold(0.0, f32::max);
        self.heard(now, seat, level);
        self.reflect_level(seat, level);
    }

    /// How loud somebody's microphone is.
    pub(super) fn heard(&mut self, now: Now, seat: Seat, level: f32) {
        self.speakers.heard.insert(seat, (level, now.at));
        self.speakers.beat_at.get_or_insert(now.at + BEAT);
    }

    /// Somebody is gone: so is its voice.
    pub(super) fn forget_speaker(&mut self, seat: Seat) {
        self.speakers.heard.remove(&seat);
        self.speakers.told.remove(&seat);
        self.speakers.simulated.remove(&seat);
    }

    /// `simulateScenario('speaker')`: a client wants to be said to speak for so many seconds.
    pub(super) fn simulate_speaker(&mut self, now: Now, seat: Seat, seconds: i32) {
        let Ok(seconds) = u64::try_from(seconds) else {
            return;
        };
        let until = now.at + Duration::from_secs(seconds.min(MAX_SIMULATED_S));
        self.speakers.simulated.insert(seat, until);
        self.tell_speakers(&[(seat, SIMULATED_LEVEL)]);
    }

    fn end_simulated_speakers(&mut self, now: Now) {
        let over: Vec<(Seat, f32)> = self
            .speakers
            .simulated
            .iter()
            .filter(|(_, until)| **until <= now.at)
            .map(|(seat, _)| (*seat, 0.0))
            .collect();
        for (seat, _) in &over {
            self.speakers.simulated.remove(seat);
        }
        self.tell_speakers(&over);
    }

    pub(super) fn tell_speakers_if_due(&mut self, now: Now) {
        self.end_simulated_speakers(now);
        if self.speakers.beat_at.is_none_or(|at| at > now.at) {
            return;
        }
        self.speakers
            .heard
            .retain(|_, (level, at)| *level > 0.0 && now.at < *at + STALE);
        let loud: BTreeMap<Seat, u8> = self
            .speakers
            .heard
            .iter()
            .map(|(seat, (level, _))| (*seat, (level * STEPS).ceil() as u8))
            .collect();
        let mut changes: Vec<(Seat, u8)> = loud
            .iter()
            .filter(|(seat, level)| self.speakers.told.get(seat) != Some(level))
            .map(|(seat, level)| (*seat, *level))
            .collect();
        changes.sort_by_key(|(seat, level)| (std::cmp::Reverse(*level), *seat));
        changes.extend(
            self.speakers
                .told
                .keys()
                .filter(|seat| !loud.contains_key(seat))
                .map(|seat| (*seat, 0)),
        );
        self.speakers.beat_at = (!loud.is_empty()).then_some(now.at + BEAT);
        self.speakers.told = loud;
        let changes: Vec<(Seat, f32)> = changes
            .into_iter()
            .map(|(seat, eighths)| (seat, f32::from(eighths) / STEPS))
            .collect();
        self.tell_speakers(&changes);
    }

    /// Each participant hears of itself and of those whose audio it gets.
    fn tell_speakers(&mut self, changes: &[(Seat, f32)]) {
        if changes.is_empty() {
            return;
        }
        let listeners: Vec<Seat> = self.participants.keys().copied().collect();
        for listener in listeners {
            let speakers: Vec<SpeakerInfo> = changes
                .iter()
                .filter(|(speaker, _)| *speaker == listener || self.hears(listener, *speaker))
                .filter_map(|(speaker, level)| {
                    Some(SpeakerInfo {
                        sid: self.participant(*speaker)?.sid.as_str().to_owned(),
                        level: *level,
                        active: *level > 0.0,
                    })
                })
                .collect();
            if !speakers.is_empty() {
                let message = SpeakersChanged { speakers };
                self.send(listener, signal_response::Message::SpeakersChanged(message));
            }
        }
    }

    /// Whether `listener` has a down track of any track of `speaker`.
    pub(super) fn hears(&self, listener: Seat, speaker: Seat) -> bool {
        self.participant(listener).is_some_and(|participant| {
            participant.subscriptions.iter().any(|(sid, subscription)| {
                subscription.down.is_some() && self.tracks.get(sid) == Some(&speaker)
            })
        })
    }
}
