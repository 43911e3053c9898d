//! The promise of the server API: what LiveKit's server SDKs send and get back, through the real router, hub and
//! rooms. No participant here has media.

use axum::body::Body;
use axum::http::{Request, header};
use parlor::clock::Clock;
use parlor::http::{App, router};
use parlor::hub::{self, JoinError, Session};
use parlor::protocol::join::Join;
use parlor::protocol::livekit::{
    ClientInfo, CreateRoomRequest, ListRoomsRequest, ListRoomsResponse, Room,
};
use parlor::protocol::token::{self, Claims};
use prost::Message as _;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

const RECORDED: &str = include_str!("../fixtures/twirp.livekit.txt");
const JSON: &str = "application/json;charset=UTF-8";

struct Server {
    app: Arc<App>,
    hub: hub::Handle,
    _running: crate::server::Server,
}

impl Server {
    fn start(yaml: &str) -> Self {
        let running = crate::server::Server::start(yaml, |_| {});
        let (hub, tasks) = (running.hub.clone(), running.tasks.clone());
        Self {
            app: Arc::new(App::new(&running.config, hub.clone(), tasks)),
            hub,
            _running: running,
        }
    }

    fn sign(&self, grants: &Value) -> String {
        let (key, secret) = &self.app.keys.0[0];
        let mut claims = json!({"iss": key, "exp": Clock::System.unix_seconds() + 600});
        for (name, value) in grants.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let claims: Claims = serde_json::from_value(claims).unwrap();
        token::sign(&claims, secret)
    }

    async fn send(&self, path: &str, content_type: &str, token: &str, body: Body) -> Answer {
        let mut request = Request::post(path).header(header::CONTENT_TYPE, content_type);
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(body).unwrap();
        let response = router(&self.app).oneshot(request).await.unwrap();
        let content_type = response.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.map_or("", |value| value.to_str().unwrap());
        let content_type = content_type.to_owned();
        let status = response.status().as_u16();
        let body = response.into_body();
        let body = axum::body::to_bytes(body, 1 << 24).await.unwrap().to_vec();
        Answer {
            status,
            content_type,
            body,
        }
    }

    /// A call in JSON by somebody who may do everything to `room`.
    async fn call(&self, method: &str, room: &str, body: Value) -> (u16, String) {
        let grant = json!({"video": {
            "roomCreate": true, "roomList": true, "roomAdmin": true, "room": room,
        }});
        let path = format!("/twirp/livekit.RoomService/{method}");
        let body = Body::from(body.to_string());
        let answer = self.send(&path, JSON, &self.sign(&grant), body).await;
        assert_eq!(answer.content_type, "application/json", "{method}");
        (answer.status, String::from_utf8(answer.body).unwrap())
    }

    async fn done(&self, method: &str, room: &str, body: Value) -> Value {
        let (status, text) = self.call(method, room, body).await;
        assert_eq!(status, 200, "{method}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn join(&self, room: &str, identity: &str, issued: u64) -> Result<Session, JoinError> {
        let (key, _) = &self.app.keys.0[0];
        let lifetime = Duration::from_secs(600);
        let claims = Claims::for_join(key, room, identity, issued, lifetime);
        let join = Join {
            claims,
            api_key: key.clone(),
            client: ClientInfo::default(),
            protocol: 16,
            single_pc: false,
            auto_subscribe: true,
            auto_subscribe_data_track: true,
            adaptive_stream: false,
            subscriber_allow_pause: None,
            disable_ice_lite: false,
            metadata: String::new(),
            attributes: HashMap::new(),
            publish: None,
            add_tracks: Vec::new(),
            publisher_offer: None,
            resume: None,
        };
        self.hub.join(join).await
    }
}

struct Answer {
    status: u16,
    content_type: String,
    body: Vec<u8>,
}

fn now() -> u64 {
    Clock::System.unix_seconds()
}

/// Names of fields, at every depth; of a list those of its first entry.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect(),
        Value::Array(list) => list.iter().take(1).map(shape).collect(),
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
    }
}

fn recorded(method: &str) -> Value {
    let line = RECORDED.lines().find_map(|line| {
        let (name, body) = line.split_once(' ')?;
        (name == method).then_some(body)
    });
    serde_json::from_str(line.unwrap()).unwrap()
}

