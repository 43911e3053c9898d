//! Wakes a worker from its sleep in epoll: once, however many have something for it.

use mio::{Registry, Token, Waker};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by everyone who leaves something in a worker's channels.
#[derive(Debug)]
pub(super) struct Doorbell {
    waker: Waker,
    rung: AtomicBool,
}

impl Doorbell {
    /// A doorbell that shows as `token` in the worker's poll.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self {
            waker: Waker::new(registry, token)?,
            rung: AtomicBool::new(false),
        })
    }

    /// To be called after something was put into a channel of the worker. One system call for the first ring since
    /// the worker last looked, none for the others.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst)
            && let Err(error) = self.waker.wake()
        {
            // Only a closed poll refuses; then the worker has ended.
            tracing::debug!(%error, "a worker cannot be woken");
        }
    }

    /// To be called by the worker before it empties its channels: what comes later rings again.
    pub(super) fn clear(&self) -> bool {
        self.rung.swap(false, Ordering::SeqCst)
    }
}
