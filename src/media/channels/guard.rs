//! Keeps a peer from filling, or stalling, what `sctp-proto` does not bound.
//!
//! The association counts bytes of messages, and a peer pays it in chunks: each costs some hundred bytes and keeps its
//! whole packet, and each new one costs a walk over those that wait. So every packet is looked at before the
//! association sees it, and our own SACKs tell afterwards what it has taken.
//!
//! What merely is too much is ignored, as if the network had lost it: the peer sends it again when there is room. Only
//! what no implementation sends ends the association.

use super::COMMON_HEADER;
use std::time::Instant;

/// Chunks above the first one that is missing, and chunks of messages that are not whole or wait for others, of each.
/// pion, and with it livekit-server, takes 8,388 of the former (`sctp` 1.11.1 `association.go`, `getMaxTSNOffset`); a
/// full receive window of packets of 1,200 bytes is 900.
const LIMIT: usize = 4_096;
/// Chunks that may come without a SACK of ours: one is sent after each batch of datagrams.
const UNACKNOWLEDGED: usize = 2 * LIMIT;
/// Larger packets are ignored, bytes: a chunk keeps all of its packet. No client goes beyond an Ethernet frame.
const MAX_PACKET: usize = 2_048;
/// Stream resets in the life of an association. Each may stay for ever, and the channels of LiveKit are never closed.
const MAX_RESETS: u32 = 256;
/// Chunks walked over a second, and at once: some 20 ms of a core for the usual order of chunks, 80 ms for the worst.
const WALKED: f64 = 8e6;
/// Where the receive window stands in a packet that begins with a SACK (RFC 9260 §3.3.4).
pub(super) const CREDIT: std::ops::Range<usize> = COMMON_HEADER + 8..COMMON_HEADER + 12;

/// Chunk types (RFC 9260 §3.2, RFC 3758, RFC 6525, RFC 8260).
pub(super) const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
pub(super) const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
pub(super) const RECONFIG: u8 = 130;
pub(super) const FORWARD_TSN: u8 = 192;
pub(super) const I_FORWARD_TSN: u8 = 194;

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The association is at an end.
    Fault,
    /// Malformed, or too much for now.
    Ignore,
    Take,
}

/// What one association may hold, and what it holds at most.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// The last TSN before the first missing one, by our last SACK; before that by the peer's INIT. `None`: no INIT.
    acked: Option<u32>,
    /// Those that had come beyond, as distances: first and last of each run.
    beyond: Vec<(u16, u16)>,
    /// How many these are.
    beyond_count: usize,
    /// New chunks since then.
    since: usize,
    /// The first missing one was among them: what is acknowledged may have reached the end of those beyond.
    filled: bool,
    /// Chunks that the association still has.
    unread: usize,
    resets: u32,
    /// Chunks that may still be walked over, and as of when.
    credit: f64,
    credited_at: Option<Instant>,
}

/// What a packet brings.
#[derive(Debug, Default)]
struct Load {
    /// Whether there is data.
    has_data: bool,
    /// DATA chunks that are not known to have come before.
    new: usize,
    /// The lowest of them, as a distance.
    lowest: Option<u32>,
    /// Streams that a FORWARD TSN names: the association walks over the chunks of each.
    forwarded: usize,
    resets: u32,
    /// Initial TSN of an INIT or INIT ACK.
    initial: Option<(u8, u32)>,
}

