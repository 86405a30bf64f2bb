//! The third host is reached as some people reach theirs: another host is the bastion, which its key opens; behind it a user logs in with
//! a password, and root's commands go by sudo, which asks for it again.

use std::fs;

use anyhow::{Result, ensure};
use e2e::operator::both;

use crate::Story;

/// What the lab's `admin` has; in a file beside the inventory.
const PASSWORD: &str = "admin-password";
const FILE: &str = "passwordFile: admin";
/// In the words of `node add`, for h3.
pub const WAY: [&str; 6] = ["--var", "user=admin", "--var", "passwordFile=admin", "--var", "bastion=ops@10.99.0.12"];

/// h3 lets nobody in by a key any more, but root, who is the lab.
pub fn prepare(story: &Story) -> Result<()> {
    fs::write(story.operator.path("admin"), format!("{PASSWORD}\n"))?;
    story.lab.host(3).ssh_ok("rm /home/admin/.ssh/authorized_keys").map(drop)
}

/// Who the hosts' own sshd let in: `ops` at the bastion by the key, `admin` behind it by the password and from the bastion alone.
pub fn was_the_way(story: &Story) -> Result<()> {
    let logins = |host: u32, user: &str| -> Result<Vec<String>> {
        let journal =
            story.lab.host(host).ssh_ok("journalctl -b -o cat -t sshd -t sshd-session -g '^Accepted ' || true")?;
        let of_user = format!(" for {user} from ");
        Ok(journal.lines().filter(|line| line.contains(&of_user)).map(str::to_owned).collect())
    };
    for (host, user, start) in [
        (2, "ops", "Accepted publickey for ops from 10.99.0.1 "),
        (3, "admin", "Accepted password for admin from 10.99.0.12 "),
    ] {
        let logins = logins(host, user)?;
        ensure!(!logins.is_empty() && logins.iter().all(|login| login.starts_with(start)), "h{host}: {logins:?}");
    }
    Ok(())
}

/// The inventory names no password any more: a person knows it, and mistypes it first.
pub fn asked_for(story: &Story) -> Result<()> {
    const QUESTION: &str = "SSH password of \"admin\": ";
    const PLAN: [&str; 3] = ["plan", "-i", "inventory.yaml"];
    let before = story.inventory()?;
    ensure!(before.contains(FILE), "{before}");
    story.write(&before.replace(FILE, "passwordPrompt: true"))?;
    // nobody is asked in a pipe, and nobody waits there
    story.operator.fails_saying(&PLAN, &["h3", "there is no terminal to ask at"])?;
    let right = story.operator.at_a_terminal(&PLAN, &[(QUESTION, PASSWORD)])?;
    let wrong = story.operator.at_a_terminal(&PLAN, &[(QUESTION, "not-the-password")])?;
    story.write(&before)?;
    let shown = both(&right);
    ensure!(right.status.code() == Some(0), "plan ended with {}:\n{shown}", right.status);
    ensure!(shown.matches(QUESTION).count() == 1, "asked more than once, or never:\n{shown}");
    ensure!(!shown.contains(PASSWORD), "what was typed is shown:\n{shown}");
    let shown = both(&wrong);
    ensure!(wrong.status.code() == Some(1) && shown.contains("h3") && !shown.contains("not-the-password"), "{shown}");
    was_the_way(story)
}
