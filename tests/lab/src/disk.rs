//! One host's disk: a sparse copy of the base image, of the wanted size, mounted through a loop device.

use crate::{base, command, size::Size};
use anyhow::{Context as _, Result};
use std::fs;
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

    /// The loop device is freed by the kernel with the mount. `noinit_itable`: no background thread fills the sparse file;
    /// `discard`: what the host deletes becomes a hole again.
    pub fn mount(&self) -> Result<()> {
        if self.mounted()? {
            return Ok(());
        }
        fs::create_dir_all(&self.mountpoint)?;
        command::run(
            Command::new("mount")
                .args(["-t", "ext4", "-o", "loop,noatime,noinit_itable,discard"])
                .arg(&self.image)
                .arg(&self.mountpoint),
        )?;
        Ok(())
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
