//! What the operator has changed since `up`, and certificates that end soon: both go with an upgrade.

use std::fs;

use anyhow::{Result, ensure};
use e2e::operator::both;
use e2e::past::{self, Place};
use lab::Host;

use crate::Story;

/// Gives every host of the inventory, as it stands, a label: it lands in its kubelet's configuration.
pub fn label(story: &Story) -> Result<()> {
    let file = story.operator.path("inventory.yaml");
    let text = fs::read_to_string(&file)?;
    Ok(fs::write(&file, text.replace("    roles: [", "    labels: {wave: next}\n    roles: ["))?)
}

/// Of certificates that every host has, and of some that control planes have alone, 20 days are left.
pub fn let_end_soon(story: &Story) -> Result<()> {
    past::issue(&story.operator, &story.lab, |place| match place {
        Place::Here("proxy" | "front-proxy-client")
        | Place::Host("/etc/kinstall/proxy.kubeconfig" | "/etc/kinstall/pki/front-proxy-client.crt") => Some(20),
        _ => None,
    })?;
    ending(story, 4)
}

/// `certs check` ends with this: 4 where some end soon, 0 where none does.
fn ending(story: &Story, code: i32) -> Result<()> {
    let check = story.operator.run(&["certs", "check", "-i", "inventory.yaml"])?;
    ensure!(check.status.code() == Some(code), "certs check ended with {}:\n{}", check.status, both(&check));
    Ok(())
}

/// The hosts and their nodes have the label, and no certificate ends soon.
pub fn all(story: &Story) -> Result<()> {
    for host in story.lab.hosts() {
        host.ssh_ok("grep -q 'wave: \"next\"' /etc/kinstall/kubelet.yaml")?;
    }
    let form =
        r"jsonpath={range .items[*]}{.metadata.labels.wave} {.metadata.annotations.kinstall\.dev/inventory}{'\n'}{end}";
    let nodes = story.operator.kubectl(&["get", "nodes", "-o", form])?;
    // the annotation says that it is the inventory's, and may go with it
    let has = |line: &str| line.starts_with("next ") && line.contains("\"wave\"");
    ensure!(nodes.lines().count() == story.lab.hosts().len() && nodes.lines().all(has), "{nodes}");
    ending(story, 0)
}

/// What a host's components are configured by.
pub fn configuration(host: &Host) -> Result<String> {
    host.ssh_ok("cd /etc/kinstall && sha256sum *.yaml *.toml proxy.kubeconfig pki/*")
}
