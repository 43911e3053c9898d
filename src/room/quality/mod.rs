//! How good everybody's connection is: reports of the workers in, `connection_quality` out (livekit.md 4.10, 14).
//!
//! A participant is as good as the worst of what it publishes and what it gets. What it does not send — muted, switched
//! off by dynacast, never begun — is no fault of its network. Every five seconds each participant is told of itself
//! and of those whose tracks it has, when anything in that list is new or has changed. The reference tells everybody
//! everything as soon as anybody has changed.

mod score;

use super::dynacast::Demand;
use super::participant::Participant;
use super::track::Publication;
use super::{Now, Room, Seat};
use crate::plan::{Codec, DownReport, QualityReport, UpReport};
use crate::protocol::livekit::{
    ConnectionQuality, ConnectionQualityInfo, ConnectionQualityUpdate, signal_response,
};
use score::{Score, Window};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Changes are told at this beat, and workers report at it (livekit 1.13.5 `connectionquality.UpdateInterval`).
const BEAT: Duration = Duration::from_secs(5);
/// After a change of what is asked of it, a publisher has this long before it is held to it.
const LENIENCY: Duration = Duration::from_secs(8);
/// A down track with at least this many packets in a report is one that its receiver should report on.
const MANY: u32 = 50;
/// Reports without any word of the receiver on any track until it counts as gone; audio receivers speak every 2.5 to
/// 7.5 s. Clients begin anew when they are told for ten seconds that they are lost (livekit-client 2.23).
const SILENT_REPORTS: u8 = 2;

/// A published track.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UpQuality {
    score: Score,
    /// Bit `n`: the encoding with spatial index `n` was received at some time.
    seen: u8,
    /// Muted or unmuted.
    changed_at: Option<Instant>,
}

impl UpQuality {
    /// The publisher muted or unmuted it.
    pub(super) fn change(&mut self, now: Instant) {
        self.changed_at = Some(now);
        self.score.forgive();
    }

    /// `allowed`: the encodings that the publisher is asked for.
    fn observe(&mut self, codec: Codec, window: Window, layers: u8, allowed: u8, may_pause: bool) {
        let due = self.seen & allowed;
        self.seen |= layers;
        if layers != 0 {
            let missing = if may_pause {
                0
            } else {
                top(due).saturating_sub(top(layers))
            };
            let missing_layers = missing;
            self.score.observe(
                codec,
                &Window {
                    missing_layers,
                    ..window
                },
            );
        } else if due != 0 && !may_pause {
            self.score.lose();
        } else if allowed == 0 {
            self.score.forgive();
        }
    }
}

/// The class of a score.
pub(super) fn class(score: f32) -> ConnectionQuality {
    score::quality(score)
}

/// The highest encoding of a set, counted from 1; 0 of none.
fn top(layers: u8) -> u8 {
    (u8::BITS - layers.leading_zeros()) as u8
}

/// A track that somebody gets.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DownQuality {
    score: Score,
    /// Reports in a row in which its receiver said nothing.
    silent: u8,
}

impl DownQuality {
    /// `is_heard`: something else of the same transport was heard.
    fn observe(&mut self, codec: Codec, report: &DownReport, rtt: Duration, is_heard: bool) {
        if report.reports > 0 {
            self.silent = 0;
            self.score.observe(
                codec,
                &Window {
                    expected: report.expected.into(),
                    lost: report.lost.into(),
                    span: BEAT,
                    rtt,
                    jitter: report.jitter,
                    missing_layers: report.held_back,
                },
            );
        } else if is_heard {
            self.silent = 0;
        } else if report.sent >= MANY {
            self.silent = self.silent.saturating_add(1);
            if self.silent >= SILENT_REPORTS {
                self.score.lose();
            }
        } else if report.sent == 0 {
            *self = Self::default();
        }
    }
}

/// What was told to whom.
#[derive(Debug, Default)]
pub(super) struct Qualities {
    beat_at: Option<Instant>,
    told: HashMap<Seat, BTreeMap<Seat, ConnectionQuality>>,
}

impl Qualities {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.beat_at
    }

    /// Its list is told anew at the next beat, or never again.
    pub(super) fn forget(&mut self, seat: Seat) {
        self.told.remove(&seat);
    }

    /// Somebody is there to be told. The beat counts from the room's birth.
    pub(super) fn start(&mut self, now: Instant, born: Instant) {
        let beats = now.saturating_duration_since(born).as_millis() / BEAT.as_millis() + 1;
        let next = born + BEAT * u32::try_from(beats).unwrap_or(u32::MAX);
        self.beat_at.get_or_insert(next);
    }
}

