//! A cluster is backed up, lost, and brought back: on new hosts with other names and addresses, and from one control plane to
//! three and back.

mod adopting;
mod archive;
mod moving;
mod several;
mod timer;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use e2e::operator::{Artifacts, Inventory, Operator};
use e2e::scenario::Runner;
use lab::Lab;

/// Two to be lost, two to come back on.
const HOSTS: u32 = 4;

pub struct Story {
    pub lab: Lab,
    /// Who had the cluster first.
    pub operator: Operator,
    /// Who brings it back, in a directory of his own.
    pub heir: Operator,
    /// h1 is the control plane, h2 the worker.
    pub inventory: Inventory,
}

impl Story {
    /// The first operator's files, where another looks for them.
    pub fn file(&self, name: &str) -> String {
        self.operator.path(name).display().to_string()
    }
}

/// Reads WordPress's published post at a worker's address; an operator's state says which one that is.
pub fn post_is_there(operator: &Operator, address: &str) -> Result<()> {
    let state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(operator.path(".kinstall/lab/wordpress.json"))?)?;
    let (id, title) = (&state["post"]["id"], state["post"]["title"].as_str().context("no post was published")?);
    let output = Command::new("curl")
        .args(["-sL", "-m", "20", "--resolve", &format!("wordpress.lab:80:{address}")])
        .arg(format!("http://wordpress.lab/?p={id}"))
        .output()?;
    let page = String::from_utf8_lossy(&output.stdout);
    ensure!(page.contains(title), "the post {id} {title:?} is not there:\n{page}");
    Ok(())
}

fn main() -> ExitCode {
    match begin() {
        Ok(story) => tell(story),
        Err(error) => {
            eprintln!("the lab does not come up: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn begin() -> Result<Story> {
    let lab = Lab::up(HOSTS).context("cannot boot four hosts")?;
    let artifacts = Artifacts::from_env()?;
    let mut inventory = Inventory::of(&lab, &artifacts);
    inventory.hosts.truncate(2);
    let operator = Operator::new(&lab, "backup", artifacts)?;
    let heir = Operator::new(&lab, "heir", Artifacts::from_env()?)?;
    Ok(Story { lab, operator, heir, inventory })
}

type Scenario = fn(&Story) -> Result<()>;

/// Each needs those before it.
const SCENARIOS: [(&str, Scenario); 8] = [
    ("a backup is made, with its volumes, and verified", archive::made_and_verified),
    ("a backup is nothing without its key, and damage is told", archive::unreadable_and_damaged),
    ("a restore of another cluster's backup is refused", archive::of_another_cluster),
    ("the cluster comes back on new hosts, with its post", moving::to_new_hosts),
    ("the working directory is lost and comes back from a control plane", adopting::into_an_empty_directory),
    ("a timer makes backups by itself and keeps so many", timer::makes_archives_and_keeps_two),
    ("one control plane's backup comes back on three", several::from_one_to_three),
    ("three control planes' backup comes back on one", several::from_three_to_one),
];

fn tell(story: Story) -> ExitCode {
    let mut runner = Runner::from_args();
    let mut failed: Option<&str> = None;
    for (name, scenario) in SCENARIOS {
        match failed {
            Some(because) => runner.not_run(name, because),
            None if !runner.run(name, || scenario(&story)) => failed = Some(name),
            None => {}
        }
    }
    if let Err(error) = story.lab.down() {
        runner.run("the lab goes without a trace", || Err(error));
    }
    runner.finish()
}
