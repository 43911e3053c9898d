use super::*;
use crate::protocol::token::{self, Claims};
use crate::secret::Secret;
use axum::body::Body;
use axum::http::{Request, header};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "a secret of more than 32 characters, as it should be";
const TEXT: &str = "text/plain; charset=utf-8";

/// A hub that refuses everybody.
fn stopped() -> hub::Handle {
    hub::Handle::of_no_hub()
}

fn app(development: bool) -> Arc<App> {
    Arc::new(App {
        hub: stopped(),
        tasks: Tasks::new(),
        clock: Clock::Fixed(NOW * 1000),
        keys: config::Keys(vec![("devkey".to_owned(), Secret::new(SECRET.to_owned()))]),
        limits: config::Limits::default(),
        development,
        trusted_proxies: Vec::new(),
    })
}

fn signed(claims: serde_json::Value) -> String {
    let claims: Claims = serde_json::from_value(claims).unwrap();
    token::sign(&claims, &Secret::new(SECRET.to_owned()))
}

fn good() -> String {
    token::sign(
        &Claims::for_join("devkey", "hall", "alice", NOW, Duration::from_secs(600)),
        &Secret::new(SECRET.to_owned()),
    )
}

#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    content_type: Option<String>,
    origin: Option<String>,
    text: String,
}

async fn send(app: &Arc<App>, request: Request<Body>) -> Answer {
    let response = router(app).oneshot(request).await.unwrap();
    let text = |name| {
        let value = response.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let (content_type, origin) = (
        text(header::CONTENT_TYPE),
        text(header::ACCESS_CONTROL_ALLOW_ORIGIN),
    );
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    Answer {
        status,
        content_type,
        origin,
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}

async fn ask(method: &str, path: &str, token: Option<&str>) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::ORIGIN, "http://example.org");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    send(&app(false), request.body(Body::empty()).unwrap()).await
}

fn answer(status: u16, content_type: Option<&str>, origin: &str, text: &str) -> Answer {
    Answer {
        status,
        content_type: content_type.map(str::to_owned),
        origin: Some(origin.to_owned()),
        text: text.to_owned(),
    }
}

/// traces/refusals.app.txt, its last part.
#[tokio::test]
async fn every_route_and_method_answers_as_the_reference_does() {
    let here = "http://example.org";
    let forbidden = "no permissions to access the room";
    for method in ["GET", "POST", "OPTIONS", "HEAD"] {
        let body = |text: &str| if method == "HEAD" { "" } else { text }.to_owned();
        for (path, status, content_type, origin, text) in [
            ("/", 200, Some(TEXT), here, "OK"),
            ("/rtc", 404, None, here, ""),
            ("/rtc/v1", 404, None, here, ""),
            ("/rtc/validate", 401, Some(TEXT), "*", forbidden),
            ("/rtc/v1/validate", 401, Some(TEXT), "*", forbidden),
            ("/nope", 404, Some(TEXT), here, "404 page not found\n"),
            ("/rtc/", 404, Some(TEXT), here, "404 page not found\n"),
            ("/try", 404, Some(TEXT), here, "404 page not found\n"),
        ] {
            assert_eq!(
                ask(method, path, None).await,
                answer(status, content_type, origin, &body(text)),
                "{method} {path}"
            );
        }
    }
    assert_eq!(
        ask("POST", "/rtc/v1/validate", Some(&good())).await,
        answer(400, Some(TEXT), "*", "join_request is required")
    );
}

