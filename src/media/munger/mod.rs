//! Sequence numbers and timestamps of one down track: one unbroken stream out of whatever is forwarded.
//!
//! Driven by its down track, packet by packet. A source is one encoding of the up track; its numbers come extended.
//! Packets left out (a filtered temporal layer, padding) leave no gap; lost ones do, and the late one takes its place
//! in it. Another source continues one number on. What the server sends of its own (mute frames, padding) takes the
//! next number. It never looks at payloads, and never gives the same number to two packets.
//! livekit 1.13.5 `pkg/sfu/rtpmunger.go` has the same purpose.

use super::places::{Place, Places};
use crate::rtp::sequence::is_newer_timestamp;

/// How many of the latest packets are remembered, in words of 64.
const WORDS: usize = 16;

/// What a packet is sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewritten {
    /// Extended sequence number: the low 16 bits go into the header, the rest is SRTP's rollover counter.
    pub seq: u64,
    /// Timestamp.
    pub timestamp: u32,
}

/// Why a packet is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its place is taken: it was sent, or its place is to stay empty.
    Duplicate,
    /// It was left out.
    LeftOut,
    /// It is from before the source began, or older than what is remembered, or there is no source.
    TooOld,
}

/// The rewriting of one down track.
#[derive(Debug, Clone)]
pub struct Munger {
    places: Places<WORDS>,
    /// A bit for each of the latest numbers of the source that has been sent.
    taken: [u64; WORDS],
    /// One past the highest number of the source.
    end: u64,
    /// Added to the timestamps of the source.
    shift: u32,
    /// The newest timestamp sent; before the first packet, the one to begin with.
    timestamp: u32,
    started: bool,
}

impl Munger {
    /// Begins at random numbers of the caller's. The sequence number should be below 2^15: a receiver that misses the
    /// first packets must not guess a wrong rollover counter (RFC 3711 §3.3.1).
    pub fn new(seq: u16, timestamp: u32) -> Self {
        Self {
            places: Places::new(u64::from(seq)),
            taken: [0; WORDS],
            end: 0,
            shift: 0,
            timestamp,
            started: false,
        }
    }

    /// Something has been sent.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// The extended sequence number that the next packet at the head gets.
    pub fn next_seq(&self) -> u64 {
        self.places.next()
    }

    /// The newest timestamp sent; before the first packet, the one to begin with.
    pub fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// What a timestamp of the source is on the down track; for sender reports.
    pub fn rewrite_timestamp(&self, timestamp: u32) -> u32 {
        timestamp.wrapping_add(self.shift)
    }

    /// Continues with another source, or with the same one after a pause, whose first packet is `seq` with
    /// `timestamp` (to be handed to [`Self::rewrite`] next). `elapsed` are the ticks since the newest timestamp sent;
    /// at least one is taken. The first source begins at the numbers of [`Self::new`].
    pub fn switch(&mut self, seq: u64, timestamp: u32, elapsed: u32) {
        let begin = if self.started {
            self.timestamp.wrapping_add(elapsed.max(1))
        } else {
            self.timestamp
        };
        self.shift = begin.wrapping_sub(timestamp);
        self.places.restart(seq);
        self.taken = [0; WORDS];
        self.end = seq;
    }

    /// Numbers for a packet of the source.
    pub fn rewrite(&mut self, seq: u64, timestamp: u32) -> Result<Rewritten, Refusal> {
        let sent = match self.places.place(seq) {
            Place::At(sent) => sent,
            Place::LeftOut => return Err(Refusal::LeftOut),
            Place::TooOld => return Err(Refusal::TooOld),
        };
        if !self.take(seq) {
            return Err(Refusal::Duplicate);
        }
        let timestamp = self.rewrite_timestamp(timestamp);
        self.note(timestamp);
        Ok(Rewritten {
            seq: sent,
            timestamp,
        })
    }

    /// Leaves a packet of the source out. `false`: later ones have been sent, so that its place stays empty.
    pub fn leave_out(&mut self, seq: u64) -> bool {
        if self.places.leave_out(seq) {
            // Whatever was missing before it may still come.
            self.reach(seq);
            return true;
        }
        self.take(seq);
        false
    }

    /// Numbers for a packet of the server's own, `elapsed` ticks after the newest timestamp sent: 0 for padding.
    pub fn insert(&mut self, elapsed: u32) -> Rewritten {
        let timestamp = if self.started {
            self.timestamp.wrapping_add(elapsed)
        } else {
            self.timestamp
        };
        self.note(timestamp);
        Rewritten {
            seq: self.places.insert(),
            timestamp,
        }
    }

    fn note(&mut self, timestamp: u32) {
        if !self.started || is_newer_timestamp(timestamp, self.timestamp) {
            self.timestamp = timestamp;
        }
        self.started = true;
    }

    /// Marks a place as taken; `false`: it was.
    fn take(&mut self, seq: u64) -> bool {
        self.reach(seq);
        let bit = 1 << (seq % 64);
        let word = &mut self.taken[(seq / 64 % WORDS as u64) as usize];
        let free = *word & bit == 0;
        *word |= bit;
        free
    }

    /// Makes `seq` part of what is remembered, nothing of what is new taken.
    fn reach(&mut self, seq: u64) {
        if seq < self.end {
            return;
        }
        if seq - self.end >= 64 * WORDS as u64 {
            self.taken = [0; WORDS];
        } else {
            for seq in self.end..=seq {
                self.taken[(seq / 64 % WORDS as u64) as usize] &= !(1 << (seq % 64));
            }
        }
        self.end = seq + 1;
    }
}

#[cfg(test)]
mod tests;
