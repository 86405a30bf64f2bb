//! `kinstall node add`: into the inventory, and a node.
//!
//! A worker concerns nobody else: only its host is worked on, and control planes get no more than the copy for `adopt`. A control
//! plane has to be known to all, so there `up` does it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::inventory::Edited;
use crate::api::{self, Servers};
use crate::bundle::Bundle;
use crate::cli::{Bundled, NodeAdd, Up};
use crate::cluster::{Cluster, Host};
use crate::commands::bring::{Extent, bring_all};
use crate::commands::fleet::{self, Fleet};
use crate::commands::progress::{Progress, Work};
use crate::commands::{Ended, Run, adopt, plan, up};
use crate::desired::{Inputs, Topology};
use crate::hooks::Point;
use crate::host::Executable;
use crate::inventory::edit::{NewHost, Written};
use crate::inventory::hooks::{Stage, When};
use crate::state::applied::Applied;
use crate::state::pki::Pki;
use crate::validate;

pub async fn run(mut run: Run<'_>, arguments: &NodeAdd) -> anyhow::Result<Ended> {
    let (names, addresses) = (&arguments.names, &arguments.addresses);
    if names.len() != addresses.len() {
        bail!(
            "{} names but {} addresses; give --address once for each name, in their order",
            names.len(),
            addresses.len()
        );
    }
    let mut new = Vec::new();
    for (name, address) in names.iter().zip(addresses) {
        match run.cluster.hosts.iter().find(|host| host.name == *name) {
            Some(host) if host.address == *address => {
                run.printer.event("inventory", &format!("  {name} is in {} already", run.inventory), json!({}));
            }
            Some(host) => bail!("{name:?} is already a host of {}, at {}", run.inventory, host.address),
            None => new.push((name.clone(), new_host(name, address, arguments)?)),
        }
    }
    let edited = Edited::with(&run, &new).context("nothing was changed")?;
    run.cluster = edited.cluster.clone();
    if run.cluster.hosts.iter().any(|host| host.control_plane && names.contains(&host.name)) {
        return control_planes(&run, names, &arguments.bundled, || edited.write()).await;
    }
    let copy = adopt::Watched::new(&run);
    let ended = workers(&run, names, &arguments.bundled, || edited.write()).await;
    copy.bring_if_changed(&run, &[]).await;
    ended
}

pub fn without_validation(bundled: &Bundled) -> Up {
    Up { bundled: bundled.clone(), no_validate: true, ..Up::default() }
}

fn new_host(name: &str, address: &str, arguments: &NodeAdd) -> anyhow::Result<NewHost> {
    let mut host = NewHost::default().text("name", name).text("address", address).text("role", arguments.role.word());
    let mut sudo = Vec::new();
    for (field, value) in &arguments.variables {
        match field.strip_prefix("sudo.") {
            Some(field) => sudo.push((field.to_owned(), value.clone())),
            None if ["name", "address", "role", "roles", "labels", "taints"].contains(&field.as_str()) => {
                bail!("--var {field}=…: {field} has an option of its own; nothing was changed")
            }
            None => host = host.text(field, value),
        }
    }
    for (field, pairs) in [("sudo", sudo), ("labels", arguments.labels.clone())] {
        if !pairs.is_empty() {
            host.fields.push((field.to_owned(), Written::Map(pairs)));
        }
    }
    if !arguments.taints.is_empty() {
        host.fields.push(("taints".to_owned(), Written::List(arguments.taints.clone())));
    }
    Ok(host)
}

