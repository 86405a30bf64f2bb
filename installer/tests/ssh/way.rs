//! The way to a host: aliases of ssh_config, bastions, proxy commands, IPv6.

use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::process::Command;

use kinstall::cluster::Host;
use kinstall::ssh::{SshClient, SshError, Transport};

use crate::common::{Server, TIMEOUT, me, run};

const SSHD: &str = "/usr/sbin/sshd";

async fn works(host: &Host) -> SshClient {
    let client = SshClient::connect(host, TIMEOUT).await.unwrap_or_else(|error| panic!("{error}"));
    let mut process = client.start("echo there").await.unwrap();
    assert_eq!(process.line().await.unwrap().as_deref(), Some("there"));
    assert!(process.finish().await.ok());
    client
}

async fn fails(host: &Host) -> SshError {
    SshClient::connect(host, TIMEOUT).await.err().expect("this must fail")
}

fn write(server: &Server, name: &str, text: &str) {
    std::fs::write(server.path(name), text).unwrap();
}

/// A port where nobody listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_of_ssh_config_is_all_that_the_inventory_needs() {
    let server = Server::start();
    server.know("host_rsa");
    let d = server.directory.path().display();
    write(&server, "more.conf", &format!("Host web\n  IdentityFile {d}/%n-%p\n  IdentitiesOnly yes\n"));
    write(
        &server,
        "ssh_config",
        &format!(
            "Include {d}/mo*.conf\n\
             Match originalhost web exec \"test -d {d}\"\n  HostName 127.0.0.1\n  Port {}\n\
             Host w* !wrong\n  User {}\n  UserKnownHostsFile {d}/no-such-file {d}/known_hosts\n  GlobalKnownHostsFile none\n\
             Host *\n  Port 1\n  StrictHostKeyChecking yes\n",
            server.port,
            me()
        ),
    );
    std::fs::copy(server.path("ecdsa"), server.path(&format!("web-{}", server.port))).unwrap();
    let host = server.host_with("web", "configFile: ssh_config");
    works(&host).await;
    // the real client understands the same file in the same way
    let config = server.path("ssh_config");
    assert_eq!(
        run(Command::new("ssh").arg("-F").arg(&config).args(["-o", "BatchMode=yes", "web", "echo same"])),
        "same\n"
    );
    // what the inventory says goes before it
    let refused = fails(&server.host_with("web", "configFile: ssh_config, identityFile: stranger")).await;
    assert!(refused.to_string().contains("web (127.0.0.1:"), "{refused}");
    let missing = fails(&server.host_with("web", "configFile: no-such-config")).await.to_string();
    assert!(missing.contains("no-such-config") && missing.contains("ssh.configFile"), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_of_bastions() {
    let (outer, inner, target) = (Server::start(), Server::start(), Server::start());
    let known = [&outer, &inner, &target].map(|server| server.known_line("host_ed25519")).concat();
    write(&target, "known_hosts", &known);
    // by the inventory: the keys are those of the host behind, but for the one that has its own
    std::fs::copy(target.path("rsa"), target.path("own")).unwrap();
    let chain = format!(
        "bastion: ['{}@127.0.0.1:{}', {{address: 127.0.0.1, port: {}, identityFile: own}}]",
        me(),
        outer.port,
        inner.port
    );
    let ssh =
        format!("port: {}, identityFile: ed25519, knownHostsFile: known_hosts, configFile: none, {chain}", target.port);
    let host = target.host_with("127.0.0.1", &ssh);
    // hosts behind the same bastions share one connection to each
    let clients = tokio::join!(works(&host), works(&host), works(&host));
    let logins = |server: &Server| server.log().matches("Accepted publickey").count();
    assert_eq!((logins(&outer), logins(&inner), logins(&target)), (1, 1, 3));
    assert!(inner.log().contains("Accepted publickey for root from 127.0.0.1"), "{}", inner.log());
    clients.0.close().await;
    drop(clients);
    // by ssh_config, with aliases on the way
    write(
        &target,
        "ssh_config",
        &format!(
            "Host deep\n HostName 127.0.0.1\n Port {}\n ProxyJump middle\n\
             Host middle\n HostName 127.0.0.1\n Port {}\n ProxyJump gate:{}\n\
             Host gate\n HostName 127.0.0.1\n\
             Host *\n User {}\n IdentityFile {d}/ecdsa\n UserKnownHostsFile {d}/known_hosts\n",
            target.port,
            inner.port,
            outer.port,
            me(),
            d = target.directory.path().display(),
        ),
    );
    works(&target.host_with("deep", "configFile: ssh_config")).await;
    assert_eq!((logins(&outer), logins(&inner), logins(&target)), (2, 2, 4));
    works(&target.host_with("deep", "configFile: ssh_config, bastion: none")).await;
    assert_eq!((logins(&outer), logins(&inner), logins(&target)), (2, 2, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bastion_that_ends_takes_its_connections_and_is_entered_anew() {
    let (bastion, target) = (Server::start(), Server::start());
    write(&target, "known_hosts", &[bastion.known_line("host_rsa"), target.known_line("host_rsa")].concat());
    let ssh = |port: u16| {
        format!(
            "port: {}, identityFile: ed25519, knownHostsFile: known_hosts, configFile: none, bastion: '127.0.0.1:{port}'",
            target.port
        )
    };
    let host = target.host_with("127.0.0.1", &ssh(bastion.port));
    let client = works(&host).await;
    let mut process = client.start("sleep 60").await.unwrap();
    bastion.cut_connections();
    assert_eq!(process.exited().await.status, None, "the command's end is not known");
    assert!(client.start("true").await.is_err());
    works(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_on_the_way_is_told_with_its_place() {
    let (bastion, target) = (Server::start(), Server::start());
    let locked = Server::with("AllowTcpForwarding no");
    let all = [&bastion, &target, &locked].map(|server| server.known_line("host_ed25519")).concat();
    write(&target, "known_hosts", &all);
    write(&target, "half_known", &target.known_line("host_ed25519"));
    let changed = bastion.known_line("stranger") + &target.known_line("host_ed25519");
    write(&target, "changed", &changed);
    let host = |port: u16, bastion: String, known: &str| {
        let ssh = format!(
            "port: {port}, identityFile: ed25519, knownHostsFile: {known}, configFile: none, bastion: [{bastion}]"
        );
        target.host_with("127.0.0.1", &ssh)
    };
    let at = |server: &Server| format!("'127.0.0.1:{}'", server.port);
    let behind = format!("127.0.0.1:{} cannot be reached because its bastion cannot be entered", target.port);

    let nobody = closed_port();
    let error = fails(&host(target.port, format!("'127.0.0.1:{nobody}'"), "known_hosts")).await.to_string();
    assert!(error.contains(&behind) && error.contains(&format!("cannot connect to 127.0.0.1:{nobody}")), "{error}");

    let error = fails(&host(target.port, at(&bastion), "half_known")).await.to_string();
    assert!(
        error.contains(&behind) && error.contains(&format!("host key of 127.0.0.1:{} is not", bastion.port)),
        "{error}"
    );
    assert!(error.contains("half_known") && error.contains("ssh-keyscan"), "{error}");

    let error = fails(&host(target.port, at(&bastion), "changed")).await.to_string();
    assert!(
        error.contains(&behind) && error.contains("changed (now SHA256:") && error.contains("line 1 of"),
        "{error}"
    );

    let stranger = format!("{{address: 127.0.0.1, port: {}, identityFile: stranger}}", bastion.port);
    let error = fails(&host(target.port, stranger, "known_hosts")).await.to_string();
    assert!(error.contains(&behind) && error.contains("refused user") && error.contains("stranger"), "{error}");

    let error = fails(&host(target.port, at(&locked), "known_hosts")).await;
    assert!(matches!(&error, SshError::ForwardRefused { .. }), "{error}");
    assert!(error.to_string().contains("AllowTcpForwarding"), "{error}");

    let error = fails(&host(closed_port(), at(&bastion), "known_hosts")).await;
    assert!(matches!(&error, SshError::ForwardFailed { .. }), "{error}");
    assert!(error.to_string().contains(&format!("the bastion 127.0.0.1:{} cannot connect", bastion.port)), "{error}");

    // the target's own key, seen through the bastion
    write(&target, "known_hosts", &(bastion.known_line("host_ed25519") + &target.known_line("stranger")));
    let error = fails(&host(target.port, at(&bastion), "known_hosts")).await;
    assert!(matches!(&error, SshError::HostKeyChanged { line: 2, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn proxy_commands() {
    let (bastion, target) = (Server::start(), Server::start());
    write(&target, "known_hosts", &[bastion.known_line("host_ed25519"), target.known_line("host_ed25519")].concat());
    let d = target.directory.path().display();
    let config = |command: &str| {
        let text = format!(
            "Host *\n User {}\n IdentityFile {d}/ed25519\n UserKnownHostsFile {d}/known_hosts\n ProxyCommand {command}\n",
            me()
        );
        write(&target, "ssh_config", &text);
    };
    let host = target.host_with("127.0.0.1", &format!("configFile: ssh_config, port: {}", target.port));
    config(&format!(
        "ssh -F none -i {d}/rsa -o UserKnownHostsFile={d}/known_hosts -p {} -W %h:%p {}@127.0.0.1",
        bastion.port,
        me()
    ));
    works(&host).await;
    assert_eq!(bastion.log().matches("Accepted publickey").count(), 1);
    config("sh -c 'echo no way today >&2; exit 1'");
    let error = fails(&host).await.to_string();
    assert!(error.contains("no way today") && error.contains("echo no way"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_and_keys_that_are_accepted_once() {
    let server = Server::prepared(IpAddr::V6(Ipv6Addr::LOCALHOST), "", |_| Command::new(SSHD));
    let unknown = server.connect("ed25519", "").await.err().unwrap().to_string();
    assert!(unknown.contains(&format!("[::1]:{}", server.port)), "{unknown}");
    works(&server.host("ed25519", ", hostKeyChecking: accept-new")).await;
    works(&server.host("ed25519", "")).await;
    // what was remembered is what the real client looks for
    let known = server.path("known_hosts");
    let said = run(Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o"])
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .arg("-i")
        .arg(server.path("ed25519"))
        .args(["-p", &server.port.to_string(), &format!("{}@::1", me()), "echo known"]));
    assert_eq!(said, "known\n");
    // in brackets, and by a bastion that stands in brackets too
    let ssh = format!(
        "port: {0}, identityFile: ed25519, knownHostsFile: known_hosts, configFile: none, bastion: '[::1]:{0}'",
        server.port
    );
    works(&server.host_with("[::1]", &ssh)).await;
}
