//! The SSH transport against a real OpenSSH server on the loopback.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kinstall::cluster::{Cluster, Host};
use kinstall::ssh::{SshClient, SshError, Transport};
use tokio::io::AsyncWriteExt as _;

const SSHD: &str = "/usr/sbin/sshd";
const TIMEOUT: Duration = Duration::from_secs(10);

/// A server with its own keys and configuration in a temporary directory; ends with the test.
struct Server {
    directory: tempfile::TempDir,
    port: u16,
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
    fn start() -> Self {
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

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn know(&self, host_key: &str) {
        let key = std::fs::read_to_string(self.path(&format!("{host_key}.pub"))).unwrap();
        std::fs::write(self.path("known_hosts"), format!("[127.0.0.1]:{} {key}", self.port)).unwrap();
    }

    fn host(&self, key: &str, extra: &str) -> Host {
        let d = self.directory.path().display();
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let text = format!(
            "cluster: t\nssh: {{user: {}, port: {}, identityFile: {d}/{key}, knownHostsFile: {d}/known_hosts{extra}}}\n\
             hosts: [{{name: h1, address: 127.0.0.1, role: controlPlane}}]\n",
            user.trim(),
            self.port
        );
        Cluster::parse(&text, "i", self.directory.path()).unwrap().hosts.remove(0)
    }

    async fn connect(&self, key: &str, extra: &str) -> Result<SshClient, SshError> {
        SshClient::connect(&self.host(key, extra), TIMEOUT).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_commands_streams_and_exit_codes() {
    let server = Server::start();
    // the server has two keys; the one we know is the one it must show
    server.know("host_ecdsa");
    for key in ["ed25519", "ecdsa", "rsa"] {
        let client = server.connect(key, "").await.unwrap_or_else(|error| panic!("{key}: {error}"));
        let mut process = client.start("echo out; echo err >&2; exit 7").await.unwrap();
        assert_eq!(process.line().await.unwrap().as_deref(), Some("out"));
        let exit = process.finish().await;
        assert_eq!((exit.status, exit.stderr.as_str()), (Some(7), "err\n"), "{key}");
        client.close().await;
    }
    let client = server.connect("ed25519", "").await.unwrap();
    let mut process = client.start("sha256sum").await.unwrap();
    let data: Vec<u8> = (0..20_000_000_u32).map(|i| i.to_le_bytes()[usize::from(i % 3 == 0)]).collect();
    process.stdin.as_mut().unwrap().write_all(&data).await.unwrap();
    process.stdin.take().unwrap().shutdown().await.unwrap();
    let line = process.line().await.unwrap().unwrap();
    assert!(line.starts_with(&hoststate::sha256_hex(&data)), "20 MB arrive whole");
    assert_eq!(client.round_trips().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_keys_are_checked() {
    let server = Server::start();
    let unknown = server.connect("ed25519", "").await.err().unwrap();
    assert!(matches!(unknown, SshError::HostKeyUnknown { .. }), "{unknown}");
    assert!(unknown.to_string().contains("ssh-keyscan"), "{unknown}");
    server.connect("ed25519", ", hostKeyChecking: accept-new").await.unwrap();
    server.connect("ed25519", "").await.expect("it is remembered");
    std::fs::copy(server.path("stranger.pub"), server.path("host_ed25519.pub")).unwrap();
    server.know("host_ed25519");
    for checking in ["", ", hostKeyChecking: accept-new"] {
        let changed = server.connect("ed25519", checking).await.err().unwrap();
        assert!(matches!(changed, SshError::HostKeyChanged { line: 1, .. }), "{changed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_enter_is_told_why() {
    let server = Server::start();
    server.know("host_ed25519");
    let refused = server.connect("stranger", "").await.err().unwrap();
    assert!(matches!(&refused, SshError::Refused { tried, .. } if tried.contains("stranger")), "{refused}");
    let encrypted = server.connect("encrypted", "").await.err().unwrap().to_string();
    assert!(encrypted.contains("passphrase") && encrypted.contains("ssh-add"), "{encrypted}");
    let missing = server.connect("no-such-key", "").await.err().unwrap().to_string();
    assert!(missing.contains("no-such-key"), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_and_nobody_answering() {
    let server = Server::start();
    server.know("host_ed25519");
    let mut host = server.host("ed25519", "");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    host.ssh.port = silent.local_addr().unwrap().port();
    let error = SshClient::connect(&host, Duration::from_millis(500)).await.err().unwrap();
    assert!(matches!(error, SshError::Timeout { .. }), "{error}");
    drop(silent);
    let error = SshClient::connect(&host, TIMEOUT).await.err().unwrap();
    assert!(matches!(error, SshError::Unreachable { .. }), "{error}");
}
