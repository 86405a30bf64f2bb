//! One simulated host: namespaces of its own for mounts, processes, network and names, with scratch directories where kinstall
//! works. The shell, the file system's calls and `converge` in it are real; systemd, modprobe and the runtime's `ctr` are not.

use std::fs::{self, Metadata};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::network;

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

/// Lists the images that were imported, by the names that their archives tell: the fleet's bundle brings this as `bin/ctr`.
pub const CTR: &str = r#"#!/bin/sh
# stands in for the runtime
images=/run/images
for word; do last=$word; done
case " $* " in
  *" images import "*) echo "$(tar -xOf "$last" index.json | sed -n 's/.*"io.containerd.image.name":"\([^"]*\)".*/\1/p')" >> $images ;;
  *" images ls "*) cat $images 2>/dev/null ;;
esac
exit 0
"#;

/// Kernel parameters: not the machine's own, which hosts would change.
const PARAMETERS: [(&str, &str); 3] =
    [("net/ipv4/ip_forward", "0"), ("net/ipv4/conf/all/rp_filter", "0"), ("net/ipv4/tcp_migrate_req", "0")];

/// Run by `unshare` in the host's namespaces: `sh -c SETUP sh ROOT TOOLS SECONDS`. It is the host's first process, and the others end
/// with it. Says when it wants its network, reads what `ip` is to be told of it up to an empty line, and says when it is up.
const SETUP: &str = r#"set -e
if [ -e /proc/sys/net/ipv6 ]; then echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; fi
mount --bind "$1/proc-sys" /proc/sys
mount --bind "$2/kallsyms" /proc/kallsyms
for directory in etc opt var run; do mount --bind "$1/$directory" /$directory; done
echo made
while read -r line && [ "$line" ]; do echo "$line"; done | ip -batch -
echo up
exec sleep "$3"
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
    index: usize,
    root: PathBuf,
    shared: PathBuf,
    tools: PathBuf,
    /// `unshare`, whose child is the host's first process; both go when this does.
    _holder: Child,
    /// The host's first process.
    first: u32,
}

/// One that has no network yet.
struct Unplugged {
    host: Host,
    stdin: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
}

impl Host {
    /// Boots these hosts; they end by themselves after `seconds`.
    pub async fn boot(ground: &Ground, indices: Range<usize>, seconds: u64) -> Result<Vec<Self>> {
        let made = indices.map(|index| Unplugged::make(ground, index, seconds));
        let mut hosts = futures::future::try_join_all(made).await?;
        let first: Vec<_> = hosts.iter().map(|made| (made.host.index, made.host.first)).collect();
        tokio::task::block_in_place(|| network::join(&first))?;
        futures::future::try_join_all(hosts.iter_mut().map(Unplugged::plug)).await?;
        Ok(hosts.into_iter().map(|made| made.host).collect())
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
    /// writes into such a file: kinstall replaces files by renaming. `still`: what was written since then may be written to still.
    pub fn share(&self, still: Duration) {
        let mut places = vec![self.root.join("var/lib/kinstall-stage"), self.root.join("var/lib/kinstall/blobs")];
        let versions = fs::read_dir(self.root.join("opt/kinstall")).into_iter().flatten().flatten();
        places.extend(versions.map(|version| version.path().join("bin")));
        for file in places.iter().filter_map(|place| fs::read_dir(place).ok()).flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let is_whole = !name.starts_with("tmp.") && !name.starts_with('.') && !name.ends_with(".part");
            let is_large = |meta: &Metadata| meta.is_file() && meta.len() > 1 << 16;
            let is_still = |meta: &Metadata| meta.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= still));
            if is_whole && file.metadata().is_ok_and(|meta| is_large(&meta) && is_still(&meta)) {
                // what cannot be shared stays as it is: it only takes room
                let _ = share(&self.shared, &file.path());
            }
        }
    }
}

impl Unplugged {
    async fn make(ground: &Ground, index: usize, seconds: u64) -> Result<Self> {
        let root = ground.hosts.join(name(index));
        furnish(&root, index)?;
        let mut holder = Command::new("unshare")
            .args(["--mount", "--pid", "--net", "--uts", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", SETUP, "sh"])
            .args([&root, &ground.tools])
            .arg(seconds.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run unshare; the fleet needs root and Debian's util-linux")?;
        let stdin = holder.stdin.take().context("no stdin")?;
        let mut says = BufReader::new(holder.stdout.take().context("no stdout")?).lines();
        hear(&mut says, "made", index).await?;
        let pid = holder.id().context("unshare has ended")?;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let first = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        let first = first.with_context(|| format!("the simulated host {} has no process", name(index)))?;
        let host =
            Host { index, root, shared: ground.shared.clone(), tools: ground.tools.clone(), _holder: holder, first };
        Ok(Self { host, stdin, says })
    }

    /// Its cable is there.
    async fn plug(&mut self) -> Result<()> {
        self.stdin.write_all(format!("{}\n", network::plug(self.host.index)).as_bytes()).await?;
        hear(&mut self.says, "up", self.host.index).await
    }
}

async fn hear(says: &mut Lines<BufReader<ChildStdout>>, word: &str, index: usize) -> Result<()> {
    let line = says.next_line().await?;
    ensure!(line.as_deref() == Some(word), "the simulated host {} does not come up", name(index));
    Ok(())
}

fn share(shared: &Path, file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(file)?;
    // a link has the other's mode too
    let one = shared.join(format!("{}-{:o}", meta.len(), meta.permissions().mode()));
    match fs::metadata(&one) {
        Ok(there) if there.ino() == meta.ino() => return Ok(()),
        Ok(_) if same(&one, file)? => {}
        Ok(_) => return Ok(()),
        Err(_) => return fs::hard_link(file, &one),
    }
    let link = file.with_extension("shared");
    fs::hard_link(&one, &link)?;
    fs::rename(&link, file)
}

fn same(one: &Path, other: &Path) -> std::io::Result<bool> {
    use std::io::{BufRead as _, BufReader};
    let open = |path| fs::File::open(path).map(BufReader::new);
    let (mut one, mut other) = (open(one)?, open(other)?);
    loop {
        let (ours, theirs) = (one.fill_buf()?, other.fill_buf()?);
        let length = ours.len().min(theirs.len());
        if length == 0 || ours[..length] != theirs[..length] {
            return Ok(ours.is_empty() && theirs.is_empty());
        }
        one.consume(length);
        other.consume(length);
    }
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
    fn the_same_large_file_is_there_once_and_another_of_its_size_or_mode_stays() {
        use std::os::unix::fs::MetadataExt as _;
        let directory = tempfile::tempdir().unwrap();
        let (shared, path) = (directory.path().join("shared"), |name: &str| directory.path().join(name));
        fs::create_dir(&shared).unwrap();
        for (name, content, mode) in
            [("a", "same", 0o755), ("b", "same", 0o755), ("c", "else", 0o755), ("d", "same", 0o600)]
        {
            fs::write(path(name), content).unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
            share(&shared, &path(name)).unwrap();
        }
        let inode = |name: &str| fs::metadata(path(name)).unwrap().ino();
        assert_eq!(inode("a"), inode("b"));
        assert_ne!(inode("a"), inode("c"));
        assert_ne!(inode("a"), inode("d"));
        assert_eq!(fs::read_to_string(path("c")).unwrap(), "else");
    }
}
