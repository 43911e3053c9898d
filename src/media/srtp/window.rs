//! Replay windows (RFC 3711 §3.3.2), one per SSRC, and the estimate of the packet index behind a 16-bit sequence number
//! (§3.3.1). Only packets that were authenticated change anything.

use super::SrtpFault;

/// The windows of one direction: `WORDS` × 64 packets each.
#[derive(Debug)]
pub(super) struct Streams<const WORDS: usize> {
    /// In order of SSRC.
    list: Vec<Stream<WORDS>>,
    /// Counts accepted packets: the age of [`Stream::used`].
    clock: u64,
    max: usize,
}

#[derive(Debug)]
struct Stream<const WORDS: usize> {
    ssrc: u32,
    /// Highest index accepted.
    highest: u64,
    /// When it was last accepted, in [`Streams::clock`].
    used: u64,
    /// A ring of bits: index modulo its size.
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Streams<WORDS> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            list: Vec::new(),
            clock: 0,
            max,
        }
    }

    /// The index that `seq` means, if it may be accepted.
    pub(super) fn estimate(&self, ssrc: u32, seq: u16) -> Result<u64, SrtpFault> {
        let Ok(at) = self.find(ssrc) else {
            return Ok(u64::from(seq));
        };
        let stream = &self.list[at];
        let distance = seq.wrapping_sub(stream.highest as u16) as i16;
        let index = stream
            .highest
            .checked_add_signed(i64::from(distance))
            .ok_or(SrtpFault::Old)?;
        stream.check(index)?;
        Ok(index)
    }

    /// Whether `index` may be accepted.
    pub(super) fn check(&self, ssrc: u32, index: u64) -> Result<(), SrtpFault> {
        match self.find(ssrc) {
            Ok(at) => self.list[at].check(index),
            Err(_) => Ok(()),
        }
    }

    /// Records an authenticated packet.
    pub(super) fn accept(&mut self, ssrc: u32, index: u64) {
        self.clock += 1;
        let at = match self.find(ssrc) {
            Ok(at) => at,
            Err(_) => self.insert(ssrc, index),
        };
        let stream = &mut self.list[at];
        stream.used = self.clock;
        stream.accept(index);
    }

    fn find(&self, ssrc: u32) -> Result<usize, usize> {
        self.list.binary_search_by_key(&ssrc, |stream| stream.ssrc)
    }

    fn insert(&mut self, ssrc: u32, index: u64) -> usize {
        if self.list.len() >= self.max {
            let oldest = self
                .list
                .iter()
                .enumerate()
                .min_by_key(|(_, stream)| stream.used)
                .map(|(at, _)| at);
            if let Some(oldest) = oldest {
                self.list.remove(oldest);
            }
        }
        let at = self.find(ssrc).unwrap_or_else(|at| at);
        self.list.insert(
            at,
            Stream {
                ssrc,
                highest: index,
                used: 0,
                seen: [0; WORDS],
            },
        );
        at
    }
}

impl<const WORDS: usize> Stream<WORDS> {
    const SIZE: u64 = WORDS as u64 * 64;

    fn check(&self, index: u64) -> Result<(), SrtpFault> {
        if index > self.highest {
            Ok(())
        } else if self.highest - index >= Self::SIZE {
            Err(SrtpFault::Old)
        } else if self.bit(index) {
            Err(SrtpFault::Replayed)
        } else {
            Ok(())
        }
    }

    fn accept(&mut self, index: u64) {
        if index > self.highest {
            let ahead = index - self.highest;
            if ahead >= Self::SIZE {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.highest + 1..index {
                    let (word, mask) = Self::place(skipped);
                    self.seen[word] &= !mask;
                }
            }
            self.highest = index;
        }
        let (word, mask) = Self::place(index);
        self.seen[word] |= mask;
    }

    fn bit(&self, index: u64) -> bool {
        let (word, mask) = Self::place(index);
        self.seen[word] & mask != 0
    }

    fn place(index: u64) -> (usize, u64) {
        (((index / 64) % WORDS as u64) as usize, 1 << (index % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn the_ring_agrees_with_a_set_of_everything_seen(
            steps in prop::collection::vec(-300i64..300, 1..200)
        ) {
            let mut streams = Streams::<4>::new(8);
            let (mut seen, mut highest) = (HashSet::new(), None::<u64>);
            let mut index = 1000u64;
            for step in steps {
                index = index.saturating_add_signed(step);
                let model = match highest {
                    Some(top) if index + 256 <= top => Err(SrtpFault::Old),
                    _ if seen.contains(&index) => Err(SrtpFault::Replayed),
                    _ => Ok(()),
                };
                prop_assert_eq!(streams.check(7, index), model);
                if model.is_ok() {
                    streams.accept(7, index);
                    seen.insert(index);
                    highest = Some(highest.map_or(index, |top| top.max(index)));
                }
            }
        }
    }

    #[test]
    fn a_sequence_number_that_wraps_counts_on() {
        let mut streams = Streams::<16>::new(8);
        let mut expected = 65_000u64;
        for _ in 0..200_000 {
            let index = streams.estimate(1, expected as u16).unwrap();
            assert_eq!(index, expected);
            streams.accept(1, index);
            expected += 1;
        }
        // A thousand behind, in the round before.
        assert_eq!(
            streams.estimate(1, (expected - 1000) as u16),
            Err(SrtpFault::Replayed)
        );
        assert_eq!(
            streams.estimate(1, (expected - 2000) as u16),
            Err(SrtpFault::Old)
        );
    }

    #[test]
    fn nothing_lies_before_the_first_round() {
        let mut streams = Streams::<16>::new(8);
        streams.accept(1, 5);
        assert_eq!(streams.estimate(1, 65_530), Err(SrtpFault::Old));
    }

    #[test]
    fn the_stream_idle_for_longest_is_forgotten() {
        let mut streams = Streams::<16>::new(2);
        streams.accept(30, 1);
        streams.accept(10, 1);
        streams.accept(30, 2);
        streams.accept(20, 1);
        assert_eq!(streams.check(10, 1), Ok(()));
        assert_eq!(streams.check(20, 1), Err(SrtpFault::Replayed));
        assert_eq!(streams.check(30, 1), Err(SrtpFault::Replayed));
        assert_eq!(streams.list.len(), 2);
    }
}
