//! A node joins and leaves; the others do not notice.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::operator::{Inventory, both};
use e2e::scenario::until;
use e2e::snapshot::{Snapshot, nft};
use lab::Host;

use crate::{NODES, Story};

/// What was made on each host, and since when its units run.
fn untouched(hosts: &[Host]) -> Result<Vec<String>> {
    const LOOK: &str = r#"sed -E 's/"applied": *"[^"]*"//' /var/lib/kinstall/manifest.json | sha256sum
        systemctl show -P ActiveEnterTimestampMonotonic 'kinstall-*.service'"#;
    hosts.iter().map(|host| host.ssh_ok(LOOK)).collect()
}

/// Both pods are on NODE for as long as it takes pods.
const GUARDED: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: guarded, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: guarded}}
  template:
    metadata: {labels: {app: guarded}}
    spec:
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [NODE]}]}
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

/// A fourth host becomes a node, gets all pods of a Deployment that a budget guards, and goes again.
pub fn joins_and_leaves(story: &Story) -> Result<()> {
    let (old, new) = story.lab.hosts().split_at(NODES);
    let (joining, before) = (&new[0], untouched(old)?);
    let (name, kubectl) = (joining.name(), |args: &[&str]| story.operator.kubectl(args));

    let larger = Inventory::of(&story.lab, story.operator.artifacts());
    story.operator.write(&larger)?;
    let said = story.operator.ok(&["up", "-i", "inventory.yaml", "--yes"])?;
    ensure!(said.contains("works"), "{said}");
    ensure!(untouched(old)? == before, "adding one node touched another host");
    let image = story.operator.components_image()?;
    story.operator.kubectl_with(&["apply", "-f", "-"], &GUARDED.replace("IMAGE", &image).replace("NODE", name))?;
    kubectl(&["rollout", "status", "deployment/guarded", "--timeout=60s"])?;
    let pods = kubectl(&["get", "pods", "-l", "app=guarded", "-o", "wide", "--no-headers"])?;
    ensure!(pods.lines().all(|line| line.contains(name)), "not on {name}:\n{pods}");

    let started = Instant::now();
    let options = ["-i", "inventory.yaml", "--yes", "--delete-emptydir-data", "--keep-in-inventory"];
    let removed = story.operator.run(&[&["node", "remove", name][..], &options].concat())?;
    let said = both(&removed);
    ensure!(removed.status.success(), "{said}");
    println!("        {name} left in {:.1} s", started.elapsed().as_secs_f64());
    ensure!(said.contains("waits: "), "the budget held up nobody:\n{said}");
    let nodes = kubectl(&["get", "nodes", "--no-headers"])?;
    ensure!(nodes.lines().count() == NODES && !nodes.contains(name), "{nodes}");
    let left = story.before[NODES].differences(&Snapshot::take(joining)?);
    ensure!(left.is_empty(), "{} differences:\n{}", left.len(), left.join("\n"));
    ensure!(nft(joining, &["list", "ruleset"])?.contains("theirs"), "other people's rules are gone");
    ensure!(untouched(old)? == before, "another host was touched by the removal");

    story.operator.write(&story.inventory)?;
    kubectl(&["rollout", "status", "deployment/guarded", "--timeout=60s"])?;
    kubectl(&["delete", "deployment,pdb", "guarded"])?;
    until(Duration::from_secs(30), "up sees nothing to do", || {
        story.operator.run(&["plan", "-i", "inventory.yaml"]).is_ok_and(|plan| plan.status.code() == Some(0))
    })?;
    Ok(())
}
