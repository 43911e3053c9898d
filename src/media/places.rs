//! Numbers of a source mapped to numbers of what is sent: gapless where something was left out on purpose, with a
//! place kept for what may still come late, and with room for what the server puts in between.
//!
//! Shared by the rewriting of sequence numbers and of VP8 picture ids. The memory of it is a bit for each of the last
//! `64 * WORDS` numbers and a handful of insertions: fixed, and nothing is allocated.

/// Runs of insertions that are remembered; numbers from before the oldest are refused.
const INSERTIONS: usize = 4;

/// Where a number of the source goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// To this number.
    At(u64),
    /// Nowhere: it was left out.
    LeftOut,
    /// It is from before the source began or before what is remembered.
    TooOld,
}

/// The mapping.
#[derive(Debug, Clone)]
pub(super) struct Places<const WORDS: usize> {
    /// A bit for each number of the source that has no place.
    left_out: [u64; WORDS],
    /// One past the highest number of the source; `None` before there is a source.
    end: Option<u64>,
    /// Lower ones are refused.
    floor: u64,
    /// The next number to send.
    next: u64,
    /// Insertions: before which number of the source, and how many.
    inserted: [(u64, u64); INSERTIONS],
    insertions: usize,
}

impl<const WORDS: usize> Places<WORDS> {
    /// How many numbers are remembered.
    const WINDOW: u64 = 64 * WORDS as u64;
    /// A larger hole is a source that began anew: no places are kept for it.
    const MAX_HOLE: u64 = Self::WINDOW - 24;

    /// Without a source; `next` is the first number to send.
    pub(super) fn new(next: u64) -> Self {
        Self {
            left_out: [0; WORDS],
            end: None,
            floor: 0,
            next,
            inserted: [(0, 0); INSERTIONS],
            insertions: 0,
        }
    }

    /// The next number to send.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// From now on the source is another one, and `first` is its first number.
    pub(super) fn restart(&mut self, first: u64) {
        self.end = Some(first);
        self.floor = first;
        self.insertions = 0;
    }

    /// The place of a number of the source.
    pub(super) fn place(&mut self, number: u64) -> Place {
        let Some(end) = self.end else {
            return Place::TooOld;
        };
        if number >= end {
            self.advance(end, number);
            self.next += 1;
            return Place::At(self.next - 1);
        }
        if number < self.floor || end - number > Self::WINDOW {
            return Place::TooOld;
        }
        if self.is_left_out(number) {
            return Place::LeftOut;
        }
        let kept = (end - number) - self.left_out_in(number, end);
        let inserted: u64 = self.inserted[..self.insertions]
            .iter()
            .filter(|(before, _)| *before > number)
            .map(|(_, count)| count)
            .sum();
        Place::At(self.next - inserted - kept)
    }

    /// Leaves a number of the source out. `false`: a place was kept for it already and stays empty.
    pub(super) fn leave_out(&mut self, number: u64) -> bool {
        let Some(end) = self.end else {
            return true;
        };
        if number < end {
            return end - number <= Self::WINDOW && self.is_left_out(number);
        }
        self.advance(end, number);
        self.left_out[Self::word(number)] |= 1 << (number % 64);
        true
    }

    /// Takes the next number for something that is not of the source.
    pub(super) fn insert(&mut self) -> u64 {
        if let Some(end) = self.end {
            match self.inserted[..self.insertions].last_mut() {
                Some((before, count)) if *before == end => *count += 1,
                _ => {
                    if self.insertions == INSERTIONS {
                        self.floor = self.floor.max(self.inserted[0].0);
                        self.inserted.rotate_left(1);
                        self.insertions -= 1;
                    }
                    self.inserted[self.insertions] = (end, 1);
                    self.insertions += 1;
                }
            }
        }
        self.next += 1;
        self.next - 1
    }

    /// Keeps places for what is missing from `end` up to `number`, which is the highest now.
    fn advance(&mut self, end: u64, number: u64) {
        let hole = number - end;
        if hole > Self::MAX_HOLE {
            self.restart(number);
            self.left_out = [0; WORDS];
        } else {
            self.next += hole;
            for number in end..=number {
                self.left_out[Self::word(number)] &= !(1 << (number % 64));
            }
        }
        self.end = Some(number + 1);
    }

