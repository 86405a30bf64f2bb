//! Several control planes: they come up together, lose one and get it back or another in its place, and grow out of one.

mod external;
mod full;
mod growing;
mod leading;
mod losing;
mod replacing;
mod strangers;
mod writing;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::operator::{Artifacts, Inventory, Operator};
use e2e::scenario::{Scenario, tell, until_ok};
use lab::Lab;

/// Five control planes at most; most of the time three, and a worker.
const HOSTS: u32 = 5;

pub struct Story {
    pub lab: Lab,
    pub operator: Operator,
    /// With three control planes.
    pub inventory: Inventory,
}

impl Story {
    /// Runs `kinstall up` and gives what it said.
    pub fn up(&self, inventory: &Inventory) -> Result<String> {
        self.operator.write(inventory)?;
        self.operator.ok(&["up", "-i", "inventory.yaml", "--yes"])
    }

    /// etcd's members as a host's own knows them: name and whether it is healthy and has a vote.
    pub fn members(&self, host: u32) -> Result<Vec<(String, bool)>> {
        const LIST: &str =
            "/opt/kinstall/current/bin/kinstall-components etcd-members --config /etc/kinstall/etcd-members.yaml list";
        let said = self.lab.host(host).ssh_ok(LIST)?;
        let members: Vec<serde_json::Value> = serde_json::from_str(&said).with_context(|| said.clone())?;
        let mut members: Vec<_> = members
            .iter()
            .map(|member| {
                let name = member["name"].as_str().unwrap_or_default().to_owned();
                (name, member["healthy"] == true && member["learner"] == false)
            })
            .collect();
        members.sort();
        Ok(members)
    }

    pub fn all_members_are_well(&self, host: u32) -> Result<()> {
        self.members_are_well(host, &["h1", "h2", "h3"])
    }

    /// These are the members, each with its vote, as a host's own knows them, now or soon: one that has just come or come back may
    /// still be catching up.
    pub fn members_are_well(&self, host: u32, names: &[&str]) -> Result<()> {
        let well: Vec<_> = names.iter().map(|name| ((*name).to_owned(), true)).collect();
        until_ok(Duration::from_secs(90), &format!("{names:?} are members of etcd and well"), || {
            let members = self.members(host)?;
            ensure!(members == well, "{members:?}");
            Ok(())
        })
    }
}

fn main() -> ExitCode {
    tell(begin, &[&TOGETHER[..], &GROWING[..], &EXTERNAL[..]], |story| story.lab.down())
}

fn begin() -> Result<Story> {
    let artifacts = Artifacts::from_env()?;
    let lab = Lab::up(HOSTS).context("cannot boot five hosts")?;
    let mut inventory = Inventory { wordpress: false, ..Inventory::with_control_planes(&lab, &artifacts, 3) };
    inventory.hosts.truncate(4);
    let operator = Operator::new(&lab, "ha", artifacts)?;
    Ok(Story { lab, operator, inventory })
}

/// Three at once. What follows a failed birth would only fail again.
const TOGETHER: [(&str, Scenario<Story>); 9] = [
    ("three control planes are born together, and every one serves", losing::born_together),
    ("a second up changes nothing on three control planes", losing::up_again),
    ("the first control plane loses power and nothing stops", losing::first_loses_power),
    ("the first control plane comes back and all is well", losing::first_comes_back),
    ("a control plane's disk is full and nothing stops; with room it has all again", full::one_of_three),
    ("the leader is cut off from the network, others follow", losing::leader_is_cut_off),
    ("the founder, whose disk is gone, is replaced by up while others are written through", losing::replaced),
    ("node replace puts another host in the place of a control plane that lives", replacing::replaced_alive),
    ("down takes three control planes back", losing::down),
];

const GROWING: [(&str, Scenario<Story>); 7] = [
    ("one control plane keeps its objects when node add makes three of it", growing::one_becomes_three),
    ("three become five, one of them a worker before", growing::three_become_five),
    ("two of five lose power and nothing stops", growing::two_of_five_lose_power),
    ("up makes no workers of control planes, and leaves none out", growing::up_does_not_make_three_of_five),
    ("five become three by node remove, and the first two go", growing::five_become_three),
    ("three control planes do not silently become one", growing::three_do_not_become_one),
    ("down takes back what has grown", losing::down),
];

const EXTERNAL: [(&str, Scenario<Story>); 4] = [
    ("two control planes live on somebody else's etcd", external::born),
    ("one of two loses power and nothing stops", external::one_of_two_is_lost),
    ("what was backed up goes into somebody else's etcd once that is emptied", external::emptied_it_takes_a_backup),
    ("somebody else's etcd stays theirs", external::theirs_stays_theirs),
];
