//! Whoever sends reliable messages faster than they are read waits for its readers, instead of losing them.
//!
//! A reader's worker tells when a megabyte waits for it. A participant whose message is for such readers only is not
//! read from until one of them has caught up: all of them have enough to go on with. A message that goes to a faster
//! reader too holds nobody up, and whoever cannot follow is told to join anew at 4 MB.
//!
//! A newcomer whose channel is not open yet gets what is kept for it. Whoever has sent a lot of that waits for it too.
//!
//! A participant that waits is read from on no channel, so what it has to say to others waits as well: for
//! [`PATIENCE`] at most if others are there to hear it, for [`LAST_PATIENCE`] if nobody is.

use super::{Now, Room, Seat};
use crate::ids::{TransportId, WorkerId};
use crate::plan::Command;
use std::time::{Duration, Instant};

/// How long slow readers may hold a participant up that others are there to hear.
const PATIENCE: Duration = Duration::from_secs(5);
/// And how long if they are all that is there: one that is gone for good is out of the room before.
const LAST_PATIENCE: Duration = Duration::from_secs(30);
/// A reader gets a megabyte of each sender that waited for it, before its worker can tell that this is enough: they go
/// on one after the other.
const STEP: Duration = Duration::from_millis(50);

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

/// A participant that is not read from.
#[derive(Debug)]
struct Hold {
    sender: Seat,
    worker: WorkerId,
    transport: TransportId,
    /// Whom it waits for: one of them is enough.
    readers: Vec<Seat>,
    since: Instant,
    /// When it waits no longer, if it waits for newcomers.
    until: Option<Instant>,
    review_at: Instant,
}

/// What becomes of a hold.
enum Review {
    /// This reader can take more.
    GoesOn(Seat),
    /// Long enough, or nobody is left to wait for.
    Ends,
    Until(Instant),
}

/// Everybody who is not read from, the longest first.
#[derive(Debug, Default)]
pub(super) struct Holds(Vec<Hold>);

impl Holds {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.0.iter().map(|hold| hold.review_at).min()
    }

    pub(super) fn include(&self, sender: Seat) -> bool {
        self.0.iter().any(|hold| hold.sender == sender)
    }

    /// Who is held up, by which transport, for whom, and when that is reviewed.
    #[cfg(test)]
    pub(super) fn list(&self) -> impl Iterator<Item = (Seat, TransportId, &[Seat], Instant)> {
        let holds = self.0.iter();
        holds.map(|hold| (hold.sender, hold.transport, &*hold.readers, hold.review_at))
    }
}

impl Room {
    /// A participant has sent a reliable message, and shall wait for these: until one has caught up, or, if they are
    /// newcomers, until one is there or that moment has come.
    pub(super) fn hold_up(
        &mut self,
        now: Now,
        sender: Seat,
        transport: TransportId,
        readers: Vec<Seat>,
        until: Option<Instant>,
    ) {
        let Some(participant) = self.participant(sender) else {
            return;
        };
        if self.holds.include(sender) {
            return;
        }
        let worker = participant.worker;
        tracing::debug!(
            room = self.info.name,
            identity = participant.identity.as_str(),
            "waits for its readers"
        );
        self.holds.0.push(Hold {
            sender,
            worker,
            transport,
            readers,
            since: now.at,
            until,
            review_at: until.unwrap_or(now.at + PATIENCE),
        });
        let id = transport;
        self.command(worker, Command::HoldData { id, hold: true });
    }

    /// A worker tells how a reader keeps up.
    pub(super) fn reader_behind(&mut self, now: Now, id: TransportId, behind: bool) {
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
            self.review_holds_for(now, seat, now.at);
        }
    }

    /// A newcomer has got what was kept for it: that may be a lot.
    pub(super) fn newcomer_served(&mut self, now: Now, reader: Seat) {
        for hold in &mut self.holds.0 {
            if hold.readers.contains(&reader) {
                hold.since = now.at;
                hold.until = None;
            }
        }
        self.review_holds_for(now, reader, now.at + STEP);
    }

    /// Nobody waits for somebody who is gone, and who goes to another room is read from there.
    pub(super) fn forget_holds(&mut self, now: Now, seat: Seat) {
        for hold in &mut self.holds.0 {
            if hold.readers.contains(&seat) {
                hold.readers.retain(|reader| *reader != seat);
                hold.review_at = now.at;
            }
        }
        let at = self.holds.0.iter().position(|hold| hold.sender == seat);
        if let Some(at) = at {
            self.release(at);
        }
        self.review_holds_if_due(now);
    }

    fn review_holds_for(&mut self, now: Now, reader: Seat, at: Instant) {
        for hold in &mut self.holds.0 {
            if hold.readers.contains(&reader) {
                hold.review_at = at;
            }
        }
        self.review_holds_if_due(now);
    }

    pub(super) fn review_holds_if_due(&mut self, now: Now) {
        let mut served: Vec<Seat> = Vec::new();
        let mut place = 0;
        while let Some(hold) = self.holds.0.get(place) {
            if hold.review_at > now.at {
                place += 1;
                continue;
            }
            let at = match self.review(now, hold) {
                Review::Ends => {
                    self.give_up_on(now, place);
                    continue;
                }
                Review::GoesOn(reader) if !served.contains(&reader) => {
                    served.push(reader);
                    self.release(place);
                    continue;
                }
                Review::GoesOn(_) => now.at + STEP,
                Review::Until(at) => at,
            };
            self.holds.0[place].review_at = at;
            place += 1;
        }
    }

    fn review(&self, now: Now, hold: &Hold) -> Review {
        let mut is_waited_for = false;
        for reader in &hold.readers {
            let Some(reader) = self.participant(*reader) else {
                continue;
            };
            match reader.inbox.pace {
                Pace::Keeping if reader.inbox.is_ready() => return Review::GoesOn(reader.seat),
                Pace::Keeping | Pace::Behind => is_waited_for = true,
                Pace::TooSlow => {}
            }
        }
        let waits = now.at.saturating_duration_since(hold.since);
        let is_awaited = || {
            self.participants.values().any(|other| {
                let inbox = &other.inbox;
                other.seat != hold.sender && inbox.is_ready() && inbox.pace == Pace::Keeping
            })
        };
        let is_over = hold.until.is_some_and(|until| until <= now.at)
            || waits >= LAST_PATIENCE
            || waits >= PATIENCE && is_awaited();
        if is_over || !is_waited_for {
            return Review::Ends;
        }
        let first = hold.until.unwrap_or(hold.since + PATIENCE);
        Review::Until(if first > now.at {
            first
        } else {
            now.at + PATIENCE
        })
    }

    /// Its readers do not hold anybody up again until they have caught up.
    fn give_up_on(&mut self, now: Now, place: usize) {
        for reader in self.holds.0[place].readers.clone() {
            if let Some(participant) = self.participants.get_mut(&reader)
                && participant.inbox.pace == Pace::Behind
            {
                participant.inbox.pace = Pace::TooSlow;
            }
        }
        let readers = std::mem::take(&mut self.holds.0[place].readers);
        for hold in &mut self.holds.0 {
            if hold.readers.iter().any(|reader| readers.contains(reader)) {
                hold.review_at = now.at;
            }
        }
        self.release(place);
    }

    fn release(&mut self, place: usize) {
        let hold = self.holds.0.remove(place);
        let id = hold.transport;
        self.command(hold.worker, Command::HoldData { id, hold: false });
    }
}
