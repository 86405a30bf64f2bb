//! The working directory is lost, the cluster is not.

use std::fs;

use anyhow::{Context, Result, ensure};
use e2e::operator::{Artifacts, Operator, both};

use crate::{Story, post_is_there};

pub fn into_an_empty_directory(story: &Story) -> Result<()> {
    let orphan = Operator::new(&story.lab, "orphan", Artifacts::from_env()?)?;
    let address = format!("root@{}", story.lab.host(3).address());
    let (key, known_hosts) = (story.lab.key(), story.lab.known_hosts());
    let (key, known_hosts) = (key.to_str().context("path")?, known_hosts.to_str().context("path")?);
    let adopt = ["adopt", &address, "--ssh-key", key, "--known-hosts", known_hosts];
    let said = orphan.ok(&adopt)?;
    ensure!(said.contains("2 of 2 hosts answer"), "{said}");
    let plan = orphan.run(&["plan", "-i", "inventory.yaml"])?;
    ensure!(plan.status.code() == Some(0), "plan sees changes:\n{}", both(&plan));
    for name in ["pki/ca.key", "pki/front-proxy-ca.key", "cluster.json", "wordpress.json"] {
        let (own, other) = (orphan.path(".kinstall/lab").join(name), story.heir.path(".kinstall/lab").join(name));
        ensure!(fs::read(own)? == fs::read(other)?, "{name} is another one");
    }
    ensure!(orphan.kubectl(&["get", "nodes", "--no-headers"])?.lines().count() == 2, "the kubeconfig is of no use");
    orphan.ok(&["validate", "-i", "inventory.yaml", "--no-restart"])?;
    post_is_there(&orphan, &story.lab.host(4).address())?;
    let mode = story.lab.host(3).ssh_ok("stat -c '%a %U' /var/lib/kinstall/operator.json")?;
    ensure!(mode.trim() == "600 root", "{mode}");
    ensure!(
        story.lab.host(4).ssh_ok("ls /var/lib/kinstall")?.lines().all(|name| name != "operator.json"),
        "on a worker"
    );

    // what is missing comes back, what differs stays, another cluster is left alone
    let state = orphan.path(".kinstall/lab");
    fs::remove_file(state.join("pki/ca.key"))?;
    fs::write(orphan.path("inventory.yaml"), "mine\n")?;
    orphan.fails_saying(&adopt, &["inventory.yaml is here already and differs"])?;
    ensure!(state.join("pki/ca.key").exists() && fs::read(orphan.path("inventory.yaml"))? == b"mine\n", "lost");
    fs::write(state.join("cluster.json"), r#"{"name": "lab", "id": "another"}"#)?;
    orphan.fails_saying(&adopt, &["another cluster", "--out"])?;
    let worker = format!("root@{}", story.lab.host(4).address());
    let adopt = ["adopt", &worker, "--ssh-key", key, "--known-hosts", known_hosts, "-o", "elsewhere"];
    orphan.fails_saying(&adopt, &["name a control plane"])?;
    Ok(())
}
