//! ICE candidates as text (RFC 8839 §5.1, RFC 6544 for TCP): ours for trickle and SDP, the peer's from both.

use crate::plan::{CandidateKind, LocalCandidate, Proto, RemoteCandidate};
use std::net::{IpAddr, SocketAddr};

/// Reads `candidate:…`, with or without that prefix. `None` for what is of no use to us: mDNS names, TCP (ours are
/// passive and nobody connects from where a candidate says), RTCP components, addresses that cannot be sent to.
pub fn parse_candidate(text: &str) -> Option<RemoteCandidate> {
    let text = text.trim();
    let text = text.strip_prefix("a=").unwrap_or(text);
    let text = text.strip_prefix("candidate:").unwrap_or(text);
    let mut words = text.split_whitespace();
    words.next()?;
    let component = words.next()?;
    let proto = words.next()?;
    let priority = words.next()?.parse().ok()?;
    let ip: IpAddr = words.next()?.parse().ok()?;
    let port: u16 = words.next()?.parse().ok()?;
    if words.next()? != "typ" {
        return None;
    }
    let kind = match words.next()? {
        "host" => CandidateKind::Host,
        "srflx" => CandidateKind::ServerReflexive,
        "prflx" => CandidateKind::PeerReflexive,
        "relay" => CandidateKind::Relayed,
        _ => return None,
    };
    let ip = ip.to_canonical();
    if component != "1"
        || !proto.eq_ignore_ascii_case("udp")
        || port == 0
        || ip.is_unspecified()
        || ip.is_multicast()
    {
        return None;
    }
    Some(RemoteCandidate {
        proto: Proto::Udp,
        address: SocketAddr::new(ip, port),
        priority,
        kind,
    })
}

/// `candidate:…` of one of our addresses, as trickle carries it.
pub fn candidate_line(candidate: &LocalCandidate, ufrag: &str) -> String {
    format!("candidate:{}", candidate_value(candidate, 1, ufrag))
}

/// The same for `a=candidate`, where LiveKit repeats each address for component 2.
pub(super) fn candidate_value(candidate: &LocalCandidate, component: u8, ufrag: &str) -> String {
    let preference = u32::from(candidate.preference);
    // RFC 8445 §5.1.2.1: type preference 126 for host; RFC 6544 §4.2: 27 less for TCP, and direction 4 (passive) takes
    // the upper three bits of the local preference.
    let (proto, tail, type_preference, local) = match candidate.proto {
        Proto::Udp => ("udp", "", 126, preference),
        Proto::Tcp => ("tcp", " tcptype passive", 99, (4 << 13) | (preference >> 3)),
    };
    let priority = (type_preference << 24) | (local << 8) | 255;
    let address = candidate.address;
    format!(
        "{} {component} {proto} {priority} {} {} typ host{tail} ufrag {ufrag}",
        foundation(candidate),
        address.ip(),
        address.port(),
    )
}

/// Equal for equal base address and protocol (RFC 8445 §5.1.1.3): FNV-1a of both.
fn foundation(candidate: &LocalCandidate) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut eat = |byte: u8| hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    eat(match candidate.proto {
        Proto::Tcp => 6,
        Proto::Udp => 17,
    });
    match candidate.address.ip() {
        IpAddr::V4(ip) => ip.octets().into_iter().for_each(&mut eat),
        IpAddr::V6(ip) => ip.octets().into_iter().for_each(&mut eat),
    }
    hash
}
