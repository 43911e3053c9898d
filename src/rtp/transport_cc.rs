//! Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1): read and
//! written. Times are in ticks of 250 µs from an epoch that the receiver of the media chose.

use super::{RtpFault, u16_at, u24_at, u32_at};
use crate::ids::Ssrc;

/// Ticks of 250 µs in one unit of the reference time.
const REFERENCE: i64 = 256;
/// Bytes before the chunks: RTCP header, two SSRCs, base, count, reference time, number.
const FIXED: usize = 20;
/// A larger hole between two arrivals ends a feedback packet instead of being spelled out.
pub const MAX_HOLE: u64 = 1_000;

/// A feedback packet.
#[derive(Debug, Clone)]
pub struct TransportFeedback<'a> {
    /// Who received.
    pub sender: Ssrc,
    /// One of the sources.
    pub media: Ssrc,
    /// The first sequence number that is told of.
    pub base: u16,
    /// How many are told of.
    pub count: u16,
    /// Number of this packet; a gap is a lost feedback packet.
    pub number: u8,
    /// Reference time, in 64 ms, signed 24 bits.
    pub reference: i32,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    /// Reads what follows the RTCP header.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, RtpFault> {
        let number = u32_at(body, 12).ok_or(RtpFault::Truncated)?;
        let count = u16_at(body, 10).ok_or(RtpFault::Truncated)?;
        let rest = &body[16..];
        let mut left = usize::from(count);
        let mut chunks = 0;
        while left > 0 {
            let chunk = u16_at(rest, 2 * chunks).ok_or(RtpFault::Truncated)?;
            left = left.saturating_sub(symbols(chunk));
            chunks += 1;
        }
        let (chunks, deltas) = rest.split_at(2 * chunks);
        Ok(Self {
            sender: Ssrc(u32_at(body, 0).ok_or(RtpFault::Truncated)?),
            media: Ssrc(u32_at(body, 4).ok_or(RtpFault::Truncated)?),
            base: u16_at(body, 8).ok_or(RtpFault::Truncated)?,
            count,
            number: number as u8,
            reference: ((u24_at(body, 12).ok_or(RtpFault::Truncated)? << 8) as i32) >> 8,
            chunks,
            deltas,
        })
    }

    /// Sequence numbers with arrival times in ticks of 250 µs, `None` for what did not arrive. Ends early when the
    /// packet has fewer times than it announces.
    pub fn arrivals(&self) -> impl Iterator<Item = (u16, Option<i64>)> + use<'a> {
        let (chunks, mut deltas) = (self.chunks, self.deltas);
        let (base, count) = (self.base, self.count);
        let mut time = i64::from(self.reference) * REFERENCE;
        let mut index = 0u16;
        let mut chunk = 0;
        let mut within = 0;
        std::iter::from_fn(move || {
            if index >= count {
                return None;
            }
            let mut word = u16_at(chunks, chunk)?;
            // A run of none is possible.
            while within >= symbols(word) {
                chunk += 2;
                within = 0;
                word = u16_at(chunks, chunk)?;
            }
            let arrival = match symbol(word, within) {
                0 => None,
                1 => {
                    time += i64::from(*deltas.first()?);
                    deltas = &deltas[1..];
                    Some(time)
                }
                2 => {
                    time += i64::from(u16_at(deltas, 0)? as i16);
                    deltas = &deltas[2..];
                    Some(time)
                }
                // Reserved: arrived, at a time that is not told.
                _ => Some(time),
            };
            let seq = base.wrapping_add(index);
            index += 1;
            within += 1;
            Some((seq, arrival))
        })
    }
}

/// How many symbols a chunk holds.
fn symbols(chunk: u16) -> usize {
    match chunk >> 14 {
        0 | 1 => usize::from(chunk & 0x1fff),
        2 => 14,
        _ => 7,
    }
}

fn symbol(chunk: u16, index: usize) -> u16 {
    match chunk >> 14 {
        0 | 1 => (chunk >> 13) & 3,
        2 => (chunk >> (13 - index)) & 1,
        _ => (chunk >> (12 - 2 * index)) & 3,
    }
}

/// Gathers symbols into chunks.
#[derive(Debug, Default)]
struct Chunker {
    /// The first 14 of the symbols that wait.
    waiting: [u8; 14],
    /// How many wait: more than 14 only when all are the same.
    len: usize,
    mixed: bool,
    has_large: bool,
}

impl Chunker {
    fn has_room(&self, symbol: u8) -> bool {
        self.len < 7
            || (self.len < 14 && !self.has_large && symbol != 2)
            || (!self.mixed && symbol == self.waiting[0] && self.len < 0x1fff)
    }

    fn add(&mut self, symbol: u8) {
        if let Some(slot) = self.waiting.get_mut(self.len) {
            *slot = symbol;
        }
        self.len += 1;
        self.mixed |= symbol != self.waiting[0];
        self.has_large |= symbol == 2;
    }

