//! One simulated host: namespaces of its own for mounts, processes, network and names, with scratch directories where kinstall
//! works. The shell, the file system's calls and `converge` in it are real; systemd, modprobe and the runtime's `ctr` are not.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Below 127.77.0.0/16: every address of it is this machine without any set-up.
pub fn address(index: usize) -> Ipv4Addr {
    let [.., high, low] = u32::try_from(index + 1).unwrap_or(0).to_be_bytes();
    Ipv4Addr::new(127, 77, high, low)
}

/// The reverse of [`address`].
pub fn index(address: Ipv4Addr) -> Option<usize> {
    let [127, 77, high, low] = address.octets() else { return None };
    usize::from(u16::from_be_bytes([high, low])).checked_sub(1)
}

pub fn name(index: usize) -> String {
    format!("h{:04}", index + 1)
}

/// What all hosts of a fleet share.
pub struct Ground {
    /// Stand-ins for systemd and modprobe.
    tools: PathBuf,
    /// Each host's directory lies in it.
    hosts: PathBuf,
    /// One copy of what is on every host; see [`Host::share`].
    shared: PathBuf,
}

const SYSTEMCTL: &str = r#"#!/bin/sh
# stands in for systemd: remembers what was enabled and started, and runs nothing
units=/run/units
verb= names= value= properties=
while [ $# -gt 0 ]; do
  case $1 in
    --version) echo "systemd 252 (stand-in)"; exit 0 ;;
    -p) properties=$2; shift ;;
    --value) value=yes ;;
    -*) ;;
    *) if [ -z "$verb" ]; then verb=$1; else names="$names $1"; fi ;;
  esac
  shift
done
for name in $names; do
  case $verb in
    enable) : > $units/$name.enabled ;;
    disable) rm -f $units/$name.enabled ;;
    start|restart) : > $units/$name.active ;;
    stop) rm -f $units/$name.active ;;
    cat) [ -e /etc/systemd/system/$name ] || exit 1 ;;
    show)
      active=inactive enabled=disabled
      [ -e $units/$name.active ] && active=active
      [ -e $units/$name.enabled ] && enabled=enabled
      if [ -n "$value" ]; then echo $active; else
        echo "Id=$name"; echo "ActiveState=$active"; echo "UnitFileState=$enabled"; echo "LoadState=loaded"; echo
      fi ;;
  esac
done
exit 0
"#;

/// Images are listed as soon as they were imported: the fleet's bundle brings this as `bin/ctr`.
pub const CTR: &str = r#"#!/bin/sh
# stands in for the runtime
for word; do case $word in name==*) echo "${word#name==}" ;; esac; done
exit 0
"#;

/// Kernel parameters: not the machine's own, which hosts would change.
const PARAMETERS: [(&str, &str); 3] =
    [("net/ipv4/ip_forward", "0"), ("net/ipv4/conf/all/rp_filter", "0"), ("net/ipv4/tcp_migrate_req", "0")];

/// Run by `unshare` in the host's namespaces: `sh -c SETUP sh ROOT TOOLS ADDRESS SECONDS`. It is the host's first process, and the
/// others end with it.
const SETUP: &str = r#"set -e
ip link set lo up
ip address add "$3/32" dev lo
mount --bind "$1/proc-sys" /proc/sys
mount --bind "$2/kallsyms" /proc/kallsyms
for directory in etc opt var run; do mount --bind "$1/$directory" /$directory; done
echo up
exec sleep "$4"
"#;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Ground {
    pub fn prepare(scratch: &Path) -> Result<Self> {
        let ground =
            Self { tools: scratch.join("tools"), hosts: scratch.join("hosts"), shared: scratch.join("shared") };
        for directory in [&ground.tools, &ground.hosts, &ground.shared] {
            fs::create_dir_all(directory)?;
        }
        for (name, script) in [("systemctl", SYSTEMCTL), ("modprobe", "#!/bin/sh\nexit 0\n")] {
            executable(&ground.tools.join(name), script)?;
        }
        let symbols: String =
            converge::KERNEL_FEATURES.iter().map(|(_, symbol)| format!("0000000000000000 T {symbol}\n")).collect();
        fs::write(ground.tools.join("kallsyms"), symbols)?;
        Ok(ground)
    }
}

