//! Backups by themselves.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::operator::both;
use e2e::scenario::until;

use crate::Story;

const DIRECTORY: &str = "/var/backups/kinstall";

/// Every two seconds, of which two stay. The key that opens them is the operator's.
pub fn makes_archives_and_keeps_two(story: &Story) -> Result<()> {
    let (heir, host) = (&story.heir, story.lab.host(3));
    let inventory = std::fs::read_to_string(heir.path("inventory.yaml"))?;
    let public = heir.ok(&["backup", "keygen", "timer.txt"])?;
    let more = format!("backup:\n  schedule: '*-*-* *:*:0/2'\n  keep: 2\n  recipients: [{}]\n", public.trim());
    std::fs::write(heir.path("inventory.yaml"), format!("{inventory}{more}"))?;
    let up = heir.run(&["up", "-i", "inventory.yaml", "--yes", "--no-validate"])?;
    let said = both(&up);
    ensure!(up.status.success() && said.contains("h2: nothing changed"), "a worker has no backups to make:\n{said}");
    let list = || -> Result<Vec<String>> {
        let names = host.ssh_ok(&format!("ls {DIRECTORY}"))?;
        Ok(names.lines().filter(|name| name.ends_with(".kinstall-backup")).map(str::to_owned).collect())
    };
    // each comes at a random moment of some seconds: three have been there when the first is gone
    let mut seen = std::collections::BTreeSet::new();
    until(Duration::from_secs(120), "the timer has made three archives", || {
        seen.extend(list().unwrap_or_default());
        seen.len() >= 3
    })?;
    // no more of them while they are looked at
    host.ssh_ok("systemctl stop kinstall-backup.timer")?;
    until(Duration::from_secs(30), "the last run has ended", || {
        let state = host.ssh_ok("systemctl show kinstall-backup.service -p ActiveState --value");
        state.is_ok_and(|state| ["inactive", "failed"].contains(&state.trim()))
    })?;
    let names = list()?;
    ensure!(names.len() == 2, "not two archives stay: {names:?}");
    let result = host.ssh_ok("systemctl show kinstall-backup -p Result --value")?;
    ensure!(
        result.trim() == "success",
        "{result}{}",
        host.ssh_ok("journalctl -o short-precise -u kinstall-backup -n 40")?
    );
    let mode = host.ssh_ok(&format!("stat -c '%a' {DIRECTORY} {DIRECTORY}/*.kinstall-backup"))?;
    ensure!(mode == "700\n600\n600", "{mode}");
    let said = heir.ok(&["backup", "list", "-i", "inventory.yaml"])?;
    ensure!(said.matches(DIRECTORY).count() == 2, "{said}");

    // the timer is started again, for another day
    heir.write(&{
        let mut calm = story.inventory.clone();
        calm.hosts[0] = ("h3".into(), host.address(), "controlPlane");
        calm.hosts[1].1 = story.lab.host(4).address();
        calm.more = more.replace("*-*-* *:*:0/2", "monthly");
        calm
    })?;
    heir.ok(&["up", "-i", "inventory.yaml", "--yes", "--no-validate"])?;
    let names = list()?;
    let name = names.last().context("no archive")?;
    host.get(&format!("{DIRECTORY}/{name}"), &heir.path("scheduled"))?;
    let said = heir.ok(&["backup", "verify", "scheduled", "--identity", "timer.txt"])?;
    ensure!(said.contains("made on h3") && said.contains("everything in it is whole"), "{said}");
    let found = host.ssh_ok("grep -rl AGE-SECRET-KEY /etc/kinstall /var/lib/kinstall/*.json /var/backups; true")?;
    ensure!(found.trim().is_empty(), "the secret key is on the host: {found}");
    Ok(())
}
