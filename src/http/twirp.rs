//! `/twirp/livekit.…`: the server API. Reads the call, asks whether the token grants it, hands it to the hub, writes
//! the answer.
//!
//! Follows the code generated for livekit 1.13.5 in the order of its checks (method, path, content type, body, grant)
//! and in its texts. Services that need workers of their own (egress, ingress, telephony) answer
//! `unimplemented` after the check of the grant.

use crate::http::front::{self, Granted};
use crate::http::{App, MAX_BODY, dispatch, not_found};
use crate::hub::{Answer, Call, CallError};
use crate::protocol::livekit::{
    CreateRoomRequest, DeleteRoomRequest, ForwardParticipantRequest, ListParticipantsRequest,
    ListParticipantsResponse, ListRoomsRequest, MoveParticipantRequest, MuteRoomTrackRequest,
    MuteRoomTrackResponse, PerformRpcRequest, PerformRpcResponse, RemoveParticipantResponse,
    RoomParticipantIdentity, SendDataRequest, UpdateParticipantRequest, UpdateRoomMetadataRequest,
    UpdateSubscriptionsRequest,
};
use crate::protocol::token::{Claims, VideoGrant};
use crate::protocol::twirp::{Code, Error, Wire};
use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Duration;

/// A room's task answers within milliseconds; this is for the day when it does not.
const TIMEOUT: Duration = Duration::from_secs(10);
/// PerformRpc ends by itself, at the latest after ten minutes.
const RPC_TIMEOUT: Duration = Duration::from_secs(660);
/// Bytes of a body that comes without a token: enough to be told what is wrong with it, as livekit tells it first.
const MAX_BODY_OF_NOBODY: usize = 64 << 10;
/// The caller's own deadline in milliseconds (livekit's clients in Go).
const TIMEOUT_HEADER: &str = "x-twirp-timeout-ms";

const ROOM_SERVICE: &str = "livekit.RoomService";
const ROOM_METHODS: &[&str] = &[
    "CreateRoom",
    "DeleteRoom",
    "ForwardParticipant",
    "GetParticipant",
    "ListParticipants",
    "ListRooms",
    "MoveParticipant",
    "MutePublishedTrack",
    "PerformRpc",
    "RemoveParticipant",
    "SendData",
    "UpdateParticipant",
    "UpdateRoomMetadata",
    "UpdateSubscriptions",
];

/// A service that this server does not have, though it knows who might use it.
struct Absent {
    name: &'static str,
    methods: &'static [&'static str],
    granted: fn(&Claims, &str) -> bool,
    text: &'static str,
}

const ABSENT: &[Absent] = &[
    Absent {
        name: "livekit.Egress",
        methods: &[
            "ListEgress",
            "StartEgress",
            "StartParticipantEgress",
            "StartRoomCompositeEgress",
            "StartTrackCompositeEgress",
            "StartTrackEgress",
            "StartWebEgress",
            "StopEgress",
            "UpdateEgress",
            "UpdateLayout",
            "UpdateStream",
        ],
        granted: |claims, _| video(claims).is_some_and(|grant| grant.room_record),
        text: "egress (recording and streaming) is not part of this server",
    },
    Absent {
        name: "livekit.Ingress",
        methods: &[
            "CreateIngress",
            "DeleteIngress",
            "ListIngress",
            "UpdateIngress",
        ],
        granted: |claims, _| video(claims).is_some_and(|grant| grant.ingress_admin),
        text: "ingress (RTMP, WHIP and URLs) is not part of this server",
    },
    Absent {
        name: "livekit.SIP",
        methods: &[
            "CreateSIPDispatchRule",
            "CreateSIPInboundTrunk",
            "CreateSIPOutboundTrunk",
            "CreateSIPParticipant",
            "CreateSIPTrunk",
            "DeleteSIPDispatchRule",
            "DeleteSIPTrunk",
            "GetSIPInboundTrunk",
            "GetSIPOutboundTrunk",
            "ListSIPDispatchRule",
            "ListSIPInboundTrunk",
            "ListSIPOutboundTrunk",
            "ListSIPTrunk",
            "TransferSIPParticipant",
            "UpdateSIPDispatchRule",
            "UpdateSIPInboundTrunk",
            "UpdateSIPOutboundTrunk",
        ],
        granted: |claims, method| {
            let sip = claims.sip.clone().unwrap_or_default();
            match method {
                "CreateSIPParticipant" => sip.call,
                "TransferSIPParticipant" => {
                    sip.call && video(claims).is_some_and(|grant| grant.room_admin)
                }
                _ => sip.admin,
            }
        },
        text: "SIP (telephony) is not part of this server",
    },
];

