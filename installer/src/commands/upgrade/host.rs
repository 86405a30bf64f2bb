//! One host's way to the new version, or back.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::Api;
use serde_json::json;

use super::gate::{self, Gate, Since};
use super::plan::Step;
use super::{Upgrading, cordon};
use crate::api::Servers;
use crate::api::wait::node_silent;
use crate::cluster::Host;
use crate::commands::clocks::Wrong;
use crate::commands::fleet::Member;
use crate::commands::membership::may_stop;
use crate::desired::components_image;
use crate::drain::{self, drain};
use crate::hooks::Point;
use crate::host::Executable;
use crate::inventory::hooks::{Stage, When};
use crate::printer::HostLine;

/// How long an API server may take to answer that was ready a moment ago, or has failed.
const RELEASE: Duration = Duration::from_secs(10);

/// How long a kubelet may take to be heard again: after its API server was away for a while it comes back by itself.
const HEARD_WITHIN: Duration = Duration::from_secs(30);

/// What became of a host that is not upgraded.
#[derive(Debug)]
pub enum Failed {
    /// It is as it was.
    Untouched(anyhow::Error),
    /// It was brought back to this version.
    Back { version: String, why: anyhow::Error },
    /// It is upgraded, and well; the hook after it has failed.
    Hook(anyhow::Error),
    /// Neither forth nor back.
    Between { why: anyhow::Error, back: anyhow::Error },
}

