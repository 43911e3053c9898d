//! The directory of rooms, and one task per room.

use crate::ids::ParticipantSid;
use crate::protocol::join::Join;
use crate::protocol::livekit::SignalRequest;
use crate::protocol::signal::Encoded;
use std::sync::Arc;

/// Why a join is refused, before the WebSocket is upgraded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// 404. Clients look for this text.
    #[error("requested room does not exist")]
    RoomNotFound,
    /// 403.
    #[error("room {0} is full: {1} of {1} participants are there")]
    RoomFull(String, u32),
    /// 403.
    #[error("this server is full: {0}")]
    NodeFull(&'static str),
    /// 401: metadata or attributes in the join without the grant.
    #[error("no permissions to access the room")]
    MayNotSetMetadata,
    /// 400, with the limit that was passed.
    #[error("{0}")]
    LimitExceeded(String),
    /// 400.
    #[error("unknown room preset {0}")]
    UnknownPreset(String),
    /// 503: the server is stopping.
    #[error("server is shutting down")]
    Stopping,
}

/// What a session hands to its room.
#[derive(Debug)]
pub enum Inbound {
    /// A request of the client.
    Request(Box<SignalRequest>),
    /// The WebSocket is gone.
    Gone,
}

/// What a session sends to its client.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// A message, encoded once for all who get it.
    Message(Arc<Encoded>),
    /// Close with code 1000 after what came before.
    Close,
}

/// One WebSocket's attachment to a participant.
#[derive(Debug)]
pub struct Session {
    /// The participant.
    pub participant: ParticipantSid,
    /// Messages to the client; the first one (`join`, `reconnect` or `leave`) is there already.
    pub outbox: Outbox,
    /// Requests of the client; 64 deep, a full one makes the session wait.
    pub inbox: tokio::sync::mpsc::Sender<(SessionId, Inbound)>,
    /// Says to the room which session speaks.
    pub id: SessionId,
}

/// One WebSocket, unique in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

/// The receiving end of a session's queue. Its owner is the session.
#[derive(Debug)]
pub struct Outbox {}

impl Outbox {
    /// The next message; `None` when the room has let go of this session.
    pub async fn next(&mut self) -> Option<Outgoing> {
        None
    }
}

/// A way to reach the hub; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {}

impl Handle {
    /// Joins or resumes. The room is created if that is allowed.
    pub async fn join(&self, _join: Join) -> Result<Session, JoinError> {
        Err(JoinError::Stopping)
    }

    /// What `join` would say of room and limits, without joining (`/rtc/validate`).
    pub async fn check(&self, _join: &Join) -> Result<(), JoinError> {
        Err(JoinError::Stopping)
    }
}
