//! `kinstall validate`: proves that the cluster works.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{Ended, Run, up};
use crate::api::Servers;
use crate::cli::{Output, Validate};
use crate::desired::components_image;
use crate::validate::{self, Report, wordpress};

pub async fn run(run: &Run<'_>, arguments: &Validate) -> anyhow::Result<Ended> {
    let servers = Servers::open(&run.kubeconfig()?).await?;
    let version = installed_version(run)?;
    let mut report = Report::new(run.printer);
    let hint = "see `journalctl -u kinstall-control-plane` on the control-plane host";
    let api = report
        .check("the API server is ready", hint, async {
            Ok((servers.ready(Duration::from_secs(30)).await?.client, String::new()))
        })
        .await;
    if let Some(client) = api {
        let addons = up::addons(&run.cluster, &version)?;
        if validate::basics(&mut report, &client, &run.cluster, &addons).await {
            validate::network(&mut report, &client, &run.cluster, &components_image(&version)).await;
            wordpress::run(&mut report, &client, &run.cluster, &run.state, !arguments.no_restart).await;
        }
    }
    let count = report.outcomes.len();
    let text = match run.printer.output() {
        Output::Junit => report.junit(),
        _ if report.passed() => format!("all {count} checks passed in {:.1} s", run.printer.elapsed().as_secs_f64()),
        _ => format!("{} of {count} checks failed", report.failures()),
    };
    let mut value = report.json();
    value["event"] = json!("validation");
    run.printer.result(&text, &value);
    Ok(if report.passed() { Ended::Done } else { Ended::Invalid })
}

/// The version whose images are on the hosts.
fn installed_version(run: &Run<'_>) -> anyhow::Result<String> {
    let applied: Option<Value> = run.state.read("applied.json")?;
    let applied = applied.context("the cluster was not installed from here; run `kinstall up` first")?;
    applied["version"].as_str().map(str::to_owned).context("applied.json names no version; run `kinstall up` again")
}
