//! Which encoding of a simulcast track a subscriber gets: the highest one that lives and that it wants and can carry.
//!
//! [`Activity`] follows each encoding, [`Survey`] tells which live; [`Limit`] is the coarse answer to congestion, one for each down track: a
//! receiver's estimate (REMB) and its reported loss take layers away, time gives them back. Pure; the down track acts.

use std::time::{Duration, Instant};

/// Simulcast encodings of one track, or spatial layers of one encoding, at most; browsers send three.
pub const MAX_LAYERS: usize = 4;

/// A layer is dead after this time without a frame, or after three frame intervals when that is longer: its own, or
/// those of whichever layer of the track still sends, so that a slide show keeps its layers and a camera whose sender
/// has given one up is seen through at once.
const SILENCE: Duration = Duration::from_millis(700);
/// Even a slide show sends a frame in this time, or its layer counts as dead.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// How long a layer that was silent lives again before anybody is switched up to it (livekit 1.13.5
/// pkg/sfu/streamtracker: four cycles of 500 ms). A sender short of bandwidth tries its highest layer again and again.
const SETTLED: Duration = Duration::from_secs(2);
/// How long loss above [`LOSSY`] lasts before a layer is taken away.
const LOSSY_FOR: Duration = Duration::from_secs(2);
/// More than 10 % lost, as an RR's 8-bit fraction.
const LOSSY: u8 = 26;
/// How long a layer stays away at first; doubles while each return fails, up to [`LONGEST_AWAY`].
const AWAY: Duration = Duration::from_secs(10);
const LONGEST_AWAY: Duration = Duration::from_secs(60);
/// Ticks of video, 30 s: what is older than that is no repair, but a frame of another source, or of a clock that ran on
/// for half its range while nothing came.
const OLDEST_REPAIR: u32 = 30 * 90_000;

/// Life and rate of one encoding, by arrival.
#[derive(Debug, Clone, Copy, Default)]
pub struct Activity {
    last_timestamp: u32,
    last_frame: Option<Instant>,
    /// Smoothed time between frames.
    interval: Option<Duration>,
    /// When it came back from its last silence.
    back_since: Option<Instant>,
    window: Option<Instant>,
    window_bytes: u64,
    bitrate: u64,
}

impl Activity {
    /// A packet of `len` bytes came, with a frame's `timestamp`. Only a newer frame is a sign of life: repairs of old
    /// ones come while a sender probes for bandwidth.
    pub fn handle(&mut self, now: Instant, timestamp: u32, len: usize) {
        let behind = self.last_timestamp.wrapping_sub(timestamp);
        if self.last_frame.is_none() || behind > OLDEST_REPAIR {
            if let Some(last) = self.last_frame {
                let gap = now.saturating_duration_since(last);
                if gap > LONGEST_SILENCE {
                    // After a pause the old interval says nothing.
                    self.interval = None;
                    self.window = None;
                } else {
                    self.interval = Some(self.interval.map_or(gap, |old| (old * 7 + gap) / 8));
                }
                if gap >= SILENCE {
                    self.back_since = Some(now);
                }
            }
            self.last_frame = Some(now);
            self.last_timestamp = timestamp;
        }
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

    /// How long its next frame may take.
    fn patience(&self) -> Duration {
        self.interval.map_or(SILENCE, |interval| {
            (interval * 3).clamp(SILENCE, LONGEST_SILENCE)
        })
    }

    fn is_within(&self, now: Instant, patience: Duration) -> bool {
        self.last_frame
            .is_some_and(|last| now.saturating_duration_since(last) < patience)
    }

    fn is_settled(&self, now: Instant) -> bool {
        self.back_since
            .is_none_or(|since| now.saturating_duration_since(since) >= SETTLED)
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
    /// When one more was tried last.
    tried_at: Option<Instant>,
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
            tried_at: None,
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
        if share < sent && falls {
            self.handle_ceiling(now, share, rates, current);
        }
    }

    /// What this track may take, whatever its receiver says.
    pub fn handle_ceiling(
        &mut self,
        now: Instant,
        share: u64,
        rates: &[u64; MAX_LAYERS],
        current: u8,
    ) {
        if current == 0
            || rates
                .get(usize::from(current))
                .is_none_or(|&sent| sent <= share)
        {
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
            self.tried_at = Some(now);
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
        let failed_soon = self
            .tried_at
            .is_some_and(|at| now.saturating_duration_since(at) < self.away);
        self.away = if failed_soon {
            (self.away * 2).min(LONGEST_AWAY)
        } else {
            AWAY
        };
        self.cap = to;
        self.retry_at = Some(now + self.away);
    }
}

/// What can be had of the encodings of one track.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Survey {
    /// Which live.
    pub live: [bool; MAX_LAYERS],
    /// Which have not just come back from a silence.
    settled: [bool; MAX_LAYERS],
}

impl Survey {
    /// Looks at all encodings of a track.
    pub fn new(now: Instant, layers: [Option<&Activity>; MAX_LAYERS]) -> Self {
        let patience = layers
            .iter()
            .flatten()
            .filter(|activity| activity.is_within(now, activity.patience()))
            .map(|activity| activity.patience())
            .min()
            .unwrap_or(SILENCE);
        Self {
            live: layers
                .map(|layer| layer.is_some_and(|activity| activity.is_within(now, patience))),
            settled: layers.map(|layer| layer.is_some_and(|activity| activity.is_settled(now))),
        }
    }

