//! Reaching a host and bringing `kinstall-components` there.
//!
//! It is staged in a directory of root below `/var/lib`, where nobody else can put a file of that name first, and is removed
//! again when the session has ended well.

use std::path::Path;
use std::time::Duration;

use hoststate::bundle::BundleFile;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::fetching;
use super::peers::{Fetching, Need, Origin};
use super::session::Peering;
use super::{HostError, Onlooker, Rights, Session, Uploads, privileged};
use crate::bundle::{Bundle, architecture};
use crate::cluster::{Become, Host};
use crate::ssh::{Process, SshClient, Transport};

const STAGE: &str = "/var/lib/kinstall-stage";
const INSTALLED: &str = "/opt/kinstall/current/bin/kinstall-components";
const MANIFEST: &str = "/var/lib/kinstall/manifest.json";
const CHUNK: usize = 256 * 1024;
const UPLOAD: &str = "upload kinstall-components";
/// Says that another host did not give it.
const UNFETCHED: &str = "KINSTALL unfetched";

/// What the probe found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Probe {
    uid: Option<u32>,
    arch: String,
    /// What a user becomes root with.
    elevates: Option<Become>,
    executable: Option<String>,
    /// kinstall was here.
    manifest: bool,
    /// A session that ended badly left its executable.
    staged: bool,
}

pub async fn connect(host: &Host, timeout: Duration) -> Result<Box<dyn Transport>, HostError> {
    match SshClient::connect(host, timeout).await {
        Ok(client) => Ok(Box::new(client)),
        Err(error) => Err(HostError::ssh(&host.name, "connect", &error)),
    }
}

