//! TLS on the HTTP port: from an accepted socket to one that speaks HTTP/1.1 or a WebSocket inside.
//!
//! Driven by `listener`, which asks each connection for its [`Tls::handshake`]. A handshake takes the newest
//! certificate; `watch` swaps it when the files change, and connections that are open do not notice. Who connects and
//! says nothing takes no handshake's place. What is no TLS is told so and closed: there is no way to plain HTTP from
//! here.

mod watch;

use crate::clock::Clock;
use crate::config;
use crate::task::Tasks;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use watch::Watch;

/// How often the files are looked at. What has changed is taken when it is the same at the next look.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// From the accept to the end of the handshake; slow clients may not hold their places.
const PATIENCE: Duration = Duration::from_secs(10);

/// For the farewell to who speaks plain HTTP.
const FAREWELL: Duration = Duration::from_secs(2);

/// Handshakes at a time, each with some 20 kB of buffers. Other connections wait for a place, as long as they have
/// patience for.
const MAX_HANDSHAKES: usize = 256;

/// First byte of a TLS connection: the record type of the ClientHello (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// Bytes of a plain request that are read before it is answered.
const MAX_PLAIN: usize = 16 * 1024;

/// What plain HTTP is answered.
const PLAIN: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\nContent-Length: 70\r\n\r\n\
    This port speaks TLS only: the address begins with https:// or wss://\n";

/// Why a listener cannot do TLS: the file and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}; renew certificate and key (`cert_file`, `pkey_file`), and start again")]
pub struct OpenError {
    path: String,
    reason: String,
}

/// What a connection needs for its handshake; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    newest: tokio::sync::watch::Receiver<Arc<ServerConfig>>,
    places: Arc<Semaphore>,
    /// [`PATIENCE`], or what a test has of it.
    patience: Duration,
}

/// Reads certificate and key, and watches them in a task of its own until `tasks` is cancelled.
pub(super) fn start(files: &config::Tls, tasks: &Tasks) -> Result<Tls, OpenError> {
    start_with(files, LOOK_EVERY, tasks)
}

fn start_with(files: &config::Tls, every: Duration, tasks: &Tasks) -> Result<Tls, OpenError> {
    let clock = Clock::System;
    let (tls, mut watch) = open(files, clock)?;
    let own = tasks.clone();
    tasks.spawn("certificate", async move {
        let mut looks = interval(every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = own.cancelled() => return,
            }
            for notice in watch.look(clock.now(), clock.unix_seconds()) {
                notice.tell();
            }
        }
    });
    Ok(tls)
}

/// The same without the task: who calls it looks at the files.
fn open(files: &config::Tls, clock: Clock) -> Result<(Tls, Watch), OpenError> {
    let (watch, newest) = Watch::open(files, clock.now(), clock.unix_seconds())?;
    let places = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let tls = Tls {
        newest,
        places,
        patience: PATIENCE,
    };
    Ok((tls, watch))
}

/// The settings of connections with this certificate. Each has a memory of its own for sessions: none is resumed
/// under another certificate.
fn server_config(certified: Arc<CertifiedKey>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs has TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

impl Tls {
    /// The connection inside TLS. An error is nothing that a person can act on: the peer went away, took too long,
    /// does not trust the certificate, or speaks something else.
    pub(super) async fn handshake(
        &self,
        mut stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let handshake = async {
            let mut first = [0];
            match stream.peek(&mut first).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ if first[0] != HANDSHAKE => {
                    // Methods of HTTP; others would not understand the answer.
                    if first[0].is_ascii_uppercase() {
                        timeout(FAREWELL, refuse_plain(&mut stream)).await??;
                    }
                    return Err(io::Error::other("no TLS"));
                }
                _ => {}
            }
            let _place = self.places.acquire().await.map_err(io::Error::other)?;
            let config = Arc::clone(&self.newest.borrow());
            TlsAcceptor::from(config).accept(stream).await
        };
        timeout(self.patience, handshake).await?
    }
}

/// Says in plain HTTP what this port speaks. The request is read first, and what follows it is read to its end: a
/// socket that is closed with bytes unread resets the connection, and the answer would be lost.
async fn refuse_plain(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") && head.len() < MAX_PLAIN {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    stream.write_all(PLAIN.as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(MAX_PLAIN as u64);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
