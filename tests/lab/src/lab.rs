//! A set of hosts. There is one lab on a machine at a time, because addresses and names are fixed.

use crate::cgroup::Manager;
use crate::host::{Host, Shared};
use crate::release::Release;
use crate::size::Size;
use crate::trust::Trust;
use crate::{network, paths};
use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Locked by whoever owns the lab; its content outlives a crashed owner.
const RECORD: &str = "/run/kinstall-lab";
const MAX_HOSTS: u32 = 200;
/// Shared by all hosts, and 128 by default: too few for three systemds with container runtimes.
const INOTIFY: &str = "/proc/sys/fs/inotify/max_user_instances";

#[derive(Debug, Clone)]
pub struct Options {
    pub hosts: u32,
    /// Of the first host, of the second, …; the last one is that of all further hosts.
    pub releases: Vec<Release>,
    /// Size of each disk; 8 GiB when not given.
    pub disk: Option<Size>,
    /// How long to wait for another lab to end.
    pub wait: Duration,
    /// The hosts stay when the `Lab` is dropped (the command line's way; `KINSTALL_LAB_KEEP=1` forces it for tests).
    pub keep: bool,
}

impl Options {
    pub fn new(hosts: u32) -> Self {
        let keep = std::env::var_os("KINSTALL_LAB_KEEP").is_some_and(|value| value == "1");
        Options { hosts, releases: Vec::new(), disk: None, wait: Duration::ZERO, keep }
    }

    /// Of host `h<n>`.
    fn release(&self, n: u32) -> Release {
        let own = self.releases.get(n.saturating_sub(1) as usize);
        own.or(self.releases.last()).copied().unwrap_or_default()
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    state: PathBuf,
    pid: u32,
    keep: bool,
}

pub struct Lab {
    shared: Arc<Shared>,
    hosts: Vec<Host>,
    /// Held by the owner only.
    lock: Option<File>,
    keep: bool,
}

impl Lab {
    /// Boots `hosts` fresh hosts and waits until all answer SSH; they go with the returned value.
    pub fn up(hosts: u32) -> Result<Lab> {
        Lab::up_with(&Options::new(hosts))
    }

    /// The same with one host of each of these releases, in this order.
    pub fn up_of(releases: &[Release]) -> Result<Lab> {
        let hosts = u32::try_from(releases.len())?;
        Lab::up_with(&Options { releases: releases.to_owned(), ..Options::new(hosts) })
    }

    pub fn up_with(options: &Options) -> Result<Lab> {
        if options.hosts == 0 || options.hosts > MAX_HOSTS {
            bail!("a lab has 1 to {MAX_HOSTS} hosts, not {}", options.hosts);
        }
        if options.releases.len() > options.hosts as usize {
            bail!("there are {} releases for {} hosts", options.releases.len(), options.hosts);
        }
        need_root()?;
        let lock = own(options.wait)?;
        if let Some(old) = read_record()? {
            if old.keep && old.state.exists() {
                bail!("a lab is running from {}; end it with `lab down`", old.state.display());
            }
            Lab::at(old.state)?.clear()?;
        }
        let state = paths::state_dir();
        fs::create_dir_all(&state).with_context(|| format!("cannot make the lab's folder {}", state.display()))?;
        fs::write(
            RECORD,
            serde_json::to_vec(&Record { state: state.clone(), pid: std::process::id(), keep: options.keep })?,
        )?;
        let mut lab = Lab::at(state)?;
        lab.lock = Some(lock);
        lab.keep = options.keep;
        if let Err(error) = lab.boot(options) {
            // nothing half-made stays, whatever `keep` says
            return Err(match lab.clear() {
                Ok(()) => error,
                Err(second) => error.context(format!("and the lab cannot be cleared: {second:#}")),
            });
        }
        Ok(lab)
    }

    /// The lab that is running, started by somebody else. Dropping the value changes nothing.
    pub fn attach() -> Result<Lab> {
        need_root()?;
        let record = read_record()?.context("no lab is running; start one with `lab up`")?;
        Lab::at(record.state)
    }

    /// Ends the lab, also what a crashed run left. Fine when there is none.
    pub fn down_any() -> Result<()> {
        need_root()?;
        let _lock = own(Duration::ZERO)?;
        let state = read_record()?.map_or_else(paths::state_dir, |record| record.state);
        Lab::at(state)?.clear()
    }

    fn at(state: PathBuf) -> Result<Lab> {
        let shared = Arc::new(Shared {
            manager: Manager::detect()?,
            trust: Trust::new(&state),
            clocks: Mutex::default(),
            state,
        });
        let hosts = existing_hosts(&shared);
        Ok(Lab { shared, hosts, lock: None, keep: true })
    }

    fn boot(&mut self, options: &Options) -> Result<()> {
        raise_inotify(&self.shared.state)?;
        network::up()?;
        self.shared.trust.ensure_key()?;
        let new: Vec<Host> = (1..=options.hosts).map(|n| Host::new(n, self.shared.clone())).collect();
        self.hosts = new.clone();
        self.write_ssh_config()?;
        each(&new, |host| {
            host.create(options.release(host.number()), options.disk)?;
            host.start()
        })
    }

    /// One more fresh host.
    pub fn add(&mut self, release: Release, disk: Option<Size>) -> Result<Host> {
        let n =
            (1..=MAX_HOSTS).find(|n| self.hosts.iter().all(|host| host.number() != *n)).context("the lab is full")?;
        let host = Host::new(n, self.shared.clone());
        self.hosts.push(host.clone());
        self.write_ssh_config()?;
        host.create(release, disk)?;
        host.start()?;
        Ok(host)
    }

