//! A pod on the worker that its budget never lets go: it stops an upgrade that drains, until `--force` goes over the budget.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::operator::both;

use crate::{Story, version, workload};

const MANIFEST: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: stays, namespace: default}
spec:
  replicas: 1
  selector: {matchLabels: {app: stays}}
  template:
    metadata: {labels: {app: stays}}
    spec:
      nodeSelector: {kubernetes.io/hostname: h4}
      containers:
      - name: stays
        image: IMAGE
        command: [/kinstall-components, probe, serve, --port, '8080']
        resources: {requests: {cpu: 10m, memory: 16Mi}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: stays, namespace: default}
spec: {minAvailable: 1, selector: {matchLabels: {app: stays}}}
";

/// The node's pods have five minutes unless somebody says otherwise.
const DRAIN: [&str; 3] = ["--drain", "--timeout", "5s"];
const LIMIT: Duration = Duration::from_secs(90);

/// Only the worker is left to be upgraded.
pub fn stops(story: &Story) -> Result<()> {
    // an image that is on every node, and stays there for the application
    let image = format!("kinstall.local/components:{}", workload::VERSION);
    story.operator.kubectl_with(&["apply", "-f", "-"], &MANIFEST.replace("IMAGE", &image))?;
    story.operator.kubectl(&["rollout", "status", "deployment/stays", "--timeout=90s"])?;
    let before = (version(story.lab.host(4))?, running(story)?);
    let started = Instant::now();
    let said = story.operator.fails_saying(
        &Story::upgrade(&story.later, &DRAIN),
        &[
            "h4: not drained: after 5 s",
            "default/stays-",
            "The disruption budget stays needs 1 healthy pods",
            "--force deletes these pods against their budgets",
            "it has the version that it had; nothing was changed on it",
            "the same command again goes on",
        ],
    )?;
    let took = started.elapsed();
    println!("        stopped by the budget after {:.1} s", took.as_secs_f64());
    ensure!(took < LIMIT, "it took {:.1} s:\n{said}", took.as_secs_f64());
    let after = (version(story.lab.host(4))?, running(story)?);
    ensure!(after == before && after.0.0 == "0.1.2", "before {before:?}\nafter {after:?}");
    ensure!(story.cordoned()?.is_empty(), "cordoned: {:?}", story.cordoned()?);
    Ok(())
}

/// The pod and its container, and the processes of the worker's units: restarted ones would be others.
fn running(story: &Story) -> Result<[String; 2]> {
    let form = "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID} \
                {.metadata.deletionTimestamp}{end}";
    let pods = story.operator.kubectl(&["get", "pods", "-l", "app=stays", "-o", form])?;
    ensure!(pods.contains("containerd://"), "no container: {pods}");
    let units = ["containerd", "balancer", "kubelet", "proxy", "cni-agent"].map(|unit| format!("kinstall-{unit}"));
    let units = story.lab.host(4).ssh_ok(&format!("systemctl show -p Id -p MainPID {}", units.join(" ")))?;
    Ok([pods, units])
}

pub fn overruled(story: &Story) -> Result<()> {
    let started = Instant::now();
    let upgrade = story.operator.run(&Story::upgrade(&story.later, &[&DRAIN[..], &["--force"]].concat()))?;
    println!("        what was left of the upgrade took {:.1} s", started.elapsed().as_secs_f64());
    let said = both(&upgrade);
    ensure!(upgrade.status.success() && said.contains("has 0.1.5"), "it ended with {}:\n{said}", upgrade.status);
    ensure!(said.contains("h4: deleted default/stays-") && said.contains("against its budget"), "{said}");
    ensure!(story.operator.components_image()?.ends_with(":0.1.5"), "the addons did not follow");
    ensure!(story.cordoned()?.is_empty(), "cordoned: {:?}", story.cordoned()?);
    story.operator.kubectl(&["delete", "deployment/stays", "poddisruptionbudget/stays"])?;
    story.all_have("0.1.5")
}
