//! The frame pump of one WebSocket, one task, from the upgrade to the close.
//!
//! Frames of the client become requests in the room's inbox; a full inbox makes the client wait. The room's messages
//! become frames in the form that the client spoke last: protobuf at first, JSON after a text frame, protobuf again
//! after a binary one. Pings are answered here. The session decides nothing about the participant: when it ends, it
//! says [`Gone`](crate::hub::Inbound::Gone), and the room judges.
//!
//! It ends when the room closes it (code 1000, what was queued goes out first, for at most 250 ms), when the client
//! closes or vanishes, or when the client is unbearable (code 1008, or 1009 for a frame that is somewhat too large).
//! Followed is livekit 1.13.5 `pkg/service/{wsprotocol,rtcservice}.go`.

use crate::clock::Clock;
use crate::http::signal::Attached;
use crate::hub::{Inbound, Inbox, Outgoing};
use crate::protocol::livekit::{Pong, SignalRequest, signal_request, signal_response};
use crate::protocol::signal::{self, Encoded, FrameFault};
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures_util::{FutureExt, SinkExt, Stream, StreamExt, stream};
use std::error::Error;
use std::future::pending;
use std::iter::successors;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// WebSocket pings keep proxies from closing and find out who has vanished (livekit `pingFrequency`).
const PING_EVERY: Duration = Duration::from_secs(10);

/// Three pings without any frame: the client has vanished.
const SILENCE: Duration = Duration::from_secs(35);

/// What may wait for a client is there in this time over half a megabit a second, or it has no use for it.
const LONGEST_WRITE: Duration = Duration::from_secs(120);

/// For what is queued when the room closes (livekit `responseFlushTimeout`), and again for the client's own close:
/// data that arrives at a closed socket would make the kernel discard what is still on its way.
pub(super) const FLUSH: Duration = Duration::from_millis(250);

/// Requests a second that a client may send in the long run, and at once. Busy clients send about ten.
const RATE: f64 = 500.0;
const BURST: f64 = 1000.0;
/// Bytes of a frame that count as one more request: a large one costs the room as much as many.
const REQUEST_BYTES: f64 = 8192.0;

/// Frames that are no requests; they are ignored up to here.
const MAX_MALFORMED: u32 = 100;

/// Pongs that may wait for the socket; more are dropped.
const PONGS: usize = 8;

/// Which form the client speaks. Reader and writer share it; order does not matter to them.
#[derive(Debug)]
pub(super) struct Form {
    is_json: AtomicBool,
}

impl Form {
    /// Protobuf, or JSON from the first message on.
    pub(super) fn new(is_json: bool) -> Self {
        Self {
            is_json: AtomicBool::new(is_json),
        }
    }

    fn frame(&self, message: &Encoded) -> Message {
        if self.is_json.load(Ordering::Relaxed) {
            Message::Text(Utf8Bytes::from(&*message.json()))
        } else {
            Message::Binary(message.protobuf())
        }
    }
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The room let go.
    Closed,
    /// Too many requests.
    Flood,
    /// The client closed.
    Goodbye,
    /// The connection broke.
    Gone,
    /// Too many frames that are none.
    Malformed,
    /// Nothing came, not even pongs.
    Silent,
    /// A frame that is too large.
    TooLarge,
    /// A frame so large that it was not read.
    Unread,
}

