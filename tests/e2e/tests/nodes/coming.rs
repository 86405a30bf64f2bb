//! Nodes are added, changed, replaced and removed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::operator::both;
use e2e::scenario::until;
use e2e::snapshot::left_behind;
use serde_json::Value;

use crate::{Story, behind, manifests};

pub fn added(story: &Story) -> Result<()> {
    let address = story.lab.inventory_hosts().pop().context("no third host")?.1;
    let before = (story.inventory()?, manifests(&story.lab.hosts()[..2])?);
    behind::prepare(story)?;
    let add = [&["node", "add", "h3", "--address", &address, "-i", "inventory.yaml"], &behind::WAY[..]].concat();
    let bad = [&add[..], &["--taint", "nonsense"]].concat();
    story.operator.fails_saying(&bad, &["taints", "nothing was changed"])?;
    ensure!(story.inventory()? == before.0, "the inventory was changed");

    let started = Instant::now();
    let options = ["--label", "disk=ssd", "--label", "a.b/c=", "--taint", "gpu=yes:NoSchedule", "--output", "json"];
    let said = story.operator.ok(&[&add[..], &options].concat())?;
    println!("        h3 came in {:.1} s", started.elapsed().as_secs_f64());
    let events: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let touched: BTreeSet<_> = events.iter().filter_map(|event| event["host"].as_str()).collect();
    let steps = events.iter().filter(|event| event["event"] == "step").count();
    ensure!(touched == BTreeSet::from(["h3"]) && steps > 50, "{touched:?}, {steps} steps");
    ensure!(manifests(&story.lab.hosts()[..2])? == before.1, "another host was touched");
    let inventory = story.inventory()?;
    ensure!(inventory.contains("hosts:   # ours\n") && inventory.contains("- name: h3\n"), "{inventory}");
    story.copy_is_of_today()?;
    ensure!(story.operator.ready_nodes() == ["h1", "h2", "h3"], "{:?}", story.operator.ready_nodes());
    ensure!(story.node("h3", ".metadata.labels.disk")? == "ssd", "the label is missing");
    ensure!(story.node("h3", ".spec.taints")?.contains("gpu"), "the taint is missing");
    let said = story.up()?;
    ensure!(said.contains("nothing changed"), "{said}");
    behind::was_the_way(story)?;
    let told = story.operator.hooks_told()?;
    ensure!(told == ["nodeAdd before h3", "nodeAdd after h3"], "{told:?}");
    let mark = story.lab.host(3).ssh_ok("cat /root/hooks.log")?;
    ensure!(mark == "nodeAdd h3 root /etc/kinstall", "{mark}");
    // again: it is there
    story.operator.ok(&add)?;
    story.operator.hooks_told().map(drop)
}

pub fn changed(story: &Story) -> Result<()> {
    story.operator.kubectl(&["label", "node", "h3", "theirs=stays"])?;
    story.operator.kubectl(&["taint", "node", "h3", "theirs=stays:PreferNoSchedule"])?;
    let kept: String = story
        .inventory()?
        .lines()
        .filter(|line| !["labels:", "disk: ", "a.b/c: ", "taints: "].iter().any(|start| line.trim().starts_with(start)))
        .map(|line| format!("{line}\n"))
        .collect();
    story.write(&kept)?;
    story.up()?;
    let labels = story.node("h3", ".metadata.labels")?;
    ensure!(!labels.contains("disk") && !labels.contains("a.b/c") && labels.contains("theirs"), "{labels}");
    let taints = story.node("h3", ".spec.taints")?;
    ensure!(!taints.contains("gpu") && taints.contains("theirs"), "{taints}");
    let said = story.up()?;
    ensure!(said.contains("nothing changed"), "{said}");
    Ok(())
}

/// What is its own is new, and nothing else.
pub fn one_hosts_certificates(story: &Story) -> Result<()> {
    const OWN: &str = "/etc/kinstall/pki/apiserver.crt /etc/kinstall/kubelet-bootstrap.kubeconfig";
    const OTHERS: &str = "/etc/kinstall/pki/apiserver-kubelet-client.crt /etc/kinstall/proxy.kubeconfig";
    let files = |host: u32, paths: &str| story.lab.host(host).ssh_ok(&format!("sha256sum {paths}"));
    let untouched = || -> Result<Vec<String>> {
        Ok(vec![files(1, OTHERS)?, files(2, "/etc/kinstall/*.kubeconfig")?, files(3, "/etc/kinstall/*.kubeconfig")?])
    };
    let before = (files(1, OWN)?, untouched()?);
    let said = story.operator.ok(&["certs", "renew", "--host", "h1", "-i", "inventory.yaml"])?;
    ensure!(said.contains("2 certificates issued anew"), "{said}");
    let after = files(1, OWN)?;
    let is_same = |(before, after): (&str, &str)| before == after;
    ensure!(!before.0.lines().zip(after.lines()).any(is_same), "not all of its own are new:\n{}\n{after}", before.0);
    ensure!(untouched()? == before.1, "more than its own is new");
    ensure!(story.operator.ready_nodes() == ["h1", "h2", "h3"], "{:?}", story.operator.ready_nodes());
    story.copy_is_of_today()
}

