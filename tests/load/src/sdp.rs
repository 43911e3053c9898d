//! The client's SDP: offers of a browser's shape, answers to a server's offer, and what is needed of the server's text.
//!
//! Small on purpose, and not the server's own reader and writer: what both sides got wrong alike would go unseen.

use anyhow::{Context, Result};
use parlor::plan::{CandidateKind, DtlsRole, Fingerprint, IceCredentials, Proto, RemoteCandidate};
use parlor::plan::{Kind, RemoteTransport};
use parlor::secret::Secret;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// Payload type of VP8 in our offers; its retransmissions have the next one.
pub const VP8: u8 = 96;
/// Payload type of Opus in our offers.
pub const OPUS: u8 = 111;
/// Id of the transport-wide sequence number in our offers.
pub const TRANSPORT_CC: u8 = 3;

/// A media section of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// `m=application`.
    Data,
    /// A track of ours, with its SSRC; the next number is that of its retransmissions.
    Send(Kind, u32),
    /// Room for a track of somebody else.
    Receive(Kind),
}

/// What all sections of one peer connection share.
#[derive(Debug, Clone)]
pub struct Local {
    pub credentials: IceCredentials,
    pub fingerprint: Fingerprint,
    pub address: SocketAddr,
}

/// Name of our track: `AddTrackRequest.cid` and the id in `a=msid`.
pub const CID: &str = "load-track";

impl Local {
    fn transport_lines(&self, out: &mut String, setup: &str) {
        let hex: Vec<String> = self
            .fingerprint
            .0
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let ip = self.address.ip();
        let port = self.address.port();
        let _ = write!(
            out,
            "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=ice-options:trickle\r\na=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n\
             a=candidate:1 1 udp 2130706431 {ip} {port} typ host generation 0\r\na=end-of-candidates\r\n",
            self.credentials.ufrag,
            self.credentials.password.reveal(),
            hex.join(":"),
        );
    }

    /// An offer.
    pub fn offer(&self, version: u32, sections: &[Section]) -> String {
        let mids: Vec<String> = (0..sections.len()).map(|mid| mid.to_string()).collect();
        let mut out = format!(
            "v=0\r\no=- 4711 {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n\
             a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n",
            mids.join(" ")
        );
        for (mid, section) in sections.iter().enumerate() {
            let (kind, ssrc) = match section {
                Section::Data => {
                    out.push_str(
                        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n",
                    );
                    self.transport_lines(&mut out, "actpass");
                    let _ = write!(
                        out,
                        "a=mid:{mid}\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n"
                    );
                    continue;
                }
                Section::Send(kind, ssrc) => (kind, Some(ssrc)),
                Section::Receive(kind) => (kind, None),
            };
            out.push_str(match kind {
                Kind::Audio => "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n",
                Kind::Video => "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n",
            });
            out.push_str("c=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n");
            self.transport_lines(&mut out, "actpass");
            let _ = write!(
                out,
                "a=mid:{mid}\r\n\
                 a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\n\
                 a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
                 a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n"
            );
            out.push_str(if ssrc.is_some() {
                "a=sendonly\r\n"
            } else {
                "a=recvonly\r\n"
            });
            if ssrc.is_some() {
                let _ = write!(out, "a=msid:load {CID}\r\n");
            }
            out.push_str("a=rtcp-mux\r\na=rtcp-rsize\r\n");
            out.push_str(match kind {
                Kind::Audio => {
                    "a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\n\
                     a=fmtp:111 minptime=10;useinbandfec=1\r\n"
                }
                Kind::Video => {
                    "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 goog-remb\r\na=rtcp-fb:96 transport-cc\r\n\
                     a=rtcp-fb:96 ccm fir\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n\
                     a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"
                }
            });
            if let Some(ssrc) = ssrc {
                let rtx = ssrc + 1;
                if *kind == Kind::Video {
                    let _ = write!(out, "a=ssrc-group:FID {ssrc} {rtx}\r\n");
                    let _ = write!(
                        out,
                        "a=ssrc:{rtx} cname:load\r\na=ssrc:{rtx} msid:load {CID}\r\n"
                    );
                }
                let _ = write!(
                    out,
                    "a=ssrc:{ssrc} cname:load\r\na=ssrc:{ssrc} msid:load {CID}\r\n"
                );
            }
        }
        out
    }

