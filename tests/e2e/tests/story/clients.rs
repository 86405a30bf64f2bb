//! Programs that drive any Kubernetes drive this cluster: clients of every kind, and the conformance suite.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use e2e::operator::both;

use crate::Story;

/// The folder of the release build; `make e2e` says where it is.
fn release() -> Result<PathBuf> {
    let folder = std::env::var_os("RELEASE").context("RELEASE is not set: run `make e2e`")?;
    Ok(PathBuf::from(folder))
}

/// All versions of kubectl found on this machine, Python, JavaScript and Rust, none left out; with containers they also stream.
pub fn every_client(story: &Story) -> Result<()> {
    let mut command = Command::new(release()?.join("clients"));
    command
        .arg("--all")
        .arg("--kubeconfig")
        .arg(story.operator.kubeconfig())
        .env("KINSTALL_KUBECTL", &story.operator.artifacts().kubectl);
    let said = ended(&mut command)?;
    ensure!(said.contains("kubectl"), "no kubectl was run:\n{said}");
    println!("        {}", said.lines().last().unwrap_or_default());
    Ok(())
}

/// Each entry of tests/conformance/entries.txt, none left out.
pub fn required_behaviours(story: &Story) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab/on-cluster.sh");
    let mut command = Command::new(script);
    command.arg(story.operator.kubeconfig()).env("KINSTALL_KUBECTL", &story.operator.artifacts().kubectl);
    let said = ended(&mut command)?;
    println!("        {}", said.lines().last().unwrap_or_default());
    Ok(())
}

/// What it printed; when it fails, only what failed.
fn ended(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {:?}: run `make e2e`", command.get_program()))?;
    let said = both(&output);
    if !output.status.success() {
        let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("ok ")).collect();
        bail!("{:?} ended with {}:\n{}", command.get_program(), output.status, lines.join("\n"));
    }
    Ok(said)
}
