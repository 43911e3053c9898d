//! Reports on what a down track sends: when a sender report goes and by whose clock, and what its receiver says of it.

use super::DownTrack;
use crate::media::feed::Feed;
use crate::rtp::rtcp::{ReportBlock, SenderInfo};
use std::time::{Duration, Instant};

/// Sender reports, livekit.md 4.2; the first follows the first packet closely, for lip sync.
const REPORT: Duration = Duration::from_secs(3);
const FIRST_REPORT: Duration = Duration::from_millis(200);
/// How long the first waits for the publisher's clock: Chromium tells that of a microphone after two to three seconds,
/// and a receiver that is told another before it takes a minute to forget it.
const PATIENCE: Duration = Duration::from_secs(6);

impl DownTrack {
    /// Whether a sender report is due; one is when something was sent since the last.
    pub fn wants_report(&mut self, now: Instant) -> bool {
        if self.packets == self.reported_packets {
            self.report_at = None;
            return false;
        }
        let at = *self.report_at.get_or_insert(now + FIRST_REPORT);
        at <= now
    }

    /// Whether packets have set a sender report going: they have come after a pause, or the publisher's clock has, which
    /// the first one waits for.
    pub fn begins_to_report(&mut self, now: Instant, feed: &Feed) -> bool {
        if self.packets == self.reported_packets {
            return false;
        }
        let Some(at) = self.report_at else {
            return true;
        };
        let is_clock_new = self.reports[0].is_none()
            && self.filler.is_none()
            && !self.needs_key_frame
            && at > now + FIRST_REPORT
            && self
                .current
                .and_then(|current| feed.stream(current))
                .is_some_and(|stream| stream.clock.is_some());
        if is_clock_new {
            self.report_at = Some(now);
        }
        is_clock_new
    }

    /// The sender report of this moment. `ntp` is ours; the publisher's is told when it is known, so that its audio
    /// and video stay together.
    pub fn report(&mut self, now: Instant, ntp: u64, feed: &Feed) -> Option<SenderInfo> {
        self.report_at = Some(now + REPORT);
        let (format, _) = self.outlet?;
        let rate = format.codec.clock_rate();
        let stream = feed.stream(self.current?)?;
        let (arrival, _, source) = stream.newest?;
        let ticks = |since: Instant| {
            (now.saturating_duration_since(since).as_micros() * u128::from(rate) / 1_000_000) as u32
        };
        let source = source.wrapping_add(ticks(arrival));
        let is_first = self.reports[0].is_none();
        let (ntp, rtp_timestamp) = match stream.clock {
            Some(clock) if self.filler.is_none() && !self.needs_key_frame => {
                self.tells_their_clock = true;
                (clock.ntp_of(source), self.munger.rewrite_timestamp(source))
            }
            // Two clocks must not be mixed.
            Some(_) => return None,
            None if self.tells_their_clock => return None,
            None if is_first && now < self.began? + PATIENCE => {
                self.report_at = Some(self.began? + PATIENCE);
                return None;
            }
            None => (ntp, self.munger.timestamp().wrapping_add(ticks(self.last?))),
        };
        self.reported_packets = self.packets;
        self.reports = [Some(((ntp >> 16) as u32, now)), self.reports[0]];
        Some(SenderInfo {
            ntp,
            rtp_timestamp,
            packets: self.packets,
            octets: self.octets,
        })
    }

    /// A receiver report on this source.
    pub fn handle_report(&mut self, now: Instant, block: &ReportBlock) {
        self.is_known = true;
        self.tally.handle(block);
        if let Some(sent) = self
            .reports
            .iter()
            .flatten()
            .find(|(ntp, _)| *ntp == block.last_sr && block.last_sr != 0)
        {
            let delay =
                Duration::from_micros(u64::from(block.delay_since_last_sr) * 1_000_000 / 65_536);
            let round = now.saturating_duration_since(sent.1).saturating_sub(delay);
            self.rtt = Some(self.rtt.map_or(round, |old| (old * 7 + round) / 8));
        }
        if let Some(current) = self.current_layer() {
            self.limit.handle_loss(now, block.fraction_lost, current);
        }
    }
}
