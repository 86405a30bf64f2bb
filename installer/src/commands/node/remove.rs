//! `kinstall node remove`: seen off by the API, brought back to what it was, taken out of etcd, forgotten.
//!
//! The order makes each step repeatable: the kubelet is stopped before its Node goes, so that it cannot register again, and
//! keys are forgotten last. What was done already is found done.

mod empty;

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, DeleteParams};
use serde_json::json;

use super::inventory::Edited;
use super::may_be_left;
use crate::api::Servers;
use crate::bundle::Bundle;
use crate::cli::{Bundled, Draining, NodeRemove};
use crate::cluster::{ETCD_PEER_PORT, Host};
use crate::commands::fleet::{self, Fleet, Member};
use crate::commands::{Ended, Run, adopt, membership};
use crate::desired::ETCD;
use crate::hooks::Point;
use crate::host::{Executable, HostError};
use crate::inventory::hooks::{Stage, When};
use crate::state::applied::Applied;

/// Everything that removals need.
pub struct Removal<'a> {
    run: &'a Run<'a>,
    /// All that go.
    names: Vec<String>,
    draining: &'a Draining,
    /// Hosts that cannot be reached hold up nothing.
    may_be_dead: bool,
    client: Client,
    fleet: Fleet<'a>,
    bundle: Option<Bundle>,
}

/// What is at a host's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// A host with kinstall on it.
    Ours,
    /// A host without: nobody there ends pods.
    Bare,
    Nobody,
}

/// What of a node there is.
pub struct Subject {
    name: String,
    /// The inventory's, or as it was when `up` saw it last; None: nothing tells how to reach it.
    host: Option<Host>,
    node: Option<Node>,
    /// The last apply made a member of etcd of it.
    had_etcd: bool,
}

/// What its host says.
struct Seen {
    reach: Reach,
    /// It has the data of a member of etcd that had its vote.
    joined: bool,
}

