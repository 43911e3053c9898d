//! The signalling WebSocket inside TLS: joins, keeps its connection while the certificate is swapped, and is told to
//! go when the server stops. The real server without media, with its own task over the files.

use crate::server::Server;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use parlor::clock::Clock;
use parlor::config;
use parlor::protocol::livekit::{SignalRequest, SignalResponse, signal_request, signal_response};
use parlor::protocol::token::{self, Claims};
use prost::Message as _;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Nothing here takes longer but a failure. The files are looked at every few seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes a new pair and returns its certificate.
fn renew(files: &config::Tls) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["calls.example.org".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    write(&files.certificate, "CERTIFICATE", certificate.der());
    write(&files.key, "PRIVATE KEY", &key.serialize_der());
    certificate.der().clone()
}

fn write(path: &Path, label: &str, der: &[u8]) {
    let body = STANDARD.encode(der);
    fs::write(
        path,
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"),
    )
    .unwrap();
}

async fn connect(address: SocketAddr, trusted: &[CertificateDer<'static>]) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("calls.example.org").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// The next message for which `choose` has something.
async fn until<T>(
    socket: &mut Socket,
    choose: impl Fn(signal_response::Message) -> Option<T>,
) -> T {
    loop {
        let frame = timeout(PATIENCE, socket.next()).await.unwrap();
        if let Message::Binary(bytes) = frame.unwrap().unwrap()
            && let Some(message) = SignalResponse::decode(bytes).unwrap().message
            && let Some(chosen) = choose(message)
        {
            return chosen;
        }
    }
}

#[tokio::test]
async fn a_participant_joins_inside_tls_and_stays_while_the_certificate_changes() {
    let dir = tempfile::tempdir().unwrap();
    let files = config::Tls {
        certificate: dir.path().join("fullchain.pem"),
        key: dir.path().join("privkey.pem"),
        host: None,
    };
    let old = renew(&files);
    let server = Server::start("", |config| config.http.tls = Some(files.clone()));
    let address = server.address;

    let (key, secret) = &server.config.keys.0[0];
    let now = Clock::System.unix_seconds();
    let claims = Claims::for_join(key, "hall", "alice", now, Duration::from_secs(600));
    let token = token::sign(&claims, secret);
    let url = format!("wss://calls.example.org/rtc?access_token={token}");
    let stream = connect(address, std::slice::from_ref(&old)).await;
    let (mut alice, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let join = |message| match message {
        signal_response::Message::Join(join) => Some(join),
        _ => None,
    };
    let join = until(&mut alice, join).await;
    assert_eq!(join.participant.unwrap().identity, "alice");

    let both = [old, renew(&files)];
    timeout(PATIENCE, async {
        let shown = async || {
            let stream = connect(address, &both).await;
            stream.get_ref().1.peer_certificates().unwrap()[0] == both[1]
        };
        while !shown().await {}
    })
    .await
    .unwrap();
    let ping = SignalRequest {
        message: Some(signal_request::Message::Ping(1)),
    };
    let ping = Message::Binary(ping.encode_to_vec().into());
    alice.send(ping).await.unwrap();
    until(&mut alice, |message| {
        matches!(message, signal_response::Message::Pong(_)).then_some(())
    })
    .await;

    let leave = async {
        let leave = |message| match message {
            signal_response::Message::Leave(leave) => Some(leave),
            _ => None,
        };
        until(&mut alice, leave).await;
        while let Some(Ok(frame)) = alice.next().await {
            if let Message::Close(close) = frame {
                return close.map(|close| close.code.into());
            }
        }
        None
    };
    let (code, ()) = tokio::join!(leave, server.hub.shut_down());
    assert_eq!(code, Some(1000_u16));
    server.net.stop().await;
    assert!(
        server
            .tasks
            .shutdown(Duration::from_secs(3))
            .await
            .is_empty()
    );
}
