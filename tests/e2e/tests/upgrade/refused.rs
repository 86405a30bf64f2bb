//! What an upgrade does not do, and what it takes back.

use std::time::Instant;

use anyhow::{Result, ensure};
use e2e::operator::both;

use crate::{Story, cordons, hooks, migrated, workload};

/// When each host was last applied to, and with what.
fn manifests(story: &Story) -> Result<Vec<String>> {
    story.lab.hosts().iter().map(|host| host.ssh_ok("sha256sum /var/lib/kinstall/manifest.json")).collect()
}

/// A bundle that is never sent anywhere, since its versions are looked at first.
fn empty_bundle(story: &Story, kubernetes: &str) -> Result<std::path::PathBuf> {
    let runtime = story.operator.path("runtime");
    std::fs::create_dir_all(runtime.join("bin"))?;
    let mut files = vec![story.operator.path("empty")];
    files.extend(
        ["containerd", "containerd-shim-runc-v2", "ctr", "etcd", "runc"].map(|name| runtime.join("bin").join(name)),
    );
    for file in &files {
        std::fs::write(file, "nothing")?;
    }
    let bundle = story.operator.path(&format!("{kubernetes}.tar.zst"));
    let path = |path: &std::path::Path| path.display().to_string();
    let (empty, runtime, out) = (path(&files[0]), path(&runtime), path(&bundle));
    story.operator.ok(&[
        "bundle",
        "create",
        "--components",
        &empty,
        "--pause",
        &empty,
        "--runtime-dir",
        &runtime,
        "--bundle-version",
        "9.0.0",
        "--kubernetes-version",
        kubernetes,
        "--out",
        &out,
    ])?;
    Ok(bundle)
}

pub fn refusals(story: &Story) -> Result<()> {
    let before = manifests(story)?;
    for (kubernetes, words) in [("1.39.0", "upgrade to 1.38 first"), ("1.36.2", "downgrades are refused")] {
        let bundle = empty_bundle(story, kubernetes)?;
        let said = story.operator.fails_saying(&Story::upgrade(&bundle, &[]), &[words, "nothing was changed"])?;
        for host in ["h1", "h2", "h3", "h4"] {
            ensure!(said.contains(&format!("{host}: the bundle's Kubernetes")), "{host} is not named:\n{said}");
        }
    }
    let next = story.next.to_str().unwrap_or_default();
    story.operator.fails_saying(&["up", "-i", "inventory.yaml", "--yes", "--bundle", next], &["kinstall upgrade"])?;
    story.operator.fails_saying(&["upgrade", "-i", "inventory.yaml", "--bundle", next], &["--yes"])?;
    story.operator.fails_saying(&Story::upgrade(&story.next, &["--workers", "0"]), &["--workers"])?;

    let plan = story.operator.run(&Story::upgrade(&story.next, &["--plan"]))?;
    let said = both(&plan);
    ensure!(plan.status.code() == Some(2), "{said}");
    for words in ["0.1.0 → 0.1.1 (Kubernetes 1.37.0)", "control plane, not drained", "worker, not drained", "restart"]
    {
        ensure!(said.contains(words), "{words:?} is missing in the plan:\n{said}");
    }
    ensure!(!said.contains("restart  kinstall-containerd") && !said.contains("restart  kinstall-etcd"), "{said}");
    let plan = both(&story.operator.run(&Story::upgrade(&story.runtime, &["--plan"]))?);
    for words in
        ["0.1.0 → 0.1.2 (Kubernetes 1.37.0 → 1.38.0)", "control plane, drained", "restart  kinstall-containerd"]
    {
        ensure!(plan.contains(words), "{words:?} is missing in the plan:\n{plan}");
    }
    ensure!(manifests(story)? == before, "a host was touched");
    Ok(())
}

/// The first control plane finds out; it is brought back, also to what configured it before, and nobody else is touched.
pub fn broken(story: &Story) -> Result<()> {
    let (before, containers) = (manifests(story)?, workload::containers(story)?);
    let configuration = migrated::configuration(story.lab.host(1))?;
    migrated::label(story)?;
    let started = Instant::now();
    let said = hooks::with(story, || {
        story.operator.fails_saying(
            &Story::upgrade(&story.broken, &[]),
            &["h1", "broken on purpose", "it is back at 0.1.0", "the same command again goes on"],
        )
    })?;
    println!("        failed, and back, in {:.1} s", started.elapsed().as_secs_f64());
    ensure!(!said.contains("h2: upgraded"), "{said}");
    // it is not after an upgrade
    hooks::ran(story, &["upgrade before h1 h2 h3 h4", "before h1 controlPlane"], [""; 4])?;
    let now = migrated::configuration(story.lab.host(1))?;
    ensure!(now == configuration, "h1 is not configured as before:\n{configuration}\nand now:\n{now}");
    story.operator.write(&story.inventory)?;
    story.all_have("0.1.0")?;
    ensure!(manifests(story)?[1..] == before[1..], "another host was touched");
    ensure!(story.cordoned()?.is_empty(), "a node is cordoned");
    ensure!(workload::containers(story)? == containers, "a container was restarted");
    story.operator.kubectl_at("h1", &["get", "--raw", "/readyz"])?;
    let up = || story.operator.ok(&["up", "-i", "inventory.yaml", "--yes", "--no-validate"]);
    let said = cordons::found_by(story, up)?;
    ensure!(said.contains("nothing changed"), "the way back has left something:\n{said}");
    Ok(())
}

/// Its units run and its node is Ready; only a pod finds out.
pub fn starts_nothing(story: &Story) -> Result<()> {
    let pods = |story: &Story| -> Result<_> { Ok(workload::containers(story)?[..2].to_vec()) };
    let (before, containers) = (manifests(story)?, pods(story)?);
    let started = Instant::now();
    story.operator.fails_saying(
        &Story::upgrade(&story.runc, &["--no-drain"]),
        &["h1", "it cannot start a pod", "runc", "it is back at 0.1.0"],
    )?;
    println!("        failed, and back, in {:.1} s", started.elapsed().as_secs_f64());
    story.all_have("0.1.0")?;
    ensure!(manifests(story)?[1..] == before[1..], "another host was touched");
    ensure!(pods(story)? == containers, "a container was restarted");
    let left = story.operator.kubectl(&["get", "pods", "-n", "kube-system", "-o", "name"])?;
    ensure!(!left.contains("kinstall-upgrade"), "{left}");
    Ok(())
}
