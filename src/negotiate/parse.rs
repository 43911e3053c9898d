//! From the text of an offer or answer to what the negotiator needs of it. `rtc-sdp` cuts the lines; everything behind
//! `a=` is read here, bounded and without trust: what is not understood is left out, what would end up in our own SDP
//! is a token without control characters. RFC 8866 (SDP), RFC 8829 (JSEP), RFC 8285 (extmap), RFC 8853 (simulcast).

use super::SdpFault;
use super::candidate::parse_candidate;
use super::extensions::Uri;
use super::formats::{Feedback, Payload};
use crate::ids::{Mid, Rid, Ssrc};
use crate::plan::{Fingerprint, IceCredentials, Kind, RemoteCandidate};
use crate::secret::Secret;
use rtc_sdp::{MediaDescription, SessionDescription};

/// Longest SDP that is read, in bytes: as long as a signal message. Chromium writes 5 kB of each video that it offers
/// to receive, and 2 kB into an answer.
const MAX_BYTES: usize = 2 << 20;
/// Most media sections. As many of video make an SDP of ours of 1.1 MB, which is written in some milliseconds; twice
/// as many would not fit into a message.
pub(super) const MAX_SECTIONS: usize = 512;
/// Most sections that a client with a single connection is asked for, its own among them: its offer has to fit into a
/// message too.
pub(super) const MAX_ASKED: usize = 384;
/// Most candidates of one SDP that are kept.
const MAX_CANDIDATES: usize = 64;
/// Most SSRCs of one section that are looked at.
const MAX_SSRCS: usize = 32;
/// Longest mid, rid, ufrag or msid id that is taken.
const MAX_TOKEN: usize = 256;

/// What a section carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// RTP.
    Rtp(Kind),
    /// SCTP data channels.
    Data,
    /// Neither: always rejected.
    Unknown,
}

/// `a=setup` (RFC 8842).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DtlsSetup {
    /// The peer can be both.
    ActPass,
    /// The peer sends the `ClientHello`.
    Active,
    /// The peer waits for it.
    Passive,
}

/// An SDP of the client.
#[derive(Debug, Clone)]
pub(super) struct Description {
    /// `a=extmap-allow-mixed` at session level.
    pub(super) allow_mixed: bool,
    /// Mids of the BUNDLE group, if there is one.
    pub(super) bundle: Option<Vec<String>>,
    /// The peer's credentials.
    pub(super) ice: IceCredentials,
    /// The peer's certificate.
    pub(super) fingerprint: Fingerprint,
    /// Who starts DTLS.
    pub(super) setup: DtlsSetup,
    /// Sections in order.
    pub(super) sections: Vec<Section>,
    /// All usable candidates.
    pub(super) candidates: Vec<RemoteCandidate>,
}

/// A media section of the client.
#[derive(Debug, Clone)]
pub(super) struct Section {
    /// `a=mid`.
    pub(super) mid: Mid,
    /// What it carries.
    pub(super) media: Media,
    /// The media name as it stands in `m=`.
    pub(super) name: String,
    /// The protocol as it stands in `m=`.
    pub(super) proto: Vec<String>,
    /// The first format of `m=`, which a rejecting answer repeats.
    pub(super) first_format: String,
    /// Port 0 and not merely bundle-only.
    pub(super) rejected: bool,
    /// The client may send.
    pub(super) sends: bool,
    /// The client may receive.
    pub(super) receives: bool,
    /// Payload types in the client's order.
    pub(super) payloads: Vec<Payload>,
    /// Header extensions that we know, in the client's order.
    pub(super) extensions: Vec<(Uri, u8)>,
    /// Track id of `a=msid`.
    pub(super) msid_track: Option<String>,
    /// RIDs of `a=simulcast:send` in the client's order, the `~` of paused ones removed.
    pub(super) rids: Vec<Rid>,
    /// SSRCs of media, lowest layer first, each with that of its retransmissions.
    pub(super) ssrcs: Vec<(Ssrc, Option<Ssrc>)>,
}

