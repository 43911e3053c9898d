//! Which addresses clients are told: reading the interfaces, and the rules over them.
//!
//! Usable are all addresses of the host but those of container and virtual machine bridges, link-local and deprecated
//! ones, and loopback. Sockets bound to a named address are reached there and nowhere else. `node_ip` stands for its
//! family. The rules are pure and tested over a table; only [`interfaces`] asks the system.

use crate::config;
use crate::plan::{LocalCandidate, Proto};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Interfaces whose addresses nobody outside this host reaches: bridges and taps of containers and virtual machines.
const INTERNAL: [&str; 5] = ["br-", "docker", "hassio", "veth", "virbr"];

/// RFC 6544 §4.2: direction preference of a passive host candidate, above 13 bits of other preference.
const PASSIVE: u16 = 4 << 13;

/// One address of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) ip: IpAddr,
    /// IPv6: not to be used for new connections, or not yet known to be unique.
    pub(super) deprecated: bool,
    /// IPv6: a privacy address (RFC 8981) that will be gone tomorrow.
    pub(super) temporary: bool,
}

/// What the host has at this moment.
pub(super) fn interfaces() -> std::io::Result<Vec<Interface>> {
    // Only Linux has it; without it no address counts as deprecated.
    let flags = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let flags: Vec<_> = flags.lines().filter_map(inet6_flags).collect();
    let mut found: Vec<_> = if_addrs::get_if_addrs()?
        .into_iter()
        .map(|interface| {
            let ip = interface.ip();
            let flags = flags
                .iter()
                .find(|(address, _)| IpAddr::V6(*address) == ip)
                .map_or(0, |(_, flags)| *flags);
            Interface {
                name: interface.name,
                ip,
                deprecated: flags & (DEPRECATED | TENTATIVE | DUPLICATE) != 0,
                temporary: flags & TEMPORARY != 0,
            }
        })
        .collect();
    found.sort_by(|a, b| (&a.name, a.ip).cmp(&(&b.name, b.ip)));
    Ok(found)
}

/// `IFA_F_*` of linux/if_addr.h.
const TEMPORARY: u8 = 0x01;
const DUPLICATE: u8 = 0x08;
const DEPRECATED: u8 = 0x20;
const TENTATIVE: u8 = 0x40;

/// A line of `/proc/net/if_inet6`: address, index, prefix length, scope, flags in hexadecimal, name.
fn inet6_flags(line: &str) -> Option<(Ipv6Addr, u8)> {
    let mut fields = line.split_whitespace();
    let address = u128::from_str_radix(fields.next()?, 16).ok()?;
    // Flags beyond the eighth bit are written too, and do not matter here.
    let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    Some((Ipv6Addr::from_bits(address), (flags & 0xff) as u8))
}

/// The rules that the configuration gives.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    names: config::Filter,
    includes: Vec<Cidr>,
    excludes: Vec<Cidr>,
    node_ip: Vec<IpAddr>,
    loopback: bool,
}

impl Rules {
    pub(super) fn new(rtc: &config::Rtc) -> Self {
        Self {
            names: rtc.interfaces.clone(),
            includes: Cidr::parse_all(&rtc.ips.includes),
            excludes: Cidr::parse_all(&rtc.ips.excludes),
            node_ip: rtc.node_ip.clone(),
            loopback: rtc.enable_loopback_candidate,
        }
    }

    /// Whether an interface that comes or goes can change anything, when these addresses are bound.
    pub(super) fn depend_on_interfaces(&self, bound: &[IpAddr]) -> bool {
        bound
            .iter()
            .any(|ip| ip.is_unspecified() && !self.replaces(*ip))
    }

    fn replaces(&self, ip: IpAddr) -> bool {
        self.node_ip.iter().any(|node| same_family(*node, ip))
    }

