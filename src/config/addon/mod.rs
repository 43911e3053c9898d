//! The reader of the Home Assistant app's flat options: every problem at once, each with what to type instead.
//!
//! Driven by [`Config::from_options`]. The names and their meaning are those of the earlier LiveKit add-on (its DOCS),
//! so that its users can paste what they had; where it named an option without doing anything, here it does.

mod flat;
mod login;
mod network;
mod tls;
mod turn;
mod url;

use crate::config::problem::Findings;
use crate::config::{
    App, Config, Filter, Http, Limits, Log, Prometheus, Public, Room, Rtc, Webhook, reporting,
};
use crate::options::addon::Addon;
use crate::options::{File, Options};
use flat::Flat;
use std::collections::BTreeMap;
use std::net::IpAddr;
use url::Plain;

/// Every option, in the order of the form.
pub const NAMES: &[&str] = &[
    "domain",
    "matrix_homeserver_url",
    "matrix_widget_url",
    "http_port",
    "rtc_tcp_port",
    "rtc_udp_port_min",
    "rtc_udp_port_max",
    "use_ssl",
    "cert_file",
    "pkey_file",
    "turn_enabled",
    "turn_servers",
    "turn_username",
    "turn_password",
    "turn_static_auth_secret",
    "api_key",
    "api_secret",
    "external_ip",
    "use_ice_lite",
    "trusted_proxies",
    "webhook_urls",
    "metrics_port",
    "log_level",
    "verbose",
];

/// The configuration that the options ask for, and what is to be said of them.
pub(super) fn config(
    options: &Options,
    addon: &Addon,
    bind: &[IpAddr],
    cores: usize,
) -> (Config, Findings) {
    let mut flat = Flat::new(&addon.map);
    let domain = url::domain(&mut flat);
    let homeserver = url::web(
        &mut flat,
        "matrix_homeserver_url",
        Plain::Near,
        "https://matrix.example.org",
    );
    let widget = url::web(
        &mut flat,
        "matrix_widget_url",
        Plain::Never,
        "https://calls.example.org",
    );
    let ports = network::ports(&mut flat);
    let (udp_ports, udp_spares) = network::udp_ports(&mut flat, cores);
    let use_ssl = flat.boolean("use_ssl", false);
    let public = Public {
        url: public_url(widget.as_deref(), domain.as_deref(), use_ssl, ports.http),
        domain,
    };
    if !use_ssl && public.url.as_deref().and_then(url::port) == Some(ports.http) {
        flat.warning(
            "use_ssl",
            format!(
                "the public URL is https on port {0}, where Parlor speaks plain HTTP; turn this on, or type another \
                 http_port and let a proxy have {0}",
                ports.http
            ),
        );
    }
    let tls = tls::tls(&mut flat, addon, &options.files, &public);
    let ice_servers = turn::servers(&mut flat);
    let (keys, login) = login::keys(&mut flat, addon);
    let external_ips = network::external_ips(&mut flat);
    let config = Config {
        http: Http {
            port: ports.http,
            bind: bind.to_vec(),
            tls,
            trusted_proxies: network::trusted_proxies(&mut flat),
        },
        rtc: Rtc {
            udp_ports,
            udp_spares: Some(udp_spares),
            tcp_port: Some(ports.tcp),
            bind: bind.to_vec(),
            node_ip: Vec::new(),
            // Who is reached from outside wants the router's address; who is not keeps to himself.
            use_external_ip: external_ips.is_empty() && public.url.is_some(),
            external_ips,
            use_ice_lite: flat.boolean("use_ice_lite", false),
            force_tcp: false,
            ips: Filter::default(),
            interfaces: Filter::default(),
            enable_loopback_candidate: !bind.is_empty() && bind.iter().all(IpAddr::is_loopback),
            stun_servers: Vec::new(),
            ice_servers,
        },
        webhook: webhook(&mut flat, keys.0.first().cloned()),
        keys,
        room: Room::default(),
        limits: Limits::default(),
        prometheus: ports.metrics.map(|port| Prometheus { port, login: None }),
        log: log(&mut flat, addon),
        development: false,
        public,
        app: Some(App {
            data: addon.data.clone(),
            login,
            homeserver,
            hass: addon.hass.clone(),
        }),
    };
    unknown(&mut flat);
    (config, flat.found)
}

/// Where people reach the server from outside. Without `use_ssl` a proxy is assumed, on the usual port.
fn public_url(
    widget: Option<&str>,
    domain: Option<&str>,
    use_ssl: bool,
    port: u16,
) -> Option<String> {
    if let Some(widget) = widget {
        return Some(widget.to_owned());
    }
    let domain = domain?;
    Some(match (use_ssl, port) {
        (false, _) | (true, 443) => format!("https://{domain}"),
        (true, port) => format!("https://{domain}:{port}"),
    })
}

fn webhook(
    flat: &mut Flat<'_>,
    signer: Option<(String, crate::secret::Secret<String>)>,
) -> Webhook {
    let mut urls: Vec<String> = Vec::new();
    for (place, text) in flat.list("webhook_urls") {
        match reporting::checked(text) {
            Ok(url) if urls.contains(&url) => {}
            Ok(url) => urls.push(url),
            Err((fault, remedy)) => flat.problem(&place, fault, remedy),
        }
    }
    Webhook {
        signer: signer.filter(|_| !urls.is_empty()),
        urls,
        ..reporting::unfiltered()
    }
}

fn log(flat: &mut Flat<'_>, addon: &Addon) -> Log {
    let level = match flat.text("log_level") {
        None => tracing::Level::INFO,
        Some(text) => super::level(text).unwrap_or_else(|| {
            flat.problem(
                "log_level",
                format!("{text:?} is no level"),
                "type error, warn, info, debug or trace",
            );
            tracing::Level::INFO
        }),
    };
    let verbose = flat.boolean("verbose", false);
    Log {
        // Levels are ordered by how much they say.
        level: if verbose {
            level.max(tracing::Level::DEBUG)
        } else {
            level
        },
        json: false,
        colour: addon.is_managed.then_some(true),
    }
}

/// Supervisor drops what is not in the schema; a file of one's own may have it.
fn unknown(flat: &mut Flat<'_>) {
    let unknown: Vec<_> = flat
        .names()
        .filter(|name| !NAMES.contains(&name.as_str()))
        .collect();
    for name in unknown {
        flat.warning(name, "there is no such option; it is left out");
    }
}

/// The text of a file that was read beforehand.
fn text_of<'a>(files: &'a BTreeMap<String, File>, path: &str) -> Result<&'a str, String> {
    match files.get(path).map(|file| &file.text) {
        Some(Ok(text)) => Ok(text.reveal()),
        Some(Err(reason)) => Err(reason.clone()),
        None => Err("it was not read".to_owned()),
    }
}
