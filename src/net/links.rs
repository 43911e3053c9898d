//! The way of a worker's messages to the other workers: bounded rings, never blocking.
//!
//! All rooms share a ring. Packets that find it full are dropped, as a network would; what is told once waits here, in
//! order, and only in its newest version.

use super::doorbell::Doorbell;
use crate::ids::WorkerId;
use crate::media::link::LinkMessage;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc as ring;

/// Clocks and wishes for key frames that wait. There are more of both soon; whether a track is muted is told once, and
/// waits in any case: one message for each track and worker.
const HELD: usize = 256;

/// Into another worker.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) ring: ring::SyncSender<LinkMessage>,
    pub(super) doorbell: Arc<Doorbell>,
}

/// Into every worker by number, its own too.
#[derive(Debug)]
pub(super) struct Links {
    ways: Vec<Link>,
    held: VecDeque<(WorkerId, LinkMessage)>,
    /// Workers to ring, a bit each.
    rung: u64,
    dropped: u64,
}

impl Links {
    pub(super) fn new(links: Vec<Link>) -> Self {
        Self {
            ways: links,
            held: VecDeque::new(),
            rung: 0,
            dropped: 0,
        }
    }

    /// Messages that found no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Something waits; try again soon.
    pub(super) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Tries what waits again.
    pub(super) fn retry(&mut self) {
        let mut full = 0_u64;
        for (to, message) in std::mem::take(&mut self.held) {
            // Behind one that waits on.
            if full & bit(to) != 0 {
                self.held.push_back((to, message));
            } else if let Some(message) = self.send(to, message) {
                full |= bit(to);
                self.held.push_back((to, message));
            }
        }
    }

    /// Sends a message, or lets it wait.
    pub(super) fn push(&mut self, to: WorkerId, message: LinkMessage) {
        let waits = !matches!(message, LinkMessage::Packets(_));
        if waits && self.held.iter().any(|(other, _)| *other == to) {
            self.hold(to, message);
        } else if let Some(message) = self.send(to, message) {
            if waits {
                self.hold(to, message);
            } else {
                self.dropped += 1;
            }
        }
    }

    /// Wakes those who got something.
    pub(super) fn ring(&mut self) {
        let rung = std::mem::take(&mut self.rung);
        for (index, link) in self.ways.iter().enumerate() {
            if rung & (1 << index) != 0 {
                link.doorbell.ring();
            }
        }
    }

    fn hold(&mut self, to: WorkerId, message: LinkMessage) {
        let older = self
            .held
            .iter_mut()
            .find(|(other, older)| *other == to && is_replaced_by(older, &message));
        if let Some((_, older)) = older {
            *older = message;
        } else if self.held.len() < HELD || matches!(message, LinkMessage::Muted { .. }) {
            self.held.push_back((to, message));
        } else {
            self.dropped += 1;
        }
    }

    /// Gives the message back when the ring is full.
    fn send(&mut self, to: WorkerId, message: LinkMessage) -> Option<LinkMessage> {
        let sent = self
            .ways
            .get(usize::from(to.0))
            .map(|link| link.ring.try_send(message));
        match sent {
            Some(Ok(())) => {}
            Some(Err(ring::TrySendError::Full(message))) => {
                self.rung |= bit(to);
                return Some(message);
            }
            // A worker that has ended.
            Some(Err(ring::TrySendError::Disconnected(_))) | None => {
                self.dropped += 1;
                return None;
            }
        }
        self.rung |= bit(to);
        None
    }
}

fn bit(worker: WorkerId) -> u64 {
    1_u64.checked_shl(worker.0.into()).unwrap_or_default()
}

/// Whether nobody needs the earlier message once the later one is there.
fn is_replaced_by(earlier: &LinkMessage, later: &LinkMessage) -> bool {
    match (earlier, later) {
        (LinkMessage::Muted { up: one, .. }, LinkMessage::Muted { up: two, .. }) => one == two,
        (
            LinkMessage::Clock {
                up: one,
                spatial: layer,
                ..
            },
            LinkMessage::Clock {
                up: two, spatial, ..
            },
        )
        | (
            LinkMessage::KeyFrame {
                up: one,
                spatial: layer,
            },
            LinkMessage::KeyFrame { up: two, spatial },
        ) => (one, layer) == (two, spatial),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::worker::Worker;
    use super::*;
    use crate::ids::UpTrackId;
    use crate::media::link::Batch;

    const TO: WorkerId = WorkerId(0);

    fn links(room: usize) -> (Links, ring::Receiver<LinkMessage>) {
        let (_, doorbell) = Worker::poll().unwrap();
        let (ring, receiver) = ring::sync_channel(room);
        (Links::new(vec![Link { ring, doorbell }]), receiver)
    }

    fn muted(up: u64, muted: bool) -> LinkMessage {
        let up = UpTrackId(up);
        LinkMessage::Muted { up, muted }
    }

    fn packets() -> LinkMessage {
        LinkMessage::Packets(Batch {
            up: UpTrackId(1),
            packets: Vec::new(),
            bytes: Vec::new(),
        })
    }

    fn told(receiver: &ring::Receiver<LinkMessage>) -> Vec<(u64, Option<bool>)> {
        receiver
            .try_iter()
            .map(|message| match message {
                LinkMessage::Muted { up, muted } => (up.0, Some(muted)),
                LinkMessage::KeyFrame { up, .. } | LinkMessage::Clock { up, .. } => (up.0, None),
                LinkMessage::Packets(_) => (0, None),
            })
            .collect()
    }

    #[test]
    fn what_waits_goes_before_what_comes_and_only_its_newest_version() {
        let (mut links, receiver) = links(1);
        links.push(TO, packets());
        links.push(TO, muted(1, true));
        links.push(TO, packets());
        assert!(links.is_waiting());
        assert_eq!(links.dropped(), 1);
        assert_eq!(told(&receiver), [(0, None)]);
        // There is room again, but not for overtaking.
        links.push(TO, muted(2, true));
        links.push(TO, muted(1, false));
        assert_eq!(told(&receiver), []);
        links.retry();
        assert_eq!(told(&receiver), [(1, Some(false))]);
        links.retry();
        assert_eq!(told(&receiver), [(2, Some(true))]);
        assert!(!links.is_waiting());
    }

    #[test]
    fn a_mute_is_told_however_many_wishes_wait() {
        let (mut links, receiver) = links(1);
        for up in 0..1_000 {
            let up = UpTrackId(up);
            links.push(TO, LinkMessage::KeyFrame { up, spatial: 0 });
            links.push(TO, LinkMessage::KeyFrame { up, spatial: 0 });
        }
        links.push(TO, muted(7, true));
        assert_eq!(links.held.len(), HELD + 1);
        let mut all = Vec::new();
        while links.is_waiting() {
            all.extend(told(&receiver));
            links.retry();
        }
        all.extend(told(&receiver));
        assert_eq!(all.last(), Some(&(7, Some(true))));
        assert_eq!(all.len(), HELD + 2);
    }
}
