//! What a payload says about the frame that it is part of, codec by codec, and frames of our own.
//!
//! Everything reads borrowed payloads and writes into borrowed buffers. Nothing decodes: what is read here stays in
//! the clear when participants encrypt end to end. Only [`dependency`] keeps anything from packet to packet.

pub mod av1;
pub mod blank;
pub mod dependency;
pub mod h264;
pub mod h265;
pub mod opus;
pub mod red;
pub mod vp8;
pub mod vp9;

use crate::plan::{Codec, Format, Kind};

/// What is wrong with a payload or a descriptor of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CodecFault {
    /// Fields that contradict each other or exceed what the specification allows.
    #[error("malformed payload")]
    Malformed,
    /// A dependency descriptor before the structure that it refers to.
    #[error("no dependency structure yet")]
    NoStructure,
    /// It ends before what its fields announce.
    #[error("truncated payload")]
    Truncated,
}

/// What one packet says about its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameFacts {
    /// The packet begins a frame that decodes without any other: a stream may begin here. Every audio packet does.
    pub key_frame: bool,
    /// First packet of a frame (of one spatial layer), as far as the payload can tell; AV1 without dependency
    /// descriptor: first packet of an OBU.
    pub frame_start: bool,
    /// Last packet of a frame (of one spatial layer).
    pub frame_end: bool,
    /// Spatial layer within this stream; 0 for what has none.
    pub spatial: u8,
    /// Temporal layer; 0 for what has none.
    pub temporal: u8,
    /// Whoever receives the layers below can begin to receive this packet's layer here.
    pub switch_up: bool,
    /// No other frame depends on this one.
    pub discardable: bool,
}

/// Reads the facts of a packet. `marker` is that of its RTP header; `frame` its dependency descriptor, which knows
/// best. A payload that is not what `format` says has no facts, only what the marker tells.
pub fn facts(
    format: Format,
    payload: &[u8],
    marker: bool,
    frame: Option<&dependency::Frame>,
) -> FrameFacts {
    let unknown = FrameFacts {
        frame_end: marker,
        ..FrameFacts::default()
    };
    if format.codec.kind() == Kind::Audio {
        return FrameFacts {
            key_frame: true,
            frame_start: true,
            frame_end: true,
            switch_up: true,
            ..unknown
        };
    }
    if let Some(frame) = frame {
        return FrameFacts {
            // A structure may come with the upper layers of a key frame too.
            key_frame: frame.first_packet
                && frame.has_structure
                && frame.differences.as_slice().is_empty(),
            frame_start: frame.first_packet,
            frame_end: frame.last_packet,
            spatial: frame.spatial,
            temporal: frame.temporal,
            switch_up: frame.is_switch(),
            discardable: frame.is_discardable(),
        };
    }
    match format.codec {
        Codec::Vp8 => vp8::Vp8Descriptor::parse(payload).map_or(unknown, |descriptor| {
            let key_frame = vp8::key_frame(payload, &descriptor).is_some();
            FrameFacts {
                key_frame,
                frame_start: descriptor.is_frame_start(),
                temporal: descriptor.temporal.unwrap_or(0),
                switch_up: key_frame || descriptor.layer_sync,
                discardable: descriptor.non_reference,
                ..unknown
            }
        }),
        Codec::Vp9 => vp9::Vp9Descriptor::parse(payload).map_or(unknown, |descriptor| FrameFacts {
            key_frame: descriptor.is_key_frame(),
            frame_start: descriptor.begins_frame,
            frame_end: descriptor.ends_frame,
            spatial: descriptor.spatial,
            temporal: descriptor.temporal,
            switch_up: descriptor.is_key_frame() || descriptor.switching_up,
            ..unknown
        }),
        Codec::H264 => {
            let facts = h264::facts(payload);
            FrameFacts {
                key_frame: facts.key_frame,
                frame_start: facts.frame_start,
                switch_up: facts.key_frame,
                discardable: facts.discardable,
                ..unknown
            }
        }
        Codec::H265 => {
            let facts = h265::facts(payload);
            FrameFacts {
                key_frame: facts.key_frame,
                frame_start: facts.frame_start,
                temporal: facts.temporal,
                switch_up: facts.key_frame || facts.switch_up,
                ..unknown
            }
        }
        Codec::Av1 => {
            let facts = av1::facts(payload);
            FrameFacts {
                key_frame: facts.key_frame,
                frame_start: facts.starts_obu,
                spatial: facts.spatial,
                temporal: facts.temporal,
                switch_up: facts.key_frame,
                ..unknown
            }
        }
        Codec::Opus | Codec::Pcma | Codec::Pcmu | Codec::Red => unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_audio_packet_is_a_beginning() {
        let format = Format {
            codec: Codec::Opus,
            variant: 0,
        };
        let facts = facts(format, &[], false, None);
        assert!(facts.key_frame && facts.frame_start && facts.frame_end && facts.switch_up);
    }

    #[test]
    fn an_empty_video_payload_has_only_its_marker() {
        for codec in [Codec::Av1, Codec::H264, Codec::H265, Codec::Vp8, Codec::Vp9] {
            let format = Format { codec, variant: 0 };
            let expected = FrameFacts {
                frame_end: true,
                ..FrameFacts::default()
            };
            assert_eq!(facts(format, &[], true, None), expected, "{codec:?}");
        }
    }
}
