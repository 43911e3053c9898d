//! Whose address a request has: the peer's, or what a proxy says of it that is believed.

use crate::config::cidr::Cidr;
use axum::http::HeaderMap;
use std::net::IpAddr;

/// Longest text that is taken for an address: IPv6 with a zone and a port.
const MAX_ADDRESS: usize = 64;

/// Headers in the order of livekit 1.13.5 `GetClientIP`.
const HEADERS: [&str; 3] = ["cf-connecting-ip", "x-forwarded-for", "x-real-ip"];

/// The client's address as text. Headers count only from this machine and from `trusted`: anybody can write them.
pub(super) fn of_client(headers: &HeaderMap, peer: Option<IpAddr>, trusted: &[Cidr]) -> String {
    let Some(peer) = peer.map(|ip| ip.to_canonical()) else {
        return String::new();
    };
    if peer.is_loopback() || trusted.iter().any(|range| range.contains(peer)) {
        let told = HEADERS
            .iter()
            .filter_map(|name| headers.get(*name)?.to_str().ok())
            // Every proxy on the way adds the one it saw at the end; the client is first.
            .filter_map(|value| value.split(',').next())
            .map(str::trim)
            .find(|value| !value.is_empty() && value.len() <= MAX_ADDRESS);
        if let Some(told) = told {
            return told.to_owned();
        }
    }
    peer.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_proxy_on_this_machine_is_believed() {
        let all = headers(&[
            ("x-real-ip", "192.0.2.3"),
            ("x-forwarded-for", "192.0.2.2, 10.0.0.1"),
        ]);
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let peer = Some(peer.parse().unwrap());
            assert_eq!(of_client(&all, peer, &[]), "192.0.2.2");
            let real = headers(&[("x-real-ip", "192.0.2.3"), ("x-forwarded-for", " ")]);
            assert_eq!(of_client(&real, peer, &[]), "192.0.2.3");
            let cloud = headers(&[("cf-connecting-ip", "2001:db8::1"), ("x-real-ip", "a")]);
            assert_eq!(of_client(&cloud, peer, &[]), "2001:db8::1");
        }
    }

    #[test]
    fn a_trusted_proxy_is_believed() {
        let all = headers(&[("x-forwarded-for", "192.0.2.2")]);
        let trusted = [Cidr::parse("172.30.32.0/23").unwrap()];
        for (peer, told) in [
            ("::ffff:172.30.33.4", "192.0.2.2"),
            ("172.30.34.1", "172.30.34.1"),
        ] {
            let peer = Some(peer.parse().unwrap());
            assert_eq!(of_client(&all, peer, &trusted), told);
        }
    }

    #[test]
    fn nobody_else_is() {
        let all = headers(&[("x-forwarded-for", "192.0.2.2")]);
        let peer = Some("::ffff:198.51.100.1".parse().unwrap());
        assert_eq!(of_client(&all, peer, &[]), "198.51.100.1");
        let long = headers(&[("x-forwarded-for", &"1".repeat(65))]);
        let peer = Some("127.0.0.1".parse().unwrap());
        assert_eq!(of_client(&long, peer, &[]), "127.0.0.1");
        assert_eq!(of_client(&all, None, &[]), "");
    }
}
