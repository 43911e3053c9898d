//! How loud a publisher is: RFC 6464 levels of packets in, one smoothed level an interval out.
//!
//! Owned by the up track; the room decides who speaks. The rule and its numbers are livekit 1.13.5
//! `pkg/sfu/audio/audiolevel.go` with the defaults of its code.

/// Levels are judged over this time, in milliseconds.
pub const INTERVAL_MS: u32 = 400;
/// A packet at this level (in −dBov) or louder is voice.
const ACTIVE_LEVEL: u8 = 35;
/// Voice for this share of an interval, in percent, makes it count.
const MIN_PERCENTILE: u32 = 40;
/// Intervals that are smoothed over.
const SMOOTH_INTERVALS: f32 = 2.0;
/// Silence on the scale of RFC 6464.
const SILENT: u8 = 127;
/// Seconds by which a packet may be late; one that seems later yet is of another source, or of a clock that ran on for
/// half its range while nothing came.
const LATEST: u32 = 30;

/// The linear level from which a participant counts as speaking: −35 dB.
pub fn threshold() -> f32 {
    10.0_f32.powf(-f32::from(ACTIVE_LEVEL) / 20.0)
}

/// See the module's text.
#[derive(Debug, Clone, Copy)]
pub struct LevelMeter {
    last_timestamp: Option<u32>,
    observed_ms: u32,
    active_ms: u32,
    loudest: u8,
    smoothed: f32,
    /// The level told last was one of speech.
    told: bool,
}

impl Default for LevelMeter {
    fn default() -> Self {
        Self {
            last_timestamp: None,
            observed_ms: 0,
            active_ms: 0,
            loudest: SILENT,
            smoothed: 0.0,
            told: false,
        }
    }
}

impl LevelMeter {
    /// A packet of `level` −dBov (0 loudest, 127 silent) came. Returns the linear level, 0–1, at the end of an interval
    /// in which the participant spoke, and once when it has stopped.
    pub fn observe(&mut self, level: u8, timestamp: u32, clock_rate: u32) -> Option<f32> {
        if self
            .last_timestamp
            .is_some_and(|last| last.wrapping_sub(timestamp) <= LATEST * clock_rate)
        {
            return None;
        }
        let elapsed = match self.last_timestamp.replace(timestamp) {
            Some(last) => (timestamp.wrapping_sub(last) as i32).max(0) as u32,
            None => 0,
        };
        let duration = (elapsed / (clock_rate / 1_000).max(1)).min(INTERVAL_MS);
        self.observed_ms += duration;
        if level <= ACTIVE_LEVEL {
            self.active_ms += duration;
            self.loudest = self.loudest.min(level);
        }
        if self.observed_ms < INTERVAL_MS {
            return None;
        }
        let mut score = 0.0;
        if self.active_ms >= INTERVAL_MS * MIN_PERCENTILE / 100 {
            let share = self.active_ms as f32 / INTERVAL_MS as f32;
            let adjusted = f32::from(self.loudest) - 20.0 * share.log10();
            let linear = 10.0_f32.powf(-adjusted / 20.0);
            score = self.smoothed + (linear - self.smoothed) * 2.0 / (SMOOTH_INTERVALS + 1.0);
        }
        self.smoothed = score;
        self.loudest = SILENT;
        self.active_ms = 0;
        self.observed_ms = 0;
        let speaks = score >= threshold();
        let was = std::mem::replace(&mut self.told, speaks);
        (speaks || was).then_some(if speaks { score.min(1.0) } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels of 20 ms packets; what was told, with the packet's number.
    fn told(levels: impl IntoIterator<Item = u8>) -> Vec<(usize, f32)> {
        let mut meter = LevelMeter::default();
        levels
            .into_iter()
            .enumerate()
            .filter_map(|(n, level)| Some((n, meter.observe(level, n as u32 * 960, 48_000)?)))
            .collect()
    }

    #[test]
    fn a_voice_is_told_every_interval_and_its_end_once() {
        let levels = std::iter::repeat_n(20, 61).chain(std::iter::repeat_n(127, 60));
        let told = told(levels);
        let numbers: Vec<usize> = told.iter().map(|(n, _)| *n).collect();
        assert_eq!(numbers, [20, 40, 60, 80]);
        assert!(
            told[0].1 < told[1].1 && told[1].1 <= 0.1,
            "smoothed towards −20 dB: {told:?}"
        );
        assert!(told[3].1.abs() < f32::EPSILON);
    }

    #[test]
    fn a_click_and_a_whisper_are_no_speech() {
        let click = (0..100).map(|n| if n % 20 == 7 { 5 } else { 127 });
        assert!(told(click).is_empty());
        assert!(told(std::iter::repeat_n(36, 100)).is_empty());
    }

    #[test]
    fn late_and_repeated_packets_do_not_count_twice() {
        let mut meter = LevelMeter::default();
        let mut told = 0;
        for n in 0..100_u32 {
            for timestamp in [n * 960, n * 960, n.saturating_sub(2) * 960] {
                told += usize::from(meter.observe(10, timestamp, 48_000).is_some());
            }
        }
        assert_eq!(told, 99 / 20);
    }

    #[test]
    fn a_voice_is_heard_after_a_night_of_silence_and_from_another_source() {
        let mut meter = LevelMeter::default();
        for begin in [0, 48_000 * 3_600 * 13, 7, 4_000_000_000] {
            let mut told = 0;
            for n in 0..60 {
                let timestamp = begin + n * 960;
                told += usize::from(meter.observe(10, timestamp, 48_000).is_some());
            }
            assert!(told >= 2, "{begin}");
        }
    }

    #[test]
    fn a_gap_of_silence_suppression_is_at_most_one_interval() {
        let mut meter = LevelMeter::default();
        assert!(meter.observe(10, 0, 48_000).is_none());
        assert!(meter.observe(10, 48_000 * 60, 48_000).is_some());
        assert!(meter.observe(10, 48_000 * 60 + 960, 48_000).is_none());
    }
}