    /// An answer that takes all of the server's offer.
    pub fn answer(&self, offer: &str) -> String {
        const KEPT: [&str; 10] = [
            "mid:",
            "extmap:",
            "rtpmap:",
            "rtcp-fb:",
            "fmtp:",
            "rtcp-mux",
            "rtcp-rsize",
            "sctp-port:",
            "max-message-size:",
            "group:",
        ];
        let mut out = "v=0\r\no=- 4711 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n".to_owned();
        let mut in_media = false;
        for line in offer.lines().map(str::trim_end) {
            if line.starts_with("m=") {
                in_media = true;
                let _ = write!(out, "{line}\r\nc=IN IP4 0.0.0.0\r\n");
                self.transport_lines(&mut out, "active");
                out.push_str(if line.starts_with("m=application") {
                    "a=sendrecv\r\n"
                } else {
                    "a=recvonly\r\n"
                });
            } else if let Some(attribute) = line.strip_prefix("a=")
                && KEPT.iter().any(|kept| attribute.starts_with(kept))
                && (in_media || attribute.starts_with("group:"))
            {
                let _ = write!(out, "{line}\r\n");
            }
        }
        out
    }
}

/// The server's side, from its offer or answer.
#[derive(Debug)]
pub struct Remote {
    pub transport: RemoteTransport,
    pub candidates: Vec<RemoteCandidate>,
    /// Payload types of VP8 and Opus, if it says any.
    pub payload_types: Vec<u8>,
}

impl Remote {
    /// Reads an SDP. `is_offer`: we answer it, and answer `active`.
    pub fn read(sdp: &str, is_offer: bool) -> Result<Self> {
        let first = |key: &str| {
            sdp.lines()
                .find_map(|line| line.trim_end().strip_prefix(key))
        };
        let hex = sdp
            .lines()
            .find_map(|line| {
                let value = line.trim_end().strip_prefix("a=fingerprint:")?;
                let (algorithm, hex) = value.split_once(' ')?;
                algorithm.eq_ignore_ascii_case("sha-256").then_some(hex)
            })
            .context("no SHA-256 fingerprint")?;
        let mut fingerprint = [0; 32];
        for (byte, text) in fingerprint.iter_mut().zip(hex.split(':')) {
            *byte = u8::from_str_radix(text, 16)?;
        }
        let is_active = first("a=setup:") == Some("active");
        Ok(Self {
            transport: RemoteTransport {
                ice: IceCredentials {
                    ufrag: first("a=ice-ufrag:").context("no ufrag")?.to_owned(),
                    password: Secret::new(first("a=ice-pwd:").context("no password")?.to_owned()),
                },
                fingerprint: Fingerprint(fingerprint),
                role: if is_offer || !is_active {
                    DtlsRole::Client
                } else {
                    DtlsRole::Server
                },
            },
            candidates: sdp
                .lines()
                .filter_map(|line| candidate(line.trim_end().strip_prefix("a=")?))
                .collect(),
            payload_types: sdp
                .lines()
                .filter_map(|line| {
                    let (pt, codec) = line.trim_end().strip_prefix("a=rtpmap:")?.split_once(' ')?;
                    let ours = codec.eq_ignore_ascii_case("vp8/90000")
                        || codec.eq_ignore_ascii_case("opus/48000/2");
                    pt.parse().ok().filter(|_| ours)
                })
                .collect(),
        })
    }
}

/// A UDP candidate: `candidate:…` of SDP or trickle.
pub fn candidate(text: &str) -> Option<RemoteCandidate> {
    let words: Vec<&str> = text
        .strip_prefix("candidate:")?
        .split_whitespace()
        .collect();
    let [_, "1", proto, priority, ip, port, "typ", kind, ..] = words[..] else {
        return None;
    };
    if !proto.eq_ignore_ascii_case("udp") {
        return None;
    }
    Some(RemoteCandidate {
        proto: Proto::Udp,
        address: SocketAddr::new(ip.parse().ok()?, port.parse().ok()?),
        priority: priority.parse().ok()?,
        kind: match kind {
            "host" => CandidateKind::Host,
            "srflx" => CandidateKind::ServerReflexive,
            "relay" => CandidateKind::Relayed,
            _ => return None,
        },
    })
}