    /// Takes a chunk's worth of what waits. A vector with unused places is only for the end (`last`).
    fn take(&mut self, last: bool) -> u16 {
        let one_bit = !self.has_large && (self.len == 14 || (last && self.len > 7));
        let taken = match (self.mixed, one_bit) {
            (false, _) => self.len,
            (true, true) => self.len.min(14),
            (true, false) => self.len.min(7),
        };
        let chunk = if !self.mixed {
            u16::from(self.waiting[0]) << 13 | self.len as u16
        } else if !one_bit {
            self.waiting[..taken]
                .iter()
                .enumerate()
                .fold(0xc000, |chunk, (index, symbol)| {
                    chunk | u16::from(*symbol) << (12 - 2 * index)
                })
        } else {
            self.waiting[..taken]
                .iter()
                .enumerate()
                .fold(0x8000, |chunk, (index, symbol)| {
                    chunk | u16::from(*symbol) << (13 - index)
                })
        };
        let old = std::mem::take(self);
        for symbol in old.waiting.iter().take(old.len).skip(taken) {
            self.add(*symbol);
        }
        chunk
    }
}

/// What one feedback packet became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its bytes.
    pub len: usize,
    /// How many arrivals it tells of; the rest goes into the next one.
    pub arrivals: usize,
    /// One past the last sequence number that it tells of.
    pub end: u64,
}

/// Writes one feedback packet that tells of everything from `base` on, as far as it fits. `arrivals` are extended
/// sequence numbers with times in ticks of 250 µs, in rising order of sequence numbers, none below `base`. It ends at
/// a hole of more than [`MAX_HOLE`] and at a time step beyond 8 s. `None`: no arrival, or no room for even one.
pub fn write(
    out: &mut [u8],
    sender: Ssrc,
    media: Ssrc,
    number: u8,
    base: u64,
    arrivals: impl Iterator<Item = (u64, i64)> + Clone,
) -> Option<Written> {
    let reference = arrivals.clone().next()?.1.div_euclid(REFERENCE);
    let room = (out.len() & !3).saturating_sub(FIXED);
    let mut chunker = Chunker::default();
    let mut chunks = 0;
    let mut deltas = 0;
    let mut time = reference * REFERENCE;
    let mut next = base;
    let mut told = 0;
    for (seq, arrived) in arrivals.clone() {
        let delta = arrived - time;
        let symbol = match delta {
            0..=255 => 1u8,
            -0x8000..=0x7fff => 2,
            _ => break,
        };
        let Some(hole) = seq.checked_sub(next).filter(|hole| *hole <= MAX_HOLE) else {
            break;
        };
        if seq - base > 0xfff0 {
            break;
        }
        // A hole and an arrival open at most two chunks per 7 symbols, and a run is one: generous, so that nothing is
        // written that has to be taken back.
        let worst = 2 * (chunks + 3 + (hole as usize).div_ceil(7).min(3));
        if worst + deltas + usize::from(symbol) > room {
            break;
        }
        for symbol in std::iter::repeat_n(0, hole as usize).chain([symbol]) {
            if !chunker.has_room(symbol) {
                let chunk = chunker.take(false);
                out[FIXED + 2 * chunks..][..2].copy_from_slice(&chunk.to_be_bytes());
                chunks += 1;
            }
            chunker.add(symbol);
        }
        deltas += usize::from(symbol);
        time = arrived;
        next = seq + 1;
        told += 1;
    }
    if told == 0 {
        return None;
    }
    while chunker.len > 0 {
        let chunk = chunker.take(true);
        out[FIXED + 2 * chunks..][..2].copy_from_slice(&chunk.to_be_bytes());
        chunks += 1;
    }
    let mut at = FIXED + 2 * chunks;
    time = reference * REFERENCE;
    for (_, arrived) in arrivals.take(told) {
        let delta = arrived - time;
        if let Ok(small) = u8::try_from(delta) {
            out[at] = small;
            at += 1;
        } else {
            out[at..at + 2].copy_from_slice(&(delta as i16).to_be_bytes());
            at += 2;
        }
        time = arrived;
    }
    let len = at.next_multiple_of(4);
    out[at..len].fill(0);
    out[0] = 0x8f;
    if len > at {
        out[0] |= 0x20;
        out[len - 1] = (len - at) as u8;
    }
    out[1] = 205;
    out[2..4].copy_from_slice(&((len / 4 - 1) as u16).to_be_bytes());
    out[4..8].copy_from_slice(&sender.0.to_be_bytes());
    out[8..12].copy_from_slice(&media.0.to_be_bytes());
    out[12..14].copy_from_slice(&(base as u16).to_be_bytes());
    out[14..16].copy_from_slice(&((next - base) as u16).to_be_bytes());
    out[16..20].copy_from_slice(&(((reference as u32) << 8) | u32::from(number)).to_be_bytes());
    Some(Written {
        len,
        arrivals: told,
        end: next,
    })
}

