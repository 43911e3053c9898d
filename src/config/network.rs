//! Listeners, media ports, addresses, and the servers that clients are told of.

use crate::config::read::Reader;
use crate::config::{Filter, Http, Rtc};
use crate::options::File;
use crate::options::yaml::{Node, Value};
use crate::plan::{IceLogin, IceServer};
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// LiveKit's port for everything HTTP.
const HTTP_PORT: u16 = 7880;
/// LiveKit's port for ICE-TCP.
const TCP_PORT: u16 = 7881;
/// The one media port of `--dev`, as LiveKit has it.
const DEV_UDP_PORT: u16 = 7882;
/// First media port when nothing is said: the start of LiveKit's default range.
const FIRST_UDP_PORT: u16 = 50_000;
/// How long a TURN password is valid (livekit 1.13.5): the default, and the most.
pub(crate) const TURN_TTL: Duration = Duration::from_secs(14_400);
const MAX_TURN_TTL: Duration = Duration::from_secs(86_400);

pub(crate) fn http(reader: &mut Reader<'_>, bind: &[IpAddr]) -> Http {
    let port = reader.port("port");
    if port.is_none()
        && let Some(("0", line)) = reader.text("port")
    {
        reader.found.problem(
            "port",
            line,
            "0 is no port that a client could be told",
            format!("type a number from 1 to 65535; LiveKit's is {HTTP_PORT}"),
        );
    }
    Http {
        port: port.unwrap_or(HTTP_PORT),
        bind: bind.to_vec(),
        ..Http::default()
    }
}

