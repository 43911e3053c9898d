//! Codecs as SDP names them: what an offered payload type is, which ones we agree to, and our own payload types for the
//! subscriber role (livekit.md 3.14; `protocol:codecs/codecs.go` of LiveKit 1.13.5).

use crate::ids::PayloadType;
use crate::plan::{Codec, Format, Kind, ReceiveFormat, SendFormat};

/// RTCP feedback that we know (RFC 4585, RFC 5104).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feedback {
    CcmFir,
    Nack,
    NackPli,
    Remb,
    TransportCc,
}

impl Feedback {
    /// As it stands behind the payload type.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::CcmFir => "ccm fir",
            Self::Nack => "nack",
            Self::NackPli => "nack pli",
            Self::Remb => "goog-remb",
            Self::TransportCc => "transport-cc",
        }
    }

    /// The reverse.
    pub(super) fn parse(text: &str) -> Option<Self> {
        [
            Self::CcmFir,
            Self::Nack,
            Self::NackPli,
            Self::Remb,
            Self::TransportCc,
        ]
        .into_iter()
        .find(|feedback| feedback.text() == text)
    }
}

/// What a payload type is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A codec that we forward.
    Media(Format),
    /// Retransmissions of another payload type (RFC 4588).
    Rtx(u8),
    /// Left out of answers.
    Unknown,
}

/// A payload type of the client.
#[derive(Debug, Clone)]
pub(super) struct Payload {
    /// Its number.
    pub(super) pt: u8,
    /// `opus/48000/2` as offered; echoed.
    pub(super) map: String,
    /// `a=fmtp` as offered; echoed.
    pub(super) fmtp: String,
    /// `a=rtcp-fb` in the client's order.
    pub(super) feedback: Vec<Feedback>,
    /// What it is.
    pub(super) meaning: Meaning,
}

impl Payload {
    /// A payload type of which only the number is known: static ones have their names from RFC 3551.
    pub(super) fn new(pt: u8) -> Self {
        Self {
            pt,
            map: match pt {
                0 => "PCMU/8000".into(),
                8 => "PCMA/8000".into(),
                _ => String::new(),
            },
            fmtp: String::new(),
            feedback: Vec::new(),
            meaning: Meaning::Unknown,
        }
    }

    /// Takes the value of `a=rtpmap`.
    pub(super) fn set_map(&mut self, map: &str) {
        map.clone_into(&mut self.map);
    }

    /// Finds out what it is, once map and parameters are known.
    pub(super) fn classify(&mut self, kind: Kind) {
        let mut parts = self.map.split('/');
        let name = parts.next().unwrap_or("");
        let clock: u32 = parts.next().and_then(|c| c.parse().ok()).unwrap_or(0);
        let channels: u8 = parts.next().and_then(|c| c.parse().ok()).unwrap_or(1);
        self.meaning = if name.eq_ignore_ascii_case("rtx") && kind == Kind::Video {
            param(&self.fmtp, "apt")
                .and_then(|apt| apt.parse().ok())
                .map_or(Meaning::Unknown, Meaning::Rtx)
        } else {
            Codec::from_mime(name)
                .filter(|codec| codec.kind() == kind && codec.clock_rate() == clock)
                .filter(|codec| match codec {
                    Codec::Opus | Codec::Red => channels == 2,
                    _ => channels == 1,
                })
                .and_then(|codec| {
                    variant(codec, &self.fmtp).map(|variant| Format { codec, variant })
                })
                .map_or(Meaning::Unknown, Meaning::Media)
        };
    }
}

/// A parameter of `a=fmtp`.
fn param<'a>(fmtp: &'a str, key: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case(key)
            .then_some(value.trim())
    })
}

/// [`Format::variant`], or nothing for profiles that are not forwarded.
fn variant(codec: Codec, fmtp: &str) -> Option<u8> {
    match codec {
        Codec::Vp9 => match param(fmtp, "profile-id").unwrap_or("0") {
            "0" => Some(0),
            "1" => Some(1),
            _ => None,
        },
        Codec::Av1 => (param(fmtp, "profile").unwrap_or("0") == "0").then_some(0),
        Codec::H265 => (param(fmtp, "profile-id").unwrap_or("1") == "1").then_some(0),
        Codec::H264 => h264(fmtp),
        Codec::Opus | Codec::Pcma | Codec::Pcmu | Codec::Red | Codec::Vp8 => Some(0),
    }
}

/// Constrained baseline in both packetization modes, High in mode 1 whatever its level; nothing else is in LiveKit's table.
fn h264(fmtp: &str) -> Option<u8> {
    let mode = match param(fmtp, "packetization-mode").unwrap_or("0") {
        "0" => 0,
        "1" => 1,
        _ => return None,
    };
    let id = param(fmtp, "profile-level-id").unwrap_or("42e01f");
    if id.len() != 6 || !id.is_ascii() {
        return None;
    }
    let idc = u8::from_str_radix(&id[..2], 16).ok()?;
    let constraints = u8::from_str_radix(&id[2..4], 16).ok()?;
    match (idc, constraints, mode) {
        // RFC 6184 §8.1, table 5: baseline with constraint_set1 is constrained baseline.
        (0x42, constraints, mode) if constraints & 0x40 != 0 => Some(mode),
        (0x64, 0, 1) => Some(7),
        _ => None,
    }
}

