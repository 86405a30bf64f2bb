//! `kinstall certs rotate-ca`: new authorities for cluster, etcd and front proxy, and a new key of service accounts, while
//! everything runs.
//!
//! | phase | the hosts have | and then |
//! | --- | --- | --- |
//! | trust | both authorities trusted, the old ones' certificates | every namespace's copy has both; pods that read it only at their start are restarted |
//! | issue | the new ones' certificates and keys | kubelets ask anew, once no control plane signs with the old key any more |
//! | finish | only the new ones trusted | |
//!
//! Upstream's order ("Manual Rotation of CA Certificates" at kubernetes.io) with `up`'s means. Which phase it is stands in the
//! state directory; every phase is repeated whole when a run was killed in it.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use certs::Ca;
use futures::future::join_all;
use hoststate::certificates::in_pem;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::runtime::watcher;
use serde_json::{Value, json};

use super::renew::{bring, must_be_applied};
use super::workloads;
use crate::api::Servers;
use crate::cli::CertsRotate;
use crate::commands::fleet::{self, Fleet, Member};
use crate::commands::{Ended, Run};
use crate::host::Executable;
use crate::state::pki::rotation::{Phase, Rotation};
use crate::state::pki::{Kind, Pki, Selection, give_up};

/// Programs in pods read their token again every minute; nothing tells when they have.
const TOKENS_ARE_READ_AGAIN: Duration = Duration::from_secs(75);
/// Another look at certificates that kubelets ask for.
const AGAIN: Duration = Duration::from_secs(2);

pub async fn run(run: &Run<'_>, arguments: &CertsRotate) -> anyhow::Result<Ended> {
    must_be_applied(run)?;
    if !run.yes {
        bail!(
            "`certs rotate-ca` restarts kinstall's components on every host, one control plane after the other; say --yes to do so"
        );
    }
    // what is there is made before it is replaced
    Pki::load_or_create(&run.state, &run.cluster)?;
    let mut under_way = match Rotation::load(&run.state)? {
        Some(rotation) => {
            let text = format!("going on with what was begun at {}", rotation.started);
            run.printer.event("rotation", &text, Value::Null);
            Some(rotation)
        }
        None => Some(Rotation::begin(&run.state)?),
    };
    while let Some(rotation) = under_way {
        if rotation.phase > arguments.until {
            break;
        }
        tell(run, rotation.phase);
        rotation.prepare(&run.state)?;
        match rotation.phase {
            Phase::Trust => trust(run, arguments).await?,
            Phase::Issue => issue(run).await?,
            Phase::Finish => everybody_has_it(run).await?,
        }
        under_way = rotation.advance(&run.state)?;
    }
    let seconds = run.printer.elapsed().as_secs_f64();
    let done = Rotation::load(&run.state)?.is_none();
    let text = match done {
        true => format!(
            "only the new authorities are trusted, after {seconds:.1} s; copies of the old admin.kubeconfig are good for nothing any more"
        ),
        false => "the same command without --until goes on".to_owned(),
    };
    run.printer.result(&text, &json!({"event": "summary", "ok": true, "finished": done, "totalSeconds": seconds}));
    Ok(Ended::Done)
}

fn tell(run: &Run<'_>, phase: Phase) {
    run.printer.phase(match phase {
        Phase::Trust => "trust: both authorities are trusted",
        Phase::Issue => "issue: the new authorities issue everything",
        Phase::Finish => "finish: only the new authorities are trusted",
    });
}

