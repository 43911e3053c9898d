//! Fails when a module of `src` imports one that does not lie below it, when a pure module reaches for the system,
//! and when a file has a name that says nothing. The table is the one of ARCHITECTURE.md.

#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first; a module may import only from earlier rows.
const LAYERS: &[&[&str]] = &[
    &["clock", "ids", "random", "secret", "task", "units"],
    &["plan"],
    &["rtp", "stun"],
    &["options"],
    &["config"],
    &["protocol"],
    &["media", "negotiate", "tls", "turn"],
    &["room"],
    &["agent", "net", "webhook"],
    &["hub"],
    &["http"],
    &["hass", "metrics"],
    &["supervisor"],
    &["hostile", "lib", "main"],
];

/// Rows up to this module's are pure: no tasks, no sockets, no clock.
const LAST_PURE: &str = "room";

/// Files in pure rows that may: the first two are what the rest must go through, `plan` names types of channels.
const MAY_ASYNC: &[&str] = &["src/clock.rs", "src/task.rs"];
const MAY_NAME_CHANNELS: &[&str] = &["src/plan.rs"];

/// Files in pure rows that read the disk.
const MAY_READ_FILES: &[&str] = &["src/options/source.rs", "src/tls/load.rs"];

/// Names that hold anything and say nothing.
const BANNED_NAMES: &[&str] = &["common", "constants", "helpers", "types", "util", "utils"];

/// What pure code does not say.
const BANNED_WORDS: &[&str] = &[
    "tokio::",
    "async fn",
    "async move",
    "Instant::now()",
    "SystemTime::now()",
    "std::net::UdpSocket",
    "std::net::Tcp",
    "thread::spawn",
];

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The first part of the module's path: `media` for `src/media/io.rs`.
    fn top(&self) -> &str {
        let top = self.path.components().nth(1).unwrap();
        top.as_os_str().to_str().unwrap().trim_end_matches(".rs")
    }

    fn is_one_of(&self, paths: &[&str]) -> bool {
        paths.iter().any(|path| Path::new(path) == self.path)
    }

    /// Lines of code with their numbers; comments are left out, and with `tests == false` what follows the tests too.
    fn lines(&self, tests: bool) -> impl Iterator<Item = (usize, &str)> {
        let is_test_file =
            self.path.ends_with("tests.rs") || self.path.iter().any(|part| part == "tests");
        self.text
            .lines()
            .enumerate()
            .take_while(move |(_, line)| tests || *line != "mod tests {")
            .filter(move |_| tests || !is_test_file)
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(index, line)| (index + 1, line))
    }
}

fn rank() -> BTreeMap<&'static str, usize> {
    LAYERS
        .iter()
        .enumerate()
        .flat_map(|(rank, row)| row.iter().map(move |module| (*module, rank)))
        .collect()
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    walk(Path::new("src"), &mut found);
    assert!(found.len() > 30, "the walk found the sources");
    found
}

fn walk(dir: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push(Source { path, text });
        }
    }
}

/// Imports of `source` that do not point down.
fn wrong_imports(source: &Source, rank: &BTreeMap<&str, usize>) -> Vec<String> {
    let top = source.top();
    let Some(own) = rank.get(top) else {
        return vec![format!("{}: {top} has no layer", source.path.display())];
    };
    let mut wrong = Vec::new();
    for (number, line) in source.lines(true) {
        for tail in line.split("crate::").skip(1) {
            let at = format!("{}:{number}", source.path.display());
            if tail.starts_with('{') {
                wrong.push(format!("{at} one parent per `use`"));
            }
            let end = tail
                .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                .unwrap_or(tail.len());
            let target = &tail[..end];
            if target != top && rank.get(target).is_some_and(|other| other >= own) {
                wrong.push(format!("{at} {top} -> {target}"));
            }
        }
    }
    wrong
}

