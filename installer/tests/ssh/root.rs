//! Users who become root by sudo and doas, and who log in with passwords: real ones, of accounts that are nowhere but in a copy
//! of /etc that the server sees.

use std::path::Path;
use std::process::Command;

use hoststate::sha256_hex;
use kinstall::cluster::{Become, Host, Said, Secret};
use kinstall::host::{self, HostError, Rights};
use kinstall::ssh::{Process, SshClient, SshError, Transport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{Server, TIMEOUT, run};

const PASSWORD: &str = "correct horse";
const USERS: [&str; 7] = ["sudo-asks", "sudo-free", "sudo-not", "sudo-tty", "doas-asks", "doas-free", "doas-not"];
const SUDOERS: &str = "Defaults timestamp_timeout=0, passwd_tries=3\nDefaults:sudo-tty requiretty\n\
    sudo-asks ALL=(ALL) ALL\nsudo-free ALL=(ALL) NOPASSWD: ALL\nsudo-tty ALL=(ALL) NOPASSWD: ALL\n";
const DOAS: &str = "permit sudo-free\npermit doas-asks\npermit nopass doas-free\n";
/// Logins are checked by PAM, without what only a booted system has.
const PAM: &str = "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_permit.so\n";

/// `config`: further lines of sshd_config.
fn server(config: &str) -> Server {
    let config = format!("{config}PermitEmptyPasswords no\n");
    let server = Server::prepared([127, 0, 0, 1].into(), &config, |directory| {
        assert!(nix::unistd::geteuid().is_root(), "this test makes accounts in a namespace of its own: run it as root");
        let etc = directory.join("etc");
        run(Command::new("cp").args(["-a", "/etc"]).arg(&etc));
        let hash = run(Command::new("openssl").args(["passwd", "-6", PASSWORD]));
        for (index, user) in USERS.iter().enumerate() {
            append(&etc.join("passwd"), &format!("{user}:x:{0}:{0}::/:/bin/sh\n", 20_000 + index));
            append(&etc.join("group"), &format!("{user}:x:{}:\n", 20_000 + index));
            append(&etc.join("shadow"), &format!("{user}:{}:19000:0:99999:7:::\n", hash.trim()));
        }
        std::fs::write(directory.join("password"), format!("{PASSWORD}\n")).unwrap();
        for (name, text, mode) in [("sudoers", SUDOERS, "440"), ("doas.conf", DOAS, "600"), ("pam.d/sshd", PAM, "644")]
        {
            let path = etc.join(name);
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, text).unwrap();
            run(Command::new("chmod").arg(mode).arg(&path));
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg(format!("mount --bind {} /etc && exec /usr/sbin/sshd \"$@\"", etc.display())).arg("sshd");
        command
    });
    server.know("host_ed25519");
    server
}

fn append(file: &Path, line: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, text + line).unwrap();
}

fn user(server: &Server, user: &str, more: &str) -> Host {
    let ssh = format!("user: {user}, port: {}, knownHostsFile: known_hosts, configFile: none{more}", server.port);
    server.host_with("127.0.0.1", &ssh)
}

/// Starts a script as root, as the installer does.
async fn start(host: &Host, how: Become, script: &str) -> Result<(SshClient, Process), HostError> {
    let client = SshClient::connect(host, TIMEOUT).await.unwrap_or_else(|error| panic!("{error}"));
    let rights = Rights::of(host, Some(20_000), Some(how));
    let started = tokio::time::timeout(TIMEOUT, host::start_as_root(host, &client, rights, "test", script));
    let process = started.await.expect("it ends in time")?;
    Ok((client, process))
}

