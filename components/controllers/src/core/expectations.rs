//! What a controller has asked for but not yet seen in its cache. While something is expected it neither creates nor deletes,
//! so a lagging cache cannot make it do so twice. (client-go: ControllerExpectations.)

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A watch event that never came must not block an owner for ever.
const TIMEOUT: Duration = Duration::from_secs(300);

struct Expected {
    creates: i64,
    deletes: HashSet<String>,
    since: Instant,
}

/// Keyed by the owner's uid, so that an owner recreated under the same name starts afresh.
#[derive(Default)]
pub struct Expectations(Mutex<HashMap<String, Expected>>);

impl Expectations {
    pub fn satisfied(&self, owner: &str) -> bool {
        self.satisfied_at(owner, Instant::now())
    }

    fn satisfied_at(&self, owner: &str, now: Instant) -> bool {
        let mut all = self.0.lock();
        match all.get(owner) {
            Some(expected) if expected.creates > 0 || !expected.deletes.is_empty() => {
                let late = now.saturating_duration_since(expected.since) > TIMEOUT;
                if late {
                    all.remove(owner);
                }
                late
            }
            _ => true,
        }
    }

    pub fn expect_creates(&self, owner: &str, count: usize) {
        self.with(owner, |expected| expected.creates += count as i64);
    }

    pub fn expect_delete(&self, owner: &str, uid: &str) {
        self.with(owner, |expected| {
            expected.deletes.insert(uid.to_owned());
        });
    }

    pub fn created(&self, owner: &str) {
        if let Some(expected) = self.0.lock().get_mut(owner) {
            expected.creates -= 1;
        }
    }

    pub fn deleted(&self, owner: &str, uid: &str) {
        if let Some(expected) = self.0.lock().get_mut(owner) {
            expected.deletes.remove(uid);
        }
    }

    pub fn forget(&self, owner: &str) {
        self.0.lock().remove(owner);
    }

    fn with(&self, owner: &str, change: impl FnOnce(&mut Expected)) {
        let mut all = self.0.lock();
        let fresh = || Expected { creates: 0, deletes: HashSet::new(), since: Instant::now() };
        let expected = all.entry(owner.to_owned()).or_insert_with(fresh);
        // Observations that arrived with nothing expected must not be credited to this round.
        expected.creates = expected.creates.max(0);
        expected.since = Instant::now();
        change(expected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_until_seen_or_timed_out() {
        let expectations = Expectations::default();
        assert!(expectations.satisfied("u"));
        expectations.expect_creates("u", 2);
        expectations.created("u");
        assert!(!expectations.satisfied("u"));
        expectations.created("u");
        assert!(expectations.satisfied("u"));
        expectations.expect_delete("u", "p");
        assert!(!expectations.satisfied("u"));
        expectations.deleted("u", "other");
        assert!(!expectations.satisfied("u"));
        expectations.deleted("u", "p");
        assert!(expectations.satisfied("u"));
        expectations.expect_creates("u", 1);
        assert!(!expectations.satisfied_at("u", Instant::now()));
        assert!(expectations.satisfied_at("u", Instant::now() + TIMEOUT + Duration::from_secs(1)));
    }
}
