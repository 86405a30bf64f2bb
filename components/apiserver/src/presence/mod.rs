//! Which API servers there are: each keeps a Lease of its identity (KEP-1965), and the endpoints of `default/kubernetes` are the
//! addresses of all whose Lease is alive (as upstream's `lease` endpoint reconciler, whose leases are etcd's own).
//!
//! Every server writes the same endpoints from the same Leases, so it does not matter who does. Whether a Lease is alive is
//! judged by the clock of who looks, from when it was last seen to change: clocks of hosts are never compared. What is there is
//! read anew before anything is concluded from its age, and who could not renew for a while gives the others as much more time: a server
//! that is cut off from the store removes nobody, nor does the first that is back after the store was away.

mod endpoints;
mod lease;
mod members;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use futures::StreamExt;
use store::{EventKind, RangeRequest, Revision, WatchItem};
use tokio::time::Instant;

use crate::{
    bootstrap,
    core::Core,
    registry::{self, Write, WriteError},
};
use members::Members;

/// How often a Lease is renewed, and how long it is good for: where there are others, and where there are none who wait for it.
#[derive(Clone, Copy)]
struct Pace {
    renew: Duration,
    lasts: Duration,
}

const AMONG_OTHERS: Pace = Pace { renew: Duration::from_secs(1), lasts: Duration::from_secs(4) };
const ALONE: Pace = Pace { renew: Duration::from_secs(10), lasts: Duration::from_secs(40) };
/// How long a graceful end waits for the store.
const LEAVE: Duration = Duration::from_secs(2);

/// This server among the others.
pub struct Presence {
    /// `<name>_<random>`: every process has its own.
    holder: String,
    /// Where it really listens.
    port: u16,
    members: Members,
    /// When to renew next.
    due: Instant,
    /// When this server renewed last.
    renewed: Instant,
}

impl Presence {
    /// Announces this server and takes it into the endpoints.
    pub async fn join(core: &Arc<Core>, port: u16) -> anyhow::Result<Self> {
        let holder = format!("{}_{}", core.name, uuid::Uuid::new_v4());
        let now = Instant::now();
        let mut presence = Presence { holder, port, members: Members::default(), due: now, renewed: now };
        presence.addresses(core, true, Some(&endpoints::published(core).await?)).await?;
        presence.renew(core).await?;
        presence.publish(core, true).await?;
        Ok(presence)
    }

    fn pace(&self) -> Pace {
        if self.members.is_alone() { ALONE } else { AMONG_OTHERS }
    }