/// One pod, which has its place on h3 alone.
fn deployment(story: &Story) -> Result<String> {
    let image = story.operator.components_image()?;
    Ok(format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: default}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      nodeSelector: {{kubernetes.io/hostname: h3}}
      containers:
      - name: web
        image: {image}
        command: [/kinstall-components, probe, serve, --port, '8080']
"
    ))
}

/// A node that says nothing is Ready for longer than this.
const UNNOTICED: Duration = Duration::from_secs(25);

/// At once: nobody has noticed yet, and its node is Ready.
pub fn replaced(story: &Story) -> Result<()> {
    const REPLACE: [&str; 7] = ["node", "replace", "h3", "h9", "-i", "inventory.yaml", "--yes"];
    story.operator.kubectl_with(&["apply", "-f", "-"], &deployment(story)?)?;
    story.operator.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let before = manifests(&story.lab.hosts()[..2])?;
    let lost = Instant::now();
    story.lab.host(3).replace()?;
    let ready = story.operator.ready_nodes();
    // on a busy machine the new disk and its boot may take longer than the cluster's patience
    ensure!(lost.elapsed() > UNNOTICED || ready == ["h1", "h2", "h3"], "somebody has noticed: {ready:?}");
    let started = Instant::now();
    let said = both(&story.operator.run(&REPLACE)?);
    let took = started.elapsed();
    println!("        h9 took its place in {:.1} s", took.as_secs_f64());
    ensure!(said.contains("left to the cluster's garbage collection") && said.contains("h3 is gone"), "{said}");
    ensure!(took < Duration::from_secs(100), "it waited for somebody who is not there: {said}");
    story.operator.kubectl(&["delete", "deployment", "web", "--wait=false"])?;
    // pods of a node that is gone are left in peace for 40 s first
    until(Duration::from_secs(60), "its pod is collected", || {
        story.operator.kubectl(&["get", "pods", "-o", "name"]).is_ok_and(|pods| pods.trim().is_empty())
    })?;
    ensure!(story.operator.ready_nodes() == ["h1", "h2", "h9"], "{:?}", story.operator.ready_nodes());
    let nodes = story.operator.kubectl(&["get", "nodes", "--no-headers"])?;
    ensure!(nodes.lines().count() == 3, "{nodes}");
    ensure!(manifests(&story.lab.hosts()[..2])? == before, "another host was touched");
    ensure!(story.inventory()?.contains("- name: h9\n"), "{}", story.inventory()?);
    story.copy_is_of_today()?;
    let told = story.operator.hooks_told()?;
    ensure!(
        told == ["nodeRemove before h3", "nodeRemove after h3", "nodeAdd before h9", "nodeAdd after h9"],
        "{told:?}"
    );
    let said = story.operator.ok(&REPLACE)?;
    ensure!(said.contains("h9 has its place already"), "{said}");
    // what is there comes once more, and nothing goes
    let told = story.operator.hooks_told()?;
    ensure!(told == ["nodeAdd before h9", "nodeAdd after h9"], "{told:?}");
    story.operator.fails_saying(
        &["node", "replace", "h1", "h8", "--address", "10.99.0.99", "-i", "inventory.yaml", "--yes"],
        &["the only control plane", "nothing was changed"],
    )?;
    let said = story.up()?;
    ensure!(said.contains("nothing changed"), "{said}");
    Ok(())
}

/// The same name twice is one node.
pub fn removed(story: &Story) -> Result<()> {
    let said = story.operator.ok(&["node", "remove", "h9", "h9", "-i", "inventory.yaml", "--yes"])?;
    ensure!(said.contains("removed h9") && !said.contains("as long as it stands there"), "{said}");
    let inventory = story.inventory()?;
    ensure!(!inventory.contains("h9") && inventory.contains("hosts:   # ours\n"), "{inventory}");
    let left = left_behind(story.lab.host(3))?;
    ensure!(left.trim().is_empty(), "{left}");
    let told = story.operator.hooks_told()?;
    ensure!(told == ["nodeRemove before h9", "nodeRemove after h9"], "{told:?}");
    let marks = story.lab.host(3).ssh_ok("cat /root/hooks.log")?;
    ensure!(marks.ends_with("\nnodeRemove h9 root /etc/kinstall"), "{marks}");
    story.copy_is_of_today()?;
    let said = story.operator.ok(&["node", "remove", "h9", "-i", "inventory.yaml", "--yes"])?;
    ensure!(said.contains("h9 was removed before"), "{said}");
    let said = story.up()?;
    ensure!(said.contains("nothing changed"), "{said}");
    Ok(())
}
