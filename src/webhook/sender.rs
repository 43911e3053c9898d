//! The task of webhooks: takes events in, posts what the queues give out, and tells the queues how it went.

use super::queue::{Key, Outcome, Queues, Tally, Turn};
use super::{Counters, Notice, StartError};
use crate::clock::Clock;
use crate::protocol::token::{Claims, sign};
use crate::secret::Secret;
use crate::task::Tasks;
use aws_lc_rs::digest;
use base64::Engine;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, StatusCode, redirect};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// For one request, from the name's lookup to the head of the response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// For the connection alone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A signature is good for this long, in seconds (livekit 1.13.5).
const SIGNATURE_S: u64 = 300;
/// A stop waits this long for what can still be delivered; it is part of the supervisor's time for all tasks.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Different receivers that rooms may name in the life of the process.
const MAX_EXTRA: usize = 1024;

/// An event as it goes over the wire.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// Its name, for the log.
    event: Arc<str>,
    body: Bytes,
}

/// How to post.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) client: Client,
    pub(super) key: String,
    pub(super) secret: Secret<String>,
    pub(super) clock: Clock,
}

/// Everything that the task owns.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) queues: Queues<Message>,
    pub(super) post: Post,
    /// The client for receivers of rooms that speak TLS, if that of the configuration does not.
    pub(super) secure: Option<Client>,
    /// How many of `urls` are those of the configuration; the rest are of rooms.
    pub(super) configured: usize,
    /// Receivers by number.
    pub(super) urls: Vec<Arc<str>>,
    pub(super) counters: Arc<Counters>,
    pub(super) tasks: Tasks,
}

/// With what the receiver or the connection said, for the log.
type UnderWay = FuturesUnordered<BoxFuture<'static, (Key, Outcome, String)>>;

/// The client for these receivers. The machine's certificates are read only if one of them speaks TLS.
pub(super) fn client(urls: &[impl AsRef<str>]) -> Result<Client, StartError> {
    let mut builder = Client::builder()
        .user_agent("LiveKit")
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT);
    if !urls.iter().any(|url| is_tls(url.as_ref())) {
        builder = builder.tls_certs_only([]);
    }
    builder
        .build()
        .map_err(|error| StartError::Client(root_cause(&error)))
}

fn is_tls(url: &str) -> bool {
    url.starts_with("https:")
}

