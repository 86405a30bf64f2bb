//! The inventory's file when nodes come and go: edited in place, and only when it then says exactly what is meant.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::cluster::{Cluster, Host};
use crate::commands::Run;
use crate::inventory::edit::{self, NewHost};

/// A text that is not written yet, and the cluster it describes.
pub struct Edited {
    path: PathBuf,
    before: String,
    text: String,
    pub cluster: Cluster,
}

impl Edited {
    /// With more hosts.
    pub fn with(run: &Run<'_>, hosts: &[(String, NewHost)]) -> anyhow::Result<Self> {
        Self::new(run, |text| {
            let mut text = text.to_owned();
            for (name, host) in hosts {
                let mut wanted = edit::names(&text)?;
                wanted.push(name.clone());
                text = edit::add(&text, host, |text| edit::names(text).as_ref() == Some(&wanted))?;
            }
            Some(text)
        })
    }

    /// Without these hosts; those that it does not name are no matter.
    pub fn without(run: &Run<'_>, names: &[String]) -> anyhow::Result<Self> {
        Self::new(run, |text| {
            let mut text = text.to_owned();
            for name in names {
                let mut left = edit::names(&text)?;
                let Some(index) = left.iter().position(|there| there == name) else { continue };
                left.remove(index);
                text = edit::remove(&text, index, |text| edit::names(text).as_ref() == Some(&left))?;
            }
            Some(text)
        })
    }

    /// With other values of one host's fields.
    pub fn changed(run: &Run<'_>, name: &str, values: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::new(run, |text| {
            let mut text = text.to_owned();
            let index = edit::names(&text)?.iter().position(|there| there == name)?;
            for (field, value) in values {
                text = edit::set(&text, index, field, value, |text| edit::names(text).is_some())?;
            }
            Some(text)
        })
    }

    fn new(run: &Run<'_>, change: impl FnOnce(&str) -> Option<String>) -> anyhow::Result<Self> {
        let path = PathBuf::from(&run.inventory);
        let before = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Some(text) = change(&before) else {
            bail!(
                "{} is written in a way that kinstall does not know how to change; change it yourself, then run `kinstall up`",
                path.display()
            )
        };
        let cluster = Cluster::parse(&text, &run.inventory, &run.cluster.directory)
            .context("the inventory would not be good with this change")?;
        others_are_as_they_were(&run.cluster, &cluster)?;
        Ok(Self { path, before, text, cluster })
    }

    /// Writes it: the whole file or the old one.
    pub fn write(&self) -> anyhow::Result<()> {
        let now = fs::read_to_string(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        if now != self.before {
            bail!("{} was changed meanwhile; run the command again", self.path.display());
        }
        replace(&self.path, &self.text).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Through links, and with the mode that the file has.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let path = fs::canonicalize(path)?;
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::metadata(&path)?.permissions())?;
    file.sync_all()?;
    fs::rename(&temporary, &path)
}

/// Hosts of both clusters are reached in the same way, and are as many control planes. (A host that is alone is a worker too.)
fn others_are_as_they_were(before: &Cluster, after: &Cluster) -> anyhow::Result<()> {
    let shown = |host: &Host| format!("{:?}", (host.node_address, host.control_plane, &host.labels, &host.ssh));
    for old in &before.hosts {
        let new = after.hosts.iter().find(|new| new.name == old.name && new.address == old.address);
        if new.is_some_and(|new| shown(new) != shown(old)) {
            bail!("the change would also change {}; change the inventory yourself, then run `kinstall up`", old.name);
        }
    }
    Ok(())
}
