//! One operator at a time.
//!
//! The lock is an OS file lock, which ends with its process, plus who holds it as text. A holder on another machine (the
//! directory is shared) is taken from the text, since file locks do not reach across every network file system.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

#[derive(Debug)]
pub struct Lock(File);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub user: String,
    pub host: String,
    pub pid: u32,
    pub since: String,
    pub command: String,
}

impl Holder {
    pub fn me(command: &str) -> Self {
        let now =
            time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
        Self {
            user: std::env::var("USER")
                .or_else(|_| std::env::var("LOGNAME"))
                .unwrap_or_else(|_| format!("uid {}", nix::unistd::getuid())),
            host: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            pid: std::process::id(),
            since: now,
            command: command.to_owned(),
        }
    }
}

impl Lock {
    /// Takes the lock of a state directory or says who holds it. One that a dead process of this machine left is taken over.
    pub fn take(directory: &Path, holder: &Holder) -> anyhow::Result<Self> {
        let path = directory.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot open the lock {}", path.display()))?;
        let locked = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        };
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(|| format!("cannot read the lock {}", path.display()))?;
        let other: Option<Holder> = serde_json::from_str(&text).ok();
        match other {
            Some(other) if !locked || other.host != holder.host => bail!(
                "`kinstall {}` of {} on {} (process {}) has worked on this cluster since {}; wait for its end{}",
                other.command,
                other.user,
                other.host,
                other.pid,
                other.since,
                if other.host == holder.host {
                    String::new()
                } else {
                    format!(", or, if it is dead, remove {}", path.display())
                }
            ),
            None if !locked => bail!("another kinstall works on this cluster; wait for its end"),
            _ => {}
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(holder)?)?;
        file.sync_all()?;
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // emptied, not removed: removing it would let two operators lock two files of one name
        let _ = self.0.set_len(0);
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_second_operator_is_told_who_the_first_is() {
        let directory = tempfile::tempdir().unwrap();
        let first = Holder { user: "alice".into(), pid: 77, ..Holder::me("up") };
        let lock = Lock::take(directory.path(), &first).unwrap();
        let message = Lock::take(directory.path(), &Holder::me("down")).unwrap_err().to_string();
        assert!(message.contains("alice") && message.contains("77") && message.contains("kinstall up"), "{message}");
        drop(lock);
        Lock::take(directory.path(), &Holder::me("down")).unwrap();
    }

    #[test]
    fn a_dead_process_is_taken_over_but_another_machine_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let dead = Holder { pid: 1, ..Holder::me("up") };
        std::fs::write(directory.path().join("lock"), serde_json::to_vec(&dead).unwrap()).unwrap();
        drop(Lock::take(directory.path(), &Holder::me("up")).unwrap());
        let elsewhere = Holder { host: "elsewhere".into(), ..dead };
        std::fs::write(directory.path().join("lock"), serde_json::to_vec(&elsewhere).unwrap()).unwrap();
        let message = Lock::take(directory.path(), &Holder::me("up")).unwrap_err().to_string();
        assert!(message.contains("elsewhere") && message.contains("remove"), "{message}");
    }
}