impl Section {
    /// Whether we could say anything but "rejected" to it.
    pub(super) fn usable(&self) -> bool {
        !self.rejected
            && match self.media {
                Media::Rtp(_) => self.proto.iter().any(|part| part == "SAVPF"),
                Media::Data => {
                    self.proto.iter().any(|part| part == "SCTP")
                        && self.first_format == "webrtc-datachannel"
                }
                Media::Unknown => false,
            }
    }
}

impl Description {
    /// Reads an SDP.
    pub(super) fn parse(sdp: &str) -> Result<Self, SdpFault> {
        if sdp.len() > MAX_BYTES || !clean(sdp) {
            return Err(SdpFault::Unparsable);
        }
        if sdp.lines().filter(|line| line.starts_with("m=")).count() > MAX_SECTIONS {
            return Err(SdpFault::TooManySections);
        }
        let parsed = SessionDescription::unmarshal(&mut std::io::Cursor::new(sdp.as_bytes()))
            .map_err(|_| SdpFault::Unparsable)?;
        let session = Attributes::of_session(&parsed);
        let medias: Vec<Attributes<'_>> = parsed
            .media_descriptions
            .iter()
            .map(Attributes::of_media)
            .collect();

        let mut sections: Vec<Section> = Vec::with_capacity(medias.len());
        let mut candidates = Vec::new();
        for (index, (media, attributes)) in
            parsed.media_descriptions.iter().zip(&medias).enumerate()
        {
            let section = section(index, media, attributes, &session)?;
            if sections.iter().any(|other| other.mid == section.mid) {
                return Err(SdpFault::Unparsable);
            }
            sections.push(section);
            for candidate in attributes.all("candidate").filter_map(parse_candidate) {
                if candidates.len() < MAX_CANDIDATES && !candidates.contains(&candidate) {
                    candidates.push(candidate);
                }
            }
        }

        // BUNDLE makes all sections one transport: the first that says something speaks for all (RFC 8843 §7.2). One that
        // is rejected is not part of it, and may say what it was once.
        let said = |key: &str, rejected: bool| {
            let mut medias = medias.iter().zip(&sections);
            medias.find_map(|(media, section)| {
                media.first(key).filter(|_| section.rejected == rejected)
            })
        };
        let first = |key: &str| {
            said(key, false)
                .or_else(|| session.first(key))
                .or_else(|| said(key, true))
        };
        let ufrag = first("ice-ufrag").filter(|text| token(text));
        let password = first("ice-pwd").filter(|text| token(text));
        let (Some(ufrag), Some(password)) = (ufrag, password) else {
            return Err(SdpFault::NoIce);
        };
        let fingerprint = medias
            .iter()
            .chain([&session])
            .flat_map(|attributes| attributes.all("fingerprint"))
            .find_map(fingerprint)
            .ok_or(SdpFault::NoFingerprint)?;
        Ok(Self {
            allow_mixed: session.has("extmap-allow-mixed"),
            bundle: session
                .all("group")
                .find_map(|group| group.strip_prefix("BUNDLE"))
                .map(|mids| mids.split_whitespace().map(str::to_owned).collect()),
            ice: IceCredentials {
                ufrag: ufrag.to_owned(),
                password: Secret::new(password.to_owned()),
            },
            fingerprint,
            setup: match first("setup") {
                Some("active") => DtlsSetup::Active,
                Some("passive") => DtlsSetup::Passive,
                _ => DtlsSetup::ActPass,
            },
            sections,
            candidates,
        })
    }
}

/// No control character but line ends: nothing that is echoed can break a line of ours.
fn clean(sdp: &str) -> bool {
    let mut bytes = sdp.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let fine = match byte {
            b'\n' | b'\t' => true,
            b'\r' => bytes.peek().is_none_or(|next| *next == b'\n'),
            0..=31 | 127 => false,
            _ => true,
        };
        if !fine {
            return false;
        }
    }
    true
}

/// A word that may be repeated in our own SDP.
fn token(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The `a=` lines of one level.
struct Attributes<'a>(&'a [rtc_sdp::description::common::Attribute]);

impl<'a> Attributes<'a> {
    fn of_session(session: &'a SessionDescription) -> Self {
        Self(&session.attributes)
    }

    fn of_media(media: &'a MediaDescription) -> Self {
        Self(&media.attributes)
    }

