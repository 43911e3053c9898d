//! The promise of `/agent`: a worker registers, is asked, and its agent's token lets the agent in. The real server
//! without media.

use crate::server::Server;
use futures_util::{SinkExt, StreamExt};
use parlor::clock::Clock;
use parlor::protocol::livekit::{
    AvailabilityResponse, RegisterWorkerRequest, ServerMessage, WorkerMessage, WorkerPing,
    server_message, worker_message,
};
use parlor::protocol::token::{self, Claims};
use prost::Message as _;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Nothing here takes longer but a failure.
const PATIENCE: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<TcpStream>;

impl Server {
    fn sign(&self, claims: &Value) -> String {
        let (key, secret) = &self.config.keys.0[0];
        let mut claims: Claims = serde_json::from_value(claims.clone()).unwrap();
        claims.iss.clone_from(key);
        claims.exp = Clock::System.unix_seconds() + 600;
        token::sign(&claims, secret)
    }

    async fn worker(&self) -> Socket {
        let token = self.sign(&json!({"video": {"agent": true}}));
        self.open("/agent?protocol=1", &token).await.unwrap()
    }

    async fn person(&self, claims: Value) -> Socket {
        let token = self.sign(&claims);
        self.open("/rtc?protocol=16", &token).await.unwrap()
    }
}

async fn frame(socket: &mut Socket) -> Option<Message> {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("in time") {
            None => return None,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(frame) => return Some(frame.unwrap()),
        }
    }
}

async fn next(socket: &mut Socket) -> server_message::Message {
    let Some(Message::Binary(bytes)) = frame(socket).await else {
        panic!("a binary frame");
    };
    ServerMessage::decode(bytes).unwrap().message.unwrap()
}

async fn say(socket: &mut Socket, message: worker_message::Message) {
    let message = WorkerMessage {
        message: Some(message),
    };
    let frame = Message::Binary(message.encode_to_vec().into());
    socket.send(frame).await.unwrap();
}

#[tokio::test]
async fn only_a_token_for_agents_opens_the_door() {
    let server = Server::start("", |_| {});
    for claims in [
        json!({}),
        json!({"video": {"roomAdmin": true, "roomJoin": true}}),
    ] {
        let refused = server.open("/agent", &server.sign(&claims)).await;
        let (status, text) = refused.unwrap_err();
        assert_eq!(
            (status.as_u16(), text.as_str()),
            (401, "permissions denied")
        );
    }
}

#[tokio::test]
async fn a_worker_s_message_that_is_too_large_is_closed_with_1009() {
    let server = Server::start("limit: {agent_signal_message_size_limit: 1024}\n", |_| {});
    let mut worker = server.worker().await;
    let large = Message::Binary(vec![0; 4096].into());
    worker.send(large).await.unwrap();
    let Some(Message::Close(Some(close))) = frame(&mut worker).await else {
        panic!("a goodbye");
    };
    assert_eq!(u16::from(close.code), 1009);
}

#[tokio::test]
async fn a_worker_is_asked_for_a_room_and_its_agent_gets_in() {
    let server = Server::start("", |_| {});
    let mut worker = server.worker().await;
    let ping = WorkerPing { timestamp: 7 };
    say(&mut worker, worker_message::Message::Ping(ping)).await;
    let server_message::Message::Pong(pong) = next(&mut worker).await else {
        panic!("pong");
    };
    assert_eq!(pong.last_timestamp, 7);
    let request = RegisterWorkerRequest {
        agent_name: "helper".to_owned(),
        ..Default::default()
    };
    say(&mut worker, worker_message::Message::Register(request)).await;
    let server_message::Message::Register(response) = next(&mut worker).await else {
        panic!("register");
    };
    let info = response.server_info.unwrap();
    assert!(info.node_id.starts_with("ND_") && info.agent_protocol == 1);

    let video = json!({"roomJoin": true, "room": "hall"});
    let config = json!({"agents": [{"agentName": "helper", "metadata": "m"}]});
    let claims = json!({"sub": "alice", "video": video, "roomConfig": config});
    let _alice = server.person(claims).await;
    let server_message::Message::Availability(request) = next(&mut worker).await else {
        panic!("availability");
    };
    let job = request.job.unwrap();
    assert_eq!(
        (job.metadata.as_str(), job.room.unwrap().name.as_str()),
        ("m", "hall")
    );
    let answer = AvailabilityResponse {
        job_id: job.id.clone(),
        available: true,
        ..Default::default()
    };
    say(&mut worker, worker_message::Message::Availability(answer)).await;
    let server_message::Message::Assignment(assignment) = next(&mut worker).await else {
        panic!("assignment");
    };
    assert_eq!(assignment.job.unwrap().id, job.id);
    let path = "/rtc?protocol=16";
    let mut agent = server.open(path, &assignment.token).await.unwrap();
    assert!(matches!(frame(&mut agent).await, Some(Message::Binary(_))));
}

#[tokio::test]
async fn a_worker_that_speaks_json_is_answered_in_json() {
    let server = Server::start("", |_| {});
    let mut worker = server.worker().await;
    let register = json!({"register": {"type": "JT_ROOM", "agentName": "", "unknown": 1}});
    let text = Message::Text(register.to_string().into());
    worker.send(text).await.unwrap();
    let Some(Message::Text(text)) = frame(&mut worker).await else {
        panic!("a text frame");
    };
    let answer: Value = serde_json::from_str(&text).unwrap();
    let id = answer["register"]["workerId"].as_str().unwrap();
    assert!(id.starts_with("AW_"));
}

#[tokio::test]
async fn a_worker_that_speaks_nonsense_is_closed() {
    let server = Server::start("", |_| {});
    let mut worker = server.worker().await;
    for _ in 0..=100 {
        let frame = Message::Binary(vec![0xff; 3].into());
        worker.send(frame).await.unwrap();
    }
    let Some(Message::Close(Some(close))) = frame(&mut worker).await else {
        panic!("a close frame");
    };
    assert_eq!(u16::from(close.code), 1008);
}
