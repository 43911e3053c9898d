//! Parlor.
pub mod clock;
pub mod config;
pub mod http;
pub mod hub;
pub mod ids;
pub mod media;
pub mod negotiate;
pub mod net;
pub mod options;
pub mod plan;
pub mod protocol;
pub mod random;
pub mod room;
pub mod rtp;
pub mod secret;
pub mod supervisor;
pub mod task;
