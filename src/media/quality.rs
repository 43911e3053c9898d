//! What the room is told of a track's network every five seconds: differences of counters since the last time.
//!
//! [`UpTally`] sits in each received encoding, [`DownTally`] in each down track; both only remember where the counters
//! stood. The plane asks them when a transport's report is due; what the numbers mean, the room decides.

use super::reception::Reception;
use crate::ids::{DownTrackId, UpTrackId};
use crate::plan::{DownReport, UpReport};
use crate::rtp::rtcp::ReportBlock;
use std::time::{Duration, Instant};

/// Pause between two reports of a transport (livekit 1.13.5 `connectionquality.UpdateInterval`).
pub const INTERVAL: Duration = Duration::from_secs(5);

/// Where the counters of one received encoding stood at the last report.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpTally {
    /// Bytes received of it, in all.
    pub octets: u64,
    octets_prior: u64,
    expected_prior: u64,
    received_prior: u64,
}

impl UpTally {
    /// The source has changed: its numbers begin anew.
    pub fn begin_anew(&mut self) {
        (self.expected_prior, self.received_prior) = (0, 0);
    }

    /// Adds what has come of the encoding `spatial` to the report of its track.
    pub fn take(&mut self, spatial: u8, reception: Option<&Reception>, report: &mut UpReport) {
        report.bytes += self.octets - std::mem::replace(&mut self.octets_prior, self.octets);
        let Some(reception) = reception else {
            return;
        };
        let (expected, received) = reception.counts();
        let expected_now = expected.saturating_sub(self.expected_prior);
        let received_now = received.saturating_sub(self.received_prior);
        (self.expected_prior, self.received_prior) = (expected, received);
        if received_now == 0 {
            // A sender that stopped has lost nothing.
            return;
        }
        report.expected += expected_now;
        report.lost += expected_now.saturating_sub(received_now);
        report.jitter = report.jitter.max(reception.jitter());
        report.layers |= 1_u8.checked_shl(spatial.into()).unwrap_or(0);
    }
}

impl UpReport {
    /// Of a track of which nothing has come.
    pub fn new(up: UpTrackId) -> Self {
        Self {
            up,
            expected: 0,
            lost: 0,
            bytes: 0,
            jitter: Duration::ZERO,
            layers: 0,
        }
    }
}

/// The part of a receiver report that counts.
#[derive(Debug, Clone, Copy)]
struct Said {
    highest_seq: u32,
    lost: i32,
    jitter: u32,
}

/// What the receiver reports of a down track said, and where its counters stood at the last report to the room.
#[derive(Debug, Clone, Copy, Default)]
pub struct DownTally {
    newest: Option<Said>,
    prior: Option<Said>,
    /// Receiver reports since the last report.
    reports: u32,
    packets_prior: u32,
    octets_prior: u32,
}

impl DownTally {
    /// The source has changed: its numbers begin anew.
    pub fn begin_anew(&mut self) {
        *self = Self::default();
    }

    /// A receiver report came.
    pub fn handle(&mut self, block: &ReportBlock) {
        self.newest = Some(Said {
            highest_seq: block.highest_seq,
            lost: block.cumulative_lost,
            jitter: block.jitter,
        });
        self.reports += 1;
    }

    /// What has gone out since the last time, `packets` and `octets` being the counters of all, and what the receiver
    /// has said of it. `clock_rate` in Hz.
    pub fn take(
        &mut self,
        down: DownTrackId,
        packets: u32,
        octets: u32,
        clock_rate: u32,
    ) -> DownReport {
        let mut report = DownReport {
            down,
            sent: packets.wrapping_sub(std::mem::replace(&mut self.packets_prior, packets)),
            bytes: octets.wrapping_sub(std::mem::replace(&mut self.octets_prior, octets)),
            reports: std::mem::take(&mut self.reports),
            expected: 0,
            lost: 0,
            jitter: Duration::ZERO,
            held_back: 0,
        };
        let Some(newest) = self.newest else {
            return report;
        };
        if let Some(prior) = self.prior.replace(newest) {
            // What a receiver says need not make sense.
            let expected = newest.highest_seq.wrapping_sub(prior.highest_seq) as i32;
            let lost = newest.lost.saturating_sub(prior.lost);
            report.expected = expected.max(0) as u32;
            report.lost = (lost.max(0) as u32).min(report.expected);
        }
        report.jitter = Duration::from_micros(
            u64::from(newest.jitter) * 1_000_000 / u64::from(clock_rate.max(1)),
        );
        report
    }
}

/// When the next report of a transport with such tracks is due; `before`: when it was, if it is not yet.
pub fn next_report(now: Instant, before: Option<Instant>, has_tracks: bool) -> Option<Instant> {
    has_tracks.then(|| before.filter(|at| *at > now).unwrap_or(now + INTERVAL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ssrc;

    fn block(highest_seq: u32, cumulative_lost: i32) -> ReportBlock {
        ReportBlock {
            highest_seq,
            cumulative_lost,
            jitter: 90,
            ..ReportBlock::default()
        }
    }

    #[test]
    fn a_received_encoding_is_told_by_differences() {
        let now = Instant::now();
        let mut reception = Reception::new(Ssrc(1), 90_000);
        let mut tally = UpTally::default();
        for seq in 10..20 {
            reception.handle_packet(now, seq, 0);
        }
        tally.octets = 1_000;
        let mut first = UpReport::new(UpTrackId(7));
        tally.take(2, Some(&reception), &mut first);
        assert_eq!(
            (first.expected, first.lost, first.bytes, first.layers),
            (10, 0, 1_000, 4)
        );
        for seq in [21, 23, 24] {
            reception.handle_packet(now, seq, 0);
        }
        tally.octets = 1_300;
        let mut second = UpReport::new(UpTrackId(7));
        tally.take(2, Some(&reception), &mut second);
        assert_eq!((second.expected, second.lost, second.bytes), (5, 2, 300));
        let mut third = UpReport::new(UpTrackId(7));
        tally.take(2, Some(&reception), &mut third);
        assert_eq!((third.expected, third.layers), (0, 0));
    }

    #[test]
    fn a_down_track_is_told_by_what_its_receiver_says() {
        let mut tally = DownTally::default();
        tally.handle(&block(100, 0));
        tally.take(DownTrackId(1), 100, 5_000, 90_000);
        tally.handle(&block(150, 4));
        tally.handle(&block(200, 10));
        let report = tally.take(DownTrackId(1), 210, 9_000, 90_000);
        assert_eq!((report.sent, report.bytes, report.reports), (110, 4_000, 2));
        assert_eq!((report.expected, report.lost), (100, 10));
        assert_eq!(report.jitter, Duration::from_millis(1));
        let silent = tally.take(DownTrackId(1), 300, 9_500, 90_000);
        assert_eq!((silent.sent, silent.reports, silent.expected), (90, 0, 0));
    }

    #[test]
    fn a_receiver_that_contradicts_itself_has_lost_no_more_than_there_was() {
        let mut tally = DownTally::default();
        tally.handle(&block(1_000, i32::MIN));
        tally.take(DownTrackId(1), 0, 0, 0);
        tally.handle(&block(1_010, i32::MAX));
        let report = tally.take(DownTrackId(1), 0, 0, 0);
        assert_eq!((report.expected, report.lost), (10, 10));
        tally.handle(&block(0, 0));
        assert_eq!(tally.take(DownTrackId(1), 0, 0, 0).expected, 0);
    }
}
