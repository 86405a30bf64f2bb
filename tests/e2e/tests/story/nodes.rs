//! A node leaves the cluster and comes back; the others do not notice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::scenario::until;
use e2e::snapshot::{Snapshot, nft};
use lab::Host;

use crate::Story;

/// The worker that holds no volume; the cluster's others.
struct Parts<'a> {
    leaving: &'a Host,
    others: Vec<&'a Host>,
}

fn parts(story: &Story) -> Result<Parts<'_>> {
    let hosts = story.lab.hosts();
    let is_empty = |host: &Host| {
        let found = host.ssh_ok("ls -A /var/lib/kinstall/volumes 2>/dev/null; true")?;
        anyhow::Ok(found.trim().is_empty())
    };
    let mut leaving = None;
    for host in &hosts[1..] {
        if leaving.is_none() && is_empty(host)? {
            leaving = Some(host);
        }
    }
    let leaving = leaving.context("both workers hold volumes of the sample")?;
    Ok(Parts { leaving, others: hosts.iter().filter(|host| host.name() != leaving.name()).collect() })
}

/// When each host was last applied to, and with what.
fn manifests(hosts: &[&Host]) -> Result<Vec<String>> {
    hosts.iter().map(|host| host.ssh_ok("sha256sum /var/lib/kinstall/manifest.json")).collect()
}

const BUDGETED: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: guarded, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: guarded}}
  template:
    metadata: {labels: {app: guarded}}
    spec:
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: guarded}}}
      containers:
      - name: web
        image: IMAGE
        command: [/kinstall-components, probe, serve, --port, '8080']
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: guarded, namespace: default}
spec: {minAvailable: 1, selector: {matchLabels: {app: guarded}}}
";

/// A worker goes while a budget watches; its host is what it was, the others are not touched, and `up` takes it back.
pub fn leaves_and_comes_back(story: &Story) -> Result<()> {
    let Parts { leaving, others } = parts(story)?;
    let name = leaving.name();
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    let image = story.operator.kubectl(&["get", "daemonset", "kinstall-ingress", "-n", "kube-system", "-o", path])?;
    story.operator.kubectl_with(&["apply", "-f", "-"], &BUDGETED.replace("IMAGE", &image))?;
    story.operator.kubectl(&["rollout", "status", "deployment/guarded", "--timeout=60s"])?;
    let before = manifests(&others)?;

    let started = Instant::now();
    let options = ["-i", "inventory.yaml", "--yes", "--delete-emptydir-data", "--keep-in-inventory"];
    let said = story.operator.ok(&[&["node", "remove", name][..], &options].concat())?;
    println!("        {name} left in {:.1} s", started.elapsed().as_secs_f64());
    ensure!(said.contains("as long as it stands there"), "{said}");
    let nodes = story.operator.kubectl(&["get", "nodes", "--no-headers"])?;
    ensure!(nodes.lines().count() == 2 && !nodes.contains(name), "{nodes}");
    let position = story.lab.hosts().iter().position(|host| host.name() == name).context("no such host")?;
    let left = story.before[position].differences(&Snapshot::take(leaving)?);
    ensure!(left.is_empty(), "{} differences:\n{}", left.len(), left.join("\n"));
    ensure!(nft(leaving, &["list", "ruleset"])?.contains("theirs"), "other people's rules are gone");
    ensure!(manifests(&others)? == before, "another host was touched by the removal");
    story.operator.kubectl(&["rollout", "status", "deployment/guarded", "--timeout=60s"])?;

    let said = story.operator.ok(&["up", "-i", "inventory.yaml", "--yes"])?;
    ensure!(said.contains("works"), "{said}");
    ensure!(manifests(&others)? == before, "adding one node touched another host");
    until(Duration::from_secs(30), "all nodes are Ready", || {
        let nodes = story.operator.kubectl(&["get", "nodes", "--no-headers"]).unwrap_or_default();
        nodes.lines().filter(|line| line.contains(" Ready ")).count() == 3
    })?;
    story.operator.kubectl(&["delete", "deployment,pdb", "guarded"])?;
    Ok(())
}
