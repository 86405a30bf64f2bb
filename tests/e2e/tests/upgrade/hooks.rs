//! Hooks around an upgrade, and around each host of it.

use std::fs;

use anyhow::{Result, ensure};

use crate::Story;

const HOOKS: &str = "hooks:
- {name: begin, stage: upgrade, when: before, run: 'echo $KINSTALL_STAGE $KINSTALL_WHEN $KINSTALL_HOSTS >> hooks.log'}
- {name: end, stage: upgrade, when: after, run: 'echo $KINSTALL_STAGE $KINSTALL_WHEN $KINSTALL_HOSTS >> hooks.log'}
- {name: leave, stage: upgradeHost, when: before, run: 'echo before $KINSTALL_HOST $KINSTALL_ROLE >> hooks.log'}
- {name: come, stage: upgradeHost, when: after, run: 'echo after $KINSTALL_HOST $KINSTALL_ROLE >> hooks.log'}
- {name: mark, stage: upgradeHost, when: after, on: hosts, run: 'basename $(readlink /opt/kinstall/current) > /root/hook'}
";

/// They stand in the inventory, as it is, for as long as this takes.
pub fn with<T>(story: &Story, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let file = story.operator.path("inventory.yaml");
    let without = fs::read_to_string(&file)?;
    fs::write(&file, format!("{without}{HOOKS}"))?;
    let done = work();
    fs::write(&file, without)?;
    done
}

/// What they have told, and what each host has of them.
pub fn ran(story: &Story, told: &[&str], marks: [&str; 4]) -> Result<()> {
    let found = story.operator.hooks_told()?;
    ensure!(found == told, "hooks said {found:?}, not {told:?}");
    for (host, expected) in story.lab.hosts().iter().zip(marks) {
        let mark = host.ssh_ok("cat /root/hook 2>/dev/null; rm -f /root/hook")?;
        ensure!(mark == expected, "{}: {mark:?}, not {expected:?}", host.name());
    }
    Ok(())
}
