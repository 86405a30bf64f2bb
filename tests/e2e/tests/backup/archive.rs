//! The file itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Result, ensure};

use crate::{Story, post_is_there};

pub const BACKUP: &str = "lab.kinstall-backup";
pub const KEY: &str = "key.txt";

pub fn made_and_verified(story: &Story) -> Result<()> {
    let operator = &story.operator;
    operator.write(&story.inventory)?;
    operator.ok(&["up", "-i", "inventory.yaml", "--yes"])?;
    post_is_there(operator, &story.lab.host(2).address())?;
    operator.kubectl(&["create", "configmap", "before", "--from-literal=a=1"])?;
    let public = operator.ok(&["backup", "keygen", KEY])?;
    ensure!(public.starts_with("age1"), "{public}");
    ensure!(fs::metadata(operator.path(KEY))?.permissions().mode() & 0o777 == 0o600, "others read the key");

    let started = std::time::Instant::now();
    let said = operator.ok(&["backup", "--volumes", "--to", public.trim(), "--out", BACKUP])?;
    let file = fs::metadata(operator.path(BACKUP))?;
    println!("        {:.1} MB in {:.1} s", file.len() as f64 / 1e6, started.elapsed().as_secs_f64());
    ensure!(file.permissions().mode() & 0o777 == 0o600 && said.contains("volumes/h2"), "{said}");
    operator.kubectl(&["create", "configmap", "after", "--from-literal=a=1"])?;

    let said = operator.ok(&["backup", "verify", BACKUP, "--identity", KEY])?;
    ensure!(said.contains("everything in it is whole") && said.contains("objects at revision"), "{said}");
    operator.fails_saying(&["backup", "--to", public.trim(), "--out", BACKUP], &["is there already"])?;
    // nothing of it is left on the host
    let left = story.lab.host(1).ssh_ok("ls /var/lib/kinstall /var/lib")?;
    ensure!(!left.contains("trial") && !left.contains("stage"), "{left}");
    Ok(())
}

pub fn unreadable_and_damaged(story: &Story) -> Result<()> {
    let operator = &story.operator;
    operator.ok(&["backup", "keygen", "other.txt"])?;
    let verify = |file: &str, key: &str, words: &[&str]| {
        operator.fails_saying(&["backup", "verify", file, "--identity", key], words)
    };
    verify(BACKUP, "other.txt", &[BACKUP, "not sealed to this key"])?;
    let bytes = fs::read(operator.path(BACKUP))?;
    for secret in ["PRIVATE KEY", "kubernetes-admin", "cluster: lab"] {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        ensure!(!found, "{secret:?} can be read");
    }
    let mut changed = bytes.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    fs::write(operator.path("changed"), changed)?;
    verify("changed", KEY, &["changed", "damaged"])?;
    fs::write(operator.path("cut"), &bytes[..bytes.len() - 1000])?;
    verify("cut", KEY, &["cut"])?;
    operator.fails_saying(&["restore", "cut", "--identity", KEY, "--yes"], &["cut"])?;
    // nothing was touched
    operator.kubectl(&["get", "configmap", "after"])?;

    fs::write(operator.path("passphrase"), "correct horse battery staple\n")?;
    operator.ok(&["backup", "--passphrase-file", "passphrase", "--out", "by-passphrase"])?;
    operator.ok(&["backup", "verify", "by-passphrase", "--passphrase-file", "passphrase"])?;
    Ok(())
}

pub fn of_another_cluster(story: &Story) -> Result<()> {
    let backup = story.file(BACKUP);
    let restore = ["restore", &backup, "--identity", &story.file(KEY), "--yes", "-i", "inventory.yaml"];
    let mut other = story.inventory.clone();
    other.more = "\n".into();
    story.heir.write(&other)?;
    let text = fs::read_to_string(story.heir.path("inventory.yaml"))?;
    fs::write(story.heir.path("inventory.yaml"), text.replace("cluster: lab", "cluster: other"))?;
    story.heir.fails_saying(&restore, &["other", "lab", "inventory.yaml"])?;
    fs::remove_file(story.heir.path("inventory.yaml"))?;
    Ok(())
}
