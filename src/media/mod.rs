//! The forwarding plane: pure, one per worker.

pub mod io;