/// Runs a session to its end. `limit` is the size of a request in bytes.
pub(super) async fn run(
    socket: WebSocket,
    mut attached: Attached,
    form: Form,
    limit: usize,
    clock: Clock,
) {
    let session = attached.session();
    let (mut sink, mut frames) = socket.split();
    let (pong, pongs) = mpsc::channel(PONGS);
    let is_writing = AtomicBool::new(false);
    let end = {
        let inbox = session.inbox.clone();
        let mut reader = Reader {
            inbox: Some(inbox),
            form: &form,
            is_writing: &is_writing,
            pong,
            bucket: Bucket::new(Instant::now()),
            malformed: 0,
            limit,
            clock,
        };
        let reading = pin!(reader.run(&mut frames));
        let outbox = pin!(stream::unfold(&mut session.outbox, async |outbox| {
            let outgoing = outbox.next().await?;
            Some((outgoing, outbox))
        }));
        let writing = pin!(write(&mut sink, outbox, pongs, &form, &is_writing));
        tokio::select! {
            end = reading => end,
            end = writing => end,
        }
    };
    tracing::debug!(participant = ?session.participant, ?end, "session ends");
    // The room learns it before the goodbyes, which may take a while.
    drop(attached);
    let code = match end {
        End::Gone | End::Silent => return,
        End::Goodbye => {
            // The library has its answer, with the client's code, ready (RFC 6455 §5.5.1).
            drop(timeout(FLUSH, sink.flush()).await);
            return;
        }
        End::Closed => close_code::NORMAL,
        End::Flood | End::Malformed | End::Unread => close_code::POLICY,
        End::TooLarge => close_code::SIZE,
    };
    let close = Message::Close(Some(CloseFrame {
        code,
        reason: Utf8Bytes::default(),
    }));
    if matches!(timeout(FLUSH, sink.send(close)).await, Ok(Ok(()))) {
        await_goodbye(&mut frames, end == End::Unread).await;
    }
}

/// Gives a client that was told goodbye a while for its own: a socket that is closed with something unread takes back
/// what it has sent. `unread`: the library has ended its reading.
pub(super) async fn await_goodbye<S, E>(frames: &mut S, unread: bool)
where
    S: Stream<Item = Result<Message, E>> + Unpin,
{
    let rest = async {
        while let Some(Ok(_)) = frames.next().await {}
        if unread {
            pending::<()>().await;
        }
    };
    // Whether the client said goodbye in time makes no difference.
    drop(timeout(FLUSH, rest).await);
}

/// Whether a WebSocket has met a frame beyond what it was told to read.
pub(super) fn is_too_large(error: &(dyn Error + 'static)) -> bool {
    let mut causes = successors(Some(error), |error: &&'_ (dyn Error + 'static)| {
        (*error).source()
    });
    causes.any(|cause| matches!(cause.downcast_ref(), Some(tungstenite::Error::Capacity(_))))
}

/// Client to room.
struct Reader<'a> {
    /// `None` when the room is gone; what comes is then thrown away until the writer is done.
    inbox: Option<Inbox>,
    form: &'a Form,
    /// The client is busy with what it is sent, and no ping gets through.
    is_writing: &'a AtomicBool,
    /// Behind a pointer: the channel makes room for 32 at once, and a message is large.
    pong: mpsc::Sender<Arc<Encoded>>,
    bucket: Bucket,
    malformed: u32,
    limit: usize,
    clock: Clock,
}

