//! What the HTTP port promises, through the real router, hub and rooms, without media: signalling, the server API,
//! agents' workers, TLS.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test helper fails by panicking"
)]

mod agents;
mod server;
mod signal;
mod tls;
mod twirp;
