//! VP8 payloads (RFC 7741): the descriptor, read and written, and the head of a key frame.

use super::CodecFault;

/// Longest descriptor that is written.
pub const MAX_LEN: usize = 6;

/// A payload descriptor (RFC 7741 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vp8Descriptor {
    /// Bytes it took in the payload it was read from.
    pub len: u8,
    /// N: no other frame depends on this one.
    pub non_reference: bool,
    /// S: begins a partition.
    pub partition_start: bool,
    /// PID: the partition.
    pub partition: u8,
    /// Picture id, in the low 15 or 7 bits.
    pub picture_id: Option<u16>,
    /// M: the picture id was written in 15 bits.
    pub long_picture_id: bool,
    /// TL0PICIDX: counts base layer frames.
    pub tl0_picture_index: Option<u8>,
    /// TID: the temporal layer, 0–3.
    pub temporal: Option<u8>,
    /// Y: depends on the base layer only. Not without `temporal`.
    pub layer_sync: bool,
    /// KEYIDX: counts key frames, 5 bits.
    pub key_index: Option<u8>,
}

impl Vp8Descriptor {
    /// Reads the descriptor at the start of a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, CodecFault> {
        let byte = |at: usize| payload.get(at).copied().ok_or(CodecFault::Truncated);
        let first = byte(0)?;
        let mut descriptor = Self {
            non_reference: first & 0x20 != 0,
            partition_start: first & 0x10 != 0,
            partition: first & 0x07,
            ..Self::default()
        };
        let mut at = 1;
        if first & 0x80 != 0 {
            let present = byte(1)?;
            at = 2;
            if present & 0x80 != 0 {
                let high = byte(at)?;
                at += 1;
                descriptor.long_picture_id = high & 0x80 != 0;
                descriptor.picture_id = Some(if descriptor.long_picture_id {
                    at += 1;
                    u16::from_be_bytes([high & 0x7f, byte(at - 1)?])
                } else {
                    u16::from(high)
                });
            }
            if present & 0x40 != 0 {
                descriptor.tl0_picture_index = Some(byte(at)?);
                at += 1;
            }
            if present & 0x30 != 0 {
                let layer = byte(at)?;
                at += 1;
                if present & 0x20 != 0 {
                    descriptor.temporal = Some(layer >> 6);
                    descriptor.layer_sync = layer & 0x20 != 0;
                }
                if present & 0x10 != 0 {
                    descriptor.key_index = Some(layer & 0x1f);
                }
            }
        }
        descriptor.len = at as u8;
        Ok(descriptor)
    }

    /// First packet of a frame.
    pub fn is_frame_start(&self) -> bool {
        self.partition_start && self.partition == 0
    }

    /// Writes it to the start of `out`, a picture id always in 15 bits. Its length, at most [`MAX_LEN`]; `None`: no
    /// room.
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let mut bytes = [0; MAX_LEN];
        bytes[0] = u8::from(self.non_reference) << 5
            | u8::from(self.partition_start) << 4
            | (self.partition & 0x07);
        let mut at = 2;
        if let Some(id) = self.picture_id {
            bytes[1] |= 0x80;
            let [high, low] = (id & 0x7fff).to_be_bytes();
            bytes[at] = 0x80 | high;
            bytes[at + 1] = low;
            at += 2;
        }
        if let Some(index) = self.tl0_picture_index {
            bytes[1] |= 0x40;
            bytes[at] = index;
            at += 1;
        }
        if self.temporal.is_some() || self.key_index.is_some() {
            if let Some(temporal) = self.temporal {
                bytes[1] |= 0x20;
                bytes[at] |= (temporal & 3) << 6 | u8::from(self.layer_sync) << 5;
            }
            if let Some(index) = self.key_index {
                bytes[1] |= 0x10;
                bytes[at] |= index & 0x1f;
            }
            at += 1;
        }
        if bytes[1] == 0 {
            at = 1;
        } else {
            bytes[0] |= 0x80;
        }
        out.get_mut(..at)?.copy_from_slice(&bytes[..at]);
        Some(at)
    }
}

