//! What is said once everything runs: where it listens, and in `--dev` what to do next.

use crate::clock::Clock;
use crate::config::Config;
use crate::supervisor::tools;
use std::net::SocketAddr;

/// Says it in the log.
pub(super) fn print(config: &Config, http: &[SocketAddr], media: &[String]) {
    for line in lines(config, http, media, Clock::System) {
        tracing::info!("{line}");
    }
}

fn lines(config: &Config, http: &[SocketAddr], media: &[String], clock: Clock) -> Vec<String> {
    let mut lines = vec![format!(
        "parlor {}: HTTP on {}; media on {}",
        env!("CARGO_PKG_VERSION"),
        join(http.iter().map(ToString::to_string)),
        media.join(", ")
    )];
    if !config.development {
        return lines;
    }
    let port = http.first().map_or(config.http.port, SocketAddr::port);
    lines.push(format!("try it in a browser: http://localhost:{port}/try"));
    let everybodys = |secret: &str| secret == "secret";
    if let Some((key, secret)) = config.keys.0.first() {
        // Only the secret that everybody knows; one of the user's own stays his.
        let login = if everybodys(secret.reveal()) {
            format!("key {key}, secret {}", secret.reveal())
        } else {
            format!("key {key}")
        };
        lines.push(format!(
            "for SDKs and tools: ws://localhost:{port}, {login}"
        ));
    }
    if let Some(token) = tools::try_token(config, clock) {
        lines.push(format!(
            "a token for room my-room, valid for a day: {token}"
        ));
    }
    if tools::is_private(&config.http, &config.rtc) {
        lines.push(
            "only this machine can connect; for phones and containers: parlor --dev --bind 0.0.0.0"
                .to_owned(),
        );
    }
    if config
        .keys
        .0
        .iter()
        .any(|(_, secret)| everybodys(secret.reveal()))
    {
        lines.push("this is for trying out: everybody knows the secret of --dev".to_owned());
    }
    lines
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::options::cli::Cli;
    use crate::protocol::token::verify;
    use clap::Parser;

    fn said(yaml: &str, args: &[&str]) -> (Config, Vec<String>) {
        let mut options = Options::from_yaml("", yaml);
        options.apply_flags(&Cli::parse_from([&["parlor"], args].concat()).flags);
        let (config, _) = Config::from_options(&options, 2).unwrap();
        let http = [
            "127.0.0.1:7880".parse().unwrap(),
            "[::1]:7880".parse().unwrap(),
        ];
        let media = [
            "UDP 127.0.0.1:7882".to_owned(),
            "TCP 127.0.0.1:7881".to_owned(),
        ];
        let lines = lines(&config, &http, &media, Clock::Fixed(5_000));
        (config, lines)
    }

    #[test]
    fn a_server_says_its_addresses_and_no_secret() {
        let secret = "abcdefghijklmnopqrstuvwxyz012345";
        let (_, lines) = said(&format!("keys: {{k: {secret}}}"), &[]);
        assert_eq!(
            lines,
            [format!(
                "parlor {}: HTTP on 127.0.0.1:7880, [::1]:7880; media on UDP 127.0.0.1:7882, TCP 127.0.0.1:7881",
                env!("CARGO_PKG_VERSION")
            )]
        );
    }

    #[test]
    fn dev_says_what_to_do_next_with_a_token_that_works() {
        let (config, lines) = said("", &["--dev"]);
        assert!(
            lines[0].ends_with("UDP 127.0.0.1:7882, TCP 127.0.0.1:7881"),
            "{lines:?}"
        );
        assert!(lines[1].contains("http://localhost:7880/try"));
        assert!(lines[2].contains("key devkey, secret secret"));
        let token = lines[3].rsplit(' ').next().unwrap();
        let (claims, _) = verify(6, token, &config.keys).unwrap();
        assert_eq!(claims.video.unwrap().room, "my-room");
        assert!(lines[4].contains("--bind 0.0.0.0"));
        let (_, open) = said("keys: {a: my-own}", &["--dev", "--bind", "0.0.0.0"]);
        assert!(!open.iter().any(|line| line.contains("my-own")
            || line.contains("--bind")
            || line.contains("everybody")));
    }
}
