//! Who speaks: levels of microphones in, `speakers_changed` out, at a beat and only what changed (livekit.md 4.9).
//!
//! Each participant hears of itself and of those any track of whom it gets (livekit 1.13.5 `IsSubscribedTo`). Clients
//! believe what they were told until they are told otherwise, so what each was told is kept, and what it hears now is
//! compared with that: a speaker whose last track it loses falls silent for it, one whose first track it gets does not
//! have to change to be told.

use super::participant::Participant;
use super::resume::{MAX_DEPARTED, UNNOTICED};
use super::{Now, Room, Seat};
use crate::ids::{ParticipantSid, UpTrackId};
use crate::protocol::livekit::{SpeakerInfo, SpeakersChanged, TrackSource, signal_response};
use crate::protocol::signal::Encoded;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Changes are told at most this often (livekit 1.13.5 `audio.update_interval`).
const BEAT: Duration = Duration::from_millis(400);
/// A microphone that has not been heard of for two intervals is silent.
const STALE: Duration = Duration::from_millis(900);
/// Levels are told in steps of an eighth.
const STEPS: f32 = 8.0;
/// Levels are kept in fortieths, so many to a step.
const UNITS: u8 = 40;
const UNITS_PER_STEP: u8 = 5;
/// How loud somebody is who only wants to be said to speak, in units (livekit 1.13.5: 0.9), and how long at most.
const SIMULATED_LEVEL: u8 = 36;
const MAX_SIMULATED_S: u64 = 60;
/// In place of a level: the listener may believe anything.
const UNSURE: u8 = u8::MAX;

/// How loud each is who is not silent, in units.
type Levels = BTreeMap<Seat, u8>;

/// What is known and what was told.
#[derive(Debug, Default)]
pub(super) struct Speakers {
    heard: BTreeMap<Seat, (f32, Instant)>,
    /// Said to speak by its own wish, until this moment.
    simulated: BTreeMap<Seat, Instant>,
    /// What each listener was told. There is a beat while anybody is in here.
    told: BTreeMap<Seat, Levels>,
    /// Whoever has spoken since it came.
    spoken: BTreeSet<Seat>,
    /// Those who had spoken and are gone, for those who were away then.
    gone: VecDeque<(Instant, ParticipantSid)>,
    beat_at: Option<Instant>,
}

