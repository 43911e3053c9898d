//! `/rtc`, `/rtc/v1` and their `validate`: who may join, and the upgrade to a WebSocket.
//!
//! The upgrade is the last step. A join that fails is an HTTP status with a text, never a WebSocket that closes, and a
//! WebSocket that opens has its first message (livekit 1.13.5 `pkg/service/rtcservice.go`). A browser cannot see the
//! status of a failed upgrade; it asks `validate`, which goes through the same checks. There 404 makes it fall back
//! to v0 and 5xx makes it try again, so a full room is 403.

use crate::config::Limits;
use crate::http::front::Granted;
use crate::http::{App, address, session};
use crate::hub::{Inbound, JoinError, Session};
use crate::protocol::join::Join;
use crate::protocol::join_request::{self, Caller, JoinFault, Query};
use crate::task::Tasks;
use axum::Extension;
use axum::extract::State;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::header::USER_AGENT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Clients give up a connect after 15 s (JS) or 5 s (Rust).
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a message that is read to its end at any rate, however small the limit.
const READ_WHOLE: usize = 64 * 1024;

/// tungstenite's own buffers are 128 kB each way, for every idle participant. It doubles the one it reads into.
const READ_BUFFER: usize = 2 * 1024;
const WRITE_BUFFER: usize = 4 * 1024;
/// One message of the room is in that buffer at a time, beside answers to pings; what waits behind is bounded in the
/// outbox. A bound here is one for a single message, and the first may hold the metadata of everybody.
const MAX_UNSENT: usize = 64 << 20;

/// What is left of the request beside the WebSocket.
type Parts = (
    Extension<Query>,
    Option<Extension<Granted>>,
    Option<Extension<ConnectInfo<SocketAddr>>>,
    HeaderMap,
);

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// `/rtc`.
pub(super) async fn connect_v0(
    State(app): State<Arc<App>>,
    parts: Parts,
    upgrade: Upgrade,
) -> Response {
    connect(&app, parts, upgrade, false).await
}

/// `/rtc/v1`.
pub(super) async fn connect_v1(
    State(app): State<Arc<App>>,
    parts: Parts,
    upgrade: Upgrade,
) -> Response {
    connect(&app, parts, upgrade, true).await
}

/// `/rtc/validate`.
pub(super) async fn validate_v0(State(app): State<Arc<App>>, parts: Parts) -> Response {
    validate(&app, parts, false).await
}

/// `/rtc/v1/validate`.
pub(super) async fn validate_v1(State(app): State<Arc<App>>, parts: Parts) -> Response {
    validate(&app, parts, true).await
}

async fn validate(app: &App, parts: Parts, must_wrap: bool) -> Response {
    let attributes = join_request::check_attributes(&parts.0);
    let join = read(app, parts, must_wrap)
        .and_then(|join| attributes.map(|()| join).map_err(Refusal::from));
    let checked = match join {
        Ok(join) => match tokio::time::timeout(JOIN_TIMEOUT, app.hub.check(&join)).await {
            Ok(result) => result.map_err(Refusal::from),
            Err(_) => Err(Refusal::SLOW),
        },
        Err(refusal) => Err(refusal),
    };
    match checked {
        Ok(()) => "success".into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn connect(app: &Arc<App>, parts: Parts, upgrade: Upgrade, must_wrap: bool) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(
            WebSocketUpgradeRejection::InvalidWebSocketVersionHeader(_)
            | WebSocketUpgradeRejection::WebSocketKeyHeaderMissing(_),
        ) => return (StatusCode::BAD_REQUEST, "Bad Request\n").into_response(),
        // Somebody looks at the address with a browser.
        Err(_) => return StatusCode::NOT_FOUND.into_response(),
    };
    let starts_in_json = parts.0.get("json") == "1";
    let joined = match read(app, parts, must_wrap) {
        Ok(join) => {
            let identity = join.claims.sub.clone();
            let result = attach(app, join).await;
            if let Err(refusal) = &result {
                tracing::info!(identity, reason = %refusal.text, "join refused");
            }
            result
        }
        Err(refusal) => {
            tracing::info!(reason = %refusal.text, "join refused");
            Err(refusal)
        }
    };
    match joined {
        Ok(attached) => upgrade_to(app, upgrade, attached, starts_in_json),
        Err(refusal) => refusal.into_response(),
    }
}

