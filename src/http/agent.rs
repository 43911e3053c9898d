//! `/agent`: the WebSocket of a worker, which runs agents (livekit.md 5.5).
//!
//! Framed as the signalling of clients is: protobuf in binary frames, protojson in text frames, answered in the form
//! that was spoken last. Pings of the worker are answered here. What its messages mean is for [`crate::agent`].

use crate::agent::{Link, Up};
use crate::clock::Clock;
use crate::http::App;
use crate::http::front::Granted;
use crate::http::session::{FLUSH, await_goodbye, is_too_large};
use crate::protocol::livekit::{
    ServerMessage, WorkerMessage, WorkerPong, server_message, worker_message,
};
use crate::protocol::signal::decode_worker_text;
use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// WebSocket pings keep proxies from closing and find out who has vanished.
const PING_EVERY: Duration = Duration::from_secs(10);
/// Three pings without any frame: the worker has vanished.
const SILENCE: Duration = Duration::from_secs(35);
/// A socket that takes nothing for this long is as good as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Frames that are no messages; they are ignored up to here.
const MAX_MALFORMED: u32 = 100;
/// The library's own buffers are 128 kB each way.
const BUFFER: usize = 4 * 1024;

/// The route.
pub(super) async fn connect(
    State(app): State<Arc<App>>,
    granted: Option<Extension<Granted>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let granted = granted.map(|Extension(granted)| granted);
    let is_agent = |granted: &Granted| granted.claims.video.as_ref().is_some_and(|v| v.agent);
    let Some(Granted { api_key, .. }) = granted.filter(is_agent) else {
        return (StatusCode::UNAUTHORIZED, "permissions denied").into_response();
    };
    let upgrade = upgrade
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(app.limits.agent_message_size)
        .max_frame_size(app.limits.agent_message_size);
    upgrade.on_upgrade(move |socket| async move {
        let own = Arc::clone(&app);
        app.tasks.spawn("agent worker", async move {
            run(&own, socket, api_key).await;
        });
    })
}

async fn run(app: &App, mut socket: WebSocket, api_key: String) {
    let Some(link) = app.hub.agents().connect(api_key).await else {
        tracing::warn!("agent worker refused: there are too many");
        return close(&mut socket, close_code::AGAIN).await;
    };
    let up = link.up();
    let end = tokio::select! {
        end = pump(&mut socket, link, &up, app.clock) => end,
        () = app.tasks.cancelled() => End::Closed,
    };
    up.gone().await;
    tracing::info!(?end, "agent worker gone");
    match end {
        End::Closed => close(&mut socket, close_code::NORMAL).await,
        End::Malformed => close(&mut socket, close_code::POLICY).await,
        End::TooLarge => close(&mut socket, close_code::SIZE).await,
        End::Gone => {}
    }
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The keeper of agents let go.
    Closed,
    /// The worker closed, fell silent, or takes nothing.
    Gone,
    /// Too many frames that are no messages.
    Malformed,
    /// A message that is too large.
    TooLarge,
}

async fn pump(socket: &mut WebSocket, mut link: Link, up: &Up, clock: Clock) -> End {
    let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let mut malformed = 0;
    let mut is_json = false;
    loop {
        let out = tokio::select! {
            message = link.next() => match message {
                Some(message) => Some(frame_of(&message, is_json)),
                None => return End::Closed,
            },
            frame = socket.next() => {
                let frame = match frame {
                    Some(Ok(frame)) => frame,
                    Some(Err(error)) if is_too_large(&error) => return End::TooLarge,
                    Some(Err(_)) | None => return End::Gone,
                };
                heard = Instant::now();
                let message = match &frame {
                    Message::Binary(bytes) => {
                        is_json = false;
                        WorkerMessage::decode(bytes.clone()).ok()
                    }
                    Message::Text(text) => {
                        is_json = true;
                        decode_worker_text(text).ok()
                    }
                    Message::Ping(_) | Message::Pong(_) => continue,
                    Message::Close(_) => return End::Gone,
                };
                match message.map(|message| message.message) {
                    Some(Some(worker_message::Message::Ping(ping))) => {
                        let pong = pong(ping.timestamp, clock);
                        Some(frame_of(&pong, is_json))
                    }
                    Some(message) => {
                        up.send(WorkerMessage { message }).await;
                        None
                    }
                    None if malformed < MAX_MALFORMED => {
                        malformed += 1;
                        None
                    }
                    None => return End::Malformed,
                }
            }
            _ = pings.tick() => {
                if heard.elapsed() > SILENCE {
                    return End::Gone;
                }
                Some(Message::Ping(bytes::Bytes::new()))
            }
        };
        if let Some(out) = out
            && !matches!(timeout(WRITE_TIMEOUT, socket.send(out)).await, Ok(Ok(())))
        {
            return End::Gone;
        }
    }
}

fn pong(last_timestamp: i64, clock: Clock) -> ServerMessage {
    let pong = WorkerPong {
        last_timestamp,
        timestamp: clock.unix_ms() as i64,
    };
    ServerMessage {
        message: Some(server_message::Message::Pong(pong)),
    }
}

fn frame_of(message: &ServerMessage, is_json: bool) -> Message {
    if !is_json {
        return Message::Binary(message.encode_to_vec().into());
    }
    let text = serde_json::to_string(message)
        .map_err(|error| tracing::error!(%error, "a message has no JSON form"));
    // An enum's unknown number is all that pbjson refuses; `{}` is an empty message.
    Message::Text(text.map_or_else(|()| Utf8Bytes::from_static("{}"), Utf8Bytes::from))
}

/// Says goodbye; whether the worker hears it makes no difference.
async fn close(socket: &mut WebSocket, code: u16) {
    let frame = CloseFrame {
        code,
        reason: Utf8Bytes::default(),
    };
    let goodbye = socket.send(Message::Close(Some(frame)));
    if matches!(timeout(FLUSH, goodbye).await, Ok(Ok(()))) {
        await_goodbye(socket, code == close_code::SIZE).await;
    }
}
