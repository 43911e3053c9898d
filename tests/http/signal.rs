//! The promise of the signalling port: what a client meets between its first request and the end of its WebSocket.
//! The real server without media: no client here has a peer connection.

use crate::server::Server;
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use futures_util::{SinkExt, StreamExt};
use parlor::clock::Clock;
use parlor::hub;
use parlor::protocol::livekit::participant_info::State;
use parlor::protocol::livekit::{
    AddTrackRequest, ClientInfo, CreateRoomRequest, DeleteRoomRequest, DisconnectReason,
    ForwardParticipantRequest, JoinRequest, JoinResponse, LeaveRequest, ListParticipantsRequest,
    MoveParticipantRequest, ParticipantInfo, Ping, RoomMovedResponse, RoomParticipantIdentity,
    SignalRequest, SignalResponse, UpdateParticipantRequest, WrappedJoinRequest, signal_request,
    signal_response,
};
use parlor::protocol::token::{self, Claims};
use parlor::room::Fault;
use prost::Message as _;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// Nothing here takes longer but a failure.
const PATIENCE: Duration = Duration::from_secs(10);

impl Server {
    fn token(&self, identity: &str) -> String {
        self.signed(&self.claims(identity))
    }

    fn claims(&self, identity: &str) -> Claims {
        let (key, _) = &self.config.keys.0[0];
        let now = Clock::System.unix_seconds();
        Claims::for_join(key, "hall", identity, now, Duration::from_secs(600))
    }

    fn signed(&self, claims: &Claims) -> String {
        let (_, secret) = &self.config.keys.0[0];
        token::sign(claims, secret)
    }

    async fn connect(&self, path: &str, identity: &str) -> Result<Client, (StatusCode, String)> {
        self.open(path, &self.token(identity)).await.map(Client)
    }

    async fn join(&self, identity: &str) -> (Client, JoinResponse) {
        let path = "/rtc?protocol=16&sdk=js&version=2.0.0";
        let mut client = self.connect(path, identity).await.unwrap();
        let signal_response::Message::Join(join) = client.next().await else {
            panic!("the first message is join");
        };
        (client, join)
    }

    /// Status line and body of a plain GET.
    async fn get(&self, path: &str, identity: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let token = self.token(identity);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.lines().next().unwrap();
        (status.to_owned(), body.to_owned())
    }
}

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn frame(&mut self) -> Option<Message> {
        loop {
            let frame = timeout(PATIENCE, self.0.next()).await.expect("in time");
            match frame {
                None => return None,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(frame) => return Some(frame.unwrap()),
            }
        }
    }

    async fn next(&mut self) -> signal_response::Message {
        let Some(Message::Binary(bytes)) = self.frame().await else {
            panic!("a binary frame");
        };
        SignalResponse::decode(bytes).unwrap().message.unwrap()
    }

    /// The first message that `choose` takes; others are passed over.
    async fn until<T>(&mut self, choose: impl Fn(signal_response::Message) -> Option<T>) -> T {
        loop {
            if let Some(chosen) = choose(self.next().await) {
                return chosen;
            }
        }
    }

    /// The next text frame that has this field.
    async fn json_until(&mut self, field: &str) -> serde_json::Value {
        loop {
            if let Some(Message::Text(text)) = self.frame().await {
                let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
                if json.get(field).is_some() {
                    return json[field].take();
                }
            }
        }
    }

    async fn send(&mut self, message: signal_request::Message) {
        let request = SignalRequest {
            message: Some(message),
        };
        let frame = Message::Binary(request.encode_to_vec().into());
        self.0.send(frame).await.unwrap();
    }

    /// Waits for the state of a participant.
    async fn sees(&mut self, identity: &str, state: State) {
        self.until(|message| match message {
            signal_response::Message::Update(update) => update
                .participants
                .iter()
                .any(|info| info.identity == identity && info.state() == state)
                .then_some(()),
            _ => None,
        })
        .await;
    }

    /// Waits for `leave` and the close frame, and returns the leave and the code.
    async fn end(&mut self) -> (LeaveRequest, u16) {
        let leave = self
            .until(|message| match message {
                signal_response::Message::Leave(leave) => Some(leave),
                _ => None,
            })
            .await;
        let close = loop {
            match self.frame().await {
                Some(Message::Close(close)) => break close.unwrap(),
                Some(_) => {}
                None => panic!("no close frame"),
            }
        };
        assert!(self.frame().await.is_none());
        (leave, close.code.into())
    }
}

