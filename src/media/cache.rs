//! The recent packets of one stream, in plaintext, kept once per worker: what is sent, resent and mirrored is read here.
//!
//! Owned by a feed ([`super::feed`]); one ring for each encoding, because each has sequence numbers of its own. It knows
//! nothing of subscribers. Packets are found by their extended sequence number; their bytes lie in one circular buffer.
//! Both parts start small and double while they would forget a packet younger than a second, up to a bound.

use super::codec::vp8::Vp8Descriptor;
use crate::plan::{Format, Kind};
use std::time::{Duration, Instant};

/// How long a packet can be asked for again. A retransmission that comes later misses its playout anyway.
const KEEP: Duration = Duration::from_secs(1);
/// Entries at first; a stream nobody sends on costs little.
const FIRST_SLOTS: usize = 32;
/// Bytes at first.
const FIRST_BYTES: usize = 8 << 10;
/// Longest packet body that is kept; no path carries more in one datagram.
pub const MAX_BODY: usize = 1_500;

/// What forwarding needs to know of a packet, read once when it came.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Extended sequence number in its encoding.
    pub index: u64,
    /// When it came to the worker that received it.
    pub arrival: Instant,
    /// RTP timestamp as the publisher wrote it.
    pub timestamp: u32,
    /// What it carries.
    pub format: Format,
    /// Which encoding: spatial index of a simulcast layer, 0 for audio and SVC.
    pub spatial: u8,
    /// The RTP marker.
    pub marker: bool,
    /// First packet of a frame that decodes without any other.
    pub key_frame: bool,
    /// First packet of a frame.
    pub frame_start: bool,
    /// Last packet of a frame, of one spatial layer where an encoding holds several.
    pub frame_end: bool,
    /// Spatial layer within the encoding (SVC); 0 for what has none, or does not tell.
    pub svc_layer: u8,
    /// Temporal layer, 0 when there is none.
    pub temporal: u8,
    /// A layer above can be taken up here.
    pub switch_up: bool,
    /// The VP8 payload descriptor.
    pub vp8: Option<Vp8Descriptor>,
    /// RFC 6464 byte (voice flag and level), when it was sent.
    pub audio_level: Option<u8>,
    /// Bytes of AV1 dependency descriptor at the start of the body.
    pub descriptor_len: u8,
    /// Bytes of abs-capture-time after that.
    pub capture_len: u8,
}

/// A packet in the cache.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// What is known of it.
    pub facts: &'a Facts,
    /// Dependency descriptor, abs-capture-time, payload.
    pub body: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The dependency descriptor, empty without one.
    pub fn descriptor(&self) -> &'a [u8] {
        &self.body[..usize::from(self.facts.descriptor_len)]
    }

    /// The abs-capture-time element, empty without one.
    pub fn capture(&self) -> &'a [u8] {
        let from = usize::from(self.facts.descriptor_len);
        &self.body[from..from + usize::from(self.facts.capture_len)]
    }

    /// The RTP payload without padding.
    pub fn payload(&self) -> &'a [u8] {
        &self.body[usize::from(self.facts.descriptor_len) + usize::from(self.facts.capture_len)..]
    }
}

/// What became of a packet that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is there already.
    Duplicate,
    /// New.
    New,
    /// Older than everything that is kept, or too long.
    Refused,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    facts: Facts,
    /// Where its body began in the endless stream of bytes.
    position: u64,
    len: u16,
}

/// The ring of one stream.
#[derive(Debug)]
pub struct Cache {
    slots: Vec<Option<Slot>>,
    bytes: Vec<u8>,
    /// Bytes ever written, holes at the wrap included.
    written: u64,
    /// What was written when the byte buffer was last begun anew, a multiple of its size.
    lap_start: u64,
    /// When that was.
    lap_began: Option<Instant>,
    newest: Option<u64>,
    max_slots: usize,
    max_bytes: usize,
}