#[tokio::test]
async fn a_bad_token_is_401_on_every_path_and_readable() {
    for path in ["/", "/rtc", "/nope", "/twirp/livekit.RoomService/ListRooms"] {
        assert_eq!(
            ask("GET", path, Some("garbage")).await,
            answer(
                401,
                Some(TEXT),
                "http://example.org",
                "invalid authorization token"
            )
        );
        let in_query = format!("{path}?access_token=garbage");
        assert_eq!(ask("GET", &in_query, None).await.status, 401);
        // The header wins over the query.
        assert_ne!(ask("GET", &in_query, Some(&good())).await.status, 401);
    }
    let request = Request::builder()
        .uri("/rtc/validate")
        .header(header::AUTHORIZATION, "Basic abc");
    assert_eq!(
        send(&app(false), request.body(Body::empty()).unwrap()).await,
        answer(
            401,
            Some(TEXT),
            "*",
            "invalid authorization header. Must start with Bearer "
        )
    );
}

#[tokio::test]
async fn validate_refuses_in_the_order_of_the_reference() {
    let exp = NOW + 60;
    let long = "i".repeat(300);
    let join = |room: &str| json!({"roomJoin": true, "room": room});
    for (claims, status, text) in [
        (json!({}), 401, "no permissions to access the room"),
        (
            json!({"sub": "a", "video": {"room": "r"}}),
            401,
            "permissions denied",
        ),
        (json!({"video": join("")}), 400, "identity cannot be empty"),
        (
            json!({"sub": long, "video": join("")}),
            400,
            "participant identity length exceeds limits: max length 256",
        ),
        (json!({"sub": "a", "video": join("")}), 400, "no room name"),
        (
            json!({"sub": "a", "video": join(&long)}),
            400,
            "room name length exceeds limits: max length 256",
        ),
    ] {
        let mut claims = claims;
        claims["iss"] = json!("devkey");
        claims["exp"] = json!(exp);
        let token = signed(claims);
        for path in ["/rtc/validate", "/rtc/v1/validate?join_request=CAE"] {
            // A room in the query is not consulted.
            let path = format!(
                "{path}{}room=other",
                if path.contains('?') { '&' } else { '?' }
            );
            let got = ask("GET", &path, Some(&token)).await;
            assert_eq!(got, answer(status, Some(TEXT), "*", text), "{path}");
        }
    }
    let publisher = signed(json!({"iss": "devkey", "exp": exp, "sub": "a",
        "video": {"roomJoin": true, "room": "r", "canPublish": false}}));
    assert_eq!(
        ask("GET", "/rtc/validate?publish=x", Some(&publisher))
            .await
            .text,
        "no permissions to access the room"
    );
    assert_eq!(
        ask("GET", "/rtc/v1/validate?join_request=%C2%A7", Some(&good())).await,
        answer(
            400,
            Some(TEXT),
            "*",
            "cannot base64 decode wrapped join request"
        )
    );
}

#[tokio::test]
async fn a_form_that_is_posted_to_validate_counts_as_a_query_and_before_it() {
    let post = async |path: &str, kind: &str, form: String| {
        let request = Request::post(path).header(header::CONTENT_TYPE, kind);
        send(&app(false), request.body(Body::from(form)).unwrap()).await
    };
    let form = "application/x-www-form-urlencoded; charset=utf-8";
    let both = format!("access_token={}&join_request=%C2%A7", good());
    let path = "/rtc/v1/validate?join_request=CAE&access_token=garbage";
    let got = post(path, form, both.clone()).await;
    let text = "cannot base64 decode wrapped join request";
    assert_eq!(got, answer(400, Some(TEXT), "*", text));
    // Elsewhere, and under another type, a body is no form.
    let got = post("/rtc/v1/validate", "text/plain", both.clone()).await;
    assert_eq!(got.status, 401);
    assert_eq!(
        post("/rtc", form, "access_token=x".into()).await.status,
        404
    );
    let got = post("/rtc/validate", form, "a".repeat(64_001)).await;
    assert_eq!(got, answer(413, Some(TEXT), "*", "request body too large"));
    let got = post("/rtc/validate", form, "\u{fffd} %".into()).await;
    assert_eq!(got.status, 401, "what cannot be decoded is none");
}

