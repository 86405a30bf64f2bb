//! `kinstall adopt user@control-plane`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hoststate::HostManifest;
use hoststate::bundle::BundleManifest;
use serde_json::json;

use super::copy::Copy;
use crate::cli::adopt::Adopt;
use crate::cli::{Global, Output};
use crate::cluster::{Cluster, Host, Said};
use crate::commands::fleet::{self, Fleet};
use crate::commands::{ADMIN_KUBECONFIG, Ended, Run};
use crate::desired::{Inputs, Topology, admin_kubeconfig};
use crate::host::{self, Executable, Uploads};
use crate::printer::Printer;
use crate::state::applied::{Applied, AppliedHost};
use crate::state::pki::Pki;
use crate::state::{StateDir, write_private};

const CONNECT: Duration = Duration::from_secs(15);

pub async fn run(printer: &Printer, arguments: &Adopt) -> anyhow::Result<Ended> {
    printer.phase("connecting");
    let (copy, manifest) = fetch(arguments).await?;
    ensure!(
        copy.cluster.id == manifest.cluster.id,
        "the copy on this host is of another cluster than the host itself; try another control plane"
    );
    let missing = copy.missing();
    let directory = &arguments.directory;
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let directory = std::path::absolute(directory)?;
    let state = StateDir::at(&directory, &copy.cluster.name);
    if state.exists() && state.identity()?.id != copy.cluster.id {
        bail!(
            "{} holds the keys of another cluster of this name; name another directory with --out",
            state.path().display()
        );
    }
    let inventory = directory.join("inventory.yaml");
    let mut left = Vec::new();
    if !write_if_missing(&inventory, copy.inventory.as_bytes())? {
        left.push("inventory.yaml".to_owned());
    }
    state.create()?;
    let files: BTreeMap<String, Vec<u8>> =
        copy.files.iter().map(|(name, text)| (name.clone(), text.clone().into_bytes())).collect();
    let here = state.files()?;
    left.extend(
        files
            .iter()
            .filter(|(name, bytes)| here.get(*name).is_some_and(|own| own != *bytes))
            .map(|(name, _)| name.clone()),
    );
    let new: BTreeMap<_, _> = files.into_iter().filter(|(name, _)| !here.contains_key(name)).collect();
    let brought = new.len();
    state.put(&new)?;
    for name in &left {
        printer.warning(&format!("{name} is here already and differs from the copy: yours was left as it is"));
    }
    for name in &missing {
        printer
            .warning(&format!("{name} is not in the copy{}", if here.contains_key(*name) { ", but here" } else { "" }));
    }
    if missing.iter().any(|name| !here.contains_key(*name)) {
        bail!(
            "the copy lacks what only the cluster's first operator had (see above); bring it from a backup before `kinstall up`"
        );
    }

    let global = Global {
        inventory: inventory.clone(),
        output: Output::Text,
        verbose: 0,
        quiet: false,
        no_color: false,
        yes: true,
    };
    let run = Run::locked(&global, printer, "adopt")?;
    let reached = look_around(&run, &copy, &manifest).await?;
    let text = format!(
        "cluster {}: {brought} files brought back to {}; {reached} of {} hosts answer\nsee `kinstall plan -i {}`",
        copy.cluster.name,
        state.path().display(),
        run.cluster.hosts.len(),
        inventory.display()
    );
    let summary = json!({
        "event": "summary", "ok": true, "cluster": copy.cluster, "files": brought, "left": left, "hosts": reached,
        "inventory": inventory,
    });
    printer.result(&text, &summary);
    Ok(Ended::Done)
}

/// The copy and the record of the host that has it.
async fn fetch(arguments: &Adopt) -> anyhow::Result<(Copy, HostManifest)> {
    let host = target(arguments)?;
    let transport = host::connect(&host, CONNECT).await?;
    let uploads = Uploads::new(1, &());
    let session = host::open_session(&host, transport, Executable::Installed(None), &uploads).await?;
    let Some(mut session) = session else { bail!("{}: kinstall is not on this host", host.address) };
    let read = async {
        let manifest = session.manifest().await?;
        let kept = session.kept().await?;
        anyhow::Ok((kept, manifest))
    };
    let read = read.await;
    session.close().await;
    let (kept, manifest) = read?;
    let manifest = manifest.with_context(|| format!("{}: kinstall is not on this host", host.address))?;
    let kept = kept.with_context(|| {
        format!(
            "{}: no copy of the operator's files is on this host; name a control plane on which `kinstall up` came to its end",
            host.address
        )
    })?;
    Ok((Copy::parse(&kept)?, manifest))
}

/// As an inventory would describe it: its defaults are the same.
fn target(arguments: &Adopt) -> anyhow::Result<Host> {
    let (user, address) = &arguments.target;
    let absolute = |path: &Option<std::path::PathBuf>| path.as_ref().map(std::path::absolute).transpose();
    let inventory = json!({
        "cluster": "adopted",
        "ssh": {
            "user": user,
            "port": arguments.port,
            "identityFile": absolute(&arguments.ssh_key)?,
            "knownHostsFile": absolute(&arguments.known_hosts)?,
            "hostKeyChecking": arguments.accept_new.then_some("accept-new"),
            "sudo": {"passwordFile": absolute(&arguments.sudo_password_file)?},
        },
        "hosts": [{"name": "control-plane", "address": address, "nodeAddress": "192.0.2.1", "role": "controlPlane"}],
    });
    let cluster = Cluster::parse(&inventory.to_string(), "the command line", Path::new("/"))?;
    let mut host = cluster.hosts.into_iter().next().context("no host is named")?;
    host.ssh.said = Said::ByOptions;
    Ok(host)
}

/// Makes anew what the copy does not hold: the administrator's kubeconfig, and the record of what was applied, from the hosts that
/// answer. Gives how many do.
async fn look_around(run: &Run<'_>, copy: &Copy, manifest: &HostManifest) -> anyhow::Result<usize> {
    let pki = Pki::load_or_create(&run.state, &run.cluster)?;
    let bundle = BundleManifest {
        format: 1,
        kubernetes: manifest.kubernetes.clone(),
        version: manifest.version.clone(),
        arch: String::new(),
        files: Vec::new(),
        images: Vec::new(),
    };
    let inputs = Inputs {
        cluster: &run.cluster,
        identity: &copy.cluster,
        pki: &pki,
        bundle: &bundle,
        topology: &Topology::default(),
    };
    run.state.write_bytes(ADMIN_KUBECONFIG, admin_kubeconfig(inputs)?.as_bytes())?;
    let fleet = Fleet::new(run);
    let (members, _) = fleet::sort_out(run.printer, fleet.open(run, Executable::Installed(None)).await);
    let hosts: Vec<AppliedHost> = members
        .iter()
        .filter_map(|member| {
            let entries = &member.facts.manifest.as_ref()?.entries;
            let resources = entries.iter().map(|entry| entry.resource.clone()).collect();
            Some(AppliedHost::new(member.host, resources))
        })
        .collect();
    let reached = members.len();
    fleet::close(members).await;
    if Applied::load(&run.state)?.is_none() {
        Applied::update(&run.state, &manifest.version, &copy.cluster, hosts)?;
    }
    Ok(reached)
}

/// Whether it was, or is already the same.
fn write_if_missing(path: &Path, bytes: &[u8]) -> anyhow::Result<bool> {
    match fs::read(path) {
        Ok(found) => Ok(found == bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_private(path, bytes).map(|()| true),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
