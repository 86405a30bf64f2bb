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
use e2e::scenario::{Scenario, tell};
use e2e::wordpress::Post;
use lab::{Lab, Release};

/// Two to be lost, two to come back on; each cluster is of two releases of Debian, and the control plane goes from one to the other.
const HOSTS: [Release; 4] = [Release::Bookworm, Release::Trixie, Release::Trixie, Release::Bookworm];

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
    let Post { id, title } = Post::of(operator)?;
    let output = Command::new("curl")
        .args(["-sL", "-m", "20", "--resolve", &format!("wordpress.lab:80:{address}")])
        .arg(format!("http://wordpress.lab/?p={id}"))
        .output()?;
    let page = String::from_utf8_lossy(&output.stdout);
    ensure!(page.contains(&title), "the post {id} {title:?} is not there:\n{page}");
    Ok(())
}

fn main() -> ExitCode {
    tell(begin, &[&SCENARIOS[..]], |story| story.lab.down())
}

fn begin() -> Result<Story> {
    let lab = Lab::up_of(&HOSTS).context("cannot boot four hosts")?;
    let artifacts = Artifacts::from_env()?;
    let mut inventory = Inventory::of(&lab, &artifacts);
    inventory.hosts.truncate(2);
    let operator = Operator::new(&lab, "backup", artifacts)?;
    let heir = Operator::new(&lab, "heir", Artifacts::from_env()?)?;
    Ok(Story { lab, operator, heir, inventory })
}

/// Each needs those before it.
const SCENARIOS: [(&str, Scenario<Story>); 9] = [
    ("a backup is made, with its volumes, and verified", archive::made_and_verified),
    ("a backup is nothing without its key, and damage is told", archive::unreadable_and_damaged),
    ("a restore of another cluster's backup is refused", archive::of_another_cluster),
    ("the cluster comes back on new hosts, with its post", moving::to_new_hosts),
    ("the working directory is lost and comes back from a control plane", adopting::into_an_empty_directory),
    ("and so it does for those whom sudo makes root", adopting::as_sudo_users),
    ("a timer makes backups by itself and keeps so many", timer::makes_archives_and_keeps_two),
    ("one control plane's backup comes back on three", several::from_one_to_three),
    ("three control planes' backup comes back on one, from nothing but the archive", several::from_three_to_one),
];
