//! The participants of a room by seat, and which of them time changes next.
//!
//! Whoever was borrowed for a change is asked anew for its earliest moment, nobody else is: a step of a room costs what
//! it touches, however many there are.

use super::participant::{Participant, Seat};
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::iter::Map;
use std::time::Instant;

/// All participants of one room.
#[derive(Debug, Default)]
pub(super) struct Participants {
    seats: BTreeMap<Seat, Entry>,
    /// The earliest moment of each that has one.
    due: BTreeSet<(Instant, Seat)>,
    /// Who was borrowed for a change since `due` was brought up to date, each once.
    touched: Vec<Seat>,
}

/// Participants by seat.
pub(super) type Values<'a> =
    Map<btree_map::Values<'a, Seat, Entry>, fn(&'a Entry) -> &'a Participant>;

/// A participant, and what is known of its moments.
#[derive(Debug)]
pub(super) struct Entry {
    participant: Box<Participant>,
    /// As it stands in `due`.
    due: Option<Instant>,
    is_touched: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "asked as the map is that it stands for"
)]
impl Participants {
    pub(super) fn insert(&mut self, seat: Seat, participant: Box<Participant>) {
        self.remove(&seat);
        self.touched.push(seat);
        let entry = Entry {
            participant,
            due: None,
            is_touched: true,
        };
        self.seats.insert(seat, entry);
    }

    pub(super) fn remove(&mut self, seat: &Seat) -> Option<Box<Participant>> {
        let entry = self.seats.remove(seat)?;
        if let Some(at) = entry.due {
            self.due.remove(&(at, *seat));
        }
        if entry.is_touched {
            self.touched.retain(|touched| touched != seat);
        }
        Some(entry.participant)
    }

    pub(super) fn get(&self, seat: &Seat) -> Option<&Participant> {
        self.seats.get(seat).map(|entry| &*entry.participant)
    }

    pub(super) fn get_mut(&mut self, seat: &Seat) -> Option<&mut Participant> {
        let entry = self.seats.get_mut(seat)?;
        if !std::mem::replace(&mut entry.is_touched, true) {
            self.touched.push(*seat);
        }
        Some(&mut *entry.participant)
    }

    /// By seat, and so in the order of their joins.
    pub(super) fn keys(&self) -> btree_map::Keys<'_, Seat, Entry> {
        self.seats.keys()
    }

    /// By seat, and so in the order of their joins.
    pub(super) fn values(&self) -> Values<'_> {
        self.seats.values().map(|entry| &*entry.participant)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    /// The earliest moment of anybody's.
    pub(super) fn next_timeout(&mut self) -> Option<Instant> {
        self.update();
        let next = self.due.first().map(|(at, _)| *at);
        debug_assert_eq!(
            next,
            self.values().filter_map(Participant::next_timeout).min(),
            "every change goes through get_mut"
        );
        next
    }

    /// Whose moment has come, by seat.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Seat> {
        self.update();
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        let mut seats: Vec<Seat> = due.map(|(_, seat)| *seat).collect();
        seats.sort_unstable();
        seats
    }

    fn update(&mut self) {
        for seat in self.touched.drain(..) {
            let Some(entry) = self.seats.get_mut(&seat) else {
                continue;
            };
            entry.is_touched = false;
            let due = entry.participant.next_timeout();
            let before = std::mem::replace(&mut entry.due, due);
            if before == due {
                continue;
            }
            if let Some(at) = before {
                self.due.remove(&(at, seat));
            }
            if let Some(at) = due {
                self.due.insert((at, seat));
            }
        }
    }
}

#[cfg(test)]
impl std::ops::Index<&Seat> for Participants {
    type Output = Participant;

    fn index(&self, seat: &Seat) -> &Participant {
        &self.seats[seat].participant
    }
}
