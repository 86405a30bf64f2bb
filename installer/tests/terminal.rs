//! What a person types at the terminal, and what of it is shown.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::termios::{LocalFlags, tcgetattr};

/// Both ends of a pipe that takes nothing more until it is read; and how many bytes are in it.
fn full_pipe() -> (File, OwnedFd, usize) {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
    let mut filled = 0;
    while let Ok(count) = nix::unistd::write(&writer, b".") {
        filled += count;
    }
    for end in [reader.as_fd(), writer.as_fd()] {
        fcntl(end, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    }
    (File::from(reader), writer, filled)
}

#[test]
fn a_secret_is_asked_for_once_nothing_typed_is_shown() {
    let nix::pty::OpenptyResult { master, slave } = nix::pty::openpty(None, None).unwrap();
    // the child notices when nobody is there any more
    fcntl(&master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    // the question cannot be told yet
    let (mut told, stderr, filled) = full_pipe();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kinstall"))
        .args(["restore", "nothing.kinstall"])
        .stdin(slave)
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while tcgetattr(&master).unwrap().local_flags.contains(LocalFlags::ECHO) {
        assert!(Instant::now() < deadline, "what is typed would be shown when the question comes");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::io::copy(&mut (&mut told).take(filled as u64), &mut std::io::sink()).unwrap();
    let mut master = File::from(master);
    master.write_all(b"a passphrase\n").unwrap();
    let mut said = String::new();
    told.read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert!(said.starts_with("Passphrase of the backup: \n"), "{said}");
    assert!(said.contains("nothing.kinstall") && !said.contains("a passphrase"), "{said}");
    assert!(tcgetattr(&master).unwrap().local_flags.contains(LocalFlags::ECHO), "the terminal is as before");
}
