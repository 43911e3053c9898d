//! YAML as a tree of texts with line numbers. [`parse`] is the only place that knows the YAML crate.
//!
//! A scalar keeps the text that was typed: a secret of digits stays a secret, `0123` stays `0123`. What a text
//! means (a port, a duration) is decided by who reads it, so that one wrong value hides no other.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::fmt;

/// Why a text is no YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Counted from 1; `None` when the parser does not say.
    pub line: Option<u32>,
    /// What the parser found, one line, without a piece of the text (there may be secrets in it).
    pub message: String,
}

/// A value and where it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Counted from 1; 0 when the value comes from no file.
    pub line: u32,
    /// The value.
    pub value: Value,
}

/// What stands there.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Value {
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the file.
    Map(Vec<(String, Node)>),
    /// Nothing, `null` or `~`.
    #[default]
    Null,
    /// Anything else.
    Text {
        /// As typed, without quotes.
        text: String,
        /// Typed without quotes: may mean a number or a boolean where nobody says what is wanted.
        plain: bool,
    },
}

impl fmt::Debug for Value {
    /// Texts may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(items) => f.debug_list().entries(items).finish(),
            Self::Map(entries) => f
                .debug_map()
                .entries(entries.iter().map(|(k, v)| (k, v)))
                .finish(),
            Self::Null => f.write_str("null"),
            Self::Text { .. } => f.write_str("…"),
        }
    }
}

impl Node {
    /// A text that comes from no file.
    pub fn text(text: &str) -> Self {
        Self {
            line: 0,
            value: Value::Text {
                text: text.to_owned(),
                plain: true,
            },
        }
    }

    /// The value at a path of map keys; `None` where something is missing, null, or no map on the way.
    pub fn at(&self, path: &str) -> Option<&Self> {
        let found = path.split('.').try_fold(self, |node, key| node.get(key))?;
        (found.value != Value::Null).then_some(found)
    }

    /// The value of a key of this map.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries()
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, node)| node)
    }

    /// The entries of this map; none if it is no map.
    pub fn entries(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::List(_) | Value::Null | Value::Text { .. } => &[],
        }
    }

    /// Puts a value at a path, making maps on the way. A scalar on the way is replaced.
    pub fn set(&mut self, path: &str, node: Self) {
        let Some((key, rest)) = path.split_once('.') else {
            *self.entry(path) = node;
            return;
        };
        self.entry(key).set(rest, node);
    }

    fn entry(&mut self, key: &str) -> &mut Self {
        if !matches!(self.value, Value::Map(_)) {
            self.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut self.value else {
            unreachable!("it was made a map just now")
        };
        let index = entries
            .iter()
            .position(|(name, _)| name == key)
            .unwrap_or_else(|| {
                entries.push((key.to_owned(), Self::default()));
                entries.len() - 1
            });
        &mut entries[index].1
    }

    /// The same as JSON; unquoted texts become booleans and numbers where they look like them.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => serde_json::Value::Object(
                entries
                    .iter()
                    .map(|(key, node)| (key.clone(), node.to_json()))
                    .collect(),
            ),
            Value::Null => serde_json::Value::Null,
            Value::Text { text, plain } => match serde_json::from_str(text) {
                Ok(value @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_)))
                    if *plain =>
                {
                    value
                }
                _ => serde_json::Value::String(text.clone()),
            },
        }
    }

    /// The tree of a JSON document.
    pub fn from_json(json: &serde_json::Value) -> Self {
        let value = match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => return Self::text(&value.to_string()),
            serde_json::Value::Number(value) => return Self::text(&value.to_string()),
            serde_json::Value::String(text) => Value::Text {
                text: text.clone(),
                plain: false,
            },
            serde_json::Value::Array(items) => {
                Value::List(items.iter().map(Self::from_json).collect())
            }
            serde_json::Value::Object(entries) => Value::Map(
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), Self::from_json(value)))
                    .collect(),
            ),
        };
        Self { line: 0, value }
    }
}

/// Reads one YAML document. An empty one is null.
pub fn parse(text: &str) -> Result<Node, Fault> {
    let meaningful = text.lines().any(|line| {
        let line = line.trim();
        !(line.is_empty() || line.starts_with('#') || line == "---")
    });
    if !meaningful {
        return Ok(Node::default());
    }
    let raw: Spanned<Raw> = serde_saphyr::from_str(text).map_err(|error| Fault {
        line: error.location().map(|at| at.line() as u32),
        message: first_line(&error.without_snippet().to_string()),
    })?;
    Ok(node(raw, text))
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim().to_owned()
}

/// What serde sees: numbers and booleans are looked up in the source by their span.
enum Raw {
    List(Vec<Spanned<Self>>),
    Map(Vec<(String, Spanned<Self>)>),
    Null,
    Plain(String),
    Text(String),
}

