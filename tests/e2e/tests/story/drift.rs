//! What somebody changes by hand is told exactly, by `status --drift` and `plan`, and `up` mends it; but at a terminal it asks first.

use std::process::Output;

use anyhow::{Result, ensure};
use e2e::operator::{Inventory, both};

use crate::Story;

/// What is in nobody's output.
const SECRET: &str = "sekrit-by-hand";

fn drift(story: &Story) -> Result<Output> {
    story.operator.run(&["status", "--drift", "-i", "inventory.yaml"])
}

fn plan(story: &Story) -> Result<Output> {
    story.operator.run(&["plan", "-i", "inventory.yaml"])
}

/// Whether an output has all of these, and this exit code.
fn says(output: &Output, code: i32, words: &[&str]) -> Result<()> {
    let said = both(output);
    ensure!(output.status.code() == Some(code), "ended with {}, not {code}:\n{said}", output.status);
    for word in words {
        ensure!(said.contains(word), "{word:?} is not in:\n{said}");
    }
    ensure!(!said.contains(SECRET), "a secret is in:\n{said}");
    Ok(())
}

/// `up` at a terminal, with this answer.
fn at_a_terminal(story: &Story, answer: &str) -> Result<Output> {
    story.operator.at_a_terminal(&["up", "-i", "inventory.yaml", "--no-validate"], &[("Type yes to go on:", answer)])
}

pub fn told_and_mended(story: &Story) -> Result<()> {
    says(&drift(story)?, 0, &["h3: as the last `up` left it", "everything is as the last `up` left it"])?;
    let host = story.lab.host(2);
    host.ssh_ok(&format!(
        "echo '# password: {SECRET}' >> /etc/kinstall/proxy.yaml
         echo {SECRET} > /etc/kinstall/cni-agent.kubeconfig
         chmod 644 /etc/kinstall/kubelet.yaml
         chown 1:2 /etc/kinstall/pki
         systemctl disable --now --quiet kinstall-cni-agent.service
         echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter"
    ))?;
    let kubectl = |args: &[&str]| story.operator.kubectl(&[&["-n", "kube-system"], args].concat());
    kubectl(&["delete", "daemonset", "kinstall-provisioner"])?;
    kubectl(&["label", "daemonset", "kinstall-ingress", "app.kubernetes.io/name=mine", "--overwrite"])?;

    let found = drift(story)?;
    says(
        &found,
        2,
        &[
            "h1: as the last `up` left it",
            "h2: 6 differences",
            "file /etc/kinstall/proxy.yaml",
            "# password: (hidden)",
            "file /etc/kinstall/cni-agent.kubeconfig",
            "file /etc/kinstall/kubelet.yaml\n    found     mode 644\n    expected  mode 600",
            "directory /etc/kinstall/pki\n    found     owner 1:2\n    expected  owner 0:0",
            "unit kinstall-cni-agent.service\n    found     inactive, disabled\n    expected  active, enabled",
            "sysctl net.ipv4.conf.all.rp_filter\n    found     0\n    expected  2",
            "API: 2 differences",
            "DaemonSet kube-system/kinstall-provisioner\n    found     nothing",
            "found     \"mine\"\n      expected  \"kinstall-ingress\"",
            "8 differences",
        ],
    )?;
    let planned = [
        "API objects: 2 of ",
        "create   DaemonSet kube-system/kinstall-provisioner",
        "update   DaemonSet kube-system/kinstall-ingress",
        "start    kinstall-cni-agent.service  (inactive, disabled → active, enabled)",
        "restart  kinstall-proxy.service  (/etc/kinstall/proxy.yaml changes)",
        "-# password: (hidden)",
        "9 changes (7 on hosts, 2 in the API)",
    ];
    says(&plan(story)?, 2, &planned)?;

    // a person who says no changes nothing
    says(&at_a_terminal(story, "no")?, 1, &["h2: restart unit kinstall-proxy.service", "not confirmed"])?;
    says(&plan(story)?, 2, &planned)?;
    says(&at_a_terminal(story, "yes")?, 0, &["Type yes to go on"])?;
    says(&drift(story)?, 0, &[])?;
    says(&plan(story)?, 0, &[])
}

/// An addon that is switched off goes with all that it has, and what others have in the same place stays.
pub fn addon_switched_off(story: &Story) -> Result<()> {
    const OBJECTS: [&str; 5] = ["daemonset", "serviceaccount", "clusterrole", "clusterrolebinding", "ingressclass"];
    let there = || story.operator.kubectl(&["-n", "kube-system", "get", &OBJECTS.join(","), "-o", "name"]);
    story.operator.kubectl(&["-n", "kube-system", "create", "serviceaccount", "somebodys-ingress"])?;
    let more = format!("{}ingress:\n  enabled: false\n", story.inventory.more);
    story.operator.write(&Inventory { more, ..story.inventory.clone() })?;
    let removed = [
        "5 to remove",
        "remove   DaemonSet kube-system/kinstall-ingress",
        "remove   IngressClass kinstall",
        "remove   ClusterRoleBinding kinstall-ingress",
        "5 changes (0 on hosts, 5 in the API)",
    ];
    says(&plan(story)?, 2, &removed)?;
    says(&at_a_terminal(story, "no")?, 1, &["API: remove DaemonSet kube-system/kinstall-ingress", "not confirmed"])?;
    // nobody is asked in a pipe
    story.operator.ok(&["up", "-i", "inventory.yaml", "--no-validate"])?;
    let left = there()?;
    ensure!(!left.contains("kinstall-ingress") && !left.contains("ingressclass"), "left behind:\n{left}");
    ensure!(left.contains("somebodys-ingress") && left.contains("kinstall-provisioner"), "too much is gone:\n{left}");
    says(&plan(story)?, 0, &[])?;
    says(&drift(story)?, 0, &[])?;
    story.operator.kubectl(&["-n", "kube-system", "delete", "serviceaccount", "somebodys-ingress"])?;
    story.operator.write(&story.inventory)?;
    story.operator.ok(&["up", "-i", "inventory.yaml", "--yes", "--no-validate"])?;
    ensure!(there()?.contains("kinstall-ingress"), "it has not come back");
    Ok(())
}
