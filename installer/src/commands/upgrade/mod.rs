//! `kinstall upgrade`: every host to a newer bundle, control planes one by one, then workers some at a time, then the addons.
//!
//! [`versions`] says whether hosts may go there, [`plan`] what changes, [`host`] brings one of them there and, where it does not
//! pass the [`gate`], back. Where each host stands is written on the host, so the same command goes on after any end.

mod cordon;
mod gate;
mod host;
mod images;
mod left;
mod plan;
mod proof;
mod versions;
mod width;

use std::time::Instant;

use anyhow::{Context as _, bail};
use futures::FutureExt as _;
use futures::future::{LocalBoxFuture, Shared};
use hoststate::{Action, BundleManifest};
use serde_json::{Value, json};

use host::Failed;
use plan::Step;
use versions::Versions;

use super::clocks::{self, Wrong};
use super::fleet::{self, Fleet, Member};
use super::{ADMIN_KUBECONFIG, Ended, Run, adopt, ask, demoted, drift, up};
use crate::bundle::Bundle;
use crate::cli::Upgrade;
use crate::cluster::Host;
use crate::desired::{Inputs, admin_kubeconfig, components_image};
use crate::hooks::Point;
use crate::host::Executable;
use crate::inventory::hooks::{Stage, When};
use crate::state::pki::Pki;
use crate::validate::{self, Report};

/// Whose hooks `upgrade` runs.
pub(super) const STAGES: [Stage; 2] = [Stage::Upgrade, Stage::UpgradeHost];

/// Everything that the work on one host needs.
struct Upgrading<'a> {
    run: &'a Run<'a>,
    arguments: &'a Upgrade,
    bundle: &'a Bundle,
    fleet: Fleet<'a>,
    /// Whose clock is wrong of them, once one is; all who work on hosts look by this, not each by itself.
    control_planes: Shared<LocalBoxFuture<'a, Wrong>>,
}

pub async fn run(run: &Run<'_>, arguments: &Upgrade) -> anyhow::Result<Ended> {
    let printer = run.printer;
    let underway = printer.cluster("bundle and keys");
    let bundle = run.bundle(arguments.bundled.bundle.as_deref()).await?;
    super::plan::check_bundle(&bundle, &run.cluster)?;
    let to = Versions::of_bundle(&bundle.manifest);
    printer.phase(&format!("cluster {}: to {} with Kubernetes {}", run.cluster.name, to.kinstall, to.kubernetes));
    let identity = run.state.identity()?;
    run.kubeconfig()?;
    let pki = Pki::load_or_create(&run.state, &run.cluster)?;
    drop(underway);
    let control_planes =
        async { clocks::wrong(&run.cluster.control_planes().collect::<Vec<_>>(), &run.cluster.limits).await };
    let control_planes = control_planes.boxed_local().shared();
    let upgrading = Upgrading { run, arguments, bundle: &bundle, fleet: Fleet::new(run), control_planes };

    let (hooks, everybody) = (run.hooks(), run.cluster.hosts.iter().collect::<Vec<_>>());
    hooks.check(&STAGES)?;
    printer.phase("connecting");
    let Some(reached) = upgrading.may_begin(&identity.id, to).await else {
        printer.error("nothing was changed", Value::Null);
        return Ok(Ended::Failed);
    };
    let left = but(&run.cluster.hosts, &reached);
    if !left.is_empty() && !arguments.ignore_preflight {
        printer.error(
            "not every host can be worked on (--ignore-preflight goes on with the other hosts); nothing was changed",
            Value::Null,
        );
        return Ok(Ended::Failed);
    }
    let opened = upgrading.fleet.open_some(run, reached.into_iter(), Executable::Of(&bundle)).await;
    let (members, complete) = fleet::sort_out(printer, opened);
    if !complete {
        fleet::close(members).await;
        printer.error("a host that could be worked on cannot any more; nothing was changed", Value::Null);
        return Ok(Ended::Failed);
    }
    let copies = adopt::Copies::seen(&members);
    let topology = match demoted::refuse(&members).and_then(|()| fleet::topology(run, &members)) {
        Ok(topology) => topology,
        Err(error) => {
            fleet::close(members).await;
            return Err(error.context("nothing was changed"));
        }
    };
    let inputs =
        Inputs { cluster: &run.cluster, identity: &identity, pki: &pki, bundle: &bundle.manifest, topology: &topology };
    let Some(steps) = upgrading.plan(members, inputs, to).await else {
        printer.error("nothing was changed", Value::Null);
        return Ok(Ended::Failed);
    };
    if !upgrading.may_leave(&left, &steps, to).await? {
        printer.error("nothing was changed", Value::Null);
        return Ok(Ended::Failed);
    }
    let pending = steps.iter().filter(|step| !step.is_done()).count();
    if arguments.plan {
        return Ok(tell_plan(run, &steps, pending));
    }
    let text: String = steps.iter().map(|step| step.describe(false)).collect();
    printer.finding("plan", text.trim_end(), json!({"hosts": steps.iter().map(as_json).collect::<Vec<_>>()}));
    if pending > 0 {
        confirm(run, to, pending)?;
    }
    let before = Point { stage: Stage::Upgrade, when: When::Before, hosts: &everybody };
    hooks.run(before).await.context("nothing was changed")?;
    let ended = match upgrading.work(steps).await {
        Ok(Some(upgraded)) if left.is_empty() => upgrading.timely(&everybody, upgrading.finish(inputs, upgraded)).await,
        Ok(Some(upgraded)) => Ok(upgrading.wait_for(&left, upgraded, to)),
        Ok(None) => Ok(Ended::Failed),
        Err(error) => Err(error),
    };
    copies.refresh(run, &upgrading.fleet).await;
    if matches!(ended, Ok(Ended::Done)) {
        hooks.run(Point { stage: Stage::Upgrade, when: When::After, hosts: &everybody }).await?;
    }
    ended
}