/// What a client is told of its move.
fn moved(message: signal_response::Message) -> Option<RoomMovedResponse> {
    match message {
        signal_response::Message::RoomMoved(moved) => Some(moved),
        _ => None,
    }
}

fn wrapped(request: &JoinRequest) -> String {
    let wrapped = WrappedJoinRequest {
        compression: 0,
        join_request: request.encode_to_vec(),
    };
    URL_SAFE.encode(wrapped.encode_to_vec())
}

#[tokio::test]
async fn the_first_frame_is_join_and_pings_are_answered() {
    let server = Server::start("", |_| {});
    let (mut alice, join) = server.join("alice").await;
    let participant = join.participant.unwrap();
    assert_eq!(participant.identity, "alice");
    assert_eq!((join.ping_interval, join.ping_timeout), (5, 15));
    assert_eq!(join.room.unwrap().name, "hall");

    let before = Clock::System.unix_ms() as i64;
    alice.send(signal_request::Message::Ping(1)).await;
    let ping = Ping {
        timestamp: 42,
        rtt: 0,
    };
    alice.send(signal_request::Message::PingReq(ping)).await;
    let pong = |message| match message {
        signal_response::Message::Pong(at) => Some(at),
        _ => None,
    };
    assert!(alice.until(pong).await >= before);
    let pong = |message| match message {
        signal_response::Message::PongResp(pong) => Some(pong),
        _ => None,
    };
    let pong = alice.until(pong).await;
    assert_eq!(pong.last_ping_timestamp, 42);
    assert!(pong.timestamp >= before);
}

