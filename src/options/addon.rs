//! The earlier LiveKit add-on's flat option names, as `/data/options.json` holds them.

use crate::options::Options;
use crate::options::yaml::{Fault, Node, Value};

/// The add-on's name of each option, and LiveKit's path.
const NAMES: &[(&str, &str)] = &[
    ("http_port", "port"),
    ("rtc_tcp_port", "rtc.tcp_port"),
    ("rtc_udp_port_min", "rtc.port_range_start"),
    ("rtc_udp_port_max", "rtc.port_range_end"),
    ("external_ip", "rtc.node_ip"),
    ("use_ice_lite", "rtc.use_ice_lite"),
    ("log_level", "logging.level"),
];

/// Options of the add-on's JSON.
pub fn read(origin: &str, text: &str) -> Options {
    let mut options = Options {
        origin: origin.to_owned(),
        ..Options::default()
    };
    let json: serde_json::Value = match serde_json::from_str(text) {
        Ok(json) => json,
        Err(error) => {
            options.unreadable = Some(Fault {
                line: Some(error.line() as u32),
                message: "this is no JSON".to_owned(),
            });
            return options;
        }
    };
    let tree = Node::from_json(&json);
    let typed = |name: &str| match tree.at(name).map(|node| &node.value) {
        Some(Value::Text { text, .. }) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    for (name, path) in NAMES {
        if let Some(value) = typed(name) {
            options.root.set(path, Node::text(&value));
            options.known_as.push((path, (*name).to_owned()));
        }
    }
    if typed("log_level").is_none() && typed("verbose").as_deref() == Some("true") {
        options.root.set("logging.level", Node::text("debug"));
    }
    if let (Some(key), Some(secret)) = (typed("api_key"), typed("api_secret")) {
        let entry = Node {
            line: 0,
            value: Value::Map(vec![(key, Node::text(&secret))]),
        };
        options.root.set("keys", entry);
    }
    options.known_as.push(("keys", "api_secret".to_owned()));
    for (name, _) in tree.entries() {
        if !NAMES.iter().any(|(known, _)| known == name)
            && !["api_key", "api_secret", "verbose"].contains(&name.as_str())
            && typed(name).is_some_and(|value| value != "false")
        {
            options
                .ignored
                .push((name.clone(), "this option has no effect yet"));
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_names_become_livekits_paths() {
        let options = read(
            "/data/options.json",
            r#"{"http_port": 8080, "rtc_udp_port_min": 1000, "rtc_udp_port_max": 1009, "external_ip": "",
                "api_key": "k", "api_secret": "0123", "verbose": true, "use_ssl": true, "turn_enabled": false}"#,
        );
        let text = |path| match &options.root.at(path)?.value {
            Value::Text { text, .. } => Some(text.as_str()),
            _ => None,
        };
        assert_eq!(text("port"), Some("8080"));
        assert_eq!(text("rtc.port_range_start"), Some("1000"));
        assert_eq!(text("rtc.node_ip"), None);
        assert_eq!(text("logging.level"), Some("debug"));
        assert_eq!(text("keys.k"), Some("0123"));
        let ignored: Vec<_> = options.ignored.iter().map(|(name, _)| name).collect();
        assert_eq!(ignored, ["use_ssl"]);
    }

    #[test]
    fn broken_json_names_its_line() {
        let options = read("x", "{\n\"a\": }\n");
        assert_eq!(options.unreadable.unwrap().line, Some(2));
    }
}
