//! The numbers for Prometheus, on a port of their own (livekit 1.13.5 `pkg/service/server.go`, `promServer`).
//!
//! Driven by the supervisor, which calls [`serve`] once. Nothing is kept here: a scrape asks the hub, the workers and
//! the webhooks for what they have counted.

mod text;

use crate::config::{self, Config};
use crate::http;
use crate::hub;
use crate::net;
use crate::secret::Secret;
use crate::task::Tasks;
use crate::webhook;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::Router;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use std::sync::Arc;

/// As `encoding/text.rs` of the library writes it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why the port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("the port {port} for Prometheus (`prometheus.port`) cannot be opened")]
pub struct StartError {
    port: u16,
    #[source]
    cause: http::StartError,
}

/// Where numbers come from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Rooms.
    pub hub: hub::Handle,
    /// Workers.
    pub net: net::Handle,
    /// Webhooks.
    pub webhooks: webhook::Handle,
}

/// Everything a scrape tells.
#[derive(Debug, Default)]
struct Snapshot {
    node_id: String,
    census: hub::Census,
    counted: hub::Counted,
    workers: Vec<crate::plan::WorkerReport>,
    dropped_connections: Vec<(&'static str, u64)>,
    webhooks: Option<webhook::Counts>,
}

#[derive(Debug)]
struct Page {
    sources: Sources,
    login: Option<(String, Secret<String>)>,
}

/// Serves until `tasks` is cancelled, if the configuration has a port for it.
pub fn serve(
    config: &Config,
    sources: Sources,
    tasks: &Tasks,
) -> Result<Option<http::Bound>, StartError> {
    let Some(prometheus) = &config.prometheus else {
        return Ok(None);
    };
    let listener = config::Http {
        port: prometheus.port,
        bind: config.http.bind.clone(),
        ..config::Http::default()
    };
    let page = Page {
        sources,
        login: prometheus.login.clone(),
    };
    http::listen(&listener, &router(page), tasks)
        .map(Some)
        .map_err(|cause| StartError {
            port: prometheus.port,
            cause,
        })
}

/// Any path will do, as with LiveKit.
fn router(page: Page) -> Router {
    Router::new().fallback(scrape).with_state(Arc::new(page))
}

async fn scrape(State(page): State<Arc<Page>>, headers: HeaderMap) -> Response {
    if !admits(page.login.as_ref(), &headers) {
        let ask = [(WWW_AUTHENTICATE, "Basic realm=\"metrics\"")];
        return (StatusCode::UNAUTHORIZED, ask, "Unauthorized\n").into_response();
    }
    let snapshot = page.sources.snapshot().await;
    ([(CONTENT_TYPE, OPEN_METRICS)], text::render(snapshot)).into_response()
}

/// Whether the request carries the login that is asked for (RFC 7617).
fn admits(login: Option<&(String, Secret<String>)>, headers: &HeaderMap) -> bool {
    let Some((name, password)) = login else {
        return true;
    };
    let given = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, text)| {
            base64::engine::general_purpose::STANDARD
                .decode(text.trim())
                .ok()
        });
    let wanted = format!("{name}:{}", password.reveal());
    given.is_some_and(|given| verify_slices_are_equal(&given, wanted.as_bytes()).is_ok())
}

impl Sources {
    async fn snapshot(&self) -> Snapshot {
        let (census, workers) = tokio::join!(self.hub.census(), self.net.reports());
        Snapshot {
            node_id: self.hub.node_id().to_owned(),
            census,
            counted: self.hub.counted(),
            workers,
            dropped_connections: self.net.dropped_connections(),
            webhooks: self.webhooks.counts(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_is_asked_for_and_checked() {
        let text = |text: &str| {
            let text = base64::engine::general_purpose::STANDARD.encode(text);
            HeaderMap::from_iter([(AUTHORIZATION, format!("Basic {text}").parse().unwrap())])
        };
        let tried = |login: Option<(&str, &str)>, headers: &HeaderMap| {
            let login =
                login.map(|(name, password)| (name.to_owned(), Secret::new(password.to_owned())));
            admits(login.as_ref(), headers)
        };
        assert!(tried(None, &HeaderMap::new()));
        assert!(!tried(Some(("u", "p")), &HeaderMap::new()));
        assert!(!tried(Some(("u", "p")), &text("u:q")));
        assert!(!tried(Some(("u", "p")), &text("up")));
        assert!(tried(Some(("u", "p:p")), &text("u:p:p")));
    }
}
