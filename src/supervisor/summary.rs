//! What is said once everything runs: where it listens, and in `--dev` what to do next.

use crate::clock::Clock;
use crate::config::{App, Config, Login};
use crate::ids::WorkerId;
use crate::net;
use crate::options::addon::Addon;
use crate::supervisor::tools;
use std::net::{IpAddr, SocketAddr};

/// Says it in the log.
pub(super) fn print(config: &Config, http: &[SocketAddr], net: &net::Handle) {
    let told: Vec<_> = net
        .candidates(WorkerId(0))
        .iter()
        .map(|candidate| candidate.address.ip())
        .collect();
    for line in lines(config, http, &net.bound(), &told, Clock::System) {
        tracing::info!("{line}");
    }
}

fn lines(
    config: &Config,
    http: &[SocketAddr],
    media: &[String],
    told: &[IpAddr],
    clock: Clock,
) -> Vec<String> {
    let mut lines = vec![format!(
        "parlor {}: HTTP on {}; media on {}",
        env!("CARGO_PKG_VERSION"),
        join(http.iter().map(ToString::to_string)),
        media.join(", ")
    )];
    if let Some(app) = &config.app {
        lines.extend(of_app(config, app, told));
    }
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

/// What the app was set to, and where people find it.
fn of_app(config: &Config, app: &App, told: &[IpAddr]) -> Vec<String> {
    let mut lines = Vec::new();
    let port = config.http.port;
    lines.push(match &config.public.url {
        Some(url) => format!("public URL: {url}"),
        None => format!(
            "domain is not set: calls work in your own network on port {port}; for calls from outside type your domain \
             into the configuration"
        ),
    });
    let mut seen = Vec::new();
    for ip in told {
        if !seen.contains(ip) {
            seen.push(*ip);
        }
    }
    let mut addresses = join(seen.iter().map(ToString::to_string));
    if config.rtc.use_external_ip {
        addresses += ", and what your router has on the internet";
    }
    lines.push(format!("addresses for media: {addresses}"));
    let on = |on: bool| if on { "on" } else { "off" };
    let mut settings = vec![match &config.http.tls {
        Some(tls) => format!("TLS with {}", tls.certificate.display()),
        None if config.public.url.is_some() => "TLS by a proxy".to_owned(),
        None => "no TLS".to_owned(),
    }];
    let urls: Vec<_> = config
        .rtc
        .ice_servers
        .iter()
        .flat_map(|server| &server.urls)
        .cloned()
        .collect();
    settings.push(if urls.is_empty() {
        "no TURN server".to_owned()
    } else {
        format!("TURN {}", urls.join(" "))
    });
    settings.push(format!("ICE lite {}", on(config.rtc.use_ice_lite)));
    if let Some(homeserver) = &app.homeserver {
        settings.push(format!("Matrix homeserver {homeserver}"));
    }
    if let Some(prometheus) = &config.prometheus {
        settings.push(format!("metrics on port {}", prometheus.port));
    }
    if !config.webhook.urls.is_empty() {
        settings.push(format!("webhooks: {}", config.webhook.urls.len()));
    }
    // The first is the bridge of Home Assistant's apps.
    let proxies = config.http.trusted_proxies.iter().skip(1);
    let proxies: Vec<_> = proxies.map(ToString::to_string).collect();
    if !proxies.is_empty() {
        settings.push(format!("trusted proxies {}", proxies.join(" ")));
    }
    settings.push(format!(
        "log level {}",
        config.log.level.as_str().to_lowercase()
    ));
    lines.push(format!("settings: {}", settings.join(", ")));
    let kept = app.data.join(Addon::KEPT);
    let seen = if app.hass.is_some() {
        "; Parlor's page in Home Assistant shows them"
    } else {
        ""
    };
    match app.login {
        Login::Typed => {}
        Login::Kept => lines.push(format!(
            "API key and secret: those in {}{seen}",
            kept.display()
        )),
        Login::New => lines.push(format!(
            "API key and secret: made just now, in {}{seen}",
            kept.display()
        )),
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
        let told = ["127.0.0.1".parse().unwrap()];
        let lines = lines(&config, &http, &media, &told, Clock::Fixed(5_000));
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

    #[test]
    fn an_app_says_what_it_was_set_to_and_no_secret() {
        let json = r#"{"domain": "calls.example.org", "turn_enabled": true, "turn_servers": ["turn:turn.example.org"],
            "turn_static_auth_secret": "topsecret", "metrics_port": 6789, "trusted_proxies": ["192.0.2.1"],
            "webhook_urls": ["https://a.example/topsecret"], "matrix_homeserver_url": "https://m.example/"}"#;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("options.json");
        std::fs::write(&file, json).unwrap();
        let args = [
            "parlor",
            "--options",
            file.to_str().unwrap(),
            "--data",
            "/nowhere",
        ];
        let options = crate::options::source::load(&Cli::parse_from(args).flags);
        let (config, _) = Config::from_options(&options, 2).unwrap();
        let told = ["192.0.2.9", "2001:db8::9", "192.0.2.9"].map(|ip| ip.parse().unwrap());
        let lines = lines(&config, &[], &[], &told, Clock::Fixed(0));
        assert_eq!(
            lines[1..],
            [
                "public URL: https://calls.example.org",
                "addresses for media: 192.0.2.9, 2001:db8::9, and what your router has on the internet",
                "settings: TLS by a proxy, TURN turn:turn.example.org, ICE lite off, Matrix homeserver https://m.example, \
                 metrics on port 6789, webhooks: 1, trusted proxies 192.0.2.1/32, log level info",
                "API key and secret: made just now, in /nowhere/keys.json",
            ]
        );
    }
}
