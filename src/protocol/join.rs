//! What a client says when it joins, whichever of the three forms it came in (query, `join_request`, resume).

use crate::protocol::livekit::{
    AddTrackRequest, ClientInfo, ReconnectReason, SessionDescription, SyncState,
};
use crate::protocol::token::Claims;
use std::collections::HashMap;

/// One attempt to join or to resume.
#[derive(Debug, Clone)]
pub struct Join {
    /// Verified claims of the token.
    pub claims: Claims,
    /// The API key that signed the token; refreshed tokens are signed with it again.
    pub api_key: String,
    /// What the client says of itself, completed from the User-Agent and the address.
    pub client: ClientInfo,
    /// The protocol version in force: the client's, at most 17.
    pub protocol: u32,
    /// One peer connection for both directions (a `join_request` was sent).
    pub single_pc: bool,
    /// Subscribe to everything.
    pub auto_subscribe: bool,
    /// Subscribe to every data track.
    pub auto_subscribe_data_track: bool,
    /// Video starts at the lowest layer until the client tells sizes.
    pub adaptive_stream: bool,
    /// Video may be paused for want of bandwidth; `None`: the server's default.
    pub subscriber_allow_pause: Option<bool>,
    /// Do not use ICE-lite for this client.
    pub disable_ice_lite: bool,
    /// Overwrites the token's metadata; empty: not.
    pub metadata: String,
    /// Added to the token's attributes.
    pub attributes: HashMap<String, String>,
    /// `publish=<suffix>` of v0: a publish-only clone; the room changes identity and permission.
    pub publish: Option<String>,
    /// Tracks announced with the join.
    pub add_tracks: Vec<AddTrackRequest>,
    /// The first offer, when it came with the join.
    pub publisher_offer: Option<SessionDescription>,
    /// Present on a resume.
    pub resume: Option<Resume>,
}

/// The client was here and lost its WebSocket.
#[derive(Debug, Clone)]
pub struct Resume {
    /// The `PA_…` that it had; may be empty.
    pub participant_sid: String,
    /// Why it comes back.
    pub reason: ReconnectReason,
    /// Sent with v1; clients send it again as a signal.
    pub sync_state: Option<SyncState>,
}
