//! Listening sockets and the HTTP/1.1 connections that they accept, inside TLS where there is a certificate.
//!
//! Our own loop instead of `axum::serve`: that one has no limit of connections, no timeout for a request's head, and
//! starts tasks that nobody tracks.

use crate::config;
use crate::http::tls::{self, Tls};
use crate::task::Tasks;
use axum::Router;
use axum::extract::Request;
use axum::extract::connect_info::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// For the head of a request, and between two requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A peer that takes nothing of what waits for it, or acknowledges nothing, for this long is gone. The kernel watches
/// over it: it knows whether a slow one takes anything.
const UNSENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections that are no WebSockets yet. More wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;

/// Length of the kernel's queue.
const BACKLOG: i32 = 1024;

/// hyper takes a request line up to 65,534 bytes; heads may have headers beside.
const MAX_HEAD: usize = 128 * 1024;

/// Listeners that are served.
#[derive(Debug)]
pub struct Bound {
    /// Where; with the real port when 0 was asked for.
    pub addresses: Vec<SocketAddr>,
}

/// Why the HTTP port cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else has it.
    #[error(
        "TCP port {port} ({address}) is in use by another program: stop that program, or set another `http_port` \
         (`port` in livekit.yaml)"
    )]
    InUse {
        /// The address.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// Ports below 1024 need a right.
    #[error(
        "TCP port {port} may not be opened by this user: set `http_port` (`port` in livekit.yaml) to one above 1023"
    )]
    NotAllowed {
        /// The port.
        port: u16,
    },
    /// The address is not one of this machine, or anything else.
    #[error("TCP port {port} cannot be opened on {address} (`bind_addresses`)")]
    Other {
        /// The address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// Certificate and key were right when the options were validated, and are no longer.
    #[error(transparent)]
    Certificate(#[from] tls::OpenError),
}

/// Binds all listeners, then serves them.
pub(super) fn start(
    config: &config::Http,
    router: &Router,
    tasks: &Tasks,
) -> Result<Bound, StartError> {
    let listeners = bind(config)?;
    let tls = match &config.tls {
        Some(files) => Some(tls::start(files, tasks)?),
        None => None,
    };
    Ok(serve(listeners, tls.as_ref(), router, tasks))
}

/// Serves listeners that are bound; without `tls` in plain HTTP.
pub(super) fn serve(
    listeners: Vec<(TcpListener, SocketAddr)>,
    tls: Option<&Tls>,
    router: &Router,
    tasks: &Tasks,
) -> Bound {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut addresses = Vec::new();
    for (listener, address) in listeners {
        tracing::debug!(%address, "listening for HTTP");
        addresses.push(address);
        let (tls, router) = (tls.cloned(), router.clone());
        let (own, permits) = (tasks.clone(), Arc::clone(&permits));
        tasks.spawn("http listener", async move {
            tokio::select! {
                () = accept(&listener, tls.as_ref(), &router, &own, &permits) => {}
                () = own.cancelled() => {}
            }
        });
    }
    Bound { addresses }
}

/// The listeners of a configuration: one per address, or one per address family.
pub(super) fn bind(config: &config::Http) -> Result<Vec<(TcpListener, SocketAddr)>, StartError> {
    let everywhere = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let is_everywhere = config.bind.is_empty();
    let wanted = if is_everywhere {
        &everywhere[..]
    } else {
        &config.bind
    };
    let mut port = config.port;
    let mut bound: Vec<(TcpListener, SocketAddr)> = Vec::new();
    let mut missing = None;
    for &ip in wanted {
        match listen(SocketAddr::new(ip, port)) {
            Ok((listener, address)) => {
                // Port 0 means any, but the same for all.
                port = address.port();
                bound.push((listener, address));
            }
            // A machine without IPv6, or without IPv4, is served on what it has.
            Err(error) if is_everywhere && is_family_missing(&error) => {
                tracing::debug!(%ip, %error, "address family is not available");
                missing = Some(fault(ip, port, error));
            }
            Err(error) => return Err(fault(ip, port, error)),
        }
    }
    match missing {
        Some(fault) if bound.is_empty() => Err(fault),
        _ => Ok(bound),
    }
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for old connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn is_family_missing(error: &io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own.
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.kind() == io::ErrorKind::Unsupported
        || error.raw_os_error() == Some(97)
}

fn fault(address: IpAddr, port: u16, error: io::Error) -> StartError {
    match error.kind() {
        io::ErrorKind::AddrInUse => StartError::InUse { address, port },
        io::ErrorKind::PermissionDenied => StartError::NotAllowed { port },
        _ => StartError::Other {
            address,
            port,
            error,
        },
    }
}

async fn accept(
    listener: &TcpListener,
    tls: Option<&Tls>,
    router: &Router,
    tasks: &Tasks,
    permits: &Arc<Semaphore>,
) {
    loop {
        let permit = Arc::clone(permits)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (tls, router, own) = (tls.cloned(), router.clone(), tasks.clone());
                tasks.spawn("http connection", async move {
                    connection(stream, peer, tls, router, &own).await;
                    drop(permit);
                });
            }
            Err(error) if is_connection_fault(&error) => {}
            Err(error) => {
                // Out of file descriptors or memory; trying again at once would be a busy loop.
                tracing::error!(%error, "connections cannot be accepted");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// The connection broke before it was accepted.
fn is_connection_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Serves one connection: its handshake, if there is TLS, and its requests.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Tls>,
    router: Router,
    tasks: &Tasks,
) {
    // Signals are small and urgent. A socket that refuses an option still works.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(UNSENT_TIMEOUT)) {
        tracing::debug!(%error, "TCP_USER_TIMEOUT");
    }
    let Some(tls) = tls else {
        return requests(stream, peer, router, tasks).await;
    };
    let handshake = tokio::select! {
        handshake = tls.handshake(stream) => handshake,
        () = tasks.cancelled() => return,
    };
    match handshake {
        Ok(stream) => requests(stream, peer, router, tasks).await,
        Err(error) => tracing::debug!(%error, %peer, "TLS handshake"),
    }
}

/// Serves the requests of one connection; ends when it is upgraded.
async fn requests<S>(stream: S, peer: SocketAddr, router: Router, tasks: &Tasks)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = tasks.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, %peer, "HTTP connection");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(port: u16, bind: &[&str]) -> config::Http {
        config::Http {
            port,
            bind: bind.iter().map(|ip| ip.parse().unwrap()).collect(),
            ..config::Http::default()
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_option() {
        let bound = bind(&http(0, &["127.0.0.1"])).unwrap();
        let port = bound[0].1.port();
        let error = bind(&http(port, &["127.0.0.1"])).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "TCP port {port} (127.0.0.1) is in use by another program: stop that program, or set another \
                 `http_port` (`port` in livekit.yaml)"
            )
        );
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_an_error() {
        let error = bind(&http(0, &["192.0.2.77"])).unwrap_err().to_string();
        assert_eq!(
            error,
            "TCP port 0 cannot be opened on 192.0.2.77 (`bind_addresses`)"
        );
    }

    #[tokio::test]
    async fn without_addresses_every_family_has_the_same_port() {
        let bound = bind(&http(0, &[])).unwrap();
        assert!(bound.iter().any(|(_, address)| address.is_ipv4()));
        let ports: Vec<_> = bound.iter().map(|(_, address)| address.port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0));
    }
}