    /// Keeps both up until the server leaves, then takes it out, unless it is the last: then nobody else could answer, and whoever
    /// waits for it finds it where it was.
    pub async fn keep(mut self, core: Arc<Core>) {
        while !core.leaving.is_cancelled() {
            tokio::select! {
                () = core.leaving.cancelled() => {}
                ended = self.follow(&core) => if let Err(error) = ended {
                    tracing::warn!("this server's presence is not kept up: {error:#}");
                    let _ = tokio::time::timeout(AMONG_OTHERS.renew, core.leaving.cancelled()).await;
                },
            }
        }
        match tokio::time::timeout(LEAVE, self.leave(&core)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!("this server stays among the endpoints until its Lease runs out: {error:#}")
            }
            Err(_) => tracing::warn!(
                "this server stays among the endpoints until its Lease runs out: no answer from the store"
            ),
        }
    }

    async fn follow(&mut self, core: &Arc<Core>) -> anyhow::Result<()> {
        let mut changes = core.store.watch(&lease::prefix(), core.store.revision()).await?;
        loop {
            if self.due <= Instant::now() {
                self.renew(core).await?;
                self.allow_for_delay();
            }
            self.publish(core, true).await?;
            self.forget(core).await?;
            // others may have come, who want to hear of this one more often
            self.due = self.due.min(Instant::now() + self.pace().renew);
            let wake = self.members.next_end(Instant::now()).map_or(self.due, |end| end.min(self.due));
            tokio::select! {
                () = tokio::time::sleep_until(wake) => {}
                // renewals are looked at in time; who comes and goes, at once
                change = came_or_went(&mut changes) => change?,
            }
        }
    }

    async fn renew(&mut self, core: &Arc<Core>) -> anyhow::Result<()> {
        self.due = Instant::now() + self.pace().renew;
        loop {
            let resource = lease::row()?;
            let name = lease::name(&core.name);
            let mine = lease::Mine {
                server: &core.name,
                holder: &self.holder,
                address: core.config.advertise_address,
                lasts: self.pace().lasts,
            };
            match registry::read(core, resource, lease::NAMESPACE, &name).await {
                Err(error) if error.code == 404 => return bootstrap::ensure(core, mine.object(None)).await,
                Err(error) => anyhow::bail!("cannot read the Lease {name}: {error}"),
                Ok(stored) => {
                    let object = mine.object(Some(&stored.object));
                    let write = Write { resource, namespace: lease::NAMESPACE, name: &name, claims: Vec::new() };
                    match write.put(core, &object, Some(stored.revision)).await {
                        Ok(_) => return Ok(()),
                        Err(WriteError::Failed(error)) => anyhow::bail!("cannot renew the Lease {name}: {error}"),
                        // somebody annotated it: once more
                        Err(WriteError::Lost | WriteError::Taken(_)) => {}
                    }
                }
            }
        }
    }

    /// So much later than it should have been is this renewal, and theirs may be.
    fn allow_for_delay(&mut self) {
        let since = std::mem::replace(&mut self.renewed, Instant::now());
        self.members.postpone(since.elapsed().saturating_sub(self.pace().renew));
    }

    /// Makes the endpoints what they have to be, with this server or without it.
    async fn publish(&mut self, core: &Arc<Core>, staying: bool) -> anyhow::Result<()> {
        let addresses = self.addresses(core, staying, None).await?;
        for object in endpoints::objects(&addresses, self.port) {
            bootstrap::ensure(core, object).await?;
        }
        Ok(())
    }

    async fn addresses(
        &mut self,
        core: &Core,
        staying: bool,
        believed: Option<&BTreeSet<IpAddr>>,
    ) -> anyhow::Result<BTreeSet<IpAddr>> {
        let request = RangeRequest { prefix: lease::prefix(), ..RangeRequest::default() };
        let range = core.store.range(request).await?;
        let others = range.items.iter().filter_map(lease::Other::of).filter(|it| it.server != core.name);
        let mut addresses = self.members.live(others, believed, Instant::now());
        let own = core.config.advertise_address;
        if staying {
            addresses.insert(own);
        }
        addresses.retain(|address| address.is_ipv4() == own.is_ipv4());
        Ok(addresses)
    }

    /// Deletes the Leases of servers that lost their host and never came back.
    async fn forget(&self, core: &Core) -> anyhow::Result<()> {
        for (server, revision) in self.members.forgotten(Instant::now()) {
            tracing::info!(server, "an API server has not been heard of for an hour: its Lease is deleted");
            delete(core, &lease::name(&server), revision).await?;
        }
        Ok(())
    }

    async fn leave(&mut self, core: &Arc<Core>) -> anyhow::Result<()> {
        self.allow_for_delay();
        if self.addresses(core, false, None).await?.is_empty() {
            return Ok(());
        }
        let name = lease::name(&core.name);
        if let Ok(stored) = registry::read(core, lease::row()?, lease::NAMESPACE, &name).await {
            delete(core, &name, stored.revision).await?;
        }
        self.publish(core, false).await
    }
}

/// A Lease, unless somebody has written it since.
async fn delete(core: &Core, name: &str, revision: Revision) -> anyhow::Result<()> {
    let write = Write { resource: lease::row()?, namespace: lease::NAMESPACE, name, claims: Vec::new() };
    match write.delete(core, revision).await {
        Err(WriteError::Failed(error)) => anyhow::bail!("cannot delete the Lease {name}: {error}"),
        _ => Ok(()),
    }
}

/// Returns when a Lease is made or deleted.
async fn came_or_went(changes: &mut store::WatchStream) -> anyhow::Result<()> {
    while let Some(item) = changes.next().await {
        if let WatchItem::Event(event) = item?
            && (event.kind == EventKind::Delete || event.kv.create_revision == event.kv.mod_revision)
        {
            return Ok(());
        }
    }
    anyhow::bail!("the store is closed")
}
