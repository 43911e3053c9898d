//! The wire: LiveKit's messages, how they are framed, tokens, what a join carries.

pub mod join;
pub mod signal;
pub mod token;

pub use livekit_protocol as livekit;
