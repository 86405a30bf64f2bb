//! `@kubernetes/client-node` from npm, in a folder of its own.

use std::path::Path;

use anyhow::{Context, Result};

use crate::python::{command, script};
use crate::{Outcome, Server, in_namespace};

const SCRIPT: &str = include_str!("../javascript/client.mjs");

pub async fn run(server: &Server) -> Result<Outcome> {
    let folder = server.cache.join("javascript");
    if let Err(error) = install(&folder).await {
        return Ok(Outcome::NotRun(format!("{error:#}")));
    }
    let file = folder.join("client.mjs");
    std::fs::write(&file, SCRIPT).with_context(|| format!("cannot write {}", file.display()))?;
    let path = file.display().to_string();
    in_namespace(server, async |namespace| script(server, Path::new("node"), "node", &[&path], &namespace).await).await
}

async fn install(folder: &Path) -> Result<()> {
    let version = command(Path::new("node"), &["--version"]).await?;
    if !folder.join("node_modules/@kubernetes/client-node/package.json").exists() {
        std::fs::create_dir_all(folder)?;
        let place = folder.display().to_string();
        let package = package(&version);
        let arguments = ["install", "--silent", "--no-audit", "--no-fund", "--prefix", &place, &package];
        command(Path::new("npm"), &arguments).await?;
    }
    Ok(())
}

/// Version 2 of the client needs a node that knows zstd.
fn package(node: &str) -> String {
    let major: u32 = node.trim_start_matches('v').split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    format!("@kubernetes/client-node@{}", if major < 22 { 1 } else { 2 })
}

#[cfg(test)]
mod tests {
    use super::package;

    #[test]
    fn the_client_fits_the_node() {
        assert_eq!(package("v20.20.2\n"), "@kubernetes/client-node@1");
        assert_eq!(package("v24.1.0\n"), "@kubernetes/client-node@2");
    }
}
