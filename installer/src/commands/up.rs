//! `kinstall up`: hosts, addons, sample, proof.
//!
//! Nothing waits that need not: workers install while the control plane starts, addons go to the API as soon as it is
//! ready, and only the sample's pods wait for the images on the hosts.

mod summary;

use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoststate::bundle::BundleManifest;
use serde_json::{Value, json};

use super::bring::{Brought, Extent, bring_all};
use super::fleet::{self, Fleet, Member};
use super::membership::Membership;
use super::progress::{Progress, Work};
use super::{ADMIN_KUBECONFIG, Ended, Run, adopt, clocks, consent, demoted, drift, lost, plan, upgrade};
use crate::api::apply::{Outcome, documents};
use crate::api::{self, Server, Servers};
use crate::cli::Up;
use crate::cluster::{Cluster, Host};
use crate::desired::render::{names, render};
use crate::desired::{Inputs, admin_kubeconfig, components_image, host_state};
use crate::hooks::Point;
use crate::host::Executable;
use crate::inventory::hooks::{Stage, When};
use crate::state::applied::AppliedHost;
use crate::state::pki::Pki;
use crate::state::{self, StateDir};
use crate::validate::{self, Report, wordpress};

/// Whose hooks `up` runs.
pub(super) const STAGES: [Stage; 2] = [Stage::Up, Stage::Converge];

/// What came of the API's objects.
struct Served {
    server: Server,
    changed: usize,
    /// When all nodes were Ready.
    ready: Option<Duration>,
}

/// As the operator says it: a person is asked before something that serves is disturbed.
pub async fn asking(run: &Run<'_>, arguments: &Up) -> anyhow::Result<Ended> {
    bring(run, arguments, true).await
}

/// As a part of another command, which has asked.
pub async fn run(run: &Run<'_>, arguments: &Up) -> anyhow::Result<Ended> {
    bring(run, arguments, false).await
}

