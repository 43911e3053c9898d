//! The wire: LiveKit's messages, how they are framed, tokens, what a join carries.

pub mod join;
pub mod join_request;
mod protojson;
pub mod signal;
pub mod token;
pub mod twirp;
pub mod user_agent;

pub use livekit_protocol as livekit;
