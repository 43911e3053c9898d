//! What a down track has sent lately: for each packet where its bytes are cached and what rewriting made of it, so that
//! a retransmission (RFC 4588) carries the same payload as the first transmission did.
//!
//! Grows on demand while it would forget a packet younger than a second. Pure; owned by the down track.

use super::codec::vp8::Vp8Descriptor;
use crate::ids::PayloadType;
use std::time::{Duration, Instant};

/// Packets remembered at first and at most; the cache of a video feed holds no more either.
const FIRST: usize = 32;
const MOST: usize = 512;
/// How long a packet can be asked for.
const KEEP_MS: u32 = 1_000;
/// A receiver repeats its NACK faster than the repair can arrive; livekit 1.13.5 pkg/sfu/sequencer.go.
const REPEAT: Duration = Duration::from_millis(100);
/// Retransmissions of one packet: as often as libwebrtc asks for one. With three, 5 % loss each way leaves a hole in one
/// minute of video in 30, and the picture stands still until the receiver asks for a key frame, 3 s later.
const MOST_RESENT: u8 = 10;

/// Where the payload of a sent packet is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// In the feed's cache.
    Cached {
        /// Extended sequence number in its encoding.
        index: u64,
        /// The encoding.
        spatial: u8,
    },
    /// Made here: silence or a black frame.
    Made,
}

/// A packet that was sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Extended sequence number on the wire.
    pub out: u64,
    /// Its payload.
    pub origin: Origin,
    /// Its timestamp.
    pub timestamp: u32,
    /// Payload type of its retransmission.
    pub rtx: Option<PayloadType>,
    /// The marker.
    pub marker: bool,
    /// The VP8 descriptor, when the packet has one that was rewritten.
    pub vp8: Option<Vp8Descriptor>,
}

/// [`Sent`] in 32 bytes: there are up to 512 of them for each down track.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The cached index with the encoding in its low byte; [`MADE`] there for a frame made here.
    origin: u64,
    vp8: PackedVp8,
    /// Low half of the extended sequence number.
    out: u32,
    timestamp: u32,
    first_ms: u32,
    /// Since `first_ms`.
    last_ms: u16,
    /// Payload type of the retransmission; [`NO_RTX`] for none; the marker in the high bit.
    rtx_and_marker: u8,
    /// Retransmissions so far; [`EMPTY`] for a place that holds nothing.
    repeats: u8,
}

const MADE: u8 = 0xff;
const NO_RTX: u8 = 0x7f;
const MARKER: u8 = 0x80;
const EMPTY: u8 = 0xff;

impl Entry {
    const NONE: Self = Self {
        origin: 0,
        vp8: PackedVp8::NONE,
        out: 0,
        timestamp: 0,
        first_ms: 0,
        last_ms: 0,
        rtx_and_marker: 0,
        repeats: EMPTY,
    };

    fn is(&self, out: u64) -> bool {
        self.repeats != EMPTY && self.out == out as u32
    }

    fn unpack(&self, out: u64) -> Sent {
        let spatial = self.origin as u8;
        let rtx = self.rtx_and_marker & !MARKER;
        Sent {
            out,
            origin: if spatial == MADE {
                Origin::Made
            } else {
                Origin::Cached {
                    index: self.origin >> 8,
                    spatial,
                }
            },
            timestamp: self.timestamp,
            rtx: (rtx != NO_RTX).then_some(PayloadType(rtx)),
            marker: self.rtx_and_marker & MARKER != 0,
            vp8: self.vp8.unpack(),
        }
    }
}

/// The history of one down track.
#[derive(Debug)]
pub struct History {
    epoch: Instant,
    ring: Vec<Entry>,
    newest: u64,
}