/// Which `kinstall-components` is to do the work.
#[derive(Clone, Copy)]
pub enum Executable<'a> {
    /// Exactly the bundle's.
    Of(&'a Bundle),
    /// The one that is installed there; else the bundle's, if there is a bundle.
    Installed(Option<&'a Bundle>),
}

/// Starts `converge`, after the executable was brought there if it is not there. `None`: with [`Executable::Installed`] and no
/// bundle, on a host where kinstall is not.
pub async fn open_session(
    host: &Host,
    transport: Box<dyn Transport>,
    wanted: Executable<'_>,
    uploads: &Uploads<'_>,
) -> Result<Option<Session>, HostError> {
    let failed = |error: anyhow::Error| HostError::new(&host.name, "probe", format!("{error:#}"));
    let bundle = match wanted {
        Executable::Of(bundle) => Some(bundle),
        Executable::Installed(bundle) => bundle,
    };
    let components = bundle.map(|bundle| bundle.components().map(|file| (bundle, file))).transpose().map_err(failed)?;
    let exact = matches!(wanted, Executable::Of(_));
    uploads.onlooker().doing(&host.name, "looking for kinstall");
    let probe = probe(host, transport.as_ref(), components.map(|(_, file)| file.sha256.as_str()), exact).await?;
    let rights = Rights::of(host, probe.uid, probe.elevates);
    let same_version = |(bundle, _): &(&Bundle, _)| bundle.manifest.version == env!("CARGO_PKG_VERSION");
    let mut peers = Peering { able: exact && components.as_ref().is_some_and(same_version), ..Peering::default() };
    let executable = match (probe.executable, components) {
        (Some(path), _) => path,
        (None, Some((bundle, file))) => {
            if architecture(&probe.arch) != bundle.manifest.arch {
                let message =
                    format!("the host is {} but the bundle is for {}", architecture(&probe.arch), bundle.manifest.arch);
                return Err(
                    HostError::new(&host.name, "probe", message).hint("use a bundle made for this architecture")
                );
            }
            uploads.onlooker().doing(&host.name, "waiting to be sent kinstall-components");
            let origin = match peers.able {
                true => uploads.peers().origin(&host.name, &file.sha256, Need::Executable).await,
                false => uploads.peers().directly(),
            };
            let peer = match origin {
                Origin::Peer(fetching) => Some(fetching),
                Origin::Operator(sending) => {
                    peers.arriving = Some(sending);
                    None
                }
            };
            upload(host, transport.as_ref(), rights, &bundle.blob(&file.sha256), file, peer, uploads).await?
        }
        (None, None) if !probe.manifest => {
            if probe.staged {
                privileged::start(host, transport.as_ref(), rights, "clean up", &clean_up(STAGE)).await?.finish().await;
            }
            transport.close().await;
            return Ok(None);
        }
        (None, None) => {
            return Err(HostError::new(&host.name, "probe", "kinstall was here but its executable is gone")
                .hint("name a bundle with --bundle, so that it can be sent again"));
        }
    };
    let script = format!("{executable} converge; s=$?; if [ $s -eq 0 ]; then {}; fi; exit $s", clean_up(STAGE));
    uploads.onlooker().doing(&host.name, "starting converge");
    let process = privileged::start(host, transport.as_ref(), rights, "converge", &script).await?;
    Ok(Some(Session::new(host.name.clone(), transport, process, peers)))
}

/// Removes what was staged, but not what another installer uploads at this moment: one that was killed goes on with its work on the
/// host, and ends it while the next one has come already.
fn clean_up(stage: &str) -> String {
    format!(
        "for t in {stage}/*; do case $t in */tmp.*) [ -e \"/proc/${{t##*.}}\" ] && continue;; esac; rm -f \"$t\"; done; \
         rmdir {stage} 2>/dev/null || :"
    )
}

/// What commands on this connection may become.
pub(super) async fn rights(host: &Host, transport: &dyn Transport) -> Result<Rights, HostError> {
    let probe = probe(host, transport, None, true).await?;
    Ok(Rights::of(host, probe.uid, probe.elevates))
}

/// One script for all that must be known before: who we are, the architecture, which executable is there.
async fn probe(host: &Host, transport: &dyn Transport, sha256: Option<&str>, exact: bool) -> Result<Probe, HostError> {
    let mut script = format!(
        "echo; echo KINSTALL uid $(id -u); echo KINSTALL arch $(uname -m); \
         for c in sudo doas; do if command -v $c >/dev/null 2>&1; then echo KINSTALL elevates $c; break; fi; done; \
         if [ -e {MANIFEST} ]; then echo KINSTALL manifest; fi; if [ -e {STAGE} ]; then echo KINSTALL staged; fi; "
    );
    if !exact {
        script.push_str(&format!("if [ -x {INSTALLED} ]; then echo KINSTALL executable {INSTALLED}; exit 0; fi; "));
    }
    if let Some(sha256) = sha256 {
        script.push_str(&finding(&[INSTALLED, &staged(STAGE, sha256)], sha256));
    }
    let command = format!("sh -c '{script}'");
    let mut process = transport.start(&command).await.map_err(|error| HostError::ssh(&host.name, "probe", &error))?;
    let mut lines = Vec::new();
    while let Ok(Some(line)) = process.line().await {
        lines.push(line);
    }
    let exit = process.finish().await;
    let probe = parse(&lines);
    if probe.uid.is_none() {
        let mut error =
            HostError::exit(&host.name, "probe", "the host did not run the probe; its user needs a shell", &exit);
        error.command = Some(command);
        return Err(error);
    }
    Ok(probe)
}

/// Says which of these is the executable of this digest. It tells its own fastest: few hosts' sha256sum uses what the processor has
/// for that. An older one does not know how to.
fn finding(places: &[&str], sha256: &str) -> String {
    format!(
        "for f in {}; do if [ -x $f ] && {{ [ \"$($f converge --digest 2>/dev/null)\" = {sha256} ] || \
         echo \"{sha256}  $f\" | sha256sum -c >/dev/null 2>&1; }}; then echo KINSTALL executable $f; exit 0; fi; done",
        places.join(" ")
    )
}

fn parse(lines: &[String]) -> Probe {
    let mut probe = Probe::default();
    for line in lines {
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["KINSTALL", "uid", uid] => probe.uid = uid.parse().ok(),
            ["KINSTALL", "arch", arch] => probe.arch = (*arch).to_owned(),
            ["KINSTALL", "elevates", "sudo"] => probe.elevates = Some(Become::Sudo),
            ["KINSTALL", "elevates", "doas"] => probe.elevates = Some(Become::Doas),
            ["KINSTALL", "manifest"] => probe.manifest = true,
            ["KINSTALL", "staged"] => probe.staged = true,
            ["KINSTALL", "executable", path] => probe.executable = Some((*path).to_owned()),
            _ => {}
        }
    }
    probe
}