    /// The hosts, in order.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Host `h<n>`, counted from 1. Panics when the lab has no such host.
    pub fn host(&self, n: u32) -> &Host {
        match self.hosts.iter().find(|host| host.number() == n) {
            Some(host) => host,
            None => panic!("the lab has no host h{n}"),
        }
    }

    pub fn find(&self, name: &str) -> Result<&Host> {
        let names = || self.hosts.iter().map(Host::name).collect::<Vec<_>>().join(", ");
        self.hosts
            .iter()
            .find(|host| host.name() == name)
            .ok_or_else(|| anyhow!("there is no host {name:?}; there are: {}", names()))
    }

    pub fn state_dir(&self) -> &Path {
        &self.shared.state
    }
    pub fn key(&self) -> PathBuf {
        self.shared.trust.key()
    }
    pub fn known_hosts(&self) -> PathBuf {
        self.shared.trust.known_hosts()
    }
    /// For `ssh -F`: knows the hosts by name.
    pub fn ssh_config(&self) -> PathBuf {
        self.shared.trust.ssh_config()
    }

    /// The hosts for an inventory: name and address.
    pub fn inventory_hosts(&self) -> Vec<(String, String)> {
        self.hosts.iter().map(|host| (host.name().to_owned(), host.address())).collect()
    }

    /// Removes every process, mount, namespace, cgroup and file of the lab.
    pub fn down(mut self) -> Result<()> {
        self.keep = true; // nothing left for drop
        self.clear()
    }

    /// Leaves the hosts running when this value is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    fn clear(&self) -> Result<()> {
        each(&self.hosts, Host::destroy)?;
        network::down()?;
        restore_inotify(&self.shared.state);
        crate::recipe::remove(&self.shared.state)?;
        fs::write(RECORD, "")?;
        Ok(())
    }

    fn write_ssh_config(&self) -> Result<()> {
        self.shared.trust.write_ssh_config(&self.inventory_hosts())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.lock.is_some()
            && !self.keep
            && let Err(error) = self.clear()
        {
            eprintln!("lab: cannot end the lab, run `lab down`: {error:#}");
        }
    }
}

/// The same work on every host at once; all errors are reported.
fn each(hosts: &[Host], work: impl Fn(&Host) -> Result<()> + Sync) -> Result<()> {
    let errors: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = hosts.iter().map(|host| (host, scope.spawn(|| work(host)))).collect();
        running
            .into_iter()
            .filter_map(|(host, thread)| match thread.join() {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{}: {error:#}", host.name())),
                Err(_) => Some(format!("{}: panicked", host.name())),
            })
            .collect()
    });
    if errors.is_empty() { Ok(()) } else { Err(anyhow!(errors.join("\n"))) }
}

fn existing_hosts(shared: &Arc<Shared>) -> Vec<Host> {
    (1..=MAX_HOSTS)
        .filter(|n| shared.state.join(format!("h{n}")).exists())
        .map(|n| Host::new(n, shared.clone()))
        .filter(|host| host.exists())
        .collect()
}

fn need_root() -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    if fs::metadata("/proc/self")?.uid() != 0 {
        bail!("the lab needs root: it mounts disks and makes network namespaces");
    }
    Ok(())
}

/// The machine-wide lock, held until the returned file is closed.
fn own(wait: Duration) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(RECORD)
        .with_context(|| format!("cannot open {RECORD}"))?;
    let deadline = Instant::now() + wait;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(error)) => return Err(error).with_context(|| format!("cannot lock {RECORD}")),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(100))
            }
            Err(fs::TryLockError::WouldBlock) => {
                let record = read_record()?.unwrap_or_default();
                bail!(
                    "another lab is in use by process {} ({}); there can be one at a time",
                    record.pid,
                    record.state.display()
                );
            }
        }
    }
}

fn read_record() -> Result<Option<Record>> {
    let text = fs::read_to_string(RECORD).unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(&text).map(Some).with_context(|| format!("{RECORD} is broken; remove it after `lab down`"))
}

fn raise_inotify(state: &Path) -> Result<()> {
    let old = fs::read_to_string(INOTIFY)?;
    let wanted = 8192;
    if old.trim().parse::<u64>().unwrap_or(0) < wanted {
        fs::write(state.join("inotify"), &old)?;
        fs::write(INOTIFY, wanted.to_string()).with_context(|| format!("cannot raise {INOTIFY}"))?;
    }
    Ok(())
}

fn restore_inotify(state: &Path) {
    if let Ok(old) = fs::read_to_string(state.join("inotify")) {
        let _ = fs::write(INOTIFY, old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_release_is_that_of_all_further_hosts() {
        use Release::{Bookworm, Trixie};
        let of = |releases: &[Release]| {
            let options = Options { releases: releases.to_owned(), ..Options::new(3) };
            [1, 2, 3].map(|n| options.release(n))
        };
        assert_eq!(of(&[]), [Bookworm; 3]);
        assert_eq!(of(&[Trixie]), [Trixie; 3]);
        assert_eq!(of(&[Bookworm, Trixie]), [Bookworm, Trixie, Trixie]);
        assert_eq!(of(&[Trixie, Bookworm, Trixie]), [Trixie, Bookworm, Trixie]);
        let few = Options { releases: vec![Bookworm, Trixie], ..Options::new(1) };
        let refused = Lab::up_with(&few).err().map(|error| error.to_string());
        assert_eq!(refused.as_deref(), Some("there are 2 releases for 1 hosts"));
    }
}
