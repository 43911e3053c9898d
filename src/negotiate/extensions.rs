//! RTP header extensions by URI (RFC 8285), and which of them a section may agree on.

use super::Role;
use crate::plan::{Extensions, Kind};

/// An extension that is forwarded or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uri {
    AbsCaptureTime,
    AbsSendTime,
    AudioLevel,
    DependencyDescriptor,
    Mid,
    PlayoutDelay,
    RepairedRid,
    Rid,
    TransportCc,
}

impl Uri {
    const ALL: [Self; 9] = [
        Self::AbsCaptureTime,
        Self::AbsSendTime,
        Self::AudioLevel,
        Self::DependencyDescriptor,
        Self::Mid,
        Self::PlayoutDelay,
        Self::RepairedRid,
        Self::Rid,
        Self::TransportCc,
    ];

    /// The URI as it stands in `a=extmap`.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::AbsCaptureTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
            Self::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
            }
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            Self::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Self::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::TransportCc => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
        }
    }

    /// The extension of a URI, if we know it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|uri| uri.text() == text)
    }

    /// Whether an answer of this role agrees to it (livekit.md 3.14 and 14). `playout`: the room delays video.
    fn answered(self, role: Role, kind: Kind, playout: bool) -> bool {
        match self {
            Self::PlayoutDelay => kind == Kind::Video && role == Role::Single && playout,
            Self::Mid | Self::Rid | Self::AbsCaptureTime => true,
            Self::AudioLevel => kind == Kind::Audio,
            Self::RepairedRid | Self::TransportCc | Self::DependencyDescriptor => {
                kind == Kind::Video
            }
            Self::AbsSendTime => kind == Kind::Video && role == Role::Single,
        }
    }
}

/// What is offered in the subscriber role, by kind, with our ids.
pub(super) fn offered(kind: Kind, playout: bool) -> &'static [(Uri, u8)] {
    match kind {
        Kind::Audio => &[(Uri::AbsCaptureTime, 2)],
        Kind::Video if playout => &[
            (Uri::DependencyDescriptor, 1),
            (Uri::AbsCaptureTime, 2),
            (Uri::AbsSendTime, 3),
            (Uri::PlayoutDelay, 4),
        ],
        Kind::Video => &[
            (Uri::DependencyDescriptor, 1),
            (Uri::AbsCaptureTime, 2),
            (Uri::AbsSendTime, 3),
        ],
    }
}

/// The part of an offer's list that is answered, in the client's order.
pub(super) fn answered(
    list: &[(Uri, u8)],
    role: Role,
    kind: Kind,
    playout: bool,
) -> Vec<(Uri, u8)> {
    list.iter()
        .copied()
        .filter(|(uri, _)| uri.answered(role, kind, playout))
        .collect()
}

/// The ids of a list.
pub(super) fn ids(list: &[(Uri, u8)]) -> Extensions {
    let mut extensions = Extensions::default();
    add(&mut extensions, list);
    extensions
}

/// Adds a section's ids to those of the transport.
pub(super) fn add(extensions: &mut Extensions, list: &[(Uri, u8)]) {
    for (uri, id) in list {
        let place = match uri {
            Uri::AbsCaptureTime => &mut extensions.abs_capture_time,
            Uri::AbsSendTime => &mut extensions.abs_send_time,
            Uri::AudioLevel => &mut extensions.audio_level,
            Uri::DependencyDescriptor => &mut extensions.dependency_descriptor,
            Uri::Mid => &mut extensions.mid,
            Uri::PlayoutDelay => &mut extensions.playout_delay,
            Uri::RepairedRid => &mut extensions.repaired_rid,
            Uri::Rid => &mut extensions.rid,
            Uri::TransportCc => &mut extensions.transport_cc,
        };
        place.get_or_insert(*id);
    }
}
