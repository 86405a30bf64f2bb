//! What a backup of the store takes: the server's part, and that of who asks for it and tries what came.

use std::fs::{self, File};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::process::{Child, Command};

use crate::report::{Table, peak};

/// How often a process is asked for the most memory that it ever had: only while it runs.
const ASKED: Duration = Duration::from_millis(5);

/// As on a host: `backup store` while the server works, then `backup place`. `folder`: of the server; `objects` are in its store.
pub async fn take(table: &mut Table, binary: &Path, folder: &Path, server: u32, objects: u64) -> Result<()> {
    let dump = folder.join("dump");
    let mut command = Command::new(binary);
    command.args(["backup", "store", "--config"]).arg(folder.join("control-plane.yaml"));
    command.arg("--scratch").arg(folder).stdout(File::create(&dump)?);
    let (took, most) = measure(command).await?;
    let size = fs::metadata(&dump)?.len();
    table.row(
        format!("backup of {objects} objects, tried in a scratch store"),
        format!("{:.1} s, {:.1} MiB compressed", took.as_secs_f64(), size as f64 / 1_048_576.0),
    );
    table.row("the most that was resident meanwhile: who takes it / the server ever", {
        format!("{most:.0} / {:.0} MiB", peak(server).unwrap_or(0.0))
    });

    let mut command = Command::new(binary);
    command.args(["backup", "place", "--dump"]).arg(&dump).arg("--directory").arg(folder.join("placed"));
    fs::create_dir(folder.join("placed"))?;
    let (took, most) = measure(command).await?;
    table.row("the same put in place", format!("{:.1} s, at most {most:.0} MiB resident", took.as_secs_f64()));
    Ok(())
}

/// Its time, and the MiB that it had at most.
async fn measure(mut command: Command) -> Result<(Duration, f64)> {
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).kill_on_drop(true).spawn()?;
    let (status, most) = watched(&mut child).await?;
    ensure!(status.success(), "{:?} ended with {status}", command.as_std());
    Ok((begun.elapsed(), most))
}

async fn watched(child: &mut Child) -> Result<(ExitStatus, f64)> {
    let mut most: f64 = 0.0;
    loop {
        if let Some(now) = child.id().and_then(peak) {
            most = most.max(now);
        }
        match tokio::time::timeout(ASKED, child.wait()).await {
            Ok(status) => return Ok((status?, most)),
            Err(_) => continue,
        }
    }
}
