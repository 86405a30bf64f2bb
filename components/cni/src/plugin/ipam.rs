//! Which pod has which address: one file for each address under `<dataDir>/<network>/`, under a file lock.
//!
//! A restart of the machine ends every network namespace, so reservations of an earlier boot are void; while the machine
//! runs, one whose namespace is gone is taken back when the pool has nothing else left.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ipnet::Ipv4Net;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::conf::{Attachment, Call, NetConf, PortMapping};

const LAST: &str = "last";
const BOOT: &str = "boot";

/// What is remembered of an attachment: enough to undo it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    pub ip: Ipv4Addr,
    #[serde(flatten)]
    pub attachment: Attachment,
    pub netns: PathBuf,
    #[serde(default)]
    pub port_mappings: Vec<PortMapping>,
}

/// The node's addresses, locked while this lives.
pub struct Pool {
    dir: PathBuf,
    cidr: Ipv4Net,
    _lock: Flock<File>,
}

impl Pool {
    pub fn open(conf: &NetConf) -> anyhow::Result<Self> {
        let dir = conf.data_dir.join(&conf.name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let file = File::create(dir.join("lock")).with_context(|| format!("cannot lock {}", dir.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("cannot lock {}", dir.display()))?;
        let pool = Self { dir, cidr: conf.pod_cidr.trunc(), _lock: lock };
        pool.forget_earlier_boots()?;
        Ok(pool)
    }

    fn forget_earlier_boots(&self) -> anyhow::Result<()> {
        let now = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("cannot read the boot id")?;
        let path = self.dir.join(BOOT);
        if fs::read_to_string(&path).is_ok_and(|before| before == now) {
            return Ok(());
        }
        for reservation in self.all()? {
            self.release(&reservation)?;
        }
        write(&path, &now)
    }

    /// Reserves an address. Addresses just released come last, so that nobody meets a stranger under an old address.
    /// `detach` takes back what the kernel has of a pod that left an address behind.
    pub fn reserve(
        &self,
        call: &Call,
        port_mappings: &[PortMapping],
        detach: impl Fn(&Reservation) -> anyhow::Result<()>,
    ) -> anyhow::Result<Reservation> {
        let taken = self.all()?;
        if let Some(same) = taken.iter().find(|r| r.attachment == call.attachment) {
            bail!("container {} already has {} on {}", call.attachment.container_id, same.ip, call.attachment.ifname);
        }
        let ip = match self.free(&taken) {
            Some(ip) => ip,
            None => self.reclaim(&taken, detach)?,
        };
        let reservation = Reservation {
            ip,
            attachment: call.attachment.clone(),
            netns: call.netns.clone(),
            port_mappings: port_mappings.to_vec(),
        };
        write(&self.path(ip), &serde_json::to_string(&reservation)?)?;
        write(&self.dir.join(LAST), &ip.to_string())?;
        Ok(reservation)
    }

    fn free(&self, taken: &[Reservation]) -> Option<Ipv4Addr> {
        let last: Option<Ipv4Addr> = fs::read_to_string(self.dir.join(LAST)).ok().and_then(|text| text.parse().ok());
        let after = |ip: &Ipv4Addr| last.is_none_or(|last| *ip > last);
        // The first address belongs to the node's tunnel device, the last is the broadcast address: hosts() omits both.
        let hosts = || self.cidr.hosts().filter(|ip| *ip != self.cidr.network());
        hosts().filter(after).chain(hosts()).find(|ip| !taken.iter().any(|r| r.ip == *ip))
    }

    /// Takes back what pods left that ended without a word. Their host ports would lead to the address' next pod.
    fn reclaim(
        &self,
        taken: &[Reservation],
        detach: impl Fn(&Reservation) -> anyhow::Result<()>,
    ) -> anyhow::Result<Ipv4Addr> {
        let mut freed = None;
        for leaked in taken.iter().filter(|r| !r.netns.exists()) {
            detach(leaked).with_context(|| format!("cannot take back {}", leaked.ip))?;
            self.release(leaked)?;
            freed = Some(leaked.ip);
        }
        freed.with_context(|| {
            format!(
                "no free address in {} (all {} are in use); raise the node's pod CIDR or lower its pods",
                self.cidr,
                taken.len()
            )
        })
    }

    pub fn find(&self, attachment: &Attachment) -> anyhow::Result<Option<Reservation>> {
        Ok(self.all()?.into_iter().find(|r| r.attachment == *attachment))
    }

    pub fn release(&self, reservation: &Reservation) -> anyhow::Result<()> {
        match fs::remove_file(self.path(reservation.ip)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot release {}", reservation.ip))
            }
            _ => Ok(()),
        }
    }

    /// Every reservation; a file that cannot be read (cut off by a crash) counts as none and is removed.
    pub fn all(&self) -> anyhow::Result<Vec<Reservation>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir).with_context(|| format!("cannot list {}", self.dir.display()))? {
            let path = entry?.path();
            let is_address = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.parse::<Ipv4Addr>().is_ok());
            if !is_address {
                continue;
            }
            match read(&path) {
                Ok(reservation) => all.push(reservation),
                Err(_) => drop(fs::remove_file(&path)),
            }
        }
        Ok(all)
    }

    fn path(&self, ip: Ipv4Addr) -> PathBuf {
        self.dir.join(ip.to_string())
    }
}