/// Everything below `/twirp/`.
pub(super) async fn handle(
    State(app): State<Arc<App>>,
    Path(rest): Path<String>,
    granted: Option<Extension<Granted>>,
    request: Request,
) -> Response {
    let Some((service, method)) = rest.split_once('/') else {
        return not_found().await;
    };
    let absent = ABSENT.iter().find(|absent| absent.name == service);
    let methods = match absent {
        Some(absent) => absent.methods,
        None if service == ROOM_SERVICE => ROOM_METHODS,
        None if service == dispatch::SERVICE => dispatch::METHODS,
        None => return not_found().await,
    };
    let path = request.uri().path().to_owned();
    let verb = request.method().as_str().to_owned();
    if request.method() != Method::POST {
        return refusal(&Error::not_post(&verb, &path));
    }
    if !methods.contains(&method) {
        return refusal(&Error::no_handler(&verb, &path));
    }
    let sent = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let Some(wire) = Wire::of(sent) else {
        return refusal(&Error::content_type(sent, &verb, &path));
    };
    let claims = granted.map(|Extension(granted)| granted.claims);
    let limit = deadline(request.headers(), method);
    let max = if claims.is_some() {
        MAX_BODY
    } else {
        MAX_BODY_OF_NOBODY
    };
    let body = match front::read(request.into_body(), max).await {
        Ok(body) => body,
        Err((StatusCode::PAYLOAD_TOO_LARGE, _)) if claims.is_none() => {
            return refusal(&Error::permissions_denied());
        }
        Err(fault) => return fault.into_response(),
    };
    let caller = Caller {
        app: &app,
        claims: claims.unwrap_or_default(),
        wire,
        limit,
    };
    let result = match absent {
        Some(absent) if (absent.granted)(&caller.claims, method) => {
            Err(Error::new(Code::Unimplemented, absent.text))
        }
        Some(_) => Err(Error::permissions_denied()),
        None if service == dispatch::SERVICE => caller.dispatch_service(method, &body).await,
        None => caller.room_service(method, &body).await,
    };
    match result {
        Ok(body) => ([(CONTENT_TYPE, wire.content_type())], body).into_response(),
        Err(error) => {
            tracing::debug!(method, msg = error.text(), "call refused");
            refusal(&error)
        }
    }
}

fn video(claims: &Claims) -> Option<&VideoGrant> {
    claims.video.as_ref()
}

fn refusal(error: &Error) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = [(CONTENT_TYPE, Wire::Json.content_type())];
    (status, json, error.body()).into_response()
}

fn deadline(headers: &HeaderMap, method: &str) -> Duration {
    let ours = if method == "PerformRpc" {
        RPC_TIMEOUT
    } else {
        TIMEOUT
    };
    headers
        .get(TIMEOUT_HEADER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .filter(|ms| *ms > 0)
        .map_or(ours, |ms| Duration::from_millis(ms).min(ours))
}

/// One call's surroundings.
pub(super) struct Caller<'a> {
    pub(super) app: &'a App,
    /// Without a token: claims that grant nothing.
    pub(super) claims: Claims,
    pub(super) wire: Wire,
    limit: Duration,
}

