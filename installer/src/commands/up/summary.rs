//! The last words of `up`.

use std::time::Duration;

use serde_json::json;

use crate::commands::bring::Brought;
use crate::commands::{ADMIN_KUBECONFIG, Ended, Run};
use crate::validate::{Report, wordpress};

/// A run that did not get to its end.
pub fn failed(run: &Run<'_>, hosts: &Brought) -> Ended {
    let log = run.printer.log_name();
    let text = format!(
        "not finished; mend what is told above and run `kinstall up -i {}` again: it goes on where it stopped\nlog: {log}",
        run.inventory
    );
    let bytes = json!({"sent": hosts.bytes.sent, "passed": hosts.bytes.passed});
    let value = json!({"event": "summary", "ok": false, "bytes": bytes, "roundTrips": hosts.round_trips, "log": log});
    run.printer.result(&text, &value);
    Ended::Failed
}

/// A run that did, and what it proved.
pub fn done(
    run: &Run<'_>,
    hosts: &Brought,
    changed: usize,
    nodes_ready: Option<Duration>,
    report: &Report<'_>,
    validated: bool,
) {
    let total = run.printer.elapsed();
    let passed = report.passed();
    let site = wordpress::url(&run.cluster);
    let mut text = match (passed, changed) {
        (false, _) => format!("{} of {} checks failed\n", report.failures(), report.outcomes.len()),
        (true, 0) => "nothing changed: the cluster is as the inventory wants it\n".to_owned(),
        (true, _) => format!("cluster {} works\n", run.cluster.name),
    };
    if let Some(ready) = nodes_ready {
        text.push_str(&format!("  nodes Ready            {:>6.1} s\n", ready.as_secs_f64()));
    }
    let all = match (validated, site.is_some()) {
        (true, true) => "WordPress validated",
        (true, false) => "validated",
        (false, _) => "done, not validated",
    };
    text.push_str(&format!("  {all:<22} {:>6.1} s\n", total.as_secs_f64()));
    text.push_str(&format!("  SSH round trips        {}\n", trips(&hosts.round_trips)));
    if hosts.bytes.passed > 0 {
        let size = |bytes: u64| bytes >> 20;
        let (sent, passed) = (size(hosts.bytes.sent), size(hosts.bytes.passed));
        text.push_str(&format!("  bundle                 {sent} MiB sent, {passed} MiB passed on between hosts\n"));
    }
    let file = run.state.path().join(ADMIN_KUBECONFIG);
    text.push_str(&format!("use it:     export KUBECONFIG={}\n", file.display()));
    if let Some((url, address)) = &site {
        text.push_str(&format!("WordPress:  curl -H 'Host: {}' http://{address}/   (or put \"{address} {}\" into /etc/hosts and open {url})\n", host_of(url), host_of(url)));
        text.push_str(&format!(
            "            user and password: {}\n",
            run.state.path().join("wordpress.json").display()
        ));
    }
    text.push_str(&format!("remove it:  kinstall down -i {}\n", run.inventory));
    let log = run.printer.log_name();
    text.push_str(&format!("log:        {log}"));
    run.printer.result(
        &text,
        &json!({
            "event": "summary",
            "ok": passed,
            "changed": changed,
            "nodesReadySeconds": nodes_ready.map(|d| d.as_secs_f64()),
            "totalSeconds": total.as_secs_f64(),
            "bytes": {"sent": hosts.bytes.sent, "passed": hosts.bytes.passed},
            "roundTrips": hosts.round_trips.iter().map(|(host, count)| (host.clone(), json!(count))).collect::<serde_json::Map<_, _>>(),
            "wordpress": site.map(|(url, address)| json!({"url": url, "address": address})),
            "kubeconfig": file,
            "validation": report.json(),
            "log": log,
        }),
    );
}

/// Each host's, or from the least to the most where there are many.
fn trips(round_trips: &[(String, u32)]) -> String {
    const FEW: usize = 8;
    let counts = || round_trips.iter().map(|(_, count)| *count);
    match (counts().min(), counts().max()) {
        (Some(least), Some(most)) if round_trips.len() > FEW => format!("{least} to {most} a host"),
        _ => round_trips.iter().map(|(host, count)| format!("{host} {count}")).collect::<Vec<_>>().join(", "),
    }
}

fn host_of(url: &str) -> &str {
    url.trim_start_matches("http://").trim_end_matches('/')
}