impl Upgrading<'_> {
    /// Drain where that is due, the new state, the gate; and whatever comes of it, the node is not left cordoned.
    pub async fn one(&self, step: &Step<'_>) -> Result<(), Failed> {
        let hook =
            async |when| self.run.hooks().run(Point { stage: Stage::UpgradeHost, when, hosts: &[step.host] }).await;
        hook(When::Before).await.map_err(Failed::Untouched)?;
        let line = self.run.printer.host(&step.host.name);
        let mut result = self.drained_and_brought(step, &line).await;
        // its own API server may be what has failed: then nobody waits for it
        let released = match self.api_within(step.host, RELEASE).await {
            Ok(client) => cordon::release(&client, |name| name == step.host.name).await.map_err(Into::into),
            Err(error) => Err(error),
        };
        match released {
            Ok(names) => names.iter().for_each(|_| self.tell(step.host, "uncordoned")),
            Err(error) => self.run.printer.warning(&format!(
                "{}: cannot be uncordoned now ({error:#}); the same command again does it",
                step.host.name
            )),
        }
        if result.is_ok() {
            result = hook(When::After).await.map_err(Failed::Hook);
        }
        match &result {
            Ok(()) => line.done(&format!("upgraded to {}", step.state.version)),
            Err(Failed::Untouched(_)) => line.failed("as it was"),
            Err(Failed::Back { version, .. }) => line.failed(&format!("back at {version}")),
            Err(Failed::Hook(_)) => line.failed("upgraded, but a hook failed"),
            Err(Failed::Between { .. }) => line.failed("neither upgraded nor back"),
        }
        result
    }

    async fn drained_and_brought(&self, step: &Step<'_>, line: &HostLine<'_>) -> Result<(), Failed> {
        if step.drains {
            line.doing("draining");
            self.there(step.host, self.drain(step.host)).await.map_err(Failed::Untouched)?;
        }
        let mut member = self.open(step.host).await.map_err(Failed::Untouched)?;
        if step.restarts_etcd
            && let Err(error) = quorum_stays(&mut member).await
        {
            member.session.close().await;
            return Err(Failed::Untouched(error));
        }
        line.doing("upgrading");
        let mut since = Since::new(&member);
        let brought = self.there(step.host, self.bring(&mut member, step, line, &mut since)).await;
        let Err(why) = brought else {
            let good = self.there(step.host, self.settle(&mut member, step, line)).await;
            member.session.close().await;
            // it is well with the new version: going on is what heals it
            return good.map_err(|why| Failed::Between { why, back: anyhow!("it works with the new version") });
        };
        member.session.close().await;
        if why.is::<Wrong>() {
            return Err(Failed::Between { why, back: anyhow!("{} would be waited for in vain too", step.from) });
        }
        self.tell(step.host, &format!("{why:#}"));
        self.tell(step.host, &format!("goes back to {}", step.from));
        line.doing("going back");
        match self.there(step.host, self.back(step, line)).await {
            Ok(()) => Err(Failed::Back { version: step.from.clone(), why }),
            Err(back) => Err(Failed::Between { why, back }),
        }
    }

    /// Work on one host: in vain where its clock, or a control plane's, is wrong.
    async fn there<T>(&self, host: &Host, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let hosts = [host];
        tokio::select! {
            done = self.timely(&hosts, work) => done,
            wrong = self.control_planes.clone() => Err(wrong.into()),
        }
    }

    async fn bring(
        &self,
        member: &mut Member<'_>,
        step: &Step<'_>,
        line: &HostLine<'_>,
        since: &mut Since,
    ) -> anyhow::Result<()> {
        let applying = member.session.apply_revocably(&step.state, self.bundle, &self.fleet.uploads, |event| {
            since.see(event);
            line.seen(event);
        });
        self.fleet.bounded(step.host, applying).await?;
        line.doing("waiting until it is well");
        let timeout = self.run.cluster.limits.ready_timeout;
        let client = gate::while_there(member, self.api(step.host)).await?;
        let gate = Gate {
            printer: self.run.printer,
            servers: self.servers().await?,
            client: &client,
            since: *since,
            timeout,
            proof: step.starts_pods_anew.then(|| components_image(&step.state.version)),
        };
        gate.pass(member, &step.state).await
    }

    /// From here on there is no way back: what only the old version has is removed.
    async fn settle(&self, member: &mut Member<'_>, step: &Step<'_>, line: &HostLine<'_>) -> anyhow::Result<()> {
        let applying = member.session.apply(&step.state, self.bundle, &self.fleet.uploads, |event| line.seen(event));
        self.fleet.bounded(step.host, applying).await?;
        Ok(())
    }

    /// Needs nothing of the old version but what the host has kept.
    async fn back(&self, step: &Step<'_>, line: &HostLine<'_>) -> anyhow::Result<()> {
        let mut member = self.open(step.host).await?;
        let result = self.brought_back(&mut member, step, line).await;
        member.session.close().await;
        result
    }

    async fn brought_back(&self, member: &mut Member<'_>, step: &Step<'_>, line: &HostLine<'_>) -> anyhow::Result<()> {
        let mut since = Since::new(member);
        let rolling = member.session.rollback(|event| {
            since.see(event);
            line.seen(event);
        });
        self.fleet.bounded(step.host, rolling).await?;
        let timeout = self.run.cluster.limits.ready_timeout;
        let well = async {
            if step.host.control_plane {
                self.servers().await?.on(&step.host.name).ready(timeout).await?;
            }
            let client = self.api(step.host).await?;
            gate::node_is_ready(&client, &step.host.name, since, timeout).await?;
            Ok(client)
        };
        let client = gate::while_there(member, well).await?;
        self.tidy_back(member, &client).await;
        Ok(())
    }

    async fn drain(&self, host: &Host) -> anyhow::Result<()> {
        let client = self.api(host).await?;
        let node = Api::<Node>::all(client.clone()).get_opt(&host.name).await.context("cannot ask for the node")?;
        let Some(node) = node else { return Ok(()) };
        if node_silent(&node) {
            gate::heard(&client, &host.name, HEARD_WITHIN).await;
        }
        if !cordon::cordon(&client, &node).await.context("cannot cordon the node")? {
            self.tell(host, "was cordoned before, and stays so");
        }
        let options = drain::Options {
            force: self.arguments.force,
            delete_empty_dir_data: self.arguments.delete_emptydir_data,
            timeout: self.arguments.timeout,
        };
        match drain(&client, &host.name, &options, |text| self.tell(host, own(text, host))).await {
            Ok(drained) => {
                self.tell(host, &drained.to_string());
                Ok(())
            }
            Err(stopped) => bail!("not drained: {stopped}"),
        }
    }

    /// A conversation with the bundle's own `converge`.
    async fn open<'h>(&self, host: &'h Host) -> anyhow::Result<Member<'h>> {
        let executable = Executable::Of(self.bundle);
        let mut opened = self.fleet.open_some(self.run, std::iter::once(host), executable).await;
        match opened.pop() {
            Some((_, Ok(Some(member)))) => Ok(member),
            Some((_, Err(error))) => Err(error.into()),
            _ => bail!("{}: kinstall is not there", host.name),
        }
    }

    pub async fn servers(&self) -> anyhow::Result<Servers> {
        Servers::open_unretried(&self.run.kubeconfig()?).await
    }

    /// An API server that this host's restart does not take away, where there is one.
    async fn api(&self, host: &Host) -> anyhow::Result<Client> {
        self.api_within(host, self.run.cluster.limits.ready_timeout).await
    }

    async fn api_within(&self, host: &Host, limit: Duration) -> anyhow::Result<Client> {
        let mut servers = self.servers().await?;
        if self.run.cluster.several_control_planes() {
            servers = servers.elsewhere(std::slice::from_ref(&host.name));
        }
        Ok(servers.ready(limit).await?.client)
    }

    fn tell(&self, host: &Host, text: &str) {
        self.run.printer.event("node", &format!("  {}: {text}", host.name), json!({"node": host.name}));
    }
}

/// Without the host's name, which is told anyway.
fn own<'t>(text: &'t str, host: &Host) -> &'t str {
    text.strip_prefix(host.name.as_str()).and_then(|text| text.strip_prefix(": ")).unwrap_or(text)
}

/// While its member of etcd restarts the others must be able to decide.
async fn quorum_stays(member: &mut Member<'_>) -> anyhow::Result<()> {
    if !member.facts.store.joined {
        return Ok(());
    }
    let members = member.session.members().await.context("cannot ask etcd who its members are")?;
    let peer_url = member.host.etcd_peer_url();
    let Some(own) = members.iter().find(|member| member.peer_urls.contains(&peer_url)) else { return Ok(()) };
    may_stop(&members, own.id).map_err(|why| {
        anyhow!("its member of etcd cannot be spared now: {why}; bring the other control planes back first")
    })
}