#[tokio::test]
async fn rooms_come_and_go_as_recorded() {
    let server = Server::start(
        "room: {room_configurations: {small: {max_participants: 2, departure_timeout: 7}}}",
    );
    let request = json!({
        "name": "admin", "emptyTimeout": 60, "maxParticipants": 3, "metadata": "m0",
        "minPlayoutDelay": 50, "maxPlayoutDelay": 200, "syncStreams": true,
        "departureTimeout": 5, "tags": {"a": "b"},
    });
    let mut created = server.done("CreateRoom", "", request).await;
    assert_eq!(shape(&created), shape(&recorded("CreateRoom")));
    // Again, in the other case: the room as it was.
    let again = json!({"name": "admin", "metadata": "m1", "empty_timeout": 9});
    assert_eq!(server.done("CreateRoom", "", again).await, created);
    let nameless = server.done("CreateRoom", "", json!({})).await;
    assert_eq!(
        (&nameless["name"], &nameless["empty_timeout"]),
        (&json!(""), &json!(300))
    );
    let preset = json!({"name": "p", "room_preset": "small", "departureTimeout": 8});
    let preset = server.done("CreateRoom", "", preset).await;
    assert_eq!(
        (&preset["max_participants"], &preset["departure_timeout"]),
        (&json!(2), &json!(8))
    );

    let all = server.done("ListRooms", "", json!({})).await;
    assert_eq!(all, json!({"rooms": [created, nameless, preset]}));
    let some = server
        .done(
            "ListRooms",
            "",
            json!({"names": ["p", "nope", "admin", "p"]}),
        )
        .await;
    assert_eq!(some, json!({"rooms": [created, preset]}));

    created["metadata"] = json!("m2");
    let changed = json!({"room": "admin", "metadata": "m2"});
    let changed = server.done("UpdateRoomMetadata", "admin", changed).await;
    assert_eq!(changed, created);
    let listed = server
        .done("ListRooms", "", json!({"names": ["admin"]}))
        .await;
    assert_eq!(listed["rooms"][0], created);

    let room = || json!({"room": "admin"});
    assert_eq!(
        server.call("DeleteRoom", "", room()).await,
        (200, "{}".to_owned())
    );
    let gone = r#"{"code":"not_found","msg":"twirp error unknown: requested room does not exist"}"#;
    assert_eq!(
        server.call("DeleteRoom", "", room()).await,
        (404, gone.to_owned())
    );
    let left = server.done("ListRooms", "", json!({})).await;
    assert_eq!(left, json!({"rooms": [nameless, preset]}));
}

#[tokio::test]
async fn participants_are_shown_changed_and_removed_as_recorded() {
    let server = Server::start("");
    let _alice = server.join("hall", "alice", now()).await.unwrap();
    let listed = server
        .done("ListParticipants", "hall", json!({"room": "hall"}))
        .await;
    let mut expected = recorded("GetParticipant");
    // Nobody here publishes, and the test's client says nothing of itself.
    expected["tracks"] = json!([]);
    expected["capabilities"] = json!([]);
    assert_eq!(shape(&listed["participants"][0]), shape(&expected));
    let alice = || json!({"room": "hall", "identity": "alice"});
    assert_eq!(
        server.done("GetParticipant", "hall", alice()).await,
        listed["participants"][0]
    );
    let changed =
        json!({"room": "hall", "identity": "alice", "name": "Al", "attributes": {"z": "1"}});
    let changed = server.done("UpdateParticipant", "hall", changed).await;
    assert_eq!(
        (&changed["name"], &changed["attributes"]),
        (&json!("Al"), &json!({"z": "1"}))
    );
    let counted = server.done("ListRooms", "", json!({})).await;
    assert_eq!(counted["rooms"][0]["num_participants"], 1);
    for (method, body, expected) in [
        (
            "MutePublishedTrack",
            json!({"trackSid": "TR_nope", "muted": true}),
            r#"{"track":null}"#,
        ),
        ("UpdateSubscriptions", json!({"trackSids": ["TR_x"]}), "{}"),
        ("RemoveParticipant", json!({}), "{}"),
    ] {
        let mut request = alice();
        for (name, value) in body.as_object().unwrap() {
            request[name] = value.clone();
        }
        assert_eq!(
            server.call(method, "hall", request).await,
            (200, expected.to_owned()),
            "{method}"
        );
    }
    let data =
        json!({"room": "hall", "data": "c3J2", "topic": "x", "nonce": "C+2FnceDvquiRioAve39sg=="});
    assert_eq!(
        server.call("SendData", "hall", data).await,
        (200, "{}".to_owned())
    );
}

