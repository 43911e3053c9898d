use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn seqs(munger: &mut Munger, numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
    numbers
        .into_iter()
        .map(|seq| munger.rewrite(seq, 0).unwrap().seq)
        .collect()
}

#[test]
fn the_first_source_begins_at_the_given_numbers() {
    let mut munger = Munger::new(500, 9_000);
    assert_eq!(munger.rewrite(70_000, 1), Err(Refusal::TooOld));
    munger.switch(70_000, 123_456, 77);
    let first = munger.rewrite(70_000, 123_456).unwrap();
    assert_eq!((first.seq, first.timestamp), (500, 9_000));
    let second = munger.rewrite(70_001, 126_456).unwrap();
    assert_eq!((second.seq, second.timestamp), (501, 12_000));
}

#[test]
fn a_late_packet_takes_its_place_once() {
    let mut munger = Munger::new(0, 0);
    munger.switch(100, 0, 0);
    assert_eq!(seqs(&mut munger, [100, 103, 101, 102]), [0, 3, 1, 2]);
    assert_eq!(munger.rewrite(102, 0), Err(Refusal::Duplicate));
    assert_eq!(munger.rewrite(103, 0), Err(Refusal::Duplicate));
}

#[test]
fn what_is_left_out_leaves_no_gap() {
    let mut munger = Munger::new(0, 0);
    munger.switch(100, 0, 0);
    assert_eq!(seqs(&mut munger, [100]), [0]);
    assert!(munger.leave_out(101) && munger.leave_out(103));
    assert_eq!(seqs(&mut munger, [104, 102]), [2, 1]);
    assert_eq!(munger.rewrite(101, 0), Err(Refusal::LeftOut));
}

#[test]
fn a_place_that_is_left_out_late_stays_empty() {
    let mut munger = Munger::new(0, 0);
    munger.switch(100, 0, 0);
    assert_eq!(seqs(&mut munger, [100, 102]), [0, 2]);
    assert!(!munger.leave_out(101));
    assert_eq!(munger.rewrite(101, 0), Err(Refusal::Duplicate));
    assert_eq!(seqs(&mut munger, [103]), [3]);
}

#[test]
fn another_source_goes_on_one_number_and_at_least_one_tick_later() {
    let mut munger = Munger::new(0, 1_000);
    munger.switch(100, 50_000, 0);
    munger.rewrite(100, 50_000).unwrap();
    munger.rewrite(101, 53_000).unwrap();
    munger.switch(9, u32::MAX, 3_100);
    assert_eq!(
        munger.rewrite(9, u32::MAX),
        Ok(Rewritten {
            seq: 2,
            timestamp: 7_100
        })
    );
    assert_eq!(munger.rewrite(10, 2).unwrap().timestamp, 7_103);
    assert_eq!(munger.rewrite(8, 0), Err(Refusal::TooOld));
    munger.switch(40, 5, 0);
    assert_eq!(munger.rewrite(40, 5).unwrap().timestamp, 7_104);
}

#[test]
fn inserted_packets_take_the_next_number_and_late_ones_keep_theirs() {
    let mut munger = Munger::new(0, 0);
    munger.switch(100, 0, 0);
    assert_eq!(seqs(&mut munger, [100, 102]), [0, 2]);
    assert_eq!(munger.insert(0).seq, 3);
    assert_eq!(munger.insert(960).seq, 4);
    assert_eq!(munger.timestamp(), 960);
    assert_eq!(seqs(&mut munger, [101, 103]), [1, 5]);
}

#[test]
fn silence_may_come_before_any_source() {
    let mut munger = Munger::new(7, 40);
    assert_eq!(
        munger.insert(960),
        Rewritten {
            seq: 7,
            timestamp: 40
        }
    );
    munger.switch(3, 0, 960);
    assert_eq!(
        munger.rewrite(3, 0),
        Ok(Rewritten {
            seq: 8,
            timestamp: 1_000
        })
    );
}