    fn all<'b>(&'b self, key: &'b str) -> impl Iterator<Item = &'a str> + use<'a, 'b> {
        self.0
            .iter()
            .filter(move |attribute| attribute.key == key)
            .filter_map(|attribute| attribute.value.as_deref().map(str::trim))
    }

    fn first(&self, key: &str) -> Option<&'a str> {
        self.all(key).next()
    }

    fn has(&self, key: &str) -> bool {
        self.0.iter().any(|attribute| attribute.key == key)
    }

    /// (sends, receives), if a direction is said.
    fn direction(&self) -> Option<(bool, bool)> {
        self.0
            .iter()
            .find_map(|attribute| match attribute.key.as_str() {
                "sendrecv" => Some((true, true)),
                "sendonly" => Some((true, false)),
                "recvonly" => Some((false, true)),
                "inactive" => Some((false, false)),
                _ => None,
            })
    }
}

fn section(
    index: usize,
    media: &MediaDescription,
    attributes: &Attributes<'_>,
    session: &Attributes<'_>,
) -> Result<Section, SdpFault> {
    let name = &media.media_name;
    let kind = match name.media.as_str() {
        "audio" => Media::Rtp(Kind::Audio),
        "video" => Media::Rtp(Kind::Video),
        "application" => Media::Data,
        _ => Media::Unknown,
    };
    let mid = match attributes.first("mid") {
        Some(mid) if token(mid) => Mid::from(mid),
        Some(_) => return Err(SdpFault::Unparsable),
        None => Mid::from(index.to_string()),
    };
    let (sends, receives) = attributes
        .direction()
        .or_else(|| session.direction())
        .unwrap_or((true, true));
    let mut extensions: Vec<(Uri, u8)> = Vec::new();
    // Our answer agrees to it for the session alone.
    let may_mix = session.has("extmap-allow-mixed");
    for extmap in attributes.all("extmap") {
        let mut words = extmap.split_whitespace();
        let id = words
            .next()
            .and_then(|id| id.split('/').next())
            .and_then(|id| id.parse::<u8>().ok());
        let uri = words.next().and_then(Uri::parse);
        // Ids over 14 need the two-byte form: livekit-client gives the dependency descriptor the id after Chromium's own.
        // 15 has no meaning in the other form, so nobody may have it.
        let is_usable = |id: &u8| matches!(id, 1..=14) || *id > 15 && may_mix;
        if let (Some(id), Some(uri)) = (id.filter(is_usable), uri)
            && !extensions.iter().any(|(u, i)| *u == uri || *i == id)
        {
            extensions.push((uri, id));
        }
    }
    Ok(Section {
        mid,
        media: kind,
        name: name.media.clone(),
        proto: name.protos.clone(),
        first_format: name.formats.first().cloned().unwrap_or_else(|| "0".into()),
        rejected: name.port.value == 0 && !attributes.has("bundle-only"),
        sends,
        receives,
        payloads: match kind {
            Media::Rtp(kind) => payloads(kind, media, attributes),
            Media::Data | Media::Unknown => Vec::new(),
        },
        extensions,
        msid_track: msid_track(attributes),
        rids: rids(attributes),
        ssrcs: ssrcs(attributes),
    })
}

fn payloads(kind: Kind, media: &MediaDescription, attributes: &Attributes<'_>) -> Vec<Payload> {
    let mut payloads: Vec<Payload> = Vec::new();
    for pt in media
        .media_name
        .formats
        .iter()
        .filter_map(|pt| pt.parse::<u8>().ok())
    {
        if pt < 128 && !payloads.iter().any(|payload| payload.pt == pt) {
            payloads.push(Payload::new(pt));
        }
    }
    let split = |value: &'_ str| -> Option<(Option<u8>, String)> {
        let (pt, rest) = value.split_once(char::is_whitespace)?;
        let pt = if pt == "*" {
            None
        } else {
            Some(pt.parse().ok()?)
        };
        Some((pt, rest.trim().to_owned()))
    };
    for (pt, map) in attributes.all("rtpmap").filter_map(split) {
        if let Some(payload) = payloads.iter_mut().find(|p| Some(p.pt) == pt) {
            payload.set_map(&map);
        }
    }
    for (pt, fmtp) in attributes.all("fmtp").filter_map(split) {
        if let Some(payload) = payloads.iter_mut().find(|p| Some(p.pt) == pt) {
            payload.fmtp = fmtp;
        }
    }
    for (pt, feedback) in attributes.all("rtcp-fb").filter_map(split) {
        let Some(feedback) = Feedback::parse(&feedback) else {
            continue;
        };
        for payload in payloads
            .iter_mut()
            .filter(|payload| pt.is_none_or(|pt| pt == payload.pt))
        {
            if !payload.feedback.contains(&feedback) {
                payload.feedback.push(feedback);
            }
        }
    }
    for payload in &mut payloads {
        payload.classify(kind);
    }
    payloads
}

