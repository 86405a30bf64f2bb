//! ptrace(2) over all processes of a host: stopped together once, then at every exec(2), which brings a new vDSO. Belongs to one thread.
//! libc's own calls, since others know no real-time signals, by which systemd and libc itself talk.

use super::vdso::{self, Vdso};
use crate::processes;
use anyhow::{Context as _, Result, bail};
use libc::{c_int, c_long, pid_t};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Error;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

const OPTIONS: c_int =
    libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK | libc::PTRACE_O_TRACECLONE;
/// Where user_regs_struct has the address of the next instruction.
const RIP: usize = 16 * size_of::<u64>();

pub struct Tracer {
    vdso: Vdso,
    leader: u32,
    seconds: i32,
    /// A child of this thread: its end is an event among those of the traced.
    bell: Child,
}

#[derive(Clone, Copy, PartialEq)]
enum Stop {
    Gone,
    Exec,
    /// By a signal for job control: goes on when another one says so.
    Group,
    Signal(c_int),
    /// Of no meaning to the traced.
    Other,
}

impl Tracer {
    /// All processes under `leader`, and it too, have another time now. What rings when it is dropped, and thereby ends [`follow`].
    ///
    /// [`follow`]: Tracer::follow
    pub fn begin(leader: u32, seconds: i32) -> Result<(Self, ChildStdin)> {
        let vdso = Vdso::read()?;
        let mut bell =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().context("cannot run cat")?;
        let rope = bell.stdin.take().context("cat has no standard input")?;
        let tracer = Self { vdso, leader, seconds, bell };
        let stopped = tracer.stop_all()?;
        for tid in stopped.keys() {
            leave_vdso(*tid)?;
        }
        for pid in processes::tree(leader) {
            tracer.vdso.write(pid, seconds)?;
        }
        for (tid, stop) in stopped {
            tracer.go_on(tid, stop)?;
        }
        Ok((tracer, rope))
    }

    /// Until the bell rings; then all have the right time again.
    pub fn follow(&mut self) -> Result<()> {
        while let Some((tid, stop)) = wait(-1, 0)? {
            if stop == Stop::Gone && tid == self.bell.id() as pid_t {
                break;
            }
            self.go_on(tid, stop)?;
        }
        // what was forked from a process just before its turn is found by the next round; forked after it, it is right
        loop {
            let wrong: Vec<u32> =
                processes::tree(self.leader).into_iter().filter(|pid| self.vdso.has(*pid, self.seconds)).collect();
            if wrong.is_empty() {
                return Ok(());
            }
            for pid in wrong {
                self.vdso.write(pid, 0)?;
            }
        }
    }