impl Speakers {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.beat_at
            .into_iter()
            .chain(self.simulated.values().copied())
            .min()
    }

    /// Who speaks right now.
    fn loud(&mut self, now: Instant) -> Levels {
        self.heard
            .retain(|_, (level, at)| *level > 0.0 && now < *at + STALE);
        self.simulated.retain(|_, until| now < *until);
        let heard = self.heard.iter();
        let steps = |level: f32| (level.min(1.0) * STEPS).ceil() as u8;
        let heard = heard.map(|(seat, (level, _))| (*seat, steps(*level) * UNITS_PER_STEP));
        let simulated = self.simulated.keys().map(|seat| (*seat, SIMULATED_LEVEL));
        heard.chain(simulated).collect()
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.told.is_empty() && self.spoken.is_empty() && self.next_timeout().is_none()
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
    pub(super) fn forget_speaker(&mut self, now: Now, gone: &Participant) {
        let seat = gone.seat;
        self.speakers.heard.remove(&seat);
        self.speakers.simulated.remove(&seat);
        self.silence(now, seat, &gone.sid);
        self.speakers.spoken.remove(&seat);
        self.speakers.told.remove(&seat);
    }

    /// Its client is about to forget everybody here: before that they fall silent for it, and so does it.
    pub(super) fn silence_all_for(&mut self, listener: Seat) {
        if let Some(told) = self.speakers.told.remove(&listener) {
            self.tell_levels(listener, &told, &Levels::new());
        }
    }

    /// Those who had spoken and have gone since speak for its client still, which was away when they went.
    pub(super) fn silence_gone(&mut self, listener: Seat, away_since: Instant) {
        let gone = self.speakers.gone.iter();
        let gone = gone.filter(|(at, _)| *at + UNNOTICED >= away_since);
        let speakers: Vec<SpeakerInfo> = gone.map(|(_, sid)| speaks(sid, 0)).collect();
        if !speakers.is_empty() {
            let message = SpeakersChanged { speakers };
            self.send(listener, signal_response::Message::SpeakersChanged(message));
        }
    }

    /// The others are about to hear that somebody is gone. Those who were told that it speaks hear before that it does
    /// not: livekit-client lists it among the speakers for ever, once it does not know it any more.
    pub(super) fn silence(&mut self, now: Now, speaker: Seat, sid: &ParticipantSid) {
        if self.speakers.spoken.contains(&speaker) {
            self.speakers.gone.push_back((now.at, sid.clone()));
            while self.speakers.gone.len() > MAX_DEPARTED {
                self.speakers.gone.pop_front();
            }
        }
        let others = self.speakers.told.iter_mut();
        let told: Vec<Seat> = others
            .filter(|(listener, _)| **listener != speaker)
            .filter_map(|(listener, levels)| levels.remove(&speaker).map(|_| *listener))
            .collect();
        if told.is_empty() {
            return;
        }
        let speakers = vec![speaks(sid, 0)];
        let message = signal_response::Message::SpeakersChanged(SpeakersChanged { speakers });
        let message = Arc::new(Encoded::new(message));
        for listener in told {
            self.send_shared(listener, &message);
        }
    }

    /// Its client may have missed what it was told last: it is told anew of everybody who has spoken.
    pub(super) fn renew_speakers(&mut self, now: Now, listener: Seat) {
        let spoken = self.speakers.spoken.iter();
        let unsure = spoken.filter(|speaker| self.shows(listener, **speaker));
        let unsure: Levels = unsure.map(|speaker| (*speaker, UNSURE)).collect();
        if !unsure.is_empty() {
            self.speakers.told.insert(listener, unsure);
            self.speakers.beat_at.get_or_insert(now.at + BEAT);
        }
    }

    /// `simulateScenario('speaker')`: a client wants to be said to speak for so many seconds.
    pub(super) fn simulate_speaker(&mut self, now: Now, seat: Seat, seconds: i32) {
        let Ok(seconds) = u64::try_from(seconds) else {
            return;
        };
        let until = now.at + Duration::from_secs(seconds.min(MAX_SIMULATED_S));
        self.speakers.simulated.insert(seat, until);
        self.tell_speakers(now);
    }

    pub(super) fn tell_speakers_if_due(&mut self, now: Now) {
        let due = self.speakers.next_timeout();
        if due.is_some_and(|at| at <= now.at) {
            self.tell_speakers(now);
        }
    }

    /// Tells everybody in what they hear something else than they were told.
    fn tell_speakers(&mut self, now: Now) {
        let loud = self.speakers.loud(now.at);
        self.speakers.spoken.extend(loud.keys());
        self.speakers.beat_at = (!loud.is_empty()).then_some(now.at + BEAT);
        let mut told = std::mem::take(&mut self.speakers.told);
        if loud.is_empty() && told.is_empty() {
            return;
        }
        // Whoever has no session is told anew when it is back.
        let here = self.participants.values().filter(|p| p.session.is_some());
        let listeners: Vec<Seat> = here.map(|p| p.seat).collect();
        for listener in listeners {
            let before = told.remove(&listener).unwrap_or_default();
            let hears = self.heard_by(listener, &loud);
            if before != hears {
                self.tell_levels(listener, &before, &hears);
            }
            if !hears.is_empty() {
                self.speakers.told.insert(listener, hears);
            }
        }
    }

    /// The loudest come first, those who have stopped last.
    fn tell_levels(&mut self, listener: Seat, before: &Levels, hears: &Levels) {
        let stopped = before.keys().filter(|seat| !hears.contains_key(seat));
        let news = hears
            .iter()
            .filter(|(seat, level)| before.get(seat) != Some(level));
        let mut changes: Vec<(Seat, u8)> = news
            .map(|(seat, level)| (*seat, *level))
            .chain(stopped.map(|seat| (*seat, 0)))
            .collect();
        changes.sort_by_key(|(seat, level)| (Reverse(*level), *seat));
        let speakers = changes
            .into_iter()
            .filter_map(|(seat, level)| Some(speaks(&self.participant(seat)?.sid, level)))
            .collect();
        let message = SpeakersChanged { speakers };
        self.send(listener, signal_response::Message::SpeakersChanged(message));
    }

    fn heard_by(&self, listener: Seat, loud: &Levels) -> Levels {
        let heard = loud.iter().filter(|(speaker, _)| {
            **speaker == listener
                || (self.shows(listener, **speaker) && self.hears(listener, **speaker))
        });
        heard.map(|(speaker, level)| (*speaker, *level)).collect()
    }

    /// Whether `listener` gets any track of `speaker`.
    fn hears(&self, listener: Seat, speaker: Seat) -> bool {
        let (Some(listener), Some(speaker)) =
            (self.participant(listener), self.participant(speaker))
        else {
            return false;
        };
        let mut tracks = speaker.tracks.keys();
        tracks.any(|sid| {
            let subscription = listener.subscriptions.get(sid);
            let down = subscription.and_then(|subscription| subscription.down.as_ref());
            down.is_some_and(|down| !down.closing)
        })
    }

    /// Whether `viewer` knows that `speaker` is there.
    fn shows(&self, viewer: Seat, speaker: Seat) -> bool {
        let is_hidden = |participant: &Participant| participant.permission.hidden;
        viewer == speaker || !self.participant(speaker).is_none_or(is_hidden)
    }
}

fn speaks(sid: &ParticipantSid, level: u8) -> SpeakerInfo {
    SpeakerInfo {
        sid: sid.as_str().to_owned(),
        level: f32::from(level) / f32::from(UNITS),
        active: level > 0,
    }
}
