//! The operator's side: what it is given, and what a run of the real `kinstall` cost.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::host::{self, CTR};
use crate::network;

const LARGE: usize = 1 << 20;

pub struct Operator {
    pub kinstall: PathBuf,
    directory: PathBuf,
    bundle: PathBuf,
}

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    pub wall: Duration,
    pub cpu: Duration,
    pub peak_mib: f64,
}

/// How a new fleet's hosts are entered.
pub struct Keys {
    pub host: PathBuf,
    pub operator: PathBuf,
}

impl Keys {
    pub fn make(directory: &Path) -> Result<Self> {
        let keys = Self { host: directory.join("host"), operator: directory.join("operator") };
        for key in [&keys.host, &keys.operator] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key).status();
            ensure!(made.context("cannot run ssh-keygen")?.success(), "ssh-keygen failed");
        }
        Ok(keys)
    }
}

impl Operator {
    /// A bundle whose `kinstall-components` is `components`; of the rest one file is large enough to be passed on from host to host.
    pub fn prepare(kinstall: &Path, components: &Path, directory: &Path) -> Result<Self> {
        let runtime = directory.join("runtime");
        fs::create_dir_all(runtime.join("bin"))?;
        for (name, more) in [("containerd", LARGE), ("containerd-shim-runc-v2", 0), ("runc", 0)] {
            host::executable(&runtime.join("bin").join(name), &format!("#!/bin/sh\nexit 0\n{}", "\n".repeat(more)))?;
        }
        host::executable(&runtime.join("bin/ctr"), CTR)?;
        let pause = directory.join("pause");
        host::executable(&pause, "#!/bin/sh\n")?;
        let bundle = directory.join("bundle.tar.zst");
        let made = Command::new(kinstall)
            .args(["bundle", "create", "--out"])
            .arg(&bundle)
            .arg("--components")
            .arg(components)
            .arg("--pause")
            .arg(&pause)
            .arg("--runtime-dir")
            .arg(&runtime)
            .stdout(Stdio::null())
            .status();
        ensure!(made.context("cannot run kinstall")?.success(), "kinstall could not make the fleet's bundle");
        Ok(Self { kinstall: kinstall.to_owned(), directory: directory.to_owned(), bundle })
    }

    /// Inventory and known_hosts for so many hosts, the first of which is the control plane. All share this machine's processors, so
    /// they may take their time.
    pub fn learn(&self, hosts: usize, port: u16, keys: &Keys, limits: &str) -> Result<()> {
        let of = |file: &Path| file.display().to_string();
        let host_key = fs::read_to_string(keys.host.with_extension("pub"))?;
        let known: String =
            (0..hosts).map(|index| format!("[{}]:{port} {}\n", network::dialled(index), host_key.trim())).collect();
        let known_hosts = self.directory.join("known_hosts");
        fs::write(&known_hosts, known)?;
        let mut inventory = format!(
            "cluster: fleet\nssh: {{user: root, port: {port}, identityFile: {}, knownHostsFile: {}}}\n\
             sample: {{wordpress: {{enabled: false}}}}\nlimits: {{readyTimeout: 1s, connectTimeout: 2m{limits}}}\nhosts:\n",
            of(&keys.operator),
            of(&known_hosts)
        );
        for index in 0..hosts {
            let role = if index == 0 { "controlPlane" } else { "worker" };
            let _ = writeln!(
                inventory,
                "- {{name: {}, address: {}, nodeAddress: {}, role: {role}}}",
                host::name(index),
                network::dialled(index),
                network::inside(index)
            );
        }
        fs::write(self.inventory(), inventory)?;
        Ok(())
    }

    pub fn inventory(&self) -> PathBuf {
        self.directory.join("inventory.yaml")
    }

    /// kinstall with these arguments, as a program would call it: what it says goes to files.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kinstall);
        command
            .args(arguments)
            .arg("--inventory")
            .arg(self.inventory())
            .arg("--bundle")
            .arg(&self.bundle)
            .env("KINSTALL_CACHE", self.directory.join("cache"))
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, name: &str, arguments: &[&str]) -> Result<Cost> {
        let out = File::create(self.output(name))?;
        let err = File::create(self.directory.join(format!("{name}.err")))?;
        let started = Instant::now();
        let child = self.command(arguments).args(["--output", "json", "--yes"]).stdout(out).stderr(err).spawn()?;
        let peak = watch_memory(child.id());
        let (code, cpu) = wait(child)?;
        let wall = started.elapsed();
        let peak_mib = peak.join().unwrap_or(0.0);
        Ok(Cost { code, wall, cpu, peak_mib })
    }

    /// Where the JSON of that run is.
    pub fn output(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }
}

/// The most MiB that were resident, as far as they could be read up to the end. What wait4 says of it is the most of what started the
/// process too, which plays a thousand hosts.
fn watch_memory(pid: u32) -> std::thread::JoinHandle<f64> {
    const AGAIN: Duration = Duration::from_millis(20);
    std::thread::spawn(move || {
        let mut peak = 0.0;
        while let Some(kib) = resident_peak(pid) {
            peak = kib / 1024.0;
            std::thread::sleep(AGAIN);
        }
        peak
    })
}

/// `None` once it has ended.
fn resident_peak(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

/// wait4(2): the only way to learn what one child took. (exit code, CPU)
#[allow(unsafe_code)]
fn wait(child: Child) -> Result<(Option<i32>, Duration)> {
    let pid = i32::try_from(child.id())?;
    let mut status = 0;
    // SAFETY: both pointers are to values of this frame, of the types that wait4 writes; all zeroes is a valid `rusage`.
    let (waited, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &raw mut status, 0, &raw mut usage), usage)
    };
    ensure!(waited == pid, "cannot wait for kinstall: {}", std::io::Error::last_os_error());
    let time = |time: libc::timeval| {
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    Ok((code, time(usage.ru_utime) + time(usage.ru_stime)))
}
