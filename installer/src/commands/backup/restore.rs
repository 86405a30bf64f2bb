//! `kinstall restore`: hosts are given what the backup holds, then `up` goes its usual way.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use archive::dump::Checker;
use archive::{Contents, Found, INVENTORY, STATE, STORE, VOLUMES, volumes_of};
use futures::future::join_all;
use hoststate::backup::{Blob, Placement};
use hoststate::resource::ClusterRef;
use serde_json::json;
use tempfile::TempDir;

use super::{describe, keys, open};
use crate::cli::backup::Restore;
use crate::cli::{Global, Up};
use crate::cluster::{Cluster, Host};
use crate::commands::fleet::{self, Fleet, Member};
use crate::commands::{Ended, Run, ask, up};
use crate::host::{Executable, Payload};
use crate::printer::Printer;
use crate::state::StateDir;

pub async fn run(global: &Global, printer: &Printer, arguments: &Restore) -> anyhow::Result<Ended> {
    let unseal = keys::unseal(&arguments.opening)?;
    let opened = Opened::new(&arguments.file, &unseal, &global.inventory)?;
    let Found { about, contents } = &opened.found;
    printer.event("backup", &describe(&opened.found), json!({"about": about, "contents": contents}));
    ensure!(contents.store.is_some(), "there is no store in this backup");

    let cluster = opened.inventory(&global.inventory)?;
    if cluster.external_etcd.is_some() {
        printer.warning(
            "the store goes into the etcd that the inventory names, which must have none of this cluster: nothing there is removed",
        );
    }
    let state = StateDir::at(&cluster.directory, &cluster.name);
    refuse_other(&state, &opened.found)?;
    let action = format!(
        "replaces the store of the cluster {:?} on {} hosts by the one of {}{}",
        cluster.name,
        cluster.hosts.len(),
        about.created,
        if opened.has_volumes() && !arguments.no_volumes { ", and volumes by those of the backup" } else { "" }
    );
    ask::confirm(global.yes, &cluster.name, &action)?;
    let mut run = Run::locked(global, printer, "restore")?;
    run.restored = true;
    let bundle = run.bundle(arguments.bundled.bundle.as_deref()).await?;
    crate::commands::plan::check_bundle(&bundle, &run.cluster)?;
    run.state.replace(&opened.state()?)?;
    let identity = run.state.identity()?;

    printer.phase("connecting");
    let fleet = Fleet::new(&run);
    let (mut members, all) = fleet::sort_out(printer, fleet.open(&run, Executable::Of(&bundle)).await);
    // what hosts have of a store is put aside: it decides nothing
    members.iter_mut().for_each(|member| member.facts.store = hoststate::facts::StoreFacts::default());
    let refused = match (all, fleet::preflight(&run, &identity.id, &members)) {
        (false, _) => Some("every host must be reached for a restore"),
        (true, true) if !arguments.ignore_preflight => {
            Some("preflight found errors (--ignore-preflight goes on all the same)")
        }
        _ => None,
    };
    if let Some(refused) = refused {
        fleet::close(members).await;
        bail!("{refused}; nothing was changed on hosts");
    }
    printer.phase("bringing the backup's data to its place");
    let placed = place_all(&run, &fleet, members, &opened, &identity, &bundle.manifest.version, arguments).await;
    if !placed {
        bail!("not every host could be given its data; mend what is told above and run `kinstall restore` again");
    }
    drop(opened);
    let arguments = Up {
        bundled: arguments.bundled.clone(),
        ignore_preflight: arguments.ignore_preflight,
        no_validate: arguments.no_validate,
        timeline: None,
    };
    up::run(&run, &arguments).await
}

/// A backup whose every part was checked, unpacked where only its owner reads. Removed at the end.
struct Opened {
    found: Found,
    directory: TempDir,
}

impl Opened {
    /// Beside the inventory: there is room for the state directory, too, and who may read that may read this.
    fn new(file: &Path, unseal: &archive::Unseal, inventory: &Path) -> anyhow::Result<Self> {
        let beside = match inventory.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let directory = tempfile::Builder::new()
            .prefix(".kinstall-restore-")
            .tempdir_in(beside)
            .with_context(|| format!("cannot unpack the backup in {}", beside.display()))?;
        let found = open(file, |input| archive::extract(input, unseal, directory.path()))?;
        let opened = Self { found, directory };
        if opened.found.contents.store.is_some() {
            opened.check_store().with_context(|| format!("the backup {} cannot be used", file.display()))?;
        }
        Ok(opened)
    }

