//! Network namespaces: enter one for the time of a closure.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace held open; an anonymous one ends with its last holder.
#[derive(Clone)]
pub struct NetNs(Arc<File>);

impl NetNs {
    pub fn open(path: impl AsRef<Path>) -> std::io::Result<Self> {
        Ok(Self(Arc::new(File::open(path)?)))
    }

    /// The namespace of the calling thread.
    pub fn current() -> std::io::Result<Self> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// A new namespace without a name: nothing to clean up.
    pub fn anonymous() -> std::io::Result<Self> {
        in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Self::current()
        })?
    }

    /// Runs `f` inside, on a thread of its own, so that no other code of the process ever changes its namespace.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> std::io::Result<T> {
        in_thread(|| {
            setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(f())
        })?
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn in_thread<T: Send>(f: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, f)?;
        thread.join().map_err(|_| std::io::Error::other("the thread inside the network namespace panicked"))
    })
}
