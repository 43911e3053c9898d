//! What a room holds right now, in numbers.

use super::Room;
use crate::plan::Kind;

/// What one room, or all of them, hold right now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Rooms.
    pub rooms: u64,
    /// Participants, hidden ones too.
    pub participants: u64,
    /// Published tracks that others know of: audio, video.
    pub published: [u64; 2],
    /// Subscriptions that have a track: audio, video.
    pub subscribed: [u64; 2],
}

impl Census {
    /// Adds another room's, or other rooms', numbers.
    pub fn add(&mut self, other: &Self) {
        self.rooms += other.rooms;
        self.participants += other.participants;
        for kind in 0..2 {
            self.published[kind] += other.published[kind];
            self.subscribed[kind] += other.subscribed[kind];
        }
    }
}

impl Room {
    /// Tracks that come in and go out right now (livekit 1.13.5 compares their sum with `limit.num_tracks`).
    pub fn track_count(&self) -> u64 {
        (self.ups.len() + self.downs.len()) as u64
    }

    /// What this room holds right now.
    pub fn census(&self) -> Census {
        let mut census = Census {
            rooms: 1,
            participants: self.participants.len() as u64,
            ..Census::default()
        };
        for participant in self.participants.values() {
            for track in participant.tracks.values().filter(|track| track.announced) {
                census.published[index(track.kind)] += 1;
            }
            for down in participant
                .subscriptions
                .values()
                .filter_map(|s| s.down.as_ref())
            {
                census.subscribed[index(down.kind)] += 1;
            }
        }
        census
    }
}

fn index(kind: Kind) -> usize {
    match kind {
        Kind::Audio => 0,
        Kind::Video => 1,
    }
}