async fn bring(run: &Run<'_>, arguments: &Up, asks: bool) -> anyhow::Result<Ended> {
    let printer = run.printer;
    printer.phase(&format!("cluster {}: {} hosts", run.cluster.name, run.cluster.hosts.len()));
    let (hooks, everybody) = (run.hooks(), run.cluster.hosts.iter().collect::<Vec<_>>());
    hooks.check(&STAGES)?;
    hooks
        .run(Point { stage: Stage::Up, when: When::Before, hosts: &everybody })
        .await
        .context("nothing was changed")?;
    let underway = printer.cluster("bundle and keys");
    let bundle = run.bundle(arguments.bundled.bundle.as_deref()).await?;
    plan::check_bundle(&bundle, &run.cluster)?;
    let identity = run.state.identity()?;
    let pki = Pki::load_or_create(&run.state, &run.cluster)?;
    drop(underway);

    let fleet = Fleet::new(run);
    printer.phase("connecting");
    let (mut members, mut good) = fleet::sort_out(printer, fleet.open(run, Executable::Of(&bundle)).await);
    if let Some(refused) = refuse(run, arguments, &identity.id, &members, good) {
        fleet::close(members).await;
        printer.error(&format!("{refused}; nothing was changed"), Value::Null);
        return Ok(Ended::Failed);
    }
    if let Some(why) = upgrade::is_upgrade(&members, &bundle.manifest) {
        fleet::close(members).await;
        printer.error(&format!("{why}; nothing was changed"), Value::Null);
        return Ok(Ended::Failed);
    }
    let settled = async {
        demoted::refuse(&members)?;
        lost::refuse(run, &members).await?;
        let topology = fleet::topology(run, &members)?;
        let membership = Membership::ask(run, &mut members, &topology).await?;
        anyhow::Ok((topology, membership))
    };
    let (topology, membership) = match settled.await {
        Ok(settled) => settled,
        Err(error) => {
            fleet::close(members).await;
            printer.error(&format!("{error:#}; nothing was changed"), Value::Null);
            return Ok(Ended::Failed);
        }
    };
    let copies = adopt::Copies::seen(&members);
    let inputs =
        Inputs { cluster: &run.cluster, identity: &identity, pki: &pki, bundle: &bundle.manifest, topology: &topology };
    let planned = plan::tell(printer, plan::plan_all(&fleet, &mut members, inputs).await);
    good &= planned.iter().all(Option::is_some);
    if asks && !consent::given(run, inputs, &members, &planned, &membership).await? {
        fleet::close(members).await;
        printer.error("not confirmed; nothing was changed", Value::Null);
        return Ok(Ended::Failed);
    }
    let reached: Vec<&Host> = members.iter().map(|member| member.host).collect();
    let begun = async {
        lost::remember_moving(run, &topology, &members)?;
        hooks.run(Point { stage: Stage::Converge, when: When::Before, hosts: &reached }).await
    };
    if let Err(error) = begun.await {
        fleet::close(members).await;
        return Err(error.context("nothing was changed"));
    }
    let removed = match membership.settle(run, &mut members).await {
        Ok(removed) => removed,
        Err(error) => {
            fleet::close(members).await;
            fleet::tell(printer, &error);
            return Ok(Ended::Failed);
        }
    };
    let work: Vec<_> =
        members.into_iter().zip(planned).filter_map(|(member, planned)| Some(Work::new(member, planned?))).collect();
    if work.is_empty() {
        return Ok(Ended::Failed);
    }

    printer.phase("bringing hosts to their state");
    let addons = addons(&run.cluster, &bundle.manifest.version)?;
    let admin = admin_kubeconfig(inputs)?;
    run.state.write_bytes(ADMIN_KUBECONFIG, admin.as_bytes())?;
    let servers = Servers::open(&admin).await?;
    let progress = Progress::new(&run.cluster, &topology, &work);
    // A host that cannot be worked on stops nobody else, and nobody waits for its node.
    let mut workable = run.cluster.clone();
    workable.hosts.retain(|host| work.iter().any(|work| work.member.host.name == host.name));
    let hosts = bring_all(run, &fleet, work, Extent::Whole(&bundle), &progress);
    let objects = apply_addons(run, &workable, &servers, &addons, &progress);
    let worked: Vec<_> = workable.hosts.iter().collect();
    let brought = async { tokio::join!(hosts, objects) };
    let brought = clocks::unless_wrong(&worked, &workable.limits, brought).await;
    // a host that could not be reached has nothing new of ours: `down` would go there for nothing, and wait for it
    remember(run, inputs, &worked)?;
    let (hosts, objects) = match brought {
        Ok(brought) => brought,
        Err(wrong) => {
            printer.error(&wrong.to_string(), Value::Null);
            let bytes = fleet.uploads.peers().bytes();
            return Ok(summary::failed(run, &Brought { bytes, ..Brought::default() }));
        }
    };
    good &= hosts.good;
    if objects.is_ok() {
        lost::remember_served(run)?;
    }
    let mut changed = hosts.changed + removed;
    let served = match objects {
        Ok(served) => served,
        Err(error) => {
            printer.error(&format!("{error:#}"), Value::Null);
            return Ok(summary::failed(run, &hosts));
        }
    };
    changed += served.changed;
    let current = api::with_current(&admin, &served.server.context);
    run.state.write_bytes(ADMIN_KUBECONFIG, current.as_bytes())?;
    if !good {
        return Ok(summary::failed(run, &hosts));
    }
    hooks.run(Point { stage: Stage::Converge, when: When::After, hosts: &reached }).await?;

    let mut report = Report::new(printer);
    let proving = prove(run, arguments, &served.server, &addons, &bundle.manifest, changed, &mut report);
    match clocks::unless_wrong(&everybody, &run.cluster.limits, proving).await {
        Ok(proven) => changed = proven?,
        Err(wrong) => {
            printer.error(&wrong.to_string(), Value::Null);
            return Ok(summary::failed(run, &hosts));
        }
    }
    copies.refresh(run, &fleet).await;
    let passed = report.passed();
    if passed {
        hooks.run(Point { stage: Stage::Up, when: When::After, hosts: &everybody }).await?;
    }
    summary::done(run, &hosts, changed, served.ready, &report, !arguments.no_validate);
    Ok(if passed { Ended::Done } else { Ended::Invalid })
}

