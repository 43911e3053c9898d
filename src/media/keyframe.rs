//! When a publisher is asked for a key frame: at most every 500 ms for its lowest layer and every second for others
//! (livekit 1.13.5 `rtc.pli_throttle`), and every 400 ms when its camera was off. The first request goes at once, one
//! that came too early is kept until it may.
//!
//! Owned by the up track; pure.

use std::time::{Duration, Instant};

/// Between requests to a camera that was off. libwebrtc ignores what comes within 300 ms of the request before
/// (`video/encoder_rtcp_feedback.cc`), however that one was answered.
const AFTER_MUTE: Duration = Duration::from_millis(400);

/// The throttle of one layer.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyFrameThrottle {
    last: Option<Instant>,
    is_pending: bool,
    /// The camera was off, and no key frame has come since.
    is_after_mute: bool,
}

impl KeyFrameThrottle {
    /// Somebody needs a key frame.
    pub fn request(&mut self) {
        self.is_pending = true;
    }

    /// A key frame came: whoever waits is served.
    pub fn handle_key_frame(&mut self) {
        self.is_pending = false;
        self.is_after_mute = false;
    }

    /// The camera was off and is on again: nobody has a picture.
    pub fn handle_unmute(&mut self) {
        self.is_after_mute = true;
    }

    /// `true` when a PLI is to be sent now.
    pub fn poll(&mut self, now: Instant, spatial: u8) -> bool {
        let due = self.next(spatial).is_some_and(|at| at <= now)
            || (self.is_pending && self.last.is_none());
        if due {
            self.is_pending = false;
            self.last = Some(now);
        }
        due
    }

    /// When a kept request may go; `None` when there is none (or it may go at once, which [`Self::poll`] tells).
    pub fn next(&self, spatial: u8) -> Option<Instant> {
        let gap = match spatial {
            _ if self.is_after_mute => AFTER_MUTE,
            0 => Duration::from_millis(500),
            _ => Duration::from_secs(1),
        };
        self.last.filter(|_| self.is_pending).map(|last| last + gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goes_at_once_and_the_next_waits_for_its_turn() {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        for (spatial, gap) in [(0, 500), (1, 1_000), (2, 1_000)] {
            let mut throttle = KeyFrameThrottle::default();
            assert!(!throttle.poll(ms(0), spatial));
            throttle.request();
            assert!(throttle.poll(ms(0), spatial));
            throttle.request();
            assert!(!throttle.poll(ms(gap - 1), spatial));
            assert_eq!(throttle.next(spatial), Some(ms(gap)));
            assert!(throttle.poll(ms(gap), spatial));
            assert!(!throttle.poll(ms(gap * 5), spatial));
        }
    }

    #[test]
    fn a_key_frame_that_came_meanwhile_ends_the_request() {
        let start = Instant::now();
        let mut throttle = KeyFrameThrottle::default();
        throttle.request();
        assert!(throttle.poll(start, 0));
        throttle.request();
        throttle.handle_key_frame();
        assert!(!throttle.poll(start + Duration::from_secs(9), 0));
    }
}
