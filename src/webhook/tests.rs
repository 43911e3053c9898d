//! The sender against receivers of flesh and sockets.

use super::*;
use crate::config::Keys;
use crate::protocol::livekit as proto;
use crate::protocol::token::verify;
use crate::secret::Secret;
use base64::Engine;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SECRET: &str = "abcdefghijklmnopqrstuvwxyz012345";

/// One request: its head in lower case with the values as they came, and its body.
struct Request {
    head: String,
    body: serde_json::Value,
    raw: Vec<u8>,
    stream: TcpStream,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value)
    }

    fn name(&self) -> String {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        format!("{} {}", text(&self.body["event"]), text(&self.body["id"]))
    }

    async fn answer(mut self, status: &str) {
        let text = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }
}

struct Receiver {
    listener: TcpListener,
    url: String,
}

impl Receiver {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        Self { listener, url }
    }

    async fn next(&self) -> Request {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).await.unwrap();
            assert!(count > 0, "the request is whole");
            bytes.extend_from_slice(&chunk[..count]);
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let raw = bytes[end + 4..].to_vec();
            let mut request = Request {
                head,
                body: serde_json::Value::Null,
                raw,
                stream,
            };
            if request.header("content-length").parse() == Ok(request.raw.len()) {
                request.body = serde_json::from_slice(&request.raw).unwrap();
                return request;
            }
            stream = request.stream;
        }
    }
}

fn config(urls: &[&str]) -> config::Webhook {
    config::Webhook {
        signer: Some(("key".to_owned(), Secret::new(SECRET.to_owned()))),
        urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        max_age: Duration::from_secs(300),
        max_depth: 200,
        ..config::Webhook::default()
    }
}

fn start_with(config: &config::Webhook) -> (Handle, Tasks) {
    let tasks = Tasks::new();
    let handle = start(config, Random::seeded(1), Clock::Fixed(5_000_000), &tasks).unwrap();
    (handle, tasks)
}

fn event(name: &str, room: &str, id: &str) -> Box<WebhookEvent> {
    Box::new(WebhookEvent {
        event: name.to_owned(),
        room: Some(proto::Room {
            sid: "RM_1".to_owned(),
            name: room.to_owned(),
            creation_time: 1_800_000_000,
            ..Default::default()
        }),
        id: id.to_owned(),
        created_at: 1_800_000_001,
        ..Default::default()
    })
}

#[tokio::test]
async fn an_event_is_posted_as_livekit_posts_it_and_signed() {
    let receiver = Receiver::new().await;
    let (handle, tasks) = start_with(&config(&[&receiver.url]));
    handle.notify(event("room_started", "den", "EV_1"), Arc::default());
    let request = receiver.next().await;
    assert!(request.head.starts_with("POST /hook HTTP/1.1\r\n"));
    assert_eq!(request.header("content-type"), "application/webhook+json");
    assert_eq!(request.header("user-agent"), "LiveKit");
    assert_eq!(
        request.body,
        serde_json::json!({
            "event": "room_started",
            "room": {"sid": "RM_1", "name": "den", "creationTime": "1800000000"},
            "id": "EV_1",
            "createdAt": "1800000001",
        })
    );
    let keys = Keys(vec![("key".to_owned(), Secret::new(SECRET.to_owned()))]);
    let (claims, key) = verify(5_000, request.header("authorization"), &keys).unwrap();
    assert_eq!((key.as_str(), claims.exp), ("key", 5_300));
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &request.raw);
    let hash = base64::engine::general_purpose::STANDARD.encode(hash);
    assert_eq!(claims.sha256, hash);
    request.answer("200 OK").await;
    assert!(tasks.shutdown(Duration::from_secs(5)).await.is_empty());
    let counts = handle.counts().unwrap();
    assert_eq!((counts.delivered, counts.waiting), (1, 0));
}

#[tokio::test]
async fn receivers_of_a_room_hear_of_it_beside_those_of_the_configuration() {
    let (own, general) = (Receiver::new().await, Receiver::new().await);
    let extra: Arc<[Arc<str>]> = [own.url.as_str(), &general.url].map(Arc::from).into();
    let (handle, tasks) = start_with(&config(&[&general.url]));
    handle.notify(event("room_started", "den", "EV_1"), Arc::clone(&extra));
    handle.notify(event("room_started", "yard", "EV_2"), Arc::default());
    handle.notify(event("room_finished", "den", "EV_3"), extra);
    for expected in ["room_started EV_1", "room_finished EV_3"] {
        let request = own.next().await;
        assert_eq!(request.name(), expected);
        assert!(!request.header("authorization").is_empty());
        request.answer("200 OK").await;
    }
    let mut names = Vec::new();
    for _ in 0..3 {
        let request = general.next().await;
        names.push(request.name());
        request.answer("200 OK").await;
    }
    names.sort();
    assert_eq!(
        names,
        [
            "room_finished EV_3",
            "room_started EV_1",
            "room_started EV_2"
        ],
        "nobody hears of anything twice"
    );
    tasks.shutdown(Duration::from_secs(5)).await;
    assert_eq!(handle.counts().unwrap().delivered, 5);
}

