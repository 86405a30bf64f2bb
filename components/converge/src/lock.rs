//! One installer at a time on a host.
//!
//! The lock is on a directory that every host has, so that it leaves nothing behind; the kernel gives it back when the process
//! ends, however it ends.

use std::fs::File;
use std::io;
use std::sync::mpsc;
use std::time::Duration;

use hoststate::wire::{Failure, SILENCE};
use nix::fcntl::{Flock, FlockArg};

use crate::{Root, resources};

const DIRECTORY: &str = "/var/lib";

/// How long a session that lost its installer may take to notice and end.
const PATIENCE: Duration = SILENCE.saturating_add(Duration::from_secs(5));

/// Held until it is dropped.
pub struct HostLock {
    _held: Flock<File>,
}

impl HostLock {
    pub fn take(root: &Root) -> Result<Self, Failure> {
        Self::take_within(root, PATIENCE)
    }

    fn take_within(root: &Root, patience: Duration) -> Result<Self, Failure> {
        let path = root.path(DIRECTORY);
        let file = File::open(&path).map_err(|error| resources::io("lock", &error))?;
        // flock(2) has no time limit: another thread waits, and gives the lock back if it comes too late
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || sender.send(Flock::lock(file, FlockArg::LockExclusive)));
        match receiver.recv_timeout(patience) {
            Ok(Ok(held)) => Ok(Self { _held: held }),
            Ok(Err((_, errno))) => Err(resources::io("lock", &errno.into())),
            Err(_) => Err(Failure {
                hint: Some("wait until it has ended, then run the command again".into()),
                ..resources::io("lock", &io::Error::other("another kinstall is working on this host"))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_second_installer_waits_a_while_and_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root { prefix: directory.path().to_owned() };
        std::fs::create_dir_all(root.path(DIRECTORY)).unwrap();
        let first = HostLock::take(&root).unwrap();
        let Err(refused) = HostLock::take_within(&root, Duration::from_millis(20)) else {
            unreachable!("two hold the lock")
        };
        assert!(refused.message.contains("another kinstall") && refused.hint.is_some(), "{refused:?}");
        let second = std::thread::spawn({
            let root = root.clone();
            move || HostLock::take(&root).is_ok()
        });
        drop(first);
        assert!(second.join().unwrap(), "it is free again");
    }
}
