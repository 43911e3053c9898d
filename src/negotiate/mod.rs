//! SDP offers and answers of one peer connection: a pure machine that the room's task drives, one per transport. It
//! owns the media sections, which of them carries which down track, and our ICE credentials; it never sees a packet, a
//! socket or a clock. RFC 8829 (JSEP), RFC 8843 (BUNDLE), RFC 8853 (simulcast); livekit.md 3.6, 3.9, 3.10, 3.14, 14.

mod answer;
mod candidate;
mod extensions;
mod formats;
mod layers;
mod offer;
mod parse;
mod sections;
mod write;

#[cfg(test)]
mod tests;

pub use candidate::{candidate_line, parse_candidate};

use crate::ids::{DownTrackId, Mid, Ssrc, TrackSid, UpTrackId};
use crate::plan::{
    Extensions, Fingerprint, Format, IceCredentials, Kind, LocalCandidate, ReceivePlan,
    RemoteCandidate, RemoteTransport, SendFormat,
};
use std::collections::HashMap;

/// Which of LiveKit's three kinds of peer connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// v0: the client offers, we receive.
    Publisher,
    /// v1: the client offers, both directions.
    Single,
    /// v0: we offer, we send.
    Subscriber,
}

/// Constant facts of a negotiation.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which peer connection.
    pub role: Role,
    /// Our credentials at first.
    pub local: IceCredentials,
    /// SHA-256 of our certificate.
    pub fingerprint: Fingerprint,
    /// `a=ice-lite`.
    pub lite: bool,
    /// Our addresses.
    pub candidates: Vec<LocalCandidate>,
    /// Codecs the room allows.
    pub codecs: Vec<crate::plan::Codec>,
    /// Of those, what the client is not to send: it may get it over the same connection.
    pub unsent: Vec<crate::plan::Codec>,
    /// The client is Firefox.
    pub firefox: bool,
    /// Our offers hold the data channels (subscriber role).
    pub holds_data: bool,
    /// First offer id (subscriber role): random 1–256.
    pub first_offer_id: u32,
    /// The client's protocol version: v0 below 4 and Safari do not reuse sections.
    pub reuse_sections: bool,
    /// The room delays video, and tells receivers so.
    pub playout_delay: bool,
    /// Audio NACK is left out when the client can RED (livekit.md 14, SDP).
    pub red_capable: bool,
}

/// An offer of the client, parsed.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Sections of audio and video in order, those that the client rejects left out.
    pub sections: Vec<OfferedSection>,
    /// Everything else.
    description: parse::Description,
}

/// One media section of an offer that the client may send on.
#[derive(Debug, Clone)]
pub struct OfferedSection {
    /// Its mid.
    pub mid: Mid,
    /// Audio or video.
    pub kind: Kind,
    /// `true`: direction sendonly or sendrecv.
    pub sends: bool,
    /// The track id of its `a=msid`, when there is one.
    pub msid_track: Option<String>,
}

/// What the room decided about a section on which the client sends.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The publication's track.
    pub up: UpTrackId,
    /// Put this codec first (and alone for Firefox on Linux and Android).
    pub preferred: Option<crate::plan::Codec>,
    /// Append `usedtx=1` to Opus.
    pub dtx: bool,
    /// Append `stereo=1;maxaveragebitrate=510000` to Opus.
    pub stereo: bool,
    /// RED may be answered.
    pub red: bool,
    /// RIDs in order of the layers announced (`q`, `h`, `f`) map to spatial layers by this table; the fallback is
    /// q/h/f = 0/1/2 and 2/1/0.
    pub layers: usize,
}

/// A track to send to this client.
#[derive(Debug, Clone)]
pub struct SendSpec {
    /// Its down track.
    pub down: DownTrackId,
    /// Audio or video.
    pub kind: Kind,
    /// Formats the publisher may send, preferred first. A section that agrees on none refuses it.
    pub formats: Vec<Format>,
    /// msid stream id: `PA_…|TR_…` or `PA_…|camera`; the CNAME too.
    pub stream_id: String,
    /// msid track id and entry of `mid_to_track_id`.
    pub track_sid: TrackSid,
    /// SSRC of the media.
    pub ssrc: Ssrc,
    /// SSRC of retransmissions.
    pub rtx_ssrc: Option<Ssrc>,
    /// `sprop-stereo=1`.
    pub stereo: bool,
    /// The publisher sends RED (decides audio NACK in dual mode).
    pub publisher_red: bool,
}

/// A down track that got a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The down track.
    pub down: DownTrackId,
    /// Its section.
    pub mid: Mid,
    /// Payload types agreed.
    pub formats: Vec<SendFormat>,
    /// Extension ids agreed.
    pub extensions: Extensions,
    /// NACK agreed.
    pub nack: bool,
}

