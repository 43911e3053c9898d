//! What a receiver report says of one source (RFC 3550 §6.4.1, appendices A.3 and A.8), and round trips from reports.
//!
//! Driven by the up track that owns the source: every packet that came (resent ones only when they came on this
//! source itself), every sender report, and a [`Reception::report`] for each receiver report sent.

use crate::ids::Ssrc;
use crate::rtp::rtcp::ReportBlock;
use std::time::{Duration, Instant};

/// A step of the clock beyond this is a restart, not jitter: 5 s of video, as libwebrtc has it.
const MAX_TRANSIT_STEP: i64 = 450_000;

/// Reception of one source.
#[derive(Debug, Clone)]
pub struct Reception {
    ssrc: Ssrc,
    clock_rate: u32,
    /// Lowest and highest extended sequence number received.
    range: Option<(u64, u64)>,
    received: u64,
    /// At the last report.
    expected_prior: u64,
    received_prior: u64,
    /// Of the last packet: when, and with what timestamp.
    last: Option<(Instant, u32)>,
    /// In 1/16 ticks.
    jitter: u64,
    /// Middle 32 bits of the NTP time of the last sender report, and when it came.
    last_sr: Option<(u32, Instant)>,
}

impl Reception {
    /// Of a source from which nothing has come; `clock_rate` in Hz.
    pub fn new(ssrc: Ssrc, clock_rate: u32) -> Self {
        Self {
            ssrc,
            clock_rate,
            range: None,
            received: 0,
            expected_prior: 0,
            received_prior: 0,
            last: None,
            jitter: 0,
            last_sr: None,
        }
    }

    /// Takes note of a packet by its extended sequence number.
    pub fn handle_packet(&mut self, now: Instant, seq: u64, timestamp: u32) {
        self.received += 1;
        self.range = Some(
            self.range
                .map_or((seq, seq), |(low, high)| (low.min(seq), high.max(seq))),
        );
        if let Some((before, last_timestamp)) = self.last.replace((now, timestamp)) {
            let passed = now.saturating_duration_since(before).as_micros();
            let arrival = (passed * u128::from(self.clock_rate) / 1_000_000) as i64;
            let sent = i64::from(timestamp.wrapping_sub(last_timestamp) as i32);
            let step = arrival.saturating_sub(sent).saturating_abs();
            if step < MAX_TRANSIT_STEP {
                // RFC 3550 A.8 in integers: J += |D| - (J + 8) / 16, J in 1/16 ticks.
                self.jitter = self.jitter + step as u64 - ((self.jitter + 8) >> 4);
            }
        }
    }

    /// Takes note of a sender report of the source.
    pub fn handle_sender_report(&mut self, now: Instant, ntp: u64) {
        self.last_sr = Some(((ntp >> 16) as u32, now));
    }

    /// Something has come since the last report.
    pub fn is_active(&self) -> bool {
        self.received > self.received_prior
    }

    /// Interarrival jitter.
    pub fn jitter(&self) -> Duration {
        Duration::from_micros((self.jitter >> 4) * 1_000_000 / u64::from(self.clock_rate.max(1)))
    }

    /// Expected and received packets in all.
    pub fn counts(&self) -> (u64, u64) {
        let expected = self.range.map_or(0, |(low, high)| high - low + 1);
        (expected, self.received)
    }

    /// The block for a report sent now; the next one's fraction lost counts from here. `None` before the first packet.
    pub fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let (low, high) = self.range?;
        let (expected, received) = self.counts();
        let expected_now = expected - self.expected_prior;
        let received_now = received - self.received_prior;
        self.expected_prior = expected;
        self.received_prior = received;
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction_lost = (lost_now * 256)
            .checked_div(expected_now)
            .map_or(0, |fraction| fraction.min(255) as u8);
        let lost = (expected as i64 - received as i64).clamp(-0x80_0000, 0x7f_ffff);
        let (last_sr, delay) = self.last_sr.map_or((0, 0), |(ntp, came)| {
            let micros = now.saturating_duration_since(came).as_micros();
            (ntp, ((micros << 16) / 1_000_000) as u32)
        });
        Some(ReportBlock {
            ssrc: self.ssrc.0,
            fraction_lost,
            cumulative_lost: lost as i32,
            // Cycles are counted from the first packet's.
            highest_seq: (high - (low & !0xffff)) as u32,
            jitter: (self.jitter >> 4) as u32,
            last_sr,
            delay_since_last_sr: delay,
        })
    }
}