    /// Every thread, with what stopped it. Those in an uninterruptible wait stop before they come back from the kernel.
    fn stop_all(&self) -> Result<BTreeMap<pid_t, Stop>> {
        let (mut traced, mut stopped) = (BTreeSet::new(), BTreeMap::new());
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let mut all = true;
            let threads = processes::tree(self.leader).into_iter().flat_map(processes::threads);
            for tid in threads.map(|tid| tid as pid_t) {
                if !traced.contains(&tid) {
                    all = false;
                    if seize(tid)? {
                        traced.insert(tid);
                    }
                }
            }
            while let Some((tid, stop)) = wait(-1, libc::WNOHANG)? {
                if stop == Stop::Gone {
                    traced.remove(&tid);
                    stopped.remove(&tid);
                } else {
                    traced.insert(tid);
                    stopped.insert(tid, stop);
                }
            }
            let moving: Vec<_> = traced.iter().filter(|tid| !stopped.contains_key(tid) && runs(**tid)).collect();
            if all && moving.is_empty() {
                return Ok(stopped);
            }
            if Instant::now() > deadline {
                bail!("threads {moving:?} do not stop");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn go_on(&self, tid: pid_t, stop: Stop) -> Result<()> {
        let (request, signal) = match stop {
            Stop::Gone => return Ok(()),
            Stop::Exec => {
                self.vdso.write(tid as u32, self.seconds)?;
                (libc::PTRACE_CONT, 0)
            }
            Stop::Group => (libc::PTRACE_LISTEN, 0),
            Stop::Signal(signal) => (libc::PTRACE_CONT, signal),
            Stop::Other => (libc::PTRACE_CONT, 0),
        };
        ptrace(request, tid, 0, signal as usize).or_gone().map(drop)
    }
}

/// By single steps; a stop for a signal stays one.
fn leave_vdso(tid: pid_t) -> Result<()> {
    let Some(place) = vdso::place(tid as u32) else { return Ok(()) };
    for _ in 0..10_000 {
        match ptrace(libc::PTRACE_PEEKUSER, tid, RIP, 0).or_gone()? {
            Some(rip) if place.contains(&(rip as u64)) => {}
            _ => return Ok(()),
        }
        ptrace(libc::PTRACE_SINGLESTEP, tid, 0, 0).or_gone()?;
        wait(tid, 0)?;
    }
    bail!("thread {tid} stays in the vDSO");
}

/// Takes a thread in hand and asks it to stop. Not where it has ended.
fn seize(tid: pid_t) -> Result<bool> {
    match ptrace(libc::PTRACE_SEIZE, tid, 0, OPTIONS as usize) {
        // it came with who started it, and stops by itself
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && is_ours(tid) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && !runs(tid) => Ok(false),
        seized => match seized.or_gone()? {
            None => Ok(false),
            Some(_) => Ok(ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0).or_gone()?.is_some()),
        },
    }
}

#[allow(unsafe_code)]
fn is_ours(tid: pid_t) -> bool {
    // SAFETY: gettid(2) takes nothing and cannot fail
    let own = unsafe { libc::gettid() };
    let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() == own.to_string()))
}

/// What changed in one of the traced or the bell; none of them has changed yet, or is left, where `None`.
#[allow(unsafe_code)]
fn wait(tid: pid_t, flags: c_int) -> Result<Option<(pid_t, Stop)>> {
    let mut status = 0;
    // SAFETY: waitpid(2) writes to nothing but `status`
    let changed = unsafe { libc::waitpid(tid, &mut status, flags | libc::__WALL | libc::__WNOTHREAD) };
    if changed < 0 {
        let error = Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::EINTR) => wait(tid, flags),
            Some(libc::ECHILD) => Ok(None),
            _ => Err(error).context("cannot wait for traced processes"),
        };
    }
    Ok((changed > 0).then(|| (changed, stop_of(status))))
}

fn stop_of(status: c_int) -> Stop {
    if !libc::WIFSTOPPED(status) {
        return Stop::Gone;
    }
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        0 => Stop::Signal(signal),
        libc::PTRACE_EVENT_EXEC => Stop::Exec,
        libc::PTRACE_EVENT_STOP if signal != libc::SIGTRAP => Stop::Group,
        _ => Stop::Other,
    }
}

#[allow(unsafe_code)]
fn ptrace(request: libc::c_uint, tid: pid_t, address: usize, data: usize) -> std::io::Result<c_long> {
    // SAFETY: none of the requests made here has the kernel write to this process's memory: where one would take a pointer, libc's
    // wrapper has its own. -1 is a result of one that reads, unless errno says otherwise.
    unsafe {
        *libc::__errno_location() = 0;
        let value = libc::ptrace(request, tid, address, data);
        if value == -1 && *libc::__errno_location() != 0 { Err(Error::last_os_error()) } else { Ok(value) }
    }
}

trait OrGone<T> {
    /// `None` where there is no such thread any more.
    fn or_gone(self) -> Result<Option<T>>;
}

impl<T> OrGone<T> for std::io::Result<T> {
    fn or_gone(self) -> Result<Option<T>> {
        match self {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            other => Ok(Some(other.context("cannot trace")?)),
        }
    }
}

/// Neither ended nor in an uninterruptible wait.
fn runs(tid: pid_t) -> bool {
    processes::stat(tid as u32).is_some_and(|(state, _)| !"ZXD".contains(state))
}
