//! Which event goes where next: one queue per room and receiver, in order, bounded, tried again with patience.
//!
//! Owned and driven by the task in [`super::sender`]. It sends nothing and reads no clock; time is an argument.
//!
//! LiveKit gives up after five tries; here an event is tried until it is too old, because a receiver that is
//! restarted is gone for longer than that.

use crate::random::Random;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Requests under way to one receiver; a room has at most one of them.
const AT_ONCE: usize = 4;
/// Events that wait for one receiver of the configuration: some 10 MB, of which receivers share what they have in
/// common. Each has its own bound, so that one that is gone takes nothing from the others.
const MAX_WAITING: usize = 4096;
/// Events that wait for one receiver that rooms name; there may be a thousand of those.
const MAX_WAITING_EXTRA: usize = 128;
/// The wait after the first failure; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The bounds of every queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Events that wait in one queue; the oldest gives way.
    pub(super) depth: usize,
    /// An event older than this is not tried again.
    pub(super) age: Duration,
    /// Receivers below this number are those of the configuration.
    pub(super) configured: usize,
}

/// One room's events for one receiver: the receiver's number and the room's name.
pub(super) type Key = (usize, Arc<str>);

/// What a try came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Taken.
    Delivered,
    /// The receiver does not want it and would not want it later.
    Refused,
    /// It may work another time.
    Failed,
}

/// What a receiver has become by a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It took the last event and did not take this one.
    Worse,
    /// It takes events again.
    Better,
}

/// What became of events so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Taken by their receiver.
    pub(super) delivered: u64,
    /// Not wanted by their receiver.
    pub(super) refused: u64,
    /// Tries that failed.
    pub(super) failed_tries: u64,
    /// Given up: too old, or too many waited.
    pub(super) dropped: u64,
}

#[derive(Debug)]
struct Queue<T> {
    /// With the moment each came in. Never empty between calls.
    events: VecDeque<(Instant, T)>,
    /// The first event is on its way.
    is_sending: bool,
    /// When the first event may be tried.
    due: Instant,
    /// Failed tries since the last success.
    failures: u32,
}

/// What is known of one receiver.
#[derive(Debug, Default)]
struct Receiver {
    /// Requests under way.
    sending: usize,
    /// Events that wait or are on their way.
    waiting: usize,
    /// The last try was no delivery.
    is_failing: bool,
}

/// All queues.
#[derive(Debug)]
pub(super) struct Queues<T> {
    bounds: Bounds,
    by_key: BTreeMap<Key, Queue<T>>,
    receivers: BTreeMap<usize, Receiver>,
    /// No event is tried twice any more.
    hurries: bool,
    random: Random,
    tally: Tally,
}

