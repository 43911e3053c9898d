//! What the Home Assistant app reads: the flat options of `/data/options.json`, named as the earlier LiveKit add-on
//! named them, and what belongs to them in `/data` and `/ssl`.
//!
//! Driven by [`crate::options::source`]. Plain data: [`crate::config`] decides what it means.

use crate::options::Options;
use crate::options::yaml::Fault;
use crate::secret::Secret;
use serde_json::{Map, Value};
use std::fmt;
use std::path::PathBuf;

/// An API key and its secret.
pub type Pair = (String, Secret<String>);

/// The app's options and what stands beside them.
#[derive(Clone)]
pub struct Addon {
    /// Names and values, as Home Assistant's Supervisor wrote them.
    pub map: Map<String, Value>,
    /// Where the app keeps its own files: `/data`.
    pub data: PathBuf,
    /// Where certificates are: `/ssl`.
    pub ssl: PathBuf,
    /// The pair that an earlier start made and kept in `data`, or why it cannot be read.
    pub kept: Result<Option<Pair>, String>,
    /// A pair made just now, for when there is none.
    pub fresh: Pair,
    /// The wall clock at start, in seconds since 1970.
    pub now: u64,
    /// Whether Home Assistant's Supervisor runs us: then the log goes to its panel.
    pub is_managed: bool,
    /// How it is asked; `None`: there is none, or it gave no token.
    pub hass: Option<Hass>,
}

/// Home Assistant's Supervisor as its environment describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hass {
    /// Where its API is, without a slash at the end.
    pub url: String,
    /// What we are known by; another one at each start.
    pub token: Secret<String>,
}

impl fmt::Debug for Addon {
    /// Values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addon")
            .field("names", &self.map.keys().collect::<Vec<_>>())
            .field("data", &self.data)
            .field("ssl", &self.ssl)
            .finish_non_exhaustive()
    }
}

impl Addon {
    /// The name of the file in `data` that holds the pair.
    pub const KEPT: &str = "keys.json";

    /// The text at a name; `None` where there is none, an empty one, or something else.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.map
            .get(name)?
            .as_str()
            .map(str::trim)
            .filter(|text| !text.is_empty())
    }

    /// The path of a file in `/ssl` that an option names; `/ssl/x.pem` counts as `x.pem`.
    pub fn ssl_path(&self, name: &str) -> PathBuf {
        self.ssl.join(Self::ssl_name(name))
    }

    /// The same without the directory.
    pub fn ssl_name(name: &str) -> &str {
        name.strip_prefix("/ssl/").unwrap_or(name)
    }

    /// Files that the options name: certificate and key, when TLS is asked for.
    pub fn files(&self) -> Vec<PathBuf> {
        if self.map.get("use_ssl") != Some(&Value::Bool(true)) {
            return Vec::new();
        }
        [("cert_file", CERTIFICATE), ("pkey_file", KEY)]
            .into_iter()
            .map(|(name, default)| self.text(name).unwrap_or(default))
            .filter(|name| is_below(name))
            .map(|name| self.ssl_path(name))
            .collect()
    }
}

/// What Home Assistant's Let's Encrypt app writes: certificate and key.
pub const CERTIFICATE: &str = "fullchain.pem";
/// See [`CERTIFICATE`].
pub const KEY: &str = "privkey.pem";

/// Whether a name leads to a file below `/ssl` and not beside it.
pub fn is_below(name: &str) -> bool {
    let name = Addon::ssl_name(name);
    !name.starts_with('/') && name.split('/').all(|part| !part.is_empty() && part != "..")
}

/// The names and values of `options.json`, or why it cannot be understood.
pub fn parse(text: &str) -> Result<Map<String, Value>, Fault> {
    let fault = |line, message: String| Fault { line, message };
    if text.trim().is_empty() {
        return Err(fault(None, "the file is empty".to_owned()));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(fault(
            None,
            "this is JSON, but no list of options in braces".to_owned(),
        )),
        Err(error) => {
            let message = if error.is_eof() {
                "the file ends in the middle"
            } else {
                "this is no JSON"
            };
            let line = u32::try_from(error.line()).ok();
            Err(fault(line, message.to_owned()))
        }
    }
}

/// The kept pair out of its file.
pub fn parse_kept(text: &str) -> Option<Pair> {
    let map = parse(text).ok()?;
    let filled = |name: &str| {
        map.get(name)?
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    Some((filled("api_key")?, Secret::new(filled("api_secret")?)))
}

/// The text of that file.
pub fn write_kept(pair: &Pair) -> String {
    let (key, secret) = pair;
    let json = serde_json::json!({ "api_key": key, "api_secret": secret.reveal() });
    format!("{json:#}\n")
}

/// Options that hold an app's.
pub(super) fn options(origin: String, addon: Addon) -> Options {
    Options {
        origin,
        addon: Some(addon),
        ..Options::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_files_say_how_they_are_broken() {
        for (text, line, message) in [
            ("", None, "the file is empty"),
            (" \n", None, "the file is empty"),
            (
                "{\n\"api_secret\": \"hush",
                Some(2),
                "the file ends in the middle",
            ),
            ("{\n\"a\": }\n", Some(2), "this is no JSON"),
            ("domain: x\n", Some(1), "this is no JSON"),
            (
                "[1]",
                None,
                "this is JSON, but no list of options in braces",
            ),
        ] {
            let fault = parse(text).unwrap_err();
            assert_eq!(
                (fault.line, fault.message.as_str()),
                (line, message),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_kept_pair_is_read_as_it_was_written() {
        let pair = ("key".to_owned(), Secret::new("se\"cret".to_owned()));
        assert_eq!(parse_kept(&write_kept(&pair)), Some(pair));
        for broken in ["", "{}", "{\"api_key\": \"a\", \"api_secret\": \"\"}", "[]"] {
            assert_eq!(parse_kept(broken), None, "{broken}");
        }
    }

    #[test]
    fn only_names_below_ssl_are_followed() {
        for name in ["x.pem", "/ssl/x.pem", "sub/x.pem"] {
            assert!(is_below(name), "{name}");
        }
        for name in [
            "../x.pem",
            "sub/../../x.pem",
            "/etc/x.pem",
            "/ssl/../x.pem",
            "/ssl//etc/x",
            "a//b",
        ] {
            assert!(!is_below(name), "{name}");
        }
        assert_eq!(Addon::ssl_name("/ssl/x.pem"), "x.pem");
    }
}