/// What lies under it all: "connection refused", not "error sending request".
fn root_cause(mut error: &dyn Error) -> String {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

impl Sender {
    /// Runs until the stop; then gives what waits a last chance.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Notice>) {
        let mut under_way = UnderWay::new();
        loop {
            self.send(&under_way);
            let due = self.queues.next_timeout();
            tokio::select! {
                Some(event) = events.recv() => self.take_in(&event),
                Some((key, outcome, said)) = under_way.next() => self.done(&key, outcome, &said),
                () = sleep_until(due) => {}
                () = self.tasks.cancelled() => break,
            }
        }
        while let Ok(event) = events.try_recv() {
            self.take_in(&event);
        }
        self.queues.hurry(self.now());
        let last_words = async {
            loop {
                self.send(&under_way);
                let Some((key, outcome, said)) = under_way.next().await else {
                    break;
                };
                self.done(&key, outcome, &said);
            }
        };
        // What is late is counted below.
        tokio::time::timeout(LAST_WORDS, last_words).await.ok();
        let left = self.queues.len() as u64;
        self.counters.dropped.fetch_add(left, Ordering::Relaxed);
        let dropped = self.queues.tally().dropped + left;
        if dropped > 0 {
            tracing::warn!(dropped, "webhooks could not be delivered");
        }
    }

    fn now(&self) -> Instant {
        self.post.clock.now()
    }

    /// One body for all receivers, queued for each.
    fn take_in(&mut self, notice: &Notice) {
        let event = &*notice.event;
        let body = serde_json::to_vec(event).expect("the wire types are plain JSON");
        let message = Message {
            event: event.event.as_str().into(),
            body: body.into(),
        };
        let room: Arc<str> = event.room.as_ref().map_or("", |room| &room.name).into();
        let now = self.now();
        let extra: Vec<usize> = notice
            .extra
            .iter()
            .filter_map(|url| self.number(url))
            .collect();
        for receiver in (0..self.configured).chain(extra) {
            self.queues
                .push(now, (receiver, Arc::clone(&room)), message.clone());
        }
        self.publish();
    }

    /// The number of a room's receiver. `None`: it hears of everything anyhow, or there are too many.
    fn number(&mut self, url: &Arc<str>) -> Option<usize> {
        if let Some(known) = self.urls.iter().position(|known| known == url) {
            return Some(known).filter(|known| *known >= self.configured);
        }
        if self.urls.len() >= self.configured + MAX_EXTRA {
            tracing::warn!("rooms name too many receivers of webhooks; this one is left out");
            return None;
        }
        self.urls.push(Arc::clone(url));
        Some(self.urls.len() - 1)
    }

    /// How to post to this receiver.
    fn post_to(&mut self, url: &str) -> Post {
        let mut post = self.post.clone();
        let knows_tls = || {
            self.urls
                .iter()
                .take(self.configured)
                .any(|url| is_tls(url))
        };
        if is_tls(url) && !knows_tls() {
            if self.secure.is_none() {
                self.secure = client(&[url])
                    .map_err(|error| tracing::warn!(%error, "a room's webhooks"))
                    .ok();
            }
            post.client = self.secure.clone().unwrap_or(post.client);
        }
        post
    }

    fn send(&mut self, under_way: &UnderWay) {
        while let Some((key, message)) = self.queues.poll(self.now()) {
            let Some(url) = self.urls.get(key.0).cloned() else {
                self.queues.done(self.now(), &key, Outcome::Refused);
                continue;
            };
            let post = self.post_to(&url);
            under_way.push(Box::pin(async move {
                let (outcome, said) = post.send(key.0, &url, message).await;
                (key, outcome, said)
            }));
        }
        self.publish();
    }

    /// Warns of a receiver once, not of every try: there may be thousands.
    fn done(&mut self, key: &Key, outcome: Outcome, said: &str) {
        let receiver = key.0;
        match self.queues.done(self.now(), key, outcome) {
            Some(Turn::Worse) if outcome == Outcome::Refused => {
                tracing::warn!(receiver, said, "a webhook is refused by its receiver");
            }
            Some(Turn::Worse) => {
                tracing::warn!(
                    receiver,
                    said,
                    "a receiver of webhooks fails; what waits is tried again"
                );
            }
            Some(Turn::Better) => {
                tracing::info!(receiver, "a receiver takes webhooks again");
            }
            None => {}
        }
        self.publish();
    }

    fn publish(&self) {
        let Tally {
            delivered,
            refused,
            failed_tries,
            dropped,
        } = self.queues.tally();
        for (counter, value) in [
            (&self.counters.delivered, delivered),
            (&self.counters.refused, refused),
            (&self.counters.failed_tries, failed_tries),
            (&self.counters.dropped, dropped),
            (&self.counters.waiting, self.queues.len() as u64),
        ] {
            counter.store(value, Ordering::Relaxed);
        }
    }
}

impl Post {
    async fn send(&self, receiver: usize, url: &str, message: Message) -> (Outcome, String) {
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/webhook+json")
            .header(AUTHORIZATION, self.signature(&message.body))
            .body(message.body);
        let event = message.event;
        let (outcome, said) = match request.send().await {
            Ok(response) => (judge(response.status()), response.status().to_string()),
            // The URL may hold a secret; the receiver's number says which one it is.
            Err(error) => (Outcome::Failed, root_cause(&error.without_url())),
        };
        tracing::debug!(%event, receiver, said, ?outcome, "webhook");
        (outcome, said)
    }

    /// A token of five minutes that holds the body's hash. It has no `nbf`: a receiver whose clock is late would
    /// refuse it.
    fn signature(&self, body: &[u8]) -> String {
        let hash = digest::digest(&digest::SHA256, body);
        let claims = Claims {
            iss: self.key.clone(),
            exp: self.clock.unix_seconds() + SIGNATURE_S,
            sha256: base64::engine::general_purpose::STANDARD.encode(hash),
            ..Claims::default()
        };
        sign(&claims, &self.secret)
    }
}

/// Retried is what may work another time, as hashicorp's retryablehttp, which LiveKit uses, has it.
fn judge(status: StatusCode) -> Outcome {
    match status {
        status if status.is_success() => Outcome::Delivered,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Outcome::Failed,
        StatusCode::NOT_IMPLEMENTED => Outcome::Refused,
        status if status.is_server_error() => Outcome::Failed,
        _ => Outcome::Refused,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
