//! What is told to others: webhooks, and the numbers for Prometheus.

use crate::config::read::Reader;
use crate::config::{Http, Keys, Prometheus, Rtc, Webhook};
use crate::secret::Secret;
use reqwest::Url;
use std::time::Duration;

/// Names of webhook events (livekit 1.13.5 `protocol/webhook/consts.go`); those of other services are never sent.
const EVENTS: &[&str] = &[
    "room_started",
    "room_finished",
    "participant_joined",
    "participant_left",
    "participant_connection_aborted",
    "track_published",
    "track_unpublished",
    "egress_started",
    "egress_updated",
    "egress_ended",
    "ingress_started",
    "ingress_ended",
    "agent_job_started",
    "agent_job_ended",
];

/// A receiver that restarts is back within this; LiveKit gives up after 30 s.
const MAX_AGE: Duration = Duration::from_secs(300);
/// An event is tried at least once.
const MIN_AGE: Duration = Duration::from_secs(1);
/// Events of one room that wait for one receiver, as LiveKit has it.
const MAX_DEPTH: u64 = 200;

pub(crate) fn webhook(reader: &mut Reader<'_>, keys: &Keys) -> Webhook {
    let mut urls: Vec<String> = Vec::new();
    for (path, text, line) in reader.list("webhook.urls") {
        match checked(text) {
            Ok(url) if urls.contains(&url) => {}
            Ok(url) => urls.push(url),
            Err((fault, remedy)) => reader.found.problem(&path, line, fault, remedy),
        }
    }
    let mut signer = None;
    match reader.text("webhook.api_key") {
        Some((key, line)) => {
            signer = keys
                .secret(key)
                .map(|secret| (key.to_owned(), secret.clone()));
            // Without any key that is what has to be told first.
            if signer.is_none() && !keys.0.is_empty() {
                reader.found.problem(
                    "webhook.api_key",
                    line,
                    "there is no key of this name",
                    "type one of the names under keys",
                );
            }
        }
        None if urls.is_empty() => {}
        None => {
            let line = reader.root.at("webhook.urls").map_or(0, |node| node.line);
            reader.found.problem(
                "webhook.urls",
                line,
                "nothing says by which key webhooks are signed",
                "type one of the names under keys as webhook.api_key",
            );
        }
    }
    let depth = reader.number("webhook.resource_url_notifier.max_depth", 1..=10_000);
    Webhook {
        signer,
        urls,
        include_events: events(reader, "webhook.filter_params.include_events"),
        exclude_events: events(reader, "webhook.filter_params.exclude_events"),
        max_age: reader
            .duration("webhook.resource_url_notifier.max_age", MAX_AGE)
            .max(MIN_AGE),
        max_depth: depth.unwrap_or(MAX_DEPTH) as usize,
    }
}

