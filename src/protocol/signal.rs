//! Frames of the signalling connection: protobuf in binary frames, protojson in text frames.
//!
//! The room makes an [`Encoded`] and shares it with all who get it; each session asks for the form that its client
//! speaks. Followed is livekit 1.13.5 `pkg/service/wsprotocol.go`.

use crate::protocol::livekit::{SignalRequest, SignalResponse, WorkerMessage, signal_response};
use crate::protocol::protojson;
use bytes::Bytes;
use prost::Message as _;
use std::sync::{Arc, OnceLock};

/// A response that is encoded at most once per form, whoever it goes to.
#[derive(Debug)]
pub struct Encoded {
    response: SignalResponse,
    protobuf: OnceLock<Bytes>,
    json: OnceLock<Arc<str>>,
}

impl Encoded {
    /// Wraps a message; nothing is encoded yet.
    pub fn new(message: signal_response::Message) -> Self {
        Self {
            response: SignalResponse {
                message: Some(message),
            },
            protobuf: OnceLock::new(),
            json: OnceLock::new(),
        }
    }

    /// The message itself.
    pub fn message(&self) -> Option<&signal_response::Message> {
        self.response.message.as_ref()
    }

    /// The bytes of a binary frame.
    pub fn protobuf(&self) -> Bytes {
        self.protobuf
            .get_or_init(|| self.response.encode_to_vec().into())
            .clone()
    }

    /// The text of a text frame.
    pub fn json(&self) -> Arc<str> {
        Arc::clone(self.json.get_or_init(|| {
            serde_json::to_string(&self.response)
                .map_err(|error| tracing::error!(%error, "a message has no JSON form"))
                // A number out of its enum's range is all that pbjson refuses; `{}` is an empty SignalResponse.
                .map_or_else(|()| "{}".into(), Arc::from)
        }))
    }

    /// Bytes of the protobuf form, without encoding it: what queues are bounded by.
    pub fn len(&self) -> usize {
        self.protobuf
            .get()
            .map_or_else(|| self.response.encoded_len(), Bytes::len)
    }

    /// Whether the protobuf form has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a frame is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// Not JSON of a `SignalRequest`.
    #[error("text frame is no request")]
    Json,
    /// Not protobuf of a `SignalRequest`.
    #[error("binary frame is no request")]
    Protobuf,
    /// Larger than the limit.
    #[error("frame is larger than the limit")]
    TooLarge,
}

/// Reads a binary frame of at most `limit` bytes.
pub fn decode_binary(frame: &[u8], limit: usize) -> Result<SignalRequest, FrameFault> {
    if frame.len() > limit {
        return Err(FrameFault::TooLarge);
    }
    SignalRequest::decode(frame).map_err(|_| FrameFault::Protobuf)
}

/// Reads a text frame of at most `limit` bytes; fields that are not known are ignored.
pub fn decode_text(frame: &str, limit: usize) -> Result<SignalRequest, FrameFault> {
    if frame.len() > limit {
        return Err(FrameFault::TooLarge);
    }
    protojson::read(frame.as_bytes()).map_err(|_| FrameFault::Json)
}

