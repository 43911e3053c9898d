//! Frames that this server makes itself, so that decoders flush what they hold when a track is muted or ends
//! (livekit 1.13.5 pkg/sfu/downtrack.go does the same). VP9, AV1 and H.265 have none.
//!
//! The pictures were encoded by libvpx and x264 and decode to black with FFmpeg; the H.264 parameter sets are without
//! timing and usability information.

use super::opus;
use crate::plan::Codec;
use std::time::Duration;

/// A VP8 key frame of 8×8 black, without payload descriptor.
pub const VP8: &[u8] = &[
    0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x08, 0x00, 0x08, 0x00, 0x0b, 0xc7, 0x08, 0x85, 0x85, 0x88,
    0x85, 0x84, 0x88, 0x3f, 0x82, 0x00, 0x0c, 0x0d, 0x60, 0x00, 0xfe, 0xe6, 0xb5, 0x00,
];
/// H.264 constrained baseline, level 1, 2×2: sequence parameter set.
pub const H264_SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x0a, 0xdd, 0xf8, 0x88, 0x84];
/// Its picture parameter set.
pub const H264_PPS: &[u8] = &[0x68, 0xce, 0x0f, 0x2c, 0x80];
/// A black IDR slice.
pub const H264_IDR: &[u8] = &[
    0x65, 0x88, 0x84, 0x04, 0xa8, 0x98, 0xa0, 0x00, 0x38, 0xa3, 0x80,
];

/// How long after a mute they are sent.
pub const AFTER_MUTE: Duration = Duration::from_secs(1);
/// How long before a down track ends they are sent.
pub const BEFORE_CLOSE: Duration = Duration::from_millis(200);

/// Frames in a second and RTP ticks from one to the next; `None` for a codec without such a frame.
pub fn pace(codec: Codec) -> Option<(u32, u32)> {
    match codec {
        Codec::Opus | Codec::Red => Some((50, opus::SILENCE_TICKS)),
        Codec::Pcma | Codec::Pcmu => Some((50, 160)),
        Codec::H264 | Codec::Vp8 => Some((30, 3_000)),
        Codec::Av1 | Codec::H265 | Codec::Vp9 => None,
    }
}

/// Writes the payload of one frame, in one packet: `head`, the frame, the trailer by which end-to-end encrypting
/// participants know a frame of the server. `head` is the payload descriptor for VP8, the block header (the payload
/// type of Opus) for RED, empty for the others. Its length; `None`: no such frame, or no room.
pub fn write(codec: Codec, head: &[u8], trailer: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut len = 0;
    let mut put = |bytes: &[u8]| {
        out.get_mut(len..len + bytes.len())?.copy_from_slice(bytes);
        len += bytes.len();
        Some(len)
    };
    put(head)?;
    match codec {
        Codec::Opus | Codec::Red => put(opus::SILENCE)?,
        // 20 ms of zero, as each law writes it.
        Codec::Pcma => put(&[0xd5; 160])?,
        Codec::Pcmu => put(&[0xff; 160])?,
        Codec::Vp8 => put(VP8)?,
        Codec::H264 => {
            // STAP-A. The trailer belongs to the last unit: what follows it would be read as a length.
            put(&[0x78])?;
            let mut last = 0;
            for (unit, more) in [(H264_SPS, 0), (H264_PPS, 0), (H264_IDR, trailer.len())] {
                put(&u16::try_from(unit.len() + more).ok()?.to_be_bytes())?;
                last = put(unit)?;
            }
            last
        }
        Codec::Av1 | Codec::H265 | Codec::Vp9 => return None,
    };
    put(trailer)
}

#[cfg(test)]
mod tests {
    use super::super::{facts, h264, vp8};
    use super::*;
    use crate::plan::Format;

    #[test]
    fn every_blank_picture_is_a_key_frame() {
        let mut out = [0; 200];
        let len = write(Codec::Vp8, &[0x10], &[], &mut out).unwrap();
        let descriptor = vp8::Vp8Descriptor::parse(&out[..len]).unwrap();
        assert_eq!(vp8::key_frame(&out[..len], &descriptor), Some((8, 8)));
        let len = write(Codec::H264, &[], &[], &mut out).unwrap();
        let facts = h264::facts(&out[..len]);
        assert!(facts.key_frame && facts.frame_start && !facts.discardable);
    }

    #[test]
    fn the_trailer_ends_every_frame() {
        for codec in [
            Codec::Opus,
            Codec::Red,
            Codec::Pcma,
            Codec::Pcmu,
            Codec::Vp8,
            Codec::H264,
        ] {
            let mut out = [0; 300];
            let len = write(codec, &[], b"trailer", &mut out).unwrap();
            assert!(out[..len].ends_with(b"trailer"), "{codec:?}");
            let bare = write(codec, &[], &[], &mut out).unwrap();
            assert_eq!(bare + 7, len);
            assert_eq!(write(codec, &[], &[], &mut out[..bare - 1]), None);
        }
    }

    #[test]
    fn the_trailer_lies_within_the_last_unit_of_an_aggregate() {
        let mut out = [0; 300];
        let len = write(Codec::H264, &[], b"trailer", &mut out).unwrap();
        let mut rest = &out[1..len];
        let mut units = Vec::new();
        while let Some((size, after)) = rest.split_first_chunk::<2>() {
            let (unit, after) = after.split_at(usize::from(u16::from_be_bytes(*size)));
            units.push(unit);
            rest = after;
        }
        assert_eq!(units.len(), 3);
        assert_eq!(units[2], [H264_IDR, b"trailer"].concat());
    }

    #[test]
    fn codecs_without_a_blank_frame_say_so() {
        for codec in [Codec::Vp9, Codec::Av1, Codec::H265] {
            assert_eq!(write(codec, &[], &[], &mut [0; 300]), None);
            assert_eq!(pace(codec), None);
        }
    }

    #[test]
    fn a_red_silence_has_opus_in_its_primary_block() {
        let mut out = [0; 20];
        let len = write(Codec::Red, &[111], &[], &mut out).unwrap();
        let red = super::super::red::Red::parse(&out[..len]).unwrap();
        assert_eq!((red.primary().pt, red.primary().data), (111, opus::SILENCE));
        let format = Format {
            codec: Codec::Red,
            variant: 0,
        };
        assert!(facts(format, &out[..len], false, None).key_frame);
    }
}
