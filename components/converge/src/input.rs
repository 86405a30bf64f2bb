//! Where requests come from: an input that ends when the installer has said nothing for too long.
//!
//! The end of the installer's process ends the connection, and with it our input. When its machine or the network between us
//! goes, nobody tells us: sshd would wait for hours, and the host's lock with it. So the installer says now and then that it is
//! there ([`hoststate::Request::Alive`]), whatever it waits for.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::time::Duration;

use hoststate::wire::SILENCE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What arrives at a file descriptor.
pub struct Arriving {
    file: File,
    silence: Duration,
}

impl Arriving {
    pub fn stdin() -> io::Result<Self> {
        // not through `Stdin`, whose buffer `poll` does not know
        Ok(Self { file: File::from(io::stdin().as_fd().try_clone_to_owned()?), silence: SILENCE })
    }

    #[cfg(test)]
    pub fn of(pipe: io::PipeReader, silence: Duration) -> Self {
        Self { file: File::from(std::os::fd::OwnedFd::from(pipe)), silence }
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let timeout = PollTimeout::try_from(self.silence).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)], timeout)? {
            0 => Ok(0),
            _ => self.file.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;
    use std::time::Instant;

    use super::*;

    #[test]
    fn an_input_that_does_not_come_has_ended() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut input = Arriving::of(reader, Duration::from_millis(200));
        let mut buffer = [0; 8];
        let said = std::thread::spawn(move || {
            for _ in 0..2 {
                std::thread::sleep(Duration::from_millis(20));
                writer.write_all(b"said").unwrap();
            }
            writer
        });
        let mut heard = 0;
        while heard < 8 {
            heard += input.read(&mut buffer).unwrap();
        }
        let _open = said.join().unwrap();
        let started = Instant::now();
        assert_eq!(input.read(&mut buffer).unwrap(), 0);
        assert!(started.elapsed() >= Duration::from_millis(200));
    }
}
