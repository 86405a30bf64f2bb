//! The SSH transport against a real OpenSSH server on the loopback.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certificates;
#[path = "../common/mod.rs"]
mod common;
mod keys;
mod root;
mod way;

use std::net::TcpListener;
use std::time::Duration;

use common::{Server, TIMEOUT};
use kinstall::ssh::{SshClient, SshError, Transport};
use tokio::io::AsyncWriteExt as _;

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

/// A full disk ends `head`; the rest of the upload must not wait for a reader that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn writing_to_a_command_that_ended_fails() {
    let server = Server::start();
    server.know("host_ed25519");
    let client = server.connect("ed25519", "").await.unwrap();
    let mut process = client.start("head -c 10 > /dev/null; echo full >&2; exit 1").await.unwrap();
    let chunk = vec![0; 1 << 20];
    let written = async {
        let stdin = process.stdin.as_mut().unwrap();
        while stdin.write_all(&chunk).await.is_ok() {}
    };
    tokio::time::timeout(TIMEOUT, written).await.expect("the write ends");
    let exit = process.finish().await;
    assert_eq!((exit.status, exit.stderr.as_str()), (Some(1), "full\n"));
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
    host.ssh.port = Some(silent.local_addr().unwrap().port());
    let error = SshClient::connect(&host, Duration::from_millis(500)).await.err().unwrap();
    assert!(matches!(error, SshError::Timeout { .. }), "{error}");
    drop(silent);
    let error = SshClient::connect(&host, TIMEOUT).await.err().unwrap();
    assert!(matches!(error, SshError::Unreachable { .. }), "{error}");
}
