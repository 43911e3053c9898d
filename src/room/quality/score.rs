//! From loss, delay and missing layers to a score of 0 to 100, and from a score to what clients are told.
//!
//! The rule of livekit 1.13.5 `pkg/sfu/connectionquality/scorer.go` (livekit.md 4.10), but for its bit rates: what a
//! publisher could have sent is not known here, and what it never sent is no fault of the network.

use crate::plan::Codec;
use crate::protocol::livekit::ConnectionQuality;
use std::time::Duration;

const MAX: f32 = 100.0;
/// Bad networks do not fall below this, so that they recover soon.
const MIN: f32 = 30.0;
/// Of a track from which nothing comes any more.
const LOST: f32 = 20.0;
/// The share of a better and of a worse window that counts at once.
const RISE: f32 = 0.4;
const FALL: f32 = 0.8;
/// Points for each layer that is missing.
const LAYER: f32 = 35.0;

/// What one report says of a track.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    /// Packets by their numbers.
    pub(super) expected: u64,
    /// Those that were lost.
    pub(super) lost: u64,
    /// How long the window is.
    pub(super) span: Duration,
    /// The round trip; zero when nobody knows it.
    pub(super) rtt: Duration,
    /// Interarrival jitter.
    pub(super) jitter: Duration,
    /// Layers that should be there and are not.
    pub(super) missing_layers: u8,
}

/// The score of one track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Score {
    value: f32,
    /// The highest packet rate seen, per second.
    busiest: f32,
}

impl Default for Score {
    fn default() -> Self {
        Self {
            value: MAX,
            busiest: 0.0,
        }
    }
}

impl Score {
    pub(super) fn value(self) -> f32 {
        self.value
    }

    /// Packets came or were reported on.
    pub(super) fn observe(&mut self, codec: Codec, window: &Window) {
        if window.expected == 0 {
            return;
        }
        let rate = window.expected as f32 / window.span.as_secs_f32().max(0.001);
        self.busiest = self.busiest.max(rate);
        // One packet lost of a few in a silence weighs less than the same share of a full stream.
        let weight = loss_weight(codec) * (rate / self.busiest).sqrt();
        let lost = window.lost.min(window.expected) as f32 / window.expected as f32;
        let packets = MAX - delay_effect(window) - lost * 100.0 * weight;
        let layers = MAX - LAYER * f32::from(window.missing_layers);
        let now = packets.min(layers).clamp(MIN, MAX);
        let factor = if now < self.value { FALL } else { RISE };
        self.value += (now - self.value) * factor;
    }

    /// Nothing came where something should have.
    pub(super) fn lose(&mut self) {
        self.value = LOST;
    }

    /// Nothing is to be expected: what was says nothing of what will be.
    pub(super) fn forgive(&mut self) {
        self.value = MAX;
    }
}

/// Points for each percent lost. Opus brings its own repair, RED the packets before.
fn loss_weight(codec: Codec) -> f32 {
    match codec {
        Codec::Opus => 8.0 / 1.5,
        Codec::Red => 4.0 / 1.5,
        Codec::Pcma | Codec::Pcmu => 8.0,
        Codec::Av1 | Codec::H264 | Codec::H265 | Codec::Vp8 | Codec::Vp9 => 10.0,
    }
}

/// Points for delay, by the E-model (ITU-T G.107): hardly any up to 160 ms, many above.
fn delay_effect(window: &Window) -> f32 {
    let delay = (window.rtt / 2 + window.jitter * 2).as_secs_f32() * 1_000.0;
    if delay < 160.0 {
        delay / 40.0
    } else {
        (delay - 120.0) / 10.0
    }
}

/// The word for a score.
pub(super) fn quality(score: f32) -> ConnectionQuality {
    if score > 80.0 {
        ConnectionQuality::Excellent
    } else if score > 40.0 {
        ConnectionQuality::Good
    } else if score > LOST {
        ConnectionQuality::Poor
    } else {
        ConnectionQuality::Lost
    }
}

/// The mean opinion score of a score (ITU-T G.107 annex B): 1 to 4.5.
pub(super) fn opinion(score: f32) -> f32 {
    1.0 + 0.035 * score + 7.0e-6 * score * (score - 60.0) * (100.0 - score)
}

