//! Certificates of users and of hosts.

use std::path::Path;
use std::process::Command;

use kinstall::ssh::{SshClient, SshError};

use crate::common::{Server, TIMEOUT, keygen, me, run};
use crate::keys::Agent;

/// Signs `<key>.pub` into `<key>-cert.pub`.
fn sign(authority: &Path, key: &Path, arguments: &[&str]) {
    run(Command::new("ssh-keygen")
        .args(["-q", "-s"])
        .arg(authority)
        .args(["-I", "an-identity"])
        .args(arguments)
        .arg(key.with_extension("pub")));
}

/// A server that knows no keys but those that `users_ca` signs.
fn trusting() -> Server {
    let server = Server::prepared(
        [127, 0, 0, 1].into(),
        "TrustedUserCAKeys @D@/users_ca.pub\nAuthorizedKeysFile none\n",
        |directory| {
            keygen(&directory.join("users_ca"), "ed25519", "");
            Command::new("/usr/sbin/sshd")
        },
    );
    server.know("host_ed25519");
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn user_certificates_of_every_kind() {
    let server = trusting();
    let me = me();
    for key in ["ed25519", "ecdsa", "rsa"] {
        let refused = server.connect(key, "").await.err().unwrap();
        assert!(matches!(refused, SshError::Refused { .. }), "{key} without a certificate: {refused}");
        sign(&server.path("users_ca"), &server.path(key), &["-n", &me, "-V", "+1h"]);
        server.connect(key, "").await.unwrap_or_else(|error| panic!("{key}: {error}"));
        // at another place, which the inventory names
        std::fs::rename(server.path(&format!("{key}-cert.pub")), server.path(&format!("{key}.signed"))).unwrap();
        assert!(server.connect(key, "").await.is_err());
        let named = server.connect(key, &format!(", certificateFile: {key}.signed")).await;
        named.unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    // the key has a passphrase
    sign(&server.path("users_ca"), &server.path("encrypted"), &["-n", &me]);
    server.connect("encrypted", ", passphraseCommand: 'echo a passphrase'").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_in_an_agent_and_for_its_keys() {
    let server = trusting();
    let agent = Agent::start(&server);
    let enter = async |more: &str| {
        let ssh = format!("port: {}, knownHostsFile: known_hosts, configFile: ssh_config{more}", server.port);
        SshClient::connect(&server.host_with("127.0.0.1", &ssh), TIMEOUT).await.map(|_| ())
    };
    for key in ["ed25519", "ecdsa", "rsa"] {
        // the agent holds the key alone, the certificate is a file
        agent.add(&server.path(key));
        sign(&server.path("users_ca"), &server.path(key), &["-n", "root"]);
        enter(&format!(", identityFile: {key}.pub")).await.unwrap_or_else(|error| panic!("{key}, by a file: {error}"));
        // the agent holds the certificate, no file is named
        agent.empty();
        agent.add(&server.path(key));
        std::fs::remove_file(server.path(&format!("{key}-cert.pub"))).unwrap();
        enter("").await.unwrap_or_else(|error| panic!("{key}, in the agent: {error}"));
        agent.empty();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_certificates_that_are_no_good() {
    let server = trusting();
    let me = me();
    let key = server.path("ed25519");
    for (arguments, word) in [
        (&["-n", &me, "-V", "-2h:-1h"][..], "it has run out"),
        (&["-n", &me, "-V", "+1h:+2h"], "it is not valid yet"),
        (&["-n", "somebody-else"], "(for somebody-else)"),
        (&["-h", "-n", &me], "it is a host's"),
    ] {
        sign(&server.path("users_ca"), &key, arguments);
        let refused = server.connect("ed25519", "").await.err().unwrap().to_string();
        assert!(refused.contains("ed25519-cert.pub") && refused.contains(word), "{arguments:?}: {refused}");
    }
    let missing = server.connect("ed25519", ", certificateFile: no-such-file").await.err().unwrap().to_string();
    assert!(missing.contains("no-such-file"), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn host_certificates() {
    for (kind, name) in [("ed25519", "host_ed25519"), ("ecdsa", "host_ecdsa"), ("rsa", "host_rsa")] {
        let server =
            Server::prepared([127, 0, 0, 1].into(), &format!("HostCertificate @D@/{name}-cert.pub\n"), |directory| {
                keygen(&directory.join("hosts_ca"), kind, "");
                sign(&directory.join("hosts_ca"), &directory.join(name), &["-h", "-n", "127.0.0.1,*.lab", "-V", "+1h"]);
                Command::new("/usr/sbin/sshd")
            });
        let authority = std::fs::read_to_string(server.path("hosts_ca.pub")).unwrap();
        let known = |text: &str| std::fs::write(server.path("known_hosts"), text).unwrap();
        let connect = async || server.connect("ed25519", "").await.map(|_| ());
        known(&format!("@cert-authority [127.0.0.1]:* {authority}"));
        connect().await.unwrap_or_else(|error| panic!("{kind}: {error}"));
        known(&format!("@cert-authority * {authority}@revoked * {authority}"));
        let error = connect().await.unwrap_err();
        assert!(matches!(error, SshError::HostKeyRevoked { line: 2, .. }), "{kind}: {error}");
        // an authority of other hosts, and one that signed nothing here
        known(&format!("@cert-authority *.example {authority}"));
        assert!(matches!(connect().await.unwrap_err(), SshError::HostKeyUnknown { .. }), "{kind}");
        let stranger = std::fs::read_to_string(server.path("stranger.pub")).unwrap();
        known(&format!("@cert-authority * {stranger}"));
        assert!(matches!(connect().await.unwrap_err(), SshError::HostKeyUnknown { .. }), "{kind}");
        // then the key itself may be known
        known(&format!("@cert-authority * {stranger}{}", server.known_line(name)));
        connect().await.unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_certificates_that_are_no_good() {
    for (arguments, word) in [
        (&["-h", "-n", "127.0.0.1", "-V", "-2h:-1h"][..], "it has run out"),
        (&["-h", "-n", "127.0.0.1", "-V", "+1h:+2h"], "it is not valid yet"),
        (&["-h", "-n", "other.lab"], "it is for other.lab, not for 127.0.0.1"),
    ] {
        let config = "HostCertificate @D@/host_ed25519-cert.pub\n";
        let server = Server::prepared([127, 0, 0, 1].into(), config, |directory| {
            keygen(&directory.join("hosts_ca"), "ed25519", "");
            sign(&directory.join("hosts_ca"), &directory.join("host_ed25519"), arguments);
            Command::new("/usr/sbin/sshd")
        });
        let authority = std::fs::read_to_string(server.path("hosts_ca.pub")).unwrap();
        std::fs::write(server.path("known_hosts"), format!("@cert-authority * {authority}")).unwrap();
        let error = server.connect("ed25519", "").await.err().unwrap();
        assert!(matches!(error, SshError::HostCertificate { .. }), "{arguments:?}: {error}");
        let text = error.to_string();
        assert!(text.contains(word) && text.contains("an-identity"), "{arguments:?}: {text}");
    }
}
