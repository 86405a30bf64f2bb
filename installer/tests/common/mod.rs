//! A real OpenSSH server on the loopback, with its own keys and configuration.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kinstall::cluster::{Cluster, Host};
use kinstall::ssh::{SshClient, SshError};

const SSHD: &str = "/usr/sbin/sshd";
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// Key pairs: name, type, passphrase.
const KEYS: [(&str, &str, &str); 9] = [
    ("host_ed25519", "ed25519", ""),
    ("host_ecdsa", "ecdsa", ""),
    ("host_rsa", "rsa", ""),
    ("ed25519", "ed25519", ""),
    ("ecdsa", "ecdsa", ""),
    ("rsa", "rsa", ""),
    ("encrypted", "ed25519", "a passphrase"),
    ("encrypted_rsa", "rsa", "a passphrase"),
    ("stranger", "ed25519", ""),
];

/// A server with its own keys and configuration in a temporary directory; ends with the test.
pub struct Server {
    pub directory: tempfile::TempDir,
    pub address: IpAddr,
    pub port: u16,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn keygen(path: &Path, kind: &str, passphrase: &str) {
    run(Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", passphrase, "-f"]).arg(path));
}

/// Makes the keys once for all tests: those of RSA take their time.
fn keys() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ssh-keys-1");
    std::fs::create_dir_all(&directory).unwrap();
    let lock = std::fs::File::create(directory.join("lock")).unwrap();
    lock.lock().unwrap();
    for (name, kind, passphrase) in KEYS {
        let path = directory.join(name);
        if !path.with_extension("done").exists() {
            let _ = std::fs::remove_file(&path);
            keygen(&path, kind, passphrase);
            std::fs::write(path.with_extension("done"), "").unwrap();
        }
    }
    directory
}

/// Who runs the tests.
pub fn me() -> String {
    run(Command::new("id").arg("-un")).trim().to_owned()
}

impl Server {
    pub fn start() -> Self {
        Self::with("")
    }

    /// `config`: lines of sshd_config that go before the others, with `@D@` for the server's directory.
    pub fn with(config: &str) -> Self {
        Self::prepared(IpAddr::from([127, 0, 0, 1]), config, |_| Command::new(SSHD))
    }

    /// `prepare`: gets the server's directory before the server starts, and says how it is started.
    pub fn prepared(address: IpAddr, config: &str, prepare: impl FnOnce(&Path) -> Command) -> Self {
        assert!(Path::new(SSHD).exists(), "{SSHD} is missing: apt-get install openssh-server (`make deps` does)");
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        let path = |name: &str| root.join(name);
        let mode = |path: PathBuf, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        // the server reads authorized keys as who logs in
        mode(directory.path().into(), 0o755);
        let keys = keys();
        let mut authorized = String::new();
        for (name, ..) in KEYS {
            for name in [name.to_owned(), format!("{name}.pub")] {
                std::fs::copy(keys.join(&name), path(&name)).unwrap();
            }
            if !(name.starts_with("host") || name == "stranger") {
                authorized += &std::fs::read_to_string(path(&format!("{name}.pub"))).unwrap();
            }
        }
        std::fs::write(path("authorized"), authorized).unwrap();
        mode(path("authorized"), 0o644);
        // its privilege separation wants this directory, which a package's service makes at boot
        std::fs::create_dir_all("/run/sshd").unwrap();
        let mut command = prepare(directory.path());
        command.args(["-D", "-e", "-f"]).arg(path("config")).stdin(Stdio::null());
        let d = directory.path().display().to_string();
        let config = config.replace("@D@", &d);
        // on a port that is free when it is asked for; the server ends where somebody takes it before
        let mut start = || {
            let port = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port();
            let config = format!(
                "{config}\nPort {port}\nListenAddress {address}\nHostKey {d}/host_ed25519\nHostKey {d}/host_ecdsa\n\
                 HostKey {d}/host_rsa\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n\
                 PasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 AuthorizedKeysFile {d}/authorized\nMaxAuthTries 3\n"
            );
            std::fs::write(path("config"), config).unwrap();
            let log = std::fs::File::create(path("log")).unwrap();
            (port, command.stderr(log).spawn().unwrap())
        };
        let (port, child) = start();
        let mut server = Self { directory, address, port, child };
        let started = Instant::now();
        // by its own words: whoever took the port would be connected to as well
        while !server.log().contains("Server listening on") {
            assert!(started.elapsed() < TIMEOUT, "sshd does not listen: {}", server.log());
            if server.child.try_wait().unwrap().is_some() {
                assert!(server.log().contains("Address already in use"), "sshd ends: {}", server.log());
                (server.port, server.child) = start();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Ends those of its processes that serve connections.
    pub fn cut_connections(&self) {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // after the name in brackets: state, parent
            let parent =
                stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
            if parent == Some(self.child.id()) {
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
            }
        }
    }

    /// What the server wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// How known_hosts calls it.
    pub fn name(&self) -> String {
        format!("[{}]:{}", self.address, self.port)
    }

    pub fn know(&self, host_key: &str) {
        std::fs::write(self.path("known_hosts"), self.known_line(host_key)).unwrap();
    }

    pub fn known_line(&self, host_key: &str) -> String {
        format!("{} {}", self.name(), std::fs::read_to_string(self.path(&format!("{host_key}.pub"))).unwrap())
    }

    pub fn host(&self, key: &str, extra: &str) -> Host {
        let text = self.inventory(key, extra);
        Cluster::parse(&text, "i", self.directory.path()).unwrap().hosts.remove(0)
    }

    /// An inventory with this server as its only host.
    pub fn inventory(&self, key: &str, extra: &str) -> String {
        let d = self.directory.path().display();
        format!(
            "cluster: t\nssh: {{user: {}, port: {}, identityFile: {d}/{key}, knownHostsFile: {d}/known_hosts, configFile: none{extra}}}\n\
             hosts: [{{name: h1, address: '{}', nodeAddress: 127.0.0.1, role: controlPlane}}]\n",
            me(),
            self.port,
            self.address,
        )
    }

    /// A host with exactly these fields of `ssh`; relative paths start at this server's directory.
    pub fn host_with(&self, address: &str, ssh: &str) -> Host {
        let text = format!(
            "cluster: t\nssh: {{{ssh}}}\nhosts: [{{name: h1, address: '{address}', nodeAddress: 127.0.0.1, role: controlPlane}}]\n"
        );
        Cluster::parse(&text, "i", self.directory.path()).unwrap().hosts.remove(0)
    }

    pub async fn connect(&self, key: &str, extra: &str) -> Result<SshClient, SshError> {
        SshClient::connect(&self.host(key, extra), TIMEOUT).await
    }
}
