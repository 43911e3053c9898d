//! What the user wrote, wherever it was written: `livekit.yaml`, the add-on's `options.json`, flags, environment.
//! Plain data without judgement; [`crate::config`] decides what it means.

pub mod addon;
pub mod cli;
pub mod duration;
pub mod livekit;
pub mod source;
pub mod yaml;

use crate::options::cli::Flags;
use crate::options::yaml::{Fault, Node, Value};
use std::collections::BTreeMap;

/// All of it in one tree with LiveKit's paths; flags win over variables, variables over the file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The file or variable that held most of it; empty when there was none.
    pub origin: String,
    /// The tree.
    pub root: Node,
    /// Why the text of `origin` could not be read, or its file; the tree holds flags and variables only.
    pub unreadable: Option<Fault>,
    /// `--keys`, as given: one `key: secret` a line.
    pub keys: Option<crate::secret::Secret<String>>,
    /// Paths that the user knows by another name: (`rtc.node_ip`, `--node-ip`).
    pub known_as: Vec<(&'static str, String)>,
    /// Flags, variables and keys that have no effect, with the reason.
    pub ignored: Vec<(String, &'static str)>,
    /// Files that the tree names (`key_file`, `secret_file`), by the path in the tree; certificate and key of the app.
    pub files: BTreeMap<String, File>,
    /// The options of the Home Assistant app; then the tree holds nothing but flags.
    pub addon: Option<addon::Addon>,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its text, or why it could not be read.
    pub text: Result<crate::secret::Secret<String>, String>,
    /// Permission bits.
    pub mode: u32,
}

impl Options {
    /// Options of a configuration text.
    pub fn from_yaml(origin: &str, text: &str) -> Self {
        let mut options = Self {
            origin: origin.to_owned(),
            ..Self::default()
        };
        match yaml::parse(text) {
            Ok(root) => options.root = root,
            Err(fault) => options.unreadable = Some(fault),
        }
        options
    }

    /// Applies variables of the environment: each `LIVEKIT_<PATH>` overrides its scalar.
    pub fn apply_variables(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in variables {
            if !name.starts_with("LIVEKIT_") || value.is_empty() {
                continue;
            }
            // Kubernetes gives every container LIVEKIT_PORT=tcp://10.0.0.1:80 when a service is called livekit.
            if OTHERS.contains(&name.as_str())
                || value.contains("://")
                || name.contains("_SERVICE_")
                || name.contains("_PORT_7")
            {
                continue;
            }
            match livekit::path_of_variable(&name) {
                Some(path) => self.root.set(&path, Node::text(&value)),
                None => self.ignored.push((name, "no option has this name")),
            }
        }
    }

    /// Applies flags.
    pub fn apply_flags(&mut self, flags: &Flags) {
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        for (path, flag, value) in [
            ("key_file", "--key-file", filled(&flags.key_file)),
            ("rtc.node_ip", "--node-ip", filled(&flags.node_ip)),
            ("rtc.udp_port", "--udp-port", filled(&flags.udp_port)),
            ("region", "--region", filled(&flags.region)),
            ("development", "--dev", flags.dev.then(|| "true".to_owned())),
        ] {
            if let Some(value) = value {
                self.root.set(path, Node::text(&value));
                self.known_as.push((path, flag.to_owned()));
            }
        }
        if filled(&flags.udp_port).is_some() {
            // A flag that a range of the file silently defeats would be no flag.
            for path in ["rtc.port_range_start", "rtc.port_range_end"] {
                self.root.set(path, Node::default());
            }
        }
        if !flags.bind.is_empty() {
            let list = flags.bind.iter().map(|address| Node::text(address));
            self.root.set(
                "bind_addresses",
                Node {
                    line: 0,
                    value: Value::List(list.collect()),
                },
            );
            self.known_as.push(("bind_addresses", "--bind".to_owned()));
        }
        if let Some(keys) = flags.keys.as_ref().filter(|keys| !keys.reveal().is_empty()) {
            self.keys = Some(keys.clone());
        }
        for flag in flags.ignored.given() {
            self.ignored
                .push((flag.to_owned(), "accepted, without effect"));
        }
    }
}

/// Variables that flags have, and those of programs that run beside a server.
const OTHERS: &[&str] = &[
    "LIVEKIT_API_KEY",
    "LIVEKIT_API_SECRET",
    "LIVEKIT_CONFIG",
    "LIVEKIT_FULL_ACCESS_HOMESERVERS",
    "LIVEKIT_INSECURE_SKIP_VERIFY_TLS",
    "LIVEKIT_JWT_BIND",
    "LIVEKIT_JWT_PORT",
    "LIVEKIT_KEY",
    "LIVEKIT_KEYS",
    "LIVEKIT_KEY_FILE",
    "LIVEKIT_KEY_FROM_FILE",
    "LIVEKIT_LOCAL_HOMESERVERS",
    "LIVEKIT_REGION",
    "LIVEKIT_SECRET",
    "LIVEKIT_SECRET_FROM_FILE",
    "LIVEKIT_TURN_CERT",
    "LIVEKIT_TURN_KEY",
    "LIVEKIT_URL",
    "LIVEKIT_WS_URL",
];

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn text(options: &Options, path: &str) -> Option<String> {
        match &options.root.at(path)?.value {
            Value::Text { text, .. } => Some(text.clone()),
            other => panic!("{other:?}"),
        }
    }

    fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn flags_win_over_variables_and_variables_over_the_file() {
        let mut options = Options::from_yaml(
            "livekit.yaml",
            "port: 1\nregion: a\nrtc: {node_ip: 10.0.0.1, port_range_start: 5, port_range_end: 6}\n",
        );
        options.apply_variables(variables(&[
            ("LIVEKIT_PORT", "2"),
            ("LIVEKIT_RTC_NODE_IP", "10.0.0.2"),
        ]));
        let cli = cli::Cli::parse_from(["parlor", "--node-ip", "10.0.0.3", "--udp-port", "9"]);
        options.apply_flags(&cli.flags);
        assert_eq!(text(&options, "port").as_deref(), Some("2"));
        assert_eq!(text(&options, "region").as_deref(), Some("a"));
        assert_eq!(text(&options, "rtc.node_ip").as_deref(), Some("10.0.0.3"));
        assert_eq!(text(&options, "rtc.udp_port").as_deref(), Some("9"));
        assert_eq!(text(&options, "rtc.port_range_start"), None);
    }

    #[test]
    fn unknown_variables_are_told_and_those_of_others_are_not() {
        let mut options = Options::default();
        options.apply_variables(variables(&[
            ("LIVEKIT_PROT", "2"),
            ("LIVEKIT_URL", "ws://x"),
            ("LIVEKIT_PORT", "tcp://10.0.0.1:80"),
            ("LIVEKIT_SERVICE_HOST", "10.0.0.1"),
            ("HOME", "/root"),
            ("LIVEKIT_ROOM_AUTO_CREATE", ""),
        ]));
        let names: Vec<_> = options.ignored.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["LIVEKIT_PROT"]);
        assert_eq!(options.root, Node::default());
    }

    #[test]
    fn a_text_that_is_no_yaml_keeps_its_fault() {
        let options = Options::from_yaml("livekit.yaml", "port: [1\nrtc: 2\n");
        assert_eq!(options.unreadable.unwrap().line, Some(2));
    }
}
