//! Pods that wait for a node: ready ones by priority then age, ones that back off, and parked ones that wait for a change in the cluster.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::{PodInfo, Uid};
use crate::cycle::Plugins;

/// A parked pod is tried again after this long whatever happens, should a wake-up be missing.
const LONGEST_PARK: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    pub initial: Duration,
    pub max: Duration,
}

impl Backoff {
    fn after(self, attempts: u32) -> Duration {
        self.initial.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(self.max)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready,
    Backoff(Instant),
    Parked {
        plugins: Plugins,
        since: Instant,
    },
    /// Popped; its binding is under way.
    InFlight,
}

struct Entry {
    pod: Arc<PodInfo>,
    /// Order of arrival.
    sequence: u64,
    attempts: u32,
    failed_at: Option<Instant>,
    place: Place,
}

pub struct Queue {
    backoff: Backoff,
    entries: HashMap<Uid, Entry>,
    ready: BTreeSet<(Reverse<i32>, u64, Uid)>,
    next_sequence: u64,
}

impl Queue {
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, entries: HashMap::new(), ready: BTreeSet::new(), next_sequence: 0 }
    }

    /// Adds a pod, or replaces what is known of it without changing its place.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        let uid = pod.uid.clone();
        if let Some(entry) = self.entries.get_mut(&uid) {
            let was_ready = entry.place == Place::Ready;
            let old = (Reverse(entry.pod.priority()), entry.sequence, uid);
            entry.pod = pod;
            if was_ready && self.ready.remove(&old) {
                self.ready.insert((Reverse(entry.pod.priority()), old.1, old.2));
            }
            return;
        }
        self.next_sequence += 1;
        let entry = Entry { pod, sequence: self.next_sequence, attempts: 0, failed_at: None, place: Place::InFlight };
        self.entries.insert(uid.clone(), entry);
        self.make_ready(&uid);
    }

    pub fn remove(&mut self, uid: &str) {
        if let Some(entry) = self.entries.remove(uid) {
            self.ready.remove(&(Reverse(entry.pod.priority()), entry.sequence, uid.to_owned()));
        }
    }

    pub fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.entries.get(uid).map(|entry| &entry.pod)
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next pod to try; it stays known as being in flight until it is removed, parked or retried.
    pub fn pop(&mut self) -> Option<Arc<PodInfo>> {
        let (_, _, uid) = self.ready.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        entry.place = Place::InFlight;
        entry.attempts += 1;
        Some(Arc::clone(&entry.pod))
    }

    /// No node takes the pod until something changes that one of `plugins` looks at.
    pub fn park(&mut self, uid: &str, plugins: Plugins, now: Instant) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.failed_at = Some(now);
            entry.place = Place::Parked { plugins, since: now };
        }
    }

    /// An error, not a refusal: try again after the back-off.
    pub fn retry(&mut self, uid: &str, now: Instant) {
        let backoff = self.backoff;
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.failed_at = Some(now);
            entry.place = Place::Backoff(now + backoff.after(entry.attempts));
        }
    }

    /// The cluster changed in a way that may help pods which these plugins refused.
    pub fn wake(&mut self, changed: Plugins, now: Instant) {
        let concerned =
            |entry: &Entry| matches!(entry.place, Place::Parked { plugins, .. } if plugins.intersects(changed));
        let uids: Vec<Uid> =
            self.entries.iter().filter(|(_, entry)| concerned(entry)).map(|(uid, _)| uid.clone()).collect();
        for uid in uids {
            self.wake_one(&uid, now);
        }
    }

    /// Lets one parked pod try again as soon as its back-off allows.
    pub fn wake_one(&mut self, uid: &str, now: Instant) {
        let backoff = self.backoff;
        let Some(entry) = self.entries.get_mut(uid) else { return };
        if !matches!(entry.place, Place::Parked { .. }) {
            return;
        }
        let due = entry.failed_at.map_or(now, |failed| failed + backoff.after(entry.attempts));
        if due <= now { self.make_ready(uid) } else { entry.place = Place::Backoff(due) }
    }

    /// Readies what has waited long enough.
    pub fn tick(&mut self, now: Instant) {
        let due: Vec<Uid> = self
            .entries
            .iter()
            .filter(|(_, entry)| due(entry).is_some_and(|due| due <= now))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in due {
            self.make_ready(&uid);
        }
    }

    /// When [`Queue::tick`] has something to do.
    pub fn next_due(&self) -> Option<Instant> {
        self.entries.values().filter_map(due).min()
    }

    fn make_ready(&mut self, uid: &str) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.place = Place::Ready;
            self.ready.insert((Reverse(entry.pod.priority()), entry.sequence, uid.to_owned()));
        }
    }
}

fn due(entry: &Entry) -> Option<Instant> {
    match entry.place {
        Place::Backoff(due) => Some(due),
        Place::Parked { since, .. } => Some(since + LONGEST_PARK),
        Place::Ready | Place::InFlight => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::cycle::Plugin;
    use crate::testing::pod;
    use serde_json::json;

    fn queue() -> Queue {
        Queue::new(Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(10) })
    }

    fn info(name: &str, priority: i32) -> Arc<PodInfo> {
        Arc::new(PodInfo::new(pod(name, json!({"priority": priority})).into()))
    }

    #[test]
    fn priority_then_age() {
        let mut queue = queue();
        for (name, priority) in [("old", 0), ("young", 0), ("high", 5)] {
            queue.add(info(name, priority));
        }
        queue.add(info("young", 1));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|pod| pod.name.clone()).collect();
        assert_eq!(order, ["high", "young", "old"]);
    }

    #[test]
    fn parked_pods_wake_for_their_reasons_after_the_backoff() {
        let mut queue = queue();
        let start = Instant::now();
        queue.add(info("p", 0));
        queue.pop().unwrap();
        queue.park("p", Plugins::of(&[Plugin::NodeResourcesFit]), start);
        queue.wake(Plugins::of(&[Plugin::VolumeBinding]), start + Duration::from_secs(5));
        assert!(!queue.has_ready());
        queue.wake(Plugins::of(&[Plugin::NodeResourcesFit]), start);
        assert!(!queue.has_ready(), "it backs off");
        assert_eq!(queue.next_due(), Some(start + Duration::from_secs(1)));
        queue.tick(start + Duration::from_secs(1));
        assert!(queue.pop().is_some());
        queue.park("p", Plugins::of(&[Plugin::NodeResourcesFit]), start);
        queue.wake(Plugins::ALL, start + Duration::from_secs(3));
        assert!(queue.has_ready(), "two seconds have passed");
        queue.remove("p");
        assert!(!queue.has_ready() && queue.pop().is_none());
    }

    #[test]
    fn errors_back_off_longer_each_time() {
        let mut queue = queue();
        let now = Instant::now();
        queue.add(info("p", 0));
        for seconds in [1, 2, 4, 8, 10, 10] {
            queue.pop().unwrap();
            queue.retry("p", now);
            assert_eq!(queue.next_due(), Some(now + Duration::from_secs(seconds)));
            queue.tick(now + Duration::from_secs(seconds));
        }
    }
}
