//! `kinstall down`: every host back to what it was.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::bail;
use futures::future::join_all;
use serde_json::{Value, json};

use super::fleet::{self, Fleet};
use super::{Ended, Run};
use crate::cli::Down;
use crate::host::Executable;

pub async fn run(run: &Run<'_>, arguments: &Down) -> anyhow::Result<Ended> {
    confirm(run, arguments)?;
    let bundle = run.bundle_if_any(arguments.bundled.bundle.as_deref()).await?;
    let identity = run.state.identity()?;
    let fleet = Fleet::new(run);
    run.printer.phase("connecting");
    let (members, mut good) =
        fleet::sort_out(run.printer, fleet.open(run, Executable::Installed(bundle.as_ref())).await);
    let width = run.cluster.hosts.iter().map(|host| host.name.len()).max().unwrap_or(0);
    run.printer.phase("taking hosts back");
    let fleet = &fleet;
    let identity = &identity;
    let work = members.into_iter().map(|mut member| async move {
        let line = run.printer.host(&member.host.name, width);
        let foreign = member.facts.manifest.as_ref().filter(|manifest| manifest.cluster.id != identity.id);
        if let Some(manifest) = foreign {
            let text =
                format!("{}: belongs to another cluster ({:?}); left alone", member.host.name, manifest.cluster.name);
            member.session.close().await;
            run.printer.error(&text, json!({"host": member.host.name}));
            return false;
        }
        line.doing("stopping");
        let result =
            fleet.bounded(member.host, member.session.down(arguments.keep_data, |event| line.seen(event))).await;
        member.session.close().await;
        match &result {
            Ok(done) if done.changed == 0 => line.done("kinstall was not here"),
            Ok(_) => line.done("as it was before"),
            Err(error) => {
                line.failed(&error.message);
                fleet::tell(run.printer, error);
            }
        }
        result.is_ok()
    });
    good &= join_all(work).await.into_iter().all(|good| good);
    if !good {
        let text = "not every host was taken back; mend what is told above and run `kinstall down` again (keys and state are kept)";
        run.printer.result(text, &json!({"event": "summary", "ok": false}));
        return Ok(Ended::Failed);
    }
    if !arguments.keep_data {
        run.state.forget()?;
    }
    let seconds = run.printer.elapsed().as_secs_f64();
    let kept = if arguments.keep_data { "; data was kept on the hosts and keys here" } else { "" };
    run.printer.result(
        &format!("cluster {} is gone after {seconds:.1} s{kept}", run.cluster.name),
        &json!({"event": "summary", "ok": true, "totalSeconds": seconds}),
    );
    Ok(Ended::Done)
}

fn confirm(run: &Run<'_>, arguments: &Down) -> anyhow::Result<()> {
    if run.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!(
            "`down` removes the cluster{}; say --yes to do so without being asked",
            if arguments.keep_data { "" } else { " and its data" }
        );
    }
    let what = if arguments.keep_data { "keeping its data" } else { "with all its data" };
    eprintln!(
        "This removes the cluster {:?} from {} hosts, {what}. Type its name to go on:",
        run.cluster.name,
        run.cluster.hosts.len()
    );
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() != run.cluster.name {
        run.printer.event("cancelled", "nothing was changed", Value::Null);
        bail!("the name does not match");
    }
    Ok(())
}