/// Those of `all` that are not among `some`.
fn but<'h>(all: &'h [Host], some: &[&Host]) -> Vec<&'h Host> {
    all.iter().filter(|host| !some.iter().any(|one| one.name == host.name)).collect()
}

fn tell_plan(run: &Run<'_>, steps: &[Step<'_>], pending: usize) -> Ended {
    let mut text: String = steps.iter().map(|step| step.describe(true)).collect();
    text += &match pending {
        0 => "nothing to change on the hosts".to_owned(),
        _ => "control planes go one by one, then workers, then the addons".to_owned(),
    };
    let hosts: Vec<_> = steps.iter().map(as_json).collect();
    run.printer.result(&text, &json!({"event": "plan", "changes": pending, "hosts": hosts}));
    if pending == 0 { Ended::Done } else { Ended::ChangesPending }
}

fn as_json(step: &Step<'_>) -> Value {
    json!({"host": step.host.name, "from": step.from, "to": step.state.version, "drains": step.drains,
        "done": step.is_done(), "changes": step.changes})
}

fn confirm(run: &Run<'_>, to: Versions<'_>, hosts: usize) -> anyhow::Result<()> {
    let what = format!("brings {hosts} hosts to {}", to.kinstall);
    let question = format!("This {what}, as told above. Type yes to go on:");
    if !(run.yes || ask::is_typed("yes", &question, &format!("`upgrade` {what}"))?) {
        bail!("not confirmed; nothing was changed");
    }
    Ok(())
}

