//! `/try`: a page to make a call with, and the tokens for it. Served in development only: anybody gets a token.

use crate::http::App;
use crate::protocol::token::{self, Claims};
use crate::random::Random;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const PAGE: &str = include_str!("try_page.html");
const ROOM: &str = "try";
const LIFETIME: Duration = Duration::from_secs(6 * 3600);
const NOT_STORED: (HeaderName, &str) = (CACHE_CONTROL, "no-store");

/// `/try`.
pub(super) async fn page() -> Response {
    (
        [(CONTENT_TYPE, "text/html; charset=utf-8"), NOT_STORED],
        PAGE,
    )
        .into_response()
}

/// `/try/token`: a token for somebody new in the room `try`.
pub(super) async fn token(State(app): State<Arc<App>>) -> Response {
    let Some((api_key, secret)) = app.keys.0.first() else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "no API key").into_response();
    };
    let identity = format!("guest-{}", Random::system().text(6));
    let now = app.clock.unix_seconds();
    let mut claims = Claims::for_join(api_key, ROOM, &identity, now, LIFETIME);
    claims.name.clone_from(&identity);
    let token = token::sign(&claims, secret);
    let body = json!({"token": token, "identity": identity, "room": ROOM});
    let json = (CONTENT_TYPE, "application/json");
    ([json, NOT_STORED], body.to_string()).into_response()
}
