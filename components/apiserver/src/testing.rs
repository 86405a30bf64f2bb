//! What a stand-alone server needs around it: a CA, certificates, keys and kubeconfigs in one folder. For tests and the example.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use certs::{Ca, Leaf, Subject, Usage};

/// Keys are for their owner only.
fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

/// Makes everything `Config::in_dir` names, unless it is there.
pub fn prepare(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    prepare_front_proxy(dir)?;
    if dir.join("ca.crt").exists() {
        return Ok(());
    }
    let ca = Ca::generate("kubernetes")?;
    write_secret(&dir.join("ca.key"), &ca.key_pem())?;
    let keys = certs::generate_service_account_key()?;
    write_secret(&dir.join("sa.key"), &keys.private_pem)?;
    fs::write(dir.join("sa.pub"), &keys.public_pem)?;
    let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", "10.96.0.1"];
    write_leaf(dir, "apiserver", &ca, &Leaf::new(Subject::new("kube-apiserver", &[]), Usage::Server).names(names))?;
    write_leaf(
        dir,
        "apiserver-kubelet-client",
        &ca,
        &Leaf::new(Subject::new("kube-apiserver-kubelet-client", &["system:masters"]), Usage::Client),
    )?;
    write_leaf(dir, "admin", &ca, &Leaf::new(Subject::new("kubernetes-admin", &["system:masters"]), Usage::Client))?;
    // last: its presence says that all of it is there
    fs::write(dir.join("ca.crt"), ca.cert_pem())?;
    Ok(())
}

/// Who may speak for others is certified by nobody else.
fn prepare_front_proxy(dir: &Path) -> anyhow::Result<()> {
    if dir.join("front-proxy-ca.crt").exists() {
        return Ok(());
    }
    let ca = Ca::generate("front-proxy-ca")?;
    write_leaf(dir, "front-proxy-client", &ca, &Leaf::new(Subject::new("front-proxy-client", &[]), Usage::Client))?;
    fs::write(dir.join("front-proxy-ca.crt"), ca.cert_pem())?;
    Ok(())
}

fn write_leaf(dir: &Path, name: &str, ca: &Ca, leaf: &Leaf) -> anyhow::Result<()> {
    let issued = ca.issue(leaf)?;
    fs::write(dir.join(format!("{name}.crt")), &issued.cert_pem)?;
    write_secret(&dir.join(format!("{name}.key")), &issued.key_pem)
}

/// A client certificate `<name>.crt` and `.key` for a user of one group (or none, "").
pub fn client(dir: &Path, name: &str, user: &str, group: &str) -> anyhow::Result<()> {
    let ca = Ca::from_pem(&fs::read_to_string(dir.join("ca.crt"))?, &fs::read_to_string(dir.join("ca.key"))?)?;
    let groups: &[&str] = if group.is_empty() { &[] } else { &[group] };
    write_leaf(dir, name, &ca, &Leaf::new(Subject::new(user, groups), Usage::Client))
}

/// Writes `<name>.kubeconfig` for the client certificate of that name; returns its path.
pub fn kubeconfig(dir: &Path, address: SocketAddr, name: &str) -> anyhow::Result<PathBuf> {
    let file = |suffix: &str| dir.join(suffix).display().to_string();
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [{"name": "c", "cluster": {"server": format!("https://{address}"), "certificate-authority": file("ca.crt")}}],
        "users": [{"name": name, "user": {"client-certificate": file(&format!("{name}.crt")), "client-key": file(&format!("{name}.key"))}}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": name}}],
    });
    let path = dir.join(format!("{name}.kubeconfig"));
    write_secret(&path, &text.to_string())?;
    Ok(path)
}