/// Brings the executable into a temporary file, from here or from another host, lets the host verify it, then renames it. What
/// is told to the host about another one goes by stdin: nobody else can see it.
async fn upload(
    host: &Host,
    transport: &dyn Transport,
    rights: Rights,
    source: &Path,
    file: &BundleFile,
    peer: Option<Fetching>,
    uploads: &Uploads<'_>,
) -> Result<String, HostError> {
    let target = staged(STAGE, &file.sha256);
    let script = receiving(STAGE, file);
    let mut process = privileged::start(host, transport, rights, UPLOAD, &script).await?;
    let sent = match peer {
        None => send(host, source, &mut process, "-\n", uploads).await,
        Some(fetching) => fetched(host, source, file, &mut process, fetching, uploads).await,
    };
    let exit = process.finish().await;
    // the host has compared the digest: that it had ended before we were told that all was sent is no failure
    if exit.ok() {
        return Ok(target);
    }
    let mut message = "the executable did not arrive whole".to_owned();
    if let Err(error) = sent {
        message.push_str(&format!(": cannot send {}: {error}", source.display()));
    }
    let error = HostError::exit(&host.name, UPLOAD, &message, &exit);
    Err(if exit.stderr.contains("No space left on device") {
        error.hint("the disk is full: free some space below /var/lib, then run the command again")
    } else {
        error
    })
}

fn staged(stage: &str, sha256: &str) -> String {
    format!("{stage}/{}", &sha256[..12])
}

/// Reads one line, `-` or a [`fetching::line`]; then the executable, unless it came from where the line says.
fn receiving(stage: &str, file: &BundleFile) -> String {
    format!(
        "set -e; umask 022; t={stage}/tmp.$$; \
         mkdir -p {stage}; touch $t 2>/dev/null || {{ mkdir -p {stage}; touch $t; }}; trap \"rm -f $t; rmdir {stage} 2>/dev/null || :\" EXIT; \
         same() {{ echo \"{sha256}  $t\" | sha256sum -c >/dev/null 2>&1; }}; read -r f; \
         if [ \"$f\" = - ] || ! {{ {fetch} && same; }}; then [ \"$f\" = - ] || echo {UNFETCHED}; head -c {size} > $t; same; fi; \
         chmod 755 $t; mv -f $t {target}",
        size = file.size,
        sha256 = file.sha256,
        fetch = fetching::script(&file.sha256, file.size),
        target = staged(stage, &file.sha256),
    )
}

/// The executable, after what is to be said `before` it.
async fn send(
    host: &Host,
    source: &Path,
    process: &mut Process,
    before: &str,
    uploads: &Uploads<'_>,
) -> std::io::Result<()> {
    let _permit = uploads.acquire().await.map_err(std::io::Error::other)?;
    uploads.onlooker().doing(&host.name, "send kinstall-components");
    let upload = Upload { host: &host.name, what: "kinstall-components", onlooker: uploads.onlooker() };
    let stdin = process.stdin.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?;
    stdin.write_all(before.as_bytes()).await?;
    send_file(source, stdin, upload, |bytes| uploads.peers().sent(bytes)).await
}