impl History {
    /// Nothing sent yet; takes no memory before the first packet.
    pub fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            ring: Vec::new(),
            newest: 0,
        }
    }

    /// Whether the packet is remembered as sent.
    pub fn has(&self, out: u64) -> bool {
        self.entry(out).is_some()
    }

    /// Remembers a packet.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call, on the hot path; a struct would be filled and copied"
    )]
    pub fn push(
        &mut self,
        now: Instant,
        out: u64,
        origin: Origin,
        timestamp: u32,
        marker: bool,
        rtx: Option<PayloadType>,
        vp8: Option<Vp8Descriptor>,
    ) {
        let sent_ms = self.ms(now);
        if self.ring.is_empty() {
            self.ring = vec![Entry::NONE; FIRST];
        }
        let mut at = self.slot(out);
        let old = &self.ring[at];
        if old.repeats != EMPTY
            && self.ring.len() < MOST
            && sent_ms.wrapping_sub(old.first_ms) < KEEP_MS
        {
            let ring = std::mem::take(&mut self.ring);
            self.ring = vec![Entry::NONE; ring.len() * 2];
            for entry in ring.into_iter().filter(|entry| entry.repeats != EMPTY) {
                let at = self.slot(u64::from(entry.out));
                self.ring[at] = entry;
            }
            at = self.slot(out);
        }
        let rtx = rtx.map_or(NO_RTX, |pt| pt.0 & !MARKER);
        self.ring[at] = Entry {
            origin: match origin {
                Origin::Cached { index, spatial } => index << 8 | u64::from(spatial),
                Origin::Made => u64::from(MADE),
            },
            vp8: PackedVp8::pack(vp8),
            out: out as u32,
            timestamp,
            first_ms: sent_ms,
            last_ms: 0,
            rtx_and_marker: if marker { rtx | MARKER } else { rtx },
            repeats: 0,
        };
        self.newest = self.newest.max(out);
    }

    /// A receiver misses the packet with this sequence number: what is to be sent again, unless it is forgotten, was
    /// resent within the last round trip (at least 100 ms), or often enough.
    pub fn resend(&mut self, now: Instant, seq: u16, rtt: Duration) -> Option<Sent> {
        if self.ring.is_empty() {
            return None;
        }
        // The nearest number at or below the newest.
        let back = (self.newest as u16).wrapping_sub(seq);
        let out = self.newest.checked_sub(u64::from(back))?;
        let ms = self.ms(now);
        let at = self.slot(out);
        let entry = Some(&mut self.ring[at]).filter(|entry| entry.is(out))?;
        let wait = rtt.max(REPEAT).as_millis() as u32;
        let age = ms.wrapping_sub(entry.first_ms);
        let is_repeat = entry.repeats > 0 && age.wrapping_sub(u32::from(entry.last_ms)) < wait;
        if is_repeat || entry.repeats >= MOST_RESENT {
            return None;
        }
        entry.repeats += 1;
        entry.last_ms = age.min(u32::from(u16::MAX)) as u16;
        Some(entry.unpack(out))
    }

    /// Bytes in use.
    pub fn memory(&self) -> usize {
        self.ring.capacity() * size_of::<Entry>()
    }

    fn entry(&self, out: u64) -> Option<&Entry> {
        if self.ring.is_empty() {
            return None;
        }
        Some(&self.ring[self.slot(out)]).filter(|entry| entry.is(out))
    }

    fn slot(&self, out: u64) -> usize {
        (out & (self.ring.len() as u64 - 1)) as usize
    }

    fn ms(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.epoch).as_millis() as u32
    }
}

/// A VP8 descriptor in eight bytes.
#[derive(Debug, Clone, Copy)]
struct PackedVp8 {
    /// From the low end: present, N, S, PID (3), I, M, L, T, TID (2), Y, K, KEYIDX (5).
    flags: u32,
    picture_id: u16,
    tl0_picture_index: u8,
    len: u8,
}

impl PackedVp8 {
    const NONE: Self = Self {
        flags: 0,
        picture_id: 0,
        tl0_picture_index: 0,
        len: 0,
    };

    fn pack(descriptor: Option<Vp8Descriptor>) -> Self {
        let Some(vp8) = descriptor else {
            return Self::NONE;
        };
        let flag = |is: bool, bit: u32| u32::from(is) << bit;
        Self {
            flags: 1
                | flag(vp8.non_reference, 1)
                | flag(vp8.partition_start, 2)
                | u32::from(vp8.partition & 7) << 3
                | flag(vp8.picture_id.is_some(), 6)
                | flag(vp8.long_picture_id, 7)
                | flag(vp8.tl0_picture_index.is_some(), 8)
                | flag(vp8.temporal.is_some(), 9)
                | u32::from(vp8.temporal.unwrap_or(0) & 3) << 10
                | flag(vp8.layer_sync, 12)
                | flag(vp8.key_index.is_some(), 13)
                | u32::from(vp8.key_index.unwrap_or(0) & 31) << 14,
            picture_id: vp8.picture_id.unwrap_or(0),
            tl0_picture_index: vp8.tl0_picture_index.unwrap_or(0),
            len: vp8.len,
        }
    }

