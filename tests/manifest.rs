//! What makes the repository an app of Home Assistant, held together: manifest, options, translations, documentation,
//! versions, image. The rules are those of Supervisor 2026.08 (`supervisor/apps/{validate,options}.py`) and of the
//! app linter.

#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use clap::Parser;
use parlor::config::addon::NAMES;
use parlor::config::{Config, Login};
use parlor::options::cli::Cli;
use parlor::options::{source, yaml};
use parlor::secret::Secret;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn yaml(path: &str) -> Map<String, Value> {
    let tree = yaml::parse(&text(path)).unwrap().to_json();
    tree.as_object().unwrap().clone()
}

fn manifest() -> Map<String, Value> {
    yaml("config.yaml")
}

fn keys(map: &Value) -> BTreeSet<&str> {
    map.as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// Files of the repository without what is built and what Supervisor does not look into.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root().to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if !path.is_dir() {
                found.push(path);
            } else if !name.starts_with('.') && !["target", "node_modules"].contains(&name.as_str())
            {
                left.push(path);
            }
        }
    }
    found
}

/// Whether Supervisor takes a value for this type.
fn fits(kind: &str, value: &Value) -> bool {
    let kind = kind.strip_suffix('?').unwrap_or(kind);
    match (kind, value) {
        ("str" | "password", Value::String(_)) | ("bool", Value::Bool(_)) => true,
        ("port", Value::Number(number)) => number
            .as_u64()
            .is_some_and(|port| (1..=65_535).contains(&port)),
        (_, Value::String(text)) => kind
            .strip_prefix("list(")
            .and_then(|rest| rest.strip_suffix(')'))
            .is_some_and(|list| list.split('|').any(|member| member == text)),
        _ => false,
    }
}

#[test]
fn the_manifest_is_the_only_one() {
    let named = |stem: &str| {
        let mut found: Vec<_> = files()
            .into_iter()
            .filter(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                ["yaml", "yml", "json"]
                    .iter()
                    .any(|end| name == format!("{stem}.{end}"))
            })
            .map(|path| path.strip_prefix(root()).unwrap().display().to_string())
            .collect();
        found.sort();
        found
    };
    assert_eq!(named("config"), ["config.yaml"]);
    assert_eq!(named("build"), ["build.yaml"]);
    assert_eq!(named("repository"), ["repository.yaml"]);
    // Supervisor looks for these below .github too.
    for entry in fs::read_dir(root().join(".github/workflows")).unwrap() {
        let name = entry.unwrap().file_name();
        let stem = Path::new(&name)
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        assert!(
            !["build", "config", "repository"].contains(&stem.as_str()),
            "{stem}"
        );
    }
}

#[test]
fn its_entries_are_those_that_are_wanted() {
    let manifest = manifest();
    let known: BTreeSet<_> = [
        "name",
        "version",
        "slug",
        "description",
        "url",
        "image",
        "arch",
        "init",
        "host_network",
        "ingress",
        "ingress_port",
        "panel_icon",
        "stage",
        "timeout",
        "map",
        "options",
        "schema",
    ]
    .into();
    let names: BTreeSet<_> = manifest.keys().map(String::as_str).collect();
    assert_eq!(
        names, known,
        "no entry that is not needed, and none that has its default"
    );
    assert_eq!(manifest["slug"], "parlor");
    assert_eq!(manifest["arch"], serde_json::json!(["aarch64", "amd64"]));
    assert_eq!(manifest["init"], false, "s6 is process 1");
    assert_eq!(
        manifest["map"],
        serde_json::json!([{"type": "ssl"}]),
        "read only"
    );
    // Only for administrators, which is the default: there is no `panel_admin`.
    assert_eq!(manifest["ingress"], true);
    assert_eq!(
        manifest["ingress_port"], 0,
        "Supervisor chooses, and we ask it"
    );
    let image = manifest["image"].as_str().unwrap();
    assert!(
        !image.contains(':') && image == image.to_lowercase(),
        "{image}"
    );
    let description = manifest["description"].as_str().unwrap();
    assert!(
        text("Dockerfile").matches(description).count() == 2,
        "the labels say the same"
    );
}

#[test]
fn every_default_fits_and_nothing_must_be_typed() {
    let manifest = manifest();
    let schema = manifest["schema"].as_object().unwrap();
    for (name, kind) in schema {
        let kind = match kind {
            Value::Array(items) => {
                assert_eq!(items.len(), 1, "{name}");
                items[0].as_str().unwrap()
            }
            kind => kind.as_str().unwrap(),
        };
        // A save judges what was pasted alone, without the defaults.
        assert!(kind.ends_with('?'), "{name}: {kind}");
        // A refusal by Supervisor prints all options into its log, secrets too.
        let free = ["url", "email", "match", "str(", "password("];
        assert!(
            !free.iter().any(|bad| kind.starts_with(bad)),
            "{name}: {kind}"
        );
        let is_secret = ["password", "secret"]
            .iter()
            .any(|word| name.contains(word));
        assert_eq!(kind == "password?", is_secret, "{name}: {kind}");
    }
    for (name, value) in manifest["options"].as_object().unwrap() {
        let fitting = match (&schema[name], value) {
            (Value::Array(items), Value::Array(values)) => values
                .iter()
                .all(|value| fits(items[0].as_str().unwrap(), value)),
            (kind, value) => fits(kind.as_str().unwrap_or(""), value),
        };
        assert!(fitting, "{name}: {value}");
    }
    for (kind, value, fitting) in [
        ("port?", serde_json::json!(0), false),
        ("port?", serde_json::json!(65_535), true),
        ("str?", Value::Null, false),
        ("list(a|b)?", serde_json::json!("b"), true),
        ("list(a|b)?", serde_json::json!("a|b"), false),
    ] {
        assert_eq!(fits(kind, &value), fitting, "{kind} {value}");
    }
}