/// Everything that a command needs of its streams: bytes of every value both ways, their end, stderr, the exit status.
async fn streams_are_whole(host: &Host, how: Become) {
    let script = "id -u; head -c 3000000 | sha256sum; cat; echo \"last words of $((6 * 7))\" >&2; exit 5";
    let (_client, mut process) = start(host, how, script).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(process.line().await.unwrap().as_deref(), Some("0"));
    let data: Vec<u8> = (0..3_000_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(&data).await.unwrap();
    stdin.write_all(&data[..1000]).await.unwrap();
    stdin.shutdown().await.unwrap();
    assert!(process.line().await.unwrap().unwrap().starts_with(&sha256_hex(&data)));
    let mut rest = Vec::new();
    process.stdout.read_to_end(&mut rest).await.unwrap();
    assert!(rest == data[..1000], "{} bytes came back", rest.len());
    let exit = process.finish().await;
    assert_eq!((exit.status, exit.last_lines(1)), (Some(5), vec!["last words of 42".to_owned()]));
}

async fn refused(host: &Host, how: Become) -> String {
    let Err(error) = start(host, how, "id -u").await else { panic!("this must fail") };
    assert_eq!((error.host.as_str(), error.step.as_str()), ("h1", "test"));
    assert!(error.hint.is_some(), "{error}");
    error.to_string()
}

const KEY: &str = ", identityFile: ed25519";
/// Tests that look at the directory for temporary files take turns.
static PIPES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn sudo_with_and_without_a_password() {
    let server = server("PasswordAuthentication yes\n");
    streams_are_whole(&user(&server, "sudo-free", KEY), Become::Sudo).await;
    streams_are_whole(&user(&server, "sudo-asks", &format!("{KEY}, sudo: {{passwordFile: password}}")), Become::Sudo)
        .await;
    // the password for logging in is the user's, and so is sudo's
    let host = user(
        &server,
        "sudo-asks",
        ", identitiesOnly: true, identityFile: stranger, passwordCommand: 'echo correct horse'",
    );
    streams_are_whole(&host, Become::Sudo).await;

    let none = refused(&user(&server, "sudo-asks", KEY), Become::Sudo).await;
    assert!(
        none.contains("sudo asks for the password of \"sudo-asks\"") && none.contains("ssh.sudo.passwordFile"),
        "{none}"
    );
    let mut host = user(&server, "sudo-asks", &format!("{KEY}, sudo: {{passwordCommand: 'echo wrong'}}"));
    let wrong = refused(&host, Become::Sudo).await;
    assert!(wrong.contains("sudo refused the password of \"sudo-asks\"") && wrong.contains("ssh.sudo"), "{wrong}");
    host.ssh.said = Said::ByOptions;
    let without_inventory = refused(&host, Become::Sudo).await;
    host.ssh.sudo_password = Secret::None;
    for said in [without_inventory, refused(&host, Become::Sudo).await] {
        assert!(said.contains("--sudo-password-file") && !said.contains("inventory"), "{said}");
    }
    let not = user(&server, "sudo-not", &format!("{KEY}, sudo: {{passwordFile: password}}"));
    let not = refused(&not, Become::Sudo).await;
    assert!(not.contains("sudo does not permit this user to become root (user \"sudo-not\")"), "{not}");
    assert!(not.contains("visudo"), "{not}");
    let tty = refused(&user(&server, "sudo-tty", KEY), Become::Sudo).await;
    assert!(tty.contains("wants a terminal") && tty.contains("requiretty"), "{tty}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doas_with_and_without_a_password() {
    let _alone = PIPES.lock().await;
    let server = server("PasswordAuthentication yes\n");
    streams_are_whole(&user(&server, "doas-free", KEY), Become::Doas).await;
    let host = user(&server, "doas-asks", &format!("{KEY}, sudo: {{command: doas, passwordFile: password}}"));
    // sudo is there too; the inventory says which
    streams_are_whole(&host, Become::Sudo).await;
    let left =
        std::fs::read_dir(std::env::temp_dir()).unwrap().flatten().filter(|entry| entry.path().join("i").exists());
    assert_eq!(left.count(), 0, "the pipes are gone");

    let none = refused(&user(&server, "doas-asks", KEY), Become::Doas).await;
    assert!(
        none.contains("doas asks for the password of \"doas-asks\"") && none.contains("ssh.sudo.passwordFile"),
        "{none}"
    );
    let wrong = user(&server, "doas-asks", &format!("{KEY}, sudo: {{passwordCommand: 'echo wrong'}}"));
    let wrong = refused(&wrong, Become::Doas).await;
    assert!(wrong.contains("doas refused the password of \"doas-asks\""), "{wrong}");
    let not = refused(&user(&server, "doas-not", KEY), Become::Doas).await;
    assert!(not.contains("doas does not permit this user to become root (user \"doas-not\")"), "{not}");
    assert!(not.contains("/etc/doas.conf"), "{not}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_a_terminal_for_doas_and_one_without_either() {
    let _alone = PIPES.lock().await;
    let server = server("PermitTTY no\n");
    let mut host = user(&server, "doas-asks", &format!("{KEY}, sudo: {{passwordFile: password}}"));
    let error = refused(&host, Become::Doas).await;
    assert!(error.contains("PermitTTY"), "{error}");
    let client = SshClient::connect(&host, TIMEOUT).await.unwrap();
    for (said, root) in [(Said::InInventory, "ssh.user"), (Said::ByOptions, "root@HOST")] {
        host.ssh.said = said;
        let error = host::start_as_root(&host, &client, Rights::None, "test", "id").await.err().unwrap().to_string();
        assert!(error.contains("neither sudo nor doas") && error.contains(root), "{error}");
    }
    let mut process = host::start_as_root(&host, &client, Rights::Root, "test", "id -un").await.unwrap();
    assert_eq!(process.line().await.unwrap().as_deref(), Some("doas-asks"));
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_asked_for_in_both_ways() {
    let only = ", identitiesOnly: true, identityFile: stranger";
    let direct = server("PasswordAuthentication yes\n");
    let asking = server("UsePAM yes\nKbdInteractiveAuthentication yes\n");
    let both = server("PasswordAuthentication yes\nAuthenticationMethods publickey,password\n");
    for (server, keys) in [(&direct, only), (&asking, only), (&both, KEY)] {
        let host = user(server, "sudo-free", &format!("{keys}, passwordFile: password"));
        let client =
            SshClient::connect(&host, TIMEOUT).await.unwrap_or_else(|error| panic!("{error}\n{}", server.log()));
        let mut process = client.start("id -un").await.unwrap();
        assert_eq!(process.line().await.unwrap().as_deref(), Some("sudo-free"));
        let wrong = user(server, "sudo-free", &format!("{keys}, passwordCommand: 'echo wrong'"));
        let wrong = SshClient::connect(&wrong, TIMEOUT).await.err().unwrap();
        assert!(matches!(&wrong, SshError::Refused { tried, .. } if tried.contains("password")), "{wrong}");
    }
    let half = SshClient::connect(&user(&both, "sudo-free", KEY), TIMEOUT).await.err().unwrap().to_string();
    assert!(half.contains("good, but not enough") && half.contains("which takes: password"), "{half}");
}
