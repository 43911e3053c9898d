//! Typed reading of single options: what cannot be read becomes a problem, and the default takes its place so that
//! the next option is looked at too.

use crate::config::problem::Findings;
use crate::options::duration;
use crate::options::yaml::{Node, Value};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A tree of options and what was found in it so far.
pub(crate) struct Reader<'a> {
    pub(crate) root: &'a Node,
    pub(crate) found: Findings,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(root: &'a Node) -> Self {
        Self {
            root,
            found: Findings::default(),
        }
    }

    /// The text at a path and its line; `None` where there is none or an empty one.
    pub(crate) fn text(&mut self, path: &str) -> Option<(&'a str, u32)> {
        let node = self.root.at(path)?;
        self.text_of(path, node)
    }

    /// The text of a node that stands at `path`.
    pub(crate) fn text_of(&mut self, path: &str, node: &'a Node) -> Option<(&'a str, u32)> {
        match &node.value {
            Value::Text { text, .. } => {
                let text = text.trim();
                (!text.is_empty()).then_some((text, node.line))
            }
            Value::Null => None,
            Value::List(_) | Value::Map(_) => {
                self.found.problem(
                    path,
                    node.line,
                    "this wants a single value",
                    "type one value without dashes or braces",
                );
                None
            }
        }
    }

    pub(crate) fn boolean(&mut self, path: &str, default: bool) -> bool {
        let Some((text, line)) = self.text(path) else {
            return default;
        };
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => true,
            "false" | "no" | "off" | "0" => false,
            _ => {
                self.found.problem(
                    path,
                    line,
                    format!("{text:?} is neither true nor false"),
                    format!("type {default}, which is the default, or {}", !default),
                );
                default
            }
        }
    }

    /// A whole number within a range; `None` where there is none.
    pub(crate) fn number(&mut self, path: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let (text, line) = self.text(path)?;
        let number = text.replace('_', "").parse().ok();
        let within = number.filter(|number| range.contains(number));
        if within.is_none() {
            self.found.problem(
                path,
                line,
                format!("{text:?} is no whole number of this range"),
                format!("type a number from {} to {}", range.start(), range.end()),
            );
        }
        within
    }

    /// A 32-bit number or its default.
    pub(crate) fn count(&mut self, path: &str, default: u32) -> u32 {
        self.number(path, 0..=u64::from(u32::MAX))
            .map_or(default, |number| number as u32)
    }

    /// A port; `None` where there is none or where it is 0, which stands for "off".
    pub(crate) fn port(&mut self, path: &str) -> Option<u16> {
        let (text, line) = self.text(path)?;
        let port = text.parse::<u16>().ok();
        if port.is_none() {
            self.found.problem(
                path,
                line,
                format!("{text:?} is no port"),
                "type a number from 1 to 65535",
            );
        }
        port.filter(|port| *port > 0)
    }

    pub(crate) fn duration(&mut self, path: &str, default: Duration) -> Duration {
        let Some((text, line)) = self.text(path) else {
            return default;
        };
        duration::parse(text).unwrap_or_else(|| {
            self.found.problem(
                path,
                line,
                format!("{text:?} is no duration"),
                format!(
                    "type seconds, or a text such as 90s or 5m; the default is {}",
                    default.as_secs()
                ),
            );
            default
        })
    }

    /// The texts of a list, with their paths (`a.b[0]`) and lines; empty ones are left out. A single text is a list.
    pub(crate) fn list(&mut self, path: &str) -> Vec<(String, &'a str, u32)> {
        self.items(path)
            .into_iter()
            .filter_map(|(path, node)| {
                let (text, line) = self.text_of(&path, node)?;
                Some((path, text, line))
            })
            .collect()
    }

    /// The items of a list, with their paths.
    pub(crate) fn items(&mut self, path: &str) -> Vec<(String, &'a Node)> {
        let Some(node) = self.root.at(path) else {
            return Vec::new();
        };
        match &node.value {
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| (format!("{path}[{index}]"), item))
                .collect(),
            Value::Text { text, .. } if text.trim().is_empty() => Vec::new(),
            Value::Text { .. } => vec![(path.to_owned(), node)],
            Value::Map(_) | Value::Null => {
                self.found.problem(
                    path,
                    node.line,
                    "this wants a list",
                    "type each item on a line of its own after a dash and a space",
                );
                Vec::new()
            }
        }
    }

    /// An IP address out of a text.
    pub(crate) fn address(&mut self, path: &str, text: &str, line: u32) -> Option<IpAddr> {
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
            .unwrap_or(text);
        let address = bare.parse().ok();
        if address.is_none() {
            let fault = format!("{text:?} is no IP address");
            self.found.problem(
                path,
                line,
                fault,
                "type an address such as 192.168.1.5 or fd00::5, without a port",
            );
        }
        address
    }
}
