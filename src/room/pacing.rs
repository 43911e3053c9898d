//! Whoever sends reliable messages faster than they are read waits for its readers, instead of losing them.
//!
//! A reader's worker tells when a megabyte waits for it. A participant whose message is for such readers only is not
//! read from until one of them has caught up. That delays nobody: all of them have enough to go on with. A message
//! that goes to a faster reader too is not held up, and whoever cannot follow is told to join anew at 4 MB.
//!
//! A newcomer whose channel is not open yet gets what is kept for it. When that is a lot, its senders wait for it too.
//!
//! While somebody is held, what it has to say to others waits as well, for [`PATIENCE`] at most.

use super::{Now, Room, Seat};
use crate::ids::{TransportId, WorkerId};
use crate::plan::Command;
use std::time::{Duration, Instant};

/// How long newcomers may hold a participant up, and slow readers if others are there to hear it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a participant keeps up with what is sent to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Pace {
    #[default]
    Keeping,
    /// A megabyte waits for it.
    Behind,
    /// And it has held somebody up for long enough.
    TooSlow,
}

/// Why somebody waits for its readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// All of them are behind.
    Laggards,
    /// Their channels are not open yet.
    Newcomers,
}

/// A participant that is not read from.
#[derive(Debug)]
struct Hold {
    cause: Cause,
    sender: Seat,
    worker: WorkerId,
    transport: TransportId,
    /// Whom it waits for: one of them is enough.
    readers: Vec<Seat>,
    /// When it is asked whether that is long enough.
    review_at: Instant,
}

impl Hold {
    fn release(&self) -> Command {
        Command::HoldData {
            id: self.transport,
            hold: false,
        }
    }
}

/// Everybody who is not read from.
#[derive(Debug, Default)]
pub(super) struct Holds(Vec<Hold>);

impl Holds {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.0.iter().map(|hold| hold.review_at).min()
    }

    /// Who is held up, by which transport, and for whom.
    #[cfg(test)]
    pub(super) fn list(&self) -> impl Iterator<Item = (Seat, TransportId, &[Seat])> {
        let holds = self.0.iter();
        holds.map(|hold| (hold.sender, hold.transport, hold.readers.as_slice()))
    }
}

impl Room {
    /// A participant has sent a reliable message, and shall wait for these.
    pub(super) fn hold_up(
        &mut self,
        now: Now,
        sender: Seat,
        transport: TransportId,
        cause: Cause,
        readers: Vec<Seat>,
    ) {
        let Some(participant) = self.participant(sender) else {
            return;
        };
        if self.holds.0.iter().any(|hold| hold.sender == sender) {
            return;
        }
        let worker = participant.worker;
        tracing::debug!(
            room = self.info.name,
            identity = participant.identity.as_str(),
            "waits for its readers"
        );
        self.holds.0.push(Hold {
            cause,
            sender,
            worker,
            transport,
            readers,
            review_at: now.at + PATIENCE,
        });
        let id = transport;
        self.command(worker, Command::HoldData { id, hold: true });
    }

    /// A worker tells how a reader keeps up.
    pub(super) fn reader_behind(&mut self, id: TransportId, behind: bool) {
        let Some(&seat) = self.transports.get(&id) else {
            return;
        };
        let Some(participant) = self.participants.get_mut(&seat) else {
            return;
        };
        let is_reader = participant
            .data_connection()
            .is_some_and(|connection| connection.transport == id);
        if !is_reader {
            return;
        }
        participant.inbox.pace = if behind { Pace::Behind } else { Pace::Keeping };
        if !behind {
            self.end_holds_for(seat);
        }
    }

    /// Nobody has to wait for this reader any more.
    pub(super) fn end_holds_for(&mut self, reader: Seat) {
        self.release_holds(|hold| hold.readers.contains(&reader));
    }

    /// Nobody waits for somebody who is gone, and who goes to another room is read from there.
    pub(super) fn forget_holds(&mut self, seat: Seat) {
        self.release_holds(|hold| hold.sender == seat || hold.readers.contains(&seat));
    }

    pub(super) fn review_holds_if_due(&mut self, now: Now) {
        if self.holds.next_timeout().is_none_or(|at| at > now.at) {
            return;
        }
        self.release_holds(|hold| hold.cause == Cause::Newcomers && hold.review_at <= now.at);
        let mut too_slow: Vec<Seat> = Vec::new();
        for hold in self.holds.0.iter_mut().filter(|h| h.review_at <= now.at) {
            hold.review_at = now.at + PATIENCE;
            let is_awaited = self.participants.values().any(|other| {
                other.seat != hold.sender
                    && other.inbox.is_ready()
                    && other.inbox.pace == Pace::Keeping
            });
            if is_awaited {
                too_slow.extend(&hold.readers);
            }
        }
        for seat in &too_slow {
            if let Some(participant) = self.participants.get_mut(seat) {
                participant.inbox.pace = Pace::TooSlow;
            }
        }
        self.release_holds(|hold| hold.readers.iter().any(|seat| too_slow.contains(seat)));
    }

    fn release_holds(&mut self, is_over: impl Fn(&Hold) -> bool) {
        let (over, rest) = std::mem::take(&mut self.holds.0)
            .into_iter()
            .partition(is_over);
        self.holds.0 = rest;
        let over: Vec<Hold> = over;
        for hold in over {
            self.command(hold.worker, hold.release());
        }
    }
}