    /// The addresses that reach sockets bound to `bound`, best first.
    pub(super) fn usable(&self, interfaces: &[Interface], bound: &[IpAddr]) -> Vec<IpAddr> {
        let mut usable = Vec::new();
        for &socket in bound {
            if self.replaces(socket) {
                let nodes = self.node_ip.iter().copied();
                usable.extend(nodes.filter(|node| same_family(*node, socket)));
            } else if socket.is_unspecified() {
                let own = interfaces.iter().filter(|own| same_family(own.ip, socket));
                usable.extend(
                    own.filter(|own| self.takes(own, interfaces))
                        .map(|own| own.ip),
                );
            } else {
                usable.push(socket);
            }
        }
        usable.sort_by_key(|ip| rank(*ip));
        let mut seen = Vec::with_capacity(usable.len());
        usable.retain(|ip| {
            let new = !seen.contains(ip);
            seen.push(*ip);
            new
        });
        usable
    }

    fn takes(&self, own: &Interface, all: &[Interface]) -> bool {
        let scope = match own.ip {
            IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_unspecified() && !v4.is_multicast(),
            IpAddr::V6(v6) => {
                !v6.is_unicast_link_local() && !v6.is_unspecified() && !v6.is_multicast()
            }
        };
        // A temporary address is taken only where the interface has no lasting one.
        let lasting = |other: &Interface| {
            other.name == own.name
                && other.ip.is_ipv6()
                && !other.temporary
                && !other.deprecated
                && rank(other.ip) == rank(own.ip)
        };
        scope
            && !own.deprecated
            && (!own.temporary || !all.iter().any(lasting))
            && (self.loopback || !own.ip.is_loopback())
            && self.takes_name(&own.name)
            && self.takes_ip(own.ip)
    }

    fn takes_name(&self, name: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|listed| listed == name);
        if listed(&self.names.includes) {
            return true;
        }
        self.names.includes.is_empty()
            && !listed(&self.names.excludes)
            && !INTERNAL.iter().any(|prefix| name.starts_with(prefix))
    }

    fn takes_ip(&self, ip: IpAddr) -> bool {
        let within = |list: &[Cidr]| list.iter().any(|cidr| cidr.contains(ip));
        within(&self.includes) || (self.includes.is_empty() && !within(&self.excludes))
    }
}

/// Where one worker's sockets are bound.
#[derive(Debug, Clone, Default)]
pub(super) struct Bound {
    pub(super) udp: Vec<SocketAddr>,
    pub(super) tcp: Vec<SocketAddr>,
}

impl Bound {
    /// The addresses without ports, each once.
    pub(super) fn ips(&self) -> Vec<IpAddr> {
        let mut ips: Vec<_> = self
            .udp
            .iter()
            .chain(&self.tcp)
            .map(SocketAddr::ip)
            .collect();
        ips.sort_unstable();
        ips.dedup();
        ips
    }

    /// What clients are told: UDP first, each address in the order given, TCP after.
    pub(super) fn candidates(&self, addresses: &[IpAddr], force_tcp: bool) -> Vec<LocalCandidate> {
        let lists = [
            (Proto::Udp, if force_tcp { &[][..] } else { &self.udp }),
            (Proto::Tcp, &self.tcp),
        ];
        let mut candidates = Vec::new();
        for (proto, sockets) in lists {
            for (place, &ip) in (0_u16..).zip(addresses) {
                let Some(port) = port_for(ip, sockets) else {
                    continue;
                };
                candidates.push(LocalCandidate {
                    proto,
                    address: SocketAddr::new(ip, port),
                    preference: match proto {
                        Proto::Tcp => PASSIVE + 0x1fff_u16.saturating_sub(place),
                        Proto::Udp => u16::MAX - place.min(0x1fff),
                    },
                });
            }
        }
        candidates
    }
}

/// The port at which `ip` is served. Addresses that no socket bears (a router's in front) take their family's.
fn port_for(ip: IpAddr, sockets: &[SocketAddr]) -> Option<u16> {
    sockets
        .iter()
        .find(|socket| socket.ip() == ip)
        .or_else(|| {
            let family = |socket: &&SocketAddr| same_family(socket.ip(), ip);
            sockets.iter().find(family)
        })
        .map(SocketAddr::port)
}

fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