/// The same from another host; where that is in vain, from here.
async fn fetched(
    host: &Host,
    source: &Path,
    file: &BundleFile,
    process: &mut Process,
    fetching: Fetching,
    uploads: &Uploads<'_>,
) -> std::io::Result<()> {
    uploads.onlooker().doing(&host.name, &format!("fetch kinstall-components from {}", fetching.from));
    let line = fetching::line(fetching.address, uploads.peers().token());
    let stdin = process.stdin.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?;
    stdin.write_all(line.as_bytes()).await?;
    stdin.flush().await?;
    loop {
        match process.line().await? {
            Some(line) if line.ends_with(UNFETCHED) => {
                uploads
                    .onlooker()
                    .note(&host.name, &format!("kinstall-components did not come from {}", fetching.from));
                fetching.failed();
                return send(host, source, process, "", uploads).await;
            }
            Some(_) => {}
            None => {
                fetching.done(file.size);
                return Ok(());
            }
        }
    }
}

/// What is sent whereto, for who looks on.
#[derive(Clone, Copy)]
pub(super) struct Upload<'a> {
    pub host: &'a str,
    pub what: &'a str,
    pub onlooker: &'a dyn Onlooker,
}

/// Copies a file to a command's stdin; tells `went` how many bytes more have gone.
pub(super) async fn send_file(
    source: &Path,
    stdin: &mut (dyn AsyncWrite + Send + Unpin),
    upload: Upload<'_>,
    went: impl Fn(u64),
) -> std::io::Result<()> {
    let mut file = tokio::fs::File::open(source).await?;
    let total = file.metadata().await?.len();
    let mut chunk = vec![0; CHUNK];
    let mut sent = 0;
    loop {
        let read = file.read(&mut chunk).await?;
        if read == 0 {
            stdin.flush().await?;
            return Ok(());
        }
        stdin.write_all(&chunk[..read]).await?;
        sent += read as u64;
        went(read as u64);
        upload.onlooker.sent(upload.host, upload.what, sent, total);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::SocketAddr;

    use hoststate::sha256_hex;

    use super::*;

    #[test]
    fn cleaning_up_leaves_what_is_being_uploaded() -> std::io::Result<()> {
        let directory = tempfile::tempdir()?;
        let stage = directory.path().join("stage");
        std::fs::create_dir(&stage)?;
        let uploading = stage.join(format!("tmp.{}", std::process::id()));
        // no process has this number
        let left = stage.join("tmp.999999999");
        let executable = stage.join("0123456789ab");
        for file in [&uploading, &left, &executable] {
            std::fs::write(file, "")?;
        }
        let script = clean_up(&stage.display().to_string());
        let clean = || std::process::Command::new("sh").args(["-c", &script]).status();
        assert!(clean()?.success());
        assert!(uploading.exists() && !left.exists() && !executable.exists());
        std::fs::remove_file(uploading)?;
        assert!(clean()?.success() && !stage.exists());
        assert!(clean()?.success(), "nothing is there");
        Ok(())
    }

    /// A host that has `blob` and gives it, or less of it, to who proves to know the token.
    fn gives(blob: &'static [u8], gives: usize) -> std::io::Result<SocketAddr> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let serve = move |stream: std::net::TcpStream| -> std::io::Result<()> {
            let mut stream = BufReader::new(stream);
            stream.get_mut().write_all(b"nonce\n")?;
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let sha256 = sha256_hex(blob);
            let inner = sha256_hex(format!("{TOKEN}nonce{sha256}").as_bytes());
            let proof = sha256_hex(format!("{TOKEN}{inner}").as_bytes());
            let asked = line == format!("whole {sha256} {proof}\n");
            stream.get_mut().write_all(if asked { &blob[..gives] } else { b"refused" })
        };
        // who only looks whether it is there goes again
        std::thread::spawn(move || listener.incoming().flatten().map(serve).filter(Result::is_err).count());
        Ok(address)
    }

    const TOKEN: &str = "secret";

    #[test]
    fn the_executable_comes_from_another_host_or_as_before() -> std::io::Result<()> {
        const BLOB: &[u8] = b"\0what both\nhave";
        let directory = tempfile::tempdir()?;
        let stage = directory.path().join("stage").display().to_string();
        let file =
            BundleFile { path: "components".into(), mode: 0o755, sha256: sha256_hex(BLOB), size: BLOB.len() as u64 };
        let target = staged(&stage, &file.sha256);
        let script = receiving(&stage, &file);
        assert!(!script.contains('\''), "it is put in single quotes");
        // what is read, what follows it, and whether that was needed
        let nobody = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let cases = [
            ("-\n".to_owned(), BLOB, false),
            (fetching::line(gives(BLOB, BLOB.len())?, TOKEN), b"".as_slice(), false),
            (fetching::line(gives(BLOB, BLOB.len())?, "guessed"), BLOB, true),
            (fetching::line(gives(BLOB, 4)?, TOKEN), BLOB, true),
            (fetching::line(nobody, TOKEN), BLOB, true),
        ];
        for (line, then, unfetched) in cases {
            let mut shell = std::process::Command::new("sh")
                .args(["-c", &script])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()?;
            let Some(mut stdin) = shell.stdin.take() else { panic!("no stdin") };
            stdin.write_all(&[line.as_bytes(), then].concat())?;
            drop(stdin);
            let ended = shell.wait_with_output()?;
            assert!(ended.status.success(), "{line}");
            assert_eq!(String::from_utf8_lossy(&ended.stdout).contains(UNFETCHED), unfetched, "{line}");
            assert_eq!(std::fs::read(&target)?, BLOB, "{line}");
            std::fs::remove_file(&target)?;
        }
        Ok(())
    }

    #[test]
    fn the_executable_is_known_by_what_it_says_or_by_its_bytes() -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir()?;
        let put = |name: &str, text: &str| -> std::io::Result<String> {
            let path = directory.path().join(name);
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
            Ok(path.display().to_string())
        };
        let wanted = "ab".repeat(32);
        let tells = put("tells", &format!("#!/bin/sh\n[ \"$*\" = \"converge --digest\" ] && echo {wanted}\n"))?;
        let older = put("older", "#!/bin/sh\necho unexpected argument >&2; exit 2\n")?;
        let other = put("other", "#!/bin/sh\necho 1234\n")?;
        let older_digest = sha256_hex(b"#!/bin/sh\necho unexpected argument >&2; exit 2\n");
        for (places, sha256, found) in [
            (vec![tells.as_str()], &wanted, Some(&tells)),
            (vec![other.as_str(), "/nowhere", &tells], &wanted, Some(&tells)),
            (vec![older.as_str()], &older_digest, Some(&older)),
            (vec![older.as_str(), &other], &wanted, None),
        ] {
            let script = finding(&places, sha256);
            assert!(!script.contains('\''), "it is put in single quotes");
            let output = std::process::Command::new("sh").args(["-c", &script]).output()?;
            let expected = found.map(|path| format!("KINSTALL executable {path}\n")).unwrap_or_default();
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{places:?}");
        }
        Ok(())
    }

    #[test]
    fn the_probe_is_read_through_what_a_login_shell_prints() {
        let lines = ["Welcome to h1!", "", "KINSTALL uid 0", "KINSTALL arch x86_64", "KINSTALL executable /x/y"]
            .map(str::to_owned);
        assert_eq!(
            parse(&lines),
            Probe {
                uid: Some(0),
                arch: "x86_64".into(),
                elevates: None,
                executable: Some("/x/y".into()),
                manifest: false,
                staged: false
            }
        );
        assert_eq!(parse(&["This account is not available".to_owned()]).uid, None);
    }
}
