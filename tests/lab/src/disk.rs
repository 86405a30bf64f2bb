//! One host's disk: a sparse copy of the base image, of the wanted size, mounted through a loop device.

use crate::{base, command, size::Size};
use anyhow::{Context as _, Result};
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Disk {
    pub image: PathBuf,
    pub mountpoint: PathBuf,
}

impl Disk {
    pub fn new(host_dir: &Path) -> Self {
        Disk { image: host_dir.join("disk.ext4"), mountpoint: host_dir.join("root") }
    }

    pub fn exists(&self) -> bool {
        self.image.exists()
    }

    pub fn create(&self, base: &Path, size: Option<Size>) -> Result<()> {
        command::run(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(base).arg(&self.image))?;
        match size {
            Some(size) if size.bytes() != base::DEFAULT_BYTES => self.resize(size),
            _ => Ok(()),
        }
    }

    fn resize(&self, size: Size) -> Result<()> {
        let kib = format!("{}K", size.bytes() / 1024);
        if size.bytes() > base::DEFAULT_BYTES {
            fs::OpenOptions::new().write(true).open(&self.image)?.set_len(size.bytes())?;
        }
        command::run(Command::new("resize2fs").args(["-f"]).arg(&self.image).arg(&kib))
            .with_context(|| format!("cannot make a disk of {kib}; the base system needs about 300M"))?;
        fs::OpenOptions::new().write(true).open(&self.image)?.set_len(size.bytes())?;
        Ok(())
    }

    /// The loop device is freed by the kernel with the mount. `noinit_itable`: no background thread fills the sparse file. What was
    /// deleted becomes a hole again by [`Disk::trim`], and not by `discard` at once: the kernel then also discards what a transaction
    /// would have freed that a power cut aborts, and files that are still there are full of zeros.
    pub fn mount(&self) -> Result<()> {
        if self.mounted()? {
            return Ok(());
        }
        fs::create_dir_all(&self.mountpoint)?;
        command::run(
            Command::new("mount")
                .args(["-t", "ext4", "-o", "loop,noatime,noinit_itable"])
                .arg(&self.image)
                .arg(&self.mountpoint),
        )?;
        self.trim();
        Ok(())
    }

    /// Gives the machine back what the host has deleted.
    pub fn trim(&self) {
        // fine where the machine's own file system has no holes
        let _ = command::run(Command::new("fstrim").arg(&self.mountpoint));
    }

    pub fn sync(&self) -> Result<()> {
        command::run(Command::new("sync").arg("-f").arg(&self.mountpoint)).map(drop)
    }

    /// What a power cut does to a disk: whatever the kernel has not written yet is lost, and nothing is written any more. The next
    /// mount finds what was synced.
    #[expect(unsafe_code, reason = "ioctl(2) FS_IOC_SHUTDOWN has no safe wrapper")]
    pub fn lose_power(&self) -> Result<()> {
        /// `_IOR('X', 125, __u32)`.
        const SHUTDOWN: libc::c_ulong = 0x8004_587d;
        /// `EXT4_GOING_FLAGS_NOLOGFLUSH`.
        const WITHOUT_FLUSH: u32 = 2;
        if !self.mounted()? {
            return Ok(());
        }
        let root = fs::File::open(&self.mountpoint)?;
        // SAFETY: the descriptor is open, and the kernel reads one u32 that outlives the call.
        match unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &WITHOUT_FLUSH) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error())
                .with_context(|| format!("{} does not lose its power", self.mountpoint.display())),
        }
    }

    pub fn unmount(&self) -> Result<()> {
        while self.mounted()? {
            command::run(Command::new("umount").arg("-R").arg(&self.mountpoint))
                .or_else(|_| command::run(Command::new("umount").args(["-R", "-l"]).arg(&self.mountpoint)))?;
        }
        Ok(())
    }

    fn mounted(&self) -> Result<bool> {
        let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read the table of mounts")?;
        let wanted = self.mountpoint.to_string_lossy();
        Ok(table.lines().any(|line| line.split(' ').nth(4) == Some(&*wanted)))
    }
}
