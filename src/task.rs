//! The tasks of the process: every one named, tracked, told to stop, and waited for.
//!
//! [`Tasks::spawn`] is the only way to start a task. The supervisor starts the stop with [`Tasks::shutdown`];
//! a task learns of it from [`Tasks::cancelled`] and ends in its own order. What has not ended at the deadline
//! is aborted and named.

use futures_util::FutureExt;
use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A share in the process's tasks; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// True once the stop has begun.
    stopping: watch::Sender<bool>,
    /// How many tasks run.
    count: watch::Sender<usize>,
    /// The first task that panicked.
    failure: watch::Sender<Option<&'static str>>,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    tasks: HashMap<u64, Task>,
}

#[derive(Debug)]
struct Task {
    name: &'static str,
    /// `None` for the moment between its entry here and its start.
    abort: Option<AbortHandle>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                stopping: watch::Sender::new(false),
                count: watch::Sender::new(0),
                failure: watch::Sender::new(None),
                running: Mutex::default(),
            }),
        }
    }

    /// Starts a task. `name` says in the log what did not stop or what panicked.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let id = {
            let mut running = self.shared.running();
            let id = running.next;
            running.next += 1;
            running.tasks.insert(id, Task { name, abort: None });
            id
        };
        self.shared.count.send_modify(|count| *count += 1);
        let entry = Entry {
            shared: Arc::clone(&self.shared),
            id,
            name,
        };
        #[expect(clippy::disallowed_methods, reason = "this is where tasks are tracked")]
        let handle = tokio::spawn(
            // An async block would hold the future twice: as what it captured and as what it awaits.
            AssertUnwindSafe(future)
                .catch_unwind()
                .map(move |end| entry.close(end.is_err())),
        );
        // The task may have ended already; then there is nothing left to abort.
        if let Some(task) = self.shared.running().tasks.get_mut(&id) {
            task.abort = Some(handle.abort_handle());
        }
    }

    /// Completes when the stop begins; at once when it has begun.
    pub async fn cancelled(&self) {
        let mut stopping = self.shared.stopping.subscribe();
        stopping
            .wait_for(|stopping| *stopping)
            .await
            .expect("the sender lives in self");
    }

    /// Whether the stop has begun.
    pub fn is_cancelled(&self) -> bool {
        *self.shared.stopping.borrow()
    }

    /// Begins the stop and does not wait.
    pub fn cancel(&self) {
        self.shared.stopping.send_replace(true);
    }

    /// Completes with the name of the first task that panicked.
    pub async fn failure(&self) -> &'static str {
        let mut failure = self.shared.failure.subscribe();
        failure
            .wait_for(Option::is_some)
            .await
            .expect("the sender lives in self")
            .expect("waited for")
    }

    /// How many tasks run.
    pub fn len(&self) -> usize {
        *self.shared.count.borrow()
    }

    /// Whether no task runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins the stop and waits for every task at most `deadline`; then aborts the rest and returns their names.
    pub async fn shutdown(&self, deadline: Duration) -> Vec<&'static str> {
        self.cancel();
        let mut count = self.shared.count.subscribe();
        if tokio::time::timeout(deadline, count.wait_for(|count| *count == 0))
            .await
            .is_ok()
        {
            return Vec::new();
        }
        let mut left: Vec<_> = self
            .shared
            .running()
            .tasks
            .values()
            .map(|task| {
                if let Some(abort) = &task.abort {
                    abort.abort();
                }
                task.name
            })
            .collect();
        left.sort_unstable();
        left
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, Running> {
        // No code that holds the lock can panic halfway through a change.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lives as long as its task, and strikes it off the list however it ends.
struct Entry {
    shared: Arc<Shared>,
    id: u64,
    name: &'static str,
}

impl Entry {
    /// The task ended by itself.
    fn close(self, by_panic: bool) {
        if by_panic {
            self.shared
                .failure
                .send_modify(|failure| *failure = failure.or(Some(self.name)));
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.running().tasks.remove(&self.id);
        self.shared.count.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shutdown_waits_for_tasks_that_end_by_themselves() {
        let tasks = Tasks::new();
        for _ in 0..3 {
            let own = tasks.clone();
            tasks.spawn("polite", async move {
                own.cancelled().await;
                tokio::task::yield_now().await;
            });
        }
        assert_eq!(tasks.len(), 3);
        assert!(tasks.shutdown(Duration::from_secs(1)).await.is_empty());
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn a_task_that_ignores_the_stop_is_aborted_and_named() {
        let tasks = Tasks::new();
        tasks.spawn("stubborn", std::future::pending());
        let own = tasks.clone();
        tasks.spawn("polite", async move { own.cancelled().await });
        assert_eq!(
            tasks.shutdown(Duration::from_millis(20)).await,
            vec!["stubborn"]
        );
        let mut count = tasks.shared.count.subscribe();
        count.wait_for(|count| *count == 0).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_reported_by_the_name_of_its_task() {
        let tasks = Tasks::new();
        tasks.spawn("broken", async { assert_eq!(1, 2, "on purpose") });
        assert_eq!(tasks.failure().await, "broken");
        assert!(tasks.shutdown(Duration::from_secs(1)).await.is_empty());
    }

    #[tokio::test]
    async fn a_task_started_during_the_stop_sees_it_at_once() {
        let tasks = Tasks::new();
        tasks.cancel();
        assert!(tasks.is_cancelled());
        tasks.cancelled().await;
    }
}
