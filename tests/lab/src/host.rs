//! One host: power, cable, shell.

use crate::cgroup::Manager;
use crate::clock::WrongClock;
use crate::command::{self, Output};
use crate::disk::Disk;
use crate::release::Release;
use crate::size::Size;
use crate::trust::Trust;
use crate::{base, network, processes};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SUPERVISOR: &str = include_str!("supervise.sh");

/// What all hosts of a lab have in common.
pub(crate) struct Shared {
    pub state: PathBuf,
    pub manager: Manager,
    pub trust: Trust,
    /// Of hosts that have a wrong one.
    pub clocks: Mutex<BTreeMap<u32, WrongClock>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Running,
    Stopped,
}

/// A handle; the host itself lives on without it.
#[derive(Clone)]
pub struct Host {
    n: u32,
    name: String,
    dir: PathBuf,
    shared: Arc<Shared>,
}

impl Host {
    pub(crate) fn new(n: u32, shared: Arc<Shared>) -> Self {
        let name = format!("h{n}");
        Host { n, dir: shared.state.join(&name), name, shared }
    }

    pub fn number(&self) -> u32 {
        self.n
    }
    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn address(&self) -> String {
        network::address(self.n)
    }
    /// Everything the host's init printed.
    pub fn console_log(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    fn disk(&self) -> Disk {
        Disk::new(&self.dir)
    }

    /// Gives the machine back what the host has deleted. A disk grows by all that is ever written to it, otherwise, up to its size.
    pub fn trim(&self) {
        self.disk().trim();
    }

    pub(crate) fn exists(&self) -> bool {
        self.disk().exists()
    }

    /// Which Debian it is; kept beside its disk.
    pub fn release(&self) -> Result<Release> {
        let suite =
            fs::read_to_string(self.dir.join("release")).with_context(|| format!("there is no host {}", self.name))?;
        Release::of_suite(&suite).with_context(|| format!("host {} is of an unknown release {suite:?}", self.name))
    }

    /// Makes the disk with the host's own identity on it; the host stays off.
    pub(crate) fn create(&self, release: Release, size: Option<Size>) -> Result<()> {
        let base = base::host_image(release)?;
        fs::create_dir_all(&self.dir)?;
        fs::write(self.dir.join("release"), release.suite())?;
        let disk = self.disk();
        disk.create(&base, size)?;
        disk.mount()?;
        let root = &disk.mountpoint;
        fs::write(root.join("etc/hostname"), format!("{}\n", self.name))?;
        fs::write(
            root.join("etc/hosts"),
            format!("127.0.0.1\tlocalhost\n127.0.1.1\t{}\n::1\tlocalhost ip6-localhost ip6-loopback\n", self.name),
        )?;
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid").context("cannot read a random id")?;
        fs::write(root.join("etc/machine-id"), id.replace('-', ""))?;
        self.shared.trust.personalise(root, &self.name)?;
        let keys = self.shared.trust.host_lines(root, &self.address())?;
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.shared.trust.known_hosts())?
            .write_all(keys.as_bytes())?;
        // a host that loses power in its first seconds is still itself
        disk.sync()
    }

    pub fn state(&self) -> Result<State> {
        match self.lock_file()?.try_lock() {
            Ok(()) => Ok(State::Stopped),
            Err(fs::TryLockError::WouldBlock) => Ok(State::Running),
            Err(fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock a file of host {}", self.name))
            }
        }
    }

    /// Power on; returns when the host answers SSH.
    pub fn start(&self) -> Result<()> {
        self.power_on()?;
        self.wait_ssh(Duration::from_secs(60))
    }

    /// Power on without waiting.
    pub fn power_on(&self) -> Result<()> {
        let lock = self.lock_file()?;
        if lock.try_lock().is_err() {
            return Ok(());
        }
        self.supervisor("clean")?;
        self.disk().mount()?;
        let console = OpenOptions::new().create(true).append(true).open(self.console_log())?;
        let mut child = self
            .script("run", "setsid")?
            .stdin(Stdio::from(lock))
            .stdout(Stdio::from(console.try_clone()?))
            .stderr(Stdio::from(console))
            .spawn()
            .with_context(|| format!("cannot start host {}", self.name))?;
        // reaps the supervisor if this process outlives it
        std::thread::spawn(move || child.wait());
        Ok(())
    }

