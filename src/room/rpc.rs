//! Method calls from an application's server to a participant (PerformRpc): the server asks over the data channel and
//! waits for `rpc_ack` and `rpc_response` (livekit.md 5.2).
//!
//! The server has no identity in the room. Like livekit 1.13.5 it gives the call's id for one, so that the client
//! addresses its answer to that id and no participant's name is taken.

use super::admin::{Answer, CallError, CallId};
use super::{Now, Room, Seat};
use crate::protocol::livekit::{
    DataPacket, PerformRpcRequest, RpcRequest, RpcResponse, data_packet, rpc_response,
};
use bytes::Bytes;
use prost::Message;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A client that is there acknowledges within this time.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// Unless the call says otherwise.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Whatever the call says.
const MAX_RESPONSE_TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes of a request's or a response's payload (LiveKit's RPC, version 1).
const MAX_PAYLOAD: usize = 15 * 1024;
/// Calls under way in one room.
const MAX_CALLS: usize = 256;
/// The version without compression, which all clients speak.
const VERSION: u32 = 1;

/// Faults of LiveKit's RPC; their texts are those of its SDKs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RpcFault {
    ConnectionTimeout,
    RecipientDisconnected,
    RecipientNotFound,
    RequestTooLarge,
    ResponseTimeout,
    ResponseTooLarge,
    SendFailed,
    UnsupportedVersion,
}

impl From<RpcFault> for CallError {
    fn from(fault: RpcFault) -> Self {
        let (code, message) = match fault {
            RpcFault::RecipientNotFound => (1401, "Recipient not found"),
            RpcFault::RequestTooLarge => (1402, "Request payload too large"),
            RpcFault::UnsupportedVersion => (1404, "Unsupported RPC version"),
            RpcFault::ConnectionTimeout => (1501, "Connection timeout"),
            RpcFault::ResponseTimeout => (1502, "Response timeout"),
            RpcFault::RecipientDisconnected => (1503, "Recipient disconnected"),
            RpcFault::ResponseTooLarge => (1504, "Response payload too large"),
            RpcFault::SendFailed => (1505, "Failed to send"),
        };
        Self::Rpc {
            code,
            message: message.to_owned(),
            data: String::new(),
        }
    }
}

/// Calls under way, by the id that the participant was given.
#[derive(Debug, Default)]
pub(super) struct Rpcs(HashMap<String, Pending>);

#[derive(Debug)]
struct Pending {
    call: CallId,
    seat: Seat,
    /// `None`: acknowledged.
    acknowledged_by: Option<Instant>,
    answered_by: Instant,
}

impl Pending {
    fn due(&self) -> Instant {
        self.acknowledged_by
            .map_or(self.answered_by, |at| at.min(self.answered_by))
    }
}

impl Rpcs {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.0.values().map(Pending::due).min()
    }

    /// Whether this participant has been asked something.
    pub(super) fn awaits(&self, seat: Seat) -> bool {
        self.0.values().any(|pending| pending.seat == seat)
    }

    fn take_if(&mut self, which: impl Fn(&Pending) -> bool) -> Vec<Pending> {
        let mut taken: Vec<Pending> = self
            .0
            .extract_if(|_, pending| which(pending))
            .map(|(_, pending)| pending)
            .collect();
        taken.sort_by_key(|pending| pending.call.0);
        taken
    }
}

impl Room {
    pub(super) fn perform_rpc(&mut self, now: Now, call: CallId, request: PerformRpcRequest) {
        if let Err(error) = self.try_rpc(now, call, request) {
            self.answer_call(call, Err(error));
        }
    }

    fn try_rpc(
        &mut self,
        now: Now,
        call: CallId,
        request: PerformRpcRequest,
    ) -> Result<(), CallError> {
        if request.payload.len() > MAX_PAYLOAD {
            return Err(RpcFault::RequestTooLarge.into());
        }
        let seat = self
            .named(&request.destination_identity)
            .map_err(|_| RpcFault::RecipientNotFound)?;
        if self.rpcs.0.len() >= MAX_CALLS {
            return Err(CallError::TooMany("method calls are under way"));
        }
        let timeout = match request.response_timeout_ms {
            0 => RESPONSE_TIMEOUT,
            ms => Duration::from_millis(u64::from(ms)).min(MAX_RESPONSE_TIMEOUT),
        };
        let id = format!("RPC_{}", self.random.text(22));
        let packet = DataPacket {
            participant_identity: id.clone(),
            value: Some(data_packet::Value::RpcRequest(RpcRequest {
                id: id.clone(),
                method: request.method,
                payload: request.payload,
                response_timeout_ms: timeout.as_millis() as u32,
                version: VERSION,
                compressed_payload: Vec::new(),
            })),
            ..Default::default()
        };
        if !self.send_packet(seat, &packet) {
            return Err(RpcFault::SendFailed.into());
        }
        let pending = Pending {
            call,
            seat,
            acknowledged_by: Some(now.at + ACK_TIMEOUT),
            answered_by: now.at + timeout,
        };
        self.rpcs.0.insert(id, pending);
        Ok(())
    }

    /// Takes an answer to one of the server's calls. `false`: it is something else.
    pub(super) fn answer_rpc(&mut self, seat: Seat, message: &Bytes) -> bool {
        let Ok(packet) = DataPacket::decode(message.as_ref()) else {
            return false;
        };
        match packet.value {
            Some(data_packet::Value::RpcAck(ack)) => {
                let pending = self.rpcs.0.get_mut(&ack.request_id);
                let Some(pending) = pending.filter(|pending| pending.seat == seat) else {
                    return false;
                };
                pending.acknowledged_by = None;
                true
            }
            Some(data_packet::Value::RpcResponse(RpcResponse { request_id, value })) => {
                let theirs = self
                    .rpcs
                    .0
                    .get(&request_id)
                    .is_some_and(|pending| pending.seat == seat);
                let Some(pending) = theirs.then(|| self.rpcs.0.remove(&request_id)).flatten()
                else {
                    return false;
                };
                self.answer_call(pending.call, outcome(value));
                true
            }
            _ => false,
        }
    }

    pub(super) fn expire_rpcs(&mut self, now: Now) {
        for pending in self.rpcs.take_if(|pending| pending.due() <= now.at) {
            let fault = if pending.acknowledged_by.is_some_and(|at| at <= now.at) {
                RpcFault::ConnectionTimeout
            } else {
                RpcFault::ResponseTimeout
            };
            self.answer_call(pending.call, Err(fault.into()));
        }
    }

    /// A participant is gone: it answers no more.
    pub(super) fn fail_rpcs_of(&mut self, seat: Seat) {
        for pending in self.rpcs.take_if(|pending| pending.seat == seat) {
            self.answer_call(pending.call, Err(RpcFault::RecipientDisconnected.into()));
        }
    }
}

fn outcome(value: Option<rpc_response::Value>) -> Result<Answer, CallError> {
    match value {
        Some(rpc_response::Value::Payload(payload)) if payload.len() > MAX_PAYLOAD => {
            Err(RpcFault::ResponseTooLarge.into())
        }
        Some(rpc_response::Value::Payload(payload)) => Ok(Answer::Payload(payload)),
        Some(rpc_response::Value::Error(error)) => Err(CallError::Rpc {
            code: error.code,
            message: error.message,
            data: error.data,
        }),
        // Compression belongs to a version that was not spoken.
        Some(rpc_response::Value::CompressedPayload(_)) => Err(RpcFault::UnsupportedVersion.into()),
        None => Ok(Answer::Payload(String::new())),
    }
}
