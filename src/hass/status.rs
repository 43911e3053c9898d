//! What the status page tells: the facts of the start, and what is going on right now.
//!
//! Asked by [`super::page`] at each request; nothing is kept. The API secret is never part of it, nor is anything
//! escaped here: names of rooms are anybody's choice, and the page shows them as text only.

use crate::clock::Clock;
use crate::config::problem::Warning;
use crate::config::{Config, Login};
use crate::hub;
use crate::net;
use crate::options::addon::Addon;
use crate::plan::Proto;
use crate::protocol::livekit;
use crate::secret::Secret;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// Rooms that are listed; the rest is counted.
const MAX_ROOMS: usize = 100;

/// Where the page takes what it tells from.
#[derive(Debug)]
pub struct Sources {
    facts: Facts,
    hub: hub::Handle,
    net: net::Handle,
    clock: Clock,
}

/// What the start has decided.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    public_url: Option<String>,
    http_port: u16,
    is_tls: bool,
    homeserver: Option<String>,
    http: Vec<String>,
    media: Vec<String>,
    asks_for_external: bool,
    problems: Vec<String>,
    /// Where key and secret come from.
    origin: String,
    pub(super) key: Option<(String, Secret<String>)>,
    since_ms: u64,
}

/// What is going on right now.
#[derive(Debug, Default)]
pub(super) struct Now {
    rooms: Vec<Arc<livekit::Room>>,
    census: hub::Census,
    /// What clients are told, each once.
    candidates: Vec<(Proto, SocketAddr)>,
    /// Whether the directory of rooms has answered.
    is_well: bool,
    at_ms: u64,
}

impl Sources {
    /// `http`: the addresses that the HTTP port is bound to.
    pub fn new(
        config: &Config,
        warnings: &[Warning],
        http: &[SocketAddr],
        hub: hub::Handle,
        net: net::Handle,
    ) -> Self {
        let clock = Clock::System;
        let facts = Facts::new(config, warnings, http, net.bound(), clock.unix_ms());
        Self {
            facts,
            hub,
            net,
            clock,
        }
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) async fn now(&self) -> Now {
        let (rooms, census) = tokio::join!(self.hub.list(Vec::new()), self.hub.census());
        Now {
            is_well: rooms.is_ok(),
            rooms: rooms.unwrap_or_default(),
            census,
            candidates: self.candidates(),
            at_ms: self.clock.unix_ms(),
        }
    }

    fn candidates(&self) -> Vec<(Proto, SocketAddr)> {
        let mut told = Vec::new();
        for worker in self.net.worker_ids() {
            for candidate in self.net.candidates(worker).iter() {
                let one = (candidate.proto, candidate.address);
                if !told.contains(&one) {
                    told.push(one);
                }
            }
        }
        told
    }
}

impl Now {
    /// Where a browser in the same network finds us, as a URL has it.
    fn host(&self) -> Option<String> {
        let mut addresses = self.candidates.iter().map(|(_, address)| address.ip());
        let first = addresses.clone().next()?;
        Some(match addresses.find(IpAddr::is_ipv4).unwrap_or(first) {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        })
    }
}

impl Facts {
    pub(super) fn new(
        config: &Config,
        warnings: &[Warning],
        http: &[SocketAddr],
        media: Vec<String>,
        since_ms: u64,
    ) -> Self {
        let app = config.app.as_ref();
        let kept = |data: &Path| data.join(Addon::KEPT).display().to_string();
        Self {
            public_url: config.public.url.clone(),
            http_port: http.first().map_or(config.http.port, SocketAddr::port),
            is_tls: config.http.tls.is_some(),
            homeserver: app.and_then(|app| app.homeserver.clone()),
            http: http.iter().map(ToString::to_string).collect(),
            media,
            asks_for_external: config.rtc.use_external_ip,
            problems: warnings.iter().map(ToString::to_string).collect(),
            origin: match app {
                Some(app) if app.login != Login::Typed => {
                    format!("made at the first start and kept in {}", kept(&app.data))
                }
                Some(_) | None => "from the configuration (api_key, api_secret)".to_owned(),
            },
            key: config.keys.0.first().cloned(),
            since_ms,
        }
    }

