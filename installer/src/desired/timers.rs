//! What runs at times, as a table: each a service that ends by itself, and the timer that starts it.

use hoststate::resource::Contents;
use hoststate::{Content, Resource};
use serde_json::{Value, json};

use super::Inputs;
use super::render::render;
use crate::cluster::{Cluster, Host};

struct Job {
    /// Of service and timer, without their endings.
    name: &'static str,
    description: &'static str,
    command: &'static str,
    after: &'static [&'static str],
    /// Hosts that run at the same time wait so long at most, each another time.
    delay_seconds: u32,
    /// When it runs (systemd's `OnCalendar`); `None` where it does not.
    schedule: fn(&Cluster, &Host) -> Option<String>,
    /// Its configuration: the file and its template.
    config: Option<(&'static str, &'static str)>,
}

const JOBS: &[Job] = &[
    Job {
        name: "kinstall-backup",
        description: "kinstall: backup of the store, the keys and the inventory",
        command: "kinstall-components backup scheduled --config /etc/kinstall/backup.yaml",
        after: &[super::CONTROL_PLANE],
        // each control plane makes its own: what one of them has must not be lost with it
        delay_seconds: 15,
        schedule: |cluster, host| {
            cluster.backup.as_ref().filter(|_| host.control_plane).map(|backup| backup.schedule.clone())
        },
        config: Some(("/etc/kinstall/backup.yaml", "config/backup.yaml")),
    },
    Job {
        name: "kinstall-certs",
        description: "kinstall: renewal of this host's certificates long before they end",
        command: "kinstall-components certs renew-due",
        after: &[],
        // months are left when it first finds something: hosts need not do it at the same time
        delay_seconds: 6 * 3600,
        schedule: |_, _| Some("daily".to_owned()),
        // what is to be renewed is what is there
        config: None,
    },
];

fn of_host(cluster: &Cluster, host: &Host) -> impl Iterator<Item = (&'static Job, String)> {
    JOBS.iter().filter_map(move |job| Some((job, (job.schedule)(cluster, host)?)))
}

fn path(job: &Job, ending: &str) -> String {
    format!("/etc/systemd/system/{}.{ending}", job.name)
}

/// Configurations and unit files. `context`: of the host's templates.
pub fn files(inputs: Inputs<'_>, host: &Host, context: &Value) -> anyhow::Result<Vec<Resource>> {
    let mut list = Vec::new();
    let mut add = |path: String, mode, template: &str, context: &Value| -> anyhow::Result<()> {
        let text = render(template, context)?;
        list.push(Resource::File { path, mode, content: Content::Inline { text, secret: false } });
        Ok(())
    };
    for (job, schedule) in of_host(inputs.cluster, host) {
        if let Some((path, template)) = job.config {
            add(path.to_owned(), 0o600, template, context)?;
        }
        let context = json!({
            "description": job.description,
            "command": job.command,
            "after": job.after,
            "schedule": schedule,
            "delay_seconds": job.delay_seconds,
        });
        add(path(job, "service"), 0o644, "units/job.service", &context)?;
        add(path(job, "timer"), 0o644, "units/job.timer", &context)?;
    }
    Ok(list)
}

/// Directories that jobs write to. What is in them stays after `down`.
pub fn directories(cluster: &Cluster, host: &Host) -> Option<Resource> {
    let backup = cluster.backup.as_ref().filter(|_| host.control_plane)?;
    Some(Resource::Directory { path: backup.directory.clone(), mode: 0o700, contents: Contents::Foreign })
}

/// The timers, which are always on; the services are theirs to start.
pub fn units(cluster: &Cluster, host: &Host) -> Vec<Resource> {
    of_host(cluster, host)
        .map(|(job, _)| Resource::Unit {
            name: format!("{}.timer", job.name),
            enabled: true,
            active: true,
            restart_on: vec![path(job, "timer")],
            after: Vec::new(),
        })
        .collect()
}

/// The services that a host's timers start.
pub fn names(cluster: &Cluster, host: &Host) -> impl Iterator<Item = String> {
    of_host(cluster, host).map(|(job, _)| format!("{}.service", job.name))
}