impl Caller<'_> {
    async fn room_service(&self, method: &str, body: &[u8]) -> Result<Vec<u8>, Error> {
        let grant = self.claims.video.clone().unwrap_or_default();
        let wire = self.wire;
        let call = match method {
            "ListRooms" => {
                let request: ListRoomsRequest = wire.decode(body)?;
                require(grant.room_list)?;
                let rooms = self.in_time(self.app.hub.list(request.names)).await?;
                return Ok(wire.encode_rooms(&rooms));
            }
            "CreateRoom" => {
                let request: CreateRoomRequest = wire.decode(body)?;
                require(grant.room_create)?;
                Call::CreateRoom(Box::new(request))
            }
            "DeleteRoom" => {
                let request: DeleteRoomRequest = wire.decode(body)?;
                require(grant.room_create)?;
                Call::DeleteRoom(request)
            }
            "ForwardParticipant" => {
                let request: ForwardParticipantRequest = wire.decode(body)?;
                administers(&grant, &request.room)?;
                require(grant.destination_room == request.destination_room)?;
                Call::ForwardParticipant(request)
            }
            "MoveParticipant" => {
                let request: MoveParticipantRequest = wire.decode(body)?;
                administers(&grant, &request.room)?;
                require(grant.destination_room == request.destination_room)?;
                Call::MoveParticipant(request)
            }
            "GetParticipant" => Call::GetParticipant(wire.decode::<RoomParticipantIdentity>(body)?),
            "ListParticipants" => {
                Call::ListParticipants(wire.decode::<ListParticipantsRequest>(body)?)
            }
            "MutePublishedTrack" => {
                Call::MutePublishedTrack(wire.decode::<MuteRoomTrackRequest>(body)?)
            }
            "PerformRpc" => Call::PerformRpc(wire.decode::<PerformRpcRequest>(body)?),
            "RemoveParticipant" => {
                Call::RemoveParticipant(wire.decode::<RoomParticipantIdentity>(body)?)
            }
            "SendData" => Call::SendData(wire.decode::<SendDataRequest>(body)?),
            "UpdateParticipant" => {
                Call::UpdateParticipant(wire.decode::<UpdateParticipantRequest>(body)?)
            }
            "UpdateRoomMetadata" => {
                Call::UpdateRoomMetadata(wire.decode::<UpdateRoomMetadataRequest>(body)?)
            }
            _ => Call::UpdateSubscriptions(wire.decode::<UpdateSubscriptionsRequest>(body)?),
        };
        if !matches!(call, Call::CreateRoom(_) | Call::DeleteRoom(_)) {
            administers(&grant, call.room())?;
        }
        let answer = self.in_time(self.app.hub.call(call)).await?;
        Ok(self.written(answer))
    }

    pub(super) async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.limit, work).await {
            Ok(result) => result.map_err(|error| error_of(&error)),
            Err(_) => Err(Error::service(Code::DeadlineExceeded, "request timed out")),
        }
    }

    fn written(&self, answer: Answer) -> Vec<u8> {
        let wire = self.wire;
        match answer {
            Answer::Done => wire.encode(&RemoveParticipantResponse {}),
            Answer::Participant(info) => wire.encode(&info),
            Answer::Participants(participants) => {
                wire.encode(&ListParticipantsResponse { participants })
            }
            Answer::Payload(payload) => wire.encode(&PerformRpcResponse { payload }),
            Answer::Room(room) => wire.encode(&room),
            Answer::Track(track) => wire.encode(&MuteRoomTrackResponse { track }),
        }
    }
}

fn require(granted: bool) -> Result<(), Error> {
    if granted {
        Ok(())
    } else {
        Err(Error::permissions_denied())
    }
}

pub(super) fn administers(grant: &VideoGrant, room: &str) -> Result<(), Error> {
    require(grant.room_admin && grant.room == room)
}

/// A fault of the service as livekit's callers know it; those of RPC as in its `utils.DataChannelRpcError`.
fn error_of(error: &CallError) -> Error {
    let code = match error {
        CallError::AlreadyThere(_) => Code::AlreadyExists,
        CallError::Invalid(_) => Code::InvalidArgument,
        CallError::DispatchNotFound | CallError::ParticipantNotFound | CallError::RoomNotFound => {
            Code::NotFound
        }
        CallError::Away | CallError::Guest | CallError::RemoteUnmute => Code::FailedPrecondition,
        CallError::Rpc { code, .. } => match code {
            1400 => Code::InvalidArgument,
            1401 => Code::NotFound,
            1402 => Code::Malformed,
            1403 | 1404 => Code::Unimplemented,
            1501 | 1502 => Code::Canceled,
            1503 => Code::Unavailable,
            // 1500, 1504, 1505, and the method's own.
            _ => Code::Internal,
        },
        CallError::Stopping => Code::Unavailable,
        CallError::RoomFull(_) | CallError::TooMany(_) => Code::ResourceExhausted,
        CallError::Unimplemented(text) => return Error::new(Code::Unimplemented, *text),
    };
    Error::service(code, &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_called_method_answers_by_a_code_of_its_own_is_internal() {
        for (code, status) in [(7, 500), (1500, 500), (1401, 404), (1503, 503), (1506, 500)] {
            let fault = CallError::Rpc {
                code,
                message: "m".to_owned(),
                data: String::new(),
            };
            let error = error_of(&fault);
            assert_eq!(error.status(), status, "{code}");
            assert_eq!(
                status == 500,
                error.body().contains(r#""internal""#),
                "{code}"
            );
        }
    }
}
