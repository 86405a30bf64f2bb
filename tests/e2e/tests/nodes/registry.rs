//! Images come through a mirror that wants a password, of a registry that cannot be reached.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use certs::{Ca, Leaf, Subject, Usage};
use e2e::scenario::until;
use lab::Host;

use crate::Story;

const PASSWORD: &str = "not a secret";
/// `user`, with bcrypt's hash of the password, as the registry wants it.
const ACCOUNTS: &str = "user:$2b$05$7wrv3tYSphj75xwvFqAcDOi4yj6ULPb8E.PSsskyxvwXqIqvO64My\n";
const CONFIG: &str = "version: 0.1
storage: {filesystem: {rootdirectory: /root/registry}}
http: {addr: ':5000', tls: {certificate: /root/registry.crt, key: /root/registry.key}}
auth: {htpasswd: {realm: lab, path: /root/htpasswd}}
";
const SERVE: &str = "systemd-run --quiet --unit registry /root/docker-registry serve /root/registry.yaml";

/// Debian's registry, with an image that exists nowhere else.
fn serve(story: &Story, host: &Host) -> Result<()> {
    let directory = story.operator.path("registry");
    fs::create_dir_all(&directory)?;
    let ca = Ca::generate("a registry")?;
    let server = ca.issue(&Leaf::new(Subject::new("registry", &[]), Usage::Server).names([host.address()]))?;
    for (name, text) in [
        ("ca.crt", ca.cert_pem()),
        ("registry.crt", &server.cert_pem),
        ("registry.key", &server.key_pem),
        ("registry.yaml", CONFIG),
        ("htpasswd", ACCOUNTS),
        ("password", PASSWORD),
    ] {
        fs::write(directory.join(name), text)?;
        host.put(&directory.join(name), &format!("/root/{name}"))?;
    }
    host.put(&lab::tools::registry()?, "/root/docker-registry")?;
    host.ssh_ok(SERVE)?;
    let ours = story.operator.components_image()?;
    let (ctr, address) =
        ("/opt/kinstall/current/bin/ctr --address /run/kinstall/containerd.sock -n k8s.io", host.address());
    host.ssh_ok(&format!("{ctr} images tag {ours} {address}:5000/app:1"))?;
    until(Duration::from_secs(20), "the registry takes an image", || {
        let push = format!("{ctr} images push --user 'user:{PASSWORD}' --tlscacert /root/ca.crt {address}:5000/app:1");
        host.ssh_ok(&push).is_ok()
    })?;
    host.ssh_ok(&format!("{ctr} images rm {address}:5000/app:1")).map(drop)
}

pub fn pulled(story: &Story) -> Result<()> {
    let host = story.lab.host(1);
    serve(story, host)?;
    let address = host.address();
    let before = story.inventory()?;
    story.write(&format!(
        "{before}registries:\n- name: private.example\n  mirrors: ['https://{address}:5000']\n  caFile: registry/ca.crt\n  \
         username: user\n  passwordFile: registry/password\n"
    ))?;
    story.up()?;
    let written = story.lab.host(2).ssh_ok("stat -c %a /etc/kinstall/registries/private.example/hosts.toml")?;
    ensure!(written.trim() == "600", "the file with the password has mode {written}");
    let pod = "apiVersion: v1
kind: Pod
metadata: {name: private}
spec:
  containers:
  - {name: app, image: 'private.example/app:1', command: [/kinstall-components, --version]}
  restartPolicy: Never
";
    story.operator.kubectl_with(&["apply", "-f", "-"], pod)?;
    let phase = || story.operator.kubectl(&["get", "pod", "private", "-o", "jsonpath={.status.phase}"]);
    let done = until(Duration::from_secs(60), "the image is there and runs", || {
        phase().is_ok_and(|phase| phase == "Succeeded")
    });
    done.with_context(|| story.operator.kubectl(&["describe", "pod", "private"]).unwrap_or_default())?;
    story.operator.kubectl(&["delete", "pod", "private"])?;

    // without an entry nothing of it is left
    story.write(&before)?;
    story.up()?;
    let left = story.lab.host(2).ssh_ok("ls -d /etc/kinstall/registries 2>/dev/null; true")?;
    ensure!(left.trim().is_empty(), "{left} is left");
    host.ssh_ok("systemctl stop registry; rm -r /root/registry").map(drop)
}