#[tokio::test]
async fn what_cannot_be_done_is_told_by_status_and_body() {
    let server = Server::start("limit: {max_metadata_size: 16}");
    let _alice = server.join("hall", "alice", now()).await.unwrap();
    let nobody = r#"{"code":"not_found","msg":"twirp error unknown: participant does not exist"}"#;
    let nowhere =
        r#"{"code":"not_found","msg":"twirp error unknown: requested room does not exist"}"#;
    for (method, room, body, status, expected) in [
        (
            "GetParticipant",
            "hall",
            json!({"identity": "zoe"}),
            404,
            nobody,
        ),
        (
            "GetParticipant",
            "nowhere",
            json!({"identity": "zoe"}),
            404,
            nobody,
        ),
        (
            "RemoveParticipant",
            "hall",
            json!({"identity": "zoe"}),
            404,
            nobody,
        ),
        (
            "UpdateParticipant",
            "hall",
            json!({"identity": "zoe", "metadata": "x"}),
            404,
            nobody,
        ),
        (
            "UpdateSubscriptions",
            "nowhere",
            json!({"identity": "zoe"}),
            404,
            nobody,
        ),
        (
            "UpdateRoomMetadata",
            "nowhere",
            json!({"metadata": "x"}),
            404,
            nowhere,
        ),
        ("SendData", "nowhere", json!({}), 404, nowhere),
        (
            "ListParticipants",
            "nowhere",
            json!({}),
            200,
            r#"{"participants":[]}"#,
        ),
        (
            "MutePublishedTrack",
            "hall",
            json!({"identity": "alice", "trackSid": "TR_x"}),
            412,
            r#"{"code":"failed_precondition","msg":"twirp error unknown: remote unmute not enabled"}"#,
        ),
        (
            "SendData",
            "hall",
            json!({"nonce": "AA=="}),
            400,
            r#"{"code":"invalid_argument","msg":"twirp error unknown: nonce should be 16 bytes or not present, got 1 bytes"}"#,
        ),
        (
            "CreateRoom",
            "",
            json!({"name": "n", "roomPreset": "nope"}),
            400,
            r#"{"code":"invalid_argument","msg":"twirp error unknown: unknown room preset nope"}"#,
        ),
        (
            "CreateRoom",
            "",
            json!({"name": "n", "egress": {"tracks": {"filepath": "x"}}}),
            501,
            r#"{"code":"unimplemented","msg":"egress is not part of this server: create the room without it"}"#,
        ),
        (
            "PerformRpc",
            "hall",
            json!({"destinationIdentity": "alice", "method": "m"}),
            500,
            r#"{"code":"internal","msg":"twirp error unknown: RpcError 1505: Failed to send"}"#,
        ),
        (
            "PerformRpc",
            "hall",
            json!({"destinationIdentity": "zoe", "method": "m"}),
            404,
            r#"{"code":"not_found","msg":"twirp error unknown: RpcError 1401: Recipient not found"}"#,
        ),
        (
            "PerformRpc",
            "nowhere",
            json!({"method": "m"}),
            400,
            r#"{"code":"invalid_argument","msg":"twirp error unknown: destination identity is required"}"#,
        ),
        (
            "UpdateParticipant",
            "hall",
            json!({"identity": "zoe", "metadata": "more than sixteen"}),
            400,
            r#"{"code":"invalid_argument","msg":"twirp error unknown: metadata size exceeds limits: max size 16"}"#,
        ),
        (
            "UpdateRoomMetadata",
            "nowhere",
            json!({"metadata": "more than sixteen"}),
            400,
            r#"{"code":"invalid_argument","msg":"twirp error unknown: metadata size exceeds limits: max size 16"}"#,
        ),
        (
            "GetParticipant",
            "hall",
            json!([]),
            400,
            r#"{"code":"malformed","msg":"the json request could not be decoded"}"#,
        ),
    ] {
        let mut request = body;
        if let Some(map) = request.as_object_mut() {
            map.insert("room".to_owned(), json!(room));
        }
        assert_eq!(
            server.call(method, room, request).await,
            (status, expected.to_owned()),
            "{method}"
        );
    }
}

