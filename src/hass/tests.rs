use super::*;
use crate::config::Config;
use crate::hub;
use crate::net::Net;
use crate::options::Options;
use crate::random::Random;
use crate::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;

const TOKEN: &str = "0123456789abcdef";
const SECRET: &str = "abcdefghijklmnopqrstuvwxyz012345";
const LOCAL: &str = "127.0.0.1";

/// Long enough for anything that happens on this machine.
const LIMIT: Duration = Duration::from_secs(20);

const QUICK: Pace = Pace {
    answer: Duration::from_millis(300),
    first: Duration::from_millis(1),
    longest: Duration::from_millis(4),
};

/// What a fake Supervisor does with a request.
#[derive(Debug, Clone)]
enum Does {
    /// Answers with this status and body.
    Says(u16, String),
    /// Answers nothing, and holds the connection.
    Sleeps,
    /// Answers with a body that does not end.
    Floods,
    /// Begins an answer and closes.
    BreaksOff,
}

/// A Supervisor that does these things one after the other, the last one again and again. Answers where it is, and
/// the heads of the requests.
async fn supervisor(does: Vec<Does>, tasks: &Tasks) -> (Hass, mpsc::Receiver<String>) {
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (heads, received) = mpsc::channel(100);
    let own = tasks.clone();
    tasks.spawn("supervisor", async move {
        let serve = async {
            for turn in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let does = does[turn.min(does.len() - 1)].clone();
                let heads = heads.clone();
                let until = own.clone();
                own.spawn("connection", async move {
                    tokio::select! {
                        () = answer(stream, does, heads) => {}
                        () = until.cancelled() => {}
                    }
                });
            }
        };
        tokio::select! {
            () = serve => {}
            () = own.cancelled() => {}
        }
    });
    let token = Secret::new(TOKEN.to_owned());
    (Hass { url, token }, received)
}

async fn answer(mut stream: TcpStream, does: Does, heads: mpsc::Sender<String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    heads.send(String::from_utf8(head).unwrap()).await.unwrap();
    match does {
        Does::Says(status, body) => {
            let text = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(text.as_bytes()).await.unwrap();
        }
        Does::Sleeps => std::future::pending().await,
        Does::Floods => {
            let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
            stream.write_all(head).await.unwrap();
            // Ends when the other side has had enough.
            while stream.write_all(&[b' '; 8192]).await.is_ok() {}
        }
        Does::BreaksOff => {
            let text = b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"result\":";
            stream.write_all(text).await.unwrap();
        }
    }
}

/// What Supervisor says to an app with ingress here.
fn info(ip: &str, port: u16) -> Does {
    let body = format!(
        "{{\"result\":\"ok\",\"data\":{{\"slug\":\"parlor\",\"ip_address\":\"{ip}\",\"ingress_port\":{port}}}}}"
    );
    Does::Says(200, body)
}

/// A port to listen on. While the socket lives, nobody who asks for any port gets this one.
fn free_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket
        .bind(SocketAddr::new(LOCAL.parse().unwrap(), 0))
        .unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// The page of that server, for ingress from this peer.
fn page(peer: &str, tasks: &Tasks) -> (Arc<Page>, Net) {
    let (sources, net) = sources(tasks);
    (Arc::new(Page::new(sources, peer.parse().unwrap())), net)
}

/// A server without rooms.
fn sources(tasks: &Tasks) -> (Sources, Net) {
    let options = Options::from_yaml("", &format!("keys: {{APIx: {SECRET}}}"));
    let (mut config, warnings) = Config::from_options(&options, 1).unwrap();
    config.rtc.bind = vec![LOCAL.parse().unwrap()];
    config.rtc.udp_ports = vec![0];
    config.rtc.tcp_port = None;
    config.rtc.enable_loopback_candidate = true;
    let net = Net::start(&config.rtc, Random::seeded(1), tasks).unwrap();
    let hub = hub::Handle::of_no_hub();
    let sources = Sources::new(&config, &warnings, &[], hub, net.handle());
    (sources, net)
}