fn read(path: &Path) -> anyhow::Result<Reservation> {
    Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
}

/// The reservations of all networks, as far as they can be read; takes no lock and changes nothing.
pub fn peek(data_dir: &Path) -> Vec<Reservation> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = entries(data_dir).flat_map(|network| entries(&network));
    files.filter_map(|file| read(&file).ok()).collect()
}

/// Writes a file so that a reader sees all of it or nothing.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn conf(dir: &Path) -> NetConf {
        serde_json::from_value(serde_json::json!({"cniVersion": "1.0.0", "name": "kinstall", "podCIDR": "10.244.1.0/29", "mtu": 1450, "dataDir": dir})).unwrap()
    }

    fn call(id: &str, netns: &str) -> Call {
        Call { attachment: Attachment { container_id: id.into(), ifname: "eth0".into() }, netns: netns.into() }
    }

    #[test]
    fn addresses_go_round_and_are_reclaimed() {
        let dir = tempfile::tempdir().unwrap();
        let pool = Pool::open(&conf(dir.path())).unwrap();
        let detached = std::cell::RefCell::new(Vec::new());
        let detach = |leaked: &Reservation| {
            detached.borrow_mut().push((leaked.attachment.container_id.clone(), leaked.port_mappings.len()));
            Ok(())
        };
        let port: PortMapping =
            serde_json::from_value(serde_json::json!({"hostPort": 80, "containerPort": 80})).unwrap();
        let take = |id: &str, netns: &str| {
            pool.reserve(&call(id, netns), std::slice::from_ref(&port), detach).map(|r| r.ip.octets()[3])
        };
        assert_eq!(take("a", "/proc").unwrap(), 1);
        assert!(take("a", "/proc").is_err(), "the same attachment twice");
        assert_eq!(take("b", "/proc").unwrap(), 2);
        pool.release(&pool.find(&call("a", "").attachment).unwrap().unwrap()).unwrap();
        assert_eq!(take("c", "/proc").unwrap(), 3, "not the address just released");
        for (id, ip) in [("d", 4), ("e", 5), ("f", 6), ("g", 1)] {
            assert_eq!(take(id, if id == "e" { "/absent" } else { "/proc" }).unwrap(), ip);
        }
        assert_eq!(take("h", "/proc").unwrap(), 5, "from the pod whose namespace is gone");
        assert_eq!(*detached.borrow(), [("e".to_string(), 1)], "with its host port");
        assert!(take("i", "/proc").unwrap_err().to_string().starts_with("no free address in 10.244.1.0/29"));
    }

    #[test]
    fn a_reboot_voids_reservations() {
        let dir = tempfile::tempdir().unwrap();
        Pool::open(&conf(dir.path())).unwrap().reserve(&call("a", "/proc"), &[], |_| Ok(())).unwrap();
        assert_eq!(Pool::open(&conf(dir.path())).unwrap().all().unwrap().len(), 1);
        fs::write(dir.path().join("kinstall/boot"), "another").unwrap();
        assert_eq!(Pool::open(&conf(dir.path())).unwrap().all().unwrap().len(), 0);
    }
}
