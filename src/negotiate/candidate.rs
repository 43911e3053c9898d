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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_of_every_kind_of_client_are_read() {
        for (text, address, priority, kind) in [
            (
                "candidate:2330615587 1 udp 2122194687 127.0.0.1 58022 typ host generation 0 network-id 3 network-cost 50",
                "127.0.0.1:58022",
                2_122_194_687,
                CandidateKind::Host,
            ),
            (
                "a=candidate:2 1 UDP 2122252543 fd00::2 35710 typ host",
                "[fd00::2]:35710",
                2_122_252_543,
                CandidateKind::Host,
            ),
            (
                "1 1 udp 1686052607 198.51.100.7 4000 typ srflx raddr 10.0.0.1 rport 4000 ufrag x",
                "198.51.100.7:4000",
                1_686_052_607,
                CandidateKind::ServerReflexive,
            ),
            (
                "candidate:3 1 udp 41885439 ::ffff:203.0.113.5 50000 typ relay raddr 0.0.0.0 rport 0",
                "203.0.113.5:50000",
                41_885_439,
                CandidateKind::Relayed,
            ),
        ] {
            let candidate = parse_candidate(text).unwrap();
            assert_eq!(candidate.address, address.parse().unwrap(), "{text}");
            assert_eq!((candidate.priority, candidate.kind), (priority, kind));
            assert_eq!(candidate.proto, Proto::Udp);
        }
    }

    #[test]
    fn candidates_that_lead_nowhere_are_left_out() {
        for text in [
            "",
            "candidate:",
            "candidate:4 1 TCP 2105458943 192.0.2.2 9 typ host tcptype active",
            "candidate:4 1 tcp 2105458943 192.0.2.2 4000 typ host tcptype passive",
            "candidate:1 1 udp 2122194687 0d3f8a4e-0000-4000-8000-000000000000.local 5000 typ host",
            "candidate:1 2 udp 2122194687 192.0.2.2 5000 typ host",
            "candidate:1 1 udp 2122194687 192.0.2.2 0 typ host",
            "candidate:1 1 udp 2122194687 0.0.0.0 5000 typ host",
            "candidate:1 1 udp 2122194687 224.0.0.1 5000 typ host",
            "candidate:1 1 udp 99999999999 192.0.2.2 5000 typ host",
            "candidate:1 1 udp 1 192.0.2.2 70000 typ host",
            "candidate:1 1 udp 1 fe80::1%eth0 5000 typ host",
            "candidate:1 1 udp 1 192.0.2.2 5000 typ",
        ] {
            assert_eq!(parse_candidate(text), None, "{text}");
        }
    }

    #[test]
    fn ours_carry_livekits_priorities_and_equal_foundations_for_equal_addresses() {
        let line = |proto, address: &str, preference| {
            let address = address.parse().unwrap();
            let local = LocalCandidate {
                proto,
                address,
                preference,
            };
            candidate_line(&local, "Aufr")
        };
        let udp = line(Proto::Udp, "192.0.2.1:7882", 65_535);
        let tail = udp.split_once(' ').unwrap().1;
        assert_eq!(tail, "1 udp 2130706431 192.0.2.1 7882 typ host ufrag Aufr");
        let tcp = line(Proto::Tcp, "[2001:db8::1]:7881", 65_535);
        let tail = tcp.split_once(' ').unwrap().1;
        assert_eq!(
            tail,
            "1 tcp 1671430143 2001:db8::1 7881 typ host tcptype passive ufrag Aufr"
        );
        let foundation = |line: &str| line.split(' ').next().unwrap().to_owned();
        let other_port = line(Proto::Udp, "192.0.2.1:7883", 65_534);
        assert!(other_port.contains(" 2130706175 "), "one preference less");
        assert_eq!(foundation(&udp), foundation(&other_port));
        assert_ne!(
            foundation(&udp),
            foundation(&line(Proto::Tcp, "192.0.2.1:7882", 1))
        );
        assert_ne!(
            foundation(&udp),
            foundation(&line(Proto::Udp, "192.0.2.2:7882", 1))
        );
        assert_eq!(parse_candidate(&udp).unwrap().priority, 2_130_706_431);
    }
}
