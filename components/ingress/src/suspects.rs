//! Endpoints that could not be reached a moment ago: those of a dead node stay in their slices until the cluster has noticed, which
//! takes it 40 s. Meanwhile they are tried last.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Then an endpoint is tried in its turn again.
const REST: Duration = Duration::from_secs(5);

#[derive(Clone, Default)]
pub struct Suspects(Arc<Mutex<HashMap<SocketAddr, Instant>>>);

impl Suspects {
    pub fn add(&self, endpoint: SocketAddr) {
        self.add_at(Instant::now(), endpoint);
    }

    fn add_at(&self, now: Instant, endpoint: SocketAddr) {
        let mut suspects = self.0.lock();
        suspects.retain(|_, since| now.duration_since(*since) < REST);
        suspects.insert(endpoint, now);
    }

    /// It answered.
    pub fn clear(&self, endpoint: SocketAddr) {
        let mut suspects = self.0.lock();
        if !suspects.is_empty() {
            suspects.remove(&endpoint);
        }
    }

    /// The endpoints in the order in which to try them: from the `turn`-th on, suspects last.
    pub fn order(&self, endpoints: &[SocketAddr], turn: usize) -> Vec<SocketAddr> {
        self.order_at(Instant::now(), endpoints, turn)
    }

    fn order_at(&self, now: Instant, endpoints: &[SocketAddr], turn: usize) -> Vec<SocketAddr> {
        let suspects = self.0.lock();
        let is_suspect = |it: &SocketAddr| suspects.get(it).is_some_and(|since| now.duration_since(*since) < REST);
        let turned = endpoints.iter().cycle().skip(turn % endpoints.len().max(1)).take(endpoints.len());
        let (last, mut first): (Vec<_>, Vec<_>) = turned.copied().partition(is_suspect);
        first.extend(last);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_could_not_be_reached_is_last_for_a_while() {
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
        let (suspects, now) = (Suspects::default(), Instant::now());
        let order = |turn| suspects.order_at(now, &[a, b, c], turn);
        assert_eq!(order(4), [b, c, a]);
        suspects.add_at(now, b);
        assert_eq!(order(4), [c, a, b]);
        suspects.add_at(now, c);
        suspects.clear(b);
        assert_eq!(order(0), [a, b, c]);
        assert_eq!(order(2), [a, b, c]);
        assert_eq!(suspects.order_at(now + REST, &[a, b, c], 2), [c, a, b]);
        assert!(suspects.order(&[], 7).is_empty());
    }
}