pub(crate) fn checked(text: &str) -> Result<String, (String, String)> {
    let remedy = || "type an address such as https://example.org/livekit-webhook".to_owned();
    let url = Url::parse(text).map_err(|error| (format!("this is no URL: {error}"), remedy()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        let fault = format!("webhooks go to http and https, not to {}:", url.scheme());
        return Err((fault, remedy()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err((
            "a webhook has no room for a user and a password: its Authorization is the signature"
                .to_owned(),
            "leave out what stands before the @; the receiver checks the signature instead"
                .to_owned(),
        ));
    }
    Ok(url.into())
}

/// Nobody is told of anything yet, and nothing is left out.
pub(crate) fn unfiltered() -> Webhook {
    Webhook {
        max_age: MAX_AGE,
        max_depth: MAX_DEPTH as usize,
        ..Webhook::default()
    }
}

fn events(reader: &mut Reader<'_>, path: &str) -> Vec<String> {
    let mut events = Vec::new();
    for (path, name, line) in reader.list(path) {
        if !EVENTS.contains(&name) {
            let text = format!("LiveKit has no webhook event {name}");
            reader.found.warning(&path, line, text);
        }
        events.push(name.to_owned());
    }
    events
}

pub(crate) fn prometheus(reader: &mut Reader<'_>, http: &Http, rtc: &Rtc) -> Option<Prometheus> {
    let path = match reader.text("prometheus.port") {
        Some(_) => "prometheus.port",
        None => "prometheus_port",
    };
    let name = reader.text("prometheus.username");
    let password = reader.text("prometheus.password");
    let login = match (name, password) {
        (Some((name, _)), Some((password, _))) => {
            Some((name.to_owned(), Secret::new(password.to_owned())))
        }
        (None, None) => None,
        (Some((_, line)), None) => {
            reader.found.problem(
                "prometheus.username",
                line,
                "there is no password for it",
                "type prometheus.password too, or leave out both",
            );
            None
        }
        (None, Some((_, line))) => {
            reader.found.problem(
                "prometheus.password",
                line,
                "nothing says whose password it is",
                "type prometheus.username too, or leave out both",
            );
            None
        }
    };
    let port = reader.port(path)?;
    let taken = if port == http.port {
        Some("port")
    } else if rtc.tcp_port == Some(port) {
        Some("rtc.tcp_port")
    } else {
        None
    };
    if let Some(other) = taken {
        let line = reader.root.at(path).map_or(0, |node| node.line);
        let fault = format!("{port} is taken by {other}");
        let remedy = "type a port of its own, such as 6789";
        reader.found.problem(path, line, fault, remedy);
    }
    Some(Prometheus { port, login })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::options::Options;
    use std::time::Duration;

    const KEY: &str = "keys: {k: abcdefghijklmnopqrstuvwxyz012345}\n";

    /// `path (line): fault` of every problem, or of every warning.
    fn read(yaml: &str) -> Result<(Config, Vec<String>), Vec<String>> {
        let options = Options::from_yaml("livekit.yaml", &format!("{KEY}{yaml}"));
        Config::from_options(&options, 1)
            .map(|(config, found)| (config, found.iter().map(ToString::to_string).collect()))
            .map_err(|found| {
                let text = |p: &crate::config::problem::Problem| {
                    format!("{} ({}): {}", p.path, p.line.unwrap_or(0), p.fault)
                };
                found.iter().map(text).collect()
            })
    }

    #[test]
    fn webhooks_are_read_with_their_key_and_filter() {
        let (config, warnings) = read(
            "webhook:\n  api_key: k\n  urls: ['http://a.example/x', 'http://a.example/x', 'https://b']\n  \
             filter_params: {include_events: [room_started, room_exploded]}\n  \
             resource_url_notifier: {max_age: 30s, max_depth: 7}\n\
             room: {enable_full_room_in_webhooks: true}\n",
        )
        .unwrap();
        assert_eq!(
            warnings,
            [
                "webhook.filter_params.include_events[1] (line 5): LiveKit has no webhook event room_exploded"
            ]
        );
        let webhook = config.webhook;
        assert_eq!(webhook.urls, ["http://a.example/x", "https://b/"]);
        assert_eq!(webhook.signer.unwrap().0, "k");
        assert_eq!(
            (webhook.max_age, webhook.max_depth),
            (Duration::from_secs(30), 7)
        );
        assert!(config.room.enable_full_room_in_webhooks);
        let (plain, _) = read("").unwrap();
        assert!(plain.webhook.urls.is_empty() && plain.webhook.signer.is_none());
        assert!(plain.prometheus.is_none());
    }

    #[test]
    fn webhooks_that_could_not_be_sent_are_problems() {
        for (yaml, want) in [
            (
                "webhook: {urls: ['http://a']}",
                "webhook.urls (2): nothing says by which key webhooks are signed",
            ),
            (
                "webhook: {api_key: x, urls: ['http://a']}",
                "webhook.api_key (2): there is no key of this name",
            ),
            (
                "webhook: {api_key: k, urls: [nonsense]}",
                "webhook.urls[0] (2): this is no URL: relative URL without a base",
            ),
            (
                "webhook: {api_key: k, urls: ['http://a', 'mqtt://a']}",
                "webhook.urls[1] (2): webhooks go to http and https, not to mqtt:",
            ),
            (
                "webhook: {api_key: k, urls: ['http://u:p@a']}",
                "webhook.urls[0] (2): a webhook has no room for a user and a password: its Authorization is the \
                 signature",
            ),
        ] {
            assert_eq!(read(yaml).unwrap_err(), [want], "{yaml}");
        }
    }

    #[test]
    fn prometheus_has_a_port_of_its_own_and_a_whole_login_or_none() {
        let (config, _) = read("prometheus_port: 6789\n").unwrap();
        assert_eq!(config.prometheus.unwrap().port, 6789);
        let (config, _) =
            read("prometheus_port: 1\nprometheus: {port: 6789, username: u, password: p}\n")
                .unwrap();
        let prometheus = config.prometheus.unwrap();
        assert_eq!(prometheus.port, 6789);
        let (name, password) = prometheus.login.unwrap();
        assert_eq!((name.as_str(), password.reveal().as_str()), ("u", "p"));
        for (yaml, want) in [
            (
                "prometheus: {port: 7, username: u}",
                "prometheus.username (2): there is no password for it",
            ),
            (
                "prometheus: {port: 7, password: p}",
                "prometheus.password (2): nothing says whose password it is",
            ),
            (
                "prometheus: {port: 7880}",
                "prometheus.port (2): 7880 is taken by port",
            ),
            (
                "prometheus_port: 7881",
                "prometheus_port (2): 7881 is taken by rtc.tcp_port",
            ),
        ] {
            assert_eq!(read(yaml).unwrap_err(), [want], "{yaml}");
        }
    }
}
