//! Which encoding of a simulcast track a subscriber gets: the highest one that lives and that it wants and can carry.
//!
//! [`Activity`] tells which encodings live; [`Limit`] is the coarse answer to congestion, one for each down track: a
//! receiver's estimate (REMB) and its reported loss take layers away, time gives them back. Pure; the down track acts.

use std::time::{Duration, Instant};

/// Simulcast encodings of one track at most; browsers send three.
pub const MAX_LAYERS: usize = 4;

/// A layer is dead after this silence, or after three of its frame intervals when that is longer.
const SILENCE: Duration = Duration::from_secs(1);
/// Even a slide show sends a frame in this time, or its layer counts as dead.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// How long loss above [`LOSSY`] lasts before a layer is taken away.
const LOSSY_FOR: Duration = Duration::from_secs(2);
/// More than 10 % lost, as an RR's 8-bit fraction.
const LOSSY: u8 = 26;
/// How long a layer stays away at first; doubles while each return fails, up to [`LONGEST_AWAY`].
const AWAY: Duration = Duration::from_secs(10);
const LONGEST_AWAY: Duration = Duration::from_secs(60);

/// Life and rate of one encoding, by arrival.
#[derive(Debug, Clone, Copy, Default)]
pub struct Activity {
    last: Option<Instant>,
    last_timestamp: u32,
    last_frame: Option<Instant>,
    /// Smoothed time between frames.
    interval: Option<Duration>,
    window: Option<Instant>,
    window_bytes: u64,
    bitrate: u64,
}

impl Activity {
    /// A packet of `len` bytes came.
    pub fn handle(&mut self, now: Instant, timestamp: u32, len: usize) {
        if self.last_frame.is_none() || timestamp.wrapping_sub(self.last_timestamp) as i32 > 0 {
            if let Some(last) = self.last_frame {
                let gap = now.saturating_duration_since(last);
                self.interval = Some(self.interval.map_or(gap, |old| (old * 7 + gap) / 8));
            }
            self.last_frame = Some(now);
            self.last_timestamp = timestamp;
        }
        // After a pause the old interval says nothing.
        if self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) > LONGEST_SILENCE)
        {
            self.interval = None;
            self.window = None;
        }
        self.last = Some(now);
        let began = *self.window.get_or_insert(now);
        let span = now.saturating_duration_since(began);
        if span >= Duration::from_secs(1) {
            let rate = (self.window_bytes * 8_000_000) / (span.as_micros() as u64).max(1);
            self.bitrate = if self.bitrate == 0 {
                rate
            } else {
                self.bitrate.midpoint(rate)
            };
            self.window = Some(now);
            self.window_bytes = 0;
        }
        self.window_bytes += len as u64;
    }

    /// Whether it has been heard of lately.
    pub fn is_live(&self, now: Instant) -> bool {
        let patience = self.interval.map_or(SILENCE, |interval| {
            (interval * 3).clamp(SILENCE, LONGEST_SILENCE)
        });
        self.last
            .is_some_and(|last| now.saturating_duration_since(last) < patience)
    }

    /// Bits a second over the last seconds; 0 before the first second is over.
    pub fn bitrate(&self) -> u64 {
        self.bitrate
    }
}

/// What congestion leaves of a subscriber's wish for one track.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Highest spatial layer allowed; 255: any.
    cap: u8,
    lossy_since: Option<Instant>,
    /// When one more layer may be tried.
    retry_at: Option<Instant>,
    away: Duration,
    /// The receiver's last estimate, bits a second.
    estimate: u64,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            cap: u8::MAX,
            lossy_since: None,
            retry_at: None,
            away: AWAY,
            estimate: 0,
        }
    }
}

impl Limit {
    /// The highest layer allowed now; 255: any.
    pub fn cap(&self) -> u8 {
        self.cap
    }

    /// A receiver report came: `fraction_lost` of 256, while layer `current` is sent.
    pub fn handle_loss(&mut self, now: Instant, fraction_lost: u8, current: u8) {
        if fraction_lost < LOSSY {
            self.lossy_since = None;
            return;
        }
        let since = *self.lossy_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= LOSSY_FOR && current > 0 {
            self.lower(now, current - 1);
            self.lossy_since = None;
        }
    }

    /// The receiver's estimate of what it can take for this track, and the measured rates of its layers. An estimate
    /// that falls below what is sent is congestion. One above it says little, for a receiver cannot see what it is not
    /// sent; one that only lags behind a layer just begun (libwebrtc raises it by 8 % a second) says nothing.
    pub fn handle_estimate(
        &mut self,
        now: Instant,
        share: u64,
        rates: &[u64; MAX_LAYERS],
        current: u8,
    ) {
        let Some(&sent) = rates.get(usize::from(current)) else {
            return;
        };
        let falls = share < self.estimate / 100 * 95;
        self.estimate = share;
        if sent == 0 || share >= sent || current == 0 || !falls {
            return;
        }
        let fits = (0..current)
            .rev()
            .find(|&layer| {
                let rate = rates[usize::from(layer)];
                rate > 0 && rate <= share
            })
            .unwrap_or(0);
        self.lower(now, fits);
    }