#[test]
fn an_old_packet_does_not_turn_the_clock_back() {
    let mut munger = Munger::new(0, 0);
    munger.switch(100, 0, 0);
    munger.rewrite(100, 0).unwrap();
    munger.rewrite(102, 6_000).unwrap();
    assert_eq!(munger.rewrite(101, 3_000).unwrap().timestamp, 3_000);
    assert_eq!(munger.timestamp(), 6_000);
}

#[test]
fn a_jump_of_thousands_is_closed() {
    let mut munger = Munger::new(0, 0);
    munger.switch(100, 0, 0);
    assert_eq!(seqs(&mut munger, [100, 50_000, 50_001]), [0, 1, 2]);
    assert_eq!(munger.rewrite(49_999, 0), Err(Refusal::TooOld));
}

/// The same, remembering everything since the last switch.
#[derive(Default)]
struct Model {
    places: BTreeMap<u64, u64>,
    taken: BTreeSet<u64>,
    left_out: BTreeSet<u64>,
    end: u64,
    next: u64,
}

impl Model {
    fn reach(&mut self, seq: u64) {
        for missing in self.end..seq {
            self.places.insert(missing, self.next);
            self.next += 1;
        }
        self.end = self.end.max(seq + 1);
    }

    fn rewrite(&mut self, seq: u64) -> Result<u64, Refusal> {
        if seq >= self.end {
            self.reach(seq);
            self.places.insert(seq, self.next);
            self.next += 1;
        }
        if self.left_out.contains(&seq) {
            return Err(Refusal::LeftOut);
        }
        let place = *self.places.get(&seq).ok_or(Refusal::TooOld)?;
        if self.taken.insert(seq) {
            Ok(place)
        } else {
            Err(Refusal::Duplicate)
        }
    }

    fn leave_out(&mut self, seq: u64) {
        if seq >= self.end {
            self.reach(seq);
            self.left_out.insert(seq);
        } else if !self.left_out.contains(&seq) {
            self.taken.insert(seq);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert,
    LeaveOut(i64),
    Rewrite(i64),
    Switch(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let near = prop_oneof![8 => Just(0i64), 4 => -30i64..6, 1 => -900i64..60];
    prop_oneof![
        12 => near.clone().prop_map(Step::Rewrite),
        4 => near.prop_map(Step::LeaveOut),
        1 => Just(Step::Insert),
        1 => (65_000u64..70_000).prop_map(Step::Switch),
    ]
}

proptest! {
    #[test]
    fn it_rewrites_as_one_that_remembers_everything(
        start in 0u16..=u16::MAX,
        first in 65_000u64..70_000,
        steps in prop::collection::vec(step(), 0..900),
    ) {
        let mut munger = Munger::new(start, 5);
        let mut model = Model { end: first, next: u64::from(start), ..Model::default() };
        munger.switch(first, 0, 0);
        let mut sent = BTreeSet::new();
        for step in steps {
            let at = |ahead: i64| (model.end as i64 + ahead) as u64;
            match step {
                Step::Rewrite(ahead) => {
                    let seq = at(ahead);
                    let expected = model.rewrite(seq);
                    let found = munger.rewrite(seq, seq as u32 * 10).map(|rewritten| rewritten.seq);
                    // It may have forgotten what came before old insertions.
                    if found != Err(Refusal::TooOld) || expected == Err(Refusal::TooOld) {
                        prop_assert_eq!(found, expected);
                    } else {
                        prop_assert!(seq + 1 < model.end);
                    }
                    if let Ok(seq) = found {
                        prop_assert!(sent.insert(seq), "{} sent twice", seq);
                    }
                }
                Step::LeaveOut(ahead) => {
                    let seq = at(ahead);
                    munger.leave_out(seq);
                    model.leave_out(seq);
                }
                Step::Insert => {
                    let inserted = munger.insert(0).seq;
                    prop_assert_eq!(inserted, model.next);
                    prop_assert!(sent.insert(inserted));
                    model.next += 1;
                }
                Step::Switch(first) => {
                    munger.switch(first, 0, 1);
                    model = Model { end: first, next: model.next, ..Model::default() };
                }
            }
            prop_assert_eq!(munger.next_seq(), model.next);
        }
    }
}