    /// The layer to aim for: the highest live one up to `most` that has settled or is sent already, else the highest
    /// live one up to `most`, else the lowest live one, else what is sent now.
    pub fn choose(&self, most: u8, current: Option<u8>) -> Option<u8> {
        let lives = |layer: &u8| self.live[usize::from(*layer)];
        let layers = 0..MAX_LAYERS as u8;
        let allowed = layers.clone().rev().filter(|&layer| layer <= most);
        allowed
            .clone()
            .filter(|&layer| self.settled[usize::from(layer)] || Some(layer) == current)
            .find(lives)
            .or_else(|| allowed.clone().find(lives))
            .or_else(|| layers.clone().find(lives))
            .or(current)
    }

    /// The highest one that lives.
    pub fn highest(&self) -> Option<u8> {
        (0..MAX_LAYERS as u8)
            .rev()
            .find(|&layer| self.live[usize::from(layer)])
    }

    /// The layer that is sent has ended.
    pub fn is_dead(&self, layer: Option<u8>) -> bool {
        layer.is_some_and(|layer| !self.live.get(usize::from(layer)).copied().unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(start: Instant, n: u64) -> Instant {
        start + Duration::from_millis(n)
    }

    /// A frame every `gap` ms, `count` of them, the first at `from` ms.
    fn frames(activity: &mut Activity, start: Instant, from: u64, gap: u64, count: u64) {
        for n in 0..count {
            let at = from + n * gap;
            activity.handle(ms(start, at), at as u32 * 90, 1_000);
        }
    }

    fn live(now: Instant, layers: &[&Activity]) -> [bool; MAX_LAYERS] {
        Survey::new(now, std::array::from_fn(|n| layers.get(n).copied())).live
    }

    #[test]
    fn a_slide_show_lives_longer_than_a_camera() {
        let start = Instant::now();
        let (mut camera, mut slides) = (Activity::default(), Activity::default());
        frames(&mut camera, start, 0, 33, 300);
        frames(&mut slides, start, 0, 1_500, 5);
        assert!(live(ms(start, 299 * 33 + 699), &[&camera])[0]);
        assert!(!live(ms(start, 299 * 33 + 700), &[&camera])[0]);
        assert!(live(ms(start, 6_000 + 4_000), &[&slides])[0]);
        assert!(!live(ms(start, 6_000 + 5_000), &[&slides])[0]);
        let rate = camera.bitrate();
        assert!((235_000..250_000).contains(&rate), "{rate}");
    }

    #[test]
    fn a_layer_is_measured_by_those_that_still_send() {
        let start = Instant::now();
        let (mut low, mut high) = (Activity::default(), Activity::default());
        frames(&mut low, start, 0, 33, 300);
        // Two frames far apart look like a slide show, but the same camera feeds both layers.
        frames(&mut high, start, 3_000, 3_500, 2);
        assert_eq!(live(ms(start, 7_199), &[&low, &high])[..2], [true, true]);
        assert_eq!(live(ms(start, 7_200), &[&low, &high])[..2], [true, false]);
        // Both have paused: a presenter talks.
        let (mut low, mut high) = (Activity::default(), Activity::default());
        frames(&mut low, start, 0, 1_500, 5);
        frames(&mut high, start, 0, 1_500, 5);
        assert_eq!(live(ms(start, 10_000), &[&low, &high])[..2], [true, true]);
    }

    #[test]
    fn a_repair_of_an_old_frame_is_no_sign_of_life() {
        let start = Instant::now();
        let mut layer = Activity::default();
        frames(&mut layer, start, 0, 33, 10);
        layer.handle(ms(start, 900), 33 * 90, 1_000);
        assert!(!live(ms(start, 1_000), &[&layer])[0]);
    }

    #[test]
    fn a_layer_that_comes_and_goes_is_not_switched_to_until_it_stays() {
        let start = Instant::now();
        let (mut low, mut high) = (Activity::default(), Activity::default());
        frames(&mut low, start, 0, 33, 300);
        frames(&mut high, start, 0, 33, 60);
        let survey = |now, low: &Activity, high: &Activity| {
            Survey::new(now, [Some(low), Some(high), None, None])
        };
        assert_eq!(
            survey(ms(start, 2_000), &low, &high).choose(255, Some(0)),
            Some(1)
        );
        frames(&mut high, start, 5_000, 33, 10);
        let flap = survey(ms(start, 5_300), &low, &high);
        assert_eq!(flap.choose(255, Some(0)), Some(0));
        assert_eq!(flap.choose(255, Some(1)), Some(1), "who has it keeps it");
        frames(&mut high, start, 5_330, 33, 60);
        assert_eq!(
            survey(ms(start, 7_000), &low, &high).choose(255, Some(0)),
            Some(1)
        );
    }

    #[test]
    fn the_highest_live_layer_that_is_wanted_is_chosen() {
        let choose = |live: [bool; MAX_LAYERS], most, current| {
            Survey {
                live,
                settled: live,
            }
            .choose(most, current)
        };
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
    fn a_layer_lives_again_however_long_it_was_silent_and_whoever_sends_it() {
        let start = Instant::now();
        for hours in [1, 7, 10, 13, 20] {
            let mut layer = Activity::default();
            frames(&mut layer, start, 0, 33, 300);
            let silence = hours * 3_600_000;
            for n in 0..10 {
                let at = 10_000 + silence + n * 33;
                let timestamp = (at * 90) as u32;
                layer.handle(ms(start, at), timestamp, 1_000);
                // A repair of what came before the silence changes nothing.
                layer.handle(ms(start, at), 299 * 33 * 90, 1_000);
            }
            let end = ms(start, 10_000 + silence + 300);
            assert!(live(end, &[&layer])[0], "{hours} hours");
        }
        let mut layer = Activity::default();
        frames(&mut layer, start, 0, 33, 300);
        layer.handle(ms(start, 20_000), 3_000_000_000, 1_000);
        assert!(live(ms(start, 20_001), &[&layer])[0]);
    }

    #[test]
    fn a_congestion_long_after_the_last_one_costs_no_more_than_that() {
        let start = Instant::now();
        let mut limit = Limit::default();
        let rates = [150_000, 500_000, 2_000_000, 0];
        for minutes in [0, 60, 120] {
            let at = minutes * 60_000;
            limit.handle_ceiling(ms(start, at), 600_000, &rates, 2);
            limit.handle_ceiling(ms(start, at + 100), 200_000, &rates, 1);
            assert_eq!(limit.cap(), 0);
            limit.relax(ms(start, at + 10_100), 2);
            assert_eq!(limit.cap(), 1);
            limit.relax(ms(start, at + 20_100), 2);
            assert_eq!(limit.cap(), 255);
        }
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
