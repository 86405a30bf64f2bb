//! Things die, and heal without help.

use std::time::Duration;

use anyhow::Result;
use e2e::scenario::until;

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
    anyhow::ensure!(before.contains("containerd://"), "no containers: {before}");
    anyhow::ensure!(before == after, "containers before:\n{before}\nafter:\n{after}");
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
