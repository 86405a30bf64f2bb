//! The installer against a real `converge` over a real SSH server: probe, upload, facts, plan. Nothing is applied: the host is
//! the machine that runs the tests.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Server, TIMEOUT};
use hoststate::resource::ClusterRef;
use hoststate::{Action, Content, HostState, Resource};
use kinstall::bundle::Bundle;
use kinstall::bundle::create::{Input, create};
use kinstall::host::{self, Executable, Uploads};

const STAGE: &str = "/var/lib/kinstall-stage";

/// The stage is one place on this machine: one test at a time, also across processes.
fn alone() -> std::fs::File {
    let file = std::fs::File::create(std::env::temp_dir().join("kinstall-test-stage.lock")).unwrap();
    file.lock().unwrap();
    file
}

/// `examples/converge_only`, which cargo builds together with the tests.
fn converge() -> PathBuf {
    let path = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/converge_only");
    assert!(
        path.exists(),
        "{} is missing: run `cargo test -p kinstall` without --test, or `cargo build -p kinstall --examples`",
        path.display()
    );
    path
}

fn bundle(directory: &Path) -> PathBuf {
    let runtime = directory.join("runtime/bin");
    std::fs::create_dir_all(&runtime).unwrap();
    for name in ["containerd", "containerd-shim-runc-v2", "ctr", "runc"] {
        std::fs::write(runtime.join(name), name).unwrap();
    }
    let pause = directory.join("pause");
    std::fs::write(&pause, "pause").unwrap();
    let arch = kinstall::bundle::architecture(std::env::consts::ARCH).to_owned();
    let input = Input {
        components: converge(),
        pause,
        runtime_dir: directory.join("runtime"),
        images: Vec::new(),
        arch,
        version: "0.0.1-test".into(),
        kubernetes: "1.37.0".into(),
    };
    let output = directory.join("bundle.tar.zst");
    create(&input, &output).unwrap();
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn converge_is_brought_answers_and_leaves_nothing() {
    let _alone = alone();
    let server = Server::start();
    server.know("host_ed25519");
    let bundle = Bundle::open_in(&bundle(server.directory.path()), None, &server.path("cache")).unwrap();
    let host = server.host("ed25519", "");
    let uploads = Uploads::new(1, &());
    let transport = host::connect(&host, TIMEOUT).await.unwrap();
    let mut session = host::open_session(&host, transport, Executable::Of(&bundle), &uploads).await.unwrap().unwrap();
    assert!(Path::new(STAGE).join(&bundle.components().unwrap().sha256[..12]).exists());

    let facts = session.facts().await.unwrap();
    assert_eq!(facts.arch, std::env::consts::ARCH);
    assert_eq!(facts.uid, 0, "tests run as root");
    let path = server.path("would-be").display().to_string();
    let state = HostState {
        cluster: ClusterRef { name: "t".into(), id: "id".into() },
        host: "h1".into(),
        version: "0.0.1-test".into(),
        kubernetes: None,
        resources: vec![Resource::File {
            path: path.clone(),
            mode: 0o600,
            content: Content::Inline { text: "x".into(), secret: false },
        }],
        keeps: Vec::new(),
    };
    let changes = session.plan(&state).await.unwrap();
    assert_eq!((changes.len(), changes[0].action), (1, Action::Create));
    assert!(!Path::new(&path).exists());
    // probe, upload, whether it is still there, converge with facts, plan
    assert_eq!(session.close().await, 5);
    assert!(!Path::new(STAGE).exists(), "what was staged is gone");
}

/// What `down` without a bundle meets on a host whose first `up` was cut off before anything was made.
#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_was_left_on_a_host_without_kinstall_goes() {
    let _alone = alone();
    let server = Server::start();
    server.know("host_ed25519");
    let host = server.host("ed25519", "");
    std::fs::create_dir_all(STAGE).unwrap();
    std::fs::write(Path::new(STAGE).join("half"), "half").unwrap();
    let transport = host::connect(&host, TIMEOUT).await.unwrap();
    let session =
        host::open_session(&host, transport, Executable::Installed(None), &Uploads::new(1, &())).await.unwrap();
    assert!(session.is_none(), "kinstall is not on this machine");
    assert!(!Path::new(STAGE).exists());
}

#[test]
fn the_plan_command_from_end_to_end() {
    let _alone = alone();
    let server = Server::start();
    server.know("host_ed25519");
    let bundle = bundle(server.directory.path());
    std::fs::write(server.path("inventory.yaml"), server.inventory("ed25519", "")).unwrap();
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_kinstall"))
            .args(arguments)
            .arg("-i")
            .arg(server.path("inventory.yaml"))
            .env("KINSTALL_CACHE", server.path("cache"))
            .env_remove("SSH_AUTH_SOCK")
            .output()
            .unwrap()
    };
    let output = run(&["plan", "--output", "json", "--bundle", bundle.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let plan = events.last().unwrap();
    assert_eq!(plan["event"], "plan", "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let resources: Vec<_> =
        plan["hosts"][0]["changes"].as_array().unwrap().iter().map(|c| c["resource"].as_str().unwrap()).collect();
    assert!(resources.contains(&"unit kinstall-control-plane.service"), "{resources:?}");
    assert!(!text.contains("PRIVATE KEY"), "secrets stay out of plans");
    assert!([1, 2].contains(&output.status.code().unwrap()), "1 where this machine would fail preflight checks");

    // without a cluster: clear words instead of guesses
    let output = run(&["kubeconfig"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("run `kinstall up` first"));
    let output = run(&["plan", "--bundle", "/no/such/bundle"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/bundle"));
    std::fs::write(server.path("inventory.yaml"), "cluster: t\nhost: []\n").unwrap();
    let output = run(&["plan"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("inventory.yaml:2:1") && text.contains("did you mean \"hosts\""), "{text}");
    assert_eq!(run(&["plam"]).status.code(), Some(64));
}