    fn unpack(self) -> Option<Vp8Descriptor> {
        let flag = |bit: u32| self.flags >> bit & 1 != 0;
        flag(0).then(|| Vp8Descriptor {
            len: self.len,
            non_reference: flag(1),
            partition_start: flag(2),
            partition: (self.flags >> 3 & 7) as u8,
            picture_id: flag(6).then_some(self.picture_id),
            long_picture_id: flag(7),
            tl0_picture_index: flag(8).then_some(self.tl0_picture_index),
            temporal: flag(9).then_some((self.flags >> 10 & 3) as u8),
            layer_sync: flag(12),
            key_index: flag(13).then_some((self.flags >> 14 & 31) as u8),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(start: Instant, n: u64) -> Instant {
        start + Duration::from_millis(n)
    }

    fn push(history: &mut History, now: Instant, out: u64) {
        let origin = Origin::Cached {
            index: out + 7,
            spatial: 1,
        };
        history.push(now, out, origin, 9, false, Some(PayloadType(97)), None);
    }

    #[test]
    fn a_repeated_request_waits_for_a_round_trip() {
        let start = Instant::now();
        let mut history = History::new(start);
        let rtt = Duration::from_millis(150);
        push(&mut history, start, 65_540);
        assert!(history.resend(ms(start, 5), 4, rtt).is_some());
        assert!(history.resend(ms(start, 154), 4, rtt).is_none());
        assert!(history.resend(ms(start, 155), 4, rtt).is_some());
        assert!(history.resend(ms(start, 400), 4, rtt).is_some());
    }

    #[test]
    fn a_packet_lost_again_and_again_is_resent_ten_times_at_most() {
        let start = Instant::now();
        let mut history = History::new(start);
        push(&mut history, start, 65_540);
        let resent = (0..1_000)
            .filter(|n| {
                history
                    .resend(ms(start, n * 10), 4, Duration::ZERO)
                    .is_some()
            })
            .count();
        assert_eq!(resent, 10);
    }

    #[test]
    fn a_second_is_remembered_and_numbers_wrap() {
        let start = Instant::now();
        let mut history = History::new(start);
        let first = 65_536 + 65_400;
        for n in 0..300 {
            push(&mut history, ms(start, n * 3), first + n);
        }
        for n in 0..300 {
            let found = history.resend(ms(start, 1_000), (first + n) as u16, Duration::ZERO);
            assert_eq!(found.map(|sent| sent.out), Some(first + n));
        }
        assert!(
            history
                .resend(start, (first + 300) as u16, Duration::ZERO)
                .is_none()
        );
        assert!(history.memory() <= 512 * 64, "{}", history.memory());
    }

    #[test]
    fn an_entry_is_small_and_gives_back_what_was_put_in() {
        assert_eq!(size_of::<Entry>(), 32);
        let mut random = crate::random::Random::seeded(3);
        let start = Instant::now();
        for _ in 0..2_000 {
            let mut payload = [0; 8];
            random.fill(&mut payload);
            let vp8 = Vp8Descriptor::parse(&payload).ok();
            let origin = Origin::Cached {
                index: random.u64() >> 16,
                spatial: (random.u32() % 4) as u8,
            };
            let marker = random.u32().is_multiple_of(2);
            let rtx = (random.u32().is_multiple_of(2)).then_some(PayloadType(97));
            let mut history = History::new(start);
            history.push(start, 1 << 40, origin, 7, marker, rtx, vp8);
            let sent = history.resend(start, 0, Duration::ZERO).unwrap();
            assert_eq!(
                (sent.out, sent.origin, sent.timestamp),
                (1 << 40, origin, 7)
            );
            assert_eq!((sent.rtx, sent.marker, sent.vp8), (rtx, marker, vp8));
        }
    }
}
