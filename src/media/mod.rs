//! The forwarding plane: pure, one per worker.

pub mod cache;
pub mod clock;
pub mod io;
pub mod keyframe;
pub mod link;
pub mod plane;
pub mod timers;