    fn check_store(&self) -> anyhow::Result<()> {
        let mut checker = Checker::default();
        let mut dump = zstd::Decoder::new(fs::File::open(self.directory.path().join(STORE))?)?;
        std::io::copy(&mut dump, &mut checker).context("the store in it is damaged")?;
        let summary = checker.finish().context("the store in it is not whole")?;
        ensure!(self.found.contents.store == Some(summary), "the store in it is not the one that it names");
        Ok(())
    }

    fn has_volumes(&self) -> bool {
        self.found.contents.streams.keys().any(|name| name.starts_with(VOLUMES))
    }

    /// The inventory that is there, else the backup's, which is written there.
    fn inventory(&self, path: &Path) -> anyhow::Result<Cluster> {
        if !path.exists() {
            let text =
                fs::read(self.directory.path().join(INVENTORY)).context("there is no inventory in this backup")?;
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(|| format!("cannot write {}", path.display()))?;
            file.write_all(&text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let cluster = Cluster::load(path)?;
        let name = &self.found.about.cluster.name;
        ensure!(
            cluster.name == *name,
            "{} is the inventory of the cluster {:?}, but this is a backup of {name:?}; name the right one with -i",
            path.display(),
            cluster.name
        );
        Ok(cluster)
    }

    /// The state directory's files, but what was applied to which host: that was to hosts which may be no more, or are as others
    /// left them.
    fn state(&self) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let names = self.found.contents.streams.keys().filter_map(|name| Some((name, name.strip_prefix(STATE)?)));
        let names = names.filter(|(_, inside)| *inside != "applied.json");
        names
            .map(|(name, inside)| {
                let bytes =
                    fs::read(self.directory.path().join(name)).with_context(|| format!("cannot read {name}"))?;
                Ok((inside.to_owned(), bytes))
            })
            .collect()
    }

    fn payload(&self, name: &str) -> Option<Payload> {
        let Contents { streams, .. } = &self.found.contents;
        let stream = streams.get(name)?;
        let blob = Blob { sha256: stream.sha256.clone(), size: stream.size };
        Some(Payload { blob, path: self.directory.path().join(name) })
    }
}

/// A state directory that is there must be this cluster's.
fn refuse_other(state: &StateDir, found: &Found) -> anyhow::Result<()> {
    if state.exists() && state.identity()?.id != found.about.cluster.id {
        bail!(
            "{} holds the keys of another cluster of this name; move it away, or restore with an inventory in another directory",
            state.path().display()
        );
    }
    Ok(())
}

async fn place_all(
    run: &Run<'_>,
    fleet: &Fleet<'_>,
    members: Vec<Member<'_>>,
    opened: &Opened,
    identity: &ClusterRef,
    version: &str,
    arguments: &Restore,
) -> bool {
    tell_homeless(run, opened, arguments);
    let first = run.cluster.control_planes().next().map(|host| host.name.clone());
    let first = &first;
    let placing = members.into_iter().map(|mut member| async move {
        let host: &Host = member.host;
        let line = run.printer.host(&host.name);
        // several control planes move it into their etcd from there
        let store = opened.payload(STORE).filter(|_| first.as_ref() == Some(&host.name));
        let volumes = opened.payload(&volumes_of(&host.name)).filter(|_| !arguments.no_volumes);
        let placement = Placement {
            cluster: identity.clone(),
            host: host.name.clone(),
            version: version.to_owned(),
            store: store.as_ref().map(|payload| payload.blob.clone()),
            volumes: volumes.as_ref().map(|payload| payload.blob.clone()),
        };
        let payloads: Vec<Payload> = store.into_iter().chain(volumes).collect();
        line.doing("sending");
        let work = member.session.place(&placement, &payloads, &fleet.uploads, |event| line.seen(event));
        let result = fleet.bounded(host, work).await;
        member.session.close().await;
        match &result {
            Ok(_) => line.done("has its data"),
            Err(error) => {
                line.failed(&error.message);
                fleet::tell(run.printer, error);
            }
        }
        result.is_ok()
    });
    join_all(placing).await.into_iter().all(|good| good)
}

/// Volumes of hosts that the inventory does not name.
fn tell_homeless(run: &Run<'_>, opened: &Opened, arguments: &Restore) {
    let hosts = opened
        .found
        .contents
        .streams
        .keys()
        .filter_map(|name| name.strip_prefix(VOLUMES).and_then(|name| name.strip_suffix(".tar.zst")));
    for host in hosts.filter(|host| !arguments.no_volumes && run.cluster.hosts.iter().all(|known| known.name != *host))
    {
        let text = format!("the volumes of {host} are not restored: the inventory names no host {host}");
        run.printer.warning(&text);
    }
}
