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

/// Receivers of rooms that may have something waiting at the same time.
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
    /// Events were left out because too many receivers of rooms were busy, and the log says so.
    pub(super) is_crowded: bool,
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
        for receiver in 0..self.configured {
            let key = (receiver, Arc::clone(&room));
            self.queues.push(now, key, message.clone());
        }
        for url in notice.extra.iter() {
            match self.number(url) {
                Some(receiver) if receiver < self.configured => {}
                // At once: a receiver that nothing waits for may lose its number to the next.
                Some(receiver) => {
                    let key = (receiver, Arc::clone(&room));
                    self.queues.push(now, key, message.clone());
                }
                None => self.leave_out(),
            }
        }
        self.publish();
    }

    /// The number of a receiver. A new one of a room gets that of another one with nothing under way if there are many.
    /// `None`: all of them are busy.
    fn number(&mut self, url: &Arc<str>) -> Option<usize> {
        if let Some(known) = self.urls.iter().position(|known| known == url) {
            return Some(known);
        }
        if self.urls.len() < self.configured + MAX_EXTRA {
            self.urls.push(Arc::clone(url));
            return Some(self.urls.len() - 1);
        }
        let mut extra = self.configured..self.urls.len();
        let free = extra.find(|receiver| self.queues.forget_if_idle(*receiver))?;
        self.urls[free] = Arc::clone(url);
        Some(free)
    }

    /// There are too many receivers for an event. Counted each time, told once.
    fn leave_out(&mut self) {
        self.queues.drop_unseen();
        if !std::mem::replace(&mut self.is_crowded, true) {
            tracing::warn!(
                busy = MAX_EXTRA,
                "rooms name too many receivers of webhooks; events for further ones are dropped"
            );
        }
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

#[cfg(test)]
mod tests {
    use super::super::queue::Bounds;
    use super::*;
    use crate::protocol::livekit::{Room, WebhookEvent};
    use crate::random::Random;
    use std::sync::atomic::AtomicUsize;
    use tracing::{Event, Level, Subscriber};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    const CONFIGURED: &str = "http://127.0.0.1/all";

    fn sender() -> Sender {
        let bounds = Bounds {
            depth: 200,
            age: Duration::from_secs(300),
            configured: 1,
        };
        Sender {
            queues: Queues::new(bounds, Random::seeded(1)),
            post: Post {
                client: client(&[CONFIGURED]).unwrap(),
                key: "key".to_owned(),
                secret: Secret::new("secret".to_owned()),
                clock: Clock::Fixed(0),
            },
            secure: None,
            configured: 1,
            urls: vec![CONFIGURED.into()],
            is_crowded: false,
            counters: Arc::default(),
            tasks: Tasks::new(),
        }
    }

    impl Sender {
        /// Something happens in a room with these receivers of its own.
        fn happens(&mut self, room: &str, urls: &[&str]) {
            let event = WebhookEvent {
                event: "room_started".to_owned(),
                room: Some(Room {
                    name: room.to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            self.take_in(&Notice {
                event: Box::new(event),
                extra: urls.iter().map(|url| Arc::from(*url)).collect(),
            });
        }

        /// Gives out all that may be sent: where it goes.
        fn gives_out(&mut self) -> Vec<(Key, String)> {
            let mut all = Vec::new();
            while let Some((key, _)) = self.queues.poll(self.now()) {
                let url = self.urls[key.0].as_ref().to_owned();
                if url != CONFIGURED {
                    all.push((key, url));
                    continue;
                }
                self.done(&key, Outcome::Delivered, "");
            }
            all
        }

        fn dropped(&self) -> u64 {
            self.counters.dropped.load(Ordering::Relaxed)
        }
    }

    fn url(number: usize) -> String {
        format!("http://127.0.0.1/{number}")
    }

    #[test]
    fn a_room_s_own_receiver_hears_of_it_however_many_others_had_theirs_before() {
        let mut sender = sender();
        for number in 0..3 * MAX_EXTRA {
            sender.happens(&number.to_string(), &[&url(number)]);
            let sent = sender.gives_out();
            let urls: Vec<&str> = sent.iter().map(|(_, url)| url.as_str()).collect();
            assert_eq!(urls, [url(number)]);
            // One of them wants nothing, which does not keep its place for ever.
            let outcome = if number == 7 {
                Outcome::Refused
            } else {
                Outcome::Delivered
            };
            sender.done(&sent[0].0, outcome, "");
        }
        assert_eq!(sender.dropped(), 0);
        assert_eq!(sender.urls.len(), 1 + MAX_EXTRA);
    }

    #[test]
    fn what_finds_all_places_busy_is_dropped_and_counted_until_one_is_free() {
        let mut sender = sender();
        for number in 0..MAX_EXTRA {
            sender.happens(&number.to_string(), &[&url(number)]);
        }
        let sent = sender.gives_out();
        assert_eq!(sent.len(), MAX_EXTRA);
        let (one, two) = ("http://127.0.0.1/one", "http://127.0.0.1/two");
        sender.happens("yard", &[one, two, &url(5)]);
        assert_eq!(sender.dropped(), 2, "who has a place keeps it");
        let (freed, _) = &sent[3];
        sender.done(freed, Outcome::Delivered, "");
        sender.happens("yard", &[one, two]);
        assert_eq!(sender.dropped(), 3, "one place for two");
        let then = sender.gives_out();
        let mut urls: Vec<&str> = then.iter().map(|(_, url)| url.as_str()).collect();
        urls.sort_unstable();
        assert_eq!(urls, [url(5).as_str(), one]);
        // What failed is tried again, so its place is not free.
        let (failed, _) = &sent[2];
        sender.done(failed, Outcome::Failed, "");
        sender.happens("hall", &[two]);
        assert_eq!(sender.dropped(), 4);
        // What was under way meanwhile is booked on those whom it was sent to.
        let mut under_way: Vec<_> = sent.iter().chain(&then).collect();
        under_way.retain(|sent| ![failed, freed].contains(&&sent.0));
        for (key, at) in under_way {
            let delivered = sender.queues.tally().delivered;
            assert_eq!(&*sender.urls[key.0], at);
            sender.done(key, Outcome::Delivered, "");
            assert_eq!(sender.queues.tally().delivered, delivered + 1);
        }
        assert_eq!(sender.queues.len(), 2, "what failed, and the hall's");
    }

    /// Counts warnings.
    struct Warnings(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Warnings {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            if *event.metadata().level() == Level::WARN {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn that_there_are_too_many_receivers_is_said_once() {
        let mut sender = sender();
        let count = Arc::default();
        let layer = Warnings(Arc::clone(&count));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for number in 0..MAX_EXTRA + 10 {
                sender.happens(&number.to_string(), &[&url(number)]);
            }
        });
        assert_eq!(sender.dropped(), 10);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_receiver_that_takes_the_place_of_one_that_failed_has_not_failed() {
        let mut sender = sender();
        for number in 0..2 * MAX_EXTRA {
            sender.happens("den", &[&url(number)]);
            let (key, _) = sender.gives_out().remove(0);
            let now = sender.now();
            let turn = sender.queues.done(now, &key, Outcome::Refused);
            assert_eq!(turn, Some(Turn::Worse), "{number}");
        }
    }
}
