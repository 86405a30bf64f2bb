//! `kinstall down`: every host back to what it was.
//!
//! Hosts that the inventory no longer names, but that were never taken back, belong to it. Each host that is clean is noted at
//! once; as long as one is not, keys and state stay, since only they make the others ours.

use anyhow::{Context as _, bail};
use futures::future::join_all;
use serde_json::{Value, json};

use super::fleet::{self, Fleet, Member};
use super::{Ended, Run, ask};
use crate::cli::Down;
use crate::cluster::Host;
use crate::hooks::Point;
use crate::host::Executable;
use crate::inventory::hooks::{Stage, When};
use crate::state::applied::Applied;

/// What removes kinstall from a host that comes back after its keys were forgotten.
const BY_HAND: &str =
    "echo '{\"type\":\"down\",\"keepData\":false}' | /opt/kinstall/current/bin/kinstall-components converge";

pub async fn run(run: &Run<'_>, arguments: &Down) -> anyhow::Result<Ended> {
    let (hosts, lost, mut forgotten) = everybody(run)?;
    refuse_strangers(&arguments.force_forget, &hosts, &lost)?;
    let hooks = run.hooks();
    hooks.check(&[Stage::Down])?;
    confirm(run, arguments, hosts.len())?;
    let bundle = run.bundle_if_any(arguments.bundled.bundle.as_deref()).await?;
    let identity = run.state.identity()?;
    let fleet = Fleet::new(run);
    run.printer.phase("connecting");
    forgotten.extend(arguments.force_forget.iter().cloned());
    let is_given_up = |name: &str| forgotten.iter().any(|given_up| given_up == name);
    let (given_up, wanted): (Vec<&Host>, Vec<&Host>) = hosts.iter().partition(|host| is_given_up(&host.name));
    hooks.run(Point { stage: Stage::Down, when: When::Before, hosts: &wanted }).await.context("nothing was changed")?;
    let opened = fleet.open_some(run, wanted.iter().copied(), Executable::Installed(bundle.as_ref())).await;
    // hosts where kinstall is not are clean
    let (mut clean, mut left) = (Vec::new(), Vec::new());
    let mut members = Vec::new();
    for (host, result) in opened {
        match result {
            Ok(Some(member)) => members.push(member),
            Ok(None) => clean.push(host),
            Err(error) => {
                fleet::tell(run.printer, &error);
                left.push((host, format!("{}: {}", error.step, error.message)));
            }
        }
    }
    run.printer.phase("taking hosts back");
    let work = members.into_iter().map(|member| {
        let fleet = &fleet;
        let identity = &identity;
        async move { (member.host, take_back(run, fleet, member, &identity.id, arguments.keep_data).await) }
    });
    for (host, result) in join_all(work).await {
        match result {
            Ok(()) => clean.push(host),
            Err(why) => left.push((host, why)),
        }
    }
    let left: Vec<_> =
        left.into_iter().map(|(host, why)| (host.name.clone(), why)).chain(unknown_way(lost, is_given_up)).collect();
    remember(run, &hosts, &clean, &left, arguments.keep_data)?;
    arguments.force_forget.iter().try_for_each(|name| Applied::give_up(&run.state, name))?;
    for host in given_up {
        run.printer.warning(&format!(
            "{}: not touched, and forgotten as you said; should it come back, as root there: {BY_HAND}",
            host.name
        ));
    }
    let names: Vec<&str> = clean.iter().map(|host| host.name.as_str()).collect();
    if !left.is_empty() {
        tell_left(run, &names, &left);
        return Ok(Ended::Failed);
    }
    hooks.run(Point { stage: Stage::Down, when: When::After, hosts: &wanted }).await?;
    if !arguments.keep_data {
        run.state.forget()?;
    }
    let seconds = run.printer.elapsed().as_secs_f64();
    let kept = if arguments.keep_data { "; data was kept on the hosts and keys here" } else { "" };
    run.printer.result(
        &format!("cluster {} is gone after {seconds:.1} s{kept}", run.cluster.name),
        &json!({"event": "summary", "ok": true, "clean": names, "forgotten": forgotten, "totalSeconds": seconds}),
    );
    Ok(Ended::Done)
}

