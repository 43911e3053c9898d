//! Looks at the ports of the app before anything starts, so that all that are taken are told at once, with the option
//! that names them and who most often has them.
//!
//! What is opened afterwards is opened for good and may still fail; then the same is said less well. No SO_REUSEPORT
//! anywhere: a second instance shall be noticed.

use crate::config::Config;
use crate::config::problem::Problem;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

/// Who listens where on a machine with Home Assistant (its apps' defaults).
const KNOWN: &[(u16, &str)] = &[
    (53, "a DNS server such as AdGuard Home"),
    (80, "Home Assistant or a proxy"),
    (443, "a proxy such as NGINX, or Home Assistant with TLS"),
    (1883, "the Mosquitto broker"),
    (1984, "go2rtc"),
    (3478, "a TURN server such as Coturn"),
    (4357, "Home Assistant's observer"),
    (5349, "a TURN server such as Coturn"),
    (5580, "the Matter server"),
    (6052, "ESPHome"),
    (7880, "the earlier LiveKit app"),
    (7881, "the earlier LiveKit app"),
    (8008, "Synapse"),
    (8099, "Zigbee2MQTT"),
    (8123, "Home Assistant"),
    (8448, "Synapse"),
    (8554, "go2rtc"),
    (8555, "go2rtc"),
    (8883, "the Mosquitto broker"),
    (18_554, "Home Assistant's go2rtc"),
    (18_555, "Home Assistant's go2rtc"),
    (51_820, "WireGuard"),
];

/// Every port of an app's configuration that cannot be opened; the UDP range counts as one and is taken only as a whole.
/// Options that have a problem already are left out: what stands in the configuration for them nobody has typed.
pub(super) fn taken(config: &Config, problems: &[Problem]) -> Vec<Problem> {
    let is_wrong = |name: &str| {
        problems
            .iter()
            .any(|problem| problem.path.starts_with(name))
    };
    let tcp = [
        ("http_port", Some(config.http.port)),
        ("rtc_tcp_port", config.rtc.tcp_port),
        (
            "metrics_port",
            config.prometheus.as_ref().map(|prometheus| prometheus.port),
        ),
    ];
    let mut taken = Vec::new();
    for (option, port) in tcp {
        let Some(port) = port.filter(|_| !is_wrong(option)) else {
            continue;
        };
        if let Err(error) = try_all(&config.http.bind, port, |address| {
            TcpListener::bind(address).map(drop)
        }) {
            taken.push(problem(option, "TCP", port, &error));
        }
    }
    let udp = || {
        config
            .rtc
            .udp_ports
            .iter()
            .chain(config.rtc.udp_spares.iter().flatten())
    };
    let mut refusal = None;
    for &port in udp() {
        match try_all(&config.rtc.bind, port, |address| {
            UdpSocket::bind(address).map(drop)
        }) {
            Ok(()) => return taken,
            Err(error) => refusal = Some(error),
        }
    }
    if let (Some(error), Some(first), Some(last)) = (refusal, udp().next(), udp().next_back()) {
        taken.push(Problem {
            path: "rtc_udp_port_min".to_owned(),
            line: None,
            fault: format!("no UDP port from {first} to {last} can be opened ({error})"),
            remedy: "stop the program that has them, or type another rtc_udp_port_min and rtc_udp_port_max"
                .to_owned(),
        });
    }
    taken
}

/// Tries each address, or the wildcards. A family that the machine does not have is no error.
fn try_all(
    bind: &[IpAddr],
    port: u16,
    mut open: impl FnMut(SocketAddr) -> io::Result<()>,
) -> io::Result<()> {
    let wildcards = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let addresses = if bind.is_empty() { &wildcards } else { bind };
    for &ip in addresses {
        match open(SocketAddr::new(ip, port)) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
                ) =>
            {
                return Err(error);
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn problem(option: &str, proto: &str, port: u16, error: &io::Error) -> Problem {
    let (fault, remedy) = if error.kind() == io::ErrorKind::PermissionDenied {
        (
            format!("{proto} port {port} may not be opened by this user"),
            "type a port above 1023".to_owned(),
        )
    } else {
        let who = KNOWN
            .iter()
            .find_map(|(known, who)| (*known == port).then_some(*who));
        let often = who.map_or_else(String::new, |who| format!(", most often {who}"));
        let remedy = match who {
            Some(who) if who.contains("LiveKit") => {
                "stop that app and turn off its start on boot, or type another port here".to_owned()
            }
            _ => "stop that program, or type another port here".to_owned(),
        };
        (
            format!("{proto} port {port} is in use by another program{often}"),
            remedy,
        )
    };
    Problem {
        path: option.to_owned(),
        line: None,
        fault,
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_option_and_who_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let bind = [Ipv4Addr::LOCALHOST.into()];
        let error =
            try_all(&bind, port, |address| TcpListener::bind(address).map(drop)).unwrap_err();
        assert_eq!(
            problem("http_port", "TCP", port, &error).to_string(),
            format!(
                "http_port: TCP port {port} is in use by another program; stop that program, or type another port here"
            )
        );
        assert_eq!(
            problem("http_port", "TCP", 7880, &error).to_string(),
            "http_port: TCP port 7880 is in use by another program, most often the earlier LiveKit app; \
             stop that app and turn off its start on boot, or type another port here"
        );
        let denied = io::ErrorKind::PermissionDenied.into();
        assert_eq!(
            problem("http_port", "TCP", 443, &denied).to_string(),
            "http_port: TCP port 443 may not be opened by this user; type a port above 1023"
        );
    }

    #[test]
    fn a_family_that_is_missing_is_no_taken_port() {
        let missing = |_| Err(io::ErrorKind::AddrNotAvailable.into());
        assert!(try_all(&[], 1, missing).is_ok());
    }
}