/// As traces/admin.jsonl has it.
#[tokio::test]
async fn agents_are_dispatched_listed_and_called_back() {
    let server = Server::start("");
    let grant = json!({"video": {"roomAdmin": true, "room": "hall"}});
    let call = async |method: &str, body: Value| {
        let path = format!("/twirp/livekit.AgentDispatchService/{method}");
        let body = Body::from(body.to_string());
        let answer = server.send(&path, JSON, &server.sign(&grant), body).await;
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        (answer.status, body)
    };
    let request = json!({"agentName": "helper", "room": "hall", "metadata": "x"});
    let (status, made) = call("CreateDispatch", request).await;
    assert_eq!(status, 200, "{made}");
    let id = made["id"].as_str().unwrap();
    let created = made["state"]["created_at"].as_str().unwrap();
    assert!(id.starts_with("AD_") && created.len() == 19, "{made}");
    let expected = json!({
        "id": id, "agent_name": "helper", "room": "hall", "metadata": "x",
        "state": {"jobs": [], "created_at": created, "deleted_at": "0"},
        "restart_policy": "JRP_ON_FAILURE", "deployment": "", "attributes": {},
    });
    assert_eq!(made, expected);
    let rooms = server.done("ListRooms", "", json!({})).await;
    assert_eq!(rooms["rooms"][0]["name"], "hall", "the room was made");

    let (_, listed) = call("ListDispatch", json!({"room": "hall"})).await;
    let listed = listed["agent_dispatches"].as_array().unwrap();
    assert_eq!((listed.len(), &listed[0]), (2, &made));
    assert_eq!(
        listed[1]["agent_name"], "",
        "for agents that serve all rooms"
    );
    let one = json!({"room": "hall", "dispatchId": listed[1]["id"]});
    let (_, one) = call("ListDispatch", one).await;
    assert_eq!(one["agent_dispatches"], json!([listed[1]]));

    let (_, gone) = call("DeleteDispatch", json!({"room": "hall", "dispatch_id": id})).await;
    assert_eq!(gone["id"], id);
    assert_ne!(gone["state"]["deleted_at"], "0");
    let (status, error) = call("DeleteDispatch", json!({"room": "hall", "dispatch_id": id})).await;
    assert_eq!(status, 404);
    assert_eq!(
        error["msg"],
        "twirp error unknown: agent dispatch does not exist"
    );
}

#[tokio::test]
async fn a_room_has_the_agents_that_its_creation_names() {
    let server = Server::start("");
    let agents = json!([{"agentName": "one", "metadata": "m"}, {"agent_name": "two"}]);
    let request = json!({"name": "hall", "agents": agents});
    server.done("CreateRoom", "", request).await;
    let path = "/twirp/livekit.AgentDispatchService/ListDispatch";
    let grant = json!({"video": {"roomAdmin": true, "room": "hall"}});
    let body = Body::from(json!({"room": "hall"}).to_string());
    let answer = server.send(path, JSON, &server.sign(&grant), body).await;
    let listed: Value = serde_json::from_slice(&answer.body).unwrap();
    let listed = listed["agent_dispatches"].as_array().unwrap().iter();
    let names: Vec<_> = listed.map(|d| (&d["agent_name"], &d["metadata"])).collect();
    assert_eq!(
        names,
        [(&json!("two"), &json!("")), (&json!("one"), &json!("m"))]
    );
}

