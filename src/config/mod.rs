//! The truth after validation. Every module takes its own section.
//!
//! Two readers make it: the add-on's flat options and LiveKit's `livekit.yaml` (both in [`crate::options`]).
//! [`Config::from_options`] tells all problems at once.

pub mod addon;
pub mod certificate;
pub mod cidr;
mod keys;
mod network;
pub mod problem;
mod read;
mod reporting;
mod room;
#[cfg(test)]
mod tests;

pub(crate) use reporting::checked as webhook_url;

use crate::config::cidr::Cidr;
use crate::config::problem::{Findings, Problem, Warning};
use crate::config::read::Reader;
use crate::options::addon::Hass;
use crate::options::yaml::Value;
use crate::options::{Options, livekit};
use crate::plan::IceServer;
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that was decided at start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The HTTP listener.
    pub http: Http,
    /// Media sockets and addresses.
    pub rtc: Rtc,
    /// API keys in the order of the file; the first one signs what no client's key applies to.
    pub keys: Keys,
    /// Rooms.
    pub room: Room,
    /// Limits.
    pub limits: Limits,
    /// Webhooks.
    pub webhook: Webhook,
    /// The listener for Prometheus; `None`: there is none.
    pub prometheus: Option<Prometheus>,
    /// The log.
    pub log: Log,
    /// `--dev`.
    pub development: bool,
    /// Where people reach the server from outside.
    pub public: Public,
    /// What only the Home Assistant app has; `None`: this is no app.
    pub app: Option<App>,
}

impl Config {
    /// The truth about `options` on a machine with this many cores, or everything that is wrong with them.
    pub fn from_options(
        options: &Options,
        cores: usize,
    ) -> Result<(Self, Vec<Warning>), Vec<Problem>> {
        let mut reader = Reader::new(&options.root);
        if let Some(fault) = &options.unreadable {
            reader.found.problem(
                &options.origin,
                fault.line.unwrap_or(0),
                fault.message.clone(),
                match (&options.addon, fault.line) {
                    (Some(_), _) => {
                        "save the app's configuration and start it again: Home Assistant then writes this file anew"
                    }
                    (None, Some(_)) => "look at this line and the one above it",
                    (None, None) => "type the path of a readable file",
                },
            );
            return Err(reader.found.problems);
        }
        let development = reader.boolean("development", false);
        let bind = network::bind(&mut reader, development);
        if let Some(addon) = &options.addon {
            let (config, found) = addon::config(options, addon, &bind, cores);
            reader.found.problems.extend(found.problems);
            return if reader.found.problems.is_empty() {
                Ok((config, found.warnings))
            } else {
                Err(reader.found.problems)
            };
        }
        let http = network::http(&mut reader, &bind);
        let rtc = network::rtc(&mut reader, &bind, &options.files, cores, development);
        network::check_ports(&mut reader, &http, &rtc);
        let keys = keys::keys(&mut reader, options, development);
        let config = Self {
            webhook: reporting::webhook(&mut reader, &keys),
            prometheus: reporting::prometheus(&mut reader, &http, &rtc),
            http,
            rtc,
            keys,
            room: room::room(&mut reader),
            limits: room::limits(&mut reader),
            log: log(&mut reader),
            development,
            public: Public::default(),
            app: None,
        };
        let mut found = reader.found;
        warn_of_what_has_no_effect(&mut found, options);
        for path in found
            .problems
            .iter_mut()
            .map(|problem| &mut problem.path)
            .chain(found.warnings.iter_mut().map(|warning| &mut warning.path))
        {
            *path = known_as(options, path);
        }
        if found.problems.is_empty() {
            Ok((config, found.warnings))
        } else {
            Err(found.problems)
        }
    }

    /// What an app's options ask for as far as they can be read, with problems or without: to look at its ports even so.
    pub(crate) fn draft(options: &Options, cores: usize) -> Option<Self> {
        let addon = options.addon.as_ref()?;
        if options.unreadable.is_some() {
            return None;
        }
        let bind = network::bind(&mut Reader::new(&options.root), false);
        let (config, _) = addon::config(options, addon, &bind, cores);
        Some(config)
    }
}

/// The name under which the user typed the option at `path`.
fn known_as(options: &Options, path: &str) -> String {
    let name = options.known_as.iter().rev().find_map(|(ours, theirs)| {
        let rest = path.strip_prefix(ours)?;
        (rest.is_empty() || rest.starts_with(['.', '['])).then_some(theirs)
    });
    name.map_or_else(|| path.to_owned(), Clone::clone)
}

