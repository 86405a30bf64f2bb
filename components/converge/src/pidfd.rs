//! Waiting for the end of processes: of those that are not our children, and of a child for some time only.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

/// Returns when all have ended or the time is up.
pub fn wait_all(pids: &[Pid], until: Instant) {
    for descriptor in pids.iter().filter_map(|pid| open(*pid)) {
        ended(&descriptor, until.saturating_duration_since(Instant::now()));
    }
}

/// Whether a child has ended within `time`; it is not reaped.
pub fn wait_for_child(child: &Child, time: Duration) -> bool {
    let Ok(pid) = i32::try_from(child.id()) else { return true };
    open(Pid::from_raw(pid)).is_none_or(|descriptor| ended(&descriptor, time))
}

fn ended(descriptor: &OwnedFd, within: Duration) -> bool {
    let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::ZERO);
    let mut fds = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, timeout).is_ok_and(|ready| ready > 0)
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
