//! Which packets of one received source are missing, and when to ask for them again.
//!
//! Driven by the up track that owns the source: every packet goes to [`NackGenerator::handle_packet`], and at
//! [`NackGenerator::next_timeout`] the due numbers are polled and sent as one NACK. Bounded; a loss that was asked for
//! in vain five times is given up. Numbers from livekit 1.13.5 (`mediatransportutil/pkg/nack`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most missing packets that are tracked; the oldest are given up first.
const MAX_MISSING: usize = 100;
/// A larger jump is a source that began anew, nothing that could be asked for.
const MAX_JUMP: u64 = 1_000;
/// How often a packet is asked for.
const MAX_TRIES: u8 = 5;
/// Before the first request: packets that were just reordered come in this time. Also the least time between two.
const FIRST: Duration = Duration::from_millis(20);
/// Most time between two requests.
const MAX_INTERVAL: Duration = Duration::from_millis(400);
/// Round trip before one is known.
const DEFAULT_RTT: Duration = Duration::from_millis(70);

#[derive(Debug, Clone, Copy)]
struct Missing {
    seq: u64,
    due: Instant,
    tries: u8,
}

/// The missing packets of one source.
#[derive(Debug)]
pub struct NackGenerator {
    highest: Option<u64>,
    /// Rising sequence numbers.
    missing: VecDeque<Missing>,
    rtt: Duration,
}

impl Default for NackGenerator {
    fn default() -> Self {
        Self::new()
    }
}

impl NackGenerator {
    /// Of a source from which nothing has come.
    pub fn new() -> Self {
        Self {
            highest: None,
            missing: VecDeque::new(),
            rtt: DEFAULT_RTT,
        }
    }

    /// The round trip to the publisher.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
    }

    /// Takes note of a packet, sent or resent, by its extended sequence number. `true`: it had been missing.
    pub fn handle_packet(&mut self, now: Instant, seq: u64) -> bool {
        let Some(highest) = self.highest else {
            self.highest = Some(seq);
            return false;
        };
        if seq <= highest {
            let found = self
                .missing
                .binary_search_by_key(&seq, |missing| missing.seq);
            if let Ok(index) = found {
                self.missing.remove(index);
            }
            return found.is_ok();
        }
        self.highest = Some(seq);
        if seq - highest > MAX_JUMP {
            self.missing.clear();
            return false;
        }
        let first = (highest + 1).max(seq.saturating_sub(MAX_MISSING as u64));
        for seq in first..seq {
            if self.missing.len() == MAX_MISSING {
                self.missing.pop_front();
            }
            self.missing.push_back(Missing {
                seq,
                due: now + FIRST,
                tries: 0,
            });
        }
        false
    }

    /// Forgets what is missing: a key frame makes it useless.
    pub fn clear(&mut self) {
        self.missing.clear();
    }

    /// When [`Self::poll`] has something to ask for.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.missing.iter().map(|missing| missing.due).min()
    }

    /// Appends the sequence numbers that are to be asked for now, in rising order.
    pub fn poll(&mut self, now: Instant, out: &mut Vec<u16>) {
        let rtt = self.rtt;
        self.missing.retain_mut(|missing| {
            if missing.due > now {
                return true;
            }
            out.push(missing.seq as u16);
            missing.due = now + interval(rtt, missing.tries);
            missing.tries += 1;
            missing.tries < MAX_TRIES
        });
    }
}

/// How long to wait after a request that was the `tries`-th, counted from 0: the round trip, a quarter longer each
/// time.
fn interval(rtt: Duration, tries: u8) -> Duration {
    (0..tries)
        .fold(rtt.min(MAX_INTERVAL), |wait, _| wait * 5 / 4)
        .clamp(FIRST, MAX_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        Instant::now()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn poll(nacks: &mut NackGenerator, now: Instant) -> Vec<u16> {
        let mut out = Vec::new();
        nacks.poll(now, &mut out);
        out
    }

    #[test]
    fn a_reordered_packet_is_not_asked_for() {
        let now = start();
        let mut nacks = NackGenerator::new();
        for seq in [70_000, 70_002] {
            assert!(!nacks.handle_packet(now, seq));
        }
        assert_eq!(nacks.next_timeout(), Some(now + ms(20)));
        assert_eq!(poll(&mut nacks, now + ms(19)), [0u16; 0]);
        assert!(nacks.handle_packet(now + ms(19), 70_001));
        assert_eq!(nacks.next_timeout(), None);
        assert!(!nacks.handle_packet(now + ms(19), 70_001));
    }

    #[test]
    fn a_loss_is_asked_for_five_times_at_growing_intervals() {
        let now = start();
        let mut nacks = NackGenerator::new();
        nacks.set_rtt(ms(200));
        nacks.handle_packet(now, 65_535);
        nacks.handle_packet(now, 65_538);
        let mut times = Vec::new();
        while let Some(due) = nacks.next_timeout() {
            assert_eq!(poll(&mut nacks, due), [0, 1]);
            times.push(due - now);
        }
        let expected: Vec<_> = [20_000u64, 220_000, 470_000, 782_500, 1_173_125]
            .into_iter()
            .map(Duration::from_micros)
            .collect();
        assert_eq!(times, expected);
    }

    #[test]
    fn intervals_stay_between_20_and_400_ms() {
        assert_eq!(interval(ms(1), 0), ms(20));
        assert_eq!(interval(DEFAULT_RTT, 0), ms(70));
        assert_eq!(interval(ms(390), 1), ms(400));
        assert_eq!(interval(Duration::MAX, 4), ms(400));
    }

    #[test]
    fn no_more_than_a_hundred_are_tracked_the_newest() {
        let now = start();
        let mut nacks = NackGenerator::new();
        nacks.handle_packet(now, 1_000);
        nacks.handle_packet(now, 1_061);
        nacks.handle_packet(now, 1_122);
        let asked = poll(&mut nacks, now + ms(20));
        assert_eq!(asked.len(), 100);
        assert_eq!((asked[0], asked[99]), (1_021, 1_121));
        nacks.handle_packet(now, 2_000);
        let mut nacks_after = poll(&mut nacks, now + ms(40));
        assert_eq!(nacks_after.len(), 100);
        assert_eq!(nacks_after.pop(), Some(1_999));
    }

    #[test]
    fn a_huge_jump_begins_anew() {
        let now = start();
        let mut nacks = NackGenerator::new();
        nacks.handle_packet(now, 1_000);
        nacks.handle_packet(now, 1_003);
        nacks.handle_packet(now, 9_000);
        assert_eq!(nacks.next_timeout(), None);
        nacks.handle_packet(now, 9_002);
        assert_eq!(poll(&mut nacks, now + ms(20)), [9_001]);
    }
}