/// The round trip that a report block, or an answer to an RRTR, tells at `now_ntp` (RFC 3550 §6.4.1): `last` and
/// `delay` as it carries them. `None`: it answers nothing, or what it says cannot be.
pub fn round_trip(now_ntp: u64, last: u32, delay: u32) -> Option<Duration> {
    if last == 0 {
        return None;
    }
    let units = ((now_ntp >> 16) as u32)
        .wrapping_sub(last)
        .wrapping_sub(delay);
    // Clocks are rounded, so that a round trip may come out a little below 0; more than that is a lie.
    if units > 0xffff_0000 {
        return Some(Duration::ZERO);
    }
    let micros = (u64::from(units) * 1_000_000) >> 16;
    (micros < 60_000_000).then(|| Duration::from_micros(micros))
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

    #[test]
    fn nothing_received_is_nothing_reported() {
        assert_eq!(Reception::new(Ssrc(1), 90_000).report(start()), None);
    }

    #[test]
    fn losses_are_counted_over_the_interval_and_in_all() {
        let now = start();
        let mut reception = Reception::new(Ssrc(9), 90_000);
        // 65,534 to 65,537 with one lost; extended numbers begin one cycle up.
        for seq in [131_070, 131_071, 131_073] {
            reception.handle_packet(now, seq, 0);
        }
        let block = reception.report(now).unwrap();
        assert_eq!((block.ssrc, block.fraction_lost), (9, 64));
        assert_eq!(block.cumulative_lost, 1);
        assert_eq!(block.highest_seq, 0x0001_0001);
        for seq in 131_074..131_080 {
            reception.handle_packet(now, seq, 0);
        }
        let block = reception.report(now).unwrap();
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 1));
        assert!(!reception.is_active());
        let block = reception.report(now).unwrap();
        assert_eq!(block.fraction_lost, 0);
    }

    #[test]
    fn a_late_packet_is_not_counted_lost() {
        let now = start();
        let mut reception = Reception::new(Ssrc(9), 90_000);
        for seq in [70_000, 70_002] {
            reception.handle_packet(now, seq, 0);
        }
        assert_eq!(reception.report(now).unwrap().cumulative_lost, 1);
        reception.handle_packet(now, 70_001, 0);
        let block = reception.report(now).unwrap();
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 0));
    }

    #[test]
    fn duplicates_make_the_loss_negative_not_the_fraction() {
        let now = start();
        let mut reception = Reception::new(Ssrc(9), 90_000);
        for seq in [70_000, 70_000, 70_000] {
            reception.handle_packet(now, seq, 0);
        }
        let block = reception.report(now).unwrap();
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, -2));
    }

    #[test]
    fn jitter_approaches_the_mean_deviation() {
        let mut now = start();
        let mut reception = Reception::new(Ssrc(9), 90_000);
        for index in 0..400u32 {
            // 20 ms apart, every second packet 2 ms late.
            let late = if index % 2 == 0 { 0 } else { 2 };
            reception.handle_packet(now + ms(late), 70_000 + u64::from(index), index * 1_800);
            now += ms(20);
        }
        let jitter = reception.report(now).unwrap().jitter;
        assert!((170..=185).contains(&jitter), "{jitter}");
        assert_eq!(reception.jitter().as_millis(), 1);
    }

    #[test]
    fn a_jump_of_the_timestamp_is_no_jitter() {
        let now = start();
        let mut reception = Reception::new(Ssrc(9), 90_000);
        reception.handle_packet(now, 70_000, 0);
        reception.handle_packet(now, 70_001, 0x7fff_ffff);
        assert_eq!(reception.report(now).unwrap().jitter, 0);
    }

    #[test]
    fn a_report_answers_the_last_sender_report() {
        let now = start();
        let mut reception = Reception::new(Ssrc(9), 90_000);
        reception.handle_packet(now, 70_000, 0);
        reception.handle_sender_report(now, 0x1111_2222_3333_4444);
        let block = reception.report(now + ms(1_500)).unwrap();
        assert_eq!(
            (block.last_sr, block.delay_since_last_sr),
            (0x2222_3333, 0x0001_8000)
        );
    }

    #[test]
    fn the_round_trip_is_what_remains_without_the_delay() {
        // The example of RFC 3550 §6.4.1, figure 2: 6.125 s.
        let now = 0xb44d_b705_2000_0000;
        assert_eq!(
            round_trip(now, 0xb705_2000 - 0x0005_4000 - 0x0006_2000, 0x0005_4000),
            Some(Duration::from_millis(6_125))
        );
        assert_eq!(round_trip(now, 0, 0), None);
        assert_eq!(round_trip(now, 0xb705_2001, 0), Some(Duration::ZERO));
        assert_eq!(round_trip(now, 0xb805_2000, 0), None);
    }
}