impl<T: Clone> Queues<T> {
    /// No queues yet.
    pub(super) fn new(bounds: Bounds, random: Random) -> Self {
        Self {
            bounds,
            by_key: BTreeMap::new(),
            receivers: BTreeMap::new(),
            hurries: false,
            random,
            tally: Tally::default(),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Events that wait or are on their way.
    pub(super) fn len(&self) -> usize {
        self.receivers.values().map(|one| one.waiting).sum()
    }

    /// Takes an event in for one receiver. Where too many wait, the oldest that is not on its way gives way; if there
    /// is none in this queue, the event itself.
    pub(super) fn push(&mut self, now: Instant, key: Key, event: T) {
        let max = if key.0 < self.bounds.configured {
            MAX_WAITING
        } else {
            MAX_WAITING_EXTRA
        };
        let receiver = self.receivers.entry(key.0).or_default();
        let is_full = receiver.waiting >= max;
        if is_full && !self.by_key.contains_key(&key) {
            self.tally.dropped += 1;
            return;
        }
        let queue = self.by_key.entry(key).or_insert_with(|| Queue {
            events: VecDeque::new(),
            is_sending: false,
            due: now,
            failures: 0,
        });
        queue.events.push_back((now, event));
        receiver.waiting += 1;
        if is_full || queue.events.len() > self.bounds.depth {
            queue.events.remove(usize::from(queue.is_sending));
            receiver.waiting -= 1;
            self.tally.dropped += 1;
        }
    }

    /// An event that gets no queue is given up.
    pub(super) fn drop_unseen(&mut self) {
        self.tally.dropped += 1;
    }

    /// Forgets a receiver that nothing waits for, so that another one may have its number. What is under way counts as
    /// waiting until [`Queues::done`]: no result comes for a number after this. `false`: it is busy.
    pub(super) fn forget_if_idle(&mut self, receiver: usize) -> bool {
        let known = self.receivers.get(&receiver);
        let is_idle = known.is_none_or(|one| one.waiting == 0);
        if is_idle {
            self.receivers.remove(&receiver);
        }
        is_idle
    }

    /// The next event to send, if one may be sent now. Its queue then waits for [`Queues::done`].
    pub(super) fn poll(&mut self, now: Instant) -> Option<(Key, T)> {
        self.expire(now);
        let (key, queue) = self
            .by_key
            .iter_mut()
            .filter(|((receiver, _), queue)| {
                !queue.is_sending && queue.due <= now && is_free(&self.receivers, *receiver)
            })
            .min_by_key(|(_, queue)| queue.due)?;
        queue.is_sending = true;
        self.receivers.entry(key.0).or_default().sending += 1;
        let (_, event) = queue.events.front().expect("no queue is empty");
        Some((key.clone(), event.clone()))
    }

    /// What became of the event that [`Queues::poll`] gave out for this queue. Says so when the receiver is no longer
    /// what it was.
    pub(super) fn done(&mut self, now: Instant, key: &Key, outcome: Outcome) -> Option<Turn> {
        let queue = self.by_key.get_mut(key).filter(|queue| queue.is_sending)?;
        queue.is_sending = false;
        let receiver = self.receivers.entry(key.0).or_default();
        receiver.sending -= 1;
        let was_failing = receiver.is_failing;
        receiver.is_failing = outcome != Outcome::Delivered;
        let turn = match (was_failing, receiver.is_failing) {
            (false, true) => Some(Turn::Worse),
            (true, false) => Some(Turn::Better),
            _ => None,
        };
        queue.due = now;
        let count = match outcome {
            Outcome::Delivered => &mut self.tally.delivered,
            Outcome::Refused => &mut self.tally.refused,
            Outcome::Failed => {
                self.tally.failed_tries += 1;
                if !self.hurries {
                    queue.failures += 1;
                    queue.due = now + wait(queue.failures, &mut self.random);
                    return turn;
                }
                &mut self.tally.dropped
            }
        };
        *count += 1;
        queue.failures = 0;
        queue.events.pop_front();
        receiver.waiting -= 1;
        if queue.events.is_empty() {
            self.by_key.remove(key);
        }
        turn
    }

    /// From now on everything is tried at once, and once.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.hurries = true;
        for queue in self.by_key.values_mut() {
            queue.due = queue.due.min(now);
        }
    }

    /// When [`Queues::poll`] may have something that it has not now; what is due but has to wait for a request under
    /// way comes with that request's end.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.by_key
            .iter()
            .filter(|((receiver, _), queue)| {
                !queue.is_sending && is_free(&self.receivers, *receiver)
            })
            .map(|(_, queue)| queue.due)
            .min()
    }

    /// Gives up what is too old. The first event is looked at when its time to be tried has come, so that a try is
    /// never cut short and no timer is needed.
    fn expire(&mut self, now: Instant) {
        let age = self.bounds.age;
        let mut dropped = 0;
        let receivers = &mut self.receivers;
        self.by_key.retain(|(receiver, _), queue| {
            if queue.is_sending || queue.due > now {
                return true;
            }
            let before = queue.events.len();
            while queue
                .events
                .front()
                .is_some_and(|(born, _)| now.saturating_duration_since(*born) > age)
            {
                queue.events.pop_front();
            }
            let gone = before - queue.events.len();
            receivers.entry(*receiver).or_default().waiting -= gone;
            dropped += gone as u64;
            !queue.events.is_empty()
        });
        self.tally.dropped += dropped;
    }
}

/// Whether a receiver may have one more request under way.
fn is_free(receivers: &BTreeMap<usize, Receiver>, receiver: usize) -> bool {
    receivers
        .get(&receiver)
        .is_none_or(|one| one.sending < AT_ONCE)
}

