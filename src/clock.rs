//! The wall clock, read at the edge only (`http`, the room's task); below it time is an argument.

#![expect(clippy::disallowed_methods, reason = "this is where the clock is read")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A wall clock; cheap to copy.
#[derive(Debug, Clone, Copy, Default)]
pub enum Clock {
    /// The system's.
    #[default]
    System,
    /// Stands still at this many milliseconds since 1970. Tests only.
    Fixed(u64),
}

impl Clock {
    /// The monotonic clock.
    pub fn now(self) -> Instant {
        Instant::now()
    }

    /// Microseconds since 1970.
    pub fn unix_us(self) -> u64 {
        match self {
            Self::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_micros() as u64),
            Self::Fixed(ms) => ms * 1000,
        }
    }

    /// Milliseconds since 1970.
    pub fn unix_ms(self) -> u64 {
        match self {
            Self::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
            Self::Fixed(ms) => ms,
        }
    }

    /// Seconds since 1970.
    pub fn unix_seconds(self) -> u64 {
        self.unix_ms() / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_whole_milliseconds() {
        assert_eq!(Clock::Fixed(1_999).unix_seconds(), 1);
        assert!(Clock::System.unix_ms() > 1_700_000_000_000);
    }
}
