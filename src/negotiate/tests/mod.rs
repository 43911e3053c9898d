//! What the negotiator answers to real clients, and what holds whatever they do.

mod clients;
mod faults;
mod model;
mod sections;
mod subscriber;

use super::parse::Description;
use super::{Answer, Negotiator, Publish, Role, SendSpec, Setup};
use crate::ids::{DownTrackId, Mid, Ssrc, UpTrackId};
use crate::plan::{Codec, Fingerprint, Format, IceCredentials, Kind, LocalCandidate, Proto};
use crate::random::Random;
use crate::secret::Secret;
use std::collections::HashMap;

/// An SDP of `tests/fixtures`, recorded from a real client or (`.livekit`) from livekit-server 1.13.5.
macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../tests/fixtures/", $name, ".sdp"))
    };
}
pub(super) use fixture;

/// Everything LiveKit enables.
pub(super) const CODECS: [Codec; 9] = [
    Codec::Pcmu,
    Codec::Pcma,
    Codec::Opus,
    Codec::Red,
    Codec::Vp8,
    Codec::H264,
    Codec::Vp9,
    Codec::Av1,
    Codec::H265,
];

pub(super) fn setup(role: Role) -> Setup {
    Setup {
        role,
        local: IceCredentials {
            ufrag: "A234567890123456".into(),
            password: Secret::new("local-password-local-password-32".into()),
        },
        fingerprint: Fingerprint([0xab; 32]),
        lite: false,
        candidates: vec![
            LocalCandidate {
                proto: Proto::Udp,
                address: "127.0.0.1:7882".parse().unwrap(),
                preference: 65_535,
            },
            LocalCandidate {
                proto: Proto::Tcp,
                address: "[fd00::2]:7881".parse().unwrap(),
                preference: 65_535,
            },
        ],
        codecs: CODECS.to_vec(),
        unsent: Vec::new(),
        firefox: false,
        holds_data: true,
        first_offer_id: 85,
        reuse_sections: true,
        playout_delay: false,
        red_capable: true,
    }
}

pub(super) fn negotiator(role: Role) -> Negotiator {
    Negotiator::new(setup(role))
}

pub(super) fn format(codec: Codec, variant: u8) -> Format {
    Format { codec, variant }
}

/// A down track numbered `id`: video VP8 with RTX, or Opus with RED.
pub(super) fn down(id: u64, kind: Kind) -> SendSpec {
    let sid = format!("TR_{id}");
    SendSpec {
        down: DownTrackId(id),
        kind,
        formats: match kind {
            Kind::Audio => vec![format(Codec::Red, 0), format(Codec::Opus, 0)],
            Kind::Video => vec![format(Codec::Vp8, 0)],
        },
        stream_id: format!("PA_x|{sid}"),
        track_sid: sid.as_str().into(),
        ssrc: Ssrc(1000 + id as u32),
        rtx_ssrc: (kind == Kind::Video).then_some(Ssrc(2000 + id as u32)),
        stereo: false,
        publisher_red: kind == Kind::Audio,
    }
}

pub(super) fn publish(up: u64) -> Publish {
    Publish {
        up: UpTrackId(up),
        preferred: Some(Codec::Vp8),
        dtx: true,
        stereo: false,
        red: true,
        layers: 3,
    }
}

/// Our own SDP, read as a client would.
pub(super) fn read(sdp: &str) -> Description {
    Description::parse(sdp).expect("our own SDP can be read")
}

/// Publications by mid.
pub(super) fn publishes(list: &[(&str, u64)]) -> HashMap<Mid, Publish> {
    list.iter()
        .map(|(mid, up)| (Mid::from(*mid), publish(*up)))
        .collect()
}

/// The answer to an offer that is fine.
pub(super) fn answer_to(negotiator: &mut Negotiator, sdp: &str, list: &[(&str, u64)]) -> Answer {
    let offer = negotiator.parse_offer(sdp).unwrap();
    negotiator
        .answer(offer, &publishes(list), &mut Random::seeded(1))
        .unwrap()
}
