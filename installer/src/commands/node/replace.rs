//! `kinstall node replace`: another host in a node's place, in the order that loses nothing.
//!
//! | the old one | comes first | why |
//! | --- | --- | --- |
//! | a worker that lives | the new one | its pods need a place |
//! | a control plane that lives | the new one | etcd has as many votes as before until the old one goes |
//! | dead | the old one goes | a dead member only makes the majority harder to reach; a dead node's pods are freed |
//! | of the same name or address | the old one goes | both cannot be there |

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::add;
use super::inventory::Edited;
use super::remove::Removal;
use crate::cli::NodeReplace;
use crate::cluster::{Cluster, Host};
use crate::commands::fleet::{self, Fleet};
use crate::commands::{Ended, Run, adopt};
use crate::host::Executable;

pub async fn run(mut run: Run<'_>, arguments: &NodeReplace) -> anyhow::Result<Ended> {
    if !run.yes {
        bail!(
            "`node replace` takes {} out of the cluster with everything kinstall put there; say --yes to do so",
            arguments.old
        );
    }
    let copy = adopt::Watched::new(&run);
    let ended = replace(&mut run, arguments).await;
    copy.bring_if_changed(&run, &[]).await;
    ended
}

async fn replace(run: &mut Run<'_>, arguments: &NodeReplace) -> anyhow::Result<Ended> {
    let before = run.cluster.clone();
    let Some(old) = before.hosts.iter().find(|host| host.name == arguments.old) else {
        return finish(run, arguments).await;
    };
    let edited = edited(run, arguments, old)?;
    let new = edited.cluster.hosts.iter().find(|host| host.name == arguments.new);
    let new = new.context("the new host is not in the inventory that was made")?.clone();
    if old.control_plane && !before.several_control_planes() {
        bail!(
            "{} is the only control plane: the cluster's store is on its disk, and nothing could take it over; nothing was changed",
            old.name
        );
    }
    let both_fit = old.name != new.name && old.address != new.address && old.node_address != new.node_address;
    if both_fit && lives(run, old).await {
        run.cluster = edited.cluster.clone();
        run.leaves = Some(old.name.clone());
        if come(run, arguments, &new, &edited).await? != Ended::Done {
            return Ok(Ended::Failed);
        }
        return go(run, arguments, &before).await;
    }
    if go(run, arguments, &before).await? != Ended::Done {
        return Ok(Ended::Failed);
    }
    run.cluster = edited.cluster.clone();
    come(run, arguments, &new, &edited).await
}

/// The inventory with the new host in the old one's place, labels and all.
fn edited(run: &Run<'_>, arguments: &NodeReplace, old: &Host) -> anyhow::Result<Edited> {
    let mut values = vec![("name", arguments.new.as_str())];
    values.extend(arguments.address.as_deref().map(|address| ("address", address)));
    values.extend(arguments.node_address.as_deref().map(|address| ("nodeAddress", address)));
    values.retain(|(field, value)| *field != "name" || *value != old.name);
    if arguments.new != old.name && run.cluster.hosts.iter().any(|host| host.name == arguments.new) {
        bail!("{:?} is already a host of {}; nothing was changed", arguments.new, run.inventory);
    }
    let edited = Edited::changed(run, &old.name, &values).context("nothing was changed")?;
    let new = edited.cluster.hosts.iter().find(|host| host.name == arguments.new);
    if new.is_some_and(|new| new.address != old.address && new.node_address == old.node_address) {
        bail!(
            "the inventory gives {} a nodeAddress of its own; say the new host's with --node-address; nothing was changed",
            old.name
        );
    }
    Ok(edited)
}

async fn lives(run: &Run<'_>, host: &Host) -> bool {
    let mut opened = Fleet::new(run).open_some(run, std::iter::once(host), Executable::Installed(None)).await;
    match opened.pop() {
        Some((_, Ok(member))) => {
            fleet::close(member.into_iter().collect()).await;
            true
        }
        _ => false,
    }
}

async fn come(run: &Run<'_>, arguments: &NodeReplace, new: &Host, edited: &Edited) -> anyhow::Result<Ended> {
    run.printer.phase(&format!("{} comes", new.name));
    let names = std::slice::from_ref(&new.name);
    match new.control_plane {
        true => add::control_planes(run, names, &arguments.bundled, || edited.write()).await,
        false => add::workers(run, names, &arguments.bundled, || edited.write()).await,
    }
}

/// The old one goes. `before`: the cluster in which it still is.
async fn go(run: &Run<'_>, arguments: &NodeReplace, before: &Cluster) -> anyhow::Result<Ended> {
    run.printer.phase(&format!("{} goes", arguments.old));
    let names = [arguments.old.clone()];
    let removal = Removal::new(run, &names, &arguments.draining, &arguments.bundled).await?.even_dead();
    let old = before.hosts.iter().find(|host| host.name == arguments.old);
    let Some(subject) = removal.find_as(&arguments.old, old).await? else {
        let text = format!("{}\n{} has its place already", removal.nothing_left(&arguments.old).trim(), arguments.new);
        run.printer.result(&text, &json!({"event": "summary", "ok": true, "removed": []}));
        return Ok(Ended::Done);
    };
    if let Err(error) = removal.remove(&subject).await {
        run.printer.error(&format!("{}: {error:#}", arguments.old), json!({"node": arguments.old}));
        let text = "not finished; the same command again goes on";
        run.printer.result(text, &json!({"event": "summary", "ok": false}));
        return Ok(Ended::Failed);
    }
    let text = format!("{} is gone", arguments.old);
    run.printer.result(&text, &json!({"event": "summary", "ok": true, "removed": names}));
    Ok(Ended::Done)
}

/// A run before this one has changed the inventory: what is left of its work.
async fn finish(run: &mut Run<'_>, arguments: &NodeReplace) -> anyhow::Result<Ended> {
    let Some(new) = run.cluster.hosts.iter().find(|host| host.name == arguments.new).cloned() else {
        bail!("neither {:?} nor {:?} is a host of {}", arguments.old, arguments.new, run.inventory);
    };
    if arguments.address.as_ref().is_some_and(|address| *address != new.address) {
        bail!("{:?} is already a host of {}, at {}; nothing was changed", new.name, run.inventory, new.address);
    }
    run.printer.event("inventory", &format!("  {} is in {} already", new.name, run.inventory), Value::Null);
    run.leaves = Some(arguments.old.clone());
    let unchanged = Edited::without(run, &[])?;
    if come(run, arguments, &new, &unchanged).await? != Ended::Done {
        return Ok(Ended::Failed);
    }
    let before = run.cluster.clone();
    go(run, arguments, &before).await
}
