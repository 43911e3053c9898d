//! API keys: from `--keys`, `key_file`, or `keys`.

use crate::config::Keys;
use crate::config::read::Reader;
use crate::options::Options;
use crate::options::yaml::{self, Node, Value};
use crate::secret::Secret;

/// Characters of a secret, as LiveKit asks for (and only logs).
const MIN_SECRET: usize = 32;

const MAKE: &str = "run `parlor generate-keys` and type the line that it prints under keys:";

pub(crate) fn keys(reader: &mut Reader<'_>, options: &Options, development: bool) -> Keys {
    let before = reader.found.problems.len();
    let mut pairs = Vec::new();
    let mut origin = "keys";
    if let Some((name, line)) = reader.text("key_file") {
        origin = "key_file";
        match options.files.get(name) {
            Some(file) => match &file.text {
                Ok(text) => {
                    if file.mode & 0o007 != 0 {
                        reader.found.problem(
                            origin,
                            line,
                            format!("everybody on this machine may read {name}"),
                            format!("run `chmod o-rwx {name}`"),
                        );
                    }
                    match lines(text.reveal()) {
                        Ok(found) => pairs = found,
                        Err(at) => reader.found.problem(
                            origin,
                            line,
                            format!("line {at} of {name} is no key and secret"),
                            "write one `key: secret` a line",
                        ),
                    }
                }
                Err(reason) => reader.found.problem(
                    origin,
                    line,
                    format!("{name}: {reason}"),
                    "type the path of a readable file",
                ),
            },
            None => reader.found.problem(
                origin,
                line,
                format!("{name} was not read"),
                "type the path of a readable file",
            ),
        }
    } else if let Some(text) = &options.keys {
        origin = "--keys";
        match lines(text.reveal()) {
            Ok(found) => pairs = found,
            Err(at) => reader.found.problem(
                origin,
                0,
                format!("line {at} is no key and secret"),
                "type it as --keys \"key: secret\", or as LIVEKIT_KEYS with one pair a line",
            ),
        }
    } else if let Some(node) = reader.root.at("keys") {
        pairs = from_map(reader, node);
    }
    if !development {
        for (key, secret, line) in &pairs {
            let length = secret.reveal().chars().count();
            if length < MIN_SECRET {
                reader.found.problem(
                    &format!("{origin}.{key}"),
                    *line,
                    format!("the secret has {length} characters, fewer than {MIN_SECRET}"),
                    MAKE,
                );
            }
        }
    }
    if pairs.is_empty() && reader.found.problems.len() == before {
        if development {
            pairs.push(("devkey".to_owned(), Secret::new("secret".to_owned()), 0));
        } else {
            reader
                .found
                .problem("keys", 0, "there is no API key, so nobody could join", MAKE);
        }
    }
    Keys(
        pairs
            .into_iter()
            .map(|(key, secret, _)| (key, secret))
            .collect(),
    )
}

type Pair = (String, Secret<String>, u32);

fn from_map(reader: &mut Reader<'_>, node: &Node) -> Vec<Pair> {
    if !matches!(node.value, Value::Map(_)) {
        let blank = matches!(&node.value, Value::Text { text, .. } if text.trim().is_empty());
        if !blank {
            reader.found.problem(
                "keys",
                node.line,
                "this wants a map of keys and secrets",
                "type `key: secret` below it, indented by two blanks, with a blank after the colon",
            );
        }
        return Vec::new();
    }
    let mut pairs = Vec::new();
    for (key, value) in node.entries() {
        match pair(key, value) {
            Some(pair) => pairs.push(pair),
            None => reader.found.problem(
                &format!("keys.{key}"),
                value.line,
                "this key has no secret",
                MAKE,
            ),
        }
    }
    pairs
}

fn pair(key: &str, value: &Node) -> Option<Pair> {
    match &value.value {
        Value::Text { text, .. } if !text.trim().is_empty() && !key.trim().is_empty() => Some((
            key.trim().to_owned(),
            Secret::new(text.trim().to_owned()),
            value.line,
        )),
        _ => None,
    }
}

/// A YAML map, or lines `key: secret` whose blank may be missing. The error is the line's number in the text.
fn lines(text: &str) -> Result<Vec<Pair>, usize> {
    if let Ok(node) = yaml::parse(text)
        && matches!(node.value, Value::Map(_))
        && let Some(pairs) = node
            .entries()
            .iter()
            .map(|(key, value)| pair(key, value).map(|(key, secret, _)| (key, secret, 0)))
            .collect()
    {
        return Ok(pairs);
    }
    let bare = |text: &str| text.trim().trim_matches(['"', '\'']).trim().to_owned();
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .map(|(index, line)| {
            let (key, secret) = line.split_once(':').ok_or(index + 1)?;
            let (key, secret) = (bare(key), bare(secret));
            if key.is_empty() || secret.is_empty() {
                return Err(index + 1);
            }
            Ok((key, Secret::new(secret), 0))
        })
        .collect()
}