#[tokio::test]
async fn a_room_may_name_receivers_of_webhooks_if_there_is_a_key_to_sign_with() {
    let server = Server::start("");
    let request = json!({"name": "hall", "tags": {"webhook_urls": "http://127.0.0.1:9/"}});
    let (status, text) = server.call("CreateRoom", "", request).await;
    assert_eq!(status, 400);
    assert!(text.contains("webhook_urls: set webhook.api_key"), "{text}");
    let request = json!({"name": "hall", "tags": {"floor": "2"}, "minPlayoutDelay": 100});
    server.done("CreateRoom", "", request).await;
}

/// What each call needs, and that nothing else will do.
#[tokio::test]
async fn a_token_that_does_not_grant_it_is_401() {
    let server = Server::start("");
    let denied = r#"{"code":"unauthenticated","msg":"permissions denied"}"#;
    let admin = json!({"video": {"roomAdmin": true, "room": "hall"}});
    let create = json!({"video": {"roomCreate": true}});
    let list = json!({"video": {"roomList": true}});
    let record = json!({"video": {"roomRecord": true}});
    let ingress = json!({"video": {"ingressAdmin": true}});
    let trunks = json!({"sip": {"admin": true}});
    let calls = json!({"sip": {"call": true}});
    let moves = json!({"video": {"roomAdmin": true, "room": "hall", "destinationRoom": "yard"}});
    let elsewhere = json!({"video": {"roomAdmin": true, "room": "yard", "roomJoin": true}});
    let all = [
        &admin, &create, &list, &record, &ingress, &trunks, &calls, &moves, &elsewhere,
    ];
    let hall = json!({"room": "hall", "identity": "x", "destinationRoom": "yard"});
    for (path, granted, status) in [
        ("RoomService/CreateRoom", vec![&create], 200),
        ("RoomService/DeleteRoom", vec![&create], 404),
        ("RoomService/ListRooms", vec![&list], 200),
        ("RoomService/ListParticipants", vec![&admin, &moves], 200),
        ("RoomService/GetParticipant", vec![&admin, &moves], 404),
        ("RoomService/RemoveParticipant", vec![&admin, &moves], 404),
        ("RoomService/MutePublishedTrack", vec![&admin, &moves], 404),
        ("RoomService/UpdateParticipant", vec![&admin, &moves], 404),
        ("RoomService/UpdateSubscriptions", vec![&admin, &moves], 404),
        ("RoomService/SendData", vec![&admin, &moves], 404),
        ("RoomService/UpdateRoomMetadata", vec![&admin, &moves], 404),
        ("RoomService/PerformRpc", vec![&admin, &moves], 400),
        ("RoomService/ForwardParticipant", vec![&moves], 404),
        ("RoomService/MoveParticipant", vec![&moves], 404),
        (
            "AgentDispatchService/CreateDispatch",
            vec![&admin, &moves],
            200,
        ),
        (
            "AgentDispatchService/DeleteDispatch",
            vec![&admin, &moves],
            404,
        ),
        (
            "AgentDispatchService/ListDispatch",
            vec![&admin, &moves],
            200,
        ),
        ("Egress/ListEgress", vec![&record], 501),
        ("Ingress/ListIngress", vec![&ingress], 501),
        ("SIP/ListSIPTrunk", vec![&trunks], 501),
        ("SIP/CreateSIPParticipant", vec![&calls], 501),
    ] {
        for grant in all {
            let mut body = hall.clone();
            if path.ends_with("MutePublishedTrack") {
                body["muted"] = json!(true);
            }
            let url = format!("/twirp/livekit.{path}");
            let token = server.sign(grant);
            let answer = server
                .send(&url, JSON, &token, Body::from(body.to_string()))
                .await;
            if granted.contains(&grant) {
                assert_eq!(answer.status, status, "{path} {grant}");
            } else {
                let text = String::from_utf8(answer.body).unwrap();
                assert_eq!(
                    (answer.status, text.as_str()),
                    (401, denied),
                    "{path} {grant}"
                );
            }
            // No room outlives its line.
            for room in ["", "hall"] {
                let leftover = json!({"room": room});
                server.call("DeleteRoom", "", leftover).await;
            }
        }
        let url = format!("/twirp/livekit.{path}");
        let answer = server.send(&url, JSON, "", Body::from("{}")).await;
        assert_eq!(answer.status, 401, "{path}");
    }
    // A token that is no good is told as everywhere.
    let answer = server
        .send(
            "/twirp/livekit.RoomService/ListRooms",
            JSON,
            "x",
            Body::from("{}"),
        )
        .await;
    assert_eq!(
        (
            answer.status,
            answer.content_type.as_str(),
            answer.body.as_slice()
        ),
        (
            401,
            "text/plain; charset=utf-8",
            &b"invalid authorization token"[..]
        )
    );
}