#[tokio::test]
async fn the_form_of_the_answer_follows_the_client() {
    let server = Server::start("", |_| {});
    let (mut alice, _) = server.join("alice").await;
    let ping = Message::Text(r#"{"pingReq":{"timestamp":"7","rtt":"0"},"newer":1}"#.into());
    alice.0.send(ping).await.unwrap();
    assert_eq!(alice.json_until("pongResp").await["lastPingTimestamp"], "7");
    alice.send(signal_request::Message::Ping(1)).await;
    loop {
        if let Some(Message::Binary(bytes)) = alice.frame().await
            && let Some(signal_response::Message::Pong(_)) =
                SignalResponse::decode(bytes).unwrap().message
        {
            break;
        }
    }
    let mut page = server.connect("/rtc?json=1", "page").await.unwrap();
    assert_eq!(
        page.json_until("join").await["participant"]["identity"],
        "page"
    );
}

#[tokio::test]
async fn v1_wants_a_join_request_and_makes_one_connection_of_it() {
    let server = Server::start("", |_| {});
    let refused = server.connect("/rtc/v1", "alice").await.err().unwrap();
    let text = "join_request is required".to_owned();
    assert_eq!(refused, (StatusCode::BAD_REQUEST, text));
    let request = JoinRequest {
        client_info: Some(ClientInfo {
            protocol: 18,
            ..ClientInfo::default()
        }),
        ..JoinRequest::default()
    };
    let path = format!("/rtc/v1?join_request={}", wrapped(&request));
    let mut alice = server.connect(&path, "alice").await.unwrap();
    assert!(matches!(
        alice.next().await,
        signal_response::Message::Join(_)
    ));
    let path = path.replace("v1?", "v1/validate?");
    let (status, body) = server.get(&path, "bob").await;
    assert_eq!((&*status, &*body), ("HTTP/1.1 200 OK", "success"));
}

#[tokio::test]
async fn a_full_room_is_403_with_its_text_on_the_websocket_and_on_validate() {
    let server = Server::start("", |config| config.room.max_participants = 1);
    let (_alice, _) = server.join("alice").await;
    let text = "room hall is full: 1 of 1 participants are there";
    let refused = server.connect("/rtc", "bob").await.err().unwrap();
    assert_eq!(refused, (StatusCode::FORBIDDEN, text.to_owned()));
    let (status, body) = server.get("/rtc/validate", "bob").await;
    assert_eq!((&*status, &*body), ("HTTP/1.1 403 Forbidden", text));
}

#[tokio::test]
async fn the_metadata_of_a_token_has_the_limit_of_a_joins() {
    let server = Server::start(
        "limit: {max_metadata_size: 4, max_attributes_size: 4}",
        |_| {},
    );
    let join = async |metadata: &str, key: &str, query: &str| {
        let claims = Claims {
            metadata: metadata.to_owned(),
            attributes: [(key.to_owned(), "v".to_owned())].into(),
            ..server.claims("alice")
        };
        let path = format!("/rtc?protocol=16{query}");
        let opened = server.open(&path, &server.signed(&claims)).await;
        opened
            .map(drop)
            .map_err(|(status, text)| (status.as_u16(), text))
    };
    assert_eq!(join("m", "k", "").await, Ok(()));
    let refused = |what: &str| Err((400, format!("{what} size exceeds its limit")));
    assert_eq!(join("large", "k", "").await, refused("metadata"));
    assert_eq!(join("m", "long", "").await, refused("attributes"));
}

#[tokio::test]
async fn a_first_message_of_several_megabytes_arrives() {
    let server = Server::start("limit: {max_metadata_size: 4000000}", |_| {});
    let metadata = "x".repeat(4_000_000);
    let hall = CreateRoomRequest {
        name: "hall".to_owned(),
        metadata: metadata.clone(),
        ..Default::default()
    };
    let create = hub::Call::CreateRoom(Box::new(hall));
    server.hub.call(create).await.unwrap();
    let (_alice, join) = server.join("alice").await;
    assert!(join.room.unwrap().metadata == metadata);
}

#[tokio::test]
async fn a_tokens_own_words_on_its_room_win_over_its_preset() {
    let yaml = "room: {room_configurations: {small: {max_participants: 2, departure_timeout: 7}}}";
    let server = Server::start(yaml, |_| {});
    let join = async |config: serde_json::Value| {
        let claims = Claims {
            room_preset: "small".to_owned(),
            room_config: Some(config),
            ..server.claims("alice")
        };
        let opened = server
            .open("/rtc?protocol=16", &server.signed(&claims))
            .await;
        opened.map(Client)
    };
    let (status, text) = join(serde_json::json!({"maxParticipants": "many"}))
        .await
        .err()
        .unwrap();
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(
        text.starts_with("invalid authorization token: roomConfig: "),
        "{text}"
    );
    let config = serde_json::json!({"maxParticipants": 3, "metadata": "m", "agents": null});
    let mut alice = join(config).await.ok().unwrap();
    let signal_response::Message::Join(join) = alice.next().await else {
        panic!("the first message is join");
    };
    let room = join.room.unwrap();
    let told = (
        room.max_participants,
        room.departure_timeout,
        room.metadata.as_str(),
    );
    assert_eq!(told, (3, 7, "m"));
}

#[tokio::test]
async fn a_server_with_as_many_tracks_as_it_may_have_takes_nobody_in_whatever_the_room() {
    let server = Server::start("limit: {num_tracks: 1}", |_| {});
    let (mut alice, _) = server.join("alice").await;
    let track = AddTrackRequest {
        cid: "c".to_owned(),
        ..Default::default()
    };
    alice.send(signal_request::Message::AddTrack(track)).await;
    let published = |message| match message {
        signal_response::Message::TrackPublished(_) => Some(()),
        _ => None,
    };
    alice.until(published).await;
    let mut claims = server.claims("bob");
    claims.video.as_mut().unwrap().room = "other".to_owned();
    let token = server.signed(&claims);
    let text = "this server is full: tracks";
    let refused = server.open("/rtc", &token).await.err().unwrap();
    assert_eq!(refused, (StatusCode::FORBIDDEN, text.to_owned()));
    let (status, body) = server.get("/rtc/validate", "bob").await;
    assert_eq!((&*status, &*body), ("HTTP/1.1 403 Forbidden", text));

    drop(alice);
    let again = async {
        while server.open("/rtc", &token).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("there is room again");
}

#[tokio::test]
async fn a_room_that_nobody_made_is_404_with_the_text_that_clients_look_for() {
    let server = Server::start("", |config| config.room.auto_create = false);
    let text = "requested room does not exist";
    let refused = server.connect("/rtc", "bob").await.err().unwrap();
    assert_eq!(refused, (StatusCode::NOT_FOUND, text.to_owned()));
    let (status, body) = server.get("/rtc/validate", "bob").await;
    assert_eq!((&*status, &*body), ("HTTP/1.1 404 Not Found", text));
}

#[tokio::test]
async fn a_leave_is_echoed_and_closed_with_1000_and_the_others_see_it() {
    let server = Server::start("", |_| {});
    let (mut alice, _) = server.join("alice").await;
    let (mut bob, _) = server.join("bob").await;
    let leave = LeaveRequest {
        reason: DisconnectReason::ClientInitiated.into(),
        ..LeaveRequest::default()
    };
    bob.send(signal_request::Message::Leave(leave)).await;
    assert_eq!(bob.end().await.1, 1000);
    alice.sees("bob", State::Disconnected).await;
}

#[tokio::test]
async fn a_client_that_closes_gets_its_close_back() {
    let server = Server::start("", |_| {});
    let (mut alice, _) = server.join("alice").await;
    let goodbye = CloseFrame {
        code: CloseCode::Away,
        reason: "".into(),
    };
    alice.0.close(Some(goodbye.clone())).await.unwrap();
    let answer = loop {
        match alice.frame().await {
            Some(Message::Close(answer)) => break answer,
            Some(_) => {}
            None => panic!("no close frame"),
        }
    };
    assert_eq!(answer, Some(goodbye));
}

#[tokio::test]
async fn a_client_that_vanishes_before_it_has_media_is_gone_for_the_others() {
    let server = Server::start("", |_| {});
    let (mut alice, _) = server.join("alice").await;
    let (bob, _) = server.join("bob").await;
    drop(bob);
    alice.sees("bob", State::Disconnected).await;
}

#[tokio::test]
async fn a_second_tab_ends_the_first() {
    let server = Server::start("", |_| {});
    let (mut first, _) = server.join("alice").await;
    let (_second, _) = server.join("alice").await;
    let (leave, code) = first.end().await;
    assert_eq!(leave.reason(), DisconnectReason::DuplicateIdentity);
    assert_eq!(code, 1000);
}

#[tokio::test]
async fn nonsense_is_ignored_and_a_flood_is_closed() {
    let server = Server::start("", |_| {});
    let (mut alice, _) = server.join("alice").await;
    let nonsense = Message::Binary(vec![0xff; 9].into());
    alice.0.send(nonsense).await.unwrap();
    alice.send(signal_request::Message::Ping(1)).await;
    let pong = |message| matches!(message, signal_response::Message::Pong(_)).then_some(());
    alice.until(pong).await;
    let counted = async {
        while server.hub.counted().faults[Fault::FrameUnreadable as usize] != 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, counted).await.expect("it is counted");

    let ping = SignalRequest {
        message: Some(signal_request::Message::Ping(1)),
    };
    let ping = Message::Binary(ping.encode_to_vec().into());
    let mut flood = (0..3_000).map(|_| ping.clone());
    // The server stops reading; then sending fails.
    while let Some(ping) = flood.next()
        && alice.0.feed(ping).await.is_ok()
    {}
    alice.0.flush().await.ok();
    let mut code = None;
    while let Ok(Some(Ok(frame))) = timeout(PATIENCE, alice.0.next()).await {
        if let Message::Close(close) = frame {
            code = close.map(|close| u16::from(close.code));
        }
    }
    assert_eq!(code, Some(1008));
}

#[tokio::test]
async fn a_frame_that_is_too_large_is_closed_with_1009_and_with_1008_if_it_is_not_even_read() {
    let small = "limit: {signal_message_size_limit: 1024}\n";
    for (yaml, size, wanted) in [
        ("", (2 << 20) + 1, 1009),
        ("", 9 << 20, 1008),
        (small, 4096, 1009),
        (small, 1 << 20, 1008),
    ] {
        let server = Server::start(yaml, |_| {});
        let (alice, _) = server.join("alice").await;
        let (mut to, mut from) = alice.0.split();
        let listening = async {
            let mut code = None;
            while let Ok(Some(Ok(frame))) = timeout(PATIENCE, from.next()).await {
                if let Message::Close(close) = frame {
                    code = close.map(|close| u16::from(close.code));
                }
            }
            code
        };
        // The server stops reading what is far too large; then sending fails.
        let large = Message::Binary(vec![0; size].into());
        let (_, code) = tokio::join!(to.send(large), listening);
        assert_eq!(code, Some(wanted), "{size} bytes, {yaml}");
    }
}

#[tokio::test]
async fn a_stop_tells_everybody_and_leaves_no_task() {
    let server = Server::start("", |_| {});
    let (mut alice, _) = server.join("alice").await;
    let (ended, ()) = tokio::join!(alice.end(), server.hub.shut_down());
    assert_eq!(ended.0.reason(), DisconnectReason::ServerShutdown);
    assert_eq!(ended.1, 1000);
    let refused = server.connect("/rtc", "bob").await.err().unwrap();
    assert_eq!(refused.0, StatusCode::SERVICE_UNAVAILABLE);
    let Server { tasks, net, .. } = server;
    net.stop().await;
    assert_eq!(tasks.shutdown(PATIENCE).await, Vec::<&str>::new());
}

#[tokio::test]
async fn a_participant_is_moved_with_its_websocket() {
    let server = Server::start("", |_| {});
    let (mut alice, _) = server.join("alice").await;
    let (mut bob, _) = server.join("bob").await;
    let to = |room: &str, identity: &str, destination: &str| {
        hub::Call::MoveParticipant(MoveParticipantRequest {
            room: room.to_owned(),
            identity: identity.to_owned(),
            destination_room: destination.to_owned(),
        })
    };
    // There and back, so that each room has let go of it once and has taken it in once.
    for (from, destination) in [("hall", "yard"), ("yard", "hall"), ("hall", "yard")] {
        let call = to(from, "alice", destination);
        assert_eq!(server.hub.call(call).await, Ok(hub::Answer::Done));
        let moved = alice.until(moved).await;
        assert_eq!(moved.room.unwrap().name, destination);
        let others = moved.other_participants.len();
        assert_eq!(others, usize::from(destination == "hall"));
    }
    bob.sees("alice", State::Disconnected).await;
    // Her requests arrive where she is now.
    let ask = signal_request::Message::Leave(LeaveRequest::default());
    alice.send(ask).await;
    let (leave, code) = alice.end().await;
    assert_eq!(
        (leave.reason(), code),
        (DisconnectReason::ClientInitiated, 1000)
    );

    let refused = server.hub.call(to("hall", "bob", "hall")).await;
    assert!(
        matches!(refused, Err(hub::CallError::Invalid(_))),
        "{refused:?}"
    );
    let refused = server.hub.call(to("hall", "alice", "yard")).await;
    assert_eq!(refused, Err(hub::CallError::ParticipantNotFound));
    let refused = server.hub.call(to("nowhere", "alice", "yard")).await;
    assert_eq!(refused, Err(hub::CallError::ParticipantNotFound));
}

#[tokio::test]
async fn a_full_room_takes_nobody_else_and_one_that_may_not_be_made_nobody_at_all() {
    let server = Server::start("", |_| {});
    let (mut alice, _) = server.join("alice").await;
    let (_bob, _) = server.join("bob").await;
    let cellar = CreateRoomRequest {
        name: "cellar".to_owned(),
        max_participants: 1,
        ..Default::default()
    };
    let create = hub::Call::CreateRoom(Box::new(cellar));
    server.hub.call(create).await.unwrap();
    let to_cellar = |identity: &str| {
        hub::Call::MoveParticipant(MoveParticipantRequest {
            room: "hall".to_owned(),
            identity: identity.to_owned(),
            destination_room: "cellar".to_owned(),
        })
    };
    assert_eq!(
        server.hub.call(to_cellar("alice")).await,
        Ok(hub::Answer::Done)
    );
    alice.until(moved).await;
    let refused = server.hub.call(to_cellar("bob")).await;
    assert_eq!(refused, Err(hub::CallError::RoomFull(1)));

    let closed = Server::start("", |config| config.room.auto_create = false);
    let hall = CreateRoomRequest {
        name: "hall".to_owned(),
        ..Default::default()
    };
    let create = hub::Call::CreateRoom(Box::new(hall));
    closed.hub.call(create).await.unwrap();
    let (_carol, _) = closed.join("carol").await;
    let refused = closed.hub.call(to_cellar("carol")).await;
    assert_eq!(refused, Err(hub::CallError::RoomNotFound));
}

impl Server {
    async fn forward(
        &self,
        identity: &str,
        destination: &str,
    ) -> Result<hub::Answer, hub::CallError> {
        let request = ForwardParticipantRequest {
            room: "hall".to_owned(),
            identity: identity.to_owned(),
            destination_room: destination.to_owned(),
        };
        let call = hub::Call::ForwardParticipant(request);
        self.hub.call(call).await
    }

    /// Those in a room.
    async fn present(&self, room: &str) -> Vec<ParticipantInfo> {
        let request = ListParticipantsRequest {
            room: room.to_owned(),
        };
        match self.hub.call(hub::Call::ListParticipants(request)).await {
            Ok(hub::Answer::Participants(all)) => all,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until a room has so many in it.
    async fn becomes(&self, room: &str, count: usize) {
        let waits = async {
            while self.present(room).await.len() != count {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, waits).await.expect("in time");
    }
}

#[tokio::test]
async fn a_participant_is_forwarded_and_stays_where_it_is() {
    let server = Server::start("", |_| {});
    let (mut alice, _) = server.join("alice").await;
    let (mut bob, _) = server.join("bob").await;
    let done = Ok(hub::Answer::Done);
    for _ in 0..2 {
        assert_eq!(server.forward("alice", "yard").await, done);
        assert_eq!(server.present("yard").await.len(), 1);
    }
    // Bob goes there to see her.
    let moves = MoveParticipantRequest {
        room: "hall".to_owned(),
        identity: "bob".to_owned(),
        destination_room: "yard".to_owned(),
    };
    let moves = hub::Call::MoveParticipant(moves);
    assert_eq!(server.hub.call(moves).await, done);
    let others = bob.until(moved).await.other_participants;
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].identity, "alice");

    let rename = UpdateParticipantRequest {
        room: "hall".to_owned(),
        identity: "alice".to_owned(),
        name: "Alice".to_owned(),
        ..Default::default()
    };
    let rename = hub::Call::UpdateParticipant(rename);
    server.hub.call(rename).await.unwrap();
    bob.until(|message| match message {
        signal_response::Message::Update(update) => {
            let mut all = update.participants.iter();
            all.any(|info| info.name == "Alice").then_some(())
        }
        _ => None,
    })
    .await;

    let remove = RoomParticipantIdentity {
        room: "yard".to_owned(),
        identity: "alice".to_owned(),
        ..Default::default()
    };
    let remove = hub::Call::RemoveParticipant(remove);
    assert_eq!(server.hub.call(remove).await, done);
    bob.sees("alice", State::Disconnected).await;
    assert_eq!(server.present("hall").await.len(), 1);

    // Again, and the stay in her own room ends it.
    assert_eq!(server.forward("alice", "yard").await, done);
    assert_eq!(server.present("yard").await.len(), 2);
    let leave = signal_request::Message::Leave(LeaveRequest::default());
    alice.send(leave).await;
    let (leave, _) = alice.end().await;
    assert_eq!(leave.reason(), DisconnectReason::ClientInitiated);
    server.becomes("yard", 1).await;
}

#[tokio::test]
async fn the_end_of_either_room_ends_the_forwarding_and_not_the_other_room() {
    let server = Server::start("", |_| {});
    let (_alice, _) = server.join("alice").await;
    let done = Ok(hub::Answer::Done);
    for room in ["yard", "cellar"] {
        assert_eq!(server.forward("alice", room).await, done);
    }
    let delete = |room: &str| {
        hub::Call::DeleteRoom(DeleteRoomRequest {
            room: room.to_owned(),
        })
    };
    server.hub.call(delete("yard")).await.unwrap();
    assert_eq!(server.present("hall").await.len(), 1);
    assert_eq!(server.forward("alice", "yard").await, done);
    assert_eq!(server.present("yard").await.len(), 1);
    server.hub.call(delete("hall")).await.unwrap();
    server.becomes("yard", 0).await;
    server.becomes("cellar", 0).await;
    let Server {
        hub, tasks, net, ..
    } = server;
    hub.shut_down().await;
    net.stop().await;
    assert_eq!(tasks.shutdown(PATIENCE).await, Vec::<&str>::new());
}

#[tokio::test]
async fn a_participant_is_not_forwarded_to_its_own_room_or_to_one_that_may_not_be_made() {
    let server = Server::start("", |config| config.room.auto_create = false);
    let hall = CreateRoomRequest {
        name: "hall".to_owned(),
        ..Default::default()
    };
    let create = hub::Call::CreateRoom(Box::new(hall));
    server.hub.call(create).await.unwrap();
    let (_alice, _) = server.join("alice").await;
    for room in ["", "hall"] {
        let refused = server.forward("alice", room).await;
        assert!(
            matches!(refused, Err(hub::CallError::Invalid(_))),
            "{refused:?}"
        );
    }
    let refused = server.forward("alice", "yard").await;
    assert_eq!(refused, Err(hub::CallError::RoomNotFound));
    let refused = server.forward("nobody", "yard").await;
    assert_eq!(refused, Err(hub::CallError::ParticipantNotFound));
}
