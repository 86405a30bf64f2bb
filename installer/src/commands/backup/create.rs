//! `kinstall backup`: everything into one file.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use archive::dump::Checker;
use archive::{About, Contents, FORMAT, Found, INVENTORY, Origin, STATE, STORE, Writer, volumes_of};
use hoststate::backup::Taking;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::{describe, keys};
use crate::cli::backup::BackupCreate;
use crate::commands::fleet::{self, Fleet, Member};
use crate::commands::{Ended, Run};
use crate::host::{Executable, HostError};

type Archive = Writer<File>;

pub async fn run(run: &Run<'_>, arguments: &BackupCreate) -> anyhow::Result<Ended> {
    ensure!(run.state.exists(), "the cluster {:?} is not known here; run `kinstall up` first", run.cluster.name);
    let seal = keys::seal(arguments, run.cluster.backup.as_ref())?;
    let identity = run.state.identity()?;
    let about = About {
        format: FORMAT,
        cluster: Origin { name: identity.name.clone(), id: identity.id.clone() },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created: OffsetDateTime::now_utc().format(&Rfc3339)?,
        made_on: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => default_name(&identity.name)?,
    };
    ensure!(!out.exists(), "{} is there already; name another file with --out", out.display());

    run.printer.phase("connecting");
    let bundle = run.bundle_if_any(arguments.bundled.bundle.as_deref()).await?;
    let fleet = Fleet::new(run);
    let wanted = run.cluster.hosts.iter().filter(|host| host.control_plane || arguments.volumes);
    let opened = fleet.open_some(run, wanted, Executable::Installed(bundle.as_ref())).await;
    let (mut members, complete) = fleet::sort_out(run.printer, opened);
    members.retain(|member| member.facts.manifest.as_ref().is_some_and(|manifest| manifest.cluster.id == identity.id));
    let partial = Partial::create(&out)?;
    let written = async {
        ensure!(
            complete || !arguments.volumes,
            "not every host can be reached, so not every volume; without --volumes one control plane is enough"
        );
        write(run, &fleet, &mut members, partial.open()?, &seal, &about, arguments.volumes).await
    };
    let written = written.await;
    fleet::close(members).await;
    let contents = written?;
    partial.keep(&out)?;
    let text = format!(
        "{}\nwritten to {}",
        describe(&Found { about: about.clone(), contents: contents.clone() }),
        out.display()
    );
    run.printer.result(&text, &json!({"event": "backup", "file": out, "about": about, "contents": contents}));
    Ok(Ended::Done)
}

fn default_name(cluster: &str) -> anyhow::Result<PathBuf> {
    let stamp = OffsetDateTime::now_utc().format(format_description!("[year][month][day]T[hour][minute][second]Z"))?;
    Ok(PathBuf::from(format!("{cluster}-{stamp}.kinstall-backup")))
}

async fn write(
    run: &Run<'_>,
    fleet: &Fleet<'_>,
    members: &mut [Member<'_>],
    file: File,
    seal: &archive::Seal,
    about: &About,
    volumes: bool,
) -> anyhow::Result<Contents> {
    let mut archive = Writer::new(file, seal, about)?;
    let inventory = fs::read(&run.inventory).with_context(|| format!("cannot read {}", run.inventory))?;
    archive.file(INVENTORY, &inventory)?;
    for (name, bytes) in run.state.files()? {
        archive.file(&format!("{STATE}{name}"), &bytes)?;
    }
    run.printer.phase("store");
    store(run, fleet, members, &mut archive).await?;
    if volumes {
        run.printer.phase("volumes, as they are while applications write them");
        for member in members.iter_mut() {
            take(fleet, member, Taking::Volumes, &volumes_of(&member.host.name), &mut archive, |_| Ok(())).await??;
        }
    }
    let (file, contents) = archive.finish()?;
    file.sync_all().context("cannot write the backup")?;
    Ok(contents)
}

/// From the first control plane that can give it.
async fn store(
    run: &Run<'_>,
    fleet: &Fleet<'_>,
    members: &mut [Member<'_>],
    archive: &mut Archive,
) -> anyhow::Result<()> {
    for member in members.iter_mut().filter(|member| member.host.control_plane) {
        let mut checker = zstd::stream::write::Decoder::new(Checker::default())?;
        match take(fleet, member, Taking::Store, STORE, archive, |bytes| checker.write_all(bytes)).await? {
            Ok(()) => {
                checker.flush()?;
                let summary = checker.into_inner().finish().context("the store came incomplete")?;
                archive.store(summary);
                run.printer.event(
                    "store",
                    &format!(
                        "  {}: {} objects at revision {}, tried in a scratch store",
                        member.host.name, summary.objects, summary.revision
                    ),
                    json!({"host": member.host.name, "store": summary}),
                );
                return Ok(());
            }
            Err(error) => fleet::tell(run.printer, &error),
        }
    }
    bail!("no control plane of this cluster gives its store; nothing was written")
}

/// One host's data as a stream. The outer error is ours, and ends the backup; the inner one is the host's, and what came of the
/// stream is then replaced by the next attempt's.
async fn take(
    fleet: &Fleet<'_>,
    member: &mut Member<'_>,
    what: Taking,
    name: &str,
    archive: &mut Archive,
    mut also: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> anyhow::Result<Result<(), HostError>> {
    archive.begin(name);
    let work = member.session.take(what, |bytes| {
        archive.write_all(bytes)?;
        also(bytes)
    });
    let (size, sha256) = match fleet.bounded(member.host, work).await {
        Ok(taken) => taken,
        // what came of it stays in the buffer, or the file has to begin anew
        Err(error) if archive.forget() => return Ok(Err(error)),
        Err(error) => return Err(error.into()),
    };
    let stream = archive.end()?;
    ensure!(
        (stream.size, &stream.sha256) == (size, &sha256),
        "{}: {name} did not come as it was sent; make the backup again",
        member.host.name
    );
    Ok(Ok(()))
}

/// The file under another name until all of it is written; removed unless it is kept.
struct Partial(PathBuf);

impl Partial {
    fn create(out: &Path) -> anyhow::Result<Self> {
        let mut name = out.file_name().context("--out must name a file")?.to_owned();
        name.push(".part");
        Ok(Self(out.with_file_name(name)))
    }

    fn open(&self) -> anyhow::Result<File> {
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.0)
            .with_context(|| format!("cannot write {}", self.0.display()))
    }

    fn keep(self, out: &Path) -> anyhow::Result<()> {
        fs::rename(&self.0, out).with_context(|| format!("cannot write {}", out.display()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