    /// Gives a layer back when its time has come; `highest` is the highest layer there is.
    pub fn relax(&mut self, now: Instant, highest: u8) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.cap += 1;
            if self.cap >= highest {
                self.cap = u8::MAX;
                self.retry_at = None;
            } else {
                self.retry_at = Some(now + self.away);
            }
            self.lossy_since = None;
        }
    }

    fn lower(&mut self, now: Instant, to: u8) {
        if to >= self.cap {
            return;
        }
        // A return that failed within its own time is tried again later than the one before.
        let failed_soon = self.cap != u8::MAX || self.away > AWAY;
        self.away = if failed_soon {
            (self.away * 2).min(LONGEST_AWAY)
        } else {
            AWAY
        };
        self.cap = to;
        self.retry_at = Some(now + self.away);
    }
}

/// The layer to aim for: the highest live one up to `most`, else the lowest live one, else what is sent now.
pub fn choose(live: [bool; MAX_LAYERS], most: u8, current: Option<u8>) -> Option<u8> {
    let lives = |layer: &u8| live[usize::from(*layer)];
    let layers = 0..MAX_LAYERS as u8;
    layers
        .clone()
        .rev()
        .filter(|&layer| layer <= most)
        .find(lives)
        .or_else(|| layers.clone().find(lives))
        .or(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(start: Instant, n: u64) -> Instant {
        start + Duration::from_millis(n)
    }

    #[test]
    fn a_slide_show_lives_longer_than_a_camera() {
        let start = Instant::now();
        let mut camera = Activity::default();
        let mut slides = Activity::default();
        for n in 0..300u64 {
            camera.handle(ms(start, n * 33), n as u32 * 3_000, 1_000);
        }
        for n in 0..5u64 {
            slides.handle(ms(start, n * 1_500), n as u32 * 135_000, 1_000);
        }
        assert!(camera.is_live(ms(start, 299 * 33 + 999)));
        assert!(!camera.is_live(ms(start, 299 * 33 + 1_000)));
        assert!(slides.is_live(ms(start, 6_000 + 4_000)));
        assert!(!slides.is_live(ms(start, 6_000 + 5_000)));
        let rate = camera.bitrate();
        assert!((235_000..250_000).contains(&rate), "{rate}");
    }

    #[test]
    fn the_highest_live_layer_that_is_wanted_is_chosen() {
        assert_eq!(choose([true, true, true, false], 255, None), Some(2));
        assert_eq!(choose([true, true, true, false], 1, None), Some(1));
        assert_eq!(choose([true, false, true, false], 1, Some(1)), Some(0));
        assert_eq!(choose([false, false, true, false], 0, None), Some(2));
        assert_eq!(choose([false; 4], 2, Some(1)), Some(1));
        assert_eq!(choose([false; 4], 2, None), None);
    }

    #[test]
    fn two_seconds_of_loss_cost_a_layer_and_ten_without_give_it_back() {
        let start = Instant::now();
        let mut limit = Limit::default();
        limit.handle_loss(start, 40, 2);
        limit.handle_loss(ms(start, 1_900), 40, 2);
        assert_eq!(limit.cap(), 255);
        limit.handle_loss(ms(start, 2_000), 40, 2);
        assert_eq!(limit.cap(), 1);
        limit.relax(ms(start, 11_999), 2);
        assert_eq!(limit.cap(), 1);
        limit.relax(ms(start, 12_000), 2);
        assert_eq!(limit.cap(), 255);
    }

    #[test]
    fn a_short_burst_of_loss_costs_nothing() {
        let start = Instant::now();
        let mut limit = Limit::default();
        limit.handle_loss(start, 100, 2);
        limit.handle_loss(ms(start, 1_000), 0, 2);
        limit.handle_loss(ms(start, 2_500), 100, 2);
        assert_eq!(limit.cap(), 255);
    }

    #[test]
    fn an_estimate_below_what_is_sent_picks_the_layer_that_fits() {
        let start = Instant::now();
        let rates = [150_000, 500_000, 2_000_000, 0];
        let mut limit = Limit::default();
        limit.handle_estimate(start, 2_100_000, &rates, 2);
        assert_eq!(limit.cap(), 255);
        limit.handle_estimate(start, 300_000, &rates, 2);
        assert_eq!(limit.cap(), 0);
        // What a receiver of the low layer can estimate says nothing against the middle one.
        limit.handle_estimate(ms(start, 100), 220_000, &rates, 0);
        limit.relax(ms(start, 10_000), 2);
        assert_eq!(limit.cap(), 1);
        // It lags behind what it is sent now, then it fails again: away for longer.
        limit.handle_estimate(ms(start, 10_500), 330_000, &rates, 1);
        assert_eq!(limit.cap(), 1);
        limit.handle_estimate(ms(start, 11_000), 300_000, &rates, 1);
        assert_eq!(limit.cap(), 0);
        limit.relax(ms(start, 30_900), 2);
        assert_eq!(limit.cap(), 0);
        limit.relax(ms(start, 31_000), 2);
        assert_eq!(limit.cap(), 1);
    }
}