pub async fn run(run: &Run<'_>, arguments: &NodeRemove) -> anyhow::Result<Ended> {
    let mut names: Vec<String> = Vec::new();
    for name in &arguments.names {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    may_be_left(&run.cluster, &names).map_err(anyhow::Error::msg)?;
    if !run.yes {
        bail!(
            "`node remove` takes {} out of the cluster with everything kinstall put there; say --yes to do so",
            names.join(", ")
        );
    }
    let copy = adopt::Watched::new(run);
    let ended = remove_all(run, &names, arguments).await;
    copy.bring_if_changed(run, &names).await;
    ended
}

async fn remove_all(run: &Run<'_>, names: &[String], arguments: &NodeRemove) -> anyhow::Result<Ended> {
    let removal = Removal::new(run, names, &arguments.draining, &arguments.bundled).await?;
    // all of them are known before the first is touched
    let mut subjects = Vec::new();
    for name in names {
        match removal.find(name).await? {
            Some(subject) => subjects.push(subject),
            None => run.printer.event("node", &removal.nothing_left(name), json!({"node": name, "gone": true})),
        }
    }
    for (done, subject) in subjects.iter().enumerate() {
        run.printer.phase(&format!("removing {}", subject.name));
        if let Err(error) = removal.remove(subject).await {
            run.printer.error(&format!("{}: {error:#}", subject.name), json!({"node": subject.name}));
            let text = format!("{done} of {} nodes removed; the same command again goes on", subjects.len());
            let removed: Vec<_> = subjects[..done].iter().map(|subject| &subject.name).collect();
            run.printer.result(&text, &json!({"event": "summary", "ok": false, "removed": removed}));
            return Ok(Ended::Failed);
        }
    }
    let left = match arguments.keep_in_inventory {
        true => in_inventory(run, names),
        false => strike(run, names),
    };
    let mut text = match subjects.is_empty() {
        true => format!("{} was removed before", names.join(", ")),
        false => format!("removed {}", names.join(", ")),
    };
    if !left.is_empty() {
        text += &format!(
            "\n{} stands in {}: as long as it stands there `kinstall up` makes it a node again",
            left.join(", "),
            run.inventory
        );
    }
    run.printer.result(
        &text,
        &json!({"event": "summary", "ok": true, "removed": names, "inInventory": left,
            "totalSeconds": run.printer.elapsed().as_secs_f64()}),
    );
    Ok(Ended::Done)
}

fn in_inventory(run: &Run<'_>, names: &[String]) -> Vec<String> {
    let is_there = |name: &&String| run.cluster.hosts.iter().any(|host| host.name == **name);
    names.iter().filter(is_there).cloned().collect()
}

/// Takes hosts out of the inventory's file. Gives those that still stand there.
fn strike(run: &Run<'_>, names: &[String]) -> Vec<String> {
    let there = in_inventory(run, names);
    if there.is_empty() {
        return there;
    }
    match Edited::without(run, &there).and_then(|edited| edited.write()) {
        Ok(()) => {
            run.printer.event(
                "inventory",
                &format!("  took {} out of {}", there.join(", "), run.inventory),
                json!({"inventory": run.inventory, "hosts": there}),
            );
            Vec::new()
        }
        Err(error) => {
            run.printer.warning(&format!("the nodes are gone, but {error:#}"));
            there
        }
    }
}

impl<'a> Removal<'a> {
    pub async fn new(
        run: &'a Run<'a>,
        names: &[String],
        draining: &'a Draining,
        bundled: &Bundled,
    ) -> anyhow::Result<Self> {
        run.hooks().check(&[Stage::NodeRemove])?;
        let servers = Servers::open_unretried(&run.kubeconfig()?).await?.elsewhere(names);
        let client = servers.ready(Duration::from_secs(20)).await?.client;
        let bundle = run.bundle_if_any(bundled.bundle.as_deref()).await?;
        let (names, fleet) = (names.to_vec(), Fleet::new(run));
        Ok(Self { run, names, draining, may_be_dead: draining.force, client, fleet, bundle })
    }

    /// A host that cannot be reached is no reason to stop.
    pub fn even_dead(mut self) -> Self {
        self.may_be_dead = true;
        self
    }

    /// What there is of a node; `None`: a run before this one has removed all of it.
    ///
    /// # Errors
    /// When nobody has ever heard of it: the name may be mistyped.
    async fn find(&self, name: &str) -> anyhow::Result<Option<Subject>> {
        let host = self.run.cluster.hosts.iter().find(|host| host.name == name);
        let found = self.find_as(name, host).await?;
        if found.is_none() && !Applied::load(&self.run.state)?.is_some_and(|applied| applied.is_gone(name)) {
            bail!(
                "{name:?} is neither a host of {} nor a node of the cluster; nothing was changed",
                self.run.inventory
            );
        }
        Ok(found)
    }

    /// What there is of a node whose host is as an inventory named it.
    pub async fn find_as(&self, name: &str, host: Option<&Host>) -> anyhow::Result<Option<Subject>> {
        let applied = Applied::load(&self.run.state)?;
        let known = applied.as_ref().and_then(|applied| applied.host(name));
        let host = host.or_else(|| known.and_then(|known| known.reach.as_ref())).cloned();
        let node = Api::<Node>::all(self.client.clone()).get_opt(name).await.context("cannot ask for the node")?;
        let is_there = host.is_some() || node.is_some() || known.is_some();
        let had_etcd = known.is_some_and(|known| known.has_unit(ETCD));
        Ok(is_there.then(|| Subject { name: name.to_owned(), host, node, had_etcd }))
    }

    pub fn nothing_left(&self, name: &str) -> String {
        format!("  {name}: nothing is left of it, neither a host in {} nor a node of the cluster", self.run.inventory)
    }

    pub async fn remove(&self, subject: &Subject) -> anyhow::Result<()> {
        let Seen { reach, joined } = self.look(subject).await?;
        let peer_url = self.peer_url(subject, joined)?;
        if let Some(url) = &peer_url {
            let mut others = self.others().await;
            let result = membership::may_leave(&mut others, url).await;
            fleet::close(others).await;
            result.context("nothing was changed")?;
        }
        self.hook(subject, When::Before).await.context("nothing was changed")?;
        if let Some(node) = &subject.node {
            self.empty(node, reach).await?;
        }
        if let Some(host) = subject.host.as_ref().filter(|_| reach == Reach::Ours) {
            self.take_back(host).await.context("the node stays cordoned, its host is not what it was")?;
        }
        // a member that is taken out while its etcd runs starts once more and joins anew
        if let Some(url) = &peer_url {
            let mut others = self.others().await;
            let result = membership::leave(&mut others, url).await;
            fleet::close(others).await;
            if let Some(member) = result.context("the node stays cordoned and its member in etcd")? {
                self.tell(&subject.name, &format!("etcd: took the member {} out", member.title()));
            }
        }
        self.forget(subject, reach != Reach::Nobody).await?;
        if reach == Reach::Nobody {
            self.run.printer.warning(&format!(
                "{0}: its host was not touched, and as long as kinstall runs there it registers again; as soon as it can be \
                 reached run `kinstall node remove {0}` once more",
                subject.name
            ));
        }
        self.hook(subject, When::After).await
    }

    async fn hook(&self, subject: &Subject, when: When) -> anyhow::Result<()> {
        let hosts: Vec<&Host> = subject.host.iter().collect();
        self.run.hooks().run(Point { stage: Stage::NodeRemove, when, hosts: &hosts }).await
    }

    /// Whether its host can be worked on. Touches nothing.
    async fn look(&self, subject: &Subject) -> anyhow::Result<Seen> {
        let nobody = Seen { reach: Reach::Nobody, joined: false };
        let Some(host) = &subject.host else {
            return self
                .without("neither the inventory nor the state directory tells how to reach its host")
                .map(|()| nobody);
        };
        match self.open(host).await {
            Ok(member) => {
                let reach = match &member {
                    Some(member) if member.facts.manifest.is_some() => Reach::Ours,
                    _ => Reach::Bare,
                };
                let joined = member.as_ref().is_some_and(|member| member.facts.store.joined);
                let result = self.is_ours(member.as_ref());
                fleet::close(member.into_iter().collect()).await;
                result.map(|()| Seen { reach, joined })
            }
            Err(error) => self.without(&error.to_string()).map(|()| nobody),
        }
    }

    fn without(&self, why: &str) -> anyhow::Result<()> {
        if self.may_be_dead {
            return Ok(());
        }
        bail!("{why}; nothing was changed (--force removes the node from the API and leaves its host alone)")
    }

    fn is_ours(&self, member: Option<&Member<'_>>) -> anyhow::Result<()> {
        let identity = self.run.state.identity()?;
        match member.and_then(|member| member.facts.manifest.as_ref()) {
            Some(manifest) if manifest.cluster.id != identity.id => {
                bail!("its host belongs to another cluster ({:?}); nothing was changed", manifest.cluster.name)
            }
            _ => Ok(()),
        }
    }

    async fn open<'h>(&self, host: &'h Host) -> Result<Option<Member<'h>>, HostError> {
        let executable = Executable::Installed(self.bundle.as_ref());
        let mut opened = self.fleet.open_some(self.run, std::iter::once(host), executable).await;
        opened.pop().map_or_else(|| Ok(None), |(_, result)| result)
    }

    /// Where its member of etcd would listen, if there may be one: the inventory may have made a worker of it meanwhile. `joined`: its
    /// host has a member's data.
    fn peer_url(&self, subject: &Subject, joined: bool) -> anyhow::Result<Option<String>> {
        if !self.run.cluster.runs_etcd() {
            if joined {
                bail!(
                    "its host has a member of the cluster's etcd, and this inventory runs none: name the control planes that \
                     there were; nothing was changed"
                );
            }
            return Ok(None);
        }
        let had = subject.had_etcd || joined;
        Ok(match &subject.host {
            Some(host) => (host.control_plane || had).then(|| host.etcd_peer_url()),
            None => subject.node.as_ref().and_then(internal_address).map(|ip| format!("https://{ip}:{ETCD_PEER_PORT}")),
        })
    }

    /// The control planes that stay and can be reached.
    async fn others(&self) -> Vec<Member<'_>> {
        let stays = |host: &&Host| !self.names.contains(&host.name);
        let hosts = self.run.cluster.control_planes().filter(stays);
        let opened = self.fleet.open_some(self.run, hosts, Executable::Installed(self.bundle.as_ref())).await;
        opened.into_iter().filter_map(|(_, result)| result.ok().flatten()).collect()
    }

    async fn take_back(&self, host: &Host) -> anyhow::Result<()> {
        let line = self.run.printer.host(&host.name);
        let Some(mut member) = self.open(host).await? else {
            line.done("kinstall was not here");
            return Ok(());
        };
        self.is_ours(Some(&member))?;
        line.doing("stopping");
        let result = self.fleet.bounded(host, member.session.down(false, |event| line.seen(event))).await;
        member.session.close().await;
        match result {
            Ok(done) if done.changed == 0 => line.done("kinstall was not here"),
            Ok(_) => line.done("as it was before"),
            Err(error) => {
                line.failed(&error.message);
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// The Node and the host's keys go; the way to a host that was not taken back stays known.
    async fn forget(&self, subject: &Subject, taken_back: bool) -> anyhow::Result<()> {
        let nodes = Api::<Node>::all(self.client.clone());
        match nodes.delete(&subject.name, &DeleteParams::default()).await {
            Ok(_) => self.tell(&subject.name, "its Node is deleted"),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error).context("cannot delete its Node"),
        }
        self.run.state.forget_keys(&subject.name).context("cannot forget its certificates")?;
        match &subject.host {
            Some(host) if !taken_back => Applied::leave_behind(&self.run.state, host),
            _ => Applied::forget(&self.run.state, &subject.name),
        }
    }

    fn tell(&self, node: &str, text: &str) {
        self.run.printer.event("node", &format!("  {text}"), json!({"node": node}));
    }
}

fn internal_address(node: &Node) -> Option<&str> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|address| address.type_ == "InternalIP").map(|address| address.address.as_str())
}
