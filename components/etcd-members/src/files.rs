//! What is kept of a member beside etcd's own data.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::Config;
use crate::place::Here;

pub struct Files<'a>(pub &'a Config);

impl Files<'_> {
    /// etcd's `data-dir`.
    fn data(&self) -> PathBuf {
        self.0.directory.join("data")
    }

    /// Lines of etcd's configuration that the member was born with.
    fn initial(&self) -> PathBuf {
        self.0.directory.join("initial")
    }

    /// Goes with the data.
    fn joined(&self) -> PathBuf {
        self.0.directory.join("joined")
    }

    pub fn here(&self, founding: &str) -> Here {
        let data = self.data().join("member").exists();
        Here {
            data,
            joined: data && self.joined().exists(),
            had_vote: self.0.joined_file.exists() || self.joined().exists(),
            other_founders: fs::read_to_string(self.initial()).is_ok_and(|initial| initial != founding),
        }
    }

    /// Puts data that no etcd knows any more aside; only the newest of such is kept.
    pub fn set_aside(&self) -> Result<()> {
        let stale = self.0.directory.join("data.stale");
        let set_aside = || -> io::Result<()> {
            gone(fs::remove_file(self.joined()))?;
            gone(fs::remove_file(&self.0.joined_file))?;
            gone(fs::remove_dir_all(&stale))?;
            fs::rename(self.data(), &stale)
        };
        tracing::warn!("what etcd has here is of no use any more: put aside as {}", stale.display());
        set_aside().with_context(|| format!("cannot put {} aside", self.data().display()))
    }

    /// The configuration that etcd starts with. `initial`: how the member comes into being, if it is now.
    pub fn write_config(&self, initial: Option<&str>) -> Result<()> {
        let source = &self.0.etcd_config;
        let mut text = fs::read_to_string(source)
            .with_context(|| format!("cannot read {}", source.display()))?
            .trim_end()
            .to_owned();
        if let Some(initial) = initial {
            write(&self.initial(), initial)?;
        }
        text.push('\n');
        text.push_str(&fs::read_to_string(self.initial()).unwrap_or_default());
        write(&self.0.directory.join("etcd.yaml"), &text)
    }

    /// On disk, once it is said: what it says decides what may be done with the data.
    pub fn mark_joined(&self) -> Result<()> {
        for path in [self.joined(), self.0.joined_file.clone()] {
            if !path.exists() {
                write(&path, "")?;
            }
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
