//! Starts a control plane of this workspace on 127.0.0.1, with certificates and a store in a scratch folder, and stops it.
//! It knows the executable only by its command line and configuration file.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use certs::{Ca, Leaf, Subject, Usage};
use serde_json::{Value, json};

/// A running control plane. It ends (SIGTERM, then SIGKILL) when dropped.
pub struct ControlPlane {
    child: Child,
    pub kubeconfig: PathBuf,
    pub log: PathBuf,
    /// From the start of the process to the first `ok` of /readyz.
    pub ready_after: Duration,
}

impl ControlPlane {
    /// `binary` is `kinstall-components`; everything lies in `folder`, which may hold the store of an earlier start.
    pub async fn start(binary: &Path, folder: &Path) -> Result<Self> {
        prepare(folder)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = folder.join("control-plane.yaml");
        fs::write(&config, configuration(folder, port).to_string())?;
        let kubeconfig = kubeconfig(folder, port)?;
        let log = folder.join("control-plane.log");
        let begun = Instant::now();
        let child = Command::new(binary)
            .arg("control-plane")
            .arg("--config")
            .arg(&config)
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut plane = ControlPlane { child, kubeconfig, log, ready_after: Duration::ZERO };
        plane.wait_until_ready().await?;
        plane.ready_after = begun.elapsed();
        Ok(plane)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let config = crate::kubeconfig::Kubeconfig::read(&self.kubeconfig)?;
        let client = crate::client::Client::new(&config)?;
        let end = Instant::now() + Duration::from_secs(60);
        // a process that begins to listen tells nobody
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                bail!("the control plane ended with {status}: {}", self.last_words());
            }
            if let Ok(answer) = client.send("GET", "/readyz", &[], "").await
                && answer.status == 200
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("the control plane is not ready after 60 s: {}", self.last_words())
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        // std knows only SIGKILL; the server shall write down what it holds
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(folder: &Path, port: u16) -> Value {
    let file = |name: &str| folder.join(name).display().to_string();
    json!({
        "apiServer": {
            "bindAddress": "127.0.0.1", "securePort": port, "advertiseAddress": "127.0.0.1", "dataDir": file("store"),
            "tlsCertFile": file("apiserver.crt"), "tlsPrivateKeyFile": file("apiserver.key"),
            "clientCaFile": file("ca.crt"),
            "serviceAccountKeyFiles": [file("sa.pub")], "serviceAccountSigningKeyFile": file("sa.key"),
            "kubeletClientCertificate": file("apiserver-kubelet-client.crt"),
            "kubeletClientKey": file("apiserver-kubelet-client.key"), "kubeletCaFile": file("ca.crt"),
            "requestHeader": {"clientCaFile": file("front-proxy-ca.crt"), "allowedNames": ["front-proxy-client"]},
            "proxyClientCertFile": file("front-proxy-client.crt"), "proxyClientKeyFile": file("front-proxy-client.key"),
            // one entry waits until a list's snapshot is compacted away
            "compactionIntervalSeconds": 60,
        },
        "controllers": {
            "clusterSigningCertFile": file("ca.crt"), "clusterSigningKeyFile": file("ca.key"), "rootCaFile": file("ca.crt"),
        },
        "scheduler": {},
    })
}

/// Makes authority, certificates and keys, unless they are there.
fn prepare(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    if folder.join("ca.crt").exists() {
        return Ok(());
    }
    let ca = Ca::generate("kubernetes")?;
    secret(&folder.join("ca.key"), &ca.key_pem())?;
    let keys = certs::generate_service_account_key()?;
    secret(&folder.join("sa.key"), &keys.private_pem)?;
    fs::write(folder.join("sa.pub"), &keys.public_pem)?;
    let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", "10.96.0.1"];
    let server = Leaf::new(Subject::new("kube-apiserver", &[]), Usage::Server).names(names);
    let kubelet = Subject::new("kube-apiserver-kubelet-client", &["system:masters"]);
    let admin = Subject::new("kubernetes-admin", &["system:masters"]);
    for (name, leaf) in [
        ("apiserver", server),
        ("apiserver-kubelet-client", Leaf::new(kubelet, Usage::Client)),
        ("admin", Leaf::new(admin, Usage::Client)),
    ] {
        let issued = ca.issue(&leaf)?;
        fs::write(folder.join(format!("{name}.crt")), &issued.cert_pem)?;
        secret(&folder.join(format!("{name}.key")), &issued.key_pem)?;
    }
    // who may speak for others is certified by nobody else
    let front_proxy = Ca::generate("front-proxy-ca")?;
    let issued = front_proxy.issue(&Leaf::new(Subject::new("front-proxy-client", &[]), Usage::Client))?;
    fs::write(folder.join("front-proxy-ca.crt"), front_proxy.cert_pem())?;
    fs::write(folder.join("front-proxy-client.crt"), &issued.cert_pem)?;
    secret(&folder.join("front-proxy-client.key"), &issued.key_pem)?;
    // last: its presence says that all of it is there
    fs::write(folder.join("ca.crt"), ca.cert_pem())?;
    Ok(())
}

/// For clients in other languages everything stands in the file itself.
fn kubeconfig(folder: &Path, port: u16) -> Result<PathBuf> {
    use base64::Engine;
    let data =
        |name: &str| Ok::<_, std::io::Error>(base64::prelude::BASE64_STANDARD.encode(fs::read(folder.join(name))?));
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "admin",
        "clusters": [{"name": "scratch", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority-data": data("ca.crt")?}}],
        "users": [{"name": "admin", "user": {
            "client-certificate-data": data("admin.crt")?, "client-key-data": data("admin.key")?}}],
        "contexts": [{"name": "admin", "context": {"cluster": "scratch", "user": "admin"}}],
    });
    let path = folder.join("admin.kubeconfig");
    secret(&path, &text.to_string())?;
    Ok(path)
}

/// Keys are for their owner only.
fn secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
