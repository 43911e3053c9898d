//! Webhooks: what happens in rooms is posted to the receivers of the configuration (livekit 1.13.5 `protocol/webhook`).
//!
//! The room decides what happened ([`crate::room::Output::Webhook`]), its task hands that to [`Handle::notify`], which
//! never waits. One task owns the queues ([`queue`]) and the requests ([`sender`]).
//!
//! Promised: a receiver sees the events of one room in their order, each at least once or counted as dropped, and a
//! receiver that is slow or gone delays neither rooms nor other receivers. Not promised: events survive no restart,
//! though a stop waits for those that can be delivered in two seconds.

mod queue;
mod sender;
#[cfg(test)]
mod tests;

use crate::clock::Clock;
use crate::config;
use crate::protocol::livekit::WebhookEvent;
use crate::random::Random;
use crate::task::Tasks;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Events that the task has not taken in yet; past this they are dropped and counted.
const INBOX: usize = 1024;

/// Why no webhook can be sent.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Most likely the machine has no certificates to trust.
    #[error("webhooks cannot be sent to https: {0} (are ca-certificates installed?)")]
    Client(String),
}

/// A way to tell of events; cheap to clone. Without a key to sign with it does nothing.
#[derive(Debug, Clone, Default)]
pub struct Handle {
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    include: Vec<String>,
    exclude: Vec<String>,
    events: mpsc::Sender<Notice>,
    counters: Arc<Counters>,
}

/// An event, and who hears of it beside the receivers of the configuration.
#[derive(Debug)]
struct Notice {
    event: Box<WebhookEvent>,
    extra: Arc<[Arc<str>]>,
}

/// What became of events; written by the task, read by whoever asks.
#[derive(Debug, Default)]
struct Counters {
    overflowed: AtomicU64,
    delivered: AtomicU64,
    refused: AtomicU64,
    failed_tries: AtomicU64,
    dropped: AtomicU64,
    waiting: AtomicU64,
}

/// What became of events so far. An event counts once for each receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken by their receiver (status 2xx).
    pub delivered: u64,
    /// Refused by their receiver: any status but 2xx, 408, 429 and 5xx.
    pub refused: u64,
    /// Requests that failed; the event may have been delivered later.
    pub failed_tries: u64,
    /// Given up: too old, too many waiting, too many receivers, or the server stopped.
    pub dropped: u64,
    /// Waiting or on their way.
    pub waiting: u64,
}

/// Starts the task that sends; without a key to sign with there is none.
pub fn start(
    config: &config::Webhook,
    random: Random,
    clock: Clock,
    tasks: &Tasks,
) -> Result<Handle, StartError> {
    let Some((key, secret)) = config.signer.clone() else {
        return Ok(Handle::default());
    };
    let client = sender::client(&config.urls)?;
    let (events, receiver) = mpsc::channel(INBOX);
    let counters = Arc::new(Counters::default());
    let bounds = queue::Bounds {
        depth: config.max_depth,
        age: config.max_age,
        configured: config.urls.len(),
    };
    let sender = sender::Sender {
        queues: queue::Queues::new(bounds, random),
        post: sender::Post {
            client,
            key,
            secret,
            clock,
        },
        secure: None,
        configured: config.urls.len(),
        urls: config.urls.iter().map(|url| url.as_str().into()).collect(),
        is_crowded: false,
        counters: Arc::clone(&counters),
        tasks: tasks.clone(),
    };
    tasks.spawn("webhooks", sender.run(receiver));
    Ok(Handle {
        inner: Some(Arc::new(Inner {
            include: config.include_events.clone(),
            exclude: config.exclude_events.clone(),
            events,
            counters,
        })),
    })
}

impl Handle {
    /// Whether anything can be sent: there is a key to sign with.
    pub fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// Tells all receivers, those of the room too, unless the filter leaves this event out. Never waits.
    pub fn notify(&self, event: Box<WebhookEvent>, extra: Arc<[Arc<str>]>) {
        let Some(inner) = &self.inner else { return };
        let is_wanted = inner.wants(&event.event);
        if is_wanted && inner.events.try_send(Notice { event, extra }).is_err() {
            inner.counters.overflowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of events so far; `None` without a key to sign with.
    pub fn counts(&self) -> Option<Counts> {
        let counters = &self.inner.as_ref()?.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(Counts {
            delivered: read(&counters.delivered),
            refused: read(&counters.refused),
            failed_tries: read(&counters.failed_tries),
            dropped: read(&counters.dropped) + read(&counters.overflowed),
            waiting: read(&counters.waiting),
        })
    }
}

impl Inner {
    /// Names to include have the last word, as with LiveKit.
    fn wants(&self, event: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == event);
        if self.include.is_empty() {
            !named(&self.exclude)
        } else {
            named(&self.include)
        }
    }
}