#[tokio::test]
async fn rooms_may_have_receivers_where_the_configuration_has_none() {
    let own = Receiver::new().await;
    let (handle, tasks) = start_with(&config(&[]));
    assert!(handle.is_on());
    let extra = [own.url.as_str()].map(Arc::from).into();
    handle.notify(event("room_started", "den", "EV_1"), extra);
    own.next().await.answer("200 OK").await;
    tasks.shutdown(Duration::from_secs(5)).await;
    assert_eq!(handle.counts().unwrap().delivered, 1);
}

#[tokio::test]
async fn a_failed_event_comes_again_before_the_next_of_its_room() {
    let receiver = Receiver::new().await;
    let (handle, tasks) = start_with(&config(&[&receiver.url]));
    handle.notify(event("room_started", "den", "EV_1"), Arc::default());
    handle.notify(event("room_finished", "den", "EV_2"), Arc::default());
    let request = receiver.next().await;
    assert_eq!(request.name(), "room_started EV_1");
    request.answer("503 Busy").await;
    let request = receiver.next().await;
    assert_eq!(request.name(), "room_started EV_1");
    request.answer("204 No Content").await;
    let request = receiver.next().await;
    assert_eq!(request.name(), "room_finished EV_2");
    request.answer("200 OK").await;
    tasks.shutdown(Duration::from_secs(5)).await;
    let counts = handle.counts().unwrap();
    assert_eq!((counts.delivered, counts.failed_tries), (2, 1));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_a_refusal_not_repeated() {
    let (receiver, elsewhere) = (Receiver::new().await, Receiver::new().await);
    let (handle, tasks) = start_with(&config(&[&receiver.url]));
    handle.notify(event("room_started", "den", "EV_1"), Arc::default());
    handle.notify(event("room_finished", "den", "EV_2"), Arc::default());
    handle.notify(event("room_started", "den", "EV_3"), Arc::default());
    let redirect = format!("307 There\r\nlocation: {}", elsewhere.url);
    receiver.next().await.answer(&redirect).await;
    receiver.next().await.answer("401 Who").await;
    let third = receiver.next().await;
    assert_eq!(third.name(), "room_started EV_3");
    third.answer("200 OK").await;
    tasks.shutdown(Duration::from_secs(5)).await;
    let counts = handle.counts().unwrap();
    assert_eq!((counts.delivered, counts.refused), (1, 2));
    let knock = elsewhere.listener.accept();
    assert!(
        tokio::time::timeout(Duration::from_millis(1), knock)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn receivers_that_are_slow_or_gone_delay_nobody_else() {
    let (slow, good) = (Receiver::new().await, Receiver::new().await);
    // Nothing listens on a port that was just given back.
    let gone = Receiver::new().await.url;
    let (handle, tasks) = start_with(&config(&[&slow.url, &gone, &good.url]));
    for id in ["EV_1", "EV_2", "EV_3"] {
        handle.notify(event("room_started", "den", id), Arc::default());
    }
    let held = slow.next().await;
    for id in ["EV_1", "EV_2", "EV_3"] {
        let request = good.next().await;
        assert_eq!(request.name(), format!("room_started {id}"));
        request.answer("200 OK").await;
    }
    assert_eq!(held.name(), "room_started EV_1");
    drop(slow);
    drop(held);
    assert!(
        tasks.shutdown(Duration::from_secs(5)).await.is_empty(),
        "the stop does not wait for the dead"
    );
    let counts = handle.counts().unwrap();
    assert_eq!((counts.delivered, counts.dropped), (3, 6));
}

#[tokio::test]
async fn a_stop_delivers_what_waits() {
    let receiver = Receiver::new().await;
    let (handle, tasks) = start_with(&config(&[&receiver.url]));
    for id in ["EV_1", "EV_2"] {
        handle.notify(event("room_finished", "den", id), Arc::default());
    }
    let served = async {
        for id in ["EV_1", "EV_2"] {
            let request = receiver.next().await;
            assert_eq!(request.name(), format!("room_finished {id}"));
            request.answer("200 OK").await;
        }
    };
    let (left, ()) = tokio::join!(tasks.shutdown(Duration::from_secs(5)), served);
    assert!(left.is_empty());
    assert_eq!(handle.counts().unwrap().delivered, 2);
}

#[tokio::test]
async fn the_filter_includes_first_and_excludes_otherwise() {
    let receiver = Receiver::new().await;
    for (include, exclude, want) in [
        (&[][..], &["room_started"][..], "room_finished EV_2"),
        (&["room_finished"], &["room_finished"], "room_finished EV_2"),
        (&[], &[], "room_started EV_1"),
    ] {
        let mut config = config(&[&receiver.url]);
        config.include_events = include.iter().map(|name| (*name).to_owned()).collect();
        config.exclude_events = exclude.iter().map(|name| (*name).to_owned()).collect();
        let (handle, tasks) = start_with(&config);
        handle.notify(event("room_started", "den", "EV_1"), Arc::default());
        handle.notify(event("room_finished", "den", "EV_2"), Arc::default());
        let request = receiver.next().await;
        assert_eq!(request.name(), want);
        drop(request);
        tasks.cancel();
    }
}

#[tokio::test]
async fn without_a_key_to_sign_with_nothing_runs() {
    let nobody = config::Webhook {
        signer: None,
        ..config(&[])
    };
    let (handle, tasks) = start_with(&nobody);
    handle.notify(event("room_started", "den", "EV_1"), Arc::default());
    assert!(tasks.is_empty());
    assert_eq!(handle.counts(), None);
}
