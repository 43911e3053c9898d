//! Which piece of a plane wants to be woken when: one ordered queue for a worker, no scan and no tick.
//!
//! Each piece has one entry at most. A wish that moves to a later time takes its entry along: an entry left behind would
//! wake a sleeping thread for nothing, which costs five hundred times what moving it does.

use std::collections::BTreeSet;
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
    entries: BTreeSet<(Instant, Wake)>,
}

impl Timers {
    /// Wakes `wake` at `at` unless it is woken earlier anyway. Where a packet wants something of its own; one comparison
    /// when it does not matter.
    pub fn arm(&mut self, armed: &mut Armed, wake: Wake, at: Instant) {
        if armed.0.is_none_or(|set| at < set) {
            self.set(armed, wake, Some(at));
        }
    }

    /// Wakes `wake` at `at` and not before; `None`: not at all.
    pub fn set(&mut self, armed: &mut Armed, wake: Wake, at: Option<Instant>) {
        if armed.0 == at {
            return;
        }
        if let Some(set) = armed.0 {
            self.entries.remove(&(set, wake));
        }
        armed.0 = at;
        self.entries.extend(at.map(|at| (at, wake)));
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Instant> {
        self.entries.first().map(|(at, _)| *at)
    }

    /// The next one that is due. It must be passed through [`Armed::fired`] before it acts, which uses the wish up.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, Wake)> {
        if self.next()? > now {
            return None;
        }
        self.entries.pop_first()
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
        assert_eq!(timers.pop(ms(100)), Some((ms(20), Wake::Down(1))));
        assert!(armed.fired(ms(20)));
        assert_eq!(timers.pop(ms(100)), None);
        timers.arm(&mut armed, Wake::Down(1), ms(120));
        assert_eq!(timers.next(), Some(ms(120)));
    }

    #[test]
    fn a_wish_that_is_put_off_wakes_nobody_before_its_time() {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut timers = Timers::default();
        let (mut one, mut two) = (Armed::default(), Armed::default());
        timers.set(&mut one, Wake::Transport(1), Some(ms(20)));
        timers.set(&mut two, Wake::Transport(2), Some(ms(30)));
        timers.set(&mut one, Wake::Transport(1), Some(ms(50)));
        assert_eq!(timers.next(), Some(ms(30)));
        timers.set(&mut two, Wake::Transport(2), None);
        assert_eq!(timers.next(), Some(ms(50)));
        assert_eq!(timers.pop(ms(60)), Some((ms(50), Wake::Transport(1))));
        assert!(!two.fired(ms(30)));
        assert_eq!(timers.next(), None);
    }

    /// No piece goes without its entry. If one did, the one that gets its place would have its own wish.
    #[test]
    fn an_entry_that_is_nobody_s_does_not_fire() {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut timers = Timers::default();
        timers.set(&mut Armed::default(), Wake::Transport(1), Some(ms(20)));
        let mut successor = Armed::default();
        timers.set(&mut successor, Wake::Transport(1), Some(ms(40)));
        let (at, _) = timers.pop(ms(60)).unwrap();
        assert!(!successor.fired(at));
        let (at, _) = timers.pop(ms(60)).unwrap();
        assert!(successor.fired(at));
    }
}
