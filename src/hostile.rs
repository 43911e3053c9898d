//! One function for each parser of what a peer sends, from bytes: what the fuzz targets and `tests/hostile.rs` both call. Each
//! reads everything that the parser found, and checks what must hold for any input.

use crate::config::Keys;
use crate::media::channels::script;
use crate::media::codec::{self, dependency, red, vp8};
use crate::negotiate::{self, Negotiator, Role, Setup};
use crate::plan::{Codec, Extensions, Fingerprint, Format, IceCredentials};
use crate::protocol::{join_request, signal, token};
use crate::random::Random;
use crate::rtp::rtcp::{self, Feedback, XrBlock};
use crate::rtp::{ExtensionWriter, Found, Header, extension};
use crate::secret::Secret;
use std::collections::HashMap;
use std::time::Instant;

/// An RTP packet: header, extensions, payload.
pub fn parse_rtp_bytes(data: &[u8]) {
    let Ok(header) = Header::parse(data) else {
        return;
    };
    assert!(header.payload_offset <= data.len());
    if let Ok(end) = header.payload_end(data) {
        assert!(header.payload_offset <= end && end <= data.len());
    }
    let mut out = [0; 2_048];
    let mut writer = ExtensionWriter::new(&mut out);
    let mut count = 0;
    for element in extension::elements(data, &header) {
        assert_eq!(element.data.of(data).len(), usize::from(element.data.len));
        count += usize::from(writer.push(element.id, element.data.of(data)));
    }
    assert_eq!(writer.finish() > 0, count > 0);
    let ids = Extensions {
        mid: Some(1),
        rid: Some(2),
        repaired_rid: Some(3),
        audio_level: Some(4),
        abs_send_time: Some(5),
        transport_cc: Some(6),
        dependency_descriptor: Some(7),
        abs_capture_time: Some(8),
        playout_delay: Some(9),
    };
    let found = Found::extract(data, &header, &ids);
    if let Some(level) = found.audio_level {
        assert!(level.level <= 127);
    }
}

/// A decrypted RTCP packet: every part, every item of it.
pub fn parse_rtcp_bytes(data: &[u8]) {
    let mut items = 0;
    for part in rtcp::parse(data).flatten() {
        items += match part {
            Feedback::Bye(sources) => sources.count(),
            Feedback::Fir { entries, .. } => entries.count(),
            Feedback::Nack { lost, .. } => lost.count(),
            Feedback::Other { .. } | Feedback::Pli { .. } => 1,
            Feedback::ReceiverReport { blocks, .. } | Feedback::SenderReport { blocks, .. } => {
                blocks.count()
            }
            Feedback::Remb { ssrcs, .. } => ssrcs.count(),
            Feedback::Sdes(items) => items.count(),
            Feedback::TransportCc(feedback) => {
                let count = feedback.arrivals().count();
                assert!(count <= usize::from(feedback.count));
                count
            }
            Feedback::Xr { blocks, .. } => blocks
                .map(|block| match block {
                    XrBlock::Dlrr(items) => items.count(),
                    XrBlock::Rrtr { .. } => 1,
                })
                .sum(),
        };
    }
    // A run-length chunk of two bytes is the densest that RTCP gets.
    assert!(items <= 8_192 * (data.len() + 1));
}

/// A payload, as each codec.
pub fn parse_payload_bytes(data: &[u8]) {
    for codec in [
        Codec::Av1,
        Codec::H264,
        Codec::H265,
        Codec::Opus,
        Codec::Pcma,
        Codec::Pcmu,
        Codec::Red,
        Codec::Vp8,
        Codec::Vp9,
    ] {
        let facts = codec::facts(Format { codec, variant: 0 }, data, false, None);
        assert!(facts.spatial < 8 && facts.temporal < 8);
    }
}

