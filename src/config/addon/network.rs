//! Ports and addresses of the app.

use super::flat::Flat;
use crate::config::cidr::Cidr;
use std::net::{IpAddr, Ipv4Addr};

/// Defaults, as the manifest has them.
const HTTP: u16 = 7880;
const TCP: u16 = 7881;
const UDP: (u16, u16) = (40_000, 40_099);
/// A metrics port to type where one is wanted.
const METRICS: u16 = 6789;

/// Where coturn relays by default (`min-port`, `max-port`).
const COTURN: (u16, u16) = (49_152, 65_535);

/// The bridge of Home Assistant's apps: its proxies speak from there.
const BRIDGE: Cidr = Cidr::v4(Ipv4Addr::new(172, 30, 32, 0), 23);

/// TCP ports.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) http: u16,
    pub(super) tcp: u16,
    pub(super) metrics: Option<u16>,
}

pub(super) fn ports(flat: &mut Flat<'_>) -> Ports {
    // What cannot be read is in nobody's way: nothing is compared with a default that was not meant.
    let http = flat.port("http_port", HTTP);
    let tcp = flat.port("rtc_tcp_port", TCP);
    let metrics = flat.optional_port("metrics_port", METRICS);
    let named = [
        ("http_port", http),
        ("rtc_tcp_port", tcp),
        ("metrics_port", metrics),
    ];
    for (index, (name, port)) in named.iter().enumerate().skip(1) {
        let Some(port) = port else { continue };
        let Some((other, _)) = named[..index]
            .iter()
            .find(|(_, other)| *other == Some(*port))
        else {
            continue;
        };
        let free = [TCP, METRICS, HTTP]
            .into_iter()
            .find(|free| !named.iter().any(|(_, taken)| *taken == Some(*free)))
            .unwrap_or(METRICS);
        flat.problem(
            name,
            format!("{port} is taken by {other}"),
            format!("type a port of its own, such as {free}"),
        );
    }
    Ports {
        http: http.unwrap_or(HTTP),
        tcp: tcp.unwrap_or(TCP),
        metrics,
    }
}

/// The media ports to open, one for each core, and those to open in their stead where they are taken.
pub(super) fn udp_ports(flat: &mut Flat<'_>, cores: usize) -> (Vec<u16>, Vec<u16>) {
    let cores = cores.max(1);
    let first = flat.port("rtc_udp_port_min", UDP.0);
    let last = flat.port("rtc_udp_port_max", UDP.1);
    let (Some(first), Some(last)) = (first, last) else {
        return Default::default();
    };
    if first > last {
        flat.problem(
            "rtc_udp_port_max",
            format!("{last} lies below rtc_udp_port_min, which is {first}"),
            format!(
                "type {}, or a lower rtc_udp_port_min",
                first.saturating_add(UDP.1 - UDP.0)
            ),
        );
        return (vec![first], Vec::new());
    }
    let count = usize::from(last - first) + 1;
    if count < cores {
        flat.warning(
            "rtc_udp_port_max",
            format!(
                "the range has {count} of the {cores} ports that this machine can use, one for each core; for all of \
                 them type {} or more",
                usize::from(first) + cores - 1
            ),
        );
    }
    if first <= COTURN.1 && last >= COTURN.0 {
        flat.warning(
            "rtc_udp_port_min",
            format!(
                "{first}–{last} overlaps with {}–{}, where TURN servers such as the Coturn app relay; if there is one on \
                 this machine, type {}, and {} as rtc_udp_port_max",
                COTURN.0, COTURN.1, UDP.0, UDP.1
            ),
        );
    }
    let mut ports: Vec<u16> = (first..=last).collect();
    let spares = ports.split_off(cores.min(count));
    (ports, spares)
}

/// Addresses that clients are told beside those of the interfaces.
pub(super) fn external_ips(flat: &mut Flat<'_>) -> Vec<IpAddr> {
    let name = "external_ip";
    let mut addresses: Vec<IpAddr> = Vec::new();
    let Some(text) = flat.text(name) else {
        return addresses;
    };
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let bare = part.trim_matches(['[', ']']);
        match bare.parse::<IpAddr>() {
            Ok(ip) if is_nowhere(ip) => flat.problem(
                name,
                format!("nobody outside can send to {ip}"),
                "type the address that your router has on the internet, or leave this empty",
            ),
            Ok(ip) if addresses.contains(&ip) => {}
            Ok(ip) => {
                if is_near(ip) {
                    flat.warning(
                        name,
                        format!(
                            "{ip} is reached in your own network only; for calls from outside type the address that your \
                             router has on the internet, or leave this empty"
                        ),
                    );
                }
                addresses.push(ip);
            }
            Err(_) => flat.problem(
                name,
                format!("{part:?} is no IP address"),
                "type one such as 203.0.113.5, several with commas between, or leave this empty",
            ),
        }
    }
    addresses
}

/// No router passes anything on to it.
fn is_nowhere(ip: IpAddr) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    is_link_local || ip.is_unspecified() || ip.is_multicast() || ip.is_loopback()
}

/// Of a household's network (RFC 1918, RFC 4193), a provider's or a VPN's (RFC 6598).
fn is_near(ip: IpAddr) -> bool {
    const SHARED: Cidr = Cidr::v4(Ipv4Addr::new(100, 64, 0, 0), 10);
    SHARED.contains(ip)
        || match ip {
            IpAddr::V4(ip) => ip.is_private(),
            IpAddr::V6(ip) => ip.is_unique_local(),
        }
}

/// Whose `X-Forwarded-*` is believed, beside this machine's.
pub(super) fn trusted_proxies(flat: &mut Flat<'_>) -> Vec<Cidr> {
    let mut ranges = vec![BRIDGE];
    for (place, text) in flat.list("trusted_proxies") {
        match Cidr::parse(text) {
            Some(range) if ranges.contains(&range) => {}
            Some(range) => ranges.push(range),
            None => flat.problem(
                &place,
                format!("{text:?} is no address and no network"),
                "type the address of the proxy, such as 192.168.1.5, or its network, such as 192.168.1.0/24",
            ),
        }
    }
    ranges
}
