//! A real OpenSSH server on the loopback, with its own keys and configuration.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kinstall::cluster::{Cluster, Host};
use kinstall::ssh::{SshClient, SshError};

const SSHD: &str = "/usr/sbin/sshd";
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// A server with its own keys and configuration in a temporary directory; ends with the test.
pub struct Server {
    pub directory: tempfile::TempDir,
    pub port: u16,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keygen(path: &Path, kind: &str, passphrase: &str) {
    let output =
        Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", passphrase, "-f"]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Server {
    pub fn start() -> Self {
        assert!(Path::new(SSHD).exists(), "{SSHD} is missing: apt-get install openssh-server (`make deps` does)");
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        keygen(&path("host_ed25519"), "ed25519", "");
        keygen(&path("host_ecdsa"), "ecdsa", "");
        let mut authorized = String::new();
        for (name, kind) in [("ed25519", "ed25519"), ("ecdsa", "ecdsa"), ("rsa", "rsa")] {
            keygen(&path(name), kind, "");
            authorized += &std::fs::read_to_string(path(&format!("{name}.pub"))).unwrap();
        }
        keygen(&path("encrypted"), "ed25519", "a passphrase");
        keygen(&path("stranger"), "ed25519", "");
        std::fs::write(path("authorized"), authorized).unwrap();
        std::fs::set_permissions(path("authorized"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let d = directory.path().display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {d}/host_ed25519\nHostKey {d}/host_ecdsa\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nAuthorizedKeysFile {d}/authorized\nMaxAuthTries 3\n"
        );
        std::fs::write(path("config"), config).unwrap();
        // its privilege separation wants this directory, which a package's service makes at boot
        std::fs::create_dir_all("/run/sshd").unwrap();
        let child =
            Command::new(SSHD).args(["-D", "-e", "-f"]).arg(path("config")).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < TIMEOUT, "sshd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { directory, port, child }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn know(&self, host_key: &str) {
        let key = std::fs::read_to_string(self.path(&format!("{host_key}.pub"))).unwrap();
        std::fs::write(self.path("known_hosts"), format!("[127.0.0.1]:{} {key}", self.port)).unwrap();
    }

    pub fn host(&self, key: &str, extra: &str) -> Host {
        let text = self.inventory(key, extra);
        Cluster::parse(&text, "i", self.directory.path()).unwrap().hosts.remove(0)
    }

    /// An inventory with this server as its only host.
    pub fn inventory(&self, key: &str, extra: &str) -> String {
        let d = self.directory.path().display();
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        format!(
            "cluster: t\nssh: {{user: {}, port: {}, identityFile: {d}/{key}, knownHostsFile: {d}/known_hosts{extra}}}\n\
             hosts: [{{name: h1, address: 127.0.0.1, role: controlPlane}}]\n",
            user.trim(),
            self.port
        )
    }

    pub async fn connect(&self, key: &str, extra: &str) -> Result<SshClient, SshError> {
        SshClient::connect(&self.host(key, extra), TIMEOUT).await
    }
}
