//! What a worker counts: packets, bytes, and every cause for which a datagram or packet was dropped.

use crate::plan::WorkerReport;

/// Why something was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    /// A packet that came twice.
    Duplicate,
    /// A datagram with a first byte that RFC 7983 gives to nobody.
    Foreign,
    /// An SRTP or SRTCP packet that does not authenticate, or was replayed.
    Forged,
    /// A DTLS handshake or session that failed; its transport has ended.
    Handshake,
    /// A message on a data channel that is none of LiveKit's, or of a kind that channels do not carry.
    IgnoredMessage,
    /// A packet that came after its place in the cache was gone.
    Late,
    /// A packet or DTLS datagram that contradicts itself.
    Malformed,
    /// A packet in a format that was not negotiated, or that the subscriber does not take.
    NoFormat,
    /// A probe: padding in a retransmission stream.
    Padding,
    /// An SCTP packet that is malformed, or more than its association may hold; an association that broke.
    Sctp,
    /// A packet of a source that no section claims.
    UnknownSource,
    /// A datagram on a path that no transport has.
    UnknownPath,
    /// A STUN message that no transport takes.
    UnknownStun,
}

const NAMES: [&str; 13] = [
    "duplicate",
    "foreign",
    "forged",
    "handshake",
    "ignored_message",
    "late",
    "malformed",
    "no_format",
    "padding",
    "sctp",
    "unknown_source",
    "unknown_path",
    "unknown_stun",
];

/// The counters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// RTP packets received and accepted.
    pub packets_in: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent, of RTP.
    pub bytes_out: u64,
    dropped: [u64; NAMES.len()],
}

impl Counters {
    /// Counts a drop.
    pub fn drop(&mut self, cause: Drop) {
        self.drop_many(cause, 1);
    }

    /// Counts several of one cause.
    pub fn drop_many(&mut self, cause: Drop, count: u64) {
        self.dropped[cause as usize] += count;
    }

    /// How often that was a cause.
    pub fn dropped(&self, cause: Drop) -> u64 {
        self.dropped[cause as usize]
    }

    /// As a report; the numbers of things are the caller's.
    pub fn report(&self) -> WorkerReport {
        WorkerReport {
            packets_in: self.packets_in,
            packets_out: self.packets_out,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            dropped: NAMES.into_iter().zip(self.dropped).collect(),
            ..WorkerReport::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_reported_under_its_name() {
        let mut counters = Counters::default();
        counters.drop(Drop::UnknownStun);
        counters.drop(Drop::Duplicate);
        counters.drop(Drop::Duplicate);
        let dropped = counters.report().dropped;
        assert_eq!(dropped[0], ("duplicate", 2));
        assert_eq!(dropped[12], ("unknown_stun", 1));
        assert_eq!(dropped.iter().map(|(_, count)| count).sum::<u64>(), 3);
    }
}
