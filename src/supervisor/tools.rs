//! The subcommands: what is done instead of serving, on the same configuration.

use crate::clock::Clock;
use crate::config::{Config, Http, Rtc};
use crate::options::cli::Token;
use crate::protocol::token::{Claims, sign};
use crate::random::Random;
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// For each step of a health check.
const PATIENCE: Duration = Duration::from_secs(2);

/// A new key and secret, in the words of livekit-server's `generate-keys`, and the line for `livekit.yaml`.
pub(super) fn generate_keys(random: &mut Random) -> String {
    let key = format!("API{}", random.text(12));
    let secret = random.text(43);
    format!("API Key:  {key}\nAPI Secret:  {secret}\n\nkeys:\n  {key}: {secret}\n")
}

/// One line per port.
pub(super) fn ports(config: &Config) -> String {
    let mut text = String::new();
    let mut line = |port: u16, protocol: &str, what: &str| {
        let port = format!("{port}/{protocol}");
        // Writing to a string cannot fail.
        writeln!(text, "{port:<10} {what}").expect("a string takes any text");
    };
    line(config.http.port, "tcp", "HTTP and WebSocket");
    if let Some(prometheus) = &config.prometheus {
        line(prometheus.port, "tcp", "numbers for Prometheus");
    }
    if let Some(port) = config.rtc.tcp_port {
        line(port, "tcp", "media where UDP is blocked");
    }
    for port in &config.rtc.udp_ports {
        line(*port, "udp", "media");
    }
    text
}

/// A token, signed with the first key.
pub(super) fn token(config: &Config, token: &Token, clock: Clock) -> Result<String> {
    let (key, secret) = config.keys.0.first().context("there is no API key")?;
    let mut claims = Claims::for_join(
        key,
        &token.room,
        &token.identity,
        clock.unix_seconds(),
        token.valid_for,
    );
    claims.name = token.name.clone().unwrap_or_default();
    claims.metadata = token.metadata.clone().unwrap_or_default();
    if let Some(video) = &mut claims.video {
        let denied = |no: bool| no.then_some(false);
        video.can_publish = denied(token.no_publish);
        video.can_publish_data = denied(token.no_publish_data);
        video.can_subscribe = denied(token.no_subscribe);
        video.can_update_own_metadata = token.update_own_metadata.then_some(true);
        video.hidden = token.hidden;
        video.recorder = token.recorder;
        video.room_admin = token.admin;
        video.room_create = token.create;
    }
    Ok(sign(&claims, secret))
}

/// Asks the server on the configured port for `/`.
pub(super) fn healthcheck(http: &Http) -> Result<()> {
    let address = SocketAddr::new(reachable(http), http.port);
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("nothing answers on {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut head = [0; 12];
    stream
        .read_exact(&mut head)
        .with_context(|| format!("{address} does not answer"))?;
    if head.starts_with(b"HTTP/1.1 200") {
        return Ok(());
    }
    bail!(
        "{address} says {}",
        String::from_utf8_lossy(&head).escape_debug()
    )
}

/// An address under which this machine reaches itself.
fn reachable(http: &Http) -> IpAddr {
    match http.bind.first() {
        None => Ipv4Addr::LOCALHOST.into(),
        Some(IpAddr::V4(address)) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        Some(IpAddr::V6(address)) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        Some(address) => *address,
    }
}

/// `--dev`: a token to try things with, for a room and a name that every tutorial uses.
pub(super) fn try_token(config: &Config, clock: Clock) -> Option<String> {
    let (key, secret) = config.keys.0.first()?;
    let claims = Claims::for_join(
        key,
        "my-room",
        "me",
        clock.unix_seconds(),
        Duration::from_secs(24 * 3600),
    );
    Some(sign(&claims, secret))
}

/// Whether only this machine can reach the server.
pub(super) fn is_private(http: &Http, rtc: &Rtc) -> bool {
    let loopback = |list: &[IpAddr]| !list.is_empty() && list.iter().all(IpAddr::is_loopback);
    loopback(&http.bind) && loopback(&rtc.bind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::options::cli::{Cli, Command};
    use crate::protocol::token::verify;
    use clap::Parser;
    use std::net::TcpListener;
    use std::thread;

    fn config(args: &[&str]) -> Config {
        let mut options = Options::default();
        options.apply_flags(&Cli::parse_from([&["parlor"], args].concat()).flags);
        Config::from_options(&options, 2).unwrap().0
    }

    #[test]
    fn generated_keys_are_accepted_by_the_configuration() {
        let text = generate_keys(&mut Random::seeded(1));
        let (_, yaml) = text.split_once("\n\n").unwrap();
        let (config, _) = Config::from_options(&Options::from_yaml("", yaml), 1).unwrap();
        let (key, secret) = &config.keys.0[0];
        assert!(text.starts_with(&format!(
            "API Key:  {key}\nAPI Secret:  {}\n",
            secret.reveal()
        )));
        assert!(key.starts_with("API"));
        assert_ne!(text, generate_keys(&mut Random::seeded(2)));
    }

    #[test]
    fn ports_are_listed_with_their_protocol() {
        let config = config(&["--dev", "--udp-port", "7882-7890"]);
        assert_eq!(
            ports(&config),
            "7880/tcp   HTTP and WebSocket\n7881/tcp   media where UDP is blocked\n\
             7882/udp   media\n7883/udp   media\n"
        );
    }

    #[test]
    fn a_token_grants_what_was_asked_for() {
        let config = config(&["--dev"]);
        let line = "parlor token --room r --identity i --name N --valid-for 30m --hidden --no-publish --create";
        let Some(Command::Token(asked)) = Cli::parse_from(line.split(' ')).command else {
            panic!("{line}")
        };
        let text = token(&config, &asked, Clock::Fixed(1_000_000)).unwrap();
        let (claims, key) = verify(1_000, &text, &config.keys).unwrap();
        assert_eq!(key, "devkey");
        assert_eq!((claims.sub.as_str(), claims.name.as_str()), ("i", "N"));
        assert_eq!(claims.exp, 1_000 + 1_800);
        let video = claims.video.unwrap();
        assert_eq!(video.room, "r");
        assert!(video.room_join && video.hidden && video.room_create);
        assert_eq!(
            (video.can_publish, video.can_subscribe),
            (Some(false), None)
        );
    }

    #[test]
    fn the_health_check_believes_only_200() {
        for (answer, is_well) in [
            ("HTTP/1.1 200 OK\r\n\r\nOK", true),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", false),
            ("nonsense", false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                // To its end: closing with bytes unread would reset the connection.
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                assert!(request.starts_with(b"GET / HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            });
            let http = Http {
                port,
                ..Http::default()
            };
            assert_eq!(healthcheck(&http).is_ok(), is_well, "{answer}");
            server.join().unwrap();
            assert!(healthcheck(&http).is_err(), "nobody listens");
        }
    }
}