/// Why nothing can be begun, if so. `all`: every host can be worked on.
fn refuse(run: &Run<'_>, arguments: &Up, cluster_id: &str, members: &[Member<'_>], all: bool) -> Option<&'static str> {
    let errors = fleet::preflight(run, cluster_id, members);
    let can_be_ignored = match (errors, all) {
        (true, _) => Some("preflight found errors (--ignore-preflight goes on all the same)"),
        (_, false) => Some("not every host can be worked on (--ignore-preflight goes on with the other hosts)"),
        _ => None,
    };
    if can_be_ignored.is_some() && !arguments.ignore_preflight {
        return can_be_ignored;
    }
    let reached = members.iter().any(|member| member.host.control_plane) || members.len() == run.cluster.hosts.len();
    (!reached).then_some("no control-plane host can be reached")
}

/// As soon as an API server answers that will stay: addons, then nodes.
async fn apply_addons(
    run: &Run<'_>,
    cluster: &Cluster,
    servers: &Servers,
    addons: &[Value],
    progress: &Progress,
) -> anyhow::Result<Served> {
    let timeout = run.cluster.limits.ready_timeout;
    let underway = run.printer.cluster("API server");
    let ready = async {
        progress.restarted().await;
        servers.ready(timeout).await
    };
    let server = tokio::select! {
        ready = ready => ready?,
        () = progress.hopeless() => {
            bail!("the control plane did not come up on its host, so nothing could be brought to its API");
        }
    };
    drop(underway);
    run.printer.event(
        "apiReady",
        &format!("  API server ready after {:.1} s", run.printer.elapsed().as_secs_f64()),
        Value::Null,
    );
    let client = &server.client;
    if run.restored {
        super::backup::gone::forget(run, client).await.with_context(|| server.named(cluster))?;
    }
    let underway = run.printer.cluster("addons");
    let outcomes = server.apply(&run.cluster, addons).await?;
    drift::remember_addons(&run.state, addons)?;
    let mut changed = tell_outcomes(run, &outcomes);
    drop(underway);
    let underway = run.printer.cluster("nodes Ready");
    // a host that failed fails the run, and its node may never come
    let ready = tokio::select! {
        ready = validate::nodes_ready(client, cluster, timeout) => ready.is_ok().then(|| run.printer.elapsed()),
        () = progress.failed() => None,
    };
    drop(underway);
    if let Some(ready) = ready {
        run.printer.event("nodesReady", &format!("  nodes Ready after {:.1} s", ready.as_secs_f64()), Value::Null);
        let brought = api::node::bring(client, cluster).await.with_context(|| server.named(cluster))?;
        changed += tell_outcomes(run, &brought);
        upgrade::release(client).await.with_context(|| server.named(cluster))?;
    }
    Ok(Served { server, changed, ready })
}

/// The addons and the sample come up, and all of it works, which goes into the report. Gives how much was changed with what is
/// `changed` so far.
async fn prove(
    run: &Run<'_>,
    arguments: &Up,
    server: &Server,
    addons: &[Value],
    bundle: &BundleManifest,
    mut changed: usize,
    report: &mut Report<'_>,
) -> anyhow::Result<usize> {
    let (printer, client, cluster) = (run.printer, &server.client, &run.cluster);
    printer.phase("cluster");
    let mut fine = validate::basics(report, client, cluster, addons).await;
    if fine {
        changed += prune_addons(run, client, addons).await;
    }
    if fine && cluster.wordpress.is_some() {
        printer.phase("sample WordPress");
        let underway = printer.cluster("sample's objects");
        changed += apply_sample(run, server, bundle).await?;
        drop(underway);
        let hint = "see `kubectl -n wordpress get pods,pvc -o wide` and `kubectl -n wordpress describe pods`";
        let ready = wordpress::pods_ready(client, cluster.limits.ready_timeout);
        fine &= report.check("WordPress's pods are Ready", hint, ready).await.is_some();
    }
    if fine && !arguments.no_validate {
        printer.phase("validation");
        // a cluster that did not change is only looked at
        if changed > 0 {
            let _underway = printer.cluster("checks of the network from pods");
            validate::network(report, client, cluster, &components_image(&bundle.version)).await;
        }
        wordpress::run(report, client, cluster, &run.state, changed > 0).await;
    }
    Ok(changed)
}

