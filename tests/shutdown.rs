//! The process as a supervisor of services sees it: starts, answers, tells its clients when it stops, and is gone.

#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use futures_util::StreamExt;
use parlor::protocol::livekit::signal_response::Message;
use parlor::protocol::livekit::{SignalResponse, leave_request};
use prost::Message as _;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// More than any machine needs to start, less than anybody waits.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    process: Child,
    log: BufReader<ChildStderr>,
    port: u16,
}

/// Free ports: HTTP, ICE-TCP, UDP. Somebody else may take one before the server does; that is rare.
fn free_ports() -> [u16; 3] {
    let http = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    [
        http.local_addr().unwrap().port(),
        tcp.local_addr().unwrap().port(),
        udp.local_addr().unwrap().port(),
    ]
}

fn parlor(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlor"));
    command.args(args).env_clear();
    command
}

impl Server {
    /// Starts one on free ports of the loopback and waits until it says that it listens.
    fn start() -> Self {
        let [http, tcp, udp] = free_ports();
        let yaml = format!("port: {http}\nrtc: {{tcp_port: {tcp}, udp_port: {udp}}}\n");
        let mut process = parlor(&["--dev", "--bind", "127.0.0.1", "--config-body", &yaml])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(&format!("HTTP on 127.0.0.1:{http}")) {
            line.clear();
            assert_ne!(
                log.read_line(&mut line).unwrap(),
                0,
                "it ended before it listened"
            );
        }
        Self {
            process,
            log,
            port: http,
        }
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Its end, how long that took, and what it still said.
    fn end(mut self) -> (ExitStatus, Duration, String) {
        let since = Instant::now();
        let mut rest = String::new();
        // Standard error ends with the process.
        self.log.read_to_string(&mut rest).unwrap();
        let status = self.process.wait().unwrap();
        (status, since.elapsed(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that failed; one that did not has waited for the end already.
        drop(self.process.kill());
    }
}

#[tokio::test]
async fn clients_are_told_to_reconnect_and_the_process_is_gone_in_time() {
    for signal in ["TERM", "INT"] {
        let server = Server::start();
        let token = parlor(&["token", "--dev", "--room", "r", "--identity", "i"])
            .output()
            .unwrap();
        let token = String::from_utf8(token.stdout).unwrap();
        let mut url = format!(
            "ws://127.0.0.1:{}/rtc?protocol=16&auto_subscribe=1",
            server.port
        );
        write!(url, "&access_token={}", token.trim()).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", server.port))
            .await
            .unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        let mut joined = false;
        let mut told = None;
        loop {
            let frame = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
            // The server closes after `leave`; whether its close frame is seen first is a race.
            let Some(Ok(frame)) = frame else { break };
            if !frame.is_binary() {
                continue;
            }
            let response = SignalResponse::decode(frame.into_data()).unwrap();
            match response.message.unwrap() {
                Message::Join(_) => {
                    joined = true;
                    server.signal(signal);
                }
                Message::Leave(leave) => told = Some(leave.action()),
                _ => {}
            }
        }
        assert!(joined);
        assert_eq!(told, Some(leave_request::Action::Reconnect), "SIG{signal}");
        let (status, took, log) = server.end();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(log.trim_end().ends_with("INFO: stopped"), "{log}");
    }
}

#[test]
fn a_running_server_is_well_and_a_stopped_one_is_not() {
    let server = Server::start();
    let yaml = format!("port: {}\n", server.port);
    let check = || {
        parlor(&["healthcheck", "--config-body", &yaml])
            .output()
            .unwrap()
    };
    assert_eq!(check().status.code(), Some(0));
    server.signal("TERM");
    assert_eq!(server.end().0.code(), Some(0));
    let after = check();
    assert_eq!(after.status.code(), Some(1));
    assert!(
        String::from_utf8(after.stderr)
            .unwrap()
            .contains("nothing answers")
    );
}

#[test]
fn a_configuration_with_problems_lists_them_all_and_fails() {
    let yaml = "port: x\nkeys: {k: short}\nrtc: {node_ip: y}\n";
    let output = parlor(&["--config-body", yaml]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    for piece in [
        "port (line 1)",
        "keys.k (line 2)",
        "rtc.node_ip (line 3)",
        "3 problems",
    ] {
        assert!(text.contains(piece), "{piece}: {text}");
    }
    assert!(
        !text.contains("short;") && !text.contains("\"short\""),
        "{text}"
    );
}

#[test]
fn a_taken_port_ends_the_start_with_its_option() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let [_, tcp, udp] = free_ports();
    let yaml = format!("port: {port}\nrtc: {{tcp_port: {tcp}, udp_port: {udp}}}\n");
    let output = parlor(&["--dev", "--bind", "127.0.0.1", "--config-body", &yaml])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(&format!("TCP port {port}")), "{text}");
    assert!(text.contains("in use"), "{text}");
}
