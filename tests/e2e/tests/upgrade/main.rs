//! From one version to the next: refusals, a broken version and its way back, components alone, the container runtime too; under
//! load, and cut off half-way.

mod budget;
mod cordons;
mod forth;
mod hooks;
mod migrated;
mod refused;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use e2e::operator::{Artifacts, Inventory, Operator, artifact};
use e2e::scenario::{Scenario, tell};
use lab::Lab;
use serde_json::Value;

/// Three control planes and a worker.
const HOSTS: u32 = 4;

pub struct Story {
    pub lab: Lab,
    pub operator: Operator,
    pub inventory: Inventory,
    /// Newer components alone; a newer container runtime too; newer by its version only.
    pub next: PathBuf,
    pub runtime: PathBuf,
    pub later: PathBuf,
    /// A kubelet that does not start; a runtime that starts no container.
    pub broken: PathBuf,
    pub runc: PathBuf,
}

impl Story {
    /// The arguments of an upgrade to this bundle.
    pub fn upgrade<'a>(bundle: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
        let bundle = bundle.to_str().unwrap_or_default();
        [&["upgrade", "-i", "inventory.yaml", "--yes", "--bundle", bundle], more].concat()
    }

    /// Each host's version as it says itself, and whether nothing is left to do there.
    pub fn versions(&self) -> Result<Vec<(String, bool)>> {
        self.lab.hosts().iter().map(version).collect()
    }

    /// Nothing of any other version is left, but for the image that the application's pods name.
    pub fn all_have(&self, version: &str) -> Result<()> {
        let versions = self.versions()?;
        ensure!(versions.iter().all(|(found, settled)| found == version && *settled), "{versions:?}");
        let mut images = vec![workload::VERSION, version];
        images.dedup();
        for host in self.lab.hosts() {
            let there = host.ssh_ok("ls /opt/kinstall | sort | tr '\\n' ' '")?;
            ensure!(there.trim() == format!("{version} current"), "{}: {there}", host.name());
            let names = host.ssh_ok(IMAGES)?;
            let found: Vec<_> =
                names.lines().filter_map(|name| name.strip_prefix("kinstall.local/components:")).collect();
            ensure!(found == images, "{}: images of {found:?}, not of {images:?}", host.name());
        }
        Ok(())
    }

    /// The nodes that are cordoned, whoever did it.
    pub fn cordoned(&self) -> Result<Vec<String>> {
        let template = "jsonpath={range .items[?(@.spec.unschedulable==true)]}{.metadata.name}{'\\n'}{end}";
        Ok(self.operator.kubectl(&["get", "nodes", "-o", template])?.lines().map(str::to_owned).collect())
    }
}

const IMAGES: &str =
    "/opt/kinstall/current/bin/ctr --address /run/kinstall/containerd.sock --namespace k8s.io images ls -q | sort";

/// A host's version as it says itself, and whether nothing is left to do there.
pub fn version(host: &lab::Host) -> Result<(String, bool)> {
    let manifest: Value = serde_json::from_str(&host.ssh_ok("cat /var/lib/kinstall/manifest.json")?)?;
    let version = manifest["version"].as_str().context("no version")?.to_owned();
    Ok((version, manifest["complete"] == true && manifest["previous"].is_null()))
}

fn main() -> ExitCode {
    tell(begin, &[&STORY[..]], |story| story.lab.down())
}

fn begin() -> Result<Story> {
    let artifacts = Artifacts::from_env()?;
    let bundle = |name: &str| artifact(&format!("KINSTALL_BUNDLE_{name}"));
    let (next, runtime, later) = (bundle("NEXT")?, bundle("RUNTIME")?, bundle("LATER")?);
    let (broken, runc) = (bundle("BROKEN")?, bundle("RUNC")?);
    let lab = Lab::up(HOSTS).context("cannot boot four hosts")?;
    let more = "limits: {readyTimeout: 90}\n".to_owned();
    let inventory = Inventory { wordpress: false, more, ..Inventory::with_control_planes(&lab, &artifacts, 3) };
    let operator = Operator::new(&lab, "upgrade", artifacts)?;
    Ok(Story { lab, operator, inventory, next, runtime, later, broken, runc })
}

/// What follows a failed one would only fail again.
const STORY: [(&str, Scenario<Story>); 11] = [
    ("a cluster with a budgeted application stands", workload::stands),
    ("what must not follow is refused, and nothing is touched", refused::refusals),
    ("a version whose kubelet does not start goes back by itself", refused::broken),
    ("a version whose runtime starts no container goes back by itself", refused::starts_nothing),
    ("components are upgraded under load, cut off half-way, and nobody notices", forth::components_alone),
    ("an upgrade to what is there changes nothing, one to what was is refused", forth::again),
    ("the runtime is upgraded under load by draining, cut off half-way", forth::runtime_too),
    ("a worker without power is left behind", forth::left_behind_without_power),
    ("a budget that lets no pod go stops the worker's drained upgrade, and it stays as it was", budget::stops),
    ("the worker follows with --force, which goes over the budget", budget::overruled),
    ("down takes back what was upgraded", forth::down),
];
