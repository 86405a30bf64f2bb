//! Where requests come from: an input that ends when the installer has said nothing for too long.
//!
//! The end of the installer's process ends the connection, and with it our input. When its machine or the network between us
//! goes, nobody tells us: sshd would wait for hours, and the host's lock with it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hoststate::wire::SILENCE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub trait Input: Read {
    /// As long as `working` holds, something comes at least every [`SILENCE`], or nothing comes any more.
    fn expect_while(&mut self, _working: &Arc<AtomicBool>) {}
}

/// All there will be is there.
impl Input for &[u8] {}

/// What arrives at a file descriptor.
pub struct Arriving {
    file: File,
    silence: Duration,
    expecting: Arc<AtomicBool>,
}

impl Arriving {
    pub fn stdin() -> io::Result<Self> {
        // not through `Stdin`, whose buffer `poll` does not know
        Ok(Self::new(File::from(io::stdin().as_fd().try_clone_to_owned()?), SILENCE))
    }

    #[cfg(test)]
    pub fn of(pipe: io::PipeReader) -> Self {
        Self::new(File::from(std::os::fd::OwnedFd::from(pipe)), SILENCE)
    }

    fn new(file: File, silence: Duration) -> Self {
        Self { file, silence, expecting: Arc::default() }
    }
}

impl Input for Arriving {
    fn expect_while(&mut self, working: &Arc<AtomicBool>) {
        self.expecting = working.clone();
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.expecting.load(Ordering::Relaxed) {
            let timeout = PollTimeout::try_from(self.silence).unwrap_or(PollTimeout::MAX);
            let silent = poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)], timeout)? == 0;
            // when the work was done meanwhile, the installer may think about the result as long as it likes
            if silent && self.expecting.load(Ordering::Relaxed) {
                return Ok(0);
            }
        }
        self.file.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;
    use std::time::Instant;

    use super::*;

    #[test]
    fn an_input_that_is_expected_and_does_not_come_has_ended() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut input = Arriving::new(File::from(std::os::fd::OwnedFd::from(reader)), Duration::from_millis(50));
        let mut buffer = [0; 8];
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(120));
            writer.write_all(b"late").unwrap();
            std::thread::sleep(Duration::from_millis(120));
            writer.write_all(b"later").unwrap();
            writer
        });
        // nobody promised anything
        assert_eq!(input.read(&mut buffer).unwrap(), 4);
        let working = Arc::new(AtomicBool::new(true));
        input.expect_while(&working);
        let done = std::thread::spawn({
            let working = working.clone();
            move || {
                std::thread::sleep(Duration::from_millis(20));
                working.store(false, Ordering::Relaxed);
            }
        });
        assert_eq!(input.read(&mut buffer).unwrap(), 5, "the work was done in good time");
        done.join().unwrap();
        let _open = late.join().unwrap();
        working.store(true, Ordering::Relaxed);
        let started = Instant::now();
        assert_eq!(input.read(&mut buffer).unwrap(), 0);
        assert!(started.elapsed() >= Duration::from_millis(50));
    }
}
