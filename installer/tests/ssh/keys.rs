//! Keys with passphrases, and a real ssh-agent.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use kinstall::ssh::SshError;

use crate::common::{Server, TIMEOUT, keygen, me, run};

/// An agent that ends with the test. The server's directory gets an `ssh_config` that names it.
pub struct Agent {
    socket: PathBuf,
    child: Child,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Agent {
    pub fn start(server: &Server) -> Self {
        let socket = server.path("agent");
        let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(started.elapsed() < TIMEOUT, "ssh-agent does not listen");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let text = format!("IdentityAgent {}\n", socket.display());
        std::fs::write(server.path("ssh_config"), text).unwrap();
        Self { socket, child }
    }

    fn run(&self, arguments: &[&str], file: Option<&Path>) {
        run(Command::new("ssh-add").arg("-q").args(arguments).args(file).env("SSH_AUTH_SOCK", &self.socket));
    }

    pub fn add(&self, file: &Path) {
        self.run(&[], Some(file));
    }

    pub fn empty(&self) {
        self.run(&["-D"], None);
    }
}

/// With the agent of `ssh_config`; `key` may be one that is not named at all.
async fn enter(server: &Server, key: Option<&str>, extra: &str) -> Result<(), SshError> {
    let identity = key.map(|key| format!(", identityFile: {key}")).unwrap_or_default();
    let ssh = format!(
        "user: {}, port: {}, knownHostsFile: known_hosts, configFile: ssh_config{identity}{extra}",
        me(),
        server.port
    );
    let host = server.host_with("127.0.0.1", &ssh);
    kinstall::ssh::SshClient::connect(&host, TIMEOUT).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn passphrases_from_file_command_and_environment() {
    let server = Server::start();
    server.know("host_ed25519");
    std::fs::write(server.path("passphrase"), "a passphrase\n").unwrap();
    for key in ["encrypted", "encrypted_rsa"] {
        for source in ["passphraseFile: passphrase", "passphraseCommand: 'echo a passphrase'"] {
            let entered = server.connect(key, &format!(", {source}")).await;
            entered.unwrap_or_else(|error| panic!("{key} {source}: {error}"));
        }
    }
    // a variable that is always there, with a value that ssh-keygen takes for a passphrase
    keygen(&server.path("by_variable"), "ed25519", &std::env::var("PATH").unwrap());
    let public = std::fs::read_to_string(server.path("by_variable.pub")).unwrap();
    let authorized = std::fs::read_to_string(server.path("authorized")).unwrap();
    std::fs::write(server.path("authorized"), authorized + &public).unwrap();
    server.connect("by_variable", ", passphraseEnv: PATH").await.unwrap();

    let wrong = server.connect("encrypted", ", passphraseCommand: 'echo another one'").await.err().unwrap().to_string();
    assert!(
        wrong.contains("does not open the key") && wrong.contains("encrypted") && wrong.contains("ssh-keygen"),
        "{wrong}"
    );
    let missing = server.connect("encrypted", ", passphraseFile: no-such-file").await.err().unwrap().to_string();
    assert!(missing.contains("no-such-file"), "{missing}");
    let failed = server.connect("encrypted", ", passphraseCommand: 'echo locked >&2; false'").await.err().unwrap();
    assert!(failed.to_string().contains("locked"), "{failed}");
}

/// Forms of key files that older versions of ssh-keygen wrote.
#[tokio::test(flavor = "multi_thread")]
async fn older_forms_of_key_files() {
    let server = Server::start();
    server.know("host_ed25519");
    for (form, passphrase) in [("PEM", ""), ("PKCS8", ""), ("PEM", "a passphrase"), ("PKCS8", "a passphrase")] {
        let key = format!("{form}-{}", passphrase.len());
        std::fs::copy(server.path("rsa"), server.path(&key)).unwrap();
        let rewrite = ["-q", "-p", "-m", form, "-P", "", "-N", passphrase, "-f"];
        run(Command::new("ssh-keygen").args(rewrite).arg(server.path(&key)));
        let entered = server.connect(&key, ", passphraseCommand: 'echo a passphrase'").await;
        entered.unwrap_or_else(|error| panic!("{key}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_holds_keys_of_every_kind() {
    let server = Server::start();
    server.know("host_ed25519");
    let agent = Agent::start(&server);
    for key in ["ed25519", "ecdsa", "rsa"] {
        agent.empty();
        agent.add(&server.path(key));
        enter(&server, None, "").await.unwrap_or_else(|error| panic!("{key}: {error}"));
        // named by its public half, while the private one is nowhere but in the agent
        let alone = format!("alone_{key}");
        std::fs::copy(server.path(&format!("{key}.pub")), server.path(&format!("{alone}.pub"))).unwrap();
        for named in [alone.clone(), format!("{alone}.pub")] {
            let entered = enter(&server, Some(&named), ", identitiesOnly: true").await;
            entered.unwrap_or_else(|error| panic!("{named}: {error}"));
        }
    }
    // with a passphrase that the agent was told, and nobody else
    agent.empty();
    let opened = server.path("opened");
    std::fs::copy(server.path("encrypted"), &opened).unwrap();
    run(Command::new("ssh-keygen").args(["-q", "-p", "-P", "a passphrase", "-N", "", "-f"]).arg(&opened));
    agent.add(&opened);
    enter(&server, Some("encrypted"), "").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_without_the_right_key_and_with_too_many() {
    let server = Server::start();
    server.know("host_ed25519");
    let agent = Agent::start(&server);
    let empty = enter(&server, Some("stranger"), "").await.unwrap_err().to_string();
    assert!(empty.contains("it holds no key") && empty.contains("ssh-add") && empty.contains("stranger"), "{empty}");
    agent.add(&server.path("stranger"));
    let other = enter(&server, Some("ed25519.pub"), "").await.unwrap_err().to_string();
    assert!(other.contains("agent key") && other.contains("the agent does not hold it"), "{other}");
    for index in 0..5 {
        let key = server.path(&format!("other{index}"));
        keygen(&key, "ed25519", "");
        agent.add(&key);
    }
    // the server ends it after three
    let many = enter(&server, None, "").await.unwrap_err();
    assert!(matches!(many, SshError::TooMany { .. }), "{many}");
    assert!(many.to_string().contains("ssh.identitiesOnly: true"), "{many}");
    enter(&server, Some("ed25519"), "").await.expect("a key that is named comes first");
    enter(&server, Some("rsa"), ", identitiesOnly: true").await.unwrap();
    drop(agent);
    let gone = enter(&server, Some("stranger"), "").await.unwrap_err().to_string();
    assert!(gone.contains("does not answer"), "{gone}");
    enter(&server, Some("ed25519"), "").await.expect("an agent that is gone is no reason to stop");
}

/// A command at a terminal, with what is typed there.
fn at_a_terminal(server: &Server, typed: &str) -> String {
    let pty = nix::pty::openpty(None, None).unwrap();
    let (master, slave): (OwnedFd, OwnedFd) = (pty.master, pty.slave);
    let mut master = File::from(master);
    let mut child = Command::new(env!("CARGO_BIN_EXE_kinstall"))
        .args(["adopt", &format!("{}@127.0.0.1", me()), "--port", &server.port.to_string(), "--ssh-key"])
        .arg(server.path("encrypted"))
        .arg("--known-hosts")
        .arg(server.path("known_hosts"))
        .arg("--out")
        .arg(server.path("adopted"))
        .env("HOME", server.directory.path())
        .env_remove("SSH_AUTH_SOCK")
        .stdin(slave)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    master.write_all(typed.as_bytes()).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    said
}

#[test]
fn a_person_is_asked_for_the_passphrase() {
    let server = Server::start();
    server.know("host_ed25519");
    let said = at_a_terminal(&server, "wrong\na passphrase\n");
    let asked = format!("passphrase of the key {}", server.path("encrypted").display());
    assert_eq!(said.matches(&asked).count(), 2, "{said}");
    assert!(said.contains("it does not open the key"), "{said}");
    // it went in, and looked around
    assert!(said.contains("kinstall is not on this host"), "{said}");
    let said = at_a_terminal(&server, "one\ntwo\nthree\n");
    assert!(said.contains("was wrong 3 times") && !said.contains("kinstall is not on this host"), "{said}");
}