pub fn executable(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

pub struct Host {
    root: PathBuf,
    shared: PathBuf,
    tools: PathBuf,
    /// `unshare`, whose child is the host's first process; both go when this does.
    _holder: Child,
    /// The host's first process.
    first: u32,
}

impl Host {
    /// Boots the host; it ends by itself after `seconds`.
    pub async fn boot(ground: &Ground, index: usize, seconds: u64) -> Result<Self> {
        let root = ground.hosts.join(name(index));
        furnish(&root, index)?;
        let mut holder = Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--net",
                "--uts",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                SETUP,
                "sh",
            ])
            .args([&root, &ground.tools])
            .args([address(index).to_string(), seconds.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run unshare; the fleet needs root and Debian's util-linux")?;
        let said = holder.stdout.take().context("no stdout")?;
        let line = BufReader::new(said).lines().next_line().await?;
        ensure!(line.as_deref() == Some("up"), "the simulated host {} does not come up", name(index));
        let pid = holder.id().context("unshare has ended")?;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let first = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        let first = first.with_context(|| format!("the simulated host {} has no process", name(index)))?;
        Ok(Self { root, shared: ground.shared.clone(), tools: ground.tools.clone(), _holder: holder, first })
    }

    /// A command as sshd would start it: by root's shell, with an environment of its own.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.first))
            .args(["--mount", "--pid", "--net", "--uts", "--wd=/", "--", "/bin/sh", "-c", line])
            .env_clear()
            .env("PATH", format!("{}:{PATH}", self.tools.display()))
            .envs([("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root"), ("SHELL", "/bin/sh")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// A thousand hosts have the same large files; here they become links to one copy, so that they fit on this machine. Nobody
    /// writes into such a file: kinstall replaces files by renaming.
    pub fn share(&self) {
        let mut places = vec![self.root.join("var/lib/kinstall-stage")];
        let versions = fs::read_dir(self.root.join("opt/kinstall")).into_iter().flatten().flatten();
        places.extend(versions.map(|version| version.path().join("bin")));
        for file in places.iter().filter_map(|place| fs::read_dir(place).ok()).flatten().flatten() {
            let is_large = file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > 1 << 16);
            if is_large && !file.file_name().to_string_lossy().starts_with("tmp.") {
                // what cannot be shared stays as it is: it only takes room
                let _ = share(&self.shared, &file.path());
            }
        }
    }
}

fn share(shared: &Path, file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(file)?;
    let one = shared.join(meta.len().to_string());
    match fs::metadata(&one) {
        Ok(there) if there.ino() == meta.ino() => return Ok(()),
        Ok(_) if fs::read(&one)? == fs::read(file)? => {}
        Ok(_) => return Ok(()),
        Err(_) => return fs::hard_link(file, &one),
    }
    let link = file.with_extension("shared");
    fs::hard_link(&one, &link)?;
    fs::rename(&link, file)
}

/// What a host has before kinstall comes.
fn furnish(root: &Path, index: usize) -> Result<()> {
    for directory in [
        "etc/systemd/system",
        "etc/sysctl.d",
        "etc/modules-load.d",
        "opt",
        "var/lib",
        "var/log",
        "var/tmp",
        "run/systemd/system",
        "run/units",
        "proc-sys/kernel",
    ] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::write(root.join("etc/machine-id"), format!("{:032x}\n", index + 1))?;
    fs::copy("/usr/lib/os-release", root.join("etc/os-release")).context("this machine has no /usr/lib/os-release")?;
    fs::write(root.join("etc/resolv.conf"), "nameserver 192.0.2.1\n")?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    for (path, value) in
        [("kernel/hostname", name(index).as_str()), ("kernel/osrelease", &release)].into_iter().chain(PARAMETERS)
    {
        let path = root.join("proc-sys").join(path);
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        fs::write(path, format!("{}\n", value.trim()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_host_has_an_address_of_its_own_and_is_found_by_it() {
        for at in [0, 1, 254, 255, 256, 999] {
            assert_eq!(index(address(at)), Some(at));
        }
        assert_eq!((address(0), address(999)), (Ipv4Addr::new(127, 77, 0, 1), Ipv4Addr::new(127, 77, 3, 232)));
        assert_eq!((index(Ipv4Addr::LOCALHOST), index(Ipv4Addr::new(127, 77, 0, 0))), (None, None));
    }

    #[test]
    fn the_same_large_file_is_there_once_and_another_of_its_size_stays() {
        use std::os::unix::fs::MetadataExt as _;
        let directory = tempfile::tempdir().unwrap();
        let (shared, path) = (directory.path().join("shared"), |name: &str| directory.path().join(name));
        fs::create_dir(&shared).unwrap();
        for (name, content) in [("a", "same"), ("b", "same"), ("c", "else")] {
            fs::write(path(name), content).unwrap();
            share(&shared, &path(name)).unwrap();
        }
        let inode = |name: &str| fs::metadata(path(name)).unwrap().ino();
        assert_eq!(inode("a"), inode("b"));
        assert_ne!(inode("a"), inode("c"));
        assert_eq!(fs::read_to_string(path("c")).unwrap(), "else");
    }
}
