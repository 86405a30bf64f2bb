//! `kinstall node remove`: seen off by the API, taken out of etcd, brought back to what it was, forgotten.
//!
//! The order makes each step repeatable: the kubelet is stopped before its Node goes, so that it cannot register again, and
//! keys are forgotten last. What was done already is found done.

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use super::{may_be_left, volumes};
use crate::api::Servers;
use crate::api::wait::node_ready;
use crate::bundle::Bundle;
use crate::cli::NodeRemove;
use crate::cluster::{ETCD_PEER_PORT, Host};
use crate::commands::fleet::{self, Fleet, Member};
use crate::commands::{Ended, Run, membership};
use crate::drain::{self, drain};
use crate::host::{Executable, HostError};

/// Everything that one removal needs.
struct Removal<'a> {
    run: &'a Run<'a>,
    arguments: &'a NodeRemove,
    client: Client,
    fleet: Fleet,
    bundle: Option<Bundle>,
}

/// What of a node there is.
struct Subject<'a> {
    name: &'a str,
    /// None: the inventory does not name it.
    host: Option<&'a Host>,
    node: Option<Node>,
}

pub async fn run(run: &Run<'_>, arguments: &NodeRemove) -> anyhow::Result<Ended> {
    may_be_left(&run.cluster, &arguments.names).map_err(anyhow::Error::msg)?;
    if !run.yes {
        bail!(
            "`node remove` takes {} out of the cluster with everything kinstall put there; say --yes to do so",
            arguments.names.join(", ")
        );
    }
    let servers = Servers::open_unretried(&run.kubeconfig()?).await?.elsewhere(&arguments.names);
    let client = servers.ready(Duration::from_secs(20)).await?.client;
    let bundle = run.bundle_if_any(arguments.bundled.bundle.as_deref()).await?;
    let removal = Removal { run, arguments, client, fleet: Fleet::new(run), bundle };
    // all of them are known before the first is touched
    let mut subjects = Vec::new();
    for name in &arguments.names {
        subjects.push(removal.find(name).await?);
    }
    for (done, subject) in subjects.iter().enumerate() {
        run.printer.phase(&format!("removing {}", subject.name));
        if let Err(error) = removal.remove(subject).await {
            run.printer.error(&format!("{}: {error:#}", subject.name), json!({"node": subject.name}));
            let text = format!("{done} of {} nodes removed; the same command again goes on", subjects.len());
            run.printer.result(&text, &json!({"event": "summary", "ok": false, "removed": arguments.names[..done]}));
            return Ok(Ended::Failed);
        }
    }
    let lines: Vec<_> = subjects.iter().filter(|subject| subject.host.is_some()).map(|subject| subject.name).collect();
    let mut text = format!("removed {}", arguments.names.join(", "));
    if !lines.is_empty() {
        text += &format!(
            "\nnow take {} out of {}: as long as it stands there `kinstall up` makes it a node again",
            lines.join(", "),
            run.inventory
        );
    }
    run.printer.result(
        &text,
        &json!({"event": "summary", "ok": true, "removed": arguments.names, "inInventory": lines,
            "totalSeconds": run.printer.elapsed().as_secs_f64()}),
    );
    Ok(Ended::Done)
}

