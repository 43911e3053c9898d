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
/// Retransmissions of one packet.
const MOST_RESENT: u8 = 3;

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
    first_ms: u32,
    last_ms: u32,
    repeats: u8,
}

/// The history of one down track.
#[derive(Debug)]
pub struct History {
    epoch: Instant,
    ring: Vec<Option<Sent>>,
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
            self.ring.resize(FIRST, None);
        }
        let mut at = self.slot(out);
        if let Some(old) = &self.ring[at]
            && self.ring.len() < MOST
            && sent_ms.wrapping_sub(old.first_ms) < KEEP_MS
        {
            let ring = std::mem::take(&mut self.ring);
            self.ring.resize(ring.len() * 2, None);
            for sent in ring.into_iter().flatten() {
                let at = self.slot(sent.out);
                self.ring[at] = Some(sent);
            }
            at = self.slot(out);
        }
        self.ring[at] = Some(Sent {
            out,
            origin,
            timestamp,
            rtx,
            marker,
            vp8,
            first_ms: sent_ms,
            last_ms: sent_ms,
            repeats: 0,
        });
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
        let sent = self.ring[at].as_mut().filter(|sent| sent.out == out)?;
        let wait = rtt.max(REPEAT).as_millis() as u32;
        let is_repeat = sent.repeats > 0 && ms.wrapping_sub(sent.last_ms) < wait;
        if is_repeat || sent.repeats >= MOST_RESENT {
            return None;
        }
        sent.repeats += 1;
        sent.last_ms = ms;
        Some(*sent)
    }

    /// Bytes in use.
    pub fn memory(&self) -> usize {
        self.ring.capacity() * size_of::<Option<Sent>>()
    }

    fn entry(&self, out: u64) -> Option<&Sent> {
        if self.ring.is_empty() {
            return None;
        }
        self.ring[self.slot(out)]
            .as_ref()
            .filter(|sent| sent.out == out)
    }

    fn slot(&self, out: u64) -> usize {
        (out & (self.ring.len() as u64 - 1)) as usize
    }

    fn ms(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.epoch).as_millis() as u32
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
        assert!(
            history.resend(ms(start, 800), 4, rtt).is_none(),
            "thrice is enough"
        );
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
}
