//! Reaching a host and bringing `kinstall-components` there.
//!
//! It is staged ([`super::stage`]), and is removed again when the session has ended well.

use std::path::Path;
use std::time::Duration;

use hoststate::bundle::BundleFile;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::fetching;
use super::peers::{Fetching, Need, Origin};
use super::probe::probe;
use super::session::Peering;
use super::stage::{self, STAGE};
use super::{HostError, Onlooker, Rights, Session, Uploads, privileged};
use crate::bundle::{Bundle, architecture};
use crate::cluster::Host;
use crate::ssh::{Process, SshClient, Transport};

const CHUNK: usize = 256 * 1024;
/// How often it is sent when it is gone as soon as it is there.
const TRIES: u32 = 3;
const UPLOAD: &str = "upload kinstall-components";
/// Says that another host did not give it.
const UNFETCHED: &str = "KINSTALL unfetched";

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
    let mut found = probe.executable;
    let mut tries = 0..TRIES;
    let process = loop {
        let executable = match (found.take(), components) {
            (Some(path), _) => path,
            (None, Some((bundle, file))) if tries.next().is_some() => {
                check_architecture(host, &probe.arch, bundle)?;
                send_executable(host, transport.as_ref(), rights, bundle, file, &mut peers, uploads).await?
            }
            (None, Some(_)) => {
                return Err(HostError::new(
                    &host.name,
                    "converge",
                    "kinstall-components is removed as soon as it is there",
                )
                .hint("end other installers that work on this host, then run the command again"));
            }
            (None, None) if !probe.manifest => {
                if probe.staged {
                    let script = stage::clean_up(STAGE);
                    privileged::start(host, transport.as_ref(), rights, "clean up", &script).await?.finish().await;
                }
                transport.close().await;
                return Ok(None);
            }
            (None, None) => {
                return Err(HostError::new(&host.name, "probe", "kinstall was here but its executable is gone")
                    .hint("name a bundle with --bundle, so that it can be sent again"));
            }
        };
        if let Some(process) = start_converge(host, transport.as_ref(), rights, &executable, uploads).await? {
            break process;
        }
    };
    Ok(Some(Session::new(host.name.clone(), transport, process, peers)))
}

fn check_architecture(host: &Host, arch: &str, bundle: &Bundle) -> Result<(), HostError> {
    if architecture(arch) == bundle.manifest.arch {
        return Ok(());
    }
    let message = format!("the host is {} but the bundle is for {}", architecture(arch), bundle.manifest.arch);
    Err(HostError::new(&host.name, "probe", message).hint("use a bundle made for this architecture"))
}

/// From here, or from another host that has it. Gives its path there.
async fn send_executable(
    host: &Host,
    transport: &dyn Transport,
    rights: Rights,
    bundle: &Bundle,
    file: &BundleFile,
    peers: &mut Peering,
    uploads: &Uploads<'_>,
) -> Result<String, HostError> {
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
    upload(host, transport, rights, &bundle.blob(&file.sha256), file, peer, uploads).await
}

/// `None`: what was staged is gone again, as another installer's session has just ended.
async fn start_converge(
    host: &Host,
    transport: &dyn Transport,
    rights: Rights,
    executable: &str,
    uploads: &Uploads<'_>,
) -> Result<Option<Process>, HostError> {
    uploads.onlooker().doing(&host.name, "starting converge");
    if !executable.starts_with(STAGE) {
        let script = stage::and_clean_up(STAGE, &format!("{executable} converge"));
        return privileged::start(host, transport, rights, "converge", &script).await.map(Some);
    }
    let script = stage::run(STAGE, executable, "converge");
    let mut process = privileged::start(host, transport, rights, "converge", &script).await?;
    transport.round_trips().add();
    loop {
        match process.line().await {
            Ok(Some(line)) if line.ends_with(stage::CLAIMED) => return Ok(Some(process)),
            Ok(Some(line)) if line.ends_with(stage::GONE) => return Ok(None),
            // what a login shell may print
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                let exit = process.finish().await;
                let message = "the connection to the host ended before converge ran";
                return Err(HostError::exit(&host.name, "converge", message, &exit));
            }
        }
    }
}

/// What commands on this connection may become.
pub(super) async fn rights(host: &Host, transport: &dyn Transport) -> Result<Rights, HostError> {
    let probe = probe(host, transport, None, true).await?;
    Ok(Rights::of(host, probe.uid, probe.elevates))
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
    let target = stage::whole(STAGE, &file.sha256);
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
        target = stage::whole(stage, &file.sha256),
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
        let target = stage::whole(&stage, &file.sha256);
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
}