impl<'a> Upgrading<'a> {
    /// Looks at every host with what is installed there: whether those that can be worked on are ours, and may take this step.
    /// Tells every reason against it; gives who can be worked on.
    async fn may_begin(&self, cluster_id: &str, to: Versions<'_>) -> Option<Vec<&'a Host>> {
        let run = self.run;
        let opened = self.fleet.open(run, Executable::Installed(Some(self.bundle))).await;
        let (members, _) = fleet::sort_out(run.printer, opened);
        let mut good = true;
        for Member { host, facts, .. } in &members {
            let refused = match &facts.manifest {
                None => {
                    Err("kinstall is not there; run `kinstall up` first, with the version of the others".to_owned())
                }
                Some(manifest) => versions::may_follow(Versions::of_host(manifest), to),
            };
            if let Err(why) = refused {
                good = false;
                run.printer.error(&format!("{}: {why}", host.name), json!({"host": host.name}));
            }
        }
        let fit = !fleet::preflight(run, cluster_id, &members) || self.arguments.ignore_preflight;
        let reached = members.iter().map(|member| member.host).collect();
        fleet::close(members).await;
        (good && fit).then_some(reached)
    }

    /// What changes on every host; nothing where a host cannot tell.
    async fn plan<'h>(
        &self,
        mut members: Vec<Member<'h>>,
        inputs: Inputs<'_>,
        to: Versions<'_>,
    ) -> Option<Vec<Step<'h>>> {
        let planned = super::plan::plan_all(&self.fleet, &mut members, inputs).await;
        let mut steps = Vec::new();
        let mut good = true;
        for (member, planned) in members.iter().zip(planned) {
            match (planned, &member.facts.manifest) {
                (Ok(planned), Some(manifest)) => {
                    if manifest.version == to.kinstall
                        && let Some(file) = replaced(&planned.1, to.kinstall)
                    {
                        good = false;
                        let text = format!(
                            "{}: {file} of version {1} is another one than the bundle's, which has the same version; make the \
                             bundle with a version of its own (--bundle-version), or let `kinstall up` put {1} in order",
                            member.host.name, to.kinstall
                        );
                        self.run.printer.error(&text, json!({"host": member.host.name}));
                    }
                    steps.push(Step::new(member.host, manifest, to, planned, self.arguments));
                }
                (Err(error), _) => {
                    good = false;
                    fleet::tell(self.run.printer, &error);
                }
                (Ok(_), None) => good = false,
            }
        }
        fleet::close(members).await;
        good.then_some(steps)
    }

    /// Work that is in vain where one of these hosts' clocks is wrong.
    async fn timely<T>(&self, hosts: &[&Host], work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        clocks::unless_wrong(hosts, &self.run.cluster.limits, work).await?
    }

    /// Takes back what killed runs have left in the API, but for the cordons of hosts whose turn comes.
    async fn tidy_up(&self, steps: &[Step<'_>]) -> anyhow::Result<()> {
        let run = self.run;
        let server = self.servers().await?.ready(run.cluster.limits.ready_timeout).await?;
        let goes_on = |name: &str| steps.iter().any(|step| step.host.name == name && step.drains);
        proof::remove_all(&server.client).await.context("cannot remove what a run before has left")?;
        for name in cordon::release(&server.client, |name| !goes_on(name)).await.context("cannot uncordon nodes")? {
            run.printer.event("node", &format!("  {name}: uncordoned, as a run before left it"), json!({"node": name}));
        }
        Ok(())
    }

    /// Brings every host there. Gives how many, or nothing where one did not come up well, which is told.
    async fn work(&self, steps: Vec<Step<'_>>) -> anyhow::Result<Option<usize>> {
        let run = self.run;
        let everybody: Vec<_> = run.cluster.hosts.iter().collect();
        self.timely(&everybody, self.tidy_up(&steps)).await?;
        let (control_planes, workers) = plan::in_order(steps);
        let (first, second) = (control_planes.len(), workers.len());
        for (what, steps, at_once) in
            [("control planes", control_planes, 1), ("workers", workers, self.arguments.workers.of(second))]
        {
            if !steps.is_empty() {
                run.printer.phase(&format!("upgrading {what}, {at_once} at a time"));
            }
            let began = Instant::now();
            let stopped = self.some(&steps, at_once).await;
            if !steps.is_empty() {
                run.printer.stage(what, began);
            }
            if let Some(text) = stopped {
                let log = run.printer.log_name();
                run.printer.result(
                    &format!("{text}\nlog: {log}"),
                    &json!({"event": "summary", "ok": false, "text": text, "log": log}),
                );
                return Ok(None);
            }
        }
        Ok(Some(first + second))
    }

    /// These hosts, so many at a time. Gives what to tell of failures.
    async fn some(&self, steps: &[Step<'_>], at_once: usize) -> Option<String> {
        let one = async |step: &Step<'_>| self.one(step).await.map_err(|failed| explain(&step.host.name, failed));
        let failures = width::each(steps, at_once, one).await;
        if failures.is_empty() {
            return None;
        }
        for failure in &failures {
            self.run.printer.error(failure, Value::Null);
        }
        Some(
            "the upgrade has stopped; hosts before this one have the new version, those after it the old one, and both work \
             together; mend what is told above, then the same command again goes on"
                .to_owned(),
        )
    }

    /// What is left when every host has the new version.
    async fn finish(&self, inputs: Inputs<'_>, hosts: usize) -> anyhow::Result<Ended> {
        let run = self.run;
        let admin = admin_kubeconfig(inputs)?;
        let server = self.servers().await?.ready(run.cluster.limits.ready_timeout).await?;
        let current = crate::api::with_current(&admin, &server.context);
        run.state.write_bytes(ADMIN_KUBECONFIG, current.as_bytes())?;
        run.printer.phase("addons");
        let underway = run.printer.cluster("addons");
        let addons = up::addons(&run.cluster, &inputs.bundle.version)?;
        let outcomes = server.apply(&run.cluster, &addons).await?;
        drift::remember_addons(&run.state, &addons)?;
        let mut changed = hosts + up::tell_outcomes(run, &outcomes);
        drop(underway);
        // kubelets taint no Node that is there, and note of no label that it is the inventory's
        let brought = crate::api::node::bring(&server.client, &run.cluster).await;
        changed += up::tell_outcomes(run, &brought.with_context(|| server.named(&run.cluster))?);
        let mut report = Report::new(run.printer);
        let fine = validate::basics(&mut report, &server.client, &run.cluster, &addons).await;
        if fine {
            changed += up::prune_addons(run, &server.client, &addons).await;
        }
        up::save_applied(run, inputs).context("cannot remember what was applied")?;
        if fine && changed > 0 && !self.arguments.no_validate {
            run.printer.phase("validation");
            let image = components_image(&inputs.bundle.version);
            validate::network(&mut report, &server.client, &run.cluster, &image).await;
        }
        if fine {
            self.tidy(&server.client).await;
        }
        let passed = report.passed();
        let seconds = run.printer.elapsed().as_secs_f64();
        let version = &inputs.bundle.version;
        let text = match (passed, changed) {
            (false, _) => format!("{} of {} checks failed", report.failures(), report.outcomes.len()),
            (true, 0) => format!("nothing changed: the cluster has {version} already"),
            (true, _) => format!("cluster {} has {version} after {seconds:.1} s", run.cluster.name),
        };
        run.printer.result(
            &text,
            &json!({"event": "summary", "ok": passed, "changed": changed, "upgraded": hosts, "version": version,
                "totalSeconds": seconds, "validation": report.json()}),
        );
        Ok(if passed { Ended::Done } else { Ended::Invalid })
    }
}

/// Takes back what killed upgrades have left in the API: cordons of theirs, and pods that prove something.
pub async fn release(client: &kube::Client) -> anyhow::Result<()> {
    cordon::release(client, |_| true).await.context("cannot uncordon what an upgrade has left cordoned")?;
    proof::remove_all(client).await.context("cannot remove the pods that an upgrade has left")
}

/// Why `up` may not go on with this bundle.
pub fn is_upgrade(members: &[Member<'_>], bundle: &BundleManifest) -> Option<String> {
    let has_other = |member: &&Member<'_>| {
        member.facts.manifest.as_ref().is_some_and(|manifest| versions::is_upgrade(manifest, &bundle.version))
    };
    let member = members.iter().find(has_other)?;
    let had = Versions::of_host(member.facts.manifest.as_ref()?).kinstall.to_owned();
    Some(format!(
        "{} has version {had}, the bundle has {}: `kinstall upgrade` brings hosts from one version to the next; name a bundle of \
         version {had} to stay with it",
        member.host.name, bundle.version
    ))
}

/// A file of this version that is there and would be overwritten.
fn replaced<'a>(changes: &'a [hoststate::Change], version: &str) -> Option<&'a str> {
    let directory = format!("file /opt/kinstall/{version}/");
    let is_it =
        |change: &&hoststate::Change| change.action == Action::Update && change.resource.starts_with(&directory);
    changes.iter().find(is_it).map(|change| change.resource.trim_start_matches("file "))
}

fn explain(host: &str, failed: Failed) -> String {
    match failed {
        Failed::Untouched(why) => {
            format!("{host}: {why:#}\n    it has the version that it had; nothing was changed on it")
        }
        Failed::Back { version, why } => format!("{host}: {why:#}\n    it is back at {version}"),
        Failed::Hook(why) => format!("{host}: it is upgraded, but {why:#}"),
        Failed::Between { why, back } => format!(
            "{host}: {why:#}\n    and it is not back: {back:#}\n    what it needs is on it: the same command again goes on"
        ),
    }
}