/// The payload types of an offer that the room allows, in the client's order.
pub(super) fn agreed(payloads: &[Payload], allowed: &[Codec]) -> Vec<ReceiveFormat> {
    let mut found: Vec<ReceiveFormat> = payloads
        .iter()
        .filter_map(|payload| match payload.meaning {
            Meaning::Media(format) if allowed.contains(&format.codec) => Some(ReceiveFormat {
                pt: PayloadType(payload.pt),
                format,
                rtx: payloads
                    .iter()
                    .find(|rtx| rtx.meaning == Meaning::Rtx(payload.pt))
                    .map(|rtx| PayloadType(rtx.pt)),
            }),
            _ => None,
        })
        .collect();
    // RED is a wrapping of Opus: without Opus itself nobody could play it.
    if !found.iter().any(|f| f.format.codec == Codec::Opus) {
        found.retain(|f| f.format.codec != Codec::Red);
    }
    found
}

/// The payload types in which a subscriber takes what a publisher may send, in the publisher's order.
pub(super) fn matched(wanted: &[Format], section: &[ReceiveFormat], red: bool) -> Vec<SendFormat> {
    let mut found: Vec<SendFormat> = Vec::new();
    for format in wanted {
        let same = section.iter().find(|have| have.format == *format);
        // Decoders go by the bitstream: H.264 of another profile is sent where H.264 is taken (as LiveKit does),
        // preferably in the same packetization mode.
        let near = |same_mode: bool| {
            section.iter().find(|have| {
                format.codec == Codec::H264
                    && have.format.codec == Codec::H264
                    && (!same_mode || have.format.variant & 1 == format.variant & 1)
            })
        };
        let Some(have) = same.or_else(|| near(true)).or_else(|| near(false)) else {
            continue;
        };
        if (format.codec != Codec::Red || red) && !found.iter().any(|f| f.format == *format) {
            found.push(SendFormat {
                format: *format,
                pt: have.pt,
                rtx: have.rtx,
            });
        }
    }
    // The publisher must have Opus too: the frames inside its RED are Opus.
    if !found.iter().any(|f| f.format.codec == Codec::Opus) {
        found.retain(|f| f.format.codec != Codec::Red);
    }
    found
}

/// One line of our table of payload types.
#[derive(Debug)]
pub(super) struct Own {
    /// The format.
    pub(super) format: Format,
    /// Its payload type.
    pub(super) pt: u8,
    /// Its RTX.
    pub(super) rtx: Option<u8>,
    /// `a=rtpmap`.
    pub(super) map: &'static str,
    /// `a=fmtp`, may be empty.
    pub(super) fmtp: &'static str,
}

const fn own(
    codec: Codec,
    variant: u8,
    pt: u8,
    rtx: Option<u8>,
    map: &'static str,
    fmtp: &'static str,
) -> Own {
    Own {
        format: Format { codec, variant },
        pt,
        rtx,
        map,
        fmtp,
    }
}

/// Offered in the subscriber role, in this order, but for the codec of a video that is sent: it comes first.
pub(super) static TABLE: [Own; 11] = [
    own(
        Codec::Opus,
        0,
        111,
        None,
        "opus/48000/2",
        "minptime=10;useinbandfec=1",
    ),
    own(Codec::Red, 0, 63, None, "red/48000/2", "111/111"),
    own(Codec::Pcmu, 0, 0, None, "PCMU/8000", ""),
    own(Codec::Pcma, 0, 8, None, "PCMA/8000", ""),
    own(Codec::Vp8, 0, 96, Some(97), "VP8/90000", ""),
    own(Codec::Vp9, 0, 98, Some(99), "VP9/90000", "profile-id=0"),
    own(Codec::Vp9, 1, 100, Some(101), "VP9/90000", "profile-id=1"),
    own(
        Codec::H264,
        0,
        125,
        Some(126),
        "H264/90000",
        "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f",
    ),
    own(
        Codec::H264,
        1,
        108,
        Some(109),
        "H264/90000",
        "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    ),
    own(Codec::Av1, 0, 35, Some(36), "AV1/90000", ""),
    own(Codec::H265, 0, 116, Some(117), "H265/90000", ""),
];

/// Parameters of a payload type with some taken away and others put at its end.
pub(super) fn with_params(fmtp: &str, without: &[&str], with: &[&str]) -> String {
    let kept = fmtp.split(';').map(str::trim).filter(|pair| {
        let name = pair.split('=').next().unwrap_or("");
        !pair.is_empty() && !without.contains(&name)
    });
    kept.chain(with.iter().copied())
        .collect::<Vec<_>>()
        .join(";")
}
