//! Which servers a new connection tries, in which order.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::server::Server;

/// Those that are ready first; among equals the own host's, then the one with the fewest connections through it. Those in trouble
/// come last: when no other is left, their own answer tells more than none. `turn` spreads what is still equal.
pub fn order(servers: &[Arc<Server>], turn: usize) -> Vec<Arc<Server>> {
    let count = servers.len().max(1);
    let mut order: Vec<(usize, &Arc<Server>)> = servers.iter().enumerate().collect();
    order.sort_by_key(|(place, server)| (server.state(), Reverse(server.own), server.load(), (place + turn) % count));
    order.into_iter().map(|(_, server)| server.clone()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::server::State;

    #[test]
    fn ready_then_own_then_idle() {
        // an address of this host, and two of TEST-NET-3
        let addresses = ["203.0.113.1:1", "203.0.113.2:1", "127.0.0.1:1"];
        let servers: Vec<Arc<Server>> =
            addresses.iter().map(|it| Arc::new(Server::new(it.parse().unwrap(), CancellationToken::new()))).collect();
        let first = |turn| order(&servers, turn)[0].address.to_string();
        for server in &servers {
            server.set(State::Ready, "");
        }
        assert_eq!(first(0), "127.0.0.1:1");
        servers[2].set(State::Unready, "");
        assert_ne!(first(0), first(2), "in turns");
        let busy = servers[0].connection();
        assert_eq!((first(0), first(1)), ("203.0.113.2:1".into(), "203.0.113.2:1".into()));
        drop(busy);
        servers[0].set(State::Lost, "");
        servers[1].set(State::Lost, "");
        assert_eq!(first(0), "127.0.0.1:1", "better than nothing");
        assert_eq!(order(&servers, 0).len(), 3);
        assert!(order(&[], 0).is_empty());
    }
}
