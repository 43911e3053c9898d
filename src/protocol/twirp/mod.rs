//! Twirp, the HTTP form of LiveKit's server API: content types, errors, bodies.
//!
//! Pure: `http` hands in headers and bytes. Followed are Twirp v7 (<https://twitchtv.github.io/twirp/docs/spec_v7.html>)
//! and what the code generated for livekit 1.13.5 does where the specification is silent: texts, order of the checks,
//! protobuf JSON with snake_case names and all fields (`livekit_room.twirp.go`), recorded in `traces/admin.jsonl` and
//! `traces/refusals.app.txt`.

mod json;

pub use json::{Full, Rooms};

use crate::protocol::protojson;
use livekit_protocol as proto;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;

/// What livekit puts before the text of every fault that its services report (livekit.md 14).
const SERVICE_PREFIX: &str = "twirp error unknown: ";

/// Twirp's error codes, those that are in use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// What was to be made exists.
    AlreadyExists,
    /// There is no such method, or it is not asked for as it should be.
    BadRoute,
    /// The operation was given up.
    Canceled,
    /// The deadline has passed.
    DeadlineExceeded,
    /// The state does not allow it.
    FailedPrecondition,
    /// A fault of the server.
    Internal,
    /// An argument is wrong.
    InvalidArgument,
    /// The body cannot be read.
    Malformed,
    /// What was asked for does not exist.
    NotFound,
    /// A limit is reached.
    ResourceExhausted,
    /// The token does not grant it; livekit says this where `permission_denied` would be right.
    Unauthenticated,
    /// Not now.
    Unavailable,
    /// Not here.
    Unimplemented,
}

impl Code {
    /// The code as it stands in a body.
    pub fn name(self) -> &'static str {
        match self {
            Self::AlreadyExists => "already_exists",
            Self::BadRoute => "bad_route",
            Self::Canceled => "canceled",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::FailedPrecondition => "failed_precondition",
            Self::Internal => "internal",
            Self::InvalidArgument => "invalid_argument",
            Self::Malformed => "malformed",
            Self::NotFound => "not_found",
            Self::ResourceExhausted => "resource_exhausted",
            Self::Unauthenticated => "unauthenticated",
            Self::Unavailable => "unavailable",
            Self::Unimplemented => "unimplemented",
        }
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidArgument | Self::Malformed => 400,
            Self::Unauthenticated => 401,
            Self::BadRoute | Self::NotFound => 404,
            Self::Canceled | Self::DeadlineExceeded => 408,
            Self::AlreadyExists => 409,
            Self::FailedPrecondition => 412,
            Self::ResourceExhausted => 429,
            Self::Internal => 500,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
        }
    }
}

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    code: Code,
    msg: Cow<'static, str>,
    /// `METHOD path` of a bad route.
    invalid_route: Option<String>,
}

impl Error {
    /// An error with this text.
    pub fn new(code: Code, msg: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            msg: msg.into(),
            invalid_route: None,
        }
    }

    /// An error of a service, whose text begins as livekit's do.
    pub fn service(code: Code, msg: &str) -> Self {
        Self::new(code, format!("{SERVICE_PREFIX}{msg}"))
    }

    /// All that a token does not grant.
    pub fn permissions_denied() -> Self {
        Self::new(Code::Unauthenticated, "permissions denied")
    }

    /// Another HTTP method than POST.
    pub fn not_post(method: &str, path: &str) -> Self {
        let msg = format!("unsupported method {method:?} (only POST is allowed)");
        Self::bad_route(msg, method, path)
    }

    /// A method that the service does not have.
    pub fn no_handler(method: &str, path: &str) -> Self {
        Self::bad_route(format!("no handler for path {path:?}"), method, path)
    }

    /// A content type that is neither JSON nor protobuf, as it was sent.
    pub fn content_type(sent: &str, method: &str, path: &str) -> Self {
        Self::bad_route(format!("unexpected Content-Type: {sent:?}"), method, path)
    }

    fn bad_route(msg: String, method: &str, path: &str) -> Self {
        Self {
            code: Code::BadRoute,
            msg: msg.into(),
            invalid_route: Some(format!("{method} {path}")),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.code.status()
    }

    /// The text alone.
    pub fn text(&self) -> &str {
        &self.msg
    }

    /// The body, always JSON.
    pub fn body(&self) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            code: &'static str,
            msg: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            meta: Option<Meta<'a>>,
        }
        #[derive(Serialize)]
        struct Meta<'a> {
            twirp_invalid_route: &'a str,
        }
        let body = Body {
            code: self.code.name(),
            msg: &self.msg,
            meta: self.invalid_route.as_deref().map(|route| Meta {
                twirp_invalid_route: route,
            }),
        };
        serde_json::to_string(&body).expect("strings are JSON")
    }
}

/// How messages are written, in both directions of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// `application/json`: protobuf's JSON.
    Json,
    /// `application/protobuf`.
    Protobuf,
}

