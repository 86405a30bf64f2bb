//! The other servers, and since when each one's Lease is as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use store::Revision;
use tokio::time::Instant;

use super::lease::Other;

/// After so much silence beyond its end a Lease is nobody's any more (upstream's `IdentityLeaseGCPeriod`).
const FORGOTTEN: Duration = Duration::from_secs(3600);

#[derive(Default)]
pub struct Members {
    seen: BTreeMap<String, Seen>,
}

struct Seen {
    revision: Revision,
    end: Instant,
    /// It was when last looked at.
    alive: bool,
}

impl Members {
    /// The addresses of those that are alive. One that is seen for the first time is if `believed` (absent: everybody) has its
    /// address: a Lease may be left from a server that is long gone.
    pub fn live(
        &mut self,
        others: impl Iterator<Item = Other>,
        believed: Option<&BTreeSet<IpAddr>>,
        now: Instant,
    ) -> BTreeSet<IpAddr> {
        let mut before = std::mem::take(&mut self.seen);
        let mut addresses = BTreeSet::new();
        for other in others {
            let end = match before.remove(&other.server) {
                Some(seen) if seen.revision == other.revision => seen.end,
                None if believed.is_some_and(|it| !it.contains(&other.address)) => now,
                _ => now + other.lasts,
            };
            let alive = end > now;
            if alive {
                addresses.insert(other.address);
            }
            self.seen.insert(other.server, Seen { revision: other.revision, end, alive });
        }
        addresses
    }

    /// Gives those that were alive more time: what kept this server from renewing may have kept them from it, too.
    pub fn postpone(&mut self, by: Duration) {
        self.seen.values_mut().filter(|seen| seen.alive).for_each(|seen| seen.end += by);
    }

    pub fn is_alone(&self) -> bool {
        !self.seen.values().any(|seen| seen.alive)
    }

    /// Servers that went without a goodbye, long ago, and the revision of each one's Lease.
    pub fn forgotten(&self, now: Instant) -> Vec<(String, Revision)> {
        let long_gone = self.seen.iter().filter(|(_, seen)| now.saturating_duration_since(seen.end) >= FORGOTTEN);
        long_gone.map(|(server, seen)| (server.clone(), seen.revision)).collect()
    }

    /// When the first of those that are alive is dead if it does not renew.
    pub fn next_end(&self, now: Instant) -> Option<Instant> {
        self.seen.values().map(|seen| seen.end).filter(|end| *end > now).min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_was_silent_for_an_hour_is_forgotten() {
        let other = |server: &str, revision| Other {
            server: server.into(),
            address: "10.0.0.1".parse().unwrap(),
            lasts: Duration::from_secs(4),
            revision,
        };
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut members = Members::default();
        members.live([other("dead", 1), other("alive", 2)].into_iter(), None, begin);
        members.live([other("dead", 1), other("alive", 9)].into_iter(), None, at(3600));
        assert!(members.forgotten(at(3600)).is_empty(), "its Lease ended four seconds after the start");
        assert_eq!(members.forgotten(at(3604)), [("dead".to_owned(), 1)]);
        members.live([other("alive", 10)].into_iter(), None, at(3605));
        assert!(members.forgotten(at(3605)).is_empty(), "it was deleted");
    }

    #[test]
    fn who_does_not_renew_is_dead_until_it_does() {
        let other = |server: &str, revision| Other {
            server: server.into(),
            address: format!("10.0.0.{}", server.len()).parse().unwrap(),
            lasts: Duration::from_secs(4),
            revision,
        };
        let mut members = Members::default();
        let begin = Instant::now();
        let mut live = |second, list: &[Other]| {
            let now = begin + Duration::from_secs(second);
            let addresses = members.live(list.iter().cloned(), None, now);
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            (addresses.join(" "), members.is_alone(), members.next_end(now).map(|end| end - now))
        };
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(live(0, &[]), (String::new(), true, None));
        assert_eq!(live(0, &[other("a", 1), other("bb", 2)]), ("10.0.0.1 10.0.0.2".into(), false, seconds(4)));
        assert_eq!(live(3, &[other("a", 3), other("bb", 2)]), ("10.0.0.1 10.0.0.2".into(), false, seconds(1)));
        assert_eq!(live(4, &[other("a", 3), other("bb", 2)]), ("10.0.0.1".into(), false, seconds(3)));
        assert_eq!(live(4, &[other("a", 3), other("bb", 4)]), ("10.0.0.1 10.0.0.2".into(), false, seconds(3)));
        assert_eq!(live(4, &[other("bb", 4)]), ("10.0.0.2".into(), false, seconds(4)), "who leaves is gone at once");

        let mut members = Members::default();
        let mut live = |second: u64, list: &[Other], late: u64| {
            members.postpone(Duration::from_secs(late));
            members.live(list.iter().cloned(), None, begin + Duration::from_secs(second)).len()
        };
        assert_eq!(live(0, &[other("a", 1), other("bb", 1)], 0), 2);
        assert_eq!(live(9, &[other("a", 1), other("bb", 2)], 6), 2, "nobody could renew for six seconds");
        assert_eq!(live(10, &[other("a", 1), other("bb", 3)], 0), 1, "a has had its time");
        assert_eq!(live(20, &[other("a", 1), other("bb", 4)], 20), 1, "and is not called alive again");

        let believed = BTreeSet::from(["10.0.0.2".parse().unwrap()]);
        let mut members = Members::default();
        let mut first = |list: &[Other]| members.live(list.iter().cloned(), Some(&believed), begin).len();
        assert_eq!(first(&[other("a", 1), other("bb", 2)]), 1, "a is left from before");
        assert_eq!(first(&[other("a", 3), other("bb", 2)]), 2, "or was only late");
    }
}
