//! The routes behind ingress: the page, what it asks for every few seconds, and key and secret for who clicks.
//!
//! Home Assistant shows the page below a path of its own (`X-Ingress-Path`) that never gets here, so every URL in it is
//! relative. Nothing of a request or of a room is ever written into the HTML: the page takes it as JSON and shows it as
//! text, and its Content-Security-Policy names the one script and the one style that it has by their hashes.

use super::status::Sources;
use aws_lc_rs::digest;
use axum::Router;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

const PAGE: &str = include_str!("page.html");

/// What the routes share.
#[derive(Debug)]
pub(super) struct Page {
    sources: Sources,
    /// Who may connect.
    peer: IpAddr,
    policy: HeaderValue,
}

impl Page {
    pub(super) fn new(sources: Sources, peer: IpAddr) -> Self {
        Self {
            sources,
            peer,
            policy: policy(),
        }
    }
}

/// The routes; who is not the peer is refused on all of them.
pub(super) fn router(page: Arc<Page>) -> Router {
    Router::new()
        .route("/", get(html))
        .route("/status.json", get(status))
        .route("/secret", post(secret))
        .layer(from_fn_with_state(Arc::clone(&page), guard))
        .with_state(page)
}

async fn guard(
    State(page): State<Arc<Page>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if peer.ip().to_canonical() != page.peer {
        tracing::debug!(%peer, "refused: this port is for Home Assistant's ingress");
        let close = [(CONNECTION, "close")];
        return (StatusCode::FORBIDDEN, close, "403: Forbidden\n").into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CONTENT_SECURITY_POLICY, page.policy.clone());
    response
}

async fn html() -> Response {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response()
}

async fn status(State(page): State<Arc<Page>>) -> Response {
    let now = page.sources.now().await;
    as_json(&page.sources.facts().tell(&now))
}

/// A POST: nothing that fetches ahead or keeps what it has fetched does this unasked.
async fn secret(State(page): State<Arc<Page>>) -> Response {
    match &page.sources.facts().key {
        Some((key, secret)) => as_json(&json!({ "key": key, "secret": secret.reveal() })),
        None => (StatusCode::NOT_FOUND, "there is no API key\n").into_response(),
    }
}

fn as_json(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// Home Assistant frames the page, from the same origin.
fn policy() -> HeaderValue {
    let text = format!(
        "default-src 'none'; connect-src 'self'; img-src data:; script-src '{}'; style-src '{}'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'self'",
        hash("script"),
        hash("style"),
    );
    HeaderValue::try_from(text).expect("plain ASCII")
}

/// The hash of an element's text, as CSP 3 (§2.3.1) names it.
fn hash(element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let text = PAGE
        .split_once(&open)
        .and_then(|(_, rest)| rest.split_once(&close))
        .expect("the page has one of each")
        .0;
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let hash = base64::engine::general_purpose::STANDARD.encode(hash);
    format!("sha256-{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_else_and_works_below_any_path() {
        for outside in [
            "http:", "https:", "//", "src=\"/", "href=\"/", "fetch('/", "url(",
        ] {
            let found: Vec<_> = PAGE
                .lines()
                .filter(|line| line.contains(outside) && !line.contains("xmlns"))
                .collect();
            assert!(found.is_empty(), "{outside}: {found:?}");
        }
        assert_eq!(PAGE.matches("<script>").count(), 1);
        assert_eq!(PAGE.matches("<style>").count(), 1);
        for relative in ["fetch('status.json'", "fetch('secret'"] {
            assert!(PAGE.contains(relative), "{relative}");
        }
    }

    #[test]
    fn what_is_told_becomes_text_and_never_markup() {
        for way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "setAttribute(",
            " style=\"",
            " onclick=",
        ] {
            assert!(!PAGE.contains(way), "{way}");
        }
    }

    #[test]
    fn the_policy_allows_one_script_and_one_style() {
        let policy = policy();
        let policy = policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(policy.matches("sha256-").count(), 2, "{policy}");
    }
}