/// Answers 101 and starts the session for when the WebSocket is there.
fn upgrade_to(
    app: &Arc<App>,
    upgrade: WebSocketUpgrade,
    attached: Attached,
    starts_in_json: bool,
) -> Response {
    let limit = app.limits.signal_message_size;
    // The library cuts the connection at its limit. What is only somewhat too large is read, so that the client can be
    // told why its session ends, whatever else it has sent by then.
    let cut = limit.saturating_mul(2).max(READ_WHOLE);
    let (opened, socket) = oneshot::channel::<WebSocket>();
    let form = session::Form::new(starts_in_json);
    let clock = app.clock;
    app.tasks.spawn("session", async move {
        // An error is an upgrade that failed; `attached` then tells the room.
        if let Ok(socket) = socket.await {
            session::run(socket, attached, form, limit, clock).await;
        }
    });
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_UNSENT)
        .max_message_size(cut)
        .max_frame_size(cut)
        .on_upgrade(move |socket| async move {
            // Fails only when the session was aborted at the end of the process.
            drop(opened.send(socket));
        })
}

/// Asks the hub. The work is a task of its own: a client that hangs up meanwhile must not leave a participant behind.
async fn attach(app: &Arc<App>, join: Join) -> Result<Attached, Refusal> {
    let (reply, answer) = oneshot::channel();
    let own = Arc::clone(app);
    app.tasks.spawn("join", async move {
        let joined = own.hub.join(join).await;
        // Nobody listens any more: dropping an `Attached` tells the room.
        drop(reply.send(joined.map(|session| Attached::new(session, own.tasks.clone()))));
    });
    match tokio::time::timeout(JOIN_TIMEOUT, answer).await {
        Ok(Ok(joined)) => joined.map_err(Refusal::from),
        Ok(Err(_)) => Err(Refusal::from(JoinError::Stopping)),
        Err(_) => Err(Refusal::SLOW),
    }
}

/// A session that says [`Inbound::Gone`] to its room when it is dropped, wherever that happens.
#[derive(Debug)]
pub(super) struct Attached {
    session: Option<Session>,
    tasks: Tasks,
}

impl Attached {
    fn new(session: Session, tasks: Tasks) -> Self {
        Self {
            session: Some(session),
            tasks,
        }
    }

    /// The session itself.
    pub(super) fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("taken by drop only")
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        if !session.inbox.try_send(Inbound::Gone) {
            self.tasks.spawn("session end", async move {
                // A room that is gone does not care.
                session.inbox.send(Inbound::Gone).await.ok();
            });
        }
    }
}

/// The checks that need no room, in livekit's order (`validateInternal`).
fn read(
    app: &App,
    (Extension(query), granted, peer, headers): Parts,
    must_wrap: bool,
) -> Result<Join, Refusal> {
    let granted = granted.map(|Extension(granted)| granted);
    let Some(Granted { claims, api_key }) =
        granted.filter(|granted| granted.claims.video.is_some())
    else {
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "no permissions to access the room",
        ));
    };
    let video = claims.video.as_ref().expect("filtered for it");
    if !video.room_join {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "permissions denied"));
    }
    check_names(&app.limits, &claims.sub, &video.room)?;
    if !query.get("publish").is_empty() && video.can_publish == Some(false) {
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "no permissions to access the room",
        ));
    }
    let peer = peer.map(|Extension(ConnectInfo(address))| address.ip());
    let caller = Caller {
        user_agent: headers
            .get(USER_AGENT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default(),
        address: &address::of_client(&headers, peer, &app.trusted_proxies),
    };
    join_request::read(&query, must_wrap, claims, api_key, caller).map_err(Refusal::from)
}

