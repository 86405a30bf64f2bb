//! What pods send out of the cluster carries the node's address.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use netlink::nftables::{self, ChainKind, Expr, Hook, Table, matches::*};

pub const TABLE: &str = "kinstall-masq";
const MULTICAST: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4);

fn table(cluster: Ipv4Net) -> Table {
    let mut table = Table::new(TABLE);
    let leaving =
        rule([source_in(cluster), destination_not_in(cluster), destination_not_in(MULTICAST), vec![Expr::Masquerade]]);
    // After the Service proxy and the host ports (95, 100), which know better.
    table.base_chain("postrouting", ChainKind::Nat, Hook::Postrouting, 105, vec![leaving]);
    table
}

pub fn ensure(cluster: Ipv4Net) -> netlink::Result<()> {
    nftables::replace(&table(cluster))
}
