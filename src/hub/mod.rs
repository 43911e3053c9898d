//! The directory of rooms, and one task per room.
//!
//! The hub's task owns only the directory: names and the ways to reach the rooms' tasks. A room's task owns the
//! [`crate::room::Room`] and everything in it.

mod actor;
mod counters;
mod directory;
mod forwarding;
mod inbox;
mod moving;
mod outbox;
mod revoked;

pub use crate::room::{Answer, Call, CallError, Census, SessionId, check_dispatch};
pub use counters::Counted;
pub use directory::{Handle, start};
pub use inbox::{Closed, Inbox};
pub use outbox::{Outbox, Outgoing};

use crate::ids::ParticipantSid;
use crate::protocol::livekit::SignalRequest;

/// Why a join is refused, before the WebSocket is upgraded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// 404. Clients look for this text.
    #[error("requested room does not exist")]
    RoomNotFound,
    /// 403.
    #[error("room {0} is full: {1} of {1} participants are there")]
    RoomFull(String, u32),
    /// 403: as many tracks as `limit.num_tracks` allows are there.
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
    /// 500: a failure that the client asked for (`simulateScenario`).
    #[error("connection closed by media")]
    Simulated,
    /// 401: an administrator has put the bearer out and made its token void.
    #[error("invalid authorization token: token is revoked")]
    TokenRevoked,
    /// 503: the server is stopping.
    #[error("server is shutting down")]
    Stopping,
}

/// What a session hands to its room.
#[derive(Debug)]
pub enum Inbound {
    /// A request of the client.
    Request(Box<SignalRequest>),
    /// A frame of the client was no request.
    Malformed,
    /// The WebSocket is gone.
    Gone,
}

/// One WebSocket's attachment to a participant.
#[derive(Debug)]
pub struct Session {
    /// The participant; `None` when all there is to say is `leave` (a resume that finds nobody).
    pub participant: Option<ParticipantSid>,
    /// Messages to the client; the first one (`join`, `reconnect` or `leave`) is there already.
    pub outbox: Outbox,
    /// Requests of the client; a full channel makes the session wait.
    pub inbox: Inbox,
    /// Says to the room which session speaks.
    pub id: SessionId,
}
