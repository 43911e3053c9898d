//! Signals, and the time that a stop may take.

use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A stop takes no longer: Home Assistant kills after 10 s, Docker too, and clients wait for nothing.
pub(super) const DEADLINE: Duration = Duration::from_millis(4_500);

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they no longer end the process by themselves.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// How a stop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// In its own order.
    Done,
    /// A second signal came.
    Interrupted,
    /// The deadline came.
    Late,
}

/// Runs the stop until it is done, the deadline has passed, or a second signal says that it is enough.
pub(super) async fn within(
    deadline: Duration,
    stop: impl Future<Output = ()>,
    signals: &mut Signals,
) -> Outcome {
    tokio::select! {
        () = stop => Outcome::Done,
        () = tokio::time::sleep(deadline) => Outcome::Late,
        () = signals.next() => Outcome::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_that_hangs_is_cut_short() {
        let mut signals = Signals::listen().unwrap();
        let short = Duration::from_millis(5);
        let hanging = within(short, std::future::pending(), &mut signals).await;
        assert_eq!(hanging, Outcome::Late);
        let quick = within(DEADLINE, async {}, &mut signals).await;
        assert_eq!(quick, Outcome::Done);
    }
}
