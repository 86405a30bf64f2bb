//! Things die, and heal without help.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::scenario::until;
use lab::Host;
use serde_json::{Value, json};

use crate::Story;

/// The post that `up` published is read back through the Ingress, with everything else that `validate` checks.
fn validate(story: &Story) -> Result<()> {
    story.operator.ok(&["validate", "-i", "inventory.yaml"]).map(|_| ())
}

pub fn control_plane_killed(story: &Story) -> Result<()> {
    story.lab.host(1).ssh_ok("systemctl kill --signal=KILL kinstall-control-plane.service")?;
    let healed =
        until(Duration::from_secs(30), "the API answers", || story.operator.kubectl(&["get", "nodes"]).is_ok())?;
    println!("        the API answered again after {:.1} s", healed.as_secs_f64());
    validate(story)
}

pub fn kubelet_killed(story: &Story) -> Result<()> {
    let host = story.lab.host(2);
    // Of pods that stay: those of the validation before may still be on their way out.
    let containers = || {
        let fields = "{range .items[*]}{.metadata.name} {.status.containerStatuses[*].containerID}{'\\n'}{end}";
        let jsonpath = format!("jsonpath={fields}");
        let on_host = ["get", "pods", "-n", "kube-system", "--field-selector", "spec.nodeName=h2", "-o", &jsonpath];
        story.operator.kubectl(&on_host)
    };
    let before = containers()?;
    host.ssh_ok("systemctl kill --signal=KILL kinstall-kubelet.service")?;
    until(Duration::from_secs(30), "the kubelet runs", || {
        host.ssh("systemctl is-active --quiet kinstall-kubelet.service").is_ok_and(|output| output.success())
    })?;
    validate(story)?;
    let after = containers()?;
    ensure!(before.contains("containerd://"), "no containers: {before}");
    ensure!(before == after, "containers before:\n{before}\nafter:\n{after}");
    Ok(())
}

pub fn worker_power_cut(story: &Story) -> Result<()> {
    let host = story.lab.host(3);
    host.poweroff()?;
    let status = || story.operator.kubectl(&["get", "node", "h3", "--no-headers"]).unwrap_or_default();
    let noticed = until(Duration::from_secs(60), "h3 is NotReady", || status().contains("NotReady"))?;
    host.start()?;
    crate::ending::place_foreign_rules(host)?;
    let healed = until(Duration::from_secs(90), "h3 is Ready", || status().contains(" Ready"))?;
    println!(
        "        NotReady after {:.1} s, Ready {:.1} s after power came back",
        noticed.as_secs_f64(),
        healed.as_secs_f64()
    );
    validate(story)
}

/// A host that loses its power while an image is imported has files of it that are empty, and a runtime that takes the image for
/// whole. What is left of such an import is made here by hand, on a worker that has no container of that image.
pub fn import_cut_short(story: &Story) -> Result<()> {
    const IMAGE: &str = "kinstall.local/tools:1";
    const FILE: &str = "find /var/lib/kinstall/containerd -path '*/fs/bin/busybox'";
    const CTR: &str = "/opt/kinstall/current/bin/ctr -a /run/kinstall/containerd.sock -n k8s.io";
    const RECORD: &str = "/var/lib/kinstall/images.json";
    let has = |host: &Host, what: &str| host.ssh_ok(&format!("{CTR} {what}")).is_ok_and(|list| list.contains(IMAGE));
    let is_free = |host: &&Host| has(host, "images ls -q") && !has(host, "containers ls");
    let host = story.lab.hosts().iter().find(is_free).context("every worker has a container of that image")?;
    let size = || host.ssh_ok(&format!("{FILE} -printf %s"));
    let before = size()?;
    ensure!(before.parse::<u64>().is_ok_and(|bytes| bytes > 0), "{before:?} bytes before");

    host.ssh_ok(&format!(": > $({FILE})"))?;
    let mut record: Value = serde_json::from_str(&host.ssh_ok(&format!("cat {RECORD}"))?)?;
    let images = record["images"].as_object_mut().context("no images are recorded")?;
    images.remove(IMAGE).context("that image is not recorded")?;
    record["unfinished"] = json!([IMAGE]);
    host.ssh_ok(&format!("cat > {RECORD} <<'END'\n{record}\nEND"))?;

    story.operator.ok(&["up", "-i", "inventory.yaml", "--yes", "--no-validate"])?;
    let after = size()?;
    ensure!(after == before, "{after:?} bytes after the import, {before} before");
    Ok(())
}