/// As [`workers`], where control planes are among them: the others have to know of each.
pub async fn control_planes(
    run: &Run<'_>,
    names: &[String],
    bundled: &Bundled,
    accepted: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Ended> {
    let coming: Vec<&Host> = run.cluster.hosts.iter().filter(|host| names.contains(&host.name)).collect();
    let hooks = run.hooks();
    hooks.check(&[Stage::NodeAdd])?;
    hooks
        .run(Point { stage: Stage::NodeAdd, when: When::Before, hosts: &coming })
        .await
        .context("nothing was changed")?;
    accepted()?;
    let ended = up::run(run, &without_validation(bundled)).await?;
    if ended == Ended::Done {
        hooks.run(Point { stage: Stage::NodeAdd, when: When::After, hosts: &coming }).await?;
    }
    Ok(ended)
}

/// Makes nodes of these hosts of `run`'s cluster. `accepted` is called when nothing speaks against it, before a host is changed.
pub async fn workers(
    run: &Run<'_>,
    names: &[String],
    bundled: &Bundled,
    accepted: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Ended> {
    let hooks = run.hooks();
    hooks.check(&[Stage::NodeAdd, Stage::Converge])?;
    let bundle = run.bundle(bundled.bundle.as_deref()).await?;
    plan::check_bundle(&bundle, &run.cluster)?;
    is_the_clusters(run, &bundle)?;
    let limit = run.cluster.limits.ready_timeout;
    let server = Servers::open(&run.kubeconfig()?).await?.ready(Duration::from_secs(20)).await;
    let client = server.context("nothing was changed")?.client;
    let identity = run.state.identity()?;
    let pki = Pki::load_or_create(&run.state, &run.cluster)?;
    let fleet = Fleet::new(run);
    run.printer.phase("connecting");
    let coming: Vec<&Host> = run.cluster.hosts.iter().filter(|host| names.contains(&host.name)).collect();
    let opened = fleet.open_some(run, coming.iter().copied(), Executable::Of(&bundle)).await;
    let (mut members, all) = fleet::sort_out(run.printer, opened);
    if fleet::preflight(run, &identity.id, &members) || !all {
        fleet::close(members).await;
        bail!("not every new host can be worked on; nothing was changed");
    }
    let point = |stage, when| Point { stage, when, hosts: &coming };
    let before = async {
        hooks.run(point(Stage::NodeAdd, When::Before)).await?;
        hooks.run(point(Stage::Converge, When::Before)).await
    };
    if let Err(error) = before.await {
        fleet::close(members).await;
        return Err(error.context("nothing was changed"));
    }
    accepted()?;
    // what a worker is told does not depend on how the control planes stand to each other
    let topology = Topology::default();
    let inputs =
        Inputs { cluster: &run.cluster, identity: &identity, pki: &pki, bundle: &bundle.manifest, topology: &topology };
    let planned = plan::tell(run.printer, plan::plan_all(&fleet, &mut members, inputs).await);
    let mut good = planned.iter().all(Option::is_some);
    let work: Vec<_> =
        members.into_iter().zip(planned).filter_map(|(member, planned)| Some(Work::new(member, planned?))).collect();
    run.printer.phase("bringing hosts to their state");
    let progress = Progress::new(&run.cluster, &topology, &work);
    good &= bring_all(run, &fleet, work, Extent::Whole(&bundle), &progress).await.good;
    up::remember(run, inputs, &coming)?;
    if !good {
        bail!("not finished; mend what is told above and run the same command again, or `kinstall up`");
    }
    hooks.run(point(Stage::Converge, When::After)).await?;
    let mut added: Cluster = run.cluster.clone();
    added.hosts.retain(|host| names.contains(&host.name));
    validate::nodes_ready(&client, &added, limit).await?;
    api::node::bring(&client, &added).await?;
    hooks.run(point(Stage::NodeAdd, When::After)).await?;
    let seconds = run.printer.elapsed().as_secs_f64();
    run.printer.result(
        &format!("added {}: Ready after {seconds:.1} s", names.join(", ")),
        &json!({"event": "summary", "ok": true, "added": names, "totalSeconds": seconds}),
    );
    Ok(Ended::Done)
}

/// A node of another version than the others is `upgrade`'s business.
fn is_the_clusters(run: &Run<'_>, bundle: &Bundle) -> anyhow::Result<()> {
    let applied = Applied::from_here(&run.state, &run.cluster.name)?;
    if applied.version != bundle.manifest.version {
        bail!(
            "the cluster has version {} but the bundle {}; name the cluster's with --bundle, or bring all of it to the other \
             version first",
            applied.version,
            bundle.manifest.version
        );
    }
    Ok(())
}
