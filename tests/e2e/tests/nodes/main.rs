//! Nodes come, change and are replaced; and a cluster of which a part is dead is taken down.

mod behind;
mod coming;
mod ending;
mod full;
mod meddling;
mod registry;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use e2e::operator::{Artifacts, Inventory, Operator};
use e2e::scenario::{Scenario, tell};
use lab::{Host, Lab, Release};

/// The one that comes and goes is of another release of Debian.
const HOSTS: [Release; 3] = [Release::Bookworm, Release::Bookworm, Release::Trixie];

pub struct Story {
    pub lab: Lab,
    pub operator: Operator,
}

impl Story {
    pub fn inventory(&self) -> Result<String> {
        Ok(fs::read_to_string(self.operator.path("inventory.yaml"))?)
    }

    pub fn write(&self, inventory: &str) -> Result<()> {
        Ok(fs::write(self.operator.path("inventory.yaml"), inventory)?)
    }

    pub fn up(&self) -> Result<String> {
        self.operator.ok(&["up", "-i", "inventory.yaml", "--yes", "--no-validate"])
    }

    /// One field of a node, by JSON path.
    pub fn node(&self, name: &str, path: &str) -> Result<String> {
        self.operator.kubectl(&["get", "node", name, "-o", &format!("jsonpath={{{path}}}")])
    }

    /// What `adopt` would bring back is what there is.
    pub fn copy_is_of_today(&self) -> Result<()> {
        let copy = self.lab.host(1).ssh_ok("cat /var/lib/kinstall/operator.json")?;
        let copy: serde_json::Value = serde_json::from_str(&copy)?;
        ensure!(copy["inventory"] == self.inventory()?, "the copy is of another inventory: {}", copy["inventory"]);
        let keys = copy["files"].as_object().context("no files in the copy")?;
        let keys = keys.keys().filter_map(|name| name.strip_prefix("pki/"));
        let mut here: Vec<String> = Vec::new();
        for entry in fs::read_dir(self.operator.path(".kinstall/lab/pki"))? {
            here.push(entry?.file_name().to_string_lossy().into_owned());
        }
        here.sort();
        ensure!(keys.eq(here.iter()), "the copy has not the keys that are here: {here:?}");
        Ok(())
    }
}

/// When each host was last applied to, and with what.
pub fn manifests(hosts: &[Host]) -> Result<Vec<String>> {
    hosts.iter().map(|host| host.ssh_ok("sha256sum /var/lib/kinstall/manifest.json")).collect()
}

fn main() -> ExitCode {
    tell(begin, &[&SCENARIOS[..]], |story| story.lab.down())
}

/// Before and after all that happens to nodes, and to the cluster at its end. Those on hosts leave a word there.
fn hooks() -> String {
    let mut hooks = "hooks:\n".to_owned();
    for stage in ["nodeAdd", "nodeRemove", "down"] {
        for when in ["before", "after"] {
            let run = "echo $KINSTALL_STAGE $KINSTALL_WHEN $KINSTALL_HOSTS >> hooks.log";
            hooks += &format!("- {{name: {when} {stage}, stage: {stage}, when: {when}, run: '{run}'}}\n");
        }
    }
    for (stage, when) in [("nodeAdd", "after"), ("nodeRemove", "before")] {
        let run = "echo $KINSTALL_HOOK $KINSTALL_HOST $(id -un) $(ls -d /etc/kinstall) >> /root/hooks.log";
        hooks += &format!("- {{name: {stage}, stage: {stage}, when: {when}, on: workers, run: '{run}'}}\n");
    }
    hooks
}

/// The third host is in no inventory yet.
fn begin() -> Result<Story> {
    let artifacts = Artifacts::from_env()?;
    let lab = Lab::up_of(&HOSTS).context("cannot boot three hosts")?;
    let mut inventory = Inventory { wordpress: false, more: hooks(), ..Inventory::of(&lab, &artifacts) };
    inventory.hosts.truncate(2);
    let operator = Operator::new(&lab, "nodes", artifacts)?;
    operator.write(&inventory)?;
    Ok(Story { lab, operator })
}

fn installed(story: &Story) -> Result<()> {
    story.write(&story.inventory()?.replace("hosts:\n", "hosts:   # ours\n"))?;
    story.up()?;
    ensure!(story.operator.ready_nodes() == ["h1", "h2"], "{:?}", story.operator.ready_nodes());
    Ok(())
}

/// What follows a failed one would only fail again.
const SCENARIOS: [(&str, Scenario<Story>); 13] = [
    ("a cluster of two hosts comes up", installed),
    ("limits of pods stay when systemd reads its units anew", meddling::limits_stay),
    ("routes that something takes away are back at once", meddling::routes_come_back),
    ("a full disk under the store refuses writes, and takes them when there is room again", full::refuses_and_goes_on),
    ("images come through a private mirror", registry::pulled),
    (
        "node add makes a node of one host, behind another as bastion and by passwords, and touches no other",
        coming::added,
    ),
    ("a password for a host behind a bastion is asked for at the terminal", behind::asked_for),
    ("labels and taints that the inventory has no longer go from the node", coming::changed),
    ("certs renew of one host issues what is its own", coming::one_hosts_certificates),
    ("node replace puts a new machine in the place of one that died a moment ago", coming::replaced),
    ("node remove takes a host out of the inventory too", coming::removed),
    ("down of a cluster with dead hosts tells so and keeps the keys", ending::half_dead),
    ("down again finishes what could not be reached, and forgets what never will be", ending::finished),
];
