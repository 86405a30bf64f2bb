//! A work queue of keys: each key is queued once, never processed twice at once, retried with exponential back-off, and can
//! be scheduled for later. Waiting is by notification or the nearest deadline, never by polling.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::informer::Key;

const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_secs(60);

#[derive(Default)]
struct State {
    ready: VecDeque<Key>,
    waiting: HashSet<Key>,
    processing: HashSet<Key>,
    again: HashSet<Key>,
    failures: HashMap<Key, u32>,
    deadlines: BTreeSet<(Instant, Key)>,
    deadline_of: HashMap<Key, Instant>,
}

impl State {
    fn add(&mut self, key: Key) {
        if self.processing.contains(&key) {
            self.again.insert(key);
        } else if self.waiting.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn move_due(&mut self, now: Instant) {
        while self.deadlines.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.deadlines.pop_first() {
                self.deadline_of.remove(&key);
                self.add(key);
            }
        }
    }
}

#[derive(Default)]
pub struct WorkQueue {
    state: Mutex<State>,
    notify: Notify,
}

impl WorkQueue {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub fn add(&self, key: Key) {
        self.state.lock().add(key);
        self.notify.notify_one();
    }

    /// Queues the key after `delay`, or earlier if it was already scheduled earlier.
    pub fn add_after(&self, key: Key, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay;
        let mut state = self.state.lock();
        match state.deadline_of.get(&key).copied() {
            Some(earlier) if earlier <= at => return,
            Some(later) => {
                state.deadlines.remove(&(later, key.clone()));
            }
            None => {}
        }
        state.deadline_of.insert(key.clone(), at);
        state.deadlines.insert((at, key));
        drop(state);
        self.notify.notify_one();
    }

    async fn next(&self) -> Key {
        loop {
            let deadline = {
                let mut state = self.state.lock();
                state.move_due(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.waiting.remove(&key);
                    state.processing.insert(key.clone());
                    // Several may have become due at once while only one worker was woken.
                    if !state.ready.is_empty() {
                        self.notify.notify_one();
                    }
                    return key;
                }
                state.deadlines.first().map(|(at, _)| *at)
            };
            match deadline {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, self.notify.notified()).await;
                }
                None => self.notify.notified().await,
            }
        }
    }

    fn done(&self, key: Key, success: bool) {
        let mut state = self.state.lock();
        state.processing.remove(&key);
        let again = state.again.remove(&key);
        if success {
            state.failures.remove(&key);
        }
        if again {
            state.add(key.clone());
        }
        let retry = (!success).then(|| {
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures += 1;
            FIRST_RETRY.saturating_mul(1 << (*failures - 1).min(20)).min(LAST_RETRY)
        });
        drop(state);
        if again {
            self.notify.notify_one();
        }
        if let Some(delay) = retry {
            self.add_after(key, delay);
        }
    }

    /// Spawns `workers` workers that call `sync` for each key. A panic costs one attempt, not the worker.
    pub fn work<F, Fut>(
        self: &Arc<Self>,
        tasks: &mut JoinSet<()>,
        name: &'static str,
        workers: usize,
        ready: impl Future<Output = ()> + Send + 'static,
        sync: F,
    ) where
        F: Fn(Key) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let queue = self.clone();
        let sync = Arc::new(sync);
        tasks.spawn(async move {
            ready.await;
            let mut pool = JoinSet::new();
            for _ in 0..workers {
                let (queue, sync) = (queue.clone(), sync.clone());
                pool.spawn(async move {
                    loop {
                        let key = queue.next().await;
                        let outcome = AssertUnwindSafe(sync(key.clone())).catch_unwind().await;
                        let success = report(name, &key, outcome);
                        queue.done(key, success);
                    }
                });
            }
            while pool.join_next().await.is_some() {}
        });
    }
}

/// Logs how a sync ended; false if it has to be tried again.
fn report(controller: &str, key: &Key, outcome: std::thread::Result<anyhow::Result<()>>) -> bool {
    match outcome {
        Ok(Ok(())) => return true,
        // Nothing can be made there any more; what is there goes, and that wakes whoever cares.
        Ok(Err(error)) if super::meta::is_namespace_terminating(&error) => return true,
        // Somebody else wrote first: expected, and the next attempt reads the newer object.
        Ok(Err(error)) if super::meta::is_conflict(&error) => {
            tracing::debug!(controller, %key, "lost a write race; retrying")
        }
        Ok(Err(error)) => {
            tracing::warn!(controller, %key, error = format!("{error:#}"), "sync failed; retrying with back-off")
        }
        Err(_) => tracing::error!(controller, %key, "sync panicked; retrying with back-off"),
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("ns", name)
    }

    #[tokio::test]
    async fn keys_are_deduplicated_and_rerun_after_a_change_during_processing() {
        let queue = WorkQueue::new();
        queue.add(key("a"));
        queue.add(key("a"));
        let first = queue.next().await;
        queue.add(key("a"));
        assert!(tokio::time::timeout(Duration::from_millis(20), queue.next()).await.is_err(), "never twice at once");
        queue.done(first, true);
        let second = tokio::time::timeout(Duration::from_secs(1), queue.next()).await.unwrap();
        queue.done(second, true);
        assert!(tokio::time::timeout(Duration::from_millis(20), queue.next()).await.is_err());
    }

    #[tokio::test]
    async fn failures_back_off_and_the_earlier_deadline_wins() {
        let queue = WorkQueue::new();
        queue.add(key("a"));
        for expected in [5, 10, 20] {
            let taken = queue.next().await;
            let before = Instant::now();
            queue.done(taken, false);
            let taken = queue.next().await;
            assert!(before.elapsed() >= Duration::from_millis(expected));
            queue.state.lock().processing.clear();
            queue.add(taken);
        }
        let queue = WorkQueue::new();
        queue.add_after(key("b"), Duration::from_secs(90));
        queue.add_after(key("b"), Duration::from_millis(20));
        queue.add_after(key("b"), Duration::from_secs(50));
        let before = Instant::now();
        queue.next().await;
        assert!(before.elapsed() >= Duration::from_millis(20));
        assert!(before.elapsed() < Duration::from_secs(40));
    }
}