/// Removes what addons do not have any more; gives how much that was. What is in the way of that is in the way of nothing else.
pub(super) async fn prune_addons(run: &Run<'_>, client: &kube::Client, addons: &[Value]) -> usize {
    match api::prune::addons(client, addons).await {
        Ok(gone) => {
            for name in &gone {
                run.printer.event(
                    "object",
                    &format!("  deleted {name}"),
                    json!({"object": name, "outcome": "deleted"}),
                );
            }
            gone.len()
        }
        Err(error) => {
            run.printer.warning(&format!("what addons do not have any more is still there: {error:#}"));
            0
        }
    }
}

async fn apply_sample(run: &Run<'_>, server: &Server, bundle: &BundleManifest) -> anyhow::Result<usize> {
    let Some(documents) = sample(&run.cluster, &run.state, bundle)? else { return Ok(0) };
    let outcomes = server.apply(&run.cluster, &documents).await?;
    Ok(tell_outcomes(run, &outcomes))
}

pub(super) fn tell_outcomes(run: &Run<'_>, outcomes: &[(String, Outcome)]) -> usize {
    let mut changed = 0;
    for (name, outcome) in outcomes {
        let word = match outcome {
            Outcome::Created => "created",
            Outcome::Updated => "updated",
            Outcome::Unchanged => continue,
        };
        changed += 1;
        run.printer.event("object", &format!("  {word} {name}"), json!({"object": name, "outcome": word}));
    }
    changed
}

/// The addons' manifests, with the images of this version.
pub fn addons(cluster: &Cluster, version: &str) -> anyhow::Result<Vec<Value>> {
    let context = json!({
        "image": components_image(version),
        "dns_ip": cluster.network.dns_ip(),
        "domain": cluster.network.domain,
        "default_class": cluster.storage_default_class,
    });
    let mut list = Vec::new();
    for name in names("addons").into_iter().filter(|name| cluster.ingress || !name.contains("ingress")) {
        list.extend(documents(&render(name, &context)?).with_context(|| format!("the addon {name} is broken"))?);
    }
    if !cluster.storage_default_class {
        for class in list.iter_mut().filter(|object| object["kind"] == "StorageClass") {
            class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] = json!("false");
        }
    }
    Ok(list)
}

/// The sample's manifests. Images: the inventory's, else the bundle's, else the official ones.
pub(super) fn sample(
    cluster: &Cluster,
    state: &StateDir,
    bundle: &BundleManifest,
) -> anyhow::Result<Option<Vec<Value>>> {
    let Some(wordpress) = &cluster.wordpress else { return Ok(None) };
    let secrets = state.wordpress()?;
    let image = |named: &Option<String>, repository: &str, default: &str| {
        let bundled = || {
            bundle
                .images
                .iter()
                .map(|image| &image.name)
                .find(|name| name.strip_prefix(repository).is_some_and(|rest| rest.starts_with(':')))
        };
        named.clone().or_else(|| bundled().cloned()).unwrap_or_else(|| default.to_owned())
    };
    let context = json!({
        "host": wordpress.host,
        "wordpress_image": image(&wordpress.wordpress_image, "docker.io/library/wordpress", "docker.io/library/wordpress:6.8-apache"),
        "mariadb_image": image(&wordpress.mariadb_image, "docker.io/library/mariadb", "docker.io/library/mariadb:11.4"),
        "database_password_data": STANDARD.encode(&secrets.database_password),
        "database_root_password_data": STANDARD.encode(&secrets.database_root_password),
    });
    documents(&render("sample/wordpress.yaml", &context)?).map(Some)
}

/// The whole cluster has what was applied.
pub(super) fn save_applied(run: &Run<'_>, inputs: Inputs<'_>) -> anyhow::Result<()> {
    remember(run, inputs, &run.cluster.hosts.iter().collect::<Vec<_>>())
}

/// What these hosts have now, for people and for later commands; without file contents, so without secrets.
pub fn remember(run: &Run<'_>, inputs: Inputs<'_>, hosts: &[&Host]) -> anyhow::Result<()> {
    let hosts = hosts
        .iter()
        .map(|host| {
            let state = host_state(inputs, host, &hoststate::Facts::default())?;
            Ok(AppliedHost::new(host, state.resources.iter().map(hoststate::Resource::id).collect()))
        })
        .collect::<anyhow::Result<_>>()?;
    state::applied::Applied::update(&run.state, &inputs.bundle.version, inputs.identity, hosts)
}
