//! A wrong clock for one host, although all hosts share the kernel of the machine.
//!
//! Programs read the time from code that the kernel maps into every process (vdso(7)), whatever they are linked to. In the processes of the
//! host this code is replaced by the system call and an addition ([`vdso`]), in those it has and, by ptrace(2), in all it starts
//! ([`tracer`]). What the kernel does by its own clock has the right time still: times of files, timers that wait for a date.

mod tracer;
mod vdso;

use crate::host::Host;
use anyhow::{Context as _, Result, anyhow};
use std::process::ChildStdin;
use std::sync::mpsc;
use std::thread::JoinHandle;
use tracer::Tracer;

impl Host {
    /// Sets the host's clock so many seconds ahead of the machine's, or behind it where negative; 0 is right. It stays so until it is
    /// set again, the host loses power, or this process ends: then what runs keeps its time and what starts has the right one.
    pub fn set_clock(&self, seconds: i32) -> Result<()> {
        let mut clocks = self.shared().clocks.lock().map_err(|_| anyhow!("a clock was left half set"))?;
        if let Some(wrong) = clocks.remove(&self.number()) {
            wrong.end().with_context(|| format!("cannot set the clock of host {} right", self.name()))?;
        }
        if seconds != 0 {
            let wrong = WrongClock::begin(self.leader()?, seconds)
                .with_context(|| format!("cannot set the clock of host {}", self.name()))?;
            clocks.insert(self.number(), wrong);
        }
        Ok(())
    }
}

/// A thread that has the processes of a host in its hands; whoever is traced belongs to one thread.
pub(crate) struct WrongClock {
    bell: ChildStdin,
    thread: JoinHandle<Result<()>>,
}

impl WrongClock {
    /// When it returns, no process under `leader` has the right time any more.
    fn begin(leader: u32, seconds: i32) -> Result<Self> {
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let (mut tracer, bell) = Tracer::begin(leader, seconds)?;
            // fails only where nobody waits: then the bell is dropped, and rings
            let _ = ready.send(bell);
            tracer.follow()
        });
        match is_ready.recv() {
            Ok(bell) => Ok(Self { bell, thread }),
            Err(_) => Err(ended(thread).err().unwrap_or_else(|| anyhow!("nobody is left to be told the time"))),
        }
    }

    fn end(self) -> Result<()> {
        drop(self.bell);
        ended(self.thread)
    }
}

fn ended(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().map_err(|_| anyhow!("the thread that traces the host panicked"))?
}