impl Room {
    /// A worker tells how the tracks of a transport fared.
    pub(super) fn quality_reported(&mut self, now: Now, report: &QualityReport) {
        let rtt = report.rtt.unwrap_or_default();
        let is_heard = report.ups.iter().any(|up| up.layers != 0)
            || report.downs.iter().any(|down| down.reports > 0);
        for up in &report.ups {
            let Some((seat, sid)) = self.ups.get(&up.up) else {
                continue;
            };
            let track = self
                .participants
                .get_mut(seat)
                .and_then(|publisher| publisher.tracks.get_mut(sid));
            if let Some(track) = track {
                track.quality_reported(now.at, up, rtt);
            }
        }
        for report in &report.downs {
            let Some(owner) = self.downs.get(&report.down) else {
                continue;
            };
            let codec = self
                .tracks
                .get(&owner.track)
                .and_then(|publisher| self.publication(*publisher, &owner.track))
                .and_then(|track| track.codec(track.place_of(owner.up)?));
            let down = self
                .participants
                .get_mut(&owner.subscriber)
                .and_then(|subscriber| subscriber.subscriptions.get_mut(&owner.track))
                .and_then(|subscription| subscription.down.as_mut());
            if let (Some(down), Some(codec)) = (down, codec) {
                down.quality.observe(codec, report, rtt, is_heard);
            }
        }
    }

    pub(super) fn tell_qualities_if_due(&mut self, now: Now) {
        if self.qualities.beat_at.is_none_or(|at| at > now.at) {
            return;
        }
        let scores: BTreeMap<Seat, f32> = self
            .participants
            .values()
            .filter(|participant| participant.is_active())
            .map(|participant| (participant.seat, participant.score()))
            .collect();
        self.reflect_qualities();
        self.qualities.beat_at = None;
        if !scores.is_empty() {
            self.qualities.start(now.at, self.update.born());
        }
        for &seat in scores.keys() {
            self.tell_qualities(seat, &scores);
        }
    }

    /// Tells one participant its list, if anything in it is news.
    fn tell_qualities(&mut self, seat: Seat, scores: &BTreeMap<Seat, f32>) {
        /// The first protocol with `connection_quality`.
        const SINCE: u32 = 4;
        let Some(participant) = self.participants.get(&seat) else {
            return;
        };
        if participant.session.is_none() || participant.protocol < SINCE {
            return;
        }
        let others: BTreeSet<Seat> = participant
            .subscriptions
            .iter()
            .filter(|(_, subscription)| subscription.down.as_ref().is_some_and(|d| !d.closing))
            .filter_map(|(sid, _)| self.tracks.get(sid).copied())
            .filter(|other| *other != seat)
            .collect();
        let list: Vec<(Seat, f32)> = std::iter::once(seat)
            .chain(others)
            .filter_map(|of| Some((of, *scores.get(&of)?)))
            .collect();
        let told = self.qualities.told.entry(seat).or_default();
        let news = list
            .iter()
            .any(|(of, score)| told.get(of) != Some(&score::quality(*score)));
        *told = list
            .iter()
            .map(|(of, score)| (*of, score::quality(*score)))
            .collect();
        if !news {
            return;
        }
        let updates = list
            .into_iter()
            .filter_map(|(of, score)| {
                Some(ConnectionQualityInfo {
                    participant_sid: self.participant(of)?.sid.as_str().to_owned(),
                    quality: score::quality(score) as i32,
                    score: score::opinion(score),
                })
            })
            .collect();
        self.send(
            seat,
            signal_response::Message::ConnectionQuality(ConnectionQualityUpdate { updates }),
        );
    }
}

impl Participant {
    /// The worst of its tracks; one without any path is lost.
    pub(super) fn score(&self) -> f32 {
        if let Some(guest) = &self.guest {
            return guest.score;
        }
        if self.expires.is_some() {
            return score::lost();
        }
        let ups = self
            .tracks
            .values()
            .flat_map(|track| track.codecs().map(|codec| codec.quality.score));
        let downs = self
            .subscriptions
            .values()
            .filter_map(|subscription| subscription.down.as_ref())
            .map(|down| down.quality.score);
        ups.chain(downs)
            .map(Score::value)
            .fold(score::perfect(), f32::min)
    }
}

impl Publication {
    fn quality_reported(&mut self, now: Instant, report: &UpReport, rtt: Duration) {
        let is_fresh = |at: Option<Instant>| at.is_some_and(|at| now < at + LENIENCY);
        let Some(place) = self.place_of(report.up) else {
            return;
        };
        let Some(codec) = self.codec(place) else {
            return;
        };
        let muted = self.info.muted;
        let allowed = self.asked_for(place);
        let Some(track) = self.codec_track_mut(report.up) else {
            return;
        };
        if muted {
            track.quality.score.forgive();
            return;
        }
        let window = Window {
            expected: report.expected,
            lost: report.lost,
            span: BEAT,
            rtt,
            jitter: report.jitter,
            missing_layers: 0,
        };
        let may_pause = is_fresh(track.quality.changed_at) || is_fresh(track.dynacast.told_at());
        track
            .quality
            .observe(codec, window, report.layers, allowed, may_pause);
    }

    /// The encodings of one of its codecs that the publisher is asked for, as bits.
    fn asked_for(&self, place: usize) -> u8 {
        let codec = self.codecs().nth(place);
        let Some(told) = codec.and_then(|codec| codec.dynacast.told()) else {
            return u8::MAX;
        };
        if told == Demand::Nothing {
            return 0;
        }
        if self.is_svc(place) {
            return u8::MAX;
        }
        self.layers(place)
            .iter()
            .take(8)
            .enumerate()
            .filter(|(_, layer)| Demand::of(layer.quality()) <= told)
            .fold(0, |bits, (index, _)| bits | 1 << index)
    }
}
