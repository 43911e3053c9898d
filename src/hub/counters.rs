//! What has happened in all rooms since the start. Rooms' tasks add, whoever is asked for numbers reads.

use crate::protocol::livekit::{TrackInfo, TrackType, WebhookEvent};
use crate::room::{Fault, Faults};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that only grow.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) joins_accepted: AtomicU64,
    pub(super) joins_refused: AtomicU64,
    pub(super) joins_active: AtomicU64,
    pub(super) joins_aborted: AtomicU64,
    pub(super) published_audio: AtomicU64,
    pub(super) published_video: AtomicU64,
    pub(super) messages_in: AtomicU64,
    pub(super) messages_out: AtomicU64,
    faults: [AtomicU64; Fault::ALL.len()],
    /// Tracks that come in and go out right now, of all rooms.
    tracks: AtomicU64,
}

/// One room's part of the tracks; none any more when it is dropped.
#[derive(Debug)]
pub(super) struct Tracks {
    counters: Arc<Counters>,
    count: u64,
}

impl Tracks {
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        Self {
            counters: Arc::clone(counters),
            count: 0,
        }
    }

    /// So many are there now.
    pub(super) fn set(&mut self, count: u64) {
        let before = std::mem::replace(&mut self.count, count);
        if before != count {
            // The sum never goes below zero: each part takes away what it has added.
            self.counters
                .tracks
                .fetch_add(count.wrapping_sub(before), Ordering::Relaxed);
        }
    }
}

impl Drop for Tracks {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Joins that were let in.
    pub joins_accepted: u64,
    /// Joins that a room refused.
    pub joins_refused: u64,
    /// Participants that became ACTIVE.
    pub joins_active: u64,
    /// Participants that left before.
    pub joins_aborted: u64,
    /// Tracks published so far: audio, video.
    pub published: [u64; 2],
    /// Requests of clients.
    pub messages_in: u64,
    /// Messages to clients.
    pub messages_out: u64,
    /// Faults of clients.
    pub faults: Faults,
}

impl Counters {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Webhooks say what is worth counting, whether anybody receives them or not.
    pub(super) fn note(&self, event: &WebhookEvent) {
        let counter = match event.event.as_str() {
            "participant_joined" => &self.joins_active,
            "participant_connection_aborted" => &self.joins_aborted,
            "track_published" => match event.track.as_ref().map(TrackInfo::r#type) {
                Some(TrackType::Video) => &self.published_video,
                _ => &self.published_audio,
            },
            _ => return,
        };
        Self::count(counter);
    }

    /// Tracks that come in and go out right now, of all rooms.
    pub(super) fn tracks(&self) -> u64 {
        self.tracks.load(Ordering::Relaxed)
    }

    /// Adds what a room has counted.
    pub(super) fn add_faults(&self, faults: Faults) {
        for (counter, count) in self.faults.iter().zip(faults) {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn read(&self) -> Counted {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            joins_accepted: read(&self.joins_accepted),
            joins_refused: read(&self.joins_refused),
            joins_active: read(&self.joins_active),
            joins_aborted: read(&self.joins_aborted),
            published: [read(&self.published_audio), read(&self.published_video)],
            messages_in: read(&self.messages_in),
            messages_out: read(&self.messages_out),
            faults: std::array::from_fn(|cause| read(&self.faults[cause])),
        }
    }
}