impl Guard {
    /// Judges a packet; what is not to be taken must not reach the association. `established`: so is the association.
    /// `full`: so many messages wait to be asked for that no more are taken.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        packet: &[u8],
        established: bool,
        full: bool,
    ) -> Verdict {
        if packet.len() > MAX_PACKET {
            return Verdict::Ignore;
        }
        let load = match self.walk(packet) {
            Ok(load) => load,
            Err(verdict) => return verdict,
        };
        // Data comes with the cookie at the earliest (RFC 9260 §5.1); before that nobody would acknowledge it.
        let cookie = matches!(packet[COMMON_HEADER], COOKIE_ACK | COOKIE_ECHO);
        if load.has_data && !established && !cookie {
            return Verdict::Ignore;
        }
        if let Some(verdict) = self.refuse(&load) {
            return verdict;
        }
        if full && load.new > 0 || !self.pay(now, &load) {
            return Verdict::Ignore;
        }
        self.filled |= load.lowest == Some(1);
        self.since += load.new;
        self.unread += load.new;
        self.resets += load.resets;
        match load.initial {
            Some((INIT, tsn)) => self.acked = Some(tsn.wrapping_sub(1)),
            // Only the first one counts for the association too.
            Some((_, tsn)) if self.acked.is_none() => self.acked = Some(tsn.wrapping_sub(1)),
            Some(_) | None => {}
        }
        Verdict::Take
    }

    /// That many chunks were read with a message.
    pub(super) fn handle_read(&mut self, chunks: usize) {
        self.unread = self.unread.saturating_sub(chunks);
    }

    /// Learns from a packet that we send what the association has taken. `window`: the whole receive window, bytes.
    /// Returns what is left of that, if the packet tells it.
    pub(super) fn handle_sent(&mut self, packet: &[u8], window: u32) -> Option<u32> {
        let chunk = Chunks(&packet[COMMON_HEADER.min(packet.len())..]).next()?;
        let (Some(SACK), Some(acked), Some(credit)) =
            (chunk.first().copied(), word(chunk, 4), word(chunk, 8))
        else {
            return None;
        };
        self.acked = Some(acked);
        self.since = 0;
        self.filled = false;
        self.beyond.clear();
        self.beyond.extend(gaps(chunk));
        self.beyond_count = self.beyond.iter().copied().map(length).sum();
        if credit > 0 {
            // Each chunk has a byte at least; those that were given up by a FORWARD TSN or a reset are forgotten here.
            self.unread = self.unread.min(window.saturating_sub(credit) as usize);
        }
        Some(credit)
    }

    fn walk(&self, packet: &[u8]) -> Result<Load, Verdict> {
        let mut load = Load::default();
        let mut chunks = Chunks(&packet[COMMON_HEADER..]);
        for chunk in chunks.by_ref() {
            match chunk[0] {
                DATA => {
                    // "No User Data" (RFC 9260 §3.3.1): it would take space that no window counts.
                    if chunk.len() <= 16 {
                        return Err(Verdict::Fault);
                    }
                    load.has_data = true;
                    self.weigh(word(chunk, 4), &mut load)?;
                }
                kind @ (INIT | INIT_ACK) => {
                    // Alone in its packet (RFC 9260 §3.3.2).
                    if packet.len() >= COMMON_HEADER + chunk.len() + 4 {
                        return Err(Verdict::Ignore);
                    }
                    load.initial = word(chunk, 16).map(|tsn| (kind, tsn));
                }
                FORWARD_TSN => load.forwarded += chunk.len().saturating_sub(8) / 4,
                I_FORWARD_TSN => load.forwarded += chunk.len().saturating_sub(8) / 8,
                RECONFIG => load.resets += 1,
                _ => {}
            }
            if !is_exact(chunk) {
                return Err(Verdict::Ignore);
            }
        }
        if chunks.0.is_empty() {
            Ok(load)
        } else {
            Err(Verdict::Ignore)
        }
    }

    fn weigh(&self, tsn: Option<u32>, load: &mut Load) -> Result<(), Verdict> {
        let (Some(tsn), Some(acked)) = (tsn, self.acked) else {
            return Err(Verdict::Ignore);
        };
        let distance = tsn.wrapping_sub(acked);
        if distance == 0 || distance > u32::MAX / 2 || self.has(distance) {
            return Ok(());
        }
        if distance as usize > LIMIT + self.advance() {
            return Err(Verdict::Ignore);
        }
        load.new += 1;
        load.lowest = Some(load.lowest.unwrap_or(distance).min(distance));
        Ok(())
    }

    /// How far the first missing one may have moved since our last SACK: none is sent within a batch.
    fn advance(&self) -> usize {
        self.since + if self.filled { self.beyond_count } else { 0 }
    }

    fn has(&self, distance: u32) -> bool {
        let at = self
            .beyond
            .partition_point(|&(_, last)| u32::from(last) < distance);
        self.beyond
            .get(at)
            .is_some_and(|&(first, _)| u32::from(first) <= distance)
    }

    fn refuse(&self, load: &Load) -> Option<Verdict> {
        if self.resets + load.resets > MAX_RESETS && load.resets > 0
            || load.new > 0 && self.since + load.new > UNACKNOWLEDGED
        {
            return Some(Verdict::Ignore);
        }
        let unread = self.unread + load.new;
        let lowest = load.lowest?;
        if unread <= LIMIT {
            None
        } else if unread > 2 * LIMIT {
            // Not one message of all these is whole, and nothing more than this may be missing.
            Some(Verdict::Fault)
        } else {
            // What is missing may come.
            (lowest as usize > self.advance() + 1).then_some(Verdict::Ignore)
        }
    }

    /// Takes what the packet will cost from the credit, if there is enough.
    fn pay(&mut self, now: Instant, load: &Load) -> bool {
        let since = self.credited_at.replace(now);
        let elapsed = since.map_or(1.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.credit = WALKED.min(self.credit + elapsed * WALKED);
        let waiting = self.unread + self.beyond_count;
        let cost = ((load.new + load.forwarded) * waiting) as f64;
        if cost > self.credit {
            return false;
        }
        self.credit -= cost;
        true
    }
}

