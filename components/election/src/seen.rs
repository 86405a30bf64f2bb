//! The Lease as it was seen last, and since when it is so, by the clock of this process.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::Instant;

use crate::lease;

#[derive(Default)]
pub struct Seen(Option<(Lease, Instant)>);

impl Seen {
    pub fn lease(&self) -> Option<&Lease> {
        self.0.as_ref().map(|(lease, _)| lease)
    }

    /// Whether it is another one than was seen last.
    pub fn note(&mut self, lease: Lease, now: Instant) -> bool {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        let same = self.lease().is_some_and(|seen| version(seen) == version(&lease));
        if !same {
            self.0 = Some((lease, now));
        }
        !same
    }

    pub fn gone(&mut self) {
        self.0 = None;
    }

    /// When it is free if nothing changes.
    pub fn free_at(&self, default: Duration) -> Option<Instant> {
        self.0.as_ref().map(|(lease, at)| *at + lease::duration(lease, default))
    }

    /// Whether one on this host may take it: it is nobody's, or has run out, or was held here before.
    pub fn may_be_taken(&self, host: &str, default: Duration, now: Instant) -> bool {
        let Some(lease) = self.lease() else { return false };
        let holder = lease::holder(lease);
        holder.is_empty() || lease::host_of(holder) == host || self.free_at(default).is_some_and(|at| now >= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_count_and_only_by_our_clock() {
        const LASTS: Duration = Duration::from_secs(4);
        let version = |version: &str| {
            let mut lease = lease::new("l", "a_1", LASTS);
            lease.metadata.resource_version = Some(version.into());
            lease
        };
        let begin = Instant::now();
        let second = |n| begin + Duration::from_secs(n);
        let mut seen = Seen::default();
        assert!(seen.note(version("1"), begin));
        let free = |seen: &Seen, at| seen.may_be_taken("b", LASTS, second(at));
        assert!(!free(&seen, 0));
        assert!(seen.may_be_taken("a", LASTS, begin), "its own of before");
        assert!(!seen.note(version("1"), second(3)), "the same again is no sign of life");
        assert!(!free(&seen, 3) && free(&seen, 4));
        assert!(seen.note(version("2"), second(4)));
        assert!(!free(&seen, 4));
        assert!(seen.note(lease::released(&version("3")), second(4)));
        assert!(free(&seen, 4), "given back");
        seen.gone();
        assert!(!free(&seen, 9), "who sees none makes one, and does not take one");
    }
}
