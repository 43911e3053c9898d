use super::*;
use crate::http::listener;
use axum::Router;
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::client;
use tracing::Level;
use watch::Notice;

/// 2096-10-02: the clients of these tests go by the true clock, and shall find every certificate valid.
const NOW: u64 = 4_000_000_000;
const DAY: u64 = 24 * 3600;

/// A certificate for `calls.example.org` and its key, in PEM form.
struct Pair {
    der: CertificateDer<'static>,
    certificate: String,
    key: String,
}

impl Pair {
    /// Valid until so many days after `NOW`.
    fn of(days: u64) -> Self {
        Self::named("calls.example.org", 2020, days)
    }

    fn named(host: &str, from: i32, days: u64) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(NOW + days * DAY);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            der: certificate.der().clone(),
            certificate: pem("CERTIFICATE", certificate.der()),
            key: pem("PRIVATE KEY", key.serialize_der()),
        }
    }

    fn write(&self, dir: &Path) {
        fs::write(dir.join("fullchain.pem"), &self.certificate).unwrap();
        fs::write(dir.join("privkey.pem"), &self.key).unwrap();
    }
}

fn pem(label: &str, der: impl AsRef<[u8]>) -> String {
    let body = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

fn files(dir: &Path) -> config::Tls {
    config::Tls {
        certificate: dir.join("fullchain.pem"),
        key: dir.join("privkey.pem"),
        host: Some("calls.example.org".to_owned()),
    }
}

/// A directory with a pair, and the watch over it.
fn watched(pair: &Pair) -> (TempDir, Tls, Watch) {
    let dir = tempfile::tempdir().unwrap();
    pair.write(dir.path());
    let (tls, watch) = open(&files(dir.path()), Clock::Fixed(NOW * 1000)).unwrap();
    (dir, tls, watch)
}

/// Looks until a change has settled; what was said at each look.
fn looks(watch: &mut Watch) -> Vec<Notice> {
    let now = Instant::now();
    (0..4).flat_map(|_| watch.look(now, NOW)).collect()
}

fn texts(notices: &[Notice]) -> Vec<(Level, &str)> {
    notices
        .iter()
        .map(|notice| (notice.level, notice.text.as_str()))
        .collect()
}

fn served(tls: &Tls, tasks: &Tasks) -> SocketAddr {
    let http = config::Http {
        bind: vec![[127, 0, 0, 1].into()],
        ..config::Http::default()
    };
    let listeners = listener::bind(&http).unwrap();
    let routes = Router::new().route("/", any("OK"));
    listener::serve(listeners, Some(tls), &routes, tasks).addresses[0]
}

/// A handshake of a client that trusts these certificates only.
async fn connect(
    address: SocketAddr,
    trusted: &[&Pair],
) -> io::Result<client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for pair in trusted {
        roots.add(pair.der.clone()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("calls.example.org").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

fn shown(stream: &client::TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

/// One request on a connection that stays open.
async fn get(stream: &mut client::TlsStream<TcpStream>) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nOK") {
        assert_ne!(
            stream.read_buf(&mut answer).await.unwrap(),
            0,
            "the connection ended"
        );
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn requests_are_answered_inside_tls_as_http_1_1() {
    let pair = Pair::of(90);
    let (_dir, tls, _watch) = watched(&pair);
    let tasks = Tasks::new();
    let address = served(&tls, &tasks);
    let mut stream = connect(address, &[&pair]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(get(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(tasks.shutdown(Duration::from_secs(5)).await.is_empty());
}

#[tokio::test]
async fn plain_http_is_told_what_the_port_speaks_and_other_noise_nothing() {
    let (_dir, tls, _watch) = watched(&Pair::of(90));
    let tasks = Tasks::new();
    let address = served(&tls, &tasks);
    let say = async |what: &[u8]| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(what).await.unwrap();
        let mut answer = Vec::new();
        // A reset is no answer either.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8(answer).unwrap()
    };
    let answer = say(b"POST /rtc HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(answer, PLAIN);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
    assert_eq!(say(b"\0\x01noise").await, "");
    // A record of a handshake in which nothing makes sense: TLS answers with an alert.
    assert!(!say(b"\x16\x03\x01\0\x05hello").await.contains("HTTP"));
}

#[tokio::test]
async fn new_connections_see_the_new_certificate_and_open_ones_live_on() {
    let (old, new) = (Pair::of(20), Pair::of(90));
    let (dir, tls, mut watch) = watched(&old);
    let tasks = Tasks::new();
    let address = served(&tls, &tasks);
    let mut open = connect(address, &[&old]).await.unwrap();
    get(&mut open).await;

    new.write(dir.path());
    assert_eq!(watch.look(Instant::now(), NOW), [], "not settled yet");
    assert_eq!(
        texts(&looks(&mut watch)),
        [(
            Level::INFO,
            "the new certificate is in use, valid until 2096-12-31; calls go on"
        )]
    );
    let mut fresh = connect(address, &[&old, &new]).await.unwrap();
    assert_eq!(shown(&fresh), new.der);
    get(&mut fresh).await;
    get(&mut open).await;
    assert_eq!(shown(&open), old.der);
}

#[tokio::test]
async fn a_pair_that_is_replaced_half_way_keeps_the_old_one_and_is_told_of_once() {
    let (old, new) = (Pair::of(20), Pair::of(90));
    let (dir, tls, mut watch) = watched(&old);
    let tasks = Tasks::new();
    let address = served(&tls, &tasks);
    let (certificate, key) = (
        dir.path().join("fullchain.pem"),
        dir.path().join("privkey.pem"),
    );
    let half = &new.certificate[..new.certificate.len() / 2];
    let complaint = |path: &Path, reason: &str| {
        format!(
            "{}: {reason}; the certificate from before stays in use, valid until 2096-10-22: put certificate and key of \
             one renewal there, and they are taken without a restart",
            path.display()
        )
    };
    let mismatch = "this private key does not belong to the certificate";
    for (text, path, reason) in [
        (
            half,
            &certificate,
            "there is no certificate in PEM form in this file",
        ),
        (&new.certificate, &key, mismatch),
    ] {
        fs::write(&certificate, text).unwrap();
        let notices = looks(&mut watch);
        assert_eq!(texts(&notices), [(Level::WARN, &*complaint(path, reason))]);
        // The same once more, although the file was written again.
        fs::write(&certificate, format!("{text}\n")).unwrap();
        assert_eq!(looks(&mut watch), []);
        assert_eq!(
            shown(&connect(address, &[&old, &new]).await.unwrap()),
            old.der
        );
    }
    fs::remove_file(&key).unwrap();
    let notices = looks(&mut watch);
    assert_eq!(
        texts(&notices),
        [(
            Level::WARN,
            &*complaint(
                &key,
                "it cannot be read: No such file or directory (os error 2)"
            )
        )]
    );
    fs::write(&key, &new.key).unwrap();
    assert_eq!(looks(&mut watch).len(), 1);
    assert_eq!(
        shown(&connect(address, &[&old, &new]).await.unwrap()),
        new.der
    );
}

#[test]
fn files_that_go_back_to_the_old_pair_are_told_of_and_a_touched_one_is_not() {
    let old = Pair::of(20);
    let (dir, _tls, mut watch) = watched(&old);
    fs::write(dir.path().join("privkey.pem"), &Pair::of(90).key).unwrap();
    assert_eq!(looks(&mut watch).len(), 1);
    old.write(dir.path());
    assert_eq!(
        texts(&looks(&mut watch)),
        [(
            Level::INFO,
            "certificate and key are right again; the same as before is in use, valid until 2096-10-22"
        )]
    );
    fs::write(dir.path().join("privkey.pem"), format!("\n{}", old.key)).unwrap();
    assert_eq!(looks(&mut watch), []);
}

#[test]
fn a_worse_pair_does_not_take_the_place_of_a_good_one_until_that_one_is_bad_too() {
    let old = Pair::of(20);
    let (dir, tls, mut watch) = watched(&old);
    let used = || Arc::clone(&tls.newest.borrow());
    let first = used();
    for (worse, reason) in [
        (
            Pair::named("calls.example.org", 2020, 0),
            "this certificate expired on 2096-10-02",
        ),
        (
            Pair::named("calls.example.org", 2097, 900),
            "this certificate is valid from 2097-01-01 on only",
        ),
        (
            Pair::named("other.example.org", 2020, 90),
            "this certificate is not for calls.example.org",
        ),
    ] {
        worse.write(dir.path());
        let text = format!(
            "{}: {reason}; the certificate from before stays in use, valid until 2096-10-22: put certificate and key of \
             one renewal there, and they are taken without a restart",
            dir.path().join("fullchain.pem").display()
        );
        assert_eq!(texts(&looks(&mut watch)), [(Level::WARN, &*text)]);
        assert!(Arc::ptr_eq(&first, &used()), "{reason}");
    }
    // Once the old one has expired, that is no reason any more.
    let notices = watch.look(Instant::now(), NOW + 21 * DAY);
    assert_eq!(
        texts(&notices),
        [(
            Level::WARN,
            "this certificate is not for calls.example.org, and the one from before is no better: the new one is in use, \
             valid until 2096-12-31; calls go on"
        )]
    );
    assert!(!Arc::ptr_eq(&first, &used()));
}

#[test]
fn a_pair_that_was_held_back_is_taken_when_its_time_has_come() {
    let (dir, _tls, mut watch) = watched(&Pair::of(200));
    Pair::named("calls.example.org", 2097, 900).write(dir.path());
    assert_eq!(looks(&mut watch).len(), 1);
    let notices = watch.look(Instant::now(), NOW + 100 * DAY);
    assert_eq!(notices[0].level, Level::INFO, "{notices:?}");
    assert!(notices[0].text.contains("is in use"), "{notices:?}");
}

/// As certbot does it: links in one directory, files of each renewal in another.
#[test]
fn swapped_links_are_noticed() {
    let (old, new) = (Pair::of(20), Pair::of(90));
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    fs::create_dir(&live).unwrap();
    let link = |number: &str| {
        for name in ["fullchain.pem", "privkey.pem"] {
            let fresh = live.join("fresh");
            symlink(format!("../{number}/{name}"), &fresh).unwrap();
            fs::rename(fresh, live.join(name)).unwrap();
        }
    };
    for (number, pair) in [("1", &old), ("2", &new)] {
        fs::create_dir(dir.path().join(number)).unwrap();
        pair.write(&dir.path().join(number));
    }
    link("1");
    let (_tls, mut watch) = open(&files(&live), Clock::Fixed(NOW * 1000)).unwrap();
    assert_eq!(looks(&mut watch), []);
    link("2");
    let notices = looks(&mut watch);
    assert!(notices[0].text.contains("2096-12-31"), "{notices:?}");
}

#[test]
fn the_end_is_told_a_day_at_a_time_from_14_days_on_and_when_it_is_there() {
    let (_dir, _tls, mut watch) = watched(&Pair::of(20));
    let start = Instant::now();
    let mut told = Vec::new();
    for hour in 0..25 * 24 {
        let now = start + Duration::from_secs(hour * 3600);
        for notice in watch.look(now, NOW + hour * 3600) {
            let text = notice.text.split(": ").nth(1).unwrap().to_owned();
            told.push((hour / 24, notice.level, text));
        }
    }
    let soon = "the certificate expires on 2096-10-22; renew it, a restart is not needed";
    let gone = "the certificate expired on 2096-10-22, and browsers refuse it; renew it, a restart is not needed";
    let expected: Vec<_> = (6..20)
        .map(|day| (day, Level::WARN, soon.to_owned()))
        .chain((20..25).map(|day| (day, Level::ERROR, gone.to_owned())))
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn the_start_has_told_of_the_end_already_and_a_clock_that_jumps_is_told_of_at_once() {
    let (dir, _tls, mut watch) = watched(&Pair::of(10));
    let start = Instant::now();
    let mut look = |hours: u64, unix: u64| -> Vec<Level> {
        let notices = watch.look(start + Duration::from_secs(hours * 3600), unix);
        notices.iter().map(|notice| notice.level).collect()
    };
    assert!(look(1, NOW).is_empty());
    assert_eq!(look(25, NOW), [Level::WARN]);
    assert_eq!(look(26, NOW + 11 * DAY), [Level::ERROR]);
    assert!(look(27, NOW + 11 * DAY).is_empty());
    assert!(look(28, 0).is_empty(), "long before its end");
    assert_eq!(look(29, NOW), [Level::WARN]);
    // A renewal that is about to end as well is told of at once.
    Pair::of(9).write(dir.path());
    assert_eq!(
        [look(30, NOW), look(31, NOW)].concat(),
        [Level::INFO, Level::WARN]
    );
    Pair::of(90).write(dir.path());
    assert_eq!(
        [look(80, NOW), look(81, NOW)].concat(),
        [Level::WARN, Level::INFO]
    );
    assert!(look(200, NOW).is_empty());
}

#[tokio::test]
async fn the_task_takes_what_has_changed() {
    let (old, new) = (Pair::of(20), Pair::of(90));
    let dir = tempfile::tempdir().unwrap();
    old.write(dir.path());
    let tasks = Tasks::new();
    let mut tls = start_with(&files(dir.path()), Duration::from_millis(1), &tasks).unwrap();
    new.write(dir.path());
    tls.newest.changed().await.unwrap();
    let address = served(&tls, &tasks);
    assert_eq!(
        shown(&connect(address, &[&old, &new]).await.unwrap()),
        new.der
    );
    assert!(tasks.shutdown(Duration::from_secs(5)).await.is_empty());
}

#[tokio::test]
async fn a_pair_that_cannot_serve_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    Pair::of(20).write(dir.path());
    fs::write(dir.path().join("privkey.pem"), "").unwrap();
    let tasks = Tasks::new();
    let http = config::Http {
        bind: vec![[127, 0, 0, 1].into()],
        tls: Some(files(dir.path())),
        ..config::Http::default()
    };
    let error = listener::start(&http, &Router::new(), &tasks).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}/privkey.pem: there is no private key in PEM form in this file; renew certificate and key (`cert_file`, \
             `pkey_file`), and start again",
            dir.path().display()
        )
    );
    assert!(tasks.is_empty());
}

#[tokio::test]
async fn who_says_nothing_or_half_is_given_up_and_only_a_handshake_takes_a_place() {
    let (_dir, mut tls, _watch) = watched(&Pair::of(90));
    tls.patience = Duration::from_millis(100);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let half = b"\x16\x03\x01\x02\x00\x01\x00";
    for (said, taken) in [(&b""[..], 0), (half, 1), (b"GET / HTTP/1.1\r\n", 0)] {
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(said).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut most = 0;
        let handshake = tls.handshake(stream);
        let mut handshake = std::pin::pin!(handshake);
        let error = loop {
            match timeout(Duration::from_millis(5), &mut handshake).await {
                Ok(ended) => break ended.unwrap_err(),
                Err(_) => most = most.max(MAX_HANDSHAKES - tls.places.available_permits()),
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(most, taken);
        assert_eq!(tls.places.available_permits(), MAX_HANDSHAKES);
    }
}

#[tokio::test]
async fn when_all_places_are_taken_others_wait_for_one() {
    let pair = Pair::of(90);
    let (_dir, tls, _watch) = watched(&pair);
    let tasks = Tasks::new();
    let every = u32::try_from(MAX_HANDSHAKES).unwrap();
    let mut taken = Arc::clone(&tls.places)
        .acquire_many_owned(every)
        .await
        .unwrap();
    let address = served(&tls, &tasks);
    let trusted = [&pair];
    let mut waiting = Box::pin(connect(address, &trusted));
    assert!(
        timeout(Duration::from_millis(50), &mut waiting)
            .await
            .is_err()
    );
    drop(taken.split(1));
    get(&mut waiting.await.unwrap()).await;
    assert_eq!(tls.places.available_permits(), 1, "it is given back");
}
