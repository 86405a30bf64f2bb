//! `kinstall backup list`: what the timers of the control planes have made.

use serde_json::json;

use crate::commands::fleet::{self, Fleet};
use crate::commands::{Ended, Run};
use crate::host::{Executable, HostError};

pub async fn run(run: &Run<'_>) -> anyhow::Result<Ended> {
    let fleet = Fleet::new(run);
    let opened = fleet.open_some(run, run.cluster.control_planes(), Executable::Installed(None)).await;
    let (mut members, mut good) = fleet::sort_out(run.printer, opened);
    let mut lines = Vec::new();
    let mut hosts = Vec::new();
    for member in &mut members {
        let name = &member.host.name;
        match fleet.bounded(member.host, member.session.backups()).await {
            Ok(Some(backups)) => {
                if backups.failed {
                    lines.push(format!("{name}: the last backup failed; see `journalctl -u kinstall-backup` there"));
                }
                if backups.files.is_empty() {
                    lines.push(format!("{name}: none yet in {}; the next at {}", backups.directory, backups.next));
                }
                for file in &backups.files {
                    let megabytes = file.size as f64 / 1e6;
                    lines.push(format!("{name}:{}/{} {megabytes:.1} MB", backups.directory, file.name));
                }
                hosts.push(json!({"host": name, "backups": backups}));
            }
            Ok(None) => lines.push(format!("{name}: no backups are scheduled; see `backup` in inventory.example.yaml")),
            Err(error @ HostError { .. }) => {
                good = false;
                fleet::tell(run.printer, &error);
            }
        }
    }
    fleet::close(members).await;
    run.printer.result(&lines.join("\n"), &json!({"event": "backups", "hosts": hosts}));
    Ok(if good { Ended::Done } else { Ended::Failed })
}
