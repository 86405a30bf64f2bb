//! Three real members of etcd: founded together, one's data is damaged and then lost, it is taken out and joins again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use certs::{Ca, Leaf, Subject, Usage};
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use etcd_members::{Config, joined, list, prepare, remove};
use hoststate::facts::Birth;

struct Member {
    config: Config,
    process: Option<Child>,
}

impl Member {
    /// As the unit does it, until etcd runs.
    async fn start(&mut self) -> anyhow::Result<()> {
        prepare(&self.config).await?;
        let process = Command::new("etcd")
            .arg("--config-file")
            .arg(self.config.directory.join("etcd.yaml"))
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH.replace("aarch64", "arm64"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is installed (tests/lab/deps.sh)");
        self.process = Some(process);
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// It runs, and says nothing any more to those that it is connected to.
    fn freeze(&self) {
        let process = self.process.as_ref().unwrap().id();
        assert!(Command::new("kill").args(["-STOP", &process.to_string()]).status().unwrap().success());
    }

    /// Overwrites all that etcd holds, but for the pages that say where it is.
    fn damage(&mut self) {
        self.kill();
        let file = self.config.directory.join("data/member/snap/db");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[2 * 4096..].fill(0x5a);
        std::fs::write(&file, bytes).unwrap();
    }

    /// How etcd ended by itself.
    async fn ended(&mut self) -> std::process::ExitStatus {
        for _ in 0..100 {
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                self.process = None;
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("{} runs", self.config.name);
    }

    fn lose_data(&mut self) {
        self.kill();
        std::fs::remove_dir_all(&self.config.directory).unwrap();
        std::fs::create_dir(&self.config.directory).unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

fn write(path: &Path, text: &str) -> PathBuf {
    std::fs::write(path, text).unwrap();
    path.to_owned()
}

fn members(root: &Path) -> Vec<Member> {
    let ca = Ca::generate("etcd-ca").unwrap();
    let issued =
        ca.issue(&Leaf::new(Subject::new("member", &[]), Usage::Both).names(["127.0.0.1", "localhost"])).unwrap();
    let ca_file = write(&root.join("ca.crt"), ca.cert_pem());
    let cert_file = write(&root.join("member.crt"), &issued.cert_pem);
    let key_file = write(&root.join("member.key"), &issued.key_pem);
    let held: Vec<TcpListener> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let url = |index: usize| format!("https://{}", held[index].local_addr().unwrap());
    let tls = format!(
        "{{cert-file: {0}, key-file: {1}, client-cert-auth: true, trusted-ca-file: {2}}}",
        cert_file.display(),
        key_file.display(),
        ca_file.display()
    );
    let peers: String =
        (0..3).map(|n| format!("- {{name: m{n}, peerUrl: '{}', clientUrl: '{}'}}\n", url(n), url(n + 3))).collect();
    (0..3)
        .map(|n| {
            let directory = root.join(format!("m{n}"));
            std::fs::create_dir(&directory).unwrap();
            let (peer, client) = (url(n), url(n + 3));
            let etcd = format!(
                "name: m{n}\ndata-dir: {}\nlisten-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\n\
                 listen-client-urls: {client}\nadvertise-client-urls: {client}\n\
                 client-transport-security: {tls}\npeer-transport-security: {tls}\nlogger: zap\n",
                directory.join("data").display()
            );
            let etcd_config = write(&root.join(format!("m{n}-etcd.yaml")), &etcd);
            let text = format!(
                "name: m{n}\npeerUrl: {peer}\nbirth: found\ntoken: test\nmembers:\n{peers}caFile: {}\ncertFile: {}\n\
                 keyFile: {}\netcdConfig: {}\ndirectory: {}\njoinedFile: {}\n",
                ca_file.display(),
                cert_file.display(),
                key_file.display(),
                etcd_config.display(),
                directory.display(),
                root.join(format!("m{n}-joined")).display()
            );
            Member { config: Config::parse(&text).unwrap(), process: None }
        })
        .collect()
}

/// All three, each with its vote and answering: one that has just started takes a moment.
async fn well(config: &Config) {
    let mut seen = Vec::new();
    for _ in 0..100 {
        seen = list(config).await.unwrap();
        if seen.len() == 3 && seen.iter().all(|member| member.healthy && !member.learner) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{seen:?}");
}

/// Lets one member lead after the other, for ever.
async fn move_leader(config: &Config) {
    let read = |path: &Path| std::fs::read(path).unwrap();
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(read(&config.ca_file)))
        .identity(Identity::from_pem(read(&config.cert_file), read(&config.key_file)));
    let options = ConnectOptions::new().with_tls(tls);
    let ids: Vec<u64> = list(config).await.unwrap().iter().map(|member| member.id).collect();
    for id in ids.into_iter().cycle() {
        // only who leads can hand it on
        for member in &config.members {
            let mut client = Client::connect([&member.client_url], Some(options.clone())).await.unwrap();
            client.move_leader(id).await.ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn founded_lost_taken_out_and_joined() {
    let root = tempfile::tempdir().unwrap();
    let mut all = members(root.path());
    for member in &mut all {
        member.start().await.unwrap();
    }
    for member in &all {
        joined(&member.config).await.unwrap();
    }
    well(&all[0].config).await;
    let there = list(&all[0].config).await.unwrap();
    let id = |name: &str| there.iter().find(|member| member.name == name).unwrap().id;

    // who is asked while another begins to lead is none the worse for it
    let moving = move_leader(&all[0].config);
    let listing = async {
        for _ in 0..200 {
            let seen = list(&all[0].config).await.unwrap();
            assert!(seen.iter().all(|member| member.healthy), "{seen:?}");
        }
    };
    tokio::select! { () = moving => {}, () = listing => {} }

    // etcd does not run on a damaged file, and the others say whose it is
    all[2].damage();
    all[2].start().await.unwrap();
    let status = all[2].ended().await;
    assert!(!status.success(), "{status}");
    let seen = list(&all[0].config).await.unwrap();
    let ill: Vec<&str> = seen.iter().filter(|member| !member.healthy).map(|member| member.name.as_str()).collect();
    assert_eq!(ill, ["m2"]);

    // its data is gone: it may not come back as the one that it was
    all[2].lose_data();
    let why = all[2].start().await.unwrap_err().to_string();
    assert!(why.contains("m2") && why.contains("run `kinstall up`"), "{why}");
    // with one of three dead the others are needed
    let why = format!("{:#}", remove(&all[0].config, id("m1")).await.unwrap_err());
    assert!(why.contains("no majority"), "{why}");
    assert_eq!(list(&all[0].config).await.unwrap().len(), 3);
    let left = remove(&all[0].config, id("m2")).await.unwrap();
    assert!(left.len() == 2 && left.iter().all(|member| member.healthy), "{left:?}");

    all[2].config.birth = Birth::Join;
    all[2].start().await.unwrap();
    joined(&all[2].config).await.unwrap();
    well(&all[1].config).await;

    // a restart asks nobody for a new place
    all[2].kill();
    all[2].start().await.unwrap();
    joined(&all[2].config).await.unwrap();
    well(&all[2].config).await;

    // its host stands still, which etcd notices only after a while: taking it out waits for that
    let id = list(&all[0].config).await.unwrap().into_iter().find(|member| member.name == "m2").unwrap().id;
    all[2].freeze();
    remove(&all[0].config, id).await.unwrap();

    // what it has is of the past now: it is put aside, and it joins anew
    all[2].kill();
    all[2].start().await.unwrap();
    joined(&all[2].config).await.unwrap();
    assert!(all[2].config.directory.join("data.stale").exists());
    well(&all[2].config).await;
}
