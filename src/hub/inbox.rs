//! The way from a session to its room, which changes when the participant is moved to another room.

use super::{Inbound, SessionId};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

/// Requests of sessions, on their way to a room.
pub(super) type Signals = mpsc::Sender<(SessionId, Inbound)>;

/// The room does not listen any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// A session's end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inbox {
    id: SessionId,
    way: watch::Receiver<Signals>,
}

/// The room's end.
#[derive(Debug)]
pub(super) struct Switch(watch::Sender<Signals>);

impl Switch {
    /// What is sent after this goes to another room; what was sent before is in the old one's queue.
    pub(super) fn turn(&self, signals: Signals) {
        self.0.send_replace(signals);
    }
}

/// Both ends.
pub(super) fn inbox(id: SessionId, signals: Signals) -> (Switch, Inbox) {
    let (sender, way) = watch::channel(signals);
    (Switch(sender), Inbox { id, way })
}

impl Inbox {
    /// A way to a queue of a test.
    #[cfg(test)]
    pub fn to(id: SessionId, signals: mpsc::Sender<(SessionId, Inbound)>) -> Self {
        inbox(id, signals).1
    }

    /// Hands something to the room; waits while its queue is full.
    pub async fn send(&self, inbound: Inbound) -> Result<(), Closed> {
        let mut item = (self.id, inbound);
        loop {
            // Nothing is sent past a turn of the switch: it waits for this borrow.
            let full = {
                let way = self.way.borrow();
                match way.try_send(item) {
                    Ok(()) => return Ok(()),
                    Err(TrySendError::Closed(_)) => return Err(Closed),
                    Err(TrySendError::Full(back)) => item = back,
                }
                way.clone()
            };
            // The place may be in a queue that is the wrong one by now. A queue that has closed is met above.
            drop(full.reserve().await);
        }
    }

    /// The same without waiting. `false`: the queue is full. A room that does not listen needs nothing more.
    pub fn try_send(&self, inbound: Inbound) -> bool {
        let sent = self.way.borrow().try_send((self.id, inbound));
        !matches!(sent, Err(TrySendError::Full(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const ID: SessionId = SessionId(3);

    #[tokio::test]
    async fn after_a_turn_everything_goes_to_the_other_room_even_what_had_to_wait() {
        let (one, mut old) = mpsc::channel(1);
        let (two, mut new) = mpsc::channel(1);
        let (switch, inbox) = inbox(ID, one);
        inbox.send(Inbound::Gone).await.unwrap();
        assert!(!inbox.try_send(Inbound::Gone), "it is full");
        let mut waiting = Box::pin(inbox.send(Inbound::Gone));
        assert!(waiting.as_mut().now_or_never().is_none());
        switch.turn(two);
        assert!(matches!(old.try_recv(), Ok((ID, Inbound::Gone))));
        assert_eq!(waiting.await, Ok(()));
        assert!(old.try_recv().is_err());
        assert!(matches!(new.try_recv(), Ok((ID, Inbound::Gone))));
    }

    #[tokio::test]
    async fn a_room_that_is_gone_is_told_from_one_that_is_busy() {
        let (one, old) = mpsc::channel(1);
        let inbox = Inbox::to(ID, one);
        drop(old);
        assert_eq!(inbox.send(Inbound::Gone).await, Err(Closed));
        assert!(inbox.try_send(Inbound::Gone));
    }
}