    fn word(number: u64) -> usize {
        (number / 64 % WORDS as u64) as usize
    }

    fn is_left_out(&self, number: u64) -> bool {
        self.left_out[Self::word(number)] >> (number % 64) & 1 == 1
    }

    /// How many of `from..end` are left out; at most a window of them.
    fn left_out_in(&self, from: u64, end: u64) -> u64 {
        let mut count = 0;
        let mut at = from;
        while at < end {
            let within = at % 64;
            let take = (64 - within).min(end - at);
            let bits = self.left_out[Self::word(at)] >> within;
            let bits = if take == 64 {
                bits
            } else {
                bits & ((1 << take) - 1)
            };
            count += u64::from(bits.count_ones());
            at += take;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// The same, remembering everything.
    struct Model {
        places: BTreeMap<u64, Option<u64>>,
        end: Option<u64>,
        next: u64,
    }

    impl Model {
        fn reach(&mut self, number: u64) {
            let end = self.end.unwrap();
            if number - end > 64 * 4 - 24 {
                self.places.clear();
            } else {
                for missing in end..number {
                    self.places.insert(missing, Some(self.next));
                    self.next += 1;
                }
            }
            self.end = Some(number + 1);
        }

        fn place(&mut self, number: u64) -> Place {
            if self.end.is_some_and(|end| number >= end) {
                self.reach(number);
                self.places.insert(number, Some(self.next));
                self.next += 1;
            }
            match self.places.get(&number) {
                Some(Some(sent)) => Place::At(*sent),
                Some(None) => Place::LeftOut,
                None => Place::TooOld,
            }
        }

        fn leave_out(&mut self, number: u64) {
            if self.end.is_some_and(|end| number >= end) {
                self.reach(number);
                self.places.insert(number, None);
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Place(i64),
        LeaveOut(i64),
        Insert,
        Restart(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let near = prop_oneof![6 => 0i64..2, 3 => -20i64..5, 1 => -300i64..300];
        prop_oneof![
            8 => near.clone().prop_map(Step::Place),
            4 => near.prop_map(Step::LeaveOut),
            1 => Just(Step::Insert),
            1 => (0u64..1_000_000).prop_map(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn it_maps_as_one_that_remembers_everything(
            steps in prop::collection::vec(step(), 0..600),
            begin in prop::option::of(0u64..100_000),
        ) {
            let mut places = Places::<4>::new(7);
            let mut model = Model { places: BTreeMap::new(), end: None, next: 7 };
            if let Some(first) = begin {
                places.restart(first);
                model.end = Some(first);
            }
            for step in steps {
                let at = |ahead: i64| (model.end.unwrap_or(500) as i64 + ahead).max(0) as u64;
                match step {
                    Step::Place(ahead) => {
                        let number = at(ahead);
                        let expected = model.place(number);
                        match places.place(number) {
                            // It may forget, but not what is younger than the window and the last insertions.
                            Place::TooOld if expected != Place::TooOld => prop_assert!(
                                number < places.floor || number + 256 < model.end.unwrap()
                            ),
                            found => prop_assert_eq!(found, expected),
                        }
                    }
                    Step::LeaveOut(ahead) => {
                        let number = at(ahead);
                        places.leave_out(number);
                        model.leave_out(number);
                    }
                    Step::Insert => {
                        prop_assert_eq!(places.insert(), model.next);
                        model.next += 1;
                    }
                    Step::Restart(first) => {
                        places.restart(first);
                        model.places.clear();
                        model.end = Some(first);
                    }
                }
                prop_assert_eq!(places.next(), model.next);
            }
        }
    }

    #[test]
    fn the_oldest_insertions_are_forgotten_with_what_came_before_them() {
        let mut places = Places::<1>::new(0);
        places.restart(10);
        for number in 10..16 {
            places.place(number);
            places.insert();
        }
        // Six runs of insertions, four remembered: before 13, 14, 15 and 16.
        assert_eq!(places.place(11), Place::TooOld);
        assert_eq!(places.place(12), Place::At(4));
        assert_eq!(places.place(15), Place::At(10));
    }
}
