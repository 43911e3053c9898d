//! When a down track makes packets itself: its publisher muted or went, and a decoder is not to stay on the last frame,
//! or is muted from the beginning, and the client takes notice of a track by its packets (livekit 1.13.5
//! pkg/sfu/downtrack.go: a second at mute, 200 ms at the end, five seconds at the beginning). What the frames are:
//! [`super::codec::blank`].
//!
//! Pure; the plane numbers, seals and sends.

use super::codec::blank;
use crate::plan::Codec;
use std::time::{Duration, Instant};

/// How long silence or black goes on at mute.
pub const MUTED_FOR: Duration = blank::AFTER_MUTE;
/// How long at the end of a down track.
pub const CLOSING_FOR: Duration = blank::BEFORE_CLOSE;

/// How long the publisher's own packets are waited for at the beginning, and how far apart ours are.
const GREETING_PACE: Duration = Duration::from_millis(100);
/// How long ours go on.
const GREETING_FOR: Duration = Duration::from_secs(5);

/// A run of frames made here.
#[derive(Debug, Clone, Copy)]
pub struct Filler {
    interval: Duration,
    next: Instant,
    until: Instant,
}

impl Filler {
    /// Frames from now on; when the codec has none, only the time runs.
    pub fn new(now: Instant, codec: Option<Codec>, lasting: Duration) -> Self {
        let interval = codec
            .and_then(blank::pace)
            .map_or(lasting, |(rate, _)| Duration::from_secs(1) / rate);
        Self {
            interval,
            next: now,
            until: now + lasting,
        }
    }

    /// Packets that announce the track to its receiver, until the publisher's come.
    pub fn greeting(now: Instant) -> Self {
        Self {
            interval: GREETING_PACE,
            next: now + GREETING_PACE,
            until: now + GREETING_FOR,
        }
    }

    /// Whether a frame is to be sent now.
    pub fn poll(&mut self, now: Instant) -> bool {
        let due = self.next <= now && self.next < self.until;
        if due {
            // One frame for the time that was slept through, not all of them.
            self.next = (self.next + self.interval).max(now);
        }
        due
    }

    /// Only the time runs from now on.
    pub fn silence(&mut self, now: Instant) {
        self.next = self.until.max(now);
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Instant) -> bool {
        self.until <= now
    }

    /// When to look again.
    pub fn next_timeout(&self) -> Instant {
        self.next.min(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_silence_is_fifty_packets() {
        let start = Instant::now();
        let mut filler = Filler::new(start, Some(Codec::Opus), MUTED_FOR);
        let mut now = start;
        let mut sent = 0;
        while !filler.is_over(now) {
            sent += usize::from(filler.poll(now));
            now = now.max(filler.next_timeout());
        }
        assert_eq!(sent, 50);
        assert_eq!(now, start + Duration::from_secs(1));
    }
}