/// Global IPv6 needs no port forwarding; then IPv4, then what only the own network routes.
fn rank(ip: IpAddr) -> u8 {
    match ip {
        _ if ip.is_loopback() => 3,
        IpAddr::V4(_) => 1,
        IpAddr::V6(v6) if v6.is_unique_local() => 2,
        IpAddr::V6(_) => 0,
    }
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cidr {
    base: IpAddr,
    len: u8,
}

impl Cidr {
    fn parse_all(texts: &[String]) -> Vec<Self> {
        let parse = |text: &String| {
            let cidr = Self::parse(text);
            if cidr.is_none() {
                tracing::warn!("`rtc.ips`: {text:?} is no range like 192.168.0.0/16");
            }
            cidr
        };
        texts.iter().filter_map(parse).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let (base, len) = match text.split_once('/') {
            Some((base, len)) => (base.parse().ok()?, Some(len.parse().ok()?)),
            None => (text.parse().ok()?, None),
        };
        let bits = match base {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let len = len.unwrap_or(bits);
        (len <= bits).then_some(Self { base, len })
    }

    fn contains(self, ip: IpAddr) -> bool {
        let left_aligned = |v4: Ipv4Addr| u128::from(v4.to_bits()) << 96;
        let differing = match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => left_aligned(base) ^ left_aligned(ip),
            (IpAddr::V6(base), IpAddr::V6(ip)) => base.to_bits() ^ ip.to_bits(),
            _ => return false,
        };
        differing.leading_zeros() >= u32::from(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            names: config::Filter::default(),
            includes: Vec::new(),
            excludes: Vec::new(),
            node_ip: Vec::new(),
            loopback: false,
        }
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// A home server: name, address, flags.
    const HOST: [(&str, &str, &str); 14] = [
        ("br-12ab", "172.18.0.1", ""),
        ("docker0", "172.17.0.1", ""),
        ("eth0", "192.168.1.5", ""),
        ("eth0", "2001:db8::5", ""),
        ("eth0", "2001:db8::77", "temporary"),
        ("eth0", "2001:db8::dead", "deprecated"),
        ("eth0", "fd00::5", ""),
        ("eth0", "fe80::5", ""),
        ("eth1", "169.254.3.4", ""),
        ("hassio", "172.30.32.1", ""),
        ("lo", "127.0.0.1", ""),
        ("lo", "::1", ""),
        ("tailscale0", "100.64.1.2", ""),
        ("vethf00", "fe80::1", ""),
    ];

    fn host() -> Vec<Interface> {
        HOST.iter()
            .map(|(name, ip, flags)| Interface {
                name: (*name).to_owned(),
                ip: ip.parse().unwrap(),
                deprecated: *flags == "deprecated",
                temporary: *flags == "temporary",
            })
            .collect()
    }

    #[test]
    fn rules_over_a_home_server() {
        let any = ["::", "0.0.0.0"];
        let named = |includes: &[&str], excludes: &[&str]| config::Filter {
            includes: includes.iter().map(|&name| name.to_owned()).collect(),
            excludes: excludes.iter().map(|&name| name.to_owned()).collect(),
        };
        let cidrs = |texts: &[&str]| -> Vec<Cidr> {
            texts
                .iter()
                .map(|text| Cidr::parse(text).unwrap())
                .collect()
        };
        let table: Vec<(&str, Rules, &[&str], &[&str])> = vec![
            (
                "all that is usable",
                rules(),
                &any,
                &["2001:db8::5", "192.168.1.5", "100.64.1.2", "fd00::5"],
            ),
            (
                "no IPv6 socket",
                rules(),
                &["0.0.0.0"],
                &["192.168.1.5", "100.64.1.2"],
            ),
            (
                "loopback enabled",
                Rules {
                    loopback: true,
                    ..rules()
                },
                &["0.0.0.0"],
                &["192.168.1.5", "100.64.1.2", "127.0.0.1"],
            ),
            (
                "bound to loopback, as --dev does",
                rules(),
                &["127.0.0.1", "::1"],
                &["127.0.0.1", "::1"],
            ),
            (
                "an internal interface that was asked for",
                Rules {
                    names: named(&["docker0"], &[]),
                    ..rules()
                },
                &any,
                &["172.17.0.1"],
            ),
            (
                "an interface left out",
                Rules {
                    names: named(&[], &["eth0"]),
                    ..rules()
                },
                &any,
                &["100.64.1.2"],
            ),
            (
                "one network only",
                Rules {
                    includes: cidrs(&["192.168.0.0/16"]),
                    ..rules()
                },
                &any,
                &["192.168.1.5"],
            ),
            (
                "no IPv6 told",
                Rules {
                    excludes: cidrs(&["::/0", "100.64.0.0/10"]),
                    ..rules()
                },
                &any,
                &["192.168.1.5"],
            ),
            (
                "node_ip stands for its family",
                Rules {
                    node_ip: ips(&["203.0.113.9"]),
                    ..rules()
                },
                &any,
                &["2001:db8::5", "203.0.113.9", "fd00::5"],
            ),
            (
                "node_ip without a socket of its family",
                Rules {
                    node_ip: ips(&["2001:db8::9"]),
                    ..rules()
                },
                &["192.168.1.5"],
                &["192.168.1.5"],
            ),
        ];
        for (what, rules, bound, expected) in table {
            assert_eq!(rules.usable(&host(), &ips(bound)), ips(expected), "{what}");
        }
    }

    #[test]
    fn a_temporary_address_is_better_than_none() {
        let mut host = host();
        host.retain(|own| own.temporary || own.ip.is_ipv4());
        assert_eq!(rules().usable(&host, &ips(&["::"])), ips(&["2001:db8::77"]));
    }

    #[test]
    fn only_wildcard_sockets_depend_on_interfaces() {
        assert!(rules().depend_on_interfaces(&ips(&["::", "0.0.0.0"])));
        assert!(!rules().depend_on_interfaces(&ips(&["127.0.0.1"])));
        let node = Rules {
            node_ip: ips(&["203.0.113.9"]),
            ..rules()
        };
        assert!(!node.depend_on_interfaces(&ips(&["0.0.0.0"])));
        assert!(node.depend_on_interfaces(&ips(&["::", "0.0.0.0"])));
    }

    #[test]
    fn candidates_prefer_udp_and_the_first_address() {
        let bound = Bound {
            udp: vec!["0.0.0.0:7882".parse().unwrap()],
            tcp: vec![
                "[::]:7881".parse().unwrap(),
                "0.0.0.0:7883".parse().unwrap(),
            ],
        };
        let addresses = ips(&["2001:db8::5", "192.168.1.5", "203.0.113.9"]);
        let told: Vec<_> = bound
            .candidates(&addresses, false)
            .iter()
            .map(|candidate| (candidate.proto, candidate.address.to_string()))
            .collect();
        assert_eq!(
            told,
            [
                (Proto::Udp, "192.168.1.5:7882".to_owned()),
                (Proto::Udp, "203.0.113.9:7882".to_owned()),
                (Proto::Tcp, "[2001:db8::5]:7881".to_owned()),
                (Proto::Tcp, "192.168.1.5:7883".to_owned()),
                (Proto::Tcp, "203.0.113.9:7883".to_owned()),
            ]
        );
        let preferences: Vec<_> = bound
            .candidates(&addresses, false)
            .iter()
            .map(|candidate| candidate.preference)
            .collect();
        assert!(preferences.is_sorted_by(|a, b| a > b), "{preferences:?}");
        let forced = bound.candidates(&addresses, true);
        assert!(forced.iter().all(|told| told.proto == Proto::Tcp));
        assert_eq!(forced.len(), 3);
    }

    #[test]
    fn ranges_contain_what_their_prefix_says() {
        let table = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.2", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("2001:db8::/32", "2001:db8:ff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ];
        for (cidr, ip, expected) in table {
            let cidr = Cidr::parse(cidr).unwrap();
            assert_eq!(
                cidr.contains(ip.parse().unwrap()),
                expected,
                "{cidr:?} {ip}"
            );
        }
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/", "10.0/8", "::/129"] {
            assert_eq!(Cidr::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn flags_of_if_inet6() {
        let line = "20010db8000000000000000000000005 02 40 00 120 eth0";
        assert_eq!(
            inet6_flags(line),
            Some(("2001:db8::5".parse().unwrap(), 0x20))
        );
        assert_eq!(inet6_flags("nonsense"), None);
    }
}