impl Reader<'_> {
    async fn run<S, E>(&mut self, frames: &mut S) -> End
    where
        S: Stream<Item = Result<Message, E>> + Unpin,
        E: Error + 'static,
    {
        loop {
            let frame = match timeout(SILENCE, frames.next()).await {
                Err(_) if self.is_writing.load(Ordering::Relaxed) => continue,
                Err(_) => return End::Silent,
                Ok(Some(Err(error))) if is_too_large(&error) => return End::Unread,
                Ok(None | Some(Err(_))) => return End::Gone,
                Ok(Some(Ok(frame))) => frame,
            };
            let bytes = match &frame {
                Message::Binary(bytes) => bytes.len(),
                Message::Text(text) => text.len(),
                _ => 0,
            };
            if !self.bucket.take(Instant::now(), bytes) {
                return End::Flood;
            }
            let request = match &frame {
                Message::Binary(bytes) => {
                    self.form.is_json.store(false, Ordering::Relaxed);
                    signal::decode_binary(bytes, self.limit)
                }
                Message::Text(text) => {
                    self.form.is_json.store(true, Ordering::Relaxed);
                    signal::decode_text(text, self.limit)
                }
                // The library answers pings; pongs count as a sign of life above.
                Message::Ping(_) | Message::Pong(_) => continue,
                Message::Close(_) => return End::Goodbye,
            };
            match request {
                Ok(request) => self.hand_on(request).await,
                Err(fault) => {
                    tracing::debug!(%fault, "frame ignored");
                    self.malformed += 1;
                    if let Some(inbox) = &self.inbox {
                        // It is counted only: nothing waits for that.
                        inbox.try_send(Inbound::Malformed);
                    }
                    if fault == FrameFault::TooLarge {
                        return End::TooLarge;
                    }
                    if self.malformed > MAX_MALFORMED {
                        return End::Malformed;
                    }
                }
            }
        }
    }

    async fn hand_on(&mut self, request: SignalRequest) {
        let answer = match &request.message {
            // A request of a newer client.
            None => return,
            Some(signal_request::Message::Ping(_)) => {
                signal_response::Message::Pong(self.clock.unix_ms() as i64)
            }
            Some(signal_request::Message::PingReq(ping)) => {
                signal_response::Message::PongResp(Pong {
                    last_ping_timestamp: ping.timestamp,
                    timestamp: self.clock.unix_ms() as i64,
                })
            }
            Some(_) => {
                if let Some(inbox) = &self.inbox {
                    let request = Inbound::Request(Box::new(request));
                    if inbox.send(request).await.is_err() {
                        self.inbox = None;
                    }
                }
                return;
            }
        };
        if self.pong.try_send(Arc::new(Encoded::new(answer))).is_err() {
            tracing::debug!("pong dropped: the socket is slow");
        }
    }
}

/// Room to client. A socket that takes nothing breaks by itself ([`super::listener`]); one that is slow gets its time.
async fn write<S, O>(
    sink: &mut S,
    mut outbox: O,
    mut pongs: mpsc::Receiver<Arc<Encoded>>,
    form: &Form,
    is_writing: &AtomicBool,
) -> End
where
    S: SinkExt<Message> + Unpin,
    O: Stream<Item = Outgoing> + Unpin,
{
    let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut next = tokio::select! {
            outgoing = outbox.next() => Next::from(outgoing),
            Some(pong) = pongs.recv() => Next::Message(pong),
            _ = pings.tick() => Next::Ping,
        };
        // What is there already shares the flush.
        let batch = async {
            loop {
                let frame = match next {
                    Next::Close => return sink.flush().await.map(|()| true),
                    Next::Message(message) => form.frame(&message),
                    Next::Ping => Message::Ping(bytes::Bytes::new()),
                };
                sink.feed(frame).await?;
                next = match outbox.next().now_or_never() {
                    Some(outgoing) => Next::from(outgoing),
                    None => return sink.flush().await.map(|()| false),
                };
            }
        };
        is_writing.store(true, Ordering::Relaxed);
        let written = timeout(LONGEST_WRITE, batch).await;
        is_writing.store(false, Ordering::Relaxed);
        match written {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => return End::Closed,
            Ok(Err(_)) | Err(_) => return End::Gone,
        }
    }
}

enum Next {
    Close,
    Message(Arc<Encoded>),
    Ping,
}

impl From<Option<Outgoing>> for Next {
    fn from(outgoing: Option<Outgoing>) -> Self {
        match outgoing {
            Some(Outgoing::Message(message)) => Self::Message(message),
            Some(Outgoing::Close) | None => Self::Close,
        }
    }
}

/// A token bucket: [`RATE`] a second, [`BURST`] at once, and more for large frames.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            at: now,
        }
    }

    fn take(&mut self, now: Instant, bytes: usize) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * RATE;
        self.at = now;
        self.tokens = (self.tokens + gained).min(BURST) - 1.0 - bytes as f64 / REQUEST_BYTES;
        if self.tokens < 0.0 {
            self.tokens = 0.0;
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests;