async fn trust(run: &Run<'_>, arguments: &CertsRotate) -> anyhow::Result<()> {
    let pki = everybody_gets_it(run).await?;
    let limit = run.cluster.limits.ready_timeout;
    let client = Servers::open(&run.kubeconfig()?).await?.ready(limit).await?.client;
    let published = |maps: &std::collections::BTreeMap<String, ConfigMap>| {
        maps.values().all(|map| {
            let text = map.data.as_ref().and_then(|data| data.get("ca.crt")).map_or("", String::as_str);
            in_pem(&pki.ca.cert_pem).iter().all(|pem| text.contains(pem.trim()))
        })
    };
    let config = watcher::Config::default().fields("metadata.name=kube-root-ca.crt");
    let waited = crate::api::wait::until(Api::<ConfigMap>::all(client.clone()), config, limit, published).await;
    ensure!(waited.is_ok(), "not every namespace's kube-root-ca.crt has both authorities after {} s", limit.as_secs());
    let restarted = workloads::restart(&client, arguments.restart_workloads, limit).await?;
    run.printer.event("restarted", &format!("  restarted {}", restarted.join(", ")), json!({"workloads": restarted}));
    Ok(())
}

async fn issue(run: &Run<'_>) -> anyhow::Result<()> {
    everybody_gets_it(run).await?;
    // by now no control plane signs with the old key: what kubelets asked for on the way may be signed by it
    give_up(&run.state, &run.cluster, Selection { kinds: &[Kind::Kubelet], hosts: &[] })?;
    let pki = everybody_gets_it(run).await?;
    let ca = Ca::from_pem(&pki.ca.cert_pem, &pki.ca.key_pem)?;
    let (started, limit) = (Instant::now(), run.cluster.limits.ready_timeout);
    loop {
        let old = kubelets_of_the_old(run, &ca).await?;
        if old.is_empty() {
            break;
        }
        ensure!(
            started.elapsed() < limit,
            "the kubelets of {} have no certificates of the new authority after {} s; see `journalctl -u kinstall-kubelet` there",
            old.join(", "),
            limit.as_secs()
        );
        tokio::time::sleep(AGAIN).await;
    }
    run.printer.event("waiting", "  waiting until programs in pods have read their new tokens", Value::Null);
    tokio::time::sleep(TOKENS_ARE_READ_AGAIN).await;
    Ok(())
}

async fn everybody_has_it(run: &Run<'_>) -> anyhow::Result<()> {
    everybody_gets_it(run).await.map(drop)
}

/// Brings what the state directory has to all hosts. One that does not get it would be cut off in the next phase.
async fn everybody_gets_it(run: &Run<'_>) -> anyhow::Result<Pki> {
    let members = everybody(run).await?;
    let pki = Pki::load_or_create(&run.state, &run.cluster)?;
    let (_, good) = bring(run, &Fleet::new(run), members, &pki).await?;
    ensure!(good, "not every host has what this phase brings; mend what is told above and run the same command again");
    Ok(pki)
}

async fn everybody<'a>(run: &'a Run<'_>) -> anyhow::Result<Vec<Member<'a>>> {
    let opened = Fleet::new(run).open(run, Executable::Installed(None)).await;
    let (members, _) = fleet::sort_out(run.printer, opened);
    let is_missing = |name: &&str| !members.iter().any(|member| member.host.name == **name);
    let names: Vec<&str> = run.cluster.hosts.iter().map(|host| host.name.as_str()).collect();
    let missing: Vec<&str> = names.into_iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(members);
    }
    let text = format!(
        "{} must have part in this, but cannot be worked on: bring back or `kinstall node remove`, then run the same command again",
        missing.join(" and ")
    );
    fleet::close(members).await;
    bail!(text)
}

/// Hosts whose kubelet still has a certificate of the old authority.
async fn kubelets_of_the_old(run: &Run<'_>, ca: &Ca) -> anyhow::Result<Vec<String>> {
    let closing = everybody(run).await?.into_iter().map(|member| async move {
        let (name, files) = (member.host.name.clone(), member.facts.certificates);
        member.session.close().await;
        (name, files)
    });
    let is_old = |pem: &String| !ca.has_signed(pem);
    let all = join_all(closing).await;
    Ok(all
        .into_iter()
        .filter(|(_, files)| {
            let mut of_kubelet = files.iter().filter(|file| file.path.starts_with("/var/lib/kubelet/pki/"));
            of_kubelet.any(|file| in_pem(&file.pem).first().is_some_and(is_old))
        })
        .map(|(name, _)| name)
        .collect())
}