#[cfg(test)]
mod tests {
    use super::super::rtcp::{self, Feedback};
    use super::*;
    use proptest::prelude::*;

    fn read(packet: &[u8]) -> Vec<(u16, Option<i64>)> {
        match rtcp::parse(packet).next() {
            Some(Ok(Feedback::TransportCc(feedback))) => feedback.arrivals().collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_packet_of_firefox_is_read() {
        // Base 10815, 5 packets: run of 5 small deltas.
        let packet = [
            143, 205, 0, 6, 65, 227, 184, 49, 118, 243, 78, 96, 42, 63, 0, 5, 12, 162, 166, 0, 32,
            5, 200, 4, 0, 4, 0, 0,
        ];
        let reference = 0x0c_a2a6 * 256;
        assert_eq!(
            read(&packet),
            [
                (10815, Some(reference + 200)),
                (10816, Some(reference + 204)),
                (10817, Some(reference + 204)),
                (10818, Some(reference + 208)),
                (10819, Some(reference + 208)),
            ]
        );
    }

    #[test]
    fn losses_and_steps_back_in_time_are_written() {
        let arrivals = [(100, 1_000), (101, 1_004), (105, 900), (106, 2_000)];
        let mut out = [0; 100];
        let written = write(&mut out, Ssrc(1), Ssrc(2), 7, 99, arrivals.iter().copied()).unwrap();
        assert_eq!((written.arrivals, written.end), (4, 107));
        assert_eq!(
            read(&out[..written.len]),
            [
                (99, None),
                (100, Some(1_000)),
                (101, Some(1_004)),
                (102, None),
                (103, None),
                (104, None),
                (105, Some(900)),
                (106, Some(2_000)),
            ]
        );
    }

    #[test]
    fn a_step_that_no_delta_holds_goes_into_the_next_packet() {
        let arrivals = [(1, 0), (2, 0x7fff), (3, 0x1_0000)];
        let mut out = [0; 100];
        let written = write(&mut out, Ssrc(1), Ssrc(2), 0, 1, arrivals.iter().copied()).unwrap();
        assert_eq!(written.arrivals, 2);
        let written = write(
            &mut out,
            Ssrc(1),
            Ssrc(2),
            1,
            written.end,
            arrivals[2..].iter().copied(),
        )
        .unwrap();
        assert_eq!(read(&out[..written.len]), [(3, Some(0x1_0000))]);
    }

    #[test]
    fn times_that_are_missing_end_the_list() {
        let mut out = [0; 100];
        let arrivals = (1..40).map(|seq| (seq, 10 * seq as i64));
        let written = write(&mut out, Ssrc(1), Ssrc(2), 0, 1, arrivals).unwrap();
        // Cuts two words of deltas off.
        let len = written.len - 8;
        out[2..4].copy_from_slice(&((len / 4 - 1) as u16).to_be_bytes());
        out[0] = 0x8f;
        assert!(read(&out[..len]).len() < 39);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            start in 0u64..200_000,
            origin in -100_000i64..100_000_000,
            steps in prop::collection::vec((prop_oneof![4 => Just(1u64), 1 => 1u64..40, 1 => 1u64..1_500], prop_oneof![5 => 0i64..300, 1 => -40_000i64..40_000]), 1..300),
            room in 24usize..700,
        ) {
            let mut arrivals = Vec::new();
            let (mut seq, mut time) = (start, origin);
            for (step, delta) in steps {
                arrivals.push((seq, time));
                seq += step;
                time += delta;
            }
            let mut told = Vec::new();
            let mut done = 0;
            let mut base = start;
            let mut number = 0;
            while done < arrivals.len() {
                let mut out = vec![0xaa; room];
                if arrivals[done].0 - base > MAX_HOLE {
                    base = arrivals[done].0;
                }
                let Some(written) = write(&mut out, Ssrc(1), Ssrc(2), number, base, arrivals[done..].iter().copied()) else {
                    // Only when there is no room for one.
                    prop_assert!(room < 40);
                    return Ok(());
                };
                let statuses = read(&out[..written.len]);
                prop_assert_eq!(statuses.len() as u64, written.end - base);
                for (index, (seq, time)) in statuses.iter().enumerate() {
                    prop_assert_eq!(*seq, (base + index as u64) as u16);
                    if let Some(time) = time {
                        told.push((base + index as u64, *time));
                    }
                }
                done += written.arrivals;
                base = written.end;
                number += 1;
            }
            // The reference time wraps at 24 bits of 64 ms; these origins are within it.
            prop_assert_eq!(told, arrivals);
        }
    }
}