/// traces/refusals.app.txt, its last part.
#[tokio::test]
async fn a_bad_route_is_told_as_recorded() {
    let server = Server::start("");
    let body = |msg: &str, verb: &str, path: &str| {
        json!({"code": "bad_route", "msg": msg, "meta": {"twirp_invalid_route": format!("{verb} {path}")}})
            .to_string()
    };
    let sorted = |text: &[u8]| {
        serde_json::from_slice::<Value>(text).map_or_else(
            |_| String::from_utf8_lossy(text).into_owned(),
            |v| v.to_string(),
        )
    };
    let nope = "/twirp/livekit.RoomService/Nope";
    let list = "/twirp/livekit.RoomService/ListRooms";
    for (path, content_type, expected) in [
        (
            nope,
            JSON,
            body(&format!("no handler for path \"{nope}\""), "POST", nope),
        ),
        (
            list,
            "text/html",
            body("unexpected Content-Type: \"text/html\"", "POST", list),
        ),
        (
            list,
            "",
            body("unexpected Content-Type: \"\"", "POST", list),
        ),
        (
            "/twirp/livekit.Nope/X",
            JSON,
            "404 page not found\n".to_owned(),
        ),
        ("/twirp/x", JSON, "404 page not found\n".to_owned()),
    ] {
        let answer = server.send(path, content_type, "", Body::from("{}")).await;
        assert_eq!(
            (answer.status, sorted(&answer.body)),
            (404, expected),
            "{path}"
        );
    }
    for verb in ["GET", "OPTIONS", "HEAD"] {
        let request = Request::builder()
            .method(verb)
            .uri(nope)
            .body(Body::empty())
            .unwrap();
        let response = router(&server.app).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        let text = axum::body::to_bytes(response.into_body(), 4096)
            .await
            .unwrap();
        let msg = format!("unsupported method \"{verb}\" (only POST is allowed)");
        let expected = if verb == "HEAD" {
            String::new()
        } else {
            body(&msg, verb, nope)
        };
        assert_eq!(sorted(&text), expected);
    }
}

#[tokio::test]
async fn a_body_over_10_mib_is_413_also_when_its_length_is_not_announced() {
    let server = Server::start("");
    let chunks = (0..11).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1 << 20]));
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    let token = server.sign(&json!({"video": {"roomList": true}}));
    let path = "/twirp/livekit.RoomService/ListRooms";
    assert_eq!(server.send(path, JSON, &token, body).await.status, 413);
}

#[tokio::test]
async fn a_long_body_without_a_token_is_401_before_it_is_there() {
    let server = Server::start("");
    let path = "/twirp/livekit.RoomService/ListRooms";
    let spaces = || Ok::<_, std::io::Error>(vec![b' '; 1 << 16]);
    let endless = futures_util::stream::iter(std::iter::repeat_with(spaces));
    let body = Body::from_stream(endless);
    assert_eq!(server.send(path, JSON, "", body).await.status, 401);
}

#[tokio::test]
async fn a_body_that_does_not_end_is_408() {
    tokio::time::pause();
    let server = Server::start("");
    let body = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let body = Body::from_stream(body);
    let token = server.sign(&json!({"video": {"roomList": true}}));
    let path = "/twirp/livekit.RoomService/ListRooms";
    assert_eq!(server.send(path, JSON, &token, body).await.status, 408);
}

