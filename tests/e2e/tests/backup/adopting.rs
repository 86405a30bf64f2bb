//! The working directory is lost, the cluster is not.

use std::fs;

use anyhow::{Result, ensure};
use e2e::operator::{Artifacts, Operator, both};

use crate::{Story, post_is_there};

/// How somebody without anything asks a host for what its operator had.
fn adopt(story: &Story, user: &str, host: u32) -> Vec<String> {
    let (key, known_hosts) = (story.lab.key().display().to_string(), story.lab.known_hosts().display().to_string());
    let target = format!("{user}@{}", story.lab.host(host).address());
    vec!["adopt".into(), target, "--ssh-key".into(), key, "--known-hosts".into(), known_hosts]
}

/// The command with more words.
fn with<'a>(command: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    command.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

/// Whoever may become root on the control plane gets all that its operator has, in an empty directory.
fn adopted(story: &Story, name: &str, user: &str, more: &[&str]) -> Result<Operator> {
    let orphan = Operator::new(&story.lab, name, Artifacts::from_env()?)?;
    let said = orphan.ok(&with(&adopt(story, user, 3), more))?;
    ensure!(said.contains("2 of 2 hosts answer"), "{said}");
    let plan = orphan.run(&["plan", "-i", "inventory.yaml"])?;
    ensure!(plan.status.code() == Some(0), "plan sees changes:\n{}", both(&plan));
    for name in ["pki/ca.key", "pki/front-proxy-ca.key", "cluster.json", "wordpress.json"] {
        let (own, other) = (orphan.path(".kinstall/lab").join(name), story.heir.path(".kinstall/lab").join(name));
        ensure!(fs::read(own)? == fs::read(other)?, "{name} is another one");
    }
    ensure!(orphan.kubectl(&["get", "nodes", "--no-headers"])?.lines().count() == 2, "the kubeconfig is of no use");
    let mode = story.lab.host(3).ssh_ok("stat -c '%a %U' /var/lib/kinstall/operator.json")?;
    ensure!(mode.trim() == "600 root", "{mode}");
    Ok(orphan)
}

/// `ops` is not asked for a password by sudo, `admin` is.
pub fn as_sudo_users(story: &Story) -> Result<()> {
    adopted(story, "orphan-of-ops", "ops", &[])?;
    let password = story.file("sudo-password");
    fs::write(&password, "not-the-password\n")?;
    let option = ["--sudo-password-file", &password];
    let nobody = Operator::new(&story.lab, "orphan-of-nobody", Artifacts::from_env()?)?;
    let said = nobody.fails_saying(&with(&adopt(story, "admin", 3), &option), &["sudo", "--sudo-password-file"])?;
    ensure!(!said.contains("inventory"), "there is none yet:\n{said}");
    ensure!(!said.contains("not-the-password"), "the password is in the output:\n{said}");
    ensure!(fs::read_dir(&nobody.directory)?.next().is_none(), "something came of it");
    fs::write(&password, "admin-password\n")?;
    adopted(story, "orphan-of-admin", "admin", &option).map(drop)
}

pub fn into_an_empty_directory(story: &Story) -> Result<()> {
    let orphan = adopted(story, "orphan", "root", &[])?;
    orphan.ok(&["validate", "-i", "inventory.yaml", "--no-restart"])?;
    post_is_there(&orphan, &story.lab.host(4).address())?;
    ensure!(
        story.lab.host(4).ssh_ok("ls /var/lib/kinstall")?.lines().all(|name| name != "operator.json"),
        "on a worker"
    );

    // what is missing comes back, what differs stays, another cluster is left alone
    let state = orphan.path(".kinstall/lab");
    fs::remove_file(state.join("pki/ca.key"))?;
    fs::write(orphan.path("inventory.yaml"), "mine\n")?;
    let again = adopt(story, "root", 3);
    orphan.fails_saying(&with(&again, &[]), &["inventory.yaml is here already and differs"])?;
    ensure!(state.join("pki/ca.key").exists() && fs::read(orphan.path("inventory.yaml"))? == b"mine\n", "lost");
    fs::write(state.join("cluster.json"), r#"{"name": "lab", "id": "another"}"#)?;
    orphan.fails_saying(&with(&again, &[]), &["another cluster", "--out"])?;
    let of_a_worker = adopt(story, "root", 4);
    orphan.fails_saying(&with(&of_a_worker, &["-o", "elsewhere"]), &["name a control plane"])?;
    Ok(())
}
