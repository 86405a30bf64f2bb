//! An etcd that somebody else runs: the cluster keeps its objects there, and two control planes are enough.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use certs::{Ca, Leaf, Subject, Usage};
use e2e::operator::{Inventory, ready};
use e2e::scenario::until;

use crate::Story;

/// Where it runs; no host of the cluster.
const THEIRS: u32 = 4;

const START: &str = "systemd-run --quiet --unit their-etcd /root/etcd --data-dir /root/etcd-data \
    --listen-client-urls https://ADDRESS:2379 --advertise-client-urls https://ADDRESS:2379 --cert-file /root/server.crt \
    --key-file /root/server.key --trusted-ca-file /root/ca.crt --client-cert-auth";

fn start_theirs(story: &Story) -> Result<()> {
    let host = story.lab.host(THEIRS);
    let directory = story.operator.path("etcd");
    fs::create_dir_all(&directory)?;
    let write = |name: &str, text: &str| fs::write(directory.join(name), text);
    let ca = Ca::generate("somebody's etcd")?;
    let server = ca.issue(&Leaf::new(Subject::new("etcd", &[]), Usage::Both).names([host.address()]))?;
    let client = ca.issue(&Leaf::new(Subject::new("kubernetes", &[]), Usage::Client))?;
    write("ca.crt", ca.cert_pem())?;
    write("client.crt", &client.cert_pem)?;
    write("client.key", &client.key_pem)?;
    write("server.crt", &server.cert_pem)?;
    write("server.key", &server.key_pem)?;
    for name in ["ca.crt", "server.crt", "server.key"] {
        host.put(&directory.join(name), &format!("/root/{name}"))?;
    }
    host.put(&lab::tools::runtime()?.join("bin/etcd"), "/root/etcd")?;
    host.ssh_ok(&START.replace("ADDRESS", &host.address())).map(drop)
}

fn inventory(story: &Story) -> Inventory {
    let mut inventory =
        Inventory { wordpress: false, ..Inventory::with_control_planes(&story.lab, story.operator.artifacts(), 2) };
    inventory.hosts.truncate(3);
    let address = story.lab.host(THEIRS).address();
    inventory.more = format!(
        "etcd:\n  endpoints: ['https://{address}:2379']\n  caFile: etcd/ca.crt\n  certFile: etcd/client.crt\n  \
         keyFile: etcd/client.key\n"
    );
    inventory
}

pub fn born(story: &Story) -> Result<()> {
    start_theirs(story)?;
    let said = story.up(&inventory(story))?;
    ensure!(said.contains("works"), "{said}");
    for host in ["h1", "h2"] {
        let nodes = story.operator.kubectl_at(host, &["get", "nodes", "--no-headers"])?;
        ensure!(ready(&nodes).len() == 3, "through {host}:\n{nodes}");
    }
    let own =
        story.lab.host(1).ssh_ok("ls /var/lib/kinstall/store/store.db /var/lib/kinstall/etcd 2>/dev/null; true")?;
    ensure!(own.trim().is_empty(), "h1 has a store of its own: {own}");
    crate::losing::up_again(story)
}

/// Theirs has the majority, so one of two is enough here.
pub fn one_of_two_is_lost(story: &Story) -> Result<()> {
    story.lab.host(1).poweroff()?;
    let wrote = story.operator.writes_at("h2", "without-h1")?;
    println!("        a write through h2 after {:.1} s", wrote.as_secs_f64());
    story.lab.host(1).start()?;
    until(Duration::from_secs(60), "h1 serves what was written without it", || {
        story.operator.kubectl_at("h1", &["get", "configmap", "without-h1"]).is_ok()
    })?;
    story.operator.kubectl_at("h2", &["wait", "--for=condition=Ready", "node", "--all", "--timeout=60s"]).map(drop)
}

/// Theirs is emptied by them; what this cluster had in it comes back.
pub fn emptied_it_takes_a_backup(story: &Story) -> Result<()> {
    const FILE: &str = "external.kinstall-backup";
    fs::write(story.operator.path("passphrase"), "correct horse battery staple\n")?;
    let opening = ["--passphrase-file", "passphrase", "-i", "inventory.yaml"];
    story.operator.ok(&[&["backup", "--out", FILE], &opening[..]].concat())?;
    story.operator.ok(&["down", "-i", "inventory.yaml", "--yes"])?;
    let host = story.lab.host(THEIRS);
    host.ssh_ok("systemctl stop their-etcd; rm -r /root/etcd-data")?;
    host.ssh_ok(&START.replace("ADDRESS", &host.address()))?;
    story.operator.ok(&[&["restore", FILE, "--yes"], &opening[..]].concat())?;
    for host in ["h1", "h2"] {
        story.operator.kubectl_at(host, &["get", "configmap", "without-h1"])?;
    }
    let own = story.lab.host(1).ssh_ok("ls /var/lib/kinstall/store/store.db 2>/dev/null; true")?;
    ensure!(own.trim().is_empty(), "h1 still has a store of its own: {own}");
    Ok(())
}

/// What is in somebody else's etcd is theirs to remove, and no new cluster takes it for its own.
pub fn theirs_stays_theirs(story: &Story) -> Result<()> {
    crate::losing::down(story)?;
    let host = story.lab.host(THEIRS);
    host.ssh_ok("systemctl is-active their-etcd && ls /root/etcd-data/member")?;
    story.operator.write(&inventory(story))?;
    let refused = story.operator.fails_saying(&["up", "-i", "inventory.yaml", "--yes"], &["etcd", "another cluster"]);
    story.operator.ok(&["down", "-i", "inventory.yaml", "--yes"])?;
    host.ssh_ok("systemctl stop their-etcd; rm -r /root/etcd-data")?;
    refused.map(drop)
}
