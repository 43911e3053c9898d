//! Reads files and the environment. Nothing else under `options` and `config` touches the system.

use crate::clock::Clock;
use crate::options::addon::{Addon, Hass};
use crate::options::cli::Flags;
use crate::options::yaml::{Fault, Value};
use crate::options::{File, Options, addon};
use crate::random::Random;
use crate::secret::Secret;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Where Home Assistant's Supervisor puts the add-on's options.
pub const ADDON_OPTIONS: &str = "/data/options.json";

/// Where Home Assistant's Supervisor answers its apps.
const SUPERVISOR: &str = "http://supervisor";

/// A configuration file is no larger.
const MAX_FILE: u64 = 4 << 20;

/// Everything that the user wrote. A file that cannot be read is a fault in the result, told with all others.
pub fn load(flags: &Flags) -> Options {
    let body = flags
        .config_body
        .as_ref()
        .filter(|body| !body.reveal().trim().is_empty());
    let mut options = if let Some(body) = body {
        Options::from_yaml("LIVEKIT_CONFIG", body.reveal())
    } else if let Some(path) = &flags.config {
        let origin = path.display().to_string();
        match read(path) {
            Ok((text, _)) => Options::from_yaml(&origin, &text),
            Err(reason) => unreadable(&origin, reason),
        }
    } else if let Some(path) = &flags.options {
        return app(flags, path);
    } else if !flags.dev && Path::new(ADDON_OPTIONS).exists() {
        return app(flags, Path::new(ADDON_OPTIONS));
    } else {
        Options::default()
    };
    options.apply_variables(variables());
    options.apply_flags(flags);
    for path in files_of(&options) {
        let read = read(Path::new(&path));
        options.files.insert(path, file(read));
    }
    options
}

/// What the user typed in the app's form. Variables of livekit-server mean nothing there, and of the flags `--bind`
/// only.
fn app(flags: &Flags, path: &Path) -> Options {
    let origin = path.display().to_string();
    let map = match read(path) {
        Ok((text, _)) => addon::parse(&text),
        Err(message) => Err(Fault {
            line: None,
            message,
        }),
    };
    let (map, fault) = match map {
        Ok(map) => (map, None),
        Err(fault) => (serde_json::Map::new(), Some(fault)),
    };
    let mut random = Random::system();
    let addon = Addon {
        map,
        data: flags.data.clone(),
        ssl: flags.ssl.clone(),
        kept: kept(&flags.data.join(Addon::KEPT)),
        fresh: (
            format!("API{}", random.text(12)),
            Secret::new(random.text(43)),
        ),
        now: Clock::System.unix_seconds(),
        is_managed: variables().any(|(name, _)| name == "SUPERVISOR_TOKEN"),
        hass: hass(variables()),
    };
    let paths = addon.files();
    let mut options = addon::options(origin, addon);
    options.unreadable = fault;
    for path in paths {
        let name = path.display().to_string();
        options.files.insert(name, file(read_pem(&path)));
    }
    let bind = Flags {
        bind: flags.bind.clone(),
        ..Flags::default()
    };
    options.apply_flags(&bind);
    options
}

/// Home Assistant's Supervisor, if it has started us.
fn hass(mut variables: impl Iterator<Item = (String, String)>) -> Option<Hass> {
    let (_, token) =
        variables.find(|(name, value)| name == "SUPERVISOR_TOKEN" && !value.is_empty())?;
    Some(Hass {
        url: SUPERVISOR.to_owned(),
        token: Secret::new(token),
    })
}

fn kept(path: &Path) -> Result<Option<addon::Pair>, String> {
    if !path.exists() {
        return Ok(None);
    }
    let (text, _) = read(path)?;
    addon::parse_kept(&text)
        .map(Some)
        .ok_or_else(|| "it holds no key and secret".to_owned())
}

fn file(read: Result<(String, u32), String>) -> File {
    match read {
        Ok((text, mode)) => File {
            text: Ok(Secret::new(text)),
            mode,
        },
        Err(reason) => File {
            text: Err(reason),
            mode: 0,
        },
    }
}