fn warn_of_what_has_no_effect(found: &mut Findings, options: &Options) {
    for unknown in livekit::unknown_keys(&options.root) {
        found.warning(
            &unknown.path,
            unknown.line,
            "LiveKit has no such option; it is left out",
        );
    }
    for (name, reason) in &options.ignored {
        found.warning(name, 0, *reason);
    }
    for (path, quiet, text) in [
        (
            "redis.address",
            "",
            "this server works alone, without Redis",
        ),
        (
            "turn.enabled",
            "false",
            "there is no TURN server in here; name one under rtc.turn_servers",
        ),
    ] {
        let Some(node) = options.root.at(path) else {
            continue;
        };
        let asked = match &node.value {
            Value::Text { text, .. } => !text.is_empty() && text != quiet,
            Value::List(items) => !items.is_empty(),
            Value::Map(_) | Value::Null => false,
        };
        if asked {
            found.warning(path, node.line, text);
        }
    }
}

fn log(reader: &mut Reader<'_>) -> Log {
    let default = Log::default();
    let path = match reader.text("logging.level") {
        Some(_) => "logging.level",
        None => "log_level",
    };
    let level = match reader.text(path) {
        None => default.level,
        Some((text, line)) => level(text).unwrap_or_else(|| {
            reader.found.problem(
                path,
                line,
                format!("{text:?} is no level"),
                "type error, warn, info, debug or trace",
            );
            default.level
        }),
    };
    Log {
        level,
        json: reader.boolean("logging.json", default.json),
        colour: None,
    }
}

/// A level by any of its names.
fn level(text: &str) -> Option<tracing::Level> {
    Some(match text.to_ascii_lowercase().as_str() {
        "trace" => tracing::Level::TRACE,
        "debug" => tracing::Level::DEBUG,
        "info" | "notice" => tracing::Level::INFO,
        "warn" | "warning" => tracing::Level::WARN,
        "error" | "fatal" | "panic" => tracing::Level::ERROR,
        _ => return None,
    })
}

/// The HTTP listener.
#[derive(Debug, Clone, Default)]
pub struct Http {
    /// Port for everything HTTP.
    pub port: u16,
    /// Addresses to bind; empty: all, v6 and v4.
    pub bind: Vec<IpAddr>,
    /// The certificate's files, when the listener itself does TLS.
    pub tls: Option<Tls>,
    /// Whose `X-Forwarded-*` is believed, beside this machine's own.
    pub trusted_proxies: Vec<Cidr>,
}

/// A certificate and its key, both PEM; they belong together, or were so at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The name that people ask for: a certificate for others takes the place of none that has it. `None`: any.
    pub host: Option<String>,
}

/// Where people reach the server from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Public {
    /// The name, in lower case.
    pub domain: Option<String>,
    /// `https://calls.example.org`, without a slash at its end; `None`: under the `Host` of each request.
    pub url: Option<String>,
}

/// What only the Home Assistant app has.
#[derive(Debug, Clone)]
pub struct App {
    /// Where it keeps its own files, each by write and rename.
    pub data: PathBuf,
    /// Where the API key comes from.
    pub login: Login,
    /// The Matrix homeserver, without a slash at its end.
    pub homeserver: Option<String>,
    /// How Home Assistant's Supervisor is asked; `None`: it does not run us.
    pub hass: Option<Hass>,
}

/// Where the app's API key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// The user has typed it.
    Typed,
    /// An earlier start made it and kept it in `data`.
    Kept,
    /// It was made just now and is to be kept.
    New,
}

/// Media sockets and addresses.
#[derive(Debug, Clone)]
pub struct Rtc {
    /// One UDP port per worker, at most one worker per core is started.
    pub udp_ports: Vec<u16>,
    /// More ports of the same range, to take where one of `udp_ports` is taken; taken ports are passed over even when
    /// this is empty. `None`: every port of `udp_ports` is meant, and one that is taken ends the start.
    pub udp_spares: Option<Vec<u16>>,
    /// ICE-TCP; `None`: off.
    pub tcp_port: Option<u16>,
    /// Addresses that media sockets bind; empty: wildcard per family.
    pub bind: Vec<IpAddr>,
    /// Addresses that clients are told instead of what the interfaces have; at most one per family.
    pub node_ip: Vec<IpAddr>,
    /// Addresses that clients are told beside what the interfaces have: a router's in front.
    pub external_ips: Vec<IpAddr>,
    /// Ask `stun_servers` for our public address.
    pub use_external_ip: bool,
    /// Send no ICE checks of our own.
    pub use_ice_lite: bool,
    /// Offer TCP candidates only.
    pub force_tcp: bool,
    /// CIDRs to include (empty: all) and to leave out.
    pub ips: Filter,
    /// Interface names to include (empty: all) and to leave out.
    pub interfaces: Filter,
    /// Offer 127.0.0.1 and ::1 too.
    pub enable_loopback_candidate: bool,
    /// `host:port` of STUN servers for our own address.
    pub stun_servers: Vec<String>,
    /// Servers that clients are told of.
    pub ice_servers: Vec<IceServer>,
}

/// Names or CIDRs to take and to leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Take only these; empty: all.
    pub includes: Vec<String>,
    /// Leave these.
    pub excludes: Vec<String>,
}

/// API keys and their secrets.
#[derive(Debug, Clone, Default)]
pub struct Keys(pub Vec<(String, Secret<String>)>);

