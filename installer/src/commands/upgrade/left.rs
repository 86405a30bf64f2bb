//! Hosts that cannot be worked on, and the upgrade of the others without them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use super::Upgrading;
use super::plan::Step;
use super::versions::{self, Versions};
use crate::cluster::{Cluster, Host};
use crate::commands::Ended;

impl Upgrading<'_> {
    /// Whether these may stay at what they have while the others get on. Tells that, or every reason against it.
    pub async fn may_leave(&self, left: &[&Host], steps: &[Step<'_>], to: Versions<'_>) -> anyhow::Result<bool> {
        if left.is_empty() {
            return Ok(true);
        }
        let cluster = &self.run.cluster;
        let etcd_restarts = steps.iter().any(|step| step.restarts_etcd);
        let reasons = match majority_stays(cluster, left, etcd_restarts) {
            Err(reason) => vec![reason],
            Ok(()) => cannot_follow_later(left, &self.kubelets().await?, to.kubernetes),
        };
        for reason in &reasons {
            self.run.printer.error(reason, Value::Null);
        }
        if reasons.is_empty() {
            for host in left {
                self.run.printer.warning(&format!("{}: stays at the version that it has", host.name));
            }
        }
        Ok(reasons.is_empty())
    }

    /// The versions of Kubernetes that the nodes have, by name.
    async fn kubelets(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let client = self.servers().await?.ready(self.run.cluster.limits.ready_timeout).await?.client;
        let nodes = Api::<Node>::all(client).list(&ListParams::default()).await.context("cannot ask for the nodes")?;
        let version = |node: Node| Some((node.name_any(), node.status?.node_info?.kubelet_version));
        Ok(nodes.into_iter().filter_map(version).collect())
    }

    /// Every host but these has the new version. The addons keep theirs: its image is on every host, the new one's is not.
    pub fn wait_for(&self, left: &[&Host], upgraded: usize, to: Versions<'_>) -> Ended {
        let names: Vec<_> = left.iter().map(|host| host.name.as_str()).collect();
        let text = format!(
            "not finished: the other hosts have {}; left as they were, since they could not be worked on: {}; and the addons \
             wait for them: when they are back, or taken out with `kinstall node remove`, the same command again goes on",
            to.kinstall,
            names.join(", "),
        );
        let version = to.kinstall;
        self.run.printer.result(
            &text,
            &json!({"event": "summary", "ok": false, "text": text, "upgraded": upgraded, "version": version, "left": names}),
        );
        Ended::Failed
    }
}

/// Why those that are left behind could not be upgraded later; `kubelets`: the versions of Kubernetes that nodes have, by name. Who
/// was never a node keeps nobody back.
fn cannot_follow_later(left: &[&Host], kubelets: &BTreeMap<String, String>, to: &str) -> Vec<String> {
    let reason = |host: &&Host| {
        let why = versions::kubernetes_may_follow(kubelets.get(&host.name)?, to).err()?;
        Some(format!("{} cannot be left behind, since it could not follow later: {why}", host.name))
    };
    left.iter().filter_map(reason).collect()
}

/// Whether the control planes that are not `left` decide without them, also while etcd restarts on one of them.
fn majority_stays(cluster: &Cluster, left: &[&Host], etcd_restarts: bool) -> Result<(), String> {
    let all = cluster.control_planes().count();
    let away: Vec<_> = left.iter().filter(|host| host.control_plane).map(|host| host.name.as_str()).collect();
    let (there, names) = (all - away.len(), away.join(" and "));
    if away.is_empty() {
        return Ok(());
    }
    if there == 0 {
        return Err(format!("without {names} there is no control plane"));
    }
    if !cluster.runs_etcd() {
        return Ok(());
    }
    let decide = |members: usize| members * 2 > all;
    if !decide(there) {
        return Err(format!("without {names} only {there} of etcd's {all} members are left, which is no majority"));
    }
    if etcd_restarts && !decide(there - 1) {
        return Err(format!(
            "this version restarts etcd, one member after the other, and without {names} those that run meanwhile are no \
             majority: bring {names} back first, or take it out with `kinstall node remove`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EXTERNAL: &str = "etcd: {endpoints: ['https://e:2379'], caFile: a, certFile: b, keyFile: c}\n";

    /// So many control planes, two workers behind them; those of these numbers are left.
    fn refused(control_planes: usize, more: &str, left: &[usize], etcd_restarts: bool, to: &str) -> String {
        let role = |index| if index <= control_planes { "controlPlane" } else { "worker" };
        let host = |index| format!("- {{name: h{index}, address: 10.0.0.{index}, role: {}}}\n", role(index));
        let hosts: String = (1..=control_planes + 2).map(host).collect();
        let cluster =
            Cluster::parse(&format!("cluster: c\nhosts:\n{hosts}{more}"), "i", std::path::Path::new("/")).unwrap();
        let left: Vec<_> = left.iter().map(|index| &cluster.hosts[index - 1]).collect();
        if let Err(reason) = majority_stays(&cluster, &left, etcd_restarts) {
            return reason;
        }
        // the last worker was never a node
        let nodes = cluster.hosts.iter().take(control_planes + 1);
        let kubelets = nodes.map(|host| (host.name.clone(), "v1.37.2".to_owned())).collect();
        cannot_follow_later(&left, &kubelets, to).join("\n")
    }

    #[test]
    fn control_planes_stay_away_only_as_long_as_the_others_decide() {
        for (control_planes, more, left, etcd_restarts, words) in [
            (3, "", &[1][..], false, ""),
            (3, "", &[1], true, "without h1 those that run meanwhile are no majority"),
            (3, "", &[1, 2], false, "only 1 of etcd's 3 members"),
            (5, "", &[1], true, ""),
            (5, "", &[1, 2], false, ""),
            (5, "", &[1, 2], true, "no majority"),
            (5, "", &[1, 2, 3], false, "only 2 of etcd's 5"),
            (1, "", &[1], false, "no control plane"),
            (3, EXTERNAL, &[1, 2], true, ""),
            (3, EXTERNAL, &[1, 2, 3], false, "no control plane"),
            (3, "", &[4, 5], true, ""),
        ] {
            let found = refused(control_planes, more, left, etcd_restarts, "1.37.3");
            assert!(
                found.contains(words) && found.is_empty() == words.is_empty(),
                "{left:?} of {control_planes}: {found:?}"
            );
        }
    }

    #[test]
    fn who_could_not_follow_later_is_not_left_behind() {
        for (left, to, words) in [
            (4, "1.38.0", ""),
            (4, "1.39.0", "h4 cannot be left behind"),
            (4, "1.37.1", "older than its"),
            (5, "1.39.0", ""),
        ] {
            let found = refused(3, "", &[left], false, to);
            assert!(found.contains(words) && found.is_empty() == words.is_empty(), "h{left} to {to}: {found:?}");
        }
    }
}