fn unreadable(origin: &str, message: String) -> Options {
    Options {
        origin: origin.to_owned(),
        unreadable: Some(Fault {
            line: None,
            message,
        }),
        ..Options::default()
    }
}

fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Paths of the files that the tree names.
fn files_of(options: &Options) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Text { text, .. } if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    let mut files: Vec<_> = options
        .root
        .at("key_file")
        .and_then(|node| text(&node.value))
        .into_iter()
        .collect();
    if let Some(Value::List(servers)) = options.root.at("rtc.turn_servers").map(|node| &node.value)
    {
        files.extend(
            servers
                .iter()
                .filter_map(|server| text(&server.at("secret_file")?.value)),
        );
    }
    files
}

/// The text of a file, cut off at [`MAX_FILE`], and its permission bits; or why there is none.
pub(crate) fn read(path: &Path) -> Result<(String, u32), String> {
    let (bytes, mode) = bytes(path)?;
    let text = String::from_utf8(bytes).map_err(|_| "it cannot be read: this is no text")?;
    Ok((text, mode))
}

/// The same of a file of PEM blocks, which are ASCII: other bytes may stand around them, or be all there is.
pub(crate) fn read_pem(path: &Path) -> Result<(String, u32), String> {
    bytes(path).map(|(bytes, mode)| (String::from_utf8_lossy(&bytes).into_owned(), mode))
}

fn bytes(path: &Path) -> Result<(Vec<u8>, u32), String> {
    let open = || {
        let file = fs::File::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok((bytes, mode))
    };
    open().map_err(|error: std::io::Error| format!("it cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::io::Write;

    fn flags(args: &[&str]) -> Flags {
        crate::options::cli::Cli::parse_from([&["parlor"], args].concat()).flags
    }

    #[test]
    fn the_files_that_a_configuration_names_are_read_with_it() {
        let mut keys = tempfile::NamedTempFile::new().unwrap();
        keys.write_all(b"a: b\n").unwrap();
        let mut main = tempfile::NamedTempFile::new().unwrap();
        let key_path = keys.path().to_str().unwrap().to_owned();
        write!(
            main,
            "key_file: {key_path}\nrtc:\n  turn_servers:\n    - secret_file: /nowhere/secret\n"
        )
        .unwrap();
        let options = load(&flags(&["--config", main.path().to_str().unwrap()]));
        let key_file = &options.files[&key_path];
        assert_eq!(key_file.text.as_ref().unwrap().reveal(), "a: b\n");
        assert_eq!(key_file.mode & 0o777, 0o600);
        assert!(options.files["/nowhere/secret"].text.is_err());
    }

    #[test]
    fn a_missing_file_is_a_fault_and_the_flags_still_count() {
        let options = load(&flags(&["--config", "/nowhere/livekit.yaml", "--dev"]));
        let fault = options.unreadable.unwrap();
        assert!(fault.message.contains("No such file"), "{fault}");
        assert!(options.root.at("development").is_some());
    }

    #[test]
    fn supervisor_is_there_when_it_gave_a_token() {
        let of = |list: &[(&str, &str)]| {
            hass(
                list.iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            )
        };
        assert_eq!(of(&[("HOME", "/")]), None);
        assert_eq!(of(&[("SUPERVISOR_TOKEN", "")]), None);
        let hass = of(&[("HOME", "/"), ("SUPERVISOR_TOKEN", "hush")]).unwrap();
        assert_eq!(hass.url, "http://supervisor");
        assert_eq!(hass.token.reveal(), "hush");
        assert!(!format!("{hass:?}").contains("hush"));
    }

    #[test]
    fn a_text_wins_over_a_file() {
        let options = load(&flags(&[
            "--config",
            "/nowhere",
            "--config-body",
            "port: 5",
        ]));
        assert_eq!(options.unreadable, None);
        assert_eq!(options.origin, "LIVEKIT_CONFIG");
    }
}
