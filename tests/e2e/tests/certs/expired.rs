//! Certificates are shown, some of them are renewed, and all of them when they have run out.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::past;
use e2e::scenario::until;

use crate::{HOSTS, Story};

pub fn all_are_good(story: &Story) -> Result<()> {
    let (rows, code) = story.check()?;
    ensure!(code == 0, "certs check ended with {code}: {rows:?}");
    let places: BTreeSet<_> = rows.iter().map(|row| row["host"].as_str().unwrap_or("here")).collect();
    ensure!(places == BTreeSet::from(["h1", "h2", "h3", "h4", "here"]), "{places:?}");
    for (host, file) in [
        ("h2", "/etc/kinstall/pki/etcd-peer.crt"),
        ("h3", "/etc/kinstall/pki/apiserver.crt"),
        ("h4", "/etc/kinstall/proxy.kubeconfig"),
        ("h4", "/var/lib/kubelet/pki/kubelet-server-current.pem"),
    ] {
        let found = rows.iter().find(|row| row["host"] == host && row["file"] == file);
        ensure!(found.is_some_and(|row| row["daysLeft"].as_i64() > Some(300)), "{host} {file}: {found:?}");
    }
    let soon = story.operator.run(&["certs", "check", "-i", "inventory.yaml", "--within", "400"])?;
    ensure!(soon.status.code() == Some(4), "within 400 days: {}", soon.status);
    let text = String::from_utf8_lossy(&soon.stdout);
    ensure!(text.contains("364 soon") && text.contains("kinstall-etcd-ca"), "{text}");
    Ok(())
}

/// The containers that run, by host.
fn containers(story: &Story) -> Result<Vec<String>> {
    const LIST: &str = "/opt/kinstall/current/bin/ctr -a /run/kinstall/containerd.sock -n k8s.io task ls -q | sort";
    story.lab.hosts().iter().map(|host| host.ssh_ok(LIST)).collect()
}

/// What one kind's file says on a host now.
fn file(story: &Story, host: u32, path: &str) -> Result<String> {
    story.lab.host(host).ssh_ok(&format!("sha256sum < {path}"))
}

pub fn one_kind(story: &Story) -> Result<()> {
    const PROXY: &str = "/etc/kinstall/proxy.kubeconfig";
    const SERVER: &str = "/etc/kinstall/pki/apiserver.crt";
    let before = (containers(story)?, file(story, 4, PROXY)?, file(story, 1, SERVER)?);
    let said = story.operator.ok(&["certs", "renew", "-i", "inventory.yaml", "--kind", "agents"])?;
    ensure!(said.contains("2 certificates issued anew"), "{said}");
    ensure!(file(story, 4, PROXY)? != before.1 && file(story, 1, SERVER)? == before.2, "not what was asked for");
    ensure!(containers(story)? == before.0, "containers were restarted");
    story
        .operator
        .fails_saying(&["certs", "renew", "-i", "inventory.yaml", "--host", "nobody"], &["nothing was changed"])
        .map(drop)
}

pub fn renewed_after_400_days(story: &Story) -> Result<()> {
    let before = containers(story)?;
    past::issue(&story.operator, &story.lab, |_| Some(365 - 400))?;
    for host in story.lab.hosts() {
        host.ssh_ok("systemctl restart --no-block kinstall-etcd kinstall-control-plane kinstall-balancer kinstall-kubelet kinstall-proxy kinstall-cni-agent 2>&1; true")?;
    }
    until(Duration::from_secs(30), "nobody is served any more", || {
        story.operator.kubectl(&["get", "nodes", "--request-timeout=3s"]).is_err()
    })?;
    let (rows, code) = story.check()?;
    let expired = rows.iter().filter(|row| row["standing"] == "expired").count();
    ensure!(code == 5 && expired > 40, "certs check ended with {code}, {expired} of {} expired", rows.len());

    let started = Instant::now();
    story.operator.ok(&["certs", "renew", "-i", "inventory.yaml"])?;
    println!("        {expired} certificates were renewed in {:.1} s", started.elapsed().as_secs_f64());
    ensure!(story.operator.ready_nodes().len() == HOSTS as usize, "not every node is Ready");
    until(Duration::from_secs(60), "no certificate is old", || story.check().is_ok_and(|(_, code)| code == 0))?;
    ensure!(containers(story)? == before, "containers were restarted");
    // the kubelets serve with new certificates too
    let logs = ["logs", "-n", "kube-system", "daemonset/kinstall-ingress", "--tail=1"];
    until(Duration::from_secs(30), "logs can be read", || story.operator.kubectl(&logs).is_ok())?;
    let said = story.operator.ok(&["up", "-i", "inventory.yaml", "--yes"])?;
    ensure!(said.contains("nothing changed"), "{said}");
    Ok(())
}
