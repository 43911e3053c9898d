//! Every options file of tests/options, read as the app reads it: the whole of what is said stands beside it as `.txt`.
//! What differs is written to the test's own directory, to be looked at and copied.

#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use aws_lc_rs::hmac;
use base64::Engine;
use clap::Parser;
use futures_util::StreamExt;
use parlor::clock::Clock;
use parlor::config::{Config, Login};
use parlor::options::Options;
use parlor::options::cli::Cli;
use parlor::options::source;
use parlor::plan::IceLogin;
use parlor::protocol::livekit::SignalResponse;
use parlor::protocol::livekit::signal_response::Message;
use prost::Message as _;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use tokio::net::TcpStream;

/// `/data` and `/ssl` of a test, with certificates of every kind.
struct Home {
    data: tempfile::TempDir,
    ssl: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self {
            data: tempfile::tempdir().unwrap(),
            ssl: tempfile::tempdir().unwrap(),
        };
        let key = KeyPair::generate().unwrap();
        let other = KeyPair::generate().unwrap();
        let chain = certificate(&key, 2020, 2100);
        for (name, text) in [
            ("fullchain.pem", chain.as_str()),
            ("privkey.pem", &private(&key)),
            ("expired.pem", &certificate(&key, 2020, 2021)),
            ("other-key.pem", &private(&other)),
            ("half.pem", &chain[..chain.len() / 2]),
            ("empty.pem", ""),
            (
                "locked.pem",
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            ),
        ] {
            fs::write(home.ssl.path().join(name), text).unwrap();
        }
        fs::write(home.ssl.path().join("binary.der"), b"\x30\x82\x01\xff").unwrap();
        fs::write(home.ssl.path().join("binary.key"), b"\x30\x82\x01\xff").unwrap();
        home
    }

    fn args(&self, file: &Path) -> Vec<String> {
        [
            "parlor",
            "--options",
            file.to_str().unwrap(),
            "--data",
            self.data.path().to_str().unwrap(),
            "--ssl",
            self.ssl.path().to_str().unwrap(),
            "--run",
            self.data.path().join("run").to_str().unwrap(),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn load(&self, file: &Path) -> Options {
        source::load(&Cli::parse_from(self.args(file)).flags)
    }

    /// What is said of a file, without the names of temporary directories.
    fn said(&self, file: &Path) -> String {
        let text = said(&self.load(file));
        text.replace(self.ssl.path().to_str().unwrap(), "/ssl")
            .replace(self.data.path().to_str().unwrap(), "/data")
            .replace(file.to_str().unwrap(), "/data/options.json")
    }

    fn command(&self, file: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parlor"));
        command.args(&self.args(file)[1..]).env_clear();
        command
    }

    fn run(&self, file: &Path) -> Output {
        self.command(file).output().unwrap()
    }
}

fn certificate(key: &KeyPair, from: i32, until: i32) -> String {
    let mut params = CertificateParams::new(vec!["calls.example.org".to_owned()]).unwrap();
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    pem("CERTIFICATE", params.self_signed(key).unwrap().der())
}

fn private(key: &KeyPair) -> String {
    pem("PRIVATE KEY", key.serialize_der())
}

fn pem(label: &str, der: impl AsRef<[u8]>) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// On a machine with two cores.
fn said(options: &Options) -> String {
    let mut text = String::new();
    match Config::from_options(options, 2) {
        Ok((config, warnings)) => {
            for warning in warnings {
                writeln!(text, "warning: {warning}").unwrap();
            }
            let url = config
                .public
                .url
                .as_deref()
                .unwrap_or("the Host of each request");
            writeln!(
                text,
                "starts: {url}, port {}, {:?}, UDP {:?}",
                config.http.port,
                config.app.unwrap().login,
                config.rtc.udp_ports
            )
            .unwrap();
            for server in config.rtc.ice_servers {
                let login = match server.login {
                    IceLogin::None => "no login",
                    IceLogin::Fixed { .. } => "a fixed login",
                    IceLogin::Rest { .. } => "a login for each client",
                };
                writeln!(
                    text,
                    "clients are told of {} with {login}",
                    server.urls.join(", ")
                )
                .unwrap();
            }
        }
        Err(problems) => {
            for problem in problems {
                writeln!(text, "problem: {problem}").unwrap();
            }
        }
    }
    text
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/options")
}

fn file(name: &str) -> PathBuf {
    directory().join(name).with_extension("json")
}

fn names() -> BTreeSet<String> {
    fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_options_file_says_what_stands_beside_it() {
    let names = names();
    assert!(names.len() > 40, "the files were found");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("options");
    fs::create_dir_all(&out).unwrap();
    let mut wrong = Vec::new();
    for name in &names {
        let home = Home::new();
        let said = home.said(&file(name));
        let want = fs::read_to_string(file(name).with_extension("txt")).unwrap_or_default();
        if said != want {
            fs::write(out.join(name).with_extension("txt"), &said).unwrap();
            wrong.push(format!("{name}:\n{said}instead of\n{want}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nsee {}",
        wrong.join("\n"),
        out.display()
    );
}

#[test]
fn no_secret_is_ever_said() {
    for name in names() {
        let text = fs::read_to_string(file(&name)).unwrap();
        let Ok(options) = serde_json::from_str::<serde_json::Value>(&text) else {
            continue;
        };
        let said = Home::new().said(&file(&name));
        assert!(!said.contains("hunter"), "{name}: a login in an address");
        for option in ["api_secret", "turn_password", "turn_static_auth_secret"] {
            if let Some(secret) = options[option].as_str().filter(|secret| secret.len() > 1) {
                assert!(!said.contains(secret), "{name}: {option}");
            }
        }
    }
}

#[test]
fn the_three_pastes_of_the_earlier_addon_are_understood() {
    let home = Home::new();
    for name in ["paste-manifest", "paste-matrix"] {
        assert!(home.said(&file(name)).contains("starts: "), "{name}");
    }
    let said = home.said(&file("paste-documentation"));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.starts_with("problem: api_secret: the secret has 28 characters"),
        "{said}"
    );
}

#[test]
fn a_missing_file_is_a_problem_of_its_own() {
    let home = Home::new();
    let said = home.said(Path::new("/nowhere/options.json"));
    assert_eq!(
        said,
        "problem: /data/options.json: it cannot be read: No such file or directory (os error 2); save the app's \
         configuration and start it again: Home Assistant then writes this file anew\n"
    );
}

#[test]
fn problems_are_told_once_and_end_the_start() {
    let home = Home::new();
    let output = home.run(&file("everything"));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let log = String::from_utf8(output.stderr).unwrap();
    let log = log.replace(home.ssl.path().to_str().unwrap(), "/ssl");
    let lines: Vec<_> = log
        .lines()
        .map(|line| &line["[12:34:56] ".len()..])
        .collect();
    let said = home.said(&file("everything"));
    let (last, problems) = lines.split_last().unwrap();
    let want: Vec<_> = said
        .lines()
        .map(|line| line.replace("problem: ", "ERROR: "))
        .collect();
    assert_eq!(problems, want);
    assert_eq!(
        *last,
        format!(
            "ERROR: Parlor does not start: {} problems in its configuration",
            want.len()
        )
    );
    assert!(
        !home.data.path().join("keys.json").exists(),
        "nothing was begun"
    );
}

#[test]
fn a_pair_is_made_once_and_kept_for_its_owner_only() {
    let home = Home::new();
    let options = home.load(&file("defaults"));
    let (config, _) = Config::from_options(&options, 2).unwrap();
    assert_eq!(config.app.unwrap().login, Login::New);
    let kept = home.data.path().join("keys.json");
    fs::write(
        &kept,
        "{\"api_key\": \"APIkept\", \"api_secret\": \"0123456789012345678901234567890123\"}",
    )
    .unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
    let options = home.load(&file("defaults"));
    let (config, _) = Config::from_options(&options, 2).unwrap();
    assert_eq!(config.app.unwrap().login, Login::Kept);
    assert_eq!(config.keys.0[0].0, "APIkept");
    // A typed pair wins, and the kept one stays where it is.
    let options = home.load(&file("complete"));
    let (config, _) = Config::from_options(&options, 2).unwrap();
    assert_eq!(config.keys.0[0].0, "parlor");
    fs::write(&kept, "{").unwrap();
    assert_eq!(
        home.said(&file("defaults")),
        "problem: api_key: the key that was made at the first start stands in /data/keys.json, and it holds no key and \
         secret; type the api_key and api_secret that your clients use, or restore a backup of this app\n"
    );
}

#[test]
fn two_pairs_are_never_the_same() {
    let home = Home::new();
    let secret = || {
        let addon = home.load(&file("defaults")).addon.unwrap();
        addon.fresh.1.reveal().clone()
    };
    let (one, other) = (secret(), secret());
    assert_ne!(one, other);
    assert!(one.len() >= 32);
}

/// A running app, killed at the latest with the test.
struct Running {
    process: Child,
    log: BufReader<ChildStderr>,
}

impl Running {
    /// Starts it and waits for the end of its summary; returns what it has said.
    fn start(home: &Home, file: &Path) -> (Self, String) {
        let mut process = home
            .command(file)
            .args(["--bind", "127.0.0.1"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let mut running = Self { process, log };
        let mut said = String::new();
        while !said.contains("API key and secret") {
            assert_ne!(running.log.read_line(&mut said).unwrap(), 0, "{said}");
        }
        (running, said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.process.kill());
    }
}

/// Options on free ports of this machine. Somebody else may take one before the server does; that is rare.
fn options_on_free_ports(home: &Home, more: &[(&str, serde_json::Value)]) -> (PathBuf, u16) {
    // Both at once, or the second may be the first again.
    let listeners = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [http, tcp] = listeners.map(|listener| listener.local_addr().unwrap().port());
    let file = home.data.path().join("options.json");
    let mut options = serde_json::json!({
        "http_port": http, "rtc_tcp_port": tcp, "rtc_udp_port_min": 33_000, "rtc_udp_port_max": 33_999,
    });
    for (name, value) in more {
        options[*name] = value.clone();
    }
    fs::write(&file, options.to_string()).unwrap();
    (file, http)
}

#[test]
fn an_app_starts_is_well_keeps_its_key_and_ends_with_zero() {
    let home = Home::new();
    let (file, port) = options_on_free_ports(&home, &[]);
    let mut kept = Vec::new();
    for login in ["made just now, in", "those in"] {
        let (mut running, mut said) = Running::start(&home, &file);
        assert!(
            said.contains(&format!(
                "HTTP on 127.0.0.1:{port}; media on UDP 127.0.0.1:33"
            )),
            "{said}"
        );
        assert!(
            said.contains("INFO: domain is not set: calls work in your own network"),
            "{said}"
        );
        assert!(
            said.contains(&format!("API key and secret: {login} ")),
            "{said}"
        );
        let asked = home.command(&file).arg("healthcheck").output().unwrap();
        assert_eq!(
            (asked.status.code(), asked.stdout.as_slice()),
            (Some(0), &b"OK\n"[..])
        );

        let second = home
            .command(&file)
            .args(["--bind", "127.0.0.1"])
            .output()
            .unwrap();
        let second = String::from_utf8(second.stderr).unwrap();
        assert!(
            second.contains(&format!(
                "ERROR: http_port: TCP port {port} is in use by another program"
            )),
            "{second}"
        );
        assert!(
            second.ends_with("ERROR: Parlor does not start: 2 problems in its configuration\n"),
            "{second}"
        );

        let killed = Command::new("kill")
            .arg(running.process.id().to_string())
            .status()
            .unwrap();
        assert!(killed.success());
        assert_eq!(running.process.wait().unwrap().code(), Some(0));
        running.log.read_to_string(&mut said).unwrap();
        let path = home.data.path().join("keys.json");
        let pair = fs::read_to_string(&path).unwrap();
        let secret =
            serde_json::from_str::<serde_json::Value>(&pair).unwrap()["api_secret"].clone();
        assert!(!said.contains(secret.as_str().unwrap()));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        kept.push(pair);
        let asked = home.command(&file).arg("healthcheck").output().unwrap();
        assert_eq!(asked.status.code(), Some(1), "nobody is there any more");
    }
    assert_eq!(kept[0], kept[1]);
}

#[test]
fn taken_ports_are_told_with_the_other_problems_and_only_those_that_were_typed() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let more = [
        ("http_port", serde_json::json!("eight")),
        ("rtc_tcp_port", serde_json::json!(port)),
    ];
    let (file, _) = options_on_free_ports(&home, &more);
    let mut command = home.command(&file);
    let said = command.args(["--bind", "127.0.0.1"]).output().unwrap();
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8(said.stderr).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(
        lines[0].contains("ERROR: http_port: this wants a port"),
        "{said}"
    );
    let in_use = format!("ERROR: rtc_tcp_port: TCP port {port} is in use by another program");
    assert!(lines[1].contains(&in_use), "{said}");
    assert!(lines[2].contains("2 problems"), "{said}");
}

/// The scheme of coturn's `use-auth-secret`: username `expiry:name`, password base64(HMAC-SHA1(secret, username)).
#[tokio::test]
async fn clients_get_a_login_for_the_turn_server_that_expires() {
    let home = Home::new();
    let (file, port) = options_on_free_ports(
        &home,
        &[
            ("turn_enabled", serde_json::json!(true)),
            (
                "turn_servers",
                serde_json::json!(["turn:turn.example.org:3478"]),
            ),
            (
                "turn_static_auth_secret",
                serde_json::json!("shared with coturn"),
            ),
        ],
    );
    let (running, _) = Running::start(&home, &file);
    // Signed with the pair that was made and kept.
    let token = home
        .command(&file)
        .args(["token", "--room", "r", "--identity", "i"])
        .output()
        .unwrap();
    let token = String::from_utf8(token.stdout).unwrap();
    let url = format!(
        "ws://127.0.0.1:{port}/rtc?protocol=16&auto_subscribe=1&access_token={}",
        token.trim()
    );
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let join = loop {
        let frame = socket.next().await.unwrap().unwrap();
        if !frame.is_binary() {
            continue;
        }
        let response = SignalResponse::decode(frame.into_data()).unwrap();
        if let Some(Message::Join(join)) = response.message {
            break join;
        }
    };
    drop(running);
    let server = &join.ice_servers[0];
    assert_eq!(server.urls, ["turn:turn.example.org:3478"]);
    let (expiry, name) = server.username.split_once(':').unwrap();
    assert_eq!(name, join.participant.unwrap().sid);
    let left = expiry.parse::<u64>().unwrap() - Clock::System.unix_seconds();
    assert!((14_380..=14_400).contains(&left), "{left} s");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"shared with coturn");
    let tag = hmac::sign(&key, server.username.as_bytes());
    let password = base64::engine::general_purpose::STANDARD.encode(tag);
    assert_eq!(server.credential, password);
}

#[test]
fn the_panel_of_home_assistant_gets_its_colours() {
    let home = Home::new();
    let (file, _) = options_on_free_ports(&home, &[("log_level", serde_json::json!("loud"))]);
    let output = home
        .command(&file)
        .env("SUPERVISOR_TOKEN", "hush")
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    for line in log.lines() {
        assert!(
            line.starts_with("\x1b[31m[") && line.ends_with("\x1b[0m"),
            "{line:?}"
        );
    }
    assert_eq!(log.lines().count(), 2);
    assert!(!log.contains("hush"));
}