/// The inventory's hosts and those that were left behind; of these the names to which nothing tells the way; and the names that
/// were given up before.
fn everybody(run: &Run<'_>) -> anyhow::Result<(Vec<Host>, Vec<String>, Vec<String>)> {
    let mut hosts = run.cluster.hosts.clone();
    let mut lost = Vec::new();
    let applied = Applied::load(&run.state)?.unwrap_or_default();
    for known in applied.beside(&run.cluster) {
        match &known.reach {
            // another host of this address has come in its place
            Some(host)
                if hosts.iter().any(|other| other.address == host.address && other.ssh.port == host.ssh.port) => {}
            Some(host) => hosts.push(host.clone()),
            None => lost.push(known.host.clone()),
        }
    }
    Ok((hosts, lost, applied.given_up))
}

fn refuse_strangers(named: &[String], hosts: &[Host], lost: &[String]) -> anyhow::Result<()> {
    let is_known = |name: &String| hosts.iter().any(|host| host.name == *name) || lost.contains(name);
    match named.iter().find(|name| !is_known(name)) {
        Some(name) => bail!("--force-forget {name}: the cluster has no such host; nothing was changed"),
        None => Ok(()),
    }
}

fn unknown_way(lost: Vec<String>, is_given_up: impl Fn(&str) -> bool) -> impl Iterator<Item = (String, String)> {
    const WHY: &str = "the inventory does not name it any more, and nothing else tells how to reach it: put its lines back, or give \
                       --force-forget";
    lost.into_iter().filter(move |name| !is_given_up(name)).map(|name| (name, WHY.to_owned()))
}

async fn take_back(
    run: &Run<'_>,
    fleet: &Fleet<'_>,
    mut member: Member<'_>,
    cluster_id: &str,
    keep_data: bool,
) -> Result<(), String> {
    let line = run.printer.host(&member.host.name);
    let foreign = member.facts.manifest.as_ref().filter(|manifest| manifest.cluster.id != cluster_id);
    if let Some(manifest) = foreign {
        let why = format!("belongs to another cluster ({:?}); left alone", manifest.cluster.name);
        let host = member.host.name.clone();
        member.session.close().await;
        run.printer.error(&format!("{host}: {why}"), json!({"host": host}));
        return Err(why);
    }
    line.doing("stopping");
    let result = fleet.bounded(member.host, member.session.down(keep_data, |event| line.seen(event))).await;
    member.session.close().await;
    match &result {
        Ok(done) if done.changed == 0 => line.done("kinstall was not here"),
        Ok(_) => line.done("as it was before"),
        Err(error) => {
            line.failed(&error.message);
            fleet::tell(run.printer, error);
        }
    }
    result.map(drop).map_err(|error| format!("{}: {}", error.step, error.message))
}

/// Who is clean needs no second visit once the inventory has changed, and the way to who is not stays known.
fn remember(
    run: &Run<'_>,
    hosts: &[Host],
    clean: &[&Host],
    left: &[(String, String)],
    keep_data: bool,
) -> anyhow::Result<()> {
    for host in hosts.iter().filter(|host| left.iter().any(|(name, _)| *name == host.name)) {
        Applied::leave_behind(&run.state, host)?;
    }
    if !keep_data {
        clean.iter().try_for_each(|host| Applied::forget(&run.state, &host.name))?;
    }
    Ok(())
}

fn tell_left(run: &Run<'_>, clean: &[&str], left: &[(String, String)]) {
    let lines: String = left.iter().map(|(name, why)| format!("\n  {name}: {why}")).collect();
    let text = format!(
        "{} hosts are clean, {} not yet:{lines}\nkeys and state are kept; run `kinstall down -i {}` again when they can be worked on \
         (--force-forget NAME for those that are gone for good)",
        clean.len(),
        left.len(),
        run.inventory
    );
    let left: Vec<_> = left.iter().map(|(name, why)| json!({"host": name, "why": why})).collect();
    run.printer.result(&text, &json!({"event": "summary", "ok": false, "clean": clean, "left": left}));
}

fn confirm(run: &Run<'_>, arguments: &Down, hosts: usize) -> anyhow::Result<()> {
    let (refusal, what) = match arguments.keep_data {
        true => ("`down` removes the cluster", "keeping its data"),
        false => ("`down` removes the cluster and its data", "with all its data"),
    };
    let name = &run.cluster.name;
    let question = format!("This removes the cluster {name:?} from {hosts} hosts, {what}. Type its name to go on:");
    if !(run.yes || ask::is_typed(name, &question, refusal)?) {
        run.printer.event("cancelled", "nothing was changed", Value::Null);
        bail!("the name does not match");
    }
    Ok(())
}
