//! Waiting for the end of processes that are not our children.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

/// Returns when all have ended or the time is up.
pub fn wait_all(pids: &[Pid], until: Instant) {
    for descriptor in pids.iter().filter_map(|pid| open(*pid)) {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, timeout);
    }
}

/// pidfd_open(2); `None` when the process is gone already.
#[allow(unsafe_code)]
fn open(pid: Pid) -> Option<OwnedFd> {
    // SAFETY: the system call takes no pointers and a non-negative result is a new descriptor that nobody else owns.
    unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0);
        (descriptor >= 0).then(|| OwnedFd::from_raw_fd(i32::try_from(descriptor).unwrap_or(-1)))
    }
}
