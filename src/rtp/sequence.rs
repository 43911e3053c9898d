//! Numbers that wrap: sequence numbers and timestamps as numbers that do not, and comparisons.

/// `a` comes after `b` on the circle of 2^16 (RFC 1982); half a circle apart, the larger one does.
pub fn is_newer(a: u16, b: u16) -> bool {
    let ahead = a.wrapping_sub(b);
    ahead != 0 && (ahead < 0x8000 || (ahead == 0x8000 && a > b))
}

/// `a` comes after `b` on the circle of 2^32.
pub fn is_newer_timestamp(a: u32, b: u32) -> bool {
    let ahead = a.wrapping_sub(b);
    ahead != 0 && (ahead < 0x8000_0000 || (ahead == 0x8000_0000 && a > b))
}

/// How far `a` is ahead of `b`, the short way round.
pub fn distance(a: u16, b: u16) -> i16 {
    a.wrapping_sub(b) as i16
}

macro_rules! unwrapper {
    ($(#[$doc:meta])* $name:ident, $wire:ty, $newer:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name {
            highest: Option<u64>,
        }

        impl $name {
            /// The whole number of one on the wire, taken as the one nearest to the highest so far. The first is
            /// placed one circle above 0, so that what comes late of before it has a number too.
            pub fn unwrap(&mut self, wire: $wire) -> u64 {
                let whole = self.peek(wire);
                if self.highest.is_none_or(|highest| whole > highest) {
                    self.highest = Some(whole);
                }
                whole
            }

            /// As [`Self::unwrap`], without remembering.
            pub fn peek(&self, wire: $wire) -> u64 {
                let Some(highest) = self.highest else {
                    return (1 << <$wire>::BITS) + u64::from(wire);
                };
                let last = highest as $wire;
                if $newer(wire, last) {
                    highest + u64::from(wire.wrapping_sub(last))
                } else {
                    // The highest is at least one circle, and this is at most half of one behind it.
                    highest - u64::from(last.wrapping_sub(wire))
                }
            }

            /// The highest so far; `None` before the first.
            pub fn highest(&self) -> Option<u64> {
                self.highest
            }
        }
    };
}

unwrapper!(
    /// Sequence numbers as 64-bit numbers; the low 16 bits are those of the wire.
    SequenceUnwrapper,
    u16,
    is_newer
);
unwrapper!(
    /// Timestamps as 64-bit numbers; the low 32 bits are those of the wire.
    TimestampUnwrapper,
    u32,
    is_newer_timestamp
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn newer_goes_the_short_way_round() {
        assert!(is_newer(0, 65_535));
        assert!(!is_newer(65_535, 0));
        assert!(!is_newer(5, 5));
        assert!(is_newer(0x8000, 0) && !is_newer(0, 0x8000));
        assert!(is_newer_timestamp(3, u32::MAX));
        assert_eq!(distance(2, 65_534), 4);
        assert_eq!(distance(65_534, 2), -4);
    }

    #[test]
    fn what_comes_late_of_before_the_first_has_a_number() {
        let mut unwrapper = SequenceUnwrapper::default();
        assert_eq!(unwrapper.unwrap(1), 65_537);
        assert_eq!(unwrapper.unwrap(65_535), 65_535);
        assert_eq!(unwrapper.unwrap(2), 65_538);
        assert_eq!(unwrapper.highest(), Some(65_538));
    }

    #[test]
    fn timestamps_wrap_too() {
        let mut unwrapper = TimestampUnwrapper::default();
        assert_eq!(unwrapper.unwrap(u32::MAX), 0x1_ffff_ffff);
        assert_eq!(unwrapper.unwrap(4), 0x2_0000_0004);
        assert_eq!(unwrapper.unwrap(u32::MAX - 1), 0x1_ffff_fffe);
    }

    proptest! {
        /// Any walk whose steps stay within a quarter of the circle of the highest is followed exactly.
        #[test]
        fn a_reordered_walk_is_followed(start: u16, steps in prop::collection::vec(-9_000i64..9_000, 1..200)) {
            let mut unwrapper = SequenceUnwrapper::default();
            let first = 65_536 + i64::from(start);
            let mut highest = first;
            prop_assert_eq!(unwrapper.unwrap(start), first as u64);
            for step in steps {
                let truth = highest + step;
                highest = highest.max(truth);
                prop_assert_eq!(unwrapper.unwrap(truth as u16), truth as u64);
            }
        }
    }
}
