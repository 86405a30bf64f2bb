//! The Python client from PyPI, in an environment of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::{Outcome, Server, definition, in_namespace};

const SCRIPT: &str = include_str!("../python/client.py");

pub async fn run(server: &Server) -> Result<Outcome> {
    let python = match environment(&server.cache.join("python")).await {
        Ok(python) => python,
        Err(error) => return Ok(Outcome::NotRun(format!("{error:#}"))),
    };
    in_namespace(server, async |namespace| script(server, &python, "python", &["-c", SCRIPT], &namespace).await).await
}

/// Makes the environment unless it is there; its interpreter.
async fn environment(folder: &Path) -> Result<PathBuf> {
    let python = folder.join("bin/python");
    if command(&python, &["-c", "import kubernetes"]).await.is_err() {
        command(Path::new("python3"), &["-m", "venv", &folder.display().to_string()]).await?;
        command(&python, &["-m", "pip", "install", "--quiet", "kubernetes"]).await?;
    }
    Ok(python)
}

pub async fn command(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("{} cannot be started", program.display()))?;
    if !output.status.success() {
        bail!("{} {}: {}", program.display(), arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a client's script, which gets the namespace, the definition and an image for exec (or none) by its environment and
/// prints what it did.
pub async fn script(
    server: &Server,
    program: &Path,
    name: &str,
    arguments: &[&str],
    namespace: &str,
) -> Result<Outcome> {
    let output = Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", &server.kubeconfig)
        .env("NAMESPACE", namespace)
        .env("DEFINITION", definition(namespace).to_string())
        .env("EXEC_IMAGE", if server.kubelets { server.shell_image.as_str() } else { "" })
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(180), output).await;
    let output = output.with_context(|| format!("{name} is not done after 180 s"))??;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = stderr.lines().collect();
        bail!("{}{}", stdout, lines[lines.len().saturating_sub(12)..].join("\n"));
    }
    Ok(Outcome::Passed(stdout.trim().to_owned()))
}