/// Reads a text frame of a worker, whose size the WebSocket has bounded.
pub fn decode_worker_text(frame: &str) -> Result<WorkerMessage, FrameFault> {
    protojson::read(frame.as_bytes()).map_err(|_| FrameFault::Json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::livekit::{
        LeaveRequest, MuteTrackRequest, Ping, Pong, SpeakerInfo, SpeakersChanged, leave_request,
        signal_request,
    };
    use proptest::prelude::*;

    #[test]
    fn both_forms_are_made_once_and_shared() {
        let encoded = Encoded::new(signal_response::Message::PongResp(Pong {
            last_ping_timestamp: 5,
            timestamp: 1_800_000_000_000,
        }));
        assert_eq!(encoded.len(), 12);
        let first = encoded.protobuf();
        assert_eq!(
            first,
            [
                &[0xa2, 0x01, 9, 8, 5, 16][..],
                &[0x80, 0xa0, 0xf1, 0xc2, 0xb1, 0x34][..]
            ]
            .concat()
        );
        assert_eq!(first.as_ptr(), encoded.protobuf().as_ptr());
        assert_eq!(
            &*encoded.json(),
            r#"{"pongResp":{"lastPingTimestamp":"5","timestamp":"1800000000000"}}"#
        );
        assert!(Arc::ptr_eq(&encoded.json(), &encoded.json()));
    }

    #[test]
    fn json_is_protojson_with_enum_names_and_defaults_left_out() {
        let leave = Encoded::new(signal_response::Message::Leave(LeaveRequest {
            reason: 2,
            action: leave_request::Action::Reconnect.into(),
            ..LeaveRequest::default()
        }));
        assert_eq!(
            &*leave.json(),
            r#"{"leave":{"reason":"DUPLICATE_IDENTITY","action":"RECONNECT"}}"#
        );
        let speakers = Encoded::new(signal_response::Message::SpeakersChanged(SpeakersChanged {
            speakers: vec![SpeakerInfo {
                sid: "PA_x".to_owned(),
                level: 0.125,
                active: true,
            }],
        }));
        assert_eq!(
            &*speakers.json(),
            r#"{"speakersChanged":{"speakers":[{"sid":"PA_x","level":0.125,"active":true}]}}"#
        );
    }

    #[test]
    fn an_enum_number_that_nobody_knows_does_not_panic() {
        let leave = Encoded::new(signal_response::Message::Leave(LeaveRequest {
            reason: 999,
            ..LeaveRequest::default()
        }));
        assert_eq!(&*leave.json(), "{}");
    }

    #[test]
    fn requests_are_read_from_both_forms() {
        let mute = SignalRequest {
            message: Some(signal_request::Message::Mute(MuteTrackRequest {
                sid: "TR_a".to_owned(),
                muted: true,
            })),
        };
        assert_eq!(decode_binary(&mute.encode_to_vec(), 100), Ok(mute.clone()));
        for text in [
            r#"{"mute":{"sid":"TR_a","muted":true}}"#,
            r#"{"mute":{"sid":"TR_a","muted":true},"leave":null}"#,
            r#"{"mute":{"sid":"TR_a","muted":true,"newer":{"x":[1,null]}},"other":"field"}"#,
        ] {
            assert_eq!(decode_text(text, 100), Ok(mute.clone()), "{text}");
        }
        let ping = SignalRequest {
            message: Some(signal_request::Message::PingReq(Ping {
                timestamp: 7,
                rtt: 3,
            })),
        };
        for text in [
            r#"{"pingReq":{"timestamp":"7","rtt":"3"}}"#,
            r#"{"ping_req":{"timestamp":7,"rtt":3}}"#,
        ] {
            assert_eq!(decode_text(text, 100), Ok(ping.clone()), "{text}");
        }
    }

    #[test]
    fn a_request_of_a_newer_client_is_an_empty_one() {
        // Field 999, a string.
        assert_eq!(
            decode_binary(&[0xba, 0x3e, 1, b'x'], 100),
            Ok(SignalRequest::default())
        );
        assert_eq!(
            decode_text(r#"{"teleport":{}}"#, 100),
            Ok(SignalRequest::default())
        );
    }

    #[test]
    fn faults_are_told_apart() {
        assert_eq!(decode_binary(&[0xff; 4], 100), Err(FrameFault::Protobuf));
        assert_eq!(decode_text("{\"mute\":", 100), Err(FrameFault::Json));
        assert_eq!(decode_text("[]", 1), Err(FrameFault::TooLarge));
        assert_eq!(decode_binary(&[0; 3], 2), Err(FrameFault::TooLarge));
        let deep = "{\"x\":".repeat(100_000);
        assert_eq!(decode_text(&deep, 1 << 20), Err(FrameFault::Json));
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            // Both outcomes are fine; what is tested is that there is one.
            drop(decode_binary(&bytes, 1000));
            drop(decode_text(&String::from_utf8_lossy(&bytes), 1000));
        }
    }
}