#[test]
fn the_same_options_everywhere() {
    let manifest = manifest();
    let schema = keys(&manifest["schema"]);
    assert_eq!(
        schema,
        NAMES.iter().copied().collect(),
        "the schema and the reader"
    );
    for language in ["en", "de", "fr", "es", "nl"] {
        let translation = yaml(&format!("translations/{language}.yaml"));
        let texts = &translation["configuration"];
        assert_eq!(keys(texts), schema, "{language}");
        for (name, entry) in texts.as_object().unwrap() {
            assert_eq!(
                keys(entry),
                BTreeSet::from(["description", "name"]),
                "{language}: {name}"
            );
            for text in entry.as_object().unwrap().values() {
                assert!(
                    text.as_str().is_some_and(|text| !text.is_empty()),
                    "{language}: {name}"
                );
            }
        }
    }
    let docs = text("DOCS.md");
    let headings: Vec<_> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    assert_eq!(
        headings, NAMES,
        "DOCS.md has a heading for each, in the order of the form"
    );
}

#[test]
fn the_manifests_defaults_are_those_of_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let load = |options: &Value| {
        let file = directory.path().join("options.json");
        fs::write(&file, options.to_string()).unwrap();
        let args = [
            "parlor",
            "--options",
            file.to_str().unwrap(),
            "--data",
            "/nowhere",
        ];
        let mut options = source::load(&Cli::parse_from(args).flags);
        options.addon.as_mut().unwrap().fresh = ("key".to_owned(), Secret::new(String::new()));
        let (config, warnings) = Config::from_options(&options, 4).unwrap();
        assert_eq!(warnings, []);
        config
    };
    let typed = load(&manifest()["options"]);
    assert_eq!(typed.app.as_ref().unwrap().login, Login::New);
    let left_out = load(&serde_json::json!({}));
    assert_eq!(format!("{typed:?}"), format!("{left_out:?}"));
    let sample: Value = serde_json::from_str(&text("tests/options/defaults.json")).unwrap();
    assert_eq!(sample, manifest()["options"]);
    load(&serde_json::from_str(&text("addon/options.example.json")).unwrap());
}

#[test]
fn versions_go_together() {
    let changes = text("CHANGELOG.md");
    let headings: Vec<_> = changes
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    for heading in &headings {
        let numbers: Vec<_> = heading.split('.').map(str::parse::<u32>).collect();
        assert!(
            numbers.len() == 3 && numbers.iter().all(Result::is_ok),
            "## {heading}"
        );
    }
    assert_eq!(
        headings[0],
        env!("CARGO_PKG_VERSION"),
        "what is told first is what is built"
    );
    // The release sets it last, when the image is there.
    let manifest = manifest();
    let offered = manifest["version"].as_str().unwrap();
    assert!(
        headings.contains(&offered),
        "{offered} is no version of CHANGELOG.md"
    );
}

#[test]
fn the_service_can_be_run() {
    let directory = root().join("rootfs/etc/s6-overlay/s6-rc.d");
    for name in ["run", "finish"] {
        let path = directory.join("parlor").join(name);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{name} is executable");
        assert!(
            fs::read_to_string(&path)
                .unwrap()
                .starts_with("#!/command/with-contenv sh\n")
        );
    }
    let run = fs::read_to_string(directory.join("parlor/run")).unwrap();
    let commands: Vec<_> = run.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        commands,
        ["exec /usr/bin/parlor --options /data/options.json"]
    );
    let finish = fs::read_to_string(directory.join("parlor/finish")).unwrap();
    for line in finish
        .lines()
        .filter(|line| line.contains("echo") || line.contains("printf"))
    {
        assert!(
            line.ends_with(">\"$results\""),
            "the panel belongs to Parlor: {line}"
        );
    }
    assert_eq!(
        fs::read_to_string(directory.join("parlor/type")).unwrap(),
        "longrun\n"
    );
    for name in ["parlor/dependencies.d/base", "user/contents.d/parlor"] {
        assert!(directory.join(name).exists(), "{name}");
    }
}

#[test]
fn image_and_profile_belong_to_the_manifest() {
    let manifest = manifest();
    let dockerfile = text("Dockerfile");
    let base = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("ARG BUILD_FROM="))
        .unwrap();
    let build = yaml("build.yaml");
    for arch in manifest["arch"].as_array().unwrap() {
        assert_eq!(build["build_from"][arch.as_str().unwrap()], base, "{arch}");
    }
    assert!(dockerfile.contains("ENV S6_VERBOSITY=1\n"));
    assert!(dockerfile.contains("CMD [\"/usr/bin/parlor\", \"healthcheck\""));
    let profile = text("apparmor.txt");
    let names: Vec<_> = profile
        .lines()
        .filter(|line| line.starts_with("profile "))
        .collect();
    assert_eq!(names.len(), 1, "Supervisor takes one profile");
    assert!(names[0].starts_with(&format!("profile {} ", manifest["slug"].as_str().unwrap())));
    assert!(
        profile.contains("    /run/parlor/** rw,\n"),
        "the health check's socket"
    );
    assert!(yaml("repository.yaml")["name"].is_string());
}

#[test]
fn pictures_have_their_sizes() {
    for (name, width, height) in [("icon.png", 128, 128), ("logo.png", 250, 100)] {
        let bytes = fs::read(root().join(name)).unwrap();
        assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n", "{name}");
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((number(16), number(20)), (width, height), "{name}");
    }
}