    /// Until sshd greets; there is no event to wait for on the other side of a network, so this asks again and again.
    pub fn wait_ssh(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !self.greets() {
            if Instant::now() > deadline || self.state()? == State::Stopped {
                let log = fs::read_to_string(self.console_log()).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(10).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                bail!(
                    "host {} ({}) does not answer SSH after {limit:?}; its console ends with:\n{tail}",
                    self.name,
                    self.address()
                );
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        Ok(())
    }

    fn greets(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::new(10, 99, 0, (10 + self.n) as u8), 22));
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) else { return false };
        let mut greeting = [0; 4];
        stream.set_read_timeout(Some(Duration::from_secs(2))).is_ok()
            && stream.read_exact(&mut greeting).is_ok()
            && &greeting == b"SSH-"
    }

    /// Orderly shutdown, as by the power button; power is cut when that takes more than 20 s.
    pub fn stop(&self) -> Result<()> {
        if self.state()? == State::Running {
            let pid = self.nspawn_pid()?;
            command::sh(&["kill", "-TERM", &pid.to_string()])?;
            if self.wait_off(20).is_err() {
                return self.poweroff();
            }
        }
        self.off()
    }

    /// Power cut: every process is gone at once, nothing is told, and what was not synced to the disk is lost.
    pub fn poweroff(&self) -> Result<()> {
        // processes that are killed would say goodbye to their peers; fine where the cable is gone already
        let _ = network::plug(&self.name, false);
        self.disk().lose_power()?;
        self.off()
    }

    fn off(&self) -> Result<()> {
        self.supervisor("clean")?;
        self.wait_off(10).with_context(|| format!("host {} does not lose its power", self.name))?;
        self.supervisor("clean")?;
        self.disk().unmount()
    }

    /// Orderly shutdown and start, keeping the disk.
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// Pulls the network cable.
    pub fn cut(&self) -> Result<()> {
        fs::write(self.dir.join("cut"), "")?;
        network::plug(&self.name, false)
    }

    pub fn heal(&self) -> Result<()> {
        let _ = fs::remove_file(self.dir.join("cut"));
        network::plug(&self.name, true)
    }

    /// Power cut, and the disk is gone.
    pub fn destroy(&self) -> Result<()> {
        if !self.dir.exists() {
            return Ok(());
        }
        self.poweroff()?;
        fs::remove_dir_all(&self.dir).with_context(|| format!("cannot remove {}", self.dir.display()))?;
        let known = self.shared.trust.known_hosts();
        let address = format!("{} ", self.address());
        let kept: String = fs::read_to_string(&known)
            .unwrap_or_default()
            .lines()
            .filter(|line| !line.starts_with(&address))
            .map(|line| format!("{line}\n"))
            .collect();
        fs::write(known, kept)?;
        Ok(())
    }

    /// Another machine of the same release under this name and address: fresh disk, new identity, running.
    pub fn replace(&self) -> Result<()> {
        let release = self.release()?;
        self.destroy()?;
        self.create(release, None)?;
        self.start()
    }

    /// Runs a shell command as root over SSH.
    pub fn ssh(&self, command: &str) -> Result<Output> {
        self.ssh_as("root", command)
    }

    pub fn ssh_as(&self, user: &str, command: &str) -> Result<Output> {
        command::output(self.ssh_command(user).arg(command))
    }

    /// The standard output, or an error if the command fails.
    pub fn ssh_ok(&self, command: &str) -> Result<String> {
        self.ssh(command)?.ok().with_context(|| format!("on host {}: `{command}`", self.name))
    }

    /// An `ssh` to this host, to which the caller adds a command or nothing.
    pub fn ssh_command(&self, user: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.shared.trust.ssh_config());
        // the usual one costs more CPU than all else here, and tests look at hosts hundreds of times
        ssh.args(["-o", "KexAlgorithms=curve25519-sha256", "-l", user, &self.name]);
        ssh
    }

    /// Copies a file or folder of this machine to the host.
    pub fn put(&self, local: &Path, remote: &str) -> Result<()> {
        self.scp(&[&local.to_string_lossy(), &format!("{}:{remote}", self.name)])
    }

    pub fn get(&self, remote: &str, local: &Path) -> Result<()> {
        self.scp(&[&format!("{}:{remote}", self.name), &local.to_string_lossy()])
    }

    fn scp(&self, files: &[&str]) -> Result<()> {
        command::run(Command::new("scp").arg("-qrF").arg(self.shared.trust.ssh_config()).args(files))?;
        Ok(())
    }

    /// A command inside the host without its network or SSH, also while the cable is pulled.
    pub fn exec_command(&self, words: &[String]) -> Result<Command> {
        let mut nsenter = Command::new("nsenter");
        nsenter.args([
            "--target",
            &self.leader()?.to_string(),
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--cgroup",
            "--root",
            "--wd",
            "--",
        ]);
        nsenter.args(words);
        Ok(nsenter)
    }

    pub fn exec(&self, command: &str) -> Result<Output> {
        command::output(&mut self.exec_command(&["/bin/sh", "-c", command].map(str::to_owned))?)
    }

    /// The machine's process that is PID 1 in the host.
    pub(crate) fn leader(&self) -> Result<u32> {
        let parent = self.nspawn_pid()?;
        if let Some(pid) = processes::children(parent).first() {
            return Ok(*pid);
        }
        bail!("host {} has no init process; is it running?", self.name)
    }

    fn nspawn_pid(&self) -> Result<u32> {
        let text = fs::read_to_string(self.dir.join("nspawn.pid"))
            .with_context(|| format!("host {} is not running", self.name))?;
        text.trim().parse().with_context(|| format!("host {} has a broken process file", self.name))
    }

    /// Locked while the host runs; see `supervise.sh`.
    fn lock_file(&self) -> Result<File> {
        let path = self.dir.join("running");
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("there is no host {}", self.name))
    }

    fn wait_off(&self, seconds: u32) -> Result<()> {
        command::run(
            Command::new("flock").args(["-w", &seconds.to_string()]).arg(self.dir.join("running")).arg("true"),
        )?;
        Ok(())
    }

    fn supervisor(&self, operation: &str) -> Result<()> {
        command::run(&mut self.script(operation, "env")?)?;
        Ok(())
    }

    fn script(&self, operation: &str, prefix: &str) -> Result<Command> {
        let script = self.dir.join("supervise.sh");
        fs::write(&script, SUPERVISOR)?;
        let manager = &self.shared.manager;
        let cgroups: Vec<String> = manager.host_dirs(&self.name).iter().map(|dir| dir.display().to_string()).collect();
        let modules = base::machine_modules(&base::kernel_release()?);
        let mut command = Command::new(prefix);
        command.arg("sh").arg(script).arg(operation);
        command
            .env("HOST", &self.name)
            .env("DIR", &self.dir)
            .env("NETNS", network::namespace(&self.name))
            .env("SWITCH", network::SWITCH)
            .env("ADDRESS", self.address())
            .env("MAC", network::mac(self.n))
            .env("GATEWAY", network::GATEWAY)
            .env("MANAGER", if *manager == Manager::Systemd { "systemd" } else { "by-hand" })
            .env("CGROUPS", self.recorded_cgroups(operation, &cgroups.join(" "))?)
            .env("MODULES", if modules { "yes" } else { "" });
        Ok(command)
    }

    /// A host may be cleaned by a process in other cgroups than the one that started it: the places are written down at start.
    fn recorded_cgroups(&self, operation: &str, now: &str) -> Result<String> {
        let record = self.dir.join("cgroups");
        if operation == "run" {
            fs::write(&record, now)?;
        }
        Ok(fs::read_to_string(&record).unwrap_or_else(|_| now.to_owned()))
    }
}

/// Runs a program of the machine in the host's network namespace: the host itself may not have it.
pub fn in_network(host: &Host, words: &[&str]) -> Result<String> {
    command::run(Command::new("ip").args(["netns", "exec", &network::namespace(&host.name)]).args(words))
}
