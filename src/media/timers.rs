//! Which piece of a plane wants to be woken when: one ordered queue for a worker, no scan and no tick.
//!
//! An entry is cheap to leave behind: whoever is woken looks at its own state and says anew when it wants to be woken
//! next. A later wish than the one that stands changes nothing, so a packet costs one comparison here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Whom to wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// A down track, by its place.
    Down(u32),
    /// A transport, by its place.
    Transport(u32),
}

/// The wish of one piece, kept beside its state.
#[derive(Debug, Clone, Copy, Default)]
pub struct Armed(Option<Instant>);

/// The queue.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Wake)>>,
}

impl Timers {
    /// Wakes `wake` at `at` unless it is woken earlier anyway.
    pub fn arm(&mut self, armed: &mut Armed, wake: Wake, at: Instant) {
        if armed.0.is_some_and(|set| set <= at) {
            return;
        }
        armed.0 = Some(at);
        self.heap.push(Reverse((at, wake)));
    }

    /// When the next one is due; may be too early, never too late.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next one that is due. It must be passed through [`Armed::fired`] before it acts.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, Wake)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

impl Armed {
    /// `true` when an entry that fell due is the wish that stands; it is used up then.
    pub fn fired(&mut self, at: Instant) -> bool {
        let is_mine = self.0 == Some(at);
        if is_mine {
            self.0 = None;
        }
        is_mine
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_earlier_wish_replaces_a_later_one_and_fires_once() {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut timers = Timers::default();
        let mut armed = Armed::default();
        timers.arm(&mut armed, Wake::Down(1), ms(50));
        timers.arm(&mut armed, Wake::Down(1), ms(80));
        timers.arm(&mut armed, Wake::Down(1), ms(20));
        assert_eq!(timers.next(), Some(ms(20)));
        assert_eq!(timers.pop(ms(19)), None);
        let mut fired = Vec::new();
        while let Some((at, wake)) = timers.pop(ms(100)) {
            assert_eq!(wake, Wake::Down(1));
            if armed.fired(at) {
                fired.push(at);
            }
        }
        assert_eq!(fired, [ms(20)]);
        timers.arm(&mut armed, Wake::Down(1), ms(120));
        assert_eq!(timers.next(), Some(ms(120)));
    }
}
