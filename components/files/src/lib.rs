//! Files that are read again when they change: certificates, keys, configurations.
//!
//! The folders are watched, not the files: tools replace files by renaming others over them.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, AsRawFd, RawFd},
    path::PathBuf,
};

use anyhow::Context;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[allow(unsafe_code)] // the kernel watches the descriptor as long as it is registered
fn registered(inotify: Inotify) -> anyhow::Result<AsyncFd<Descriptor>> {
    // SAFETY: the descriptor belongs to the Inotify inside, which only goes together with the AsyncFd around it.
    unsafe { AsyncFd::register(Descriptor(inotify)) }.map_err(|e| anyhow::anyhow!("cannot watch files: {e}"))
}

/// Calls `changed` after anything in the folders of `paths` was written, made, renamed or deleted, until `stopping`.
pub fn watch(
    paths: impl IntoIterator<Item = PathBuf>,
    stopping: CancellationToken,
    changed: impl Fn() + Send + 'static,
) -> anyhow::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).context("cannot watch files")?;
    let folders: BTreeSet<PathBuf> = paths
        .into_iter()
        .map(|path| path.parent().filter(|p| !p.as_os_str().is_empty()).map_or_else(|| ".".into(), Into::into))
        .collect();
    let kinds = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE;
    for folder in &folders {
        inotify.add_watch(folder, kinds).with_context(|| format!("cannot watch {}", folder.display()))?;
    }
    let descriptor = registered(inotify)?;
    tokio::spawn(async move {
        loop {
            let mut ready = tokio::select! {
                () = stopping.cancelled() => return,
                ready = descriptor.readable() => match ready {
                    Ok(ready) => ready,
                    Err(error) => return tracing::error!(%error, "files are no longer watched for changes"),
                },
            };
            // what happened does not matter: whoever is told reads again and compares
            while descriptor.get_ref().0.read_events().is_ok_and(|events| !events.is_empty()) {}
            ready.clear_ready();
            changed();
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_replaced_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        std::fs::write(&file, "old").unwrap();
        let (told, mut telling) = tokio::sync::mpsc::unbounded_channel();
        watch([file.clone()], CancellationToken::new(), move || {
            let _ = told.send(());
        })
        .unwrap();
        std::fs::write(dir.path().join("new"), "new").unwrap();
        std::fs::rename(dir.path().join("new"), &file).unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(5), telling.recv()).await.unwrap().unwrap();
    }
}
