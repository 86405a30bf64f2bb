//! Real etcd members on this machine, ended with the value that holds them.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Cluster {
    members: Vec<Member>,
    dir: tempfile::TempDir,
}

struct Member {
    arguments: Vec<String>,
    client: String,
    process: Option<Child>,
}

impl Cluster {
    /// Members that know each other from the start; returns when a client gets answers.
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, &[]).await
    }

    /// The same with further options of etcd's.
    pub async fn start_with(count: usize, options: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports: Vec<(u16, u16)> = free_ports(count * 2).chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let peers: Vec<String> =
            ports.iter().enumerate().map(|(n, (_, peer))| format!("m{n}=http://127.0.0.1:{peer}")).collect();
        let members = ports.iter().enumerate().map(|(n, (client, peer))| {
            let client = format!("http://127.0.0.1:{client}");
            let peer = format!("http://127.0.0.1:{peer}");
            let pairs = [
                ("name", format!("m{n}")),
                ("data-dir", dir.path().join(format!("m{n}")).display().to_string()),
                ("listen-client-urls", client.clone()),
                ("advertise-client-urls", client.clone()),
                ("listen-peer-urls", peer.clone()),
                ("initial-advertise-peer-urls", peer),
                ("initial-cluster", peers.join(",")),
                ("heartbeat-interval", "50".into()),
                ("election-timeout", "500".into()),
                ("log-level", "error".into()),
            ];
            let further = options.iter().map(|(name, value)| (*name, (*value).to_owned()));
            let arguments =
                pairs.into_iter().chain(further).flat_map(|(name, value)| [format!("--{name}"), value]).collect();
            Member { arguments, client, process: None }
        });
        let mut cluster = Self { members: members.collect(), dir };
        (0..count).for_each(|n| cluster.restart(n));
        cluster.answers().await;
        cluster
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client.clone()).collect()
    }

    /// kill -9.
    pub fn kill(&mut self, n: usize) {
        if let Some(mut process) = self.members[n].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub fn restart(&mut self, n: usize) {
        self.kill(n);
        let process = self.command(n).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.members[n].process = Some(process.expect("etcd is installed (tests/lab/deps.sh)"));
    }

    /// Starts a member that ends by itself, and gives what it said.
    pub async fn last_words(&mut self, n: usize) -> String {
        self.kill(n);
        let mut command = tokio::process::Command::from(self.command(n));
        let ended = tokio::time::timeout(Duration::from_secs(20), command.kill_on_drop(true).output()).await;
        let output = ended.expect("it does not run").unwrap();
        assert!(!output.status.success(), "{}", output.status);
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The file with everything that a member holds.
    pub fn database(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("m{n}/member/snap/db"))
    }

    fn command(&self, n: usize) -> Command {
        let mut command = Command::new("etcd");
        command
            .args(&self.members[n].arguments)
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH.replace("aarch64", "arm64"));
        command
    }

    async fn answers(&self) {
        let mut client = etcd_client::Client::connect(self.endpoints(), None).await.unwrap();
        for _ in 0..300 {
            let asked = tokio::time::timeout(Duration::from_secs(1), client.get("x", None)).await;
            if matches!(asked, Ok(Ok(_))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("etcd does not answer");
    }

    /// A client that speaks past the store.
    pub async fn client(&self) -> etcd_client::Client {
        etcd_client::Client::connect(self.endpoints(), None).await.unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|n| self.kill(n));
    }
}

/// All held at once, so that they differ.
fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}