#[tokio::test]
async fn protobuf_is_spoken_too() {
    let server = Server::start("");
    let token = server.sign(&json!({"video": {"roomCreate": true, "roomList": true}}));
    let proto = "application/protobuf";
    let request = CreateRoomRequest {
        name: "r".to_owned(),
        max_participants: 4,
        ..Default::default()
    };
    let path = "/twirp/livekit.RoomService/CreateRoom";
    let answer = server
        .send(path, proto, &token, Body::from(request.encode_to_vec()))
        .await;
    assert_eq!((answer.status, answer.content_type.as_str()), (200, proto));
    let room = Room::decode(answer.body.as_slice()).unwrap();
    assert_eq!((room.name.as_str(), room.max_participants), ("r", 4));
    let body = Body::from(ListRoomsRequest::default().encode_to_vec());
    let answer = server
        .send("/twirp/livekit.RoomService/ListRooms", proto, &token, body)
        .await;
    let list = ListRoomsResponse::decode(answer.body.as_slice()).unwrap();
    assert_eq!(list.rooms, [room]);
    // Errors are JSON all the same.
    let answer = server.send(path, proto, "", Body::empty()).await;
    assert_eq!(
        (answer.status, answer.content_type.as_str()),
        (401, "application/json")
    );
}

#[tokio::test]
async fn who_is_put_out_with_its_tokens_comes_back_with_a_newer_one_only() {
    let server = Server::start("");
    let issued = now() - 5;
    let _eve = server.join("hall", "eve", issued).await.unwrap();
    let remove = json!({"room": "hall", "identity": "eve", "revokeTokenTs": now().to_string()});
    assert_eq!(
        server.call("RemoveParticipant", "hall", remove).await,
        (200, "{}".to_owned())
    );
    let refused = server.join("hall", "eve", issued).await.map(|_| ());
    assert_eq!(refused, Err(JoinError::TokenRevoked));
    // Nor after the room has ended.
    server.done("DeleteRoom", "", json!({"room": "hall"})).await;
    let refused = server.join("hall", "eve", issued).await.map(|_| ());
    assert_eq!(refused, Err(JoinError::TokenRevoked));
    assert!(server.join("yard", "eve", issued).await.is_ok());
    assert!(server.join("hall", "bob", issued).await.is_ok());
    assert!(server.join("hall", "eve", now() + 1).await.is_ok());

    // A removal that says nothing of tokens leaves them as they are, as livekit-server does.
    let remove = json!({"room": "hall", "identity": "eve"});
    server.done("RemoveParticipant", "hall", remove).await;
    assert!(server.join("hall", "eve", now() + 1).await.is_ok());
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let server = Server::start("");
    server.hub.shut_down().await;
    let expected = r#"{"code":"unavailable","msg":"twirp error unknown: server is shutting down"}"#;
    let answer = server.call("CreateRoom", "", json!({"name": "r"})).await;
    assert_eq!(answer, (503, expected.to_owned()));
}

#[tokio::test]
async fn a_dispatch_makes_no_room_where_a_join_would_make_none() {
    let server = Server::start("room: {auto_create: false}\nlimit: {max_metadata_size: 4}");
    let grant = json!({"video": {"roomAdmin": true, "room": "hall"}});
    let dispatch = async |metadata: &str| {
        let path = "/twirp/livekit.AgentDispatchService/CreateDispatch";
        let body = json!({"agentName": "a", "room": "hall", "metadata": metadata}).to_string();
        let token = server.sign(&grant);
        server.send(path, JSON, &token, body.into()).await.status
    };
    assert_eq!(dispatch("m").await, 404);
    let rooms = server.done("ListRooms", "", json!({})).await;
    assert_eq!(rooms["rooms"], json!([]));
    server.done("CreateRoom", "", json!({"name": "hall"})).await;
    assert_eq!(dispatch("m").await, 200);
    assert_eq!(dispatch("large").await, 400);
}

#[tokio::test]
async fn the_limit_of_metadata_is_that_of_an_agents_too() {
    let server = Server::start("limit: {max_metadata_size: 4, max_attributes_size: 4}");
    for (agent, expected) in [
        (json!({"metadata": "m"}), 200),
        (json!({"metadata": "large"}), 400),
        (json!({"attributes": {"la": "rge"}}), 400),
    ] {
        let request = json!({"name": "hall", "agents": [agent]});
        let (status, text) = server.call("CreateRoom", "", request).await;
        assert_eq!(status, expected, "{text}");
    }
}