/// Words in `source` that pure code does not say.
fn impure_words(source: &Source) -> Vec<String> {
    if source.is_one_of(MAY_ASYNC) {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    for (number, line) in source.lines(false) {
        let at = format!("{}:{number}", source.path.display());
        let allowed = |word: &str| {
            word == "tokio::"
                && source.is_one_of(MAY_NAME_CHANNELS)
                && line.contains("tokio::sync::")
        };
        for word in BANNED_WORDS {
            if line.contains(word) && !allowed(word) {
                wrong.push(format!("{at} says {word}"));
            }
        }
        let reads_files = line.contains("std::fs") || line.contains("fs::read");
        if reads_files && !source.is_one_of(MAY_READ_FILES) {
            wrong.push(format!("{at} reads files"));
        }
    }
    wrong
}

#[test]
fn imports_point_down() {
    let rank = rank();
    let wrong: Vec<_> = sources()
        .iter()
        .flat_map(|source| wrong_imports(source, &rank))
        .collect();
    assert!(
        wrong.is_empty(),
        "upward or sideways imports:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn pure_rows_touch_nothing() {
    let rank = rank();
    let last = rank[LAST_PURE];
    let wrong: Vec<_> = sources()
        .iter()
        .filter(|source| rank.get(source.top()).is_some_and(|rank| *rank <= last))
        .flat_map(impure_words)
        .collect();
    assert!(
        wrong.is_empty(),
        "pure modules that are not:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_table_of_the_architecture_is_this_one() {
    let text = fs::read_to_string("ARCHITECTURE.md").unwrap();
    let told: Vec<Vec<&str>> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter(|(row, _)| row.parse::<u8>().is_ok())
        .map(|(_, rest)| rest.split('|').next().unwrap())
        .map(|modules| modules.split('`').skip(1).step_by(2).collect())
        .collect();
    let exists = |module: &&str| {
        let path = Path::new("src").join(module);
        path.is_dir() || path.with_extension("rs").is_file()
    };
    let held: Vec<Vec<&str>> = LAYERS
        .iter()
        .map(|row| row.iter().copied().filter(exists).collect::<Vec<_>>())
        .filter(|row| !row.is_empty() && !row.contains(&"main"))
        .collect();
    assert_eq!(told, held);
}

#[test]
fn file_names_say_what_is_inside() {
    let wrong: Vec<_> = sources()
        .into_iter()
        .flat_map(|source| {
            source
                .path
                .iter()
                .map(|part| part.to_string_lossy().trim_end_matches(".rs").to_owned())
                .collect::<Vec<_>>()
        })
        .filter(|name| BANNED_NAMES.contains(&name.as_str()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn the_checks_see_what_they_are_for() {
    let source = |path: &str, text: &str| Source {
        path: path.into(),
        text: text.to_owned(),
    };
    let rank = rank();
    for (path, line, count) in [
        ("src/media/a.rs", "use crate::net::Handle;", 1),
        ("src/media/a.rs", "use crate::negotiate::Offer;", 1),
        ("src/media/a.rs", "use crate::{ids, plan};", 1),
        (
            "src/media/a.rs",
            "fn f(x: crate::hub::Handle, y: crate::room::Room) {}",
            2,
        ),
        (
            "src/media/a.rs",
            "use crate::media::io; use crate::ids::Mid; // up",
            0,
        ),
        ("src/media/a.rs", "    // crate::net", 0),
        ("src/stray.rs", "", 1),
    ] {
        assert_eq!(
            wrong_imports(&source(path, line), &rank).len(),
            count,
            "{line}"
        );
    }
    for (path, text, count) in [
        ("src/room/a.rs", "let now = Instant::now();", 1),
        (
            "src/room/a.rs",
            "async fn f() { tokio::task::yield_now().await }",
            2,
        ),
        ("src/room/a.rs", "let text = std::fs::read(path);", 1),
        (
            "src/options/source.rs",
            "let text = std::fs::read(path);",
            0,
        ),
        ("src/plan.rs", "to: tokio::sync::oneshot::Sender<u8>", 0),
        ("src/plan.rs", "tokio::time::sleep(x)", 1),
        ("src/task.rs", "tokio::spawn(x)", 0),
        (
            "src/room/a.rs",
            "#[cfg(test)]\nmod tests {\n    let now = Instant::now();\n}",
            0,
        ),
        ("src/room/tests.rs", "let now = Instant::now();", 0),
    ] {
        assert_eq!(impure_words(&source(path, text)).len(), count, "{text}");
    }
}
