//! The real server without media, on ports of the loopback that the system chooses.

use axum::http::StatusCode;
use parlor::clock::Clock;
use parlor::config::Config;
use parlor::net::Net;
use parlor::options::Options;
use parlor::random::Random;
use parlor::task::Tasks;
use parlor::webhook;
use parlor::{http, hub};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;

/// A server that runs until the test's runtime ends.
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) address: SocketAddr,
    pub(crate) hub: hub::Handle,
    pub(crate) tasks: Tasks,
    pub(crate) net: Net,
}

impl Server {
    /// Development defaults and these lines of livekit.yaml, then `change`.
    pub(crate) fn start(yaml: &str, change: impl FnOnce(&mut Config)) -> Self {
        let options = Options::from_yaml("test", &format!("development: true\n{yaml}"));
        let (mut config, _) = Config::from_options(&options, 1).unwrap();
        let here = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        config.http.port = 0;
        config.http.bind.clone_from(&here);
        config.rtc.bind = here;
        config.rtc.udp_ports = vec![0];
        config.rtc.tcp_port = None;
        change(&mut config);
        let tasks = Tasks::new();
        let net = Net::start(&config.rtc, Random::seeded(1), &tasks).unwrap();
        let hub = hub::start(
            &config,
            net.handle(),
            webhook::Handle::default(),
            Random::seeded(2),
            &tasks,
            Clock::System,
        );
        let bound = http::serve(&config, hub.clone(), &tasks).unwrap();
        Self {
            address: bound.addresses[0],
            config,
            hub,
            tasks,
            net,
        }
    }
    /// A WebSocket, or status and text of the refusal.
    pub(crate) async fn open(
        &self,
        path: &str,
        token: &str,
    ) -> Result<WebSocketStream<TcpStream>, (StatusCode, String)> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let mark = if path.contains('?') { '&' } else { '?' };
        let url = format!("ws://{}{path}{mark}access_token={token}", self.address);
        match tokio_tungstenite::client_async(url, stream).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => {
                let (parts, body) = response.into_parts();
                let text = String::from_utf8(body.unwrap_or_default()).unwrap();
                Err((parts.status, text))
            }
            Err(error) => panic!("{error}"),
        }
    }
}