/// A VP8 payload descriptor: what is written of it is read back the same.
pub fn parse_vp8_bytes(data: &[u8]) {
    let Ok(mut descriptor) = vp8::Vp8Descriptor::parse(data) else {
        return;
    };
    assert!(usize::from(descriptor.len) <= data.len());
    vp8::key_frame(data, &descriptor);
    let mut out = [0; vp8::MAX_LEN];
    let len = descriptor.write(&mut out).expect("no descriptor is longer");
    descriptor.len = len as u8;
    descriptor.long_picture_id = descriptor.picture_id.is_some();
    let read = vp8::Vp8Descriptor::parse(&out[..len]);
    assert_eq!(read, Ok(descriptor));
}

/// Dependency descriptors of one stream, each with its length before it; each that is read can be written.
pub fn parse_dependency_bytes(data: &[u8]) {
    let mut tracker = dependency::Tracker::default();
    let mut rest = data;
    while let Some((&len, after)) = rest.split_first() {
        let (descriptor, after) = after.split_at(usize::from(len).min(after.len()));
        rest = after;
        let Ok(frame) = tracker.handle(descriptor) else {
            continue;
        };
        let mut out = [0; 300];
        let len = dependency::rewrite(descriptor, &frame, 7, Some(1), &mut out)
            .expect("a mask adds at most five bytes");
        let read = tracker
            .clone()
            .handle(&out[..len])
            .expect("what is written can be read");
        assert_eq!((read.number, read.active_targets), (7, Some(1)));
        assert_eq!(read.differences, frame.differences);
    }
}

/// A RED payload: its blocks lie within it.
pub fn parse_red_bytes(data: &[u8]) {
    let Ok(red) = red::Red::parse(data) else {
        return;
    };
    let total: usize = red.blocks().map(|block| block.data.len()).sum();
    assert!(total < data.len());
    assert_eq!(red.primary().timestamp_offset, 0);
}

/// An offer to a single connection, and what is answered to it.
pub fn parse_sdp_bytes(data: &[u8]) {
    let Ok(sdp) = std::str::from_utf8(data) else {
        return;
    };
    let mut random = Random::seeded(1);
    let mut negotiator = Negotiator::new(Setup {
        role: Role::Single,
        local: IceCredentials {
            ufrag: "Aufrag".to_owned(),
            password: Secret::new("password-of-24-characters".to_owned()),
        },
        fingerprint: Fingerprint([7; 32]),
        lite: false,
        candidates: Vec::new(),
        codecs: vec![Codec::Opus, Codec::Red, Codec::Vp8, Codec::H264, Codec::Av1],
        unsent: Vec::new(),
        firefox: false,
        holds_data: true,
        first_offer_id: 1,
        reuse_sections: true,
        playout_delay: true,
        red_capable: true,
    });
    let Ok(offer) = negotiator.parse_offer(sdp) else {
        return;
    };
    let sections = offer.sections.len();
    if let Ok(answer) = negotiator.answer(offer, &HashMap::new(), &mut random) {
        let answered = answer.sdp.matches("\r\nm=").count();
        assert!(answered >= sections, "{answered} of {sections} sections");
    }
}

/// What a peer does with an association of data channels, step by step.
pub fn play_association_bytes(data: &[u8]) {
    script::play(Instant::now(), data);
}

/// A trickled candidate.
pub fn parse_candidate_bytes(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(candidate) = negotiate::parse_candidate(text)
    {
        assert!(candidate.address.port() > 0);
    }
}

/// What a client may send before and after it is let in: a `join_request`, a token, frames of both forms.
pub fn parse_signal_bytes(data: &[u8]) {
    const LIMIT: usize = 2 << 20;
    if let Ok(request) = signal::decode_binary(data, LIMIT) {
        drop(request);
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(request) = signal::decode_text(text, LIMIT) {
        drop(request);
    }
    if let Ok(join) = join_request::decode(text) {
        drop(join);
    }
    let keys = Keys(vec![("key".to_owned(), Secret::new("secret".repeat(6)))]);
    assert!(
        token::verify(0, text, &keys).is_err(),
        "nobody guesses a signature"
    );
}
