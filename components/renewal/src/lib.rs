//! A host renews its own certificates long before they end: what the timer `kinstall-certs.timer` starts every day.
//!
//! In: what lies in `/etc/kinstall`. Out: new certificates with new keys in the place of those with few days left, each with the
//! subject, the names and the usage it had, and restarted units. Where the authority's key is (on control planes) it signs;
//! elsewhere a CertificateSigningRequest asks for the same subject with the certificate that is still good. Control planes take
//! turns. Depends on `converge`, which changes files and restarts units as it does for the installer.

#![allow(clippy::result_large_err, reason = "a failure ends the run, and says everything its reader needs")]

mod leaves;
mod turn;

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use certs::{Ca, HOSTS_RENEW_DAYS, Issued, RENEW_DAYS};
use clap::Subcommand;
use converge::Root;
use converge::own::{self, Change, Own};
use hoststate::wire::Failure;
use time::OffsetDateTime;

use leaves::{Leaf, Standing};

const CONTROL_PLANE: &str = "/etc/kinstall/control-plane.yaml";
const BALANCER: &str = "/etc/kinstall/balancer.yaml";
const ADMIN: &str = "/etc/kinstall/admin.kubeconfig";

/// Until a request has been approved and signed; nobody waits for a person here.
const SIGNED_WITHIN: std::time::Duration = std::time::Duration::from_secs(120);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Renew this host's certificates of which few days are left
    RenewDue {
        /// How many days are few
        #[arg(long, value_name = "DAYS", default_value_t = HOSTS_RENEW_DAYS)]
        within: i64,
    },
}

pub async fn run(args: Args) -> Result<()> {
    let Command::RenewDue { within } = args.command;
    if let Some(changed) = on_host(own::finish).await? {
        tracing::info!(changed, "finished what an earlier run had begun");
    }
    let Some(own) = on_host(own::look).await? else {
        tracing::info!("no state was ever applied to its end on this host: nothing to renew");
        return Ok(());
    };
    renew(&own, within).await
}

async fn renew(own: &Own, within: i64) -> Result<()> {
    let now = OffsetDateTime::now_utc();
    let found = leaves::find(&own.texts);
    let authorities = leaves::authorities(&own.texts);
    // an external etcd's is issued by who runs it
    let (ours, theirs): (Vec<_>, Vec<_>) =
        found.iter().partition(|leaf| leaf.is_kubeconfig() || leaf.authority(&authorities).is_some());
    for leaf in theirs {
        tracing::info!("{} is of no authority whose key is here: left to who issued it", leaf.path);
    }
    let of = |standing| ours.iter().copied().filter(move |leaf: &&Leaf| leaf.standing(now, within) == standing);
    let due: Vec<_> = of(Standing::Due).collect();
    match due.as_slice() {
        [] => tracing::info!("of {} certificates none ends within {within} days", ours.len()),
        due if own.texts.contains_key(CONTROL_PLANE) => in_turn(own, due, &authorities, now).await?,
        due => exchange(own, due, &authorities).await?,
    }
    let expired: Vec<_> = of(Standing::Expired).map(|leaf| leaf.path.as_str()).collect();
    ensure!(expired.is_empty(), "{} ran out before: `kinstall certs renew` brings new ones", expired.join(", "));
    Ok(())
}

/// A control plane's restart takes an API server away for a moment. Who has waited until the end is near waits no longer.
async fn in_turn(own: &Own, due: &[&Leaf], authorities: &[Ca], now: OffsetDateTime) -> Result<()> {
    let admin = Path::new(ADMIN);
    let waits = due.iter().all(|leaf| leaf.standing(now, RENEW_DAYS) == Standing::Good);
    turn::take(admin, &own.host, || async {
        if let Err(error) = turn::all_serve(admin, own.texts.get(BALANCER).map(String::as_str)).await {
            ensure!(!waits, "nothing is restarted here meanwhile, there is time until tomorrow: {error:#}");
            tracing::warn!("less than {RENEW_DAYS} days are left, so this is not waited for: {error:#}");
        }
        exchange(own, due, authorities).await
    })
    .await
}

/// New ones in the place of those that are due. What cannot be had does not keep the others from being exchanged.
async fn exchange(own: &Own, due: &[&Leaf], authorities: &[Ca]) -> Result<()> {
    let (mut changes, mut missing): (Vec<Change>, Vec<String>) = (Vec::new(), Vec::new());
    for leaf in due {
        match issue(leaf, authorities).await.and_then(|issued| leaf.exchanged(&own.texts, &issued)) {
            Ok(of_leaf) => {
                tracing::info!("{} is renewed: it would have ended at {}", leaf.path, leaf.info.not_after);
                changes.extend(of_leaf);
            }
            Err(error) => missing.push(format!("{}: {error:#}", leaf.path)),
        }
    }
    if !changes.is_empty() {
        let changed = on_host(move |root| own::change(root, &changes)).await?;
        tracing::info!(changed, "files changed and units restarted");
    }
    ensure!(missing.is_empty(), "not renewed: {}", missing.join("; "));
    Ok(())
}

async fn issue(leaf: &Leaf, authorities: &[Ca]) -> Result<Issued> {
    if let Some(issued) = leaf.again(authorities) {
        return issued;
    }
    let client = client::from_kubeconfig(Path::new(&leaf.path)).await?;
    let subject = &leaf.info.subject;
    let asking = csr::issue(&client, csr::Kind::Client, subject, &[]);
    let issued = tokio::time::timeout(SIGNED_WITHIN, asking)
        .await
        .with_context(|| format!("nobody signed it within {} s", SIGNED_WITHIN.as_secs()))?;
    ensure!(
        certs::inspect(&issued.cert_pem)?.subject == *subject,
        "what was signed is not for {}",
        subject.common_name
    );
    Ok(issued)
}

/// Work on this host's files and units.
async fn on_host<T: Send + 'static>(work: impl FnOnce(&Root) -> Result<T, Failure> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(move || work(&Root::default())).await?.map_err(|failure| {
        let said = failure.stderr.iter().chain(&failure.hint).map(|line| format!("\n{line}"));
        anyhow!("{failure}{}", said.collect::<String>())
    })
}