/// What a participant has that is lost altogether.
pub(super) fn lost() -> f32 {
    LOST
}

/// What a participant has that sends and gets nothing.
pub(super) fn perfect() -> f32 {
    MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(expected: u64, lost: u64) -> Window {
        Window {
            expected,
            lost,
            span: Duration::from_secs(5),
            ..Window::default()
        }
    }

    fn after(codec: Codec, windows: &[Window]) -> f32 {
        let mut score = Score::default();
        for window in windows {
            score.observe(codec, window);
        }
        score.value()
    }

    #[test]
    fn the_words_for_loss_are_those_of_the_reference() {
        for (codec, per_cent, word) in [
            (Codec::Vp8, 0, ConnectionQuality::Excellent),
            (Codec::Vp8, 1, ConnectionQuality::Excellent),
            (Codec::Vp8, 4, ConnectionQuality::Good),
            (Codec::Vp8, 8, ConnectionQuality::Poor),
            (Codec::Opus, 3, ConnectionQuality::Excellent),
            (Codec::Opus, 6, ConnectionQuality::Good),
            (Codec::Red, 6, ConnectionQuality::Excellent),
        ] {
            let score = after(codec, &[window(1_000, per_cent * 10); 3]);
            assert_eq!(quality(score), word, "{codec:?} {per_cent} %: {score}");
        }
    }

    #[test]
    fn a_bad_moment_counts_at_once_and_is_forgotten_slowly() {
        let bad = after(Codec::Vp8, &[window(1_000, 100)]);
        assert_eq!(quality(bad), ConnectionQuality::Good, "{bad}");
        let worse = after(Codec::Vp8, &[window(1_000, 100); 3]);
        assert_eq!(quality(worse), ConnectionQuality::Poor, "{worse}");
        let mut better = vec![window(1_000, 100); 3];
        better.extend([window(1_000, 0); 2]);
        assert_eq!(quality(after(Codec::Vp8, &better)), ConnectionQuality::Good);
        better.push(window(1_000, 0));
        assert_eq!(
            quality(after(Codec::Vp8, &better)),
            ConnectionQuality::Excellent
        );
    }

    #[test]
    fn what_is_lost_stays_lost_until_something_comes() {
        let mut score = Score::default();
        score.lose();
        assert_eq!(quality(score.value()), ConnectionQuality::Lost);
        score.observe(Codec::Opus, &window(0, 0));
        assert_eq!(quality(score.value()), ConnectionQuality::Lost);
        score.observe(Codec::Opus, &window(250, 0));
        assert_eq!(quality(score.value()), ConnectionQuality::Good);
    }

    #[test]
    fn one_packet_of_a_silence_is_no_bad_network() {
        let talk = window(250, 0);
        let silence = window(12, 1);
        let full = window(250, 21);
        assert_eq!(
            quality(after(Codec::Opus, &[talk, silence])),
            ConnectionQuality::Excellent
        );
        assert_eq!(
            quality(after(Codec::Opus, &[talk, full])),
            ConnectionQuality::Good
        );
    }

    #[test]
    fn delay_counts_from_a_fifth_of_a_second_on() {
        let with = |rtt: u64, jitter: u64| Window {
            rtt: Duration::from_millis(rtt),
            jitter: Duration::from_millis(jitter),
            ..window(100, 0)
        };
        assert!(after(Codec::Opus, &[with(200, 10)]) > 95.0);
        assert_eq!(
            quality(after(Codec::Opus, &[with(600, 40)])),
            ConnectionQuality::Good
        );
    }

    #[test]
    fn a_missing_layer_is_good_and_two_are_poor_in_the_end() {
        let missing = |missing_layers| Window {
            missing_layers,
            ..window(100, 0)
        };
        let one = after(Codec::Vp8, &[missing(1); 4]);
        assert_eq!(quality(one), ConnectionQuality::Good);
        let two = after(Codec::Vp8, &[missing(2); 4]);
        assert_eq!(quality(two), ConnectionQuality::Poor);
    }

    #[test]
    fn opinions_go_from_one_to_four_and_a_half() {
        assert!((opinion(100.0) - 4.5).abs() < 0.001);
        assert!((opinion(0.0) - 1.0).abs() < 0.001);
        assert!((opinion(80.0) - 4.02).abs() < 0.01);
    }
}