/// The track id of `a=msid:<stream> <track>`, or of the first `a=ssrc:<ssrc> msid:…` of older clients.
fn msid_track(attributes: &Attributes<'_>) -> Option<String> {
    let of_ssrc = || {
        attributes.all("ssrc").find_map(|line| {
            line.split_once(char::is_whitespace)?
                .1
                .strip_prefix("msid:")
        })
    };
    attributes
        .first("msid")
        .or_else(of_ssrc)
        .and_then(|msid| msid.split_whitespace().nth(1))
        .filter(|track| track.len() <= MAX_TOKEN)
        .map(str::to_owned)
}

/// RIDs that the client sends, at most three: LiveKit knows no more layers. Of a section offered again pion repeats the
/// line of our answer (`recv`) before its own, though RFC 8853 §5.1 allows one.
fn rids(attributes: &Attributes<'_>) -> Vec<Rid> {
    let mut words = attributes.all("simulcast").flat_map(str::split_whitespace);
    while let Some(word) = words.next() {
        let list = words.next().unwrap_or("");
        if word != "send" {
            continue;
        }
        let mut rids: Vec<Rid> = Vec::new();
        for rid in list.split(';') {
            let rid = rid.split(',').next().unwrap_or("").trim_start_matches('~');
            let sane = rid.len() <= 16
                && rid
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if sane && !rid.is_empty() && rids.len() < 3 && !rids.iter().any(|r| r.as_str() == rid)
            {
                rids.push(Rid::from(rid));
            }
        }
        return rids;
    }
    Vec::new()
}

/// SSRCs of media: those of a `SIM` group lowest first, else the first that is nobody's retransmission.
fn ssrcs(attributes: &Attributes<'_>) -> Vec<(Ssrc, Option<Ssrc>)> {
    let numbers = |text: &str| -> Vec<Ssrc> {
        text.split_whitespace()
            .filter_map(|number| number.parse().ok().map(Ssrc))
            .take(MAX_SSRCS)
            .collect()
    };
    let mut pairs: Vec<(Ssrc, Ssrc)> = Vec::new();
    let mut simulcast: Vec<Ssrc> = Vec::new();
    for group in attributes.all("ssrc-group").take(MAX_SSRCS) {
        if let Some(list) = group.strip_prefix("FID ") {
            if let [media, rtx, ..] = numbers(list)[..] {
                pairs.push((media, rtx));
            }
        } else if let Some(list) = group.strip_prefix("SIM ") {
            simulcast = numbers(list);
            simulcast.truncate(3);
        }
    }
    let rtx_of = |ssrc: Ssrc| pairs.iter().find(|pair| pair.0 == ssrc).map(|pair| pair.1);
    if simulcast.is_empty() {
        let single = pairs.first().map(|pair| pair.0).or_else(|| {
            let line = attributes.first("ssrc")?;
            line.split_whitespace().next()?.parse().ok().map(Ssrc)
        });
        simulcast.extend(single);
    }
    simulcast
        .into_iter()
        .map(|ssrc| (ssrc, rtx_of(ssrc)))
        .collect()
}

/// `sha-256 AB:CD:…`.
fn fingerprint(value: &str) -> Option<Fingerprint> {
    let (algorithm, hex) = value.split_once(char::is_whitespace)?;
    if !algorithm.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut bytes = [0; 32];
    let mut parts = hex.trim().split(':');
    for byte in &mut bytes {
        let part = parts.next()?;
        if part.len() != 2 || !part.is_ascii() {
            return None;
        }
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(Fingerprint(bytes))
}
