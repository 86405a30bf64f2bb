//! What breaks.

use std::fmt;
use std::process::Child;
use std::time::Duration;

use anyhow::Result;
use lab::{Host, Lab, filler};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The installer, by SIGKILL.
    Killed,
    /// A host loses power, until the installer has ended.
    PowerOff(u32),
    /// A host's cable is pulled, until the installer has ended.
    Cut(u32),
    /// A host's cable is pulled, for this long.
    CutFor(u32, Duration),
    /// Every SSH session on every host dies; hosts take new ones.
    SessionsDropped,
    /// A host's disk is full, until the installer has ended.
    DiskFull(u32),
    /// A host's clock is so many seconds ahead, or behind where negative, until the installer has ended.
    Clock(u32, i32),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Killed => write!(f, "installer killed"),
            Fault::PowerOff(n) => write!(f, "h{n} loses power"),
            Fault::Cut(n) => write!(f, "h{n} cut off"),
            Fault::CutFor(n, time) => write!(f, "h{n} cut off for {} s", time.as_secs()),
            Fault::SessionsDropped => write!(f, "SSH sessions dropped"),
            Fault::DiskFull(n) => write!(f, "h{n}'s disk full"),
            Fault::Clock(n, off) => {
                let way = if *off < 0 { "behind" } else { "ahead" };
                write!(f, "h{n}'s clock {} min {way}", off.abs() / 60)
            }
        }
    }
}

impl Fault {
    pub fn strike(self, lab: &Lab, installer: &mut Child) -> Result<()> {
        match self {
            Fault::Killed => Ok(installer.kill()?),
            Fault::PowerOff(n) => lab.host(n).poweroff(),
            Fault::Cut(n) => lab.host(n).cut(),
            Fault::CutFor(n, time) => {
                let host = lab.host(n).clone();
                host.cut()?;
                // the installer is followed meanwhile; a cable that stays out shows in what comes after
                std::thread::spawn(move || {
                    std::thread::sleep(time);
                    host.heal()
                });
                Ok(())
            }
            Fault::SessionsDropped => lab.hosts().iter().try_for_each(drop_sessions),
            Fault::DiskFull(n) => filler::nearly_fill(lab.host(n)),
            Fault::Clock(n, off) => lab.host(n).set_clock(off),
        }
    }

    /// The host that is struck, if it is one.
    pub fn host(self) -> Option<String> {
        match self {
            Fault::PowerOff(n) | Fault::Cut(n) | Fault::CutFor(n, _) | Fault::DiskFull(n) | Fault::Clock(n, _) => {
                Some(format!("h{n}"))
            }
            Fault::Killed | Fault::SessionsDropped => None,
        }
    }

    /// Everything that a fault did to hosts is taken back; fine where it was not.
    pub fn lift(self, lab: &Lab) -> Result<()> {
        match self {
            Fault::PowerOff(n) => lab.host(n).start(),
            Fault::Cut(n) | Fault::CutFor(n, _) => {
                lab.host(n).heal()?;
                // the kernel has it noted for seconds that nobody is there
                lab.host(n).wait_ssh(Duration::from_secs(20))
            }
            Fault::DiskFull(n) => filler::free(lab.host(n)),
            Fault::Clock(n, _) => lab.host(n).set_clock(0),
            Fault::Killed | Fault::SessionsDropped => Ok(()),
        }
    }
}

/// Those of sshd's processes that serve a session: the monitor and the user's own. Not over SSH, which would count as one.
fn drop_sessions(host: &Host) -> Result<()> {
    // 1: there was none
    host.exec("pkill -KILL -f '^sshd(-session)?: [a-z]+(@| \\[priv\\])'; [ $? -le 1 ]")?.ok().map(drop)
}