/// Half of it is chance, so that the rooms of a receiver that comes back do not come all at once.
fn wait(failures: u32, random: &mut Random) -> Duration {
    let doublings = failures.saturating_sub(1).min(5);
    let longest = (FIRST_WAIT * 2 * (1 << doublings)).min(LONGEST_WAIT);
    let half = longest / 2;
    half + Duration::from_micros(random.u64() % (half.as_micros() as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds {
        depth: 3,
        age: Duration::from_secs(60),
        configured: 2,
    };

    fn key(receiver: usize, room: &str) -> Key {
        (receiver, room.into())
    }

    fn queues() -> Queues<u32> {
        Queues::new(BOUNDS, Random::seeded(1))
    }

    /// Sends all that may be sent now, with one outcome.
    fn run(queues: &mut Queues<u32>, now: Instant, outcome: Outcome) -> Vec<u32> {
        let mut sent = Vec::new();
        while let Some((key, event)) = queues.poll(now) {
            sent.push(event);
            queues.done(now, &key, outcome);
        }
        sent
    }

    #[test]
    fn a_room_has_one_event_under_way_and_a_receiver_four() {
        let now = Instant::now();
        let mut queues = queues();
        for room in ["a", "b", "c", "d", "e"] {
            queues.push(now, key(0, room), 1);
            queues.push(now, key(0, room), 2);
        }
        queues.push(now, key(1, "a"), 3);
        let mut under_way = Vec::new();
        while let Some((key, event)) = queues.poll(now) {
            under_way.push((key.0, event));
        }
        under_way.sort_unstable();
        assert_eq!(
            under_way,
            [(0, 1), (0, 1), (0, 1), (0, 1), (1, 3)],
            "the fifth room waits for a place, the other receiver does not"
        );
        assert_eq!(queues.next_timeout(), None);
        queues.done(now, &key(0, "a"), Outcome::Delivered);
        assert!(queues.next_timeout().is_some());
        assert!(queues.poll(now).is_some());
    }

    #[test]
    fn failures_are_tried_again_later_and_later_until_too_old() {
        let start = Instant::now();
        let mut queues = queues();
        queues.push(start, key(0, "a"), 1);
        let mut now = start;
        let mut waits = Vec::new();
        loop {
            let sent = run(&mut queues, now, Outcome::Failed);
            let Some(due) = queues.next_timeout() else {
                assert!(sent.is_empty(), "given up, not tried again");
                break;
            };
            assert_eq!(sent, [1]);
            waits.push(due - now);
            now = due;
        }
        assert!(now - start > BOUNDS.age);
        for (index, wait) in waits.iter().enumerate() {
            let longest = Duration::from_secs(2 << index).min(LONGEST_WAIT);
            assert!(*wait >= longest / 2 && *wait <= longest, "{waits:?}");
        }
        let tally = queues.tally();
        assert_eq!((tally.dropped, tally.failed_tries), (1, waits.len() as u64));
        assert_eq!(queues.len(), 0);
    }

    #[test]
    fn the_oldest_that_is_not_under_way_gives_way() {
        let now = Instant::now();
        let mut queues = queues();
        queues.push(now, key(0, "a"), 0);
        assert_eq!(queues.poll(now).unwrap().1, 0);
        for event in 1..=4 {
            queues.push(now, key(0, "a"), event);
        }
        queues.done(now, &key(0, "a"), Outcome::Delivered);
        assert_eq!(run(&mut queues, now, Outcome::Delivered), [3, 4]);
        assert_eq!(queues.tally().dropped, 2);
    }

    #[test]
    fn what_is_refused_makes_way_for_the_next() {
        let now = Instant::now();
        let mut queues = queues();
        queues.push(now, key(0, "a"), 1);
        queues.push(now, key(0, "a"), 2);
        assert_eq!(run(&mut queues, now, Outcome::Refused), [1, 2]);
        assert_eq!(queues.tally().refused, 2);
    }

    #[test]
    fn in_a_hurry_everything_is_tried_at_once_and_once() {
        let now = Instant::now();
        let mut queues = queues();
        queues.push(now, key(0, "a"), 1);
        queues.push(now, key(0, "a"), 2);
        assert_eq!(run(&mut queues, now, Outcome::Failed), [1]);
        queues.hurry(now);
        assert_eq!(run(&mut queues, now, Outcome::Failed), [1, 2]);
        assert_eq!((queues.len(), queues.tally().dropped), (0, 2));
    }

    #[test]
    fn a_receiver_that_is_gone_fills_its_own_bound_and_nobody_elses() {
        let now = Instant::now();
        let mut queues = queues();
        for (receiver, max) in [(0, MAX_WAITING), (2, MAX_WAITING_EXTRA)] {
            let dropped = queues.tally().dropped;
            for room in 0..max + 10 {
                queues.push(now, key(receiver, &room.to_string()), 1);
            }
            queues.push(now, key(receiver, "0"), 2);
            assert_eq!(queues.tally().dropped - dropped, 11);
        }
        assert_eq!(queues.len(), MAX_WAITING + MAX_WAITING_EXTRA);
        let dropped = queues.tally().dropped;
        for receiver in [1, 3] {
            queues.push(now, key(receiver, "new"), 1);
        }
        assert_eq!(queues.tally().dropped, dropped);
    }

    #[test]
    fn a_receivers_first_failure_and_its_return_are_told_once() {
        let mut now = Instant::now();
        let mut queues = queues();
        let mut turns = Vec::new();
        for room in ["a", "b"] {
            queues.push(now, key(0, room), 1);
        }
        for outcome in [Outcome::Failed, Outcome::Failed, Outcome::Delivered] {
            while let Some((key, _)) = queues.poll(now) {
                turns.push(queues.done(now, &key, outcome));
            }
            now += LONGEST_WAIT;
        }
        assert_eq!(turns.len(), 6);
        turns.retain(Option::is_some);
        assert_eq!(turns, [Some(Turn::Worse), Some(Turn::Better)]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize, u8),
        Poll,
        Done(usize, Outcome),
        Wait(u64),
        Forget(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let outcome = prop_oneof![
            2 => Just(Outcome::Delivered),
            1 => Just(Outcome::Refused),
            3 => Just(Outcome::Failed),
        ];
        prop_oneof![
            4 => (0..2_usize, 0..3_u8).prop_map(|(receiver, room)| Step::Push(receiver, room)),
            4 => Just(Step::Poll),
            3 => (0..8_usize, outcome).prop_map(|(which, outcome)| Step::Done(which, outcome)),
            2 => (0..40_000_u64).prop_map(Step::Wait),
            1 => (0..2_usize).prop_map(Step::Forget),
        ]
    }

    proptest! {
        /// Whatever happens, every receiver sees a room's events in their order (a repetition is of the newest one
        /// it saw), one at a time, and every event is accounted for.
        #[test]
        fn order_and_number_are_kept(steps in prop::collection::vec(step(), 1..200)) {
            let start = Instant::now();
            let mut now = start;
            let mut queues = queues();
            let mut next = 0;
            let mut pushed = 0;
            let mut under_way: Vec<(Key, u32)> = Vec::new();
            let mut seen: BTreeMap<Key, u32> = BTreeMap::new();
            let mut over: Vec<(Key, u32)> = Vec::new();
            for step in steps {
                match step {
                    Step::Push(receiver, room) => {
                        next += 1;
                        pushed += 1;
                        queues.push(now, key(receiver, &room.to_string()), next);
                    }
                    Step::Poll => {
                        if let Some((key, event)) = queues.poll(now) {
                            prop_assert!(under_way.iter().all(|(other, _)| *other != key));
                            let last = seen.insert(key.clone(), event).unwrap_or(0);
                            prop_assert!(event >= last, "{event} came after {last}");
                            prop_assert!(!over.contains(&(key.clone(), event)), "{event} was over");
                            under_way.push((key, event));
                        }
                    }
                    Step::Done(which, outcome) => {
                        if !under_way.is_empty() {
                            let (key, event) = under_way.remove(which % under_way.len());
                            queues.done(now, &key, outcome);
                            if outcome != Outcome::Failed {
                                over.push((key, event));
                            }
                        }
                    }
                    Step::Wait(ms) => now += Duration::from_millis(ms),
                    Step::Forget(receiver) => {
                        let is_idle = queues.by_key.keys().all(|(other, _)| *other != receiver);
                        prop_assert_eq!(queues.forget_if_idle(receiver), is_idle);
                        prop_assert!(!is_idle || under_way.iter().all(|((other, _), _)| *other != receiver));
                    }
                }
                let tally = queues.tally();
                let gone = tally.delivered + tally.refused + tally.dropped;
                prop_assert_eq!(gone + queues.len() as u64, pushed);
                prop_assert!(queues.len() <= 6 * BOUNDS.depth);
            }
            for (key, _) in under_way {
                queues.done(now, &key, Outcome::Delivered);
            }
            now += LONGEST_WAIT;
            run(&mut queues, now, Outcome::Delivered);
            prop_assert_eq!(queues.len(), 0);
            prop_assert!(queues.by_key.is_empty() && queues.next_timeout().is_none());
        }
    }
}