/// Addresses that both HTTP and media bind; none: all.
pub(crate) fn bind(reader: &mut Reader<'_>, development: bool) -> Vec<IpAddr> {
    let is_given = reader.root.at("bind_addresses").is_some();
    let texts = reader.list("bind_addresses");
    let mut addresses = Vec::new();
    for (path, text, line) in texts {
        if let Some(address) = reader.address(&path, text, line)
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    if development && !is_given {
        addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    addresses
}

pub(crate) fn rtc(
    reader: &mut Reader<'_>,
    bind: &[IpAddr],
    files: &BTreeMap<String, File>,
    cores: usize,
    development: bool,
) -> Rtc {
    let tcp_port = match reader.text("rtc.tcp_port") {
        None => Some(TCP_PORT),
        Some(_) => reader.port("rtc.tcp_port"),
    };
    let stun_servers: Vec<String> = reader
        .list("rtc.stun_servers")
        .into_iter()
        .filter_map(|(path, text, line)| stun_server(reader, &path, text, line))
        .collect();
    let mut ice_servers = turn_servers(reader, files);
    if !stun_servers.is_empty() {
        ice_servers.push(IceServer {
            urls: stun_servers
                .iter()
                .map(|server| format!("stun:{server}"))
                .collect(),
            login: IceLogin::None,
        });
    }
    let is_loopback_only = !bind.is_empty() && bind.iter().all(IpAddr::is_loopback);
    Rtc {
        udp_ports: udp_ports(reader, cores, development),
        udp_spares: None,
        external_ips: Vec::new(),
        tcp_port,
        bind: bind.to_vec(),
        node_ip: node_ip(reader),
        use_external_ip: reader.boolean("rtc.use_external_ip", false),
        use_ice_lite: reader.boolean("rtc.use_ice_lite", false),
        force_tcp: force_tcp(reader, tcp_port),
        ips: ips(reader),
        interfaces: Filter {
            includes: names(reader, "rtc.interfaces.includes"),
            excludes: names(reader, "rtc.interfaces.excludes"),
        },
        enable_loopback_candidate: reader
            .boolean("rtc.enable_loopback_candidate", is_loopback_only),
        stun_servers,
        ice_servers,
    }
}

fn force_tcp(reader: &mut Reader<'_>, tcp_port: Option<u16>) -> bool {
    let force = reader.boolean("rtc.force_tcp", false);
    if force && tcp_port.is_none() {
        reader.found.problem(
            "rtc.force_tcp",
            0,
            "without rtc.tcp_port no client could reach the server",
            format!("type rtc.tcp_port: {TCP_PORT}, or force_tcp: false"),
        );
    }
    force
}

fn names(reader: &mut Reader<'_>, path: &str) -> Vec<String> {
    reader
        .list(path)
        .into_iter()
        .map(|(_, text, _)| text.to_owned())
        .collect()
}

/// The range wins over `udp_port`; with neither, one port per core (livekit.md 1.1, 7).
fn udp_ports(reader: &mut Reader<'_>, cores: usize, development: bool) -> Vec<u16> {
    const START: &str = "rtc.port_range_start";
    const END: &str = "rtc.port_range_end";
    let cores = cores.max(1);
    let (start, end) = (reader.port(START), reader.port(END));
    let single = udp_port(reader);
    let (start, end) = match (start, end) {
        (Some(start), Some(end)) if start > end => {
            reader.found.problem(
                END,
                line(reader, END),
                format!("{end} lies below {START}, which is {start}"),
                format!("type {start} or more"),
            );
            (start, start)
        }
        (Some(start), Some(end)) => (start, end),
        (Some(start), None) => {
            reader.found.problem(
                END,
                line(reader, START),
                format!("{START} is there, and this is not"),
                format!("type {END}: {}", start.saturating_add(100)),
            );
            (start, start)
        }
        (None, Some(end)) => {
            reader.found.problem(
                START,
                line(reader, END),
                format!("{END} is there, and this is not"),
                format!("type {START}: {}", end.saturating_sub(100).max(1)),
            );
            (end, end)
        }
        (None, None) => single.unwrap_or(if development {
            (DEV_UDP_PORT, DEV_UDP_PORT)
        } else {
            (FIRST_UDP_PORT, u16::MAX)
        }),
    };
    (start..=end).take(cores).collect()
}

fn line(reader: &Reader<'_>, path: &str) -> u32 {
    reader.root.at(path).map_or(0, |node| node.line)
}

/// `rtc.udp_port`: 7882, or "7882-7892"; 0 and "" are as if it were not there.
fn udp_port(reader: &mut Reader<'_>) -> Option<(u16, u16)> {
    let path = "rtc.udp_port";
    let (text, line) = reader.text(path)?;
    if text == "0" {
        return None;
    }
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse().ok().filter(|port| *port > 0);
    let range = port(start)
        .zip(port(end))
        .filter(|(start, end)| start <= end);
    if range.is_none() {
        reader.found.problem(
            path,
            line,
            format!("{text:?} is neither a port nor a range of ports"),
            format!(
                "type {DEV_UDP_PORT}, or \"{DEV_UDP_PORT}-{}\"",
                DEV_UDP_PORT + 3
            ),
        );
    }
    range
}

/// `"v4"`, `"v6"` or `"v4,v6"`.
fn node_ip(reader: &mut Reader<'_>) -> Vec<IpAddr> {
    let path = "rtc.node_ip";
    let Some((text, line)) = reader.text(path) else {
        return Vec::new();
    };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let Some(address) = reader.address(path, part, line) else {
            continue;
        };
        if address.is_unspecified() || address.is_multicast() {
            reader.found.problem(
                path,
                line,
                format!("no client can send to {address}"),
                "type the address under which clients reach this machine",
            );
        } else if addresses
            .iter()
            .any(|other| other.is_ipv4() == address.is_ipv4())
        {
            reader.found.problem(
                path,
                line,
                "these are two addresses of one family",
                "type one IPv4 address, one IPv6 address, or both with a comma between",
            );
        } else {
            addresses.push(address);
        }
    }
    addresses
}

fn ips(reader: &mut Reader<'_>) -> Filter {
    let mut cidrs = |path: &str| {
        reader
            .list(path)
            .into_iter()
            .filter(|(path, text, line)| {
                let valid = is_cidr(text);
                if !valid {
                    let remedy = match text.parse::<IpAddr>() {
                        Ok(IpAddr::V4(address)) => format!("type {address}/32"),
                        Ok(IpAddr::V6(address)) => format!("type {address}/128"),
                        Err(_) => "type a network such as 192.168.1.0/24 or fd00::/8".to_owned(),
                    };
                    reader.found.problem(
                        path,
                        *line,
                        format!("{text:?} is no network in CIDR form"),
                        remedy,
                    );
                }
                valid
            })
            .map(|(_, text, _)| text.to_owned())
            .collect()
    };
    Filter {
        includes: cidrs("rtc.ips.includes"),
        excludes: cidrs("rtc.ips.excludes"),
    }
}

/// `address/prefix` (RFC 4632 §3.1).
fn is_cidr(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, prefix)| {
        let bits = match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        prefix.bytes().all(|byte| byte.is_ascii_digit())
            && prefix.parse::<u8>().is_ok_and(|prefix| prefix <= bits)
    })
}

/// `host:port`; the scheme may be there, the port may be missing (3478, RFC 8489 §8.1).
fn stun_server(reader: &mut Reader<'_>, path: &str, text: &str, line: u32) -> Option<String> {
    let server = text.strip_prefix("stun:").unwrap_or(text);
    let (host, port) = match server.rsplit_once(':') {
        // A bare IPv6 address has colons and no brackets.
        _ if server.parse::<Ipv6Addr>().is_ok() => (format!("[{server}]"), Some(3478)),
        Some((host, port)) if !host.is_empty() && !server.ends_with(']') => (
            host.to_owned(),
            port.parse::<u16>().ok().filter(|port| *port > 0),
        ),
        _ => (server.to_owned(), Some(3478)),
    };
    let port = port.filter(|_| is_host(&host));
    if port.is_none() {
        reader.found.problem(
            path,
            line,
            format!("{text:?} is no host and port"),
            "type a server such as stun.example.org:3478",
        );
    }
    Some(format!("{host}:{}", port?))
}

/// A name or address that can stand in a `turn:` URL.
fn is_host(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    bare.map_or_else(
        || {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))
        },
        |address| address.parse::<Ipv6Addr>().is_ok(),
    )
}