/// The chunks of a packet, without their padding; ends before what is cut short.
struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = half(self.0, 2).map(usize::from)?;
        let chunk = self.0.get(..length).filter(|chunk| chunk.len() >= 4)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(chunk)
    }
}

/// Whether the association looks for the next chunk where this one's length says: it goes by what it has parsed, and
/// could be made to find chunks that were not judged.
fn is_exact(chunk: &[u8]) -> bool {
    let parsed = match chunk[0] {
        COOKIE_ACK | SHUTDOWN_ACK | SHUTDOWN_COMPLETE => Some(4),
        HEARTBEAT => half(chunk, 6).map(|length| 4 + usize::from(length)),
        I_FORWARD_TSN => Some(8 + chunk.len().saturating_sub(8) / 8 * 8),
        RECONFIG => half(chunk, 6).map(|first| {
            let second = 4 + usize::from(first).next_multiple_of(4);
            if second < chunk.len() {
                second + half(chunk, second + 2).map_or(0, usize::from)
            } else {
                4 + usize::from(first)
            }
        }),
        SACK => half(chunk, 12)
            .zip(half(chunk, 14))
            // It looks up every TSN that is named, however often.
            .filter(|_| gaps(chunk).map(length).sum::<usize>() <= 0xffff)
            .map(|(gaps, copies)| 16 + 4 * (usize::from(gaps) + usize::from(copies))),
        _ => Some(chunk.len()),
    };
    parsed.is_some_and(|parsed| parsed.next_multiple_of(4) == chunk.len().next_multiple_of(4))
}

/// The runs of a SACK that came beyond what is missing, as distances.
fn gaps(sack: &[u8]) -> impl Iterator<Item = (u16, u16)> {
    let count = half(sack, 12).map_or(0, usize::from);
    let blocks = sack.get(16..).unwrap_or_default().chunks_exact(4);
    blocks
        .take(count)
        .filter_map(|block| Some((half(block, 0)?, half(block, 2)?)))
}

fn length((first, last): (u16, u16)) -> usize {
    usize::from(last.saturating_sub(first)) + 1
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// The four bytes at a place, the highest first.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}