/// Sends a request from an address of loopback, and answers all that comes back.
async fn request(from: &str, to: SocketAddr, line: &str) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(SocketAddr::new(from.parse().unwrap(), 0))
        .unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let head = format!(
        "{line} HTTP/1.1\r\nhost: x\r\nx-ingress-path: /api/hassio_ingress/abc\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// Lets a Supervisor that does these things lead to a listener. Answers its address and how often it was asked.
async fn opened(does: Vec<Does>) -> (Option<SocketAddr>, usize) {
    let tasks = Tasks::new();
    let (hass, mut heads) = supervisor(does, &tasks).await;
    let (page, net) = page("127.0.0.2", &tasks);
    let ask = Ask::new(&hass, QUICK.answer).unwrap();
    let mut random = Random::seeded(1);
    let opening = open(&ask, &page, QUICK, &mut random, &tasks);
    let bound = tokio::time::timeout(LIMIT, opening).await.unwrap();
    net.stop().await;
    assert!(tasks.shutdown(LIMIT).await.is_empty());
    let mut asked = 0;
    while let Ok(head) = heads.try_recv() {
        assert!(
            head.starts_with("GET /addons/self/info HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(
            head.contains(&format!("authorization: Bearer {TOKEN}\r\n")),
            "{head}"
        );
        asked += 1;
    }
    (bound.map(|bound| bound.addresses[0]), asked)
}

#[tokio::test]
async fn a_supervisor_that_answers_is_asked_once() {
    let (_kept, port) = free_port();
    let (bound, asked) = opened(vec![info(LOCAL, port)]).await;
    assert_eq!(bound, Some(SocketAddr::new(LOCAL.parse().unwrap(), port)));
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn whatever_fails_is_tried_again() {
    let not_ready = r#"{"result":"error","message":"System is not ready with state: setup"}"#;
    let failures = [
        Does::Sleeps,
        Does::Says(401, "401: Unauthorized".to_owned()),
        Does::Says(403, String::new()),
        Does::Says(500, "hush".to_owned()),
        Does::Says(400, not_ready.to_owned()),
        Does::Says(302, String::new()),
        Does::Says(200, "<html>".to_owned()),
        Does::Says(200, String::new()),
        Does::Floods,
        Does::BreaksOff,
        info("0.0.0.0", 8099),
        // Of another machine.
        info("192.0.2.77", 8099),
    ];
    for failure in failures {
        let (_kept, port) = free_port();
        let (bound, asked) = opened(vec![failure.clone(), info(LOCAL, port)]).await;
        assert_eq!(bound.map(|bound| bound.port()), Some(port), "{failure:?}");
        assert_eq!(asked, 2, "{failure:?}");
    }
}

#[test]
fn pauses_differ_by_up_to_a_half() {
    let mut random = Random::seeded(7);
    let second = Duration::from_secs(1);
    let all: Vec<_> = (0..200).map(|_| jitter(second, &mut random)).collect();
    assert!(all.iter().all(|one| *one <= second / 2), "{all:?}");
    assert!(all.iter().any(|one| *one > second * 4 / 10), "{all:?}");
    assert!(all.iter().any(|one| *one < second / 10), "{all:?}");
    assert_eq!(jitter(Duration::ZERO, &mut random), Duration::ZERO);
}

#[tokio::test]
async fn a_port_that_is_taken_is_asked_for_again() {
    let taken = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let (_kept, port) = free_port();
    let does = vec![
        info(LOCAL, taken.local_addr().unwrap().port()),
        info(LOCAL, port),
    ];
    let (bound, asked) = opened(does).await;
    assert_eq!((bound.unwrap().port(), asked), (port, 2));
}

#[tokio::test]
async fn an_app_without_ingress_is_left_in_peace() {
    let none = r#"{"result":"ok","data":{"ip_address":"172.30.32.1","ingress_port":null}}"#;
    assert_eq!(
        opened(vec![Does::Says(200, none.to_owned())]).await,
        (None, 1)
    );
}

#[tokio::test]
async fn faults_say_what_happened_and_not_the_token() {
    for (does, said) in [
        (Does::Sleeps, "does not answer (operation timed out)"),
        (
            Does::Says(401, TOKEN.to_owned()),
            "does not know this app's token",
        ),
        (
            Does::Says(500, TOKEN.to_owned()),
            "answers with HTTP status 500",
        ),
        (
            Does::Says(200, TOKEN.to_owned()),
            "says what cannot be understood (no JSON of the kind)",
        ),
        (
            Does::Floods,
            "says what cannot be understood (it does not end)",
        ),
    ] {
        let tasks = Tasks::new();
        let (hass, _heads) = supervisor(vec![does], &tasks).await;
        let fault = Ask::new(&hass, QUICK.answer)
            .unwrap()
            .ingress()
            .await
            .unwrap_err();
        assert_eq!(
            fault.to_string(),
            format!("Home Assistant's Supervisor {said}")
        );
        assert!(tasks.shutdown(LIMIT).await.is_empty());
    }
}

#[tokio::test]
async fn a_supervisor_that_sleeps_holds_nothing_up() {
    let tasks = Tasks::new();
    let (hass, mut heads) = supervisor(vec![Does::Sleeps], &tasks).await;
    let (sources, net) = sources(&tasks);
    start(&hass, sources, &tasks);
    // It is being asked, and the stop does not wait for the answer.
    tokio::time::timeout(LIMIT, heads.recv())
        .await
        .unwrap()
        .unwrap();
    net.stop().await;
    assert!(tasks.shutdown(Duration::from_secs(3)).await.is_empty());
}

#[tokio::test]
async fn the_page_is_for_one_peer_only() {
    let tasks = Tasks::new();
    let (_kept, port) = free_port();
    let (hass, _heads) = supervisor(vec![info(LOCAL, port)], &tasks).await;
    let (page, net) = page("127.0.0.2", &tasks);
    let ask = Ask::new(&hass, QUICK.answer).unwrap();
    let mut random = Random::seeded(1);
    let bound = open(&ask, &page, QUICK, &mut random, &tasks).await.unwrap();
    let to = bound.addresses[0];

    for line in ["GET /", "GET /status.json", "POST /secret", "GET /nothing"] {
        for stranger in ["127.0.0.1", "127.0.0.3"] {
            let text = request(stranger, to, line).await;
            assert!(
                text.starts_with("HTTP/1.1 403 "),
                "{stranger} {line}: {text}"
            );
            assert!(!text.contains(SECRET) && !text.contains("<h1>"), "{text}");
        }
    }

    let html = request("127.0.0.2", to, "GET /").await;
    assert!(html.starts_with("HTTP/1.1 200 "), "{html}");
    let (head, body) = html.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        body,
        include_str!("page.html"),
        "nothing is written into it"
    );
    for header in [
        "content-security-policy: default-src 'none'; ",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
    ] {
        assert!(head.contains(header), "{header}: {head}");
    }
    assert!(!head.contains("x-frame-options"), "{head}");

    let status = request("127.0.0.2", to, "GET /status.json").await;
    let (head, body) = status.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json"), "{head}");
    let told: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert!(
        told["candidates"][0]
            .as_str()
            .unwrap()
            .starts_with("UDP 127.0.0.1:"),
        "{body}"
    );
    assert!(!body.contains(SECRET) && !body.contains("APIx"), "{body}");

    let asked = request("127.0.0.2", to, "GET /secret").await;
    assert!(
        asked.starts_with("HTTP/1.1 405 ") && !asked.contains(SECRET),
        "{asked}"
    );
    let asked = request("127.0.0.2", to, "POST /secret").await;
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("cache-control: no-store"), "{head}");
    assert_eq!(
        body,
        format!("{{\"key\":\"APIx\",\"secret\":\"{SECRET}\"}}")
    );
    assert!(
        request("127.0.0.2", to, "GET /nothing")
            .await
            .starts_with("HTTP/1.1 404 ")
    );

    net.stop().await;
    assert!(tasks.shutdown(LIMIT).await.is_empty());
}
