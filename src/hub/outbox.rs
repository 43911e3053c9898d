//! The queue from a room to one session: bounded, with participant updates merged while they wait.
//!
//! Written by the room's task, read by the session's. A reader that falls too far behind loses its socket, not its
//! participant. How far must be more than a room says at once to somebody who joins, resumes or may subscribe again: a
//! message for each track, and one that describes everybody, whatever their metadata.

use crate::protocol::livekit::{ParticipantUpdate, signal_response};
use crate::protocol::signal::Encoded;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Messages that may wait.
const MAX_MESSAGES: usize = 4096;
/// Bytes that may wait beside the largest message. Most are shared with the queues of others.
const MAX_BYTES: usize = 4 << 20;

/// What a session sends to its client.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// A message, encoded once for all who get it.
    Message(Arc<Encoded>),
    /// Close with code 1000 after what came before.
    Close,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Outgoing>,
    bytes: usize,
    /// No more will be written.
    ended: bool,
    /// Nobody reads any more.
    abandoned: bool,
}

impl Queue {
    /// Bytes of the largest message that waits.
    fn largest(&self) -> usize {
        let lens = self.waiting.iter().map(|outgoing| match outgoing {
            Outgoing::Message(message) => message.len(),
            Outgoing::Close => 0,
        });
        lens.max().unwrap_or(0)
    }
}

#[derive(Debug, Default)]
struct Shared {
    /// Held for a push or a pop only, never across an await.
    queue: Mutex<Queue>,
    ready: Notify,
}

