//! Parlor, a LiveKit-compatible SFU in one process. ARCHITECTURE.md is the tour: the layers, the life of a join, of a
//! packet and of a stop, and who owns what.

pub mod agent;
pub mod clock;
pub mod config;
pub mod hass;
#[doc(hidden)]
pub mod hostile;
pub mod http;
pub mod hub;
pub mod ids;
pub mod media;
pub mod metrics;
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
pub mod webhook;