#[tokio::test]
async fn prefixes_of_proxies_and_doubled_slashes_reach_the_route() {
    for path in [
        "//rtc/validate",
        "/livekit/sfu/rtc/validate",
        "/livekit-server//rtc//validate",
    ] {
        let got = ask("GET", path, None).await;
        assert_eq!(
            (got.status, got.origin.as_deref()),
            (401, Some("*")),
            "{path}"
        );
    }
    assert_eq!(ask("GET", "/livekit/sfu", None).await.text, "OK");
}

#[tokio::test]
async fn a_preflight_is_granted_without_a_token() {
    let request = Request::builder()
        .method("OPTIONS")
        .uri("/twirp/livekit.RoomService/ListRooms")
        .header(header::ORIGIN, "http://example.org")
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type",
        );
    let request = request.body(Body::empty()).unwrap();
    let response = router(&app(false)).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 204);
    for (name, value) in [
        ("access-control-allow-origin", "http://example.org"),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "authorization,content-type"),
        ("access-control-max-age", "86400"),
    ] {
        assert_eq!(response.headers()[name], value);
    }
}

#[tokio::test]
async fn a_body_over_10_mib_is_413() {
    let request = Request::post("/").header(header::CONTENT_LENGTH, (10 << 20) + 1);
    let got = send(&app(false), request.body(Body::empty()).unwrap()).await;
    assert_eq!((got.status, &*got.text), (413, "request body too large"));
}

#[tokio::test]
async fn the_page_to_try_is_there_in_development_with_a_token_that_works() {
    let app = app(true);
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let page = send(&app, get("/try")).await;
    assert_eq!(
        page.content_type.as_deref(),
        Some("text/html; charset=utf-8")
    );
    assert!(page.text.starts_with("<!doctype html>"));
    let body = send(&app, get("/try/token")).await.text;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let (claims, _) = token::verify(NOW, body["token"].as_str().unwrap(), &app.keys).unwrap();
    assert_eq!(body["identity"], claims.sub);
    assert_eq!(claims.video.unwrap().room, "try");
}

fn listening(tasks: &Tasks) -> SocketAddr {
    let http = config::Http {
        port: 0,
        bind: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        ..config::Http::default()
    };
    let bound = listener::start(&http, &router(&app(false)), tasks).unwrap();
    bound.addresses[0]
}

/// Everything that the server says to one request on a connection that is then closed.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_join_request_of_64_kb_passes_and_a_longer_one_is_414() {
    let tasks = Tasks::new();
    let address = listening(&tasks);
    let ask = async |length: usize| {
        let path = format!("/rtc/v1/validate?join_request={}", "A".repeat(length - 30));
        let token = good();
        raw(
            address,
            &format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
            ),
        )
        .await
    };
    let answer = ask(65_000).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        answer.ends_with("cannot unmarshal wrapped join request"),
        "{answer}"
    );
    let answer = ask(70_000).await;
    assert!(answer.starts_with("HTTP/1.1 414 "), "{answer}");
}

#[tokio::test]
async fn a_join_that_is_refused_is_a_status_and_no_websocket() {
    let tasks = Tasks::new();
    let address = listening(&tasks);
    for (query, status) in [
        (format!("?access_token={}", good()), 503),
        (String::new(), 401),
    ] {
        let stream = TcpStream::connect(address).await.unwrap();
        let request = format!("ws://{address}/rtc{query}");
        let refused = tokio_tungstenite::client_async(request, stream).await;
        let Err(tungstenite::Error::Http(response)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(response.status(), status);
    }
    // Somebody looks at the address with a browser.
    let answer = raw(
        address,
        "GET /rtc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_listeners() {
    let tasks = Tasks::new();
    let address = listening(&tasks);
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut some = [0; 64];
    assert!(idle.read(&mut some).await.unwrap() > 0);
    assert_eq!(
        tasks.shutdown(Duration::from_secs(5)).await,
        Vec::<&str>::new()
    );
    assert!(TcpStream::connect(address).await.is_err());
}
