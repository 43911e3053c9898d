//! What passes between an up track and its down tracks when they live on different workers.
//!
//! Forward go batches of plaintext packets with their parsed facts, clock mappings, mute and the end; back go key frame
//! requests. On one worker the same things are calls.

use super::cache::Facts;
use super::clock::ClockMap;
use crate::ids::UpTrackId;

/// From one worker to another. Bounded rings carry it; a packet batch that finds its ring full is dropped and counted.
#[derive(Debug)]
pub enum LinkMessage {
    /// To the mirror: how a layer's RTP clock maps to the publisher's wall clock.
    Clock {
        /// The track.
        up: UpTrackId,
        /// The layer.
        spatial: u8,
        /// The mapping.
        map: ClockMap,
    },
    /// To the owner: a down track waits for a key frame.
    KeyFrame {
        /// The track.
        up: UpTrackId,
        /// The layer.
        spatial: u8,
    },
    /// To the mirror: muted or unmuted.
    Muted {
        /// The track.
        up: UpTrackId,
        /// Muted from now on.
        muted: bool,
    },
    /// To the mirror: packets.
    Packets(Batch),
}

/// Packets of one track that came in one receive batch.
#[derive(Debug)]
pub struct Batch {
    /// The track.
    pub up: UpTrackId,
    /// Facts and body length of each.
    pub packets: Vec<(Facts, u16)>,
    /// Their bodies, one after the other.
    pub bytes: Vec<u8>,
}
