//! `kinstall certs renew`: issued here, brought to the hosts, taken over there.
//!
//! Needs no API server, so it also works when every certificate has run out. The new ones are in the state directory before any
//! host is touched: whatever is repeated, `up` too, goes on with them.

use anyhow::bail;
use serde_json::json;

use super::super::{ADMIN_KUBECONFIG, Ended, Run, amend, fleet};
use crate::api::{self, Servers};
use crate::cli::CertsRenew;
use crate::cluster::Cluster;
use crate::commands::bring::{Extent, bring_all};
use crate::commands::fleet::{Fleet, Member};
use crate::commands::progress::Progress;
use crate::desired::{CONTROL_PLANE, Inputs, Topology, admin_kubeconfig, no_bundle};
use crate::host::Executable;
use crate::state::applied::Applied;
use crate::state::pki::{Pki, Selection, give_up};
use crate::validate;

pub async fn run(run: &Run<'_>, arguments: &CertsRenew) -> anyhow::Result<Ended> {
    refuse_strangers(&run.cluster, &arguments.hosts)?;
    must_be_applied(run)?;
    let selection = Selection { kinds: &arguments.kinds, hosts: &arguments.hosts };
    // the hosts first: who cannot be reached at all has no use for new keys
    run.printer.phase("connecting");
    let fleet = Fleet::new(run);
    let (members, mut good) = fleet::sort_out(run.printer, fleet.open(run, Executable::Installed(None)).await);
    if !members.iter().any(|member| member.host.control_plane) {
        fleet::close(members).await;
        bail!("no control-plane host with kinstall on it can be reached; nothing was changed");
    }
    let renewed = give_up(&run.state, &run.cluster, selection)?;
    if renewed.is_empty() {
        fleet::close(members).await;
        bail!("no certificate of this cluster is of that kind and host; nothing was changed");
    }
    let pki = Pki::load_or_create(&run.state, &run.cluster)?;
    run.printer.event("issued", &format!("  issued {}", renewed.join(", ")), json!({"certificates": renewed}));

    run.printer.phase("bringing certificates to the hosts");
    let (changed, brought) = bring(run, &fleet, members, &pki).await?;
    good &= brought;
    let seconds = run.printer.elapsed().as_secs_f64();
    if !good {
        let text =
            "not every host has the new certificates; mend what is told above and run `kinstall certs renew` again";
        run.printer.result(text, &json!({"event": "summary", "ok": false, "renewed": renewed}));
        return Ok(Ended::Failed);
    }
    run.printer.result(
        &format!("{} certificates issued anew; the nodes are Ready after {seconds:.1} s", renewed.len()),
        &json!({"event": "summary", "ok": true, "renewed": renewed, "changed": changed, "totalSeconds": seconds}),
    );
    Ok(Ended::Done)
}

/// Brings keys and certificates as they are in the state directory to these hosts and to the administrator's kubeconfig, and
/// waits until the nodes are Ready. Gives how much changed, and whether all went well.
pub async fn bring(
    run: &Run<'_>,
    fleet: &Fleet<'_>,
    members: Vec<Member<'_>>,
    pki: &Pki,
) -> anyhow::Result<(usize, bool)> {
    let identity = run.state.identity()?;
    let (bundle, topology) = (no_bundle(), Topology::default());
    let inputs = Inputs { cluster: &run.cluster, identity: &identity, pki, bundle: &bundle, topology: &topology };
    let there: Vec<_> = members.iter().map(|member| member.host.name.clone()).collect();
    let (work, mut good) = amend::plan_certificates(run, fleet, members, inputs).await;
    let admin = admin_kubeconfig(inputs)?;
    run.state.write_bytes(ADMIN_KUBECONFIG, admin.as_bytes())?;
    let progress = Progress::new(&run.cluster, &topology, &work);
    let brought = bring_all(run, fleet, work, Extent::Part, &progress).await;
    good &= brought.good;
    if good {
        let server = Servers::open(&admin).await?.ready(run.cluster.limits.ready_timeout).await?;
        let current = api::with_current(&admin, &server.context);
        run.state.write_bytes(ADMIN_KUBECONFIG, current.as_bytes())?;
        let mut touched = run.cluster.clone();
        touched.hosts.retain(|host| there.contains(&host.name));
        validate::nodes_ready(&server.client, &touched, run.cluster.limits.ready_timeout).await?;
    }
    Ok((brought.changed, good))
}

fn refuse_strangers(cluster: &Cluster, named: &[String]) -> anyhow::Result<()> {
    let is_unknown = |name: &&String| !cluster.hosts.iter().any(|host| host.name == **name);
    match named.iter().find(is_unknown) {
        Some(name) => bail!("{name:?} is no host of the inventory; nothing was changed"),
        None => Ok(()),
    }
}

/// The names in certificates, and where kubeconfigs point, follow the inventory: it must be the one that was applied.
pub fn must_be_applied(run: &Run<'_>) -> anyhow::Result<()> {
    let applied = Applied::from_here(&run.state, &run.cluster.name)?;
    // one that was taken out but not taken back is none any more
    let of_applied: Vec<_> = applied
        .hosts
        .iter()
        .filter(|host| host.has_unit(CONTROL_PLANE) && !host.left_behind)
        .map(|host| host.host.as_str())
        .collect();
    let of_inventory: Vec<_> = run.cluster.control_planes().map(|host| host.name.as_str()).collect();
    if same(&of_applied, &of_inventory) {
        return Ok(());
    }
    bail!(
        "the inventory's control planes ({}) are not those that were applied ({}); run `kinstall up` first, it renews what is \
         due too",
        of_inventory.join(", "),
        of_applied.join(", ")
    )
}

fn same(some: &[&str], others: &[&str]) -> bool {
    some.len() == others.len() && some.iter().all(|name| others.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_does_not_matter_but_who_is_there_does() {
        assert!(same(&["h1", "h2"], &["h2", "h1"]) && !same(&["h1"], &["h1", "h2"]) && !same(&["h1"], &["h2"]));
    }
}