impl Shared {
    fn with<R>(&self, act: impl FnOnce(&mut Queue) -> R) -> R {
        act(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The receiving end of a session's queue. Its owner is the session.
#[derive(Debug)]
pub struct Outbox(Arc<Shared>);

/// The sending end. Its owner is the room.
#[derive(Debug)]
pub(super) struct OutboxSender(Arc<Shared>);

/// A queue's two ends.
pub(super) fn outbox() -> (OutboxSender, Outbox) {
    let shared = Arc::new(Shared::default());
    (OutboxSender(Arc::clone(&shared)), Outbox(shared))
}

impl Outbox {
    /// The next message; `None` when the room has let go of this session.
    pub async fn next(&mut self) -> Option<Outgoing> {
        loop {
            let (next, ended) = self.0.with(|queue| {
                let next = queue.waiting.pop_front();
                if let Some(Outgoing::Message(message)) = &next {
                    queue.bytes -= message.len();
                }
                (next, queue.ended)
            });
            if next.is_some() {
                return next;
            }
            if ended {
                return None;
            }
            self.0.ready.notified().await;
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.0.with(|queue| {
            queue.abandoned = true;
            queue.waiting.clear();
            queue.bytes = 0;
        });
    }
}

impl OutboxSender {
    /// Queues a message. `false`: the reader is too slow; the session is over. One that does not read any more says so
    /// itself, behind what it has yet to say: its client's `leave` may wait in the room's queue.
    pub(super) fn push(&self, message: Arc<Encoded>) -> bool {
        let taken = self.0.with(|queue| {
            if queue.abandoned {
                return true;
            }
            if queue.ended {
                return false;
            }
            if merge(queue, &message) {
                return true;
            }
            let bytes = queue.bytes + message.len();
            if queue.waiting.len() >= MAX_MESSAGES
                || (bytes > MAX_BYTES && bytes - queue.largest().max(message.len()) > MAX_BYTES)
            {
                queue.ended = true;
                queue.waiting.clear();
                queue.bytes = 0;
                queue.waiting.push_back(Outgoing::Close);
                return false;
            }
            queue.bytes = bytes;
            queue.waiting.push_back(Outgoing::Message(message));
            true
        });
        self.0.ready.notify_one();
        taken
    }

    /// Closes after what was queued.
    pub(super) fn close(self) {
        self.0
            .with(|queue| queue.waiting.push_back(Outgoing::Close));
    }
}

impl Drop for OutboxSender {
    fn drop(&mut self) {
        self.0.with(|queue| queue.ended = true);
        self.0.ready.notify_one();
    }
}

/// Joins a participant update with the one that waits last, newest version of each participant winning. Only
/// neighbours merge: whatever stands between two updates keeps its place in the story.
fn merge(queue: &mut Queue, message: &Arc<Encoded>) -> bool {
    let Some(signal_response::Message::Update(new)) = message.message() else {
        return false;
    };
    // The very last one may be on its way already; merging begins when messages pile up.
    if queue.waiting.len() < 2 {
        return false;
    }
    let Some(Outgoing::Message(last)) = queue.waiting.back() else {
        return false;
    };
    let Some(signal_response::Message::Update(old)) = last.message() else {
        return false;
    };
    let mut participants = old.participants.clone();
    for info in &new.participants {
        match participants.iter_mut().find(|known| known.sid == info.sid) {
            Some(known) if known.version <= info.version => known.clone_from(info),
            Some(_) => {}
            None => participants.push(info.clone()),
        }
    }
    let merged = Arc::new(Encoded::new(signal_response::Message::Update(
        ParticipantUpdate { participants },
    )));
    queue.bytes = queue.bytes + merged.len() - last.len();
    queue.waiting.pop_back();
    queue.waiting.push_back(Outgoing::Message(merged));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::livekit::ParticipantInfo;

    fn update(sid: &str, version: u32) -> Arc<Encoded> {
        let info = ParticipantInfo {
            sid: sid.to_owned(),
            version,
            ..Default::default()
        };
        let update = ParticipantUpdate {
            participants: vec![info],
        };
        Arc::new(Encoded::new(signal_response::Message::Update(update)))
    }

    fn pong(value: i64) -> Arc<Encoded> {
        Arc::new(Encoded::new(signal_response::Message::Pong(value)))
    }

    fn versions(outgoing: &Outgoing) -> Vec<(String, u32)> {
        let Outgoing::Message(message) = outgoing else {
            panic!("close")
        };
        let Some(signal_response::Message::Update(update)) = message.message() else {
            return Vec::new();
        };
        update
            .participants
            .iter()
            .map(|p| (p.sid.clone(), p.version))
            .collect()
    }

    #[tokio::test]
    async fn updates_that_wait_are_merged_and_the_newest_version_wins() {
        let (sender, mut outbox) = outbox();
        for message in [
            pong(1),
            update("a", 1),
            update("a", 3),
            update("b", 1),
            update("a", 2),
        ] {
            assert!(sender.push(message));
        }
        drop(sender);
        assert!(versions(&outbox.next().await.unwrap()).is_empty());
        assert_eq!(
            versions(&outbox.next().await.unwrap()),
            [("a".to_owned(), 3), ("b".to_owned(), 1)]
        );
        assert!(outbox.next().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_falls_behind_is_closed() {
        let (sender, mut outbox) = outbox();
        let taken = (0..10_000)
            .take_while(|value| sender.push(pong(*value)))
            .count();
        assert_eq!(taken, MAX_MESSAGES);
        assert!(matches!(outbox.next().await, Some(Outgoing::Close)));
        assert!(outbox.next().await.is_none());
    }

    /// A joiner's first message holds everybody, with up to 512 KiB of metadata each.
    #[test]
    fn a_reader_that_has_ended_is_not_one_that_is_too_slow() {
        let (sender, reader) = outbox();
        drop(reader);
        assert!((0..=MAX_MESSAGES as i64).all(|value| sender.push(pong(value))));
        sender.0.with(|queue| assert!(queue.waiting.is_empty()));
    }

    #[tokio::test]
    async fn one_message_may_be_of_any_size_and_others_wait_beside_it() {
        let (sender, _outbox) = outbox();
        let of = |bytes: usize| update(&"x".repeat(bytes), 1);
        assert!(sender.push(of(20 << 20)));
        let beside = (0..100)
            .take_while(|value| sender.push(pong(*value)) && sender.push(of(1 << 20)))
            .count();
        assert_eq!(beside, 3);
    }

    #[tokio::test]
    async fn what_was_queued_before_a_close_still_goes_out() {
        let (sender, mut outbox) = outbox();
        sender.push(pong(7));
        sender.close();
        assert!(matches!(outbox.next().await, Some(Outgoing::Message(_))));
        assert!(matches!(outbox.next().await, Some(Outgoing::Close)));
        assert!(outbox.next().await.is_none());
    }
}
