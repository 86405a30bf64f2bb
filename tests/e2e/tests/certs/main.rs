//! Certificates of three control planes and a worker: looked at, run out, renewed; and new authorities.

mod expired;
mod load;
mod renewed;
mod rotated;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use e2e::operator::{Artifacts, Inventory, Operator};
use e2e::scenario::{Scenario, tell};
use lab::Lab;

/// Three control planes and a worker.
const HOSTS: u32 = 4;

pub struct Story {
    pub lab: Lab,
    pub operator: Operator,
}

impl Story {
    /// The rows of `certs check`, and its exit code.
    pub fn check(&self) -> Result<(Vec<serde_json::Value>, i32)> {
        let output = self.operator.run(&["certs", "check", "-i", "inventory.yaml", "--output", "json"])?;
        let said = String::from_utf8_lossy(&output.stdout);
        let line = said.lines().last().context("certs check said nothing")?;
        let value: serde_json::Value = serde_json::from_str(line).with_context(|| said.clone().into_owned())?;
        let rows = value["certificates"].as_array().with_context(|| said.clone().into_owned())?.clone();
        Ok((rows, output.status.code().unwrap_or(-1)))
    }
}

fn main() -> ExitCode {
    tell(begin, &[&SCENARIOS[..]], |story| story.lab.down())
}

fn begin() -> Result<Story> {
    let artifacts = Artifacts::from_env()?;
    let lab = Lab::up(HOSTS).context("cannot boot four hosts")?;
    let inventory = Inventory { wordpress: false, ..Inventory::with_control_planes(&lab, &artifacts, 3) };
    let operator = Operator::new(&lab, "certs", artifacts)?;
    operator.write(&inventory)?;
    Ok(Story { lab, operator })
}

fn installed(story: &Story) -> Result<()> {
    story.operator.ok(&["up", "-i", "inventory.yaml", "--yes", "--no-validate"])?;
    ensure!(story.operator.ready_nodes().len() == HOSTS as usize, "not every node is Ready");
    Ok(())
}

/// What follows a failed one would only fail again.
const SCENARIOS: [(&str, Scenario<Story>); 6] = [
    ("three control planes and a worker come up", installed),
    ("certs check shows every certificate with its days, and all are good", expired::all_are_good),
    ("hosts renew what ends soon by themselves while a Deployment answers, and up keeps it", renewed::by_themselves),
    ("certs renew of one kind changes nothing else, and pods run on", expired::one_kind),
    ("certificates of 400 days ago stop the cluster, and certs renew brings it back", expired::renewed_after_400_days),
    ("certs rotate-ca, killed once, replaces every authority while a Deployment answers", rotated::rotated),
];
