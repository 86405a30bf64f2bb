//! `--timeline FILE.svg`: where a run's time went.

use std::path::Path;

use anyhow::Context as _;

use super::{Ended, Run};

/// Does the work and draws it, however it ends. A file that cannot be written is told before anything is begun.
pub async fn drawn(
    run: &Run<'_>,
    command: &str,
    file: Option<&Path>,
    work: impl Future<Output = anyhow::Result<Ended>>,
) -> anyhow::Result<Ended> {
    let Some(file) = file else { return work.await };
    let write = |picture: String| {
        std::fs::write(file, picture).with_context(|| format!("cannot write the timeline {}", file.display()))
    };
    let title = |seconds: f64| {
        let (name, hosts) = (&run.cluster.name, run.cluster.hosts.len());
        format!("kinstall {command}: cluster {name}, {hosts} hosts, {seconds:.1} s")
    };
    run.printer.keep_timeline();
    write(run.printer.svg(&title(0.0)))?;
    let ended = work.await;
    let drawn = write(run.printer.svg(&title(run.printer.elapsed().as_secs_f64())));
    // what the work says is worth more than what the picture does
    if ended.is_ok() {
        drawn?;
    }
    ended
}