fn node(raw: Spanned<Raw>, source: &str) -> Node {
    let line = raw.defined.line() as u32;
    let span = raw.defined.span();
    let value = match raw.value {
        Raw::List(items) => Value::List(items.into_iter().map(|raw| node(raw, source)).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, raw)| (key, node(raw, source)))
                .collect(),
        ),
        Raw::Null => Value::Null,
        Raw::Plain(value) => Value::Text {
            text: span
                .byte_offset()
                .zip(span.byte_len())
                .and_then(|(start, len)| source.get(start as usize..(start + len) as usize))
                .map(|text| text.trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\''))
                .filter(|text| !text.is_empty())
                .map_or(value, str::to_owned),
            plain: true,
        },
        Raw::Text(text) => Value::Text { text, plain: false },
    };
    Node { line, value }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyShape)
    }
}

struct AnyShape;

impl<'de> Visitor<'de> for AnyShape {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key()? {
            map.push((key, entries.next_value()?));
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(node: &Node, path: &str) -> String {
        match &node.at(path).unwrap().value {
            Value::Text { text, .. } => text.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scalars_keep_what_was_typed() {
        let node = parse(
            "a: 0123\nb: 12345678901234567890123456789012345678901234567890\nc: yes\nd: 1e3\n\
             e: \"7 8\"\nf: plain words\ng: 1.50\nh: true # why\ni: &x 077\nj: *x\nk: {l: 0x10, m: [1_000]}\n\
             größe: 0010\n12: 0o17\n",
        )
        .unwrap();
        for (path, want) in [
            ("a", "0123"),
            ("b", "12345678901234567890123456789012345678901234567890"),
            ("c", "yes"),
            ("d", "1e3"),
            ("e", "7 8"),
            ("f", "plain words"),
            ("g", "1.50"),
            ("h", "true"),
            ("i", "077"),
            ("j", "077"),
            ("k.l", "0x10"),
            ("größe", "0010"),
            ("12", "0o17"),
        ] {
            assert_eq!(text(&node, path), want, "{path}");
        }
        let Value::List(items) = &node.at("k.m").unwrap().value else {
            panic!("no list")
        };
        assert_eq!(items.len(), 1);
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let node =
            parse("# head\nrtc:\n  # why\n  tcp_port: 1\n  ips:\n    includes:\n      - x\n")
                .unwrap();
        assert_eq!(node.at("rtc.tcp_port").unwrap().line, 4);
        let Value::List(items) = &node.at("rtc.ips.includes").unwrap().value else {
            panic!("no list")
        };
        assert_eq!(items[0].line, 7);
    }

    #[test]
    fn nothing_and_comments_are_null() {
        for text in ["", "\n\n", "# only\n", "---\n"] {
            assert_eq!(parse(text).unwrap().value, Value::Null, "{text:?}");
        }
        assert!(parse("a:\nb: ~\n").unwrap().at("a").is_none());
        assert!(parse("a:\nb: ~\n").unwrap().at("b").is_none());
    }

    #[test]
    fn faults_name_the_line_and_quote_nothing() {
        for (text, line) in [
            ("a: 1\nb: [1, 2\nc: 3\n", 3),
            ("a: 1\n  b: topsecret\n", 2),
            ("a: 1\nb: 2\na: 3\n", 3),
        ] {
            let fault = parse(text).unwrap_err();
            assert_eq!(fault.line, Some(line), "{text:?}: {fault:?}");
            assert!(!fault.message.contains("topsecret"), "{fault:?}");
            assert!(!fault.message.contains('\n'), "{fault:?}");
        }
    }

    #[test]
    fn set_makes_the_maps_on_the_way() {
        let mut node = parse("rtc:\n  tcp_port: 1\n").unwrap();
        node.set("rtc.tcp_port", Node::text("2"));
        node.set("room.playout_delay.min", Node::text("3"));
        assert_eq!(text(&node, "rtc.tcp_port"), "2");
        assert_eq!(text(&node, "room.playout_delay.min"), "3");
        assert_eq!(node.at("rtc").unwrap().entries().len(), 1);
    }

    #[test]
    fn json_guesses_types_only_of_unquoted_texts() {
        let node = parse("a: 10\nb: \"10\"\nc: [true, x, 1.5]\nd:\n").unwrap();
        assert_eq!(
            node.to_json(),
            serde_json::json!({"a": 10, "b": "10", "c": [true, "x", 1.5], "d": null})
        );
        assert_eq!(text(&Node::from_json(&node.to_json()), "a"), "10");
    }

    #[test]
    fn debug_output_shows_no_text() {
        assert!(!format!("{:?}", parse("keys: {a: hush}").unwrap()).contains("hush"));
    }
}
