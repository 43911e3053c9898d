//! Maps RTP timestamps to the sender's wall clock by its sender reports (RFC 3550 §6.4.1): two layers of a simulcast
//! have clocks of the same rate and different origins, and a switch between them must not jump.

/// NTP time: 32 bits of seconds since 1900, 32 bits of fraction.
pub type Ntp = u64;

/// One pair of a sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockMap {
    /// The wall clock.
    pub ntp: Ntp,
    /// The RTP timestamp of that moment.
    pub timestamp: u32,
    /// Ticks a second.
    pub rate: u32,
}

impl ClockMap {
    /// The wall clock of an RTP timestamp within half its range of the report.
    pub fn ntp_of(&self, timestamp: u32) -> Ntp {
        let ticks = i64::from(timestamp.wrapping_sub(self.timestamp) as i32);
        let fraction = (i128::from(ticks) << 32) / i128::from(self.rate.max(1));
        self.ntp.wrapping_add(fraction as u64)
    }

    /// The RTP timestamp of a wall clock time.
    pub fn timestamp_of(&self, ntp: Ntp) -> u32 {
        let fraction = i128::from(ntp.wrapping_sub(self.ntp) as i64);
        // Rounded: a pair of conversions is to give back what went in.
        let ticks = (fraction * i128::from(self.rate) + (1 << 31)) >> 32;
        self.timestamp.wrapping_add(ticks as u32)
    }

    /// The timestamp that another layer gives to what this one calls `timestamp`.
    pub fn translate(&self, timestamp: u32, other: &Self) -> u32 {
        other.timestamp_of(self.ntp_of(timestamp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_same_moment_has_the_timestamp_of_each_layer() {
        let low = ClockMap {
            ntp: 0x1000_0000_0000,
            timestamp: 5_000,
            rate: 90_000,
        };
        let high = ClockMap {
            // Half a second later.
            ntp: 0x1000_8000_0000,
            timestamp: u32::MAX - 9,
            rate: 90_000,
        };
        assert_eq!(high.translate(u32::MAX - 9, &low), 5_000 + 45_000);
        assert_eq!(
            low.translate(5_000, &high),
            (u32::MAX - 9).wrapping_sub(45_000)
        );
    }

    proptest! {
        #[test]
        fn there_and_back(ntp: u64, base: u32, ahead in -90_000_000i32..90_000_000) {
            let map = ClockMap { ntp, timestamp: base, rate: 90_000 };
            let timestamp = base.wrapping_add(ahead as u32);
            prop_assert_eq!(map.timestamp_of(map.ntp_of(timestamp)), timestamp);
        }
    }
}
