//! Messages that were read out of SCTP and that nobody has asked for yet.
//!
//! `sctp-proto` walks over all chunks that wait for each one that comes: a receive window of small messages would cost
//! more than all else that is done with them. So whatever is whole is read at once, and the peer is told the window
//! that is left here ([`super::window`]).

use crate::plan::Channel;
use bytes::Bytes;
use std::collections::VecDeque;

/// What a message costs beside its bytes.
const OVERHEAD: usize = 64;

/// Messages in the order in which they were read.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    messages: VecDeque<(Channel, Bytes)>,
    cost: usize,
}

impl Inbox {
    /// What is held, bytes.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    pub(super) fn push(&mut self, channel: Channel, message: Bytes) {
        self.cost += message.len() + OVERHEAD;
        self.messages.push_back((channel, message));
    }

    pub(super) fn pop(&mut self) -> Option<(Channel, Bytes)> {
        let (channel, message) = self.messages.pop_front()?;
        self.cost -= message.len() + OVERHEAD;
        if self.messages.is_empty() {
            // A flood is rare, and its room would stay for the life of the connection.
            self.messages = VecDeque::new();
        }
        Some((channel, message))
    }
}
