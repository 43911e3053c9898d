//! How busy each worker is, and which one takes the next participant.

use crate::ids::WorkerId;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A worker above this share of its time takes no more of a room that began on it.
const BUSY: u32 = 600;
/// Loads within this many thousandths are alike; then the number of transports decides.
const ALIKE: u32 = 50;
/// Over which time a load is measured.
const WINDOW: Duration = Duration::from_secs(1);
/// A worker that has not measured for this long slept all the time.
const STALE: Duration = Duration::from_secs(3);

/// What one worker publishes about itself.
#[derive(Debug)]
pub(super) struct Load {
    start: Instant,
    /// Thousandths of the last window that the worker was awake.
    permille: AtomicU32,
    /// Milliseconds from `start` to the end of that window.
    measured_ms: AtomicU64,
    transports: AtomicUsize,
}

impl Load {
    pub(super) fn new(start: Instant) -> Self {
        Self {
            start,
            permille: AtomicU32::new(0),
            measured_ms: AtomicU64::new(0),
            transports: AtomicUsize::new(0),
        }
    }

    pub(super) fn set_transports(&self, count: usize) {
        self.transports.store(count, Ordering::Relaxed);
    }

    /// Thousandths of the last second.
    pub(super) fn permille(&self, now: Instant) -> u32 {
        let measured = Duration::from_millis(self.measured_ms.load(Ordering::Relaxed));
        if now.saturating_duration_since(self.start + measured) > STALE {
            0
        } else {
            self.permille.load(Ordering::Relaxed)
        }
    }
}

/// The worker's own side: adds up its turns.
#[derive(Debug)]
pub(super) struct Meter {
    window: Instant,
    awake: Duration,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            window: now,
            awake: Duration::ZERO,
        }
    }

    /// A turn from `woke` to `now`. The worker sleeps after it.
    pub(super) fn turn(&mut self, woke: Instant, now: Instant, load: &Load) {
        self.awake += now.saturating_duration_since(woke);
        let passed = now.saturating_duration_since(self.window);
        if passed < WINDOW {
            return;
        }
        let permille = self.awake.as_micros() * 1000 / passed.as_micros().max(1);
        load.permille
            .store(permille.min(1000) as u32, Ordering::Relaxed);
        let measured = now.saturating_duration_since(load.start);
        load.measured_ms
            .store(measured.as_millis() as u64, Ordering::Relaxed);
        self.window = now;
        self.awake = Duration::ZERO;
    }
}

/// The worker for a participant of a room that lives at `home`: there, until it is busy; else the least busy one.
/// `turn` counts placements: it spreads rooms over workers that are alike.
pub(super) fn place(
    loads: &[&Load],
    home: Option<WorkerId>,
    turn: usize,
    now: Instant,
) -> WorkerId {
    let at_home = home.filter(|home| {
        loads
            .get(usize::from(home.0))
            .is_some_and(|load| load.permille(now) <= BUSY)
    });
    if let Some(home) = at_home {
        return home;
    }
    let count = loads.len();
    let least = (0..count).min_by_key(|&index| {
        let load = loads[index];
        let transports = load.transports.load(Ordering::Relaxed);
        let distance = (index + count - turn % count) % count;
        (load.permille(now) / ALIKE, transports, distance)
    });
    WorkerId(least.map_or(0, |index| index as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A load measured over the first second.
    fn load(start: Instant, permille: u64, transports: usize) -> Load {
        let load = Load::new(start);
        load.set_transports(transports);
        let mut meter = Meter::new(start);
        let asleep = WINDOW.saturating_sub(Duration::from_millis(permille));
        meter.turn(start + asleep, start + WINDOW, &load);
        load
    }

    #[test]
    fn load_is_the_share_of_the_window_and_fades_when_asleep() {
        let start = crate::net::now();
        let load = Load::new(start);
        let mut meter = Meter::new(start);
        let at = |ms| start + Duration::from_millis(ms);
        meter.turn(at(0), at(200), &load);
        assert_eq!(load.permille(at(200)), 0);
        meter.turn(at(900), at(1000), &load);
        assert_eq!(load.permille(at(1000)), 300);
        meter.turn(at(1000), at(2000), &load);
        assert_eq!(load.permille(at(2000)), 1000);
        assert_eq!(load.permille(at(4900)), 1000);
        assert_eq!(load.permille(at(5100)), 0);
    }

    #[test]
    fn a_room_stays_at_home_until_its_worker_is_busy() {
        let start = crate::net::now();
        let now = start + WINDOW;
        let (calm, busy, idle) = (
            load(start, 600, 9),
            load(start, 601, 1),
            load(start, 100, 5),
        );
        let loads = [&calm, &busy, &idle];
        assert_eq!(place(&loads, Some(WorkerId(0)), 0, now), WorkerId(0));
        assert_eq!(place(&loads, Some(WorkerId(1)), 0, now), WorkerId(2));
        assert_eq!(place(&loads, None, 0, now), WorkerId(2));
        assert_eq!(place(&loads, Some(WorkerId(77)), 0, now), WorkerId(2));
    }

    #[test]
    fn alike_workers_differ_by_transports_and_then_take_turns() {
        let start = crate::net::now();
        let now = start + WINDOW;
        let (one, two) = (load(start, 20, 3), load(start, 40, 2));
        assert_eq!(place(&[&one, &two], None, 0, now), WorkerId(1));
        let (one, two) = (load(start, 0, 0), load(start, 0, 0));
        let turns: Vec<_> = (0..4)
            .map(|turn| place(&[&one, &two], None, turn, now).0)
            .collect();
        assert_eq!(turns, [0, 1, 0, 1]);
    }
}
