//! Brings the kernel to the desired table.

use std::net::Ipv4Addr;

use anyhow::Context;
use netlink::{IgnoreMissing, conntrack, nftables};

use crate::stale::stale;
use crate::table::{Desired, UdpFront};

/// Remembers what the kernel has, so that the next change carries only the difference.
#[derive(Default)]
pub struct Syncer {
    /// `None`: unknown, at the start and after a failure; then the whole table is exchanged.
    current: Option<nftables::Table>,
    udp: Vec<UdpFront>,
}

impl Syncer {
    pub fn apply(&mut self, desired: Desired, node_ip: Ipv4Addr) -> anyhow::Result<()> {
        let table = desired.table;
        match self.current.take() {
            None => nftables::replace(&table),
            Some(current) => nftables::update(&current, &table).map(drop).or_else(|error| {
                tracing::warn!(%error, "an update of the nftables table failed; exchanging the whole table");
                nftables::replace(&table)
            }),
        }
        .context("cannot write the proxy's nftables table")?;
        self.current = Some(table);
        if desired.udp != self.udp {
            forget_stale(&desired.udp, node_ip);
            self.udp = desired.udp;
        }
        Ok(())
    }
}

/// A flow that cannot be forgotten ends by its own timeout, so this only warns.
fn forget_stale(fronts: &[UdpFront], node_ip: Ipv4Addr) {
    let result = conntrack::udp_flows().and_then(|flows| {
        stale(&flows, fronts, node_ip).into_iter().try_for_each(|flow| conntrack::delete(flow).ignore_missing())
    });
    if let Err(error) = result {
        tracing::warn!(%error, "cannot forget tracked UDP flows to endpoints that are gone");
    }
}
