//! Everything between a client's socket and the hub: listeners, routes, authentication, the signalling WebSocket.
//!
//! Driven by the supervisor, which calls [`serve`] once; the tasks end with [`Tasks::cancel`]. This row knows the hub
//! and the wire, never rooms, media or sockets of media. A request passes, in this order:
//!
//! 1. `listener`: accept, `tls` if there is a certificate, one HTTP/1.1 connection per TCP connection;
//! 2. `front`: CORS, tidy path, size limit, access token;
//! 3. a route: `/`, `signal` (`/rtc…`), `agent` (workers), `twirp` (the server API), `try_page`;
//! 4. `session`, when the WebSocket is up.
//!
//! Followed is livekit 1.13.5 `pkg/service/{server,auth,rtcservice}.go`. Not offered: permessage-deflate (the WebSocket
//! library has none).

mod address;
mod agent;
mod dispatch;
mod front;
mod listener;
mod session;
mod signal;
mod tls;
mod try_page;
mod twirp;

pub use front::Granted;
pub use listener::{Bound, StartError};
pub use tls::OpenError;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::hub;
use crate::task::Tasks;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use std::sync::Arc;

/// Bytes of a request's body (livekit 1.13.5 `pkg/service/server.go`).
const MAX_BODY: usize = 10 << 20;

/// What every route may use.
#[derive(Debug)]
pub struct App {
    /// The way to the rooms.
    pub hub: hub::Handle,
    /// Where sessions are spawned.
    pub tasks: Tasks,
    /// The wall clock: tokens expire by it, pongs tell it.
    pub clock: Clock,
    /// API keys and secrets.
    pub keys: config::Keys,
    /// Limits of names and frames.
    pub limits: config::Limits,
    /// Serve `/try`.
    pub development: bool,
    /// Whose `X-Forwarded-*` is believed, beside this machine's own.
    pub trusted_proxies: Vec<config::cidr::Cidr>,
}

impl App {
    /// What the routes need of a configuration.
    pub fn new(config: &Config, hub: hub::Handle, tasks: Tasks) -> Self {
        Self {
            hub,
            tasks,
            clock: Clock::System,
            keys: config.keys.clone(),
            limits: config.limits.clone(),
            development: config.development,
            trusted_proxies: config.http.trusted_proxies.clone(),
        }
    }
}

/// Binds the listeners of `config.http` and serves until `tasks` is cancelled.
///
/// Requests under way are then answered; WebSockets stay until the hub closes them.
pub fn serve(config: &Config, hub: hub::Handle, tasks: &Tasks) -> Result<Bound, StartError> {
    let app = Arc::new(App::new(config, hub, tasks.clone()));
    listener::start(&config.http, &router(&app), tasks)
}

/// Binds listeners for other routes than ours, and serves them until `tasks` is cancelled.
pub fn listen(config: &config::Http, routes: &Router, tasks: &Tasks) -> Result<Bound, StartError> {
    listener::start(config, routes, tasks)
}

/// All routes behind the front. Tests send requests straight into it.
pub fn router(app: &Arc<App>) -> Router {
    let mut routes = Router::new()
        .route("/", any("OK"))
        .route("/agent", any(agent::connect))
        .route("/rtc", any(signal::connect_v0))
        .route("/rtc/validate", any(signal::validate_v0))
        .route("/rtc/v1", any(signal::connect_v1))
        .route("/rtc/v1/validate", any(signal::validate_v1))
        .route("/twirp/{*rest}", any(twirp::handle));
    if app.development {
        routes = routes
            .route("/try", any(try_page::page))
            .route("/try/token", any(try_page::token));
    }
    let routes = routes
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::clone(app));
    // The front stands outside the routes because it changes the path that they look at.
    Router::new()
        .fallback_service(routes)
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(app),
            front::front,
        ))
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

#[cfg(test)]
mod tests;