/// The picture's size when the payload begins a key frame (RFC 6386 §9.1); width and height are 0 when the payload
/// ends before them.
pub fn key_frame(payload: &[u8], descriptor: &Vp8Descriptor) -> Option<(u16, u16)> {
    if !descriptor.is_frame_start() {
        return None;
    }
    let frame = payload.get(usize::from(descriptor.len)..)?;
    if *frame.first()? & 1 != 0 {
        return None;
    }
    let size = |at: usize| {
        frame
            .get(at..at + 2)
            .map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]) & 0x3fff)
    };
    Some((size(6), size(8)))
}

#[cfg(test)]
mod tests {
    use super::super::blank;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 7741 §4.6.1, §4.6.3: a key frame with a 7-bit picture id, one with a 15-bit id and temporal layers.
        let short = Vp8Descriptor::parse(&[0x90, 0x80, 0x11, 0]).unwrap();
        assert_eq!((short.picture_id, short.len), (Some(0x11), 3));
        assert!(!short.long_picture_id && short.is_frame_start());
        let long = Vp8Descriptor::parse(&[0x90, 0xe0, 0x92, 0x34, 7, 0x60, 0]).unwrap();
        assert_eq!(long.picture_id, Some(0x1234));
        assert_eq!(long.tl0_picture_index, Some(7));
        assert_eq!((long.temporal, long.layer_sync), (Some(1), true));
        assert_eq!((long.key_index, long.len), (None, 6));
    }

    #[test]
    fn the_size_is_in_the_head_of_a_key_frame() {
        let mut payload = vec![0x10];
        payload.extend_from_slice(blank::VP8);
        let descriptor = Vp8Descriptor::parse(&payload).unwrap();
        assert_eq!(key_frame(&payload, &descriptor), Some((8, 8)));
        assert_eq!(key_frame(&payload[..4], &descriptor), Some((0, 0)));
        assert_eq!(key_frame(&payload[..1], &descriptor), None);
        payload[1] |= 1;
        assert_eq!(key_frame(&payload, &descriptor), None);
    }

    #[test]
    fn a_later_partition_is_no_frame_start() {
        let descriptor = Vp8Descriptor::parse(&[0x11, 0]).unwrap();
        assert!(!descriptor.is_frame_start());
        assert_eq!(key_frame(&[0x11, 0], &descriptor), None);
    }

    #[test]
    fn every_truncation_is_a_fault() {
        let whole = [0x80, 0xf0, 0x92, 0x34, 7, 0x60];
        for len in 0..whole.len() {
            assert_eq!(
                Vp8Descriptor::parse(&whole[..len]),
                Err(CodecFault::Truncated)
            );
        }
        assert!(Vp8Descriptor::parse(&whole).is_ok());
    }

    proptest! {
        #[test]
        fn a_written_descriptor_is_read_back(
            flags: (bool, bool, bool),
            partition in 0u8..8,
            picture_id in prop::option::of(0u16..0x8000),
            tl0_picture_index: Option<u8>,
            temporal in prop::option::of(0u8..4),
            key_index in prop::option::of(0u8..32),
        ) {
            let mut descriptor = Vp8Descriptor {
                non_reference: flags.0,
                partition_start: flags.1,
                partition,
                picture_id,
                long_picture_id: picture_id.is_some(),
                tl0_picture_index,
                temporal,
                layer_sync: temporal.is_some() && flags.2,
                key_index,
                len: 0,
            };
            let mut out = [0xff; MAX_LEN];
            let len = descriptor.write(&mut out).unwrap();
            descriptor.len = len as u8;
            prop_assert_eq!(Vp8Descriptor::parse(&out[..len]), Ok(descriptor));
            prop_assert_eq!(descriptor.write(&mut out[..len - 1]), None);
        }
    }
}