impl Wire {
    /// From a `Content-Type`, whose parameters mean nothing. `None`: neither of the two.
    pub fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else if essence.eq_ignore_ascii_case("application/protobuf") {
            Some(Self::Protobuf)
        } else {
            None
        }
    }

    /// The `Content-Type` of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/protobuf",
        }
    }

    /// Reads a request. JSON may have names in either case, fields that nobody knows, and `null` for what is not set.
    pub fn decode<M>(self, body: &[u8]) -> Result<M, Error>
    where
        M: prost::Message + Default + DeserializeOwned,
    {
        match self {
            Self::Json => protojson::read(body)
                .map_err(|_| Error::new(Code::Malformed, "the json request could not be decoded")),
            Self::Protobuf => M::decode(body).map_err(|_| {
                Error::new(Code::Malformed, "the protobuf request could not be decoded")
            }),
        }
    }

    /// Writes an answer.
    pub fn encode<M>(self, message: &M) -> Vec<u8>
    where
        M: prost::Message,
        for<'a> Full<'a, M>: Serialize,
    {
        match self {
            Self::Json => json(&Full(message)),
            Self::Protobuf => message.encode_to_vec(),
        }
    }

    /// Writes the answer of ListRooms from records that others hold too.
    pub fn encode_rooms(self, rooms: &[std::sync::Arc<proto::Room>]) -> Vec<u8> {
        match self {
            Self::Json => json(&Rooms(rooms)),
            Self::Protobuf => {
                let mut out = Vec::new();
                for room in rooms {
                    // Field 1 of ListRoomsResponse.
                    prost::encoding::message::encode(1, room.as_ref(), &mut out);
                }
                out
            }
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("these messages have names for keys and no maps of maps")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_case_of_a_content_type_mean_nothing() {
        for (text, wire) in [
            ("application/json", Some(Wire::Json)),
            ("application/json;charset=UTF-8", Some(Wire::Json)),
            (" Application/JSON ; x=y", Some(Wire::Json)),
            ("application/protobuf", Some(Wire::Protobuf)),
            ("application/protobuf2", None),
            ("text/plain; application/json", None),
            ("", None),
        ] {
            assert_eq!(Wire::of(text), wire, "{text:?}");
        }
    }

    #[test]
    fn errors_are_written_as_recorded() {
        for (error, status, body) in [
            (
                Error::not_post("GET", "/twirp/livekit.RoomService/Nope"),
                404,
                r#"{"code":"bad_route","msg":"unsupported method \"GET\" (only POST is allowed)","meta":{"twirp_invalid_route":"GET /twirp/livekit.RoomService/Nope"}}"#,
            ),
            (
                Error::no_handler("POST", "/twirp/livekit.RoomService/Nope"),
                404,
                r#"{"code":"bad_route","msg":"no handler for path \"/twirp/livekit.RoomService/Nope\"","meta":{"twirp_invalid_route":"POST /twirp/livekit.RoomService/Nope"}}"#,
            ),
            (
                Error::permissions_denied(),
                401,
                r#"{"code":"unauthenticated","msg":"permissions denied"}"#,
            ),
            (
                Error::service(Code::NotFound, "participant does not exist"),
                404,
                r#"{"code":"not_found","msg":"twirp error unknown: participant does not exist"}"#,
            ),
            (
                Error::service(Code::FailedPrecondition, "remote unmute not enabled"),
                412,
                r#"{"code":"failed_precondition","msg":"twirp error unknown: remote unmute not enabled"}"#,
            ),
        ] {
            assert_eq!((error.status(), error.body().as_str()), (status, body));
        }
    }

    #[test]
    fn a_request_is_read_in_both_cases_with_fields_that_nobody_knows() {
        for body in [
            r#"{"name":"r","emptyTimeout":60,"metadata":"m","nonsense":{"a":[1]}}"#,
            r#"{"name":"r","empty_timeout":60,"metadata":"m"}"#,
        ] {
            let request: proto::CreateRoomRequest = Wire::Json.decode(body.as_bytes()).unwrap();
            assert_eq!(
                (request.name.as_str(), request.empty_timeout),
                ("r", 60),
                "{body}"
            );
        }
        let send: proto::SendDataRequest = Wire::Json
            .decode(br#"{"room":"r","data":"c3J2","kind":"LOSSY","destinationIdentities":["bob"]}"#)
            .unwrap();
        assert_eq!((send.data.as_slice(), send.kind), (&b"srv"[..], 1));
        for (wire, body, text) in [
            (
                Wire::Json,
                &b"{"[..],
                "the json request could not be decoded",
            ),
            (
                Wire::Protobuf,
                &b"\xff"[..],
                "the protobuf request could not be decoded",
            ),
        ] {
            let error = wire.decode::<proto::CreateRoomRequest>(body).unwrap_err();
            assert_eq!((error.status(), error.text()), (400, text));
        }
    }

    #[test]
    fn a_list_of_rooms_is_the_same_protobuf_as_its_message() {
        let rooms = [("a", 1), ("", 0)].map(|(name, count)| proto::Room {
            name: name.to_owned(),
            num_participants: count,
            ..Default::default()
        });
        let shared: Vec<_> = rooms.iter().cloned().map(std::sync::Arc::new).collect();
        let message = proto::ListRoomsResponse {
            rooms: rooms.to_vec(),
        };
        assert_eq!(
            Wire::Protobuf.encode_rooms(&shared),
            prost::Message::encode_to_vec(&message)
        );
    }
}
