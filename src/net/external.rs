//! Our public IPv4 address, as STUN servers see it (RFC 8489 binding requests).
//!
//! One query asks the servers in order until one answers. Who calls decides when to ask again. IPv6 is not asked for:
//! it is not translated, the interfaces have it.

use super::stun;
use crate::random::Random;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::timeout;

/// Asked when the configuration names none.
const SERVERS: [&str; 2] = ["stun.l.google.com:19302", "stun.cloudflare.com:3478"];
/// RFC 8489 §6.2.1: each wait for an answer is twice as long as the one before; three are enough to try another server.
const WAITS: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
const LOOKUP: Duration = Duration::from_secs(5);

/// The address may change behind our back: home connections get a new one at night.
pub(super) const RECHECK: Duration = Duration::from_secs(600);
/// The first pause after a failure; it doubles up to [`RECHECK`].
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// Why no server told our address. The last server's reason.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExternalError {
    #[error("{server} cannot be resolved: {source}")]
    Lookup { server: String, source: io::Error },
    #[error("{server} has no IPv4 address")]
    NoAddress { server: String },
    #[error("{server} cannot be asked: {source}")]
    Send { server: String, source: io::Error },
    #[error("{server} does not answer")]
    Silent { server: String },
}

/// Asks the servers (`host:port`, also with a leading `stun:`) from `source`.
pub(super) async fn discover(
    servers: &[String],
    source: Ipv4Addr,
    random: &mut Random,
) -> Result<Ipv4Addr, ExternalError> {
    let mut last = None;
    let defaults = SERVERS.map(str::to_owned);
    let servers = if servers.is_empty() {
        &defaults
    } else {
        servers
    };
    for server in servers {
        match ask(server, source, random).await {
            Ok(address) => return Ok(address),
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("at least one server is asked"))
}

async fn ask(
    server: &str,
    source: Ipv4Addr,
    random: &mut Random,
) -> Result<Ipv4Addr, ExternalError> {
    let owned = || server.to_owned();
    let address = resolve(server).await?;
    let failed = |source| ExternalError::Send {
        server: server.to_owned(),
        source,
    };
    let socket = UdpSocket::bind((source, 0)).await.map_err(failed)?;
    // Connected: only this server's answers arrive.
    socket.connect(address).await.map_err(failed)?;
    let mut transaction = [0; 12];
    random.fill(&mut transaction);
    for wait in WAITS {
        socket
            .send(&stun::binding_request(transaction))
            .await
            .map_err(failed)?;
        match timeout(wait, answer(&socket, transaction)).await {
            Ok(Ok(address)) => return Ok(address),
            Ok(Err(error)) => return Err(failed(error)),
            Err(_) => {}
        }
    }
    Err(ExternalError::Silent { server: owned() })
}

async fn answer(socket: &UdpSocket, transaction: [u8; 12]) -> io::Result<Ipv4Addr> {
    let mut buffer = [0; 1500];
    loop {
        let len = socket.recv(&mut buffer).await?;
        let mapped = stun::mapped_address(&buffer[..len], transaction);
        if let Some(IpAddr::V4(address)) = mapped.map(|mapped| mapped.ip()) {
            return Ok(address);
        }
    }
}

async fn resolve(server: &str) -> Result<SocketAddr, ExternalError> {
    let host = server.strip_prefix("stun:").unwrap_or(server);
    let host = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:3478")
    };
    let failed = |source| ExternalError::Lookup {
        server: server.to_owned(),
        source,
    };
    let found = timeout(LOOKUP, lookup_host(host)).await;
    let mut found = found
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    found
        .find(SocketAddr::is_ipv4)
        .ok_or_else(|| ExternalError::NoAddress {
            server: server.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's address, and what it does: answers the request after the first `ignored`.
    async fn server(ignored: usize) -> (String, impl Future<Output = ()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let serve = async move {
            let mut buffer = [0; 100];
            for _ in 0..ignored {
                socket.recv(&mut buffer).await.unwrap();
            }
            let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
            let mapped = "203.0.113.9:1234".parse().unwrap();
            let response = stun::tests::response_to(&buffer[..len], mapped);
            let mut foreign = response.clone();
            foreign[8] ^= 1;
            socket.send_to(&foreign, from).await.unwrap();
            socket.send_to(&response, from).await.unwrap();
        };
        (address, serve)
    }

    #[tokio::test]
    async fn a_server_tells_our_address_after_a_lost_request() {
        let (address, serve) = server(1).await;
        let servers = [format!("stun:{address}")];
        let mut random = Random::seeded(1);
        let ask = discover(&servers, Ipv4Addr::LOCALHOST, &mut random);
        let both = async { tokio::join!(ask, serve) };
        let (found, ()) = timeout(LOOKUP, both).await.unwrap();
        assert_eq!(found.unwrap(), Ipv4Addr::new(203, 0, 113, 9));
    }

    #[tokio::test]
    async fn the_next_server_is_asked_when_one_refuses() {
        let closed = {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.local_addr().unwrap().to_string()
        };
        let (open, serve) = server(0).await;
        let servers = [closed, open];
        let mut random = Random::seeded(1);
        let ask = discover(&servers, Ipv4Addr::LOCALHOST, &mut random);
        let both = async { tokio::join!(ask, serve) };
        let (found, ()) = timeout(LOOKUP, both).await.unwrap();
        assert_eq!(found.unwrap(), Ipv4Addr::new(203, 0, 113, 9));

        let error = discover(&servers[..1], Ipv4Addr::LOCALHOST, &mut random).await;
        assert!(
            matches!(error, Err(ExternalError::Send { .. })),
            "{error:?}"
        );
    }
}
