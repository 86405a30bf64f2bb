//! What the host's own services write too: systemd pods' limits, others routes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::scenario::until;
use lab::Host;

use crate::Story;

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: limited}
spec:
  nodeName: h2
  terminationGracePeriodSeconds: 1
  containers:
  - name: it
    image: IMAGE
    command: [/kinstall-components, probe, serve]
    resources: {limits: {cpu: 500m, memory: 64Mi}}
";

/// A pod's groups and those of the classes with what the kernel has for them, on cgroup v1. Others' pods come and go.
fn limits(host: &Host, pod: &str) -> Result<String> {
    host.ssh_ok(&format!(
        "cd /sys/fs/cgroup && find -H cpu memory -type d \\( -path '*{pod}*' -o -name kubepods.slice -o -name kubepods-besteffort.slice \
           -o -name kubepods-burstable.slice \\) | sort | while read -r group; do \
         echo \"$group\" $(cd \"$group\" && cat cpu.shares cpu.cfs_quota_us memory.limit_in_bytes 2>/dev/null); done",
    ))
}

pub fn limits_stay(story: &Story) -> Result<()> {
    let (host, kubectl) = (story.lab.host(2), |args: &[&str]| story.operator.kubectl(args));
    let pod = POD.replace("IMAGE", &story.operator.components_image()?);
    story.operator.kubectl_with(&["apply", "-f", "-"], &pod)?;
    let phase = || kubectl(&["get", "pod", "limited", "-o", "jsonpath={.status.phase}"]);
    until(Duration::from_secs(60), "the pod runs", || phase().is_ok_and(|phase| phase == "Running"))
        .with_context(|| kubectl(&["describe", "pod", "limited"]).unwrap_or_default())?;
    let uid = kubectl(&["get", "pod", "limited", "-o", "jsonpath={.metadata.uid}"])?.replace('-', "_");
    let before = limits(host, &uid)?;
    for line in [
        format!("cpu/kubepods.slice/kubepods-pod{uid}.slice 512 50000\n"),
        format!("memory/kubepods.slice/kubepods-pod{uid}.slice {}\n", 64 << 20),
        "cpu/kubepods.slice/kubepods-besteffort.slice 2 -1\n".to_owned(),
    ] {
        ensure!(before.contains(&line), "no {line}in\n{before}");
    }
    host.ssh_ok("systemctl daemon-reload")?;
    let after = limits(host, &uid)?;
    ensure!(after == before, "before daemon-reload\n{before}after it\n{after}");
    kubectl(&["delete", "pod", "limited"])?;
    let slice = format!("kubepods-pod{uid}.slice");
    until(Duration::from_secs(10), "the pod's slice goes with it, and its properties", || {
        host.ssh_ok(&format!("! systemctl is-active -q {slice} && ! ls /run/systemd/*/ | grep {slice}")).is_ok()
    })?;
    Ok(())
}

/// The route of Services, the one to the other node's pods, and the device that it goes through.
pub fn routes_come_back(story: &Story) -> Result<()> {
    let host = story.lab.host(2);
    let routes = || host.ssh_ok("ip -4 route | sort");
    let before = routes()?;
    let pods = before.lines().find(|line| line.contains("dev kinvx")).context("no route to another node's pods")?;
    let pods = pods.split(' ').next().unwrap_or_default();
    for taken in ["route del 10.96.0.0/16", &format!("route del {pods}"), "link del kinvx"] {
        host.ssh_ok(&format!("ip {taken}"))?;
        // by itself the agent looks every 30 s: what is back well before was noticed
        let back = until(Duration::from_secs(15), "the routes are back", || routes().is_ok_and(|now| now == before));
        back.with_context(|| format!("ip {taken}: before\n{before}now\n{}", routes().unwrap_or_default()))?;
    }
    Ok(())
}