impl Cache {
    /// An empty cache; it takes no memory before the first packet.
    pub fn new(kind: Kind) -> Self {
        let (max_slots, max_bytes) = match kind {
            Kind::Audio => (64, 32 << 10),
            // 4 Mbit/s for a second; a faster stream keeps less.
            Kind::Video => (512, 512 << 10),
        };
        Self {
            slots: Vec::new(),
            bytes: Vec::new(),
            written: 0,
            lap_start: 0,
            lap_began: None,
            newest: None,
            max_slots,
            max_bytes,
        }
    }

    /// Keeps a packet whose body is `parts` one after the other.
    pub fn insert(&mut self, facts: &Facts, parts: &[&[u8]]) -> Stored {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > MAX_BODY {
            return Stored::Refused;
        }
        if self.slots.is_empty() {
            self.slots.resize(FIRST_SLOTS, None);
            self.bytes.resize(FIRST_BYTES, 0);
        }
        let newest = self.newest.unwrap_or(facts.index);
        if facts.index + (self.slots.len() as u64) <= newest {
            return Stored::Refused;
        }
        let mut at = self.slot_of(facts.index);
        if let Some(slot) = &self.slots[at] {
            if slot.facts.index == facts.index {
                return Stored::Duplicate;
            }
            if slot.facts.index > facts.index {
                return Stored::Refused;
            }
            if facts.arrival.saturating_duration_since(slot.facts.arrival) < KEEP
                && self.slots.len() < self.max_slots
            {
                self.grow_slots();
                at = self.slot_of(facts.index);
            }
        }
        let position = self.reserve(len, facts.arrival);
        let mut from = (position % self.bytes.len() as u64) as usize;
        for part in parts {
            self.bytes[from..from + part.len()].copy_from_slice(part);
            from += part.len();
        }
        self.slots[at] = Some(Slot {
            facts: *facts,
            position,
            len: len as u16,
        });
        self.newest = Some(newest.max(facts.index));
        Stored::New
    }