impl Keys {
    /// The secret of a key.
    pub fn secret(&self, key: &str) -> Option<&Secret<String>> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, secret)| secret)
    }
}

/// Defaults of rooms.
#[derive(Debug, Clone)]
pub struct Room {
    /// A join creates its room.
    pub auto_create: bool,
    /// 0: no limit.
    pub max_participants: u32,
    /// A room that nobody joined lives this long.
    pub empty_timeout: Duration,
    /// A room that the last participant left lives this long.
    pub departure_timeout: Duration,
    /// MIME types that may be published, in order.
    pub enabled_codecs: Vec<String>,
    /// Audio and video of a participant in one media stream.
    pub sync_streams: bool,
    /// What receivers of video are to delay it, at least and at most; `None`: as they like.
    pub playout_delay: Option<(Duration, Duration)>,
    /// Data tracks may be published.
    pub enable_data_tracks: bool,
    /// Participants may leave data blobs for each other.
    pub enable_participant_data_blob: bool,
    /// Remote unmute by the room API.
    pub enable_remote_unmute: bool,
    /// Webhooks of tracks carry all of the room instead of its SID and name.
    pub enable_full_room_in_webhooks: bool,
    /// Named presets, as JSON of `RoomConfiguration`.
    pub presets: BTreeMap<String, serde_json::Value>,
}

/// Limits; 0 means none where a number is plain.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Tracks published on this node.
    pub num_tracks: u32,
    /// Bytes a second of this node.
    pub bytes_per_sec: f32,
    /// Video subscriptions of one participant.
    pub subscription_limit_video: u32,
    /// Audio subscriptions of one participant.
    pub subscription_limit_audio: u32,
    /// Bytes of room or participant metadata.
    pub max_metadata_size: usize,
    /// Bytes of all attributes of a participant, keys and values.
    pub max_attributes_size: usize,
    /// Characters of a room's name.
    pub max_room_name_length: usize,
    /// Characters of an identity.
    pub max_participant_identity_length: usize,
    /// Characters of a participant's name.
    pub max_participant_name_length: usize,
    /// Bytes of a data blob's key.
    pub max_data_blob_key_length: usize,
    /// Bytes of all data blobs of a participant, keys and contents.
    pub max_data_blobs_size: usize,
    /// Bytes of one signalling message, inflated.
    pub signal_message_size: usize,
    /// Bytes of one message of an agent's worker.
    pub agent_message_size: usize,
}

/// Webhooks: what is told to whom, signed by which key.
#[derive(Debug, Clone, Default)]
pub struct Webhook {
    /// The key and its secret; there is one where there are `urls`.
    pub signer: Option<(String, Secret<String>)>,
    /// Receivers, `http` or `https`, each once.
    pub urls: Vec<String>,
    /// Only these events; empty: all but `exclude_events`.
    pub include_events: Vec<String>,
    /// Not these events, where `include_events` is empty.
    pub exclude_events: Vec<String>,
    /// An event that could not be delivered for this long is given up.
    pub max_age: Duration,
    /// Events of one room that wait for one receiver; the oldest gives way.
    pub max_depth: usize,
}

/// The listener for Prometheus.
#[derive(Debug, Clone)]
pub struct Prometheus {
    /// Its own port, on the addresses of [`Http::bind`].
    pub port: u16,
    /// Name and password that are asked for.
    pub login: Option<(String, Secret<String>)>,
}

/// The log.
#[derive(Debug, Clone)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: tracing::Level,
    /// One JSON object a line instead of text.
    pub json: bool,
    /// Colours; `None`: on a terminal.
    pub colour: Option<bool>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            auto_create: true,
            max_participants: 0,
            empty_timeout: Duration::from_secs(300),
            departure_timeout: Duration::from_secs(20),
            enabled_codecs: [
                "audio/PCMU",
                "audio/PCMA",
                "audio/opus",
                "audio/red",
                "video/VP8",
                "video/H264",
                "video/VP9",
                "video/AV1",
                "video/H265",
                "video/rtx",
            ]
            .map(str::to_owned)
            .to_vec(),
            sync_streams: false,
            playout_delay: None,
            enable_data_tracks: true,
            enable_participant_data_blob: false,
            enable_remote_unmute: false,
            enable_full_room_in_webhooks: false,
            presets: BTreeMap::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            num_tracks: 0,
            bytes_per_sec: 0.0,
            subscription_limit_video: 0,
            subscription_limit_audio: 0,
            max_metadata_size: 512 * 1024,
            max_attributes_size: 64 * 1024,
            max_room_name_length: 256,
            max_participant_identity_length: 256,
            max_participant_name_length: 256,
            max_data_blob_key_length: 256,
            max_data_blobs_size: 64_000,
            signal_message_size: 2 * 1024 * 1024,
            agent_message_size: 2 * 1024 * 1024,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: tracing::Level::INFO,
            json: false,
            colour: None,
        }
    }
}
