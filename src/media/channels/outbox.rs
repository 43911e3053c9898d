//! Messages for a reliable channel, and how many of them SCTP has at a time.
//!
//! `sctp-proto` walks over all chunks that are on their way whenever it is asked what to send. Its windows count bytes
//! alone: of small messages ten thousand fit, and a worker would do little else than walk. So it gets some, and the
//! next when those are acknowledged.

use super::MAX_PAYLOAD;
use bytes::Bytes;
use std::collections::VecDeque;

/// Chunks that SCTP has at a time and that are not acknowledged, beyond a gap or not: more than fill the receive window of
/// any client when they are whole packets.
const GIVEN: usize = 2048;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    /// Messages that SCTP has, bytes of each.
    given: VecDeque<u32>,
    given_bytes: usize,
    given_chunks: usize,
}

impl Outbox {
    /// Bytes that wait here.
    pub(super) fn bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn push(&mut self, message: Bytes) {
        self.waiting_bytes += message.len();
        self.waiting.push_back(message);
    }

    /// The next message for SCTP, if it may have one; it holds so many bytes of earlier ones.
    pub(super) fn next(&mut self, buffered: usize) -> Option<Bytes> {
        while let Some(&bytes) = self.given.front()
            && self.given_bytes - bytes as usize >= buffered
        {
            self.given.pop_front();
            self.given_bytes -= bytes as usize;
            self.given_chunks -= chunks(bytes);
        }
        if self.given_chunks >= GIVEN {
            return None;
        }
        let message = self.waiting.pop_front()?;
        self.waiting_bytes -= message.len();
        if self.waiting.is_empty() {
            // As in `super::inbox`: a flood is rare.
            self.waiting = VecDeque::new();
        }
        // An empty message is one byte in SCTP.
        let bytes = message.len().max(1) as u32;
        self.given.push_back(bytes);
        self.given_bytes += bytes as usize;
        self.given_chunks += chunks(bytes);
        Some(message)
    }
}

fn chunks(bytes: u32) -> usize {
    bytes.div_ceil(MAX_PAYLOAD) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Bytes {
        Bytes::from(vec![7; bytes])
    }

    /// Takes what SCTP may have, which then holds `buffered` bytes.
    fn take(outbox: &mut Outbox, buffered: &mut usize) -> usize {
        let mut taken = 0;
        while let Some(message) = outbox.next(*buffered) {
            *buffered += message.len().max(1);
            taken += 1;
        }
        taken
    }

    #[test]
    fn sctp_has_some_chunks_at_a_time_and_the_next_when_those_are_acknowledged() {
        let mut outbox = Outbox::default();
        for _ in 0..10_000 {
            outbox.push(message(10));
        }
        let mut buffered = 0;
        assert_eq!(take(&mut outbox, &mut buffered), GIVEN);
        assert_eq!(outbox.bytes(), (10_000 - GIVEN) * 10);
        assert_eq!(take(&mut outbox, &mut buffered), 0);
        // Half a message counts for nothing.
        buffered -= 35;
        assert_eq!(take(&mut outbox, &mut buffered), 3);
        buffered = 0;
        assert_eq!(take(&mut outbox, &mut buffered), GIVEN);
    }

    #[test]
    fn a_large_message_counts_as_its_chunks_and_an_empty_one_as_one() {
        let mut outbox = Outbox::default();
        for _ in 0..3_000 {
            outbox.push(message(MAX_PAYLOAD as usize + 1));
        }
        assert_eq!(take(&mut outbox, &mut 0), GIVEN / 2);
        let mut outbox = Outbox::default();
        for _ in 0..3_000 {
            outbox.push(message(0));
        }
        assert_eq!(take(&mut outbox, &mut 0), GIVEN);
        assert!(!outbox.is_empty());
    }
}