/// Our answer and what it decided.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The SDP.
    pub sdp: String,
    /// All sections that carry a down track now.
    pub mid_to_track_id: HashMap<String, String>,
    /// The peer's side.
    pub remote: RemoteTransport,
    /// Candidates that stood in the offer.
    pub candidates: Vec<RemoteCandidate>,
    /// `true`: the offer restarted ICE; the answer carries new local credentials ([`Negotiator::local`]).
    pub restarted: bool,
    /// What the client sends.
    pub receive: ReceivePlan,
    /// Down tracks bound by this answer, those bound before left out.
    pub bound: Vec<Bound>,
    /// Down tracks for which no format could be agreed: they are taken off the queue.
    pub refused: Vec<DownTrackId>,
    /// Down tracks whose section the client stopped and that found no other one yet; they wait again.
    pub unbound: Vec<DownTrackId>,
    /// Sections that are missing for down tracks still waiting, beyond those asked for already: (audio, video).
    pub missing: (u32, u32),
}

/// Our offer (subscriber role).
#[derive(Debug, Clone)]
pub struct LocalOffer {
    /// The SDP.
    pub sdp: String,
    /// Its id.
    pub id: u32,
    /// All sections that carry a down track.
    pub mid_to_track_id: HashMap<String, String>,
}

/// What the client's answer decided (subscriber role).
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The peer's side.
    pub remote: RemoteTransport,
    /// Candidates that stood in the answer.
    pub candidates: Vec<RemoteCandidate>,
    /// Newly bound.
    pub bound: Vec<Bound>,
    /// Not agreed.
    pub refused: Vec<DownTrackId>,
}

/// Why an SDP of the client was refused. Peer faults: counted, logged at debug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SdpFault {
    /// Not SDP.
    #[error("not an SDP")]
    Unparsable,
    /// No sha-256 fingerprint.
    #[error("no sha-256 fingerprint")]
    NoFingerprint,
    /// No ICE credentials.
    #[error("no ICE credentials")]
    NoIce,
    /// Sections disappeared or changed their kind (RFC 8829 §5.10), or an answer has others than its offer.
    #[error("media sections changed places")]
    SectionsChanged,
    /// More sections than we keep for one connection.
    #[error("too many media sections")]
    TooManySections,
    /// An answer to no offer, or to one that was given up.
    #[error("answer does not match the offer")]
    NotOurOffer,
}

/// The SDP state of one peer connection. Pure: text in, text and plans out.
#[derive(Debug)]
pub struct Negotiator {
    setup: Setup,
    /// The peer's side, since its first SDP.
    remote: Option<RemoteTransport>,
    /// All media sections, in order; never fewer than before.
    sections: Vec<sections::Section>,
    /// Down tracks in the order in which they were attached.
    downs: Vec<sections::Down>,
    /// Sections asked of the client and not come yet.
    asked: sections::Asked,
    /// What the client sends, as of the last answer.
    receive: ReceivePlan,
    /// `o=`: the id of the session and the version of our next SDP.
    session: (u64, u64),
    /// An SDP with the present credentials has gone out: the next one repeats the candidates.
    described: bool,
    /// Our offer without an answer.
    outstanding: Option<u32>,
    /// Id of our next offer.
    next_offer: u32,
}

impl Negotiator {
    /// A connection about which nothing has been said.
    pub fn new(setup: Setup) -> Self {
        Self {
            remote: None,
            sections: Vec::new(),
            downs: Vec::new(),
            asked: sections::Asked::default(),
            receive: ReceivePlan::default(),
            session: (session_id(&setup.local.ufrag), 1),
            described: false,
            outstanding: None,
            next_offer: setup.first_offer_id.max(1),
            setup,
        }
    }

    /// Whether our offers hold the data channels.
    pub fn holds_data(&self) -> bool {
        self.setup.holds_data
    }

    /// Our ICE credentials now.
    pub fn local(&self) -> &IceCredentials {
        &self.setup.local
    }

    /// Other addresses of ours, from the next SDP on.
    pub fn set_candidates(&mut self, candidates: Vec<LocalCandidate>) {
        self.setup.candidates = candidates;
    }

    /// What the client sends, as of the last answer.
    pub fn receive(&self) -> &ReceivePlan {
        &self.receive
    }
}

/// A session id (RFC 8866 §5.2) that two connections hardly share: FNV-1a of the first ufrag, 62 bits as JSEP asks.
fn session_id(ufrag: &str) -> u64 {
    ufrag.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }) >> 2
}