impl Removal<'_> {
    async fn find<'n>(&'n self, name: &'n str) -> anyhow::Result<Subject<'n>> {
        let host = self.run.cluster.hosts.iter().find(|host| host.name == name);
        let node = Api::<Node>::all(self.client.clone()).get_opt(name).await.context("cannot ask for the node")?;
        if host.is_none() && node.is_none() && !self.was_applied(name)? {
            bail!(
                "{name:?} is neither a host of {} nor a node of the cluster; nothing was changed",
                self.run.inventory
            );
        }
        Ok(Subject { name, host, node })
    }

    fn was_applied(&self, name: &str) -> anyhow::Result<bool> {
        let applied: Option<Value> = self.run.state.read("applied.json")?;
        let hosts = applied.as_ref().and_then(|applied| applied["hosts"].as_array());
        Ok(hosts.is_some_and(|hosts| hosts.iter().any(|host| host["host"] == name)))
    }

    async fn remove(&self, subject: &Subject<'_>) -> anyhow::Result<()> {
        let reachable = self.look(subject).await?;
        let peer_url = self.peer_url(subject);
        if let Some(url) = &peer_url {
            let mut others = self.others().await;
            let result = membership::may_leave(&mut others, url).await;
            fleet::close(others).await;
            result.context("nothing was changed")?;
        }
        if let Some(node) = &subject.node {
            self.empty(node, reachable).await?;
        }
        if let Some(url) = &peer_url {
            let mut others = self.others().await;
            let result = membership::leave(&mut others, url).await;
            fleet::close(others).await;
            if let Some(member) = result.context("the node stays cordoned")? {
                self.tell(subject.name, &format!("etcd: took the member {} out", member.title()));
            }
        }
        if let Some(host) = subject.host.filter(|_| reachable) {
            self.take_back(host).await.context("the node stays cordoned, its host is not what it was")?;
        }
        self.forget(subject).await?;
        if !reachable {
            self.run.printer.warning(&format!(
                "{0}: its host was not touched, and as long as kinstall runs there it registers again; as soon as it can be \
                 reached run `kinstall node remove {0}` once more, with its lines in the inventory",
                subject.name
            ));
        }
        Ok(())
    }

    /// Whether its host can be worked on. Touches nothing.
    async fn look(&self, subject: &Subject<'_>) -> anyhow::Result<bool> {
        let Some(host) = subject.host else {
            return self.without("the inventory does not name its host").map(|()| false);
        };
        match self.open(host).await {
            Ok(member) => {
                let result = self.is_ours(member.as_ref());
                fleet::close(member.into_iter().collect()).await;
                result.map(|()| true)
            }
            Err(error) => self.without(&error.to_string()).map(|()| false),
        }
    }

    fn without(&self, why: &str) -> anyhow::Result<()> {
        if self.arguments.force {
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

    /// Where its member of etcd would listen, if there may be one.
    fn peer_url(&self, subject: &Subject<'_>) -> Option<String> {
        if !self.run.cluster.runs_etcd() {
            return None;
        }
        match subject.host {
            Some(host) => host.control_plane.then(|| host.etcd_peer_url()),
            None => subject.node.as_ref().and_then(internal_address).map(|ip| format!("https://{ip}:{ETCD_PEER_PORT}")),
        }
    }

    /// The control planes that stay and can be reached.
    async fn others(&self) -> Vec<Member<'_>> {
        let stays = |host: &&Host| !self.arguments.names.contains(&host.name);
        let hosts = self.run.cluster.control_planes().filter(stays);
        let opened = self.fleet.open_some(self.run, hosts, Executable::Installed(self.bundle.as_ref())).await;
        opened.into_iter().filter_map(|(_, result)| result.ok().flatten()).collect()
    }

    /// Its pods elsewhere; of a node that is gone nobody could say that they ended.
    async fn empty(&self, node: &Node, reachable: bool) -> anyhow::Result<()> {
        let name = node.name_any();
        self.keep_volumes(node).await?;
        if !reachable && !node_ready(node) {
            Api::<Node>::all(self.client.clone()).cordon(&name).await.context("cannot cordon the node")?;
            self.tell(&name, "cordoned; it is not Ready, so its pods are left to the cluster's garbage collection");
            return Ok(());
        }
        let options = drain::Options {
            force: self.arguments.force,
            delete_empty_dir_data: self.arguments.delete_emptydir_data,
            timeout: self.arguments.timeout,
        };
        match drain(&self.client, &name, &options, |text| self.tell(&name, text)).await {
            Ok(drained) => {
                self.tell(&name, &format!("drained: {} pods went, {} stay", drained.evicted, drained.stayed));
                Ok(())
            }
            Err(stopped) => bail!(
                "not drained: {stopped}\nthe node stays cordoned; run the command again, or `kubectl uncordon {name}` to keep it"
            ),
        }
    }

    async fn keep_volumes(&self, node: &Node) -> anyhow::Result<()> {
        let name = node.name_any();
        let hostname = node.labels().get("kubernetes.io/hostname").unwrap_or(&name);
        let all = Api::<PersistentVolume>::all(self.client.clone()).list(&ListParams::default()).await?;
        let lost = volumes::lost_with(&all.items, hostname);
        if lost.is_empty() || self.arguments.force {
            return Ok(());
        }
        bail!(
            "the volumes of these claims lie on its disk and would be lost: {}; nothing was changed (move what they hold and \
             delete the claims, or give --force)",
            lost.join(", ")
        )
    }

    async fn take_back(&self, host: &Host) -> anyhow::Result<()> {
        let line = self.run.printer.host(&host.name, host.name.len());
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

    async fn forget(&self, subject: &Subject<'_>) -> anyhow::Result<()> {
        let nodes = Api::<Node>::all(self.client.clone());
        match nodes.delete(subject.name, &DeleteParams::default()).await {
            Ok(_) => self.tell(subject.name, "its Node is deleted"),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error).context("cannot delete its Node"),
        }
        self.run.state.forget_host(subject.name).context("cannot forget its certificates")
    }

    fn tell(&self, node: &str, text: &str) {
        self.run.printer.event("node", &format!("  {text}"), json!({"node": node}));
    }
}

fn internal_address(node: &Node) -> Option<&str> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|address| address.type_ == "InternalIP").map(|address| address.address.as_str())
}