    /// The packet with that extended sequence number, if it is still there.
    pub fn get(&self, index: u64) -> Option<Packet<'_>> {
        if self.slots.is_empty() {
            return None;
        }
        let slot = self.slots[self.slot_of(index)].as_ref()?;
        if slot.facts.index != index || !self.is_held(slot) {
            return None;
        }
        let from = (slot.position % self.bytes.len() as u64) as usize;
        Some(Packet {
            facts: &slot.facts,
            body: &self.bytes[from..from + usize::from(slot.len)],
        })
    }

    /// Bytes of memory in use, for reports and tests.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.slots.capacity() * size_of::<Option<Slot>>()
    }

    fn slot_of(&self, index: u64) -> usize {
        (index & (self.slots.len() as u64 - 1)) as usize
    }

    fn is_held(&self, slot: &Slot) -> bool {
        slot.position + self.bytes.len() as u64 >= self.written
    }

    fn grow_slots(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.slots.resize(old.len() * 2, None);
        for slot in old.into_iter().flatten() {
            let at = self.slot_of(slot.facts.index);
            self.slots[at] = Some(slot);
        }
    }

    /// Finds room for `len` bytes in one piece and returns their position.
    fn reserve(&mut self, len: usize, now: Instant) -> u64 {
        let size = self.bytes.len() as u64;
        if self.written + len as u64 > self.lap_start + size {
            let early = self
                .lap_began
                .is_none_or(|began| now.saturating_duration_since(began) < KEEP);
            if early && self.bytes.len() < self.max_bytes {
                self.grow_bytes();
                if self.lap_began.is_none() {
                    self.lap_began = Some(now);
                }
                return self.reserve(len, now);
            }
            self.lap_began = Some(now);
            self.lap_start += size;
            self.written = self.lap_start;
        } else if self.lap_began.is_none() {
            self.lap_began = Some(now);
        }
        let position = self.written;
        self.written += len as u64;
        position
    }

    fn grow_bytes(&mut self) {
        let mut bytes = vec![0; self.bytes.len() * 2];
        let mut held: Vec<usize> = (0..self.slots.len())
            .filter(|&at| {
                self.slots[at]
                    .as_ref()
                    .is_some_and(|slot| self.is_held(slot))
            })
            .collect();
        held.sort_unstable_by_key(|&at| self.slots[at].map(|slot| slot.position));
        let size = self.bytes.len() as u64;
        let mut to = 0usize;
        for slot in &mut self.slots {
            if slot
                .as_ref()
                .is_some_and(|slot| slot.position + size < self.written)
            {
                *slot = None;
            }
        }
        for at in held {
            if let Some(slot) = &mut self.slots[at] {
                let from = (slot.position % size) as usize;
                let len = usize::from(slot.len);
                bytes[to..to + len].copy_from_slice(&self.bytes[from..from + len]);
                slot.position = to as u64;
                to += len;
            }
        }
        self.written = to as u64;
        self.lap_start = 0;
        self.bytes = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Codec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn facts(index: u64, arrival: Instant) -> Facts {
        Facts {
            index,
            arrival,
            timestamp: index as u32,
            format: Format {
                codec: Codec::Vp8,
                variant: 0,
            },
            spatial: 0,
            marker: false,
            key_frame: false,
            frame_start: false,
            frame_end: false,
            svc_layer: 0,
            temporal: 0,
            switch_up: false,
            vp8: None,
            audio_level: None,
            descriptor_len: 0,
            capture_len: 0,
        }
    }

    #[test]
    fn a_second_of_video_is_kept_and_then_forgotten() {
        let start = Instant::now();
        let mut cache = Cache::new(Kind::Video);
        // 2 Mbit/s: 230 packets of 1,100 bytes a second.
        for n in 0..2_000u64 {
            let now = start + Duration::from_micros(n * 4_300);
            assert_eq!(
                cache.insert(&facts(n, now), &[&[n as u8; 1_100]]),
                Stored::New
            );
            if n > 300 {
                let back = cache.get(n - 200).unwrap();
                assert_eq!(back.body, &[(n - 200) as u8; 1_100]);
            }
        }
        assert!(cache.memory() < 700_000, "{}", cache.memory());
        assert!(cache.get(0).is_none());
        assert!(cache.get(2_000).is_none());
    }

    #[test]
    fn slow_audio_stays_small() {
        let start = Instant::now();
        let mut cache = Cache::new(Kind::Audio);
        for n in 0..500u64 {
            let now = start + Duration::from_millis(n * 20);
            assert_eq!(cache.insert(&facts(n, now), &[&[7; 100]]), Stored::New);
        }
        assert!(cache.memory() < 20_000, "{}", cache.memory());
        assert!(cache.get(460).is_some());
    }

    #[test]
    fn packets_that_fill_the_buffer_to_its_last_byte_are_not_forgotten_early() {
        let now = Instant::now();
        let mut cache = Cache::new(Kind::Video);
        for n in 0..10 {
            let body = [n as u8; FIRST_BYTES / 8];
            assert_eq!(cache.insert(&facts(n, now), &[&body]), Stored::New);
        }
        for n in 0..10 {
            assert_eq!(cache.get(n).map(|packet| packet.body[0]), Some(n as u8));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(
            steps in proptest::collection::vec((0u64..40, 1usize..1_500, 0u64..30), 1..400)
        ) {
            let mut now = Instant::now();
            let mut cache = Cache::new(Kind::Video);
            let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
            let mut top = 1_000u64;
            for (n, (back, len, wait)) in steps.into_iter().enumerate() {
                now += Duration::from_millis(wait);
                top += 3;
                let index = top - back;
                let body = vec![n as u8; len];
                match cache.insert(&facts(index, now), &[&body[..len / 2], &body[len / 2..]]) {
                    Stored::New => { prop_assert!(model.insert(index, body).is_none()); }
                    Stored::Duplicate => prop_assert!(model.contains_key(&index)),
                    Stored::Refused => prop_assert!(index + 32 <= top + 3),
                }
                // What is returned is what was put in, and the newest is always there.
                for (key, value) in &model {
                    if let Some(packet) = cache.get(*key) {
                        prop_assert_eq!(packet.body, &value[..]);
                        prop_assert_eq!(packet.facts.index, *key);
                    }
                }
            }
        }
    }
}