fn check_names(limits: &Limits, identity: &str, room: &str) -> Result<(), Refusal> {
    let bad = |text: Cow<'static, str>| Err(Refusal::new(StatusCode::BAD_REQUEST, text));
    let too_long = |text: &str, max: usize| max > 0 && text.chars().nth(max).is_some();
    let max = limits.max_participant_identity_length;
    if identity.is_empty() {
        return bad("identity cannot be empty".into());
    }
    if too_long(identity, max) {
        let text = format!("participant identity length exceeds limits: max length {max}");
        return bad(text.into());
    }
    let max = limits.max_room_name_length;
    if room.is_empty() {
        return bad("no room name".into());
    }
    if too_long(room, max) {
        return bad(format!("room name length exceeds limits: max length {max}").into());
    }
    Ok(())
}

/// A join that is not to be, as the client reads it.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    text: Cow<'static, str>,
}

impl Refusal {
    /// The room's task does not answer.
    const SLOW: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        text: Cow::Borrowed("the server is too busy"),
    };

    fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }
}

impl From<JoinFault> for Refusal {
    fn from(fault: JoinFault) -> Self {
        Self::new(StatusCode::BAD_REQUEST, fault.to_string())
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        let status = match &error {
            JoinError::LimitExceeded(_) | JoinError::UnknownPreset(_) => StatusCode::BAD_REQUEST,
            JoinError::MayNotSetMetadata | JoinError::TokenRevoked => StatusCode::UNAUTHORIZED,
            JoinError::NodeFull(_) | JoinError::RoomFull(..) => StatusCode::FORBIDDEN,
            JoinError::RoomNotFound => StatusCode::NOT_FOUND,
            JoinError::Simulated => StatusCode::INTERNAL_SERVER_ERROR,
            JoinError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, self.text).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_room_is_403_so_that_browsers_neither_fall_back_nor_retry() {
        for (error, status, text) in [
            (
                JoinError::RoomFull("hall".to_owned(), 3),
                403,
                "room hall is full: 3 of 3 participants are there",
            ),
            (
                JoinError::NodeFull("tracks"),
                403,
                "this server is full: tracks",
            ),
            (
                JoinError::RoomNotFound,
                404,
                "requested room does not exist",
            ),
            (
                JoinError::MayNotSetMetadata,
                401,
                "no permissions to access the room",
            ),
            (
                JoinError::TokenRevoked,
                401,
                "invalid authorization token: token is revoked",
            ),
            (JoinError::LimitExceeded("x".to_owned()), 400, "x"),
            (
                JoinError::UnknownPreset("p".to_owned()),
                400,
                "unknown room preset p",
            ),
            (JoinError::Stopping, 503, "server is shutting down"),
        ] {
            let refusal = Refusal::from(error);
            assert_eq!((refusal.status.as_u16(), &*refusal.text), (status, text));
        }
    }

    #[test]
    fn names_are_limited_in_characters() {
        let limits = Limits::default();
        let text = |identity: &str, room: &str| {
            check_names(&limits, identity, room)
                .map_err(|refusal| (refusal.status.as_u16(), refusal.text.into_owned()))
        };
        assert_eq!(text(&"ü".repeat(256), &"ü".repeat(256)), Ok(()));
        let bad = |text: &str| Err((400, text.to_owned()));
        assert_eq!(text("", "r"), bad("identity cannot be empty"));
        assert_eq!(text("i", ""), bad("no room name"));
        assert_eq!(
            text(&"i".repeat(257), ""),
            bad("participant identity length exceeds limits: max length 256")
        );
        assert_eq!(
            text("i", &"r".repeat(257)),
            bad("room name length exceeds limits: max length 256")
        );
        let none = Limits {
            max_room_name_length: 0,
            ..Limits::default()
        };
        assert!(check_names(&none, "i", &"r".repeat(1000)).is_ok());
    }
}
