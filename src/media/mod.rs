//! The forwarding plane: pure, one per worker.

pub mod cache;
pub mod certificate;
pub mod channels;
pub mod clock;
pub mod codec;
mod dtls;
mod ice;
pub mod io;
pub mod keyframe;
pub mod link;
pub mod munger;
mod places;
pub mod plane;
pub mod srtp;
pub mod timers;
pub mod transport;
pub mod vp8_munger;
