//! Our SDP: the lines that offers and answers share, in the order in which LiveKit writes them.

use super::candidate::candidate_value;
use super::extensions::Uri;
use super::formats::Feedback;
use super::{SendSpec, Setup};
use crate::ids::Rid;
use crate::plan::IceCredentials;
use rtc_sdp::description::common::{Address, Attribute, ConnectionInformation};
use rtc_sdp::description::media::{MediaDescription, MediaName, RangedPort};
use rtc_sdp::description::session::{Origin, SessionDescription, TimeDescription, Timing};

/// A media section being written.
#[derive(Debug)]
pub(super) struct Lines {
    media: MediaDescription,
}

impl Lines {
    /// `m=` with its connection line; payload types follow.
    pub(super) fn new(name: &str, port: u16, proto: Vec<String>) -> Self {
        Self {
            media: MediaDescription {
                media_name: MediaName {
                    media: name.to_owned(),
                    port: RangedPort {
                        value: isize::from(u8::from(port != 0) * 9),
                        range: None,
                    },
                    protos: proto,
                    formats: Vec::new(),
                },
                connection_information: Some(nowhere()),
                ..MediaDescription::default()
            },
        }
    }

    /// Whether it is rejected (port 0).
    pub(super) fn rejected(&self) -> bool {
        self.media.media_name.port.value == 0
    }

    /// `a=key`.
    pub(super) fn flag(&mut self, key: &str) {
        self.media
            .attributes
            .push(Attribute::new(key.to_owned(), None));
    }

    /// `a=key:value`.
    pub(super) fn value(&mut self, key: &str, value: impl Into<String>) {
        self.media
            .attributes
            .push(Attribute::new(key.to_owned(), Some(value.into())));
    }

    /// What every section of a live transport begins with.
    pub(super) fn transport(&mut self, mid: &str, setup: &str, ice: &IceCredentials) {
        self.value("setup", setup);
        self.value("mid", mid);
        self.value("ice-ufrag", ice.ufrag.as_str());
        self.value("ice-pwd", ice.password.reveal().as_str());
    }

    /// RTP and RTCP on one port.
    pub(super) fn mux(&mut self) {
        self.flag("rtcp-mux");
        self.flag("rtcp-rsize");
    }

    /// A format that is not a payload type.
    pub(super) fn format(&mut self, format: &str) {
        self.media.media_name.formats.push(format.to_owned());
    }

    /// A payload type with its lines.
    pub(super) fn payload(&mut self, pt: u8, map: &str, fmtp: &str, feedback: &[Feedback]) {
        self.format(&pt.to_string());
        self.value("rtpmap", format!("{pt} {map}"));
        if !fmtp.is_empty() {
            self.value("fmtp", format!("{pt} {fmtp}"));
        }
        for feedback in feedback {
            self.value("rtcp-fb", format!("{pt} {}", feedback.text()));
        }
    }

    /// Retransmissions of a payload type.
    pub(super) fn rtx(&mut self, pt: u8, of: u8) {
        self.payload(pt, "rtx/90000", &format!("apt={of}"), &[]);
    }

    /// Header extensions.
    pub(super) fn extensions(&mut self, list: &[(Uri, u8)]) {
        for (uri, id) in list {
            self.value("extmap", format!("{id} {}", uri.text()));
        }
    }

    /// The track that a section carries towards the client.
    pub(super) fn track(&mut self, spec: &SendSpec) {
        let msid = format!("{} {}", spec.stream_id, spec.track_sid);
        let media = spec.ssrc.0;
        let rtx = spec.rtx_ssrc.map(|rtx| rtx.0);
        if let Some(rtx) = rtx {
            self.value("ssrc-group", format!("FID {media} {rtx}"));
        }
        for ssrc in [Some(media), rtx].into_iter().flatten() {
            self.value("ssrc", format!("{ssrc} cname:{}", spec.stream_id));
            self.value("ssrc", format!("{ssrc} msid:{msid}"));
        }
        self.value("msid", msid);
    }

    /// Simulcast layers that are received, in the client's order.
    pub(super) fn rids(&mut self, rids: &[Rid]) {
        if rids.is_empty() {
            return;
        }
        for rid in rids {
            self.value("rid", format!("{rid} recv"));
        }
        let list = rids.iter().map(Rid::as_str).collect::<Vec<_>>().join(";");
        self.value("simulcast", format!("recv {list}"));
    }

    /// `sendrecv`, `sendonly`, `recvonly` or `inactive`, from our side.
    pub(super) fn direction(&mut self, send: bool, receive: bool) {
        self.flag(match (send, receive) {
            (true, true) => "sendrecv",
            (true, false) => "sendonly",
            (false, true) => "recvonly",
            (false, false) => "inactive",
        });
    }

    /// The data channels.
    pub(super) fn data(&mut self) {
        self.format("webrtc-datachannel");
        self.flag("sendrecv");
        self.value("sctp-port", "5000");
        self.value("max-message-size", "65535");
    }
}

/// The whole SDP. `bundle` are the mids of its group; `candidates`: repeated in the first section that is not rejected.
pub(super) fn session(
    setup: &Setup,
    (id, version): (u64, u64),
    allow_mixed: bool,
    bundle: Option<&[String]>,
    candidates: bool,
    sections: Vec<Lines>,
) -> String {
    let mut attributes = vec![Attribute::new("msid-semantic".into(), Some("WMS *".into()))];
    let hex: Vec<String> = setup
        .fingerprint
        .0
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let fingerprint = format!("sha-256 {}", hex.join(":"));
    attributes.push(Attribute::new("fingerprint".into(), Some(fingerprint)));
    if setup.lite {
        attributes.push(Attribute::new("ice-lite".into(), None));
    }
    if allow_mixed {
        attributes.push(Attribute::new("extmap-allow-mixed".into(), None));
    }
    if let Some(mids) = bundle {
        let mut group = String::from("BUNDLE");
        for mid in mids {
            group.push(' ');
            group.push_str(mid);
        }
        attributes.push(Attribute::new("group".into(), Some(group)));
    }
    let mut sections = sections;
    if candidates && let Some(first) = sections.iter_mut().find(|lines| !lines.rejected()) {
        let ufrag = &setup.local.ufrag;
        for candidate in &setup.candidates {
            for component in [1, 2] {
                first.value("candidate", candidate_value(candidate, component, ufrag));
            }
        }
        first.flag("end-of-candidates");
    }
    SessionDescription {
        version: 0,
        origin: Origin {
            username: "-".into(),
            session_id: id,
            session_version: version,
            network_type: "IN".into(),
            address_type: "IP4".into(),
            unicast_address: "0.0.0.0".into(),
        },
        session_name: "-".into(),
        time_descriptions: vec![TimeDescription {
            timing: Timing {
                start_time: 0,
                stop_time: 0,
            },
            repeat_times: Vec::new(),
        }],
        attributes,
        media_descriptions: sections.into_iter().map(|lines| lines.media).collect(),
        ..SessionDescription::default()
    }
    .marshal()
}

/// `c=IN IP4 0.0.0.0`: where media goes is ICE's business.
fn nowhere() -> ConnectionInformation {
    ConnectionInformation {
        network_type: "IN".into(),
        address_type: "IP4".into(),
        address: Some(Address {
            address: "0.0.0.0".into(),
            ttl: None,
            range: None,
        }),
    }
}