fn turn_servers(reader: &mut Reader<'_>, files: &BTreeMap<String, File>) -> Vec<IceServer> {
    reader
        .items("rtc.turn_servers")
        .into_iter()
        .filter_map(|(path, node)| turn_server(reader, files, &path, node))
        .collect()
}

fn turn_server(
    reader: &mut Reader<'_>,
    files: &BTreeMap<String, File>,
    path: &str,
    node: &Node,
) -> Option<IceServer> {
    if !matches!(node.value, Value::Map(_)) {
        reader.found.problem(
            path,
            node.line,
            "this wants host, port, protocol and a login",
            "type {host: turn.example.org, port: 3478, protocol: udp, secret: …}",
        );
        return None;
    }
    let mut server = Reader::new(node);
    let before = reader.found.problems.len();
    let url = turn_url(&mut server, node.line);
    let login = turn_login(&mut server, files, node.line);
    for mut problem in server.found.problems {
        problem.path = format!("{path}.{}", problem.path);
        reader.found.problems.push(problem);
    }
    (reader.found.problems.len() == before).then_some(())?;
    Some(IceServer {
        urls: vec![url?],
        login: login?,
    })
}

fn turn_url(server: &mut Reader<'_>, line: u32) -> Option<String> {
    let host = match server.text("host") {
        Some((host, _)) if is_host(host) => Some(host.to_owned()),
        Some((host, _)) if host.parse::<Ipv6Addr>().is_ok() => Some(format!("[{host}]")),
        // Not quoted: it may hold a password.
        Some((_, line)) => {
            server.found.problem(
                "host",
                line,
                "this is no host",
                "type a name or an address, without turn: and without the port",
            );
            None
        }
        None => {
            server.found.problem(
                "host",
                line,
                "the server has no name",
                "type host: turn.example.org",
            );
            None
        }
    };
    let (scheme, transport, usual) = match server.text("protocol") {
        None | Some(("udp", _)) => ("turn", "udp", 3478),
        Some(("tcp", _)) => ("turn", "tcp", 3478),
        Some(("tls", _)) => ("turns", "tcp", 5349),
        Some((other, line)) => {
            server.found.problem(
                "protocol",
                line,
                format!("{other:?} is none of tls, tcp, udp"),
                "type protocol: udp",
            );
            return None;
        }
    };
    let port = server.port("port").unwrap_or(usual);
    Some(format!("{scheme}:{}:{port}?transport={transport}", host?))
}

fn turn_login(
    server: &mut Reader<'_>,
    files: &BTreeMap<String, File>,
    line: u32,
) -> Option<IceLogin> {
    let ttl = server.duration("ttl", TURN_TTL);
    if ttl > MAX_TURN_TTL {
        server.found.problem(
            "ttl",
            line,
            format!("{} s is longer than a day", ttl.as_secs()),
            format!("type {} or less", MAX_TURN_TTL.as_secs()),
        );
    }
    let ttl = if ttl.is_zero() { TURN_TTL } else { ttl };
    let from_file = match server.text("secret_file") {
        None => None,
        Some((name, line)) => match files.get(name).map(|file| &file.text) {
            Some(Ok(text)) if !text.reveal().trim().is_empty() => {
                Some(text.reveal().trim().to_owned())
            }
            Some(Ok(_)) => {
                server.found.problem(
                    "secret_file",
                    line,
                    format!("{name} is empty"),
                    "write the TURN server's static-auth-secret into it",
                );
                return None;
            }
            Some(Err(reason)) => {
                let fault = format!("{name}: {reason}");
                server.found.problem(
                    "secret_file",
                    line,
                    fault,
                    "type the path of a readable file",
                );
                return None;
            }
            None => None,
        },
    };
    let secret = from_file.or_else(|| server.text("secret").map(|(text, _)| text.to_owned()));
    if let Some(secret) = secret {
        return Some(IceLogin::Rest {
            secret: Secret::new(secret),
            ttl,
        });
    }
    let username = server.text("username");
    let credential = server.text("credential");
    let Some(((username, _), (credential, _))) = username.zip(credential) else {
        server.found.problem(
            "secret",
            line,
            "browsers refuse a TURN server without a login",
            "type secret (coturn's static-auth-secret), or username and credential",
        );
        return None;
    };
    Some(IceLogin::Fixed {
        username: username.to_owned(),
        credential: Secret::new(credential.to_owned()),
    })
}

/// No two TCP listeners on one port.
pub(crate) fn check_ports(reader: &mut Reader<'_>, http: &Http, rtc: &Rtc) {
    if rtc.tcp_port == Some(http.port) {
        let other = if http.port == TCP_PORT {
            HTTP_PORT
        } else {
            TCP_PORT
        };
        reader.found.problem(
            "rtc.tcp_port",
            line(reader, "rtc.tcp_port"),
            format!("{} is taken by port", http.port),
            format!("type {other}, or 0 to do without TCP"),
        );
    }
}