    /// All but key and secret.
    pub(super) fn tell(&self, now: &Now) -> Value {
        let mut problems = self.problems.clone();
        if !now.is_well {
            problems.push("the rooms do not answer: the app is stopping".to_owned());
        }
        if now.candidates.is_empty() {
            problems.push(
                "this machine has no address for media: look at its network connection".to_owned(),
            );
        }
        let candidates: Vec<_> = now
            .candidates
            .iter()
            .map(|(proto, address)| match proto {
                Proto::Udp => format!("UDP {address}"),
                Proto::Tcp => format!("TCP {address}"),
            })
            .collect();
        let rooms: Vec<_> = now
            .rooms
            .iter()
            .take(MAX_ROOMS)
            .map(|room| {
                json!({
                    "name": room.name,
                    "participants": room.num_participants,
                    "publishers": room.num_publishers,
                    "since": room.creation_time_ms,
                })
            })
            .collect();
        let [audio, video] = now.census.published;
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "since": self.since_ms,
            "now": now.at_ms,
            "public_url": self.public_url,
            "host": now.host(),
            "http_port": self.http_port,
            "tls": self.is_tls,
            "homeserver": self.homeserver,
            "problems": problems,
            "http": self.http,
            "media": self.media,
            "candidates": candidates,
            "asks_for_external": self.asks_for_external,
            "login": self.origin,
            "rooms": rooms,
            "more_rooms": now.rooms.len().saturating_sub(MAX_ROOMS),
            "participants": now.census.participants,
            "audio": audio,
            "video": video,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    const SECRET: &str = "abcdefghijklmnopqrstuvwxyz012345";

    fn facts() -> Facts {
        let options = Options::from_yaml("", &format!("keys: {{APIx: {SECRET}}}"));
        let (config, _) = Config::from_options(&options, 2).unwrap();
        let warning = Warning {
            path: "domain".to_owned(),
            line: None,
            text: "known here only".to_owned(),
        };
        let http = ["0.0.0.0:7880".parse().unwrap()];
        let media = vec!["UDP 0.0.0.0:40000".to_owned()];
        Facts::new(&config, &[warning], &http, media, 5_000)
    }

    fn room(name: &str) -> Arc<livekit::Room> {
        Arc::new(livekit::Room {
            name: name.to_owned(),
            num_participants: 2,
            ..livekit::Room::default()
        })
    }

    #[test]
    fn names_of_rooms_are_told_as_they_are_and_the_secret_is_not() {
        let hostile = "</script><img src=x onerror=alert(1)>\"'\u{202e}\u{0}";
        let now = Now {
            rooms: vec![room(hostile)],
            census: hub::Census {
                participants: 2,
                published: [2, 1],
                ..hub::Census::default()
            },
            candidates: vec![
                (Proto::Udp, "[2001:db8::7]:40000".parse().unwrap()),
                (Proto::Udp, "192.0.2.1:40000".parse().unwrap()),
            ],
            is_well: true,
            at_ms: 6_000,
        };
        let told = facts().tell(&now);
        assert_eq!(told["rooms"][0]["name"], hostile);
        assert_eq!(told["rooms"][0]["participants"], 2);
        assert_eq!((&told["audio"], &told["video"]), (&json!(2), &json!(1)));
        assert_eq!(told["problems"], json!(["domain: known here only"]));
        assert_eq!(told["http_port"], 7880);
        assert_eq!(told["host"], "192.0.2.1");
        assert_eq!(
            told["candidates"],
            json!(["UDP [2001:db8::7]:40000", "UDP 192.0.2.1:40000"])
        );
        let text = told.to_string();
        assert!(!text.contains(SECRET) && !text.contains("APIx"), "{text}");
        // Key and secret are there for who asks for them.
        assert_eq!(facts().key.unwrap().1.reveal(), SECRET);
    }

    #[test]
    fn a_host_is_told_as_a_url_has_it() {
        let mut now = Now::default();
        assert_eq!(now.host(), None);
        now.candidates = vec![(Proto::Tcp, "[2001:db8::7]:7881".parse().unwrap())];
        assert_eq!(now.host().unwrap(), "[2001:db8::7]");
    }

    #[test]
    fn a_thousand_rooms_are_counted_and_not_all_listed() {
        let now = Now {
            rooms: (0..1000).map(|n| room(&n.to_string())).collect(),
            is_well: true,
            ..Now::default()
        };
        let told = facts().tell(&now);
        assert_eq!(told["rooms"].as_array().unwrap().len(), MAX_ROOMS);
        assert_eq!(told["more_rooms"], 1000 - MAX_ROOMS);
    }

    #[test]
    fn what_is_wrong_right_now_stands_beside_what_was_wrong_at_start() {
        let told = facts().tell(&Now::default());
        let problems = told["problems"].to_string();
        assert!(problems.contains("do not answer"), "{problems}");
        assert!(problems.contains("no address for media"), "{problems}");
        assert!(problems.contains("known here only"), "{problems}");
    }
}
