//! kubectl, as a person at a terminal calls it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::client::shorten;

#[derive(Clone, Debug)]
pub struct Kubectl {
    pub binary: PathBuf,
    pub kubeconfig: PathBuf,
    /// For its discovery cache.
    pub home: PathBuf,
}

/// What a call printed and how it ended.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    line: String,
}

impl Kubectl {
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", &self.home)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub async fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<Output> {
        let mut command = self.command(arguments);
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let line = format!("kubectl {}", arguments.join(" "));
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            // kubectl may end without having read all of it
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await?;
        Ok(Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            line,
        })
    }
}

impl Output {
    /// What it printed, if it succeeded.
    pub fn ok(self) -> Result<String> {
        ensure!(self.code == 0, "{}: exit code {}: {}{}", self.line, self.code, self.stdout, self.stderr);
        Ok(self.stdout)
    }

    /// It must have succeeded and printed each of these.
    pub fn has(self, texts: &[&str]) -> Result<String> {
        let line = self.line.clone();
        let stdout = self.ok()?;
        for text in texts {
            ensure!(stdout.contains(text), "{line}: expected {text:?} in: {}", shorten(&stdout));
        }
        Ok(stdout)
    }

    /// It must have failed and printed this.
    pub fn fails(self, text: &str) -> Result<()> {
        let printed = format!("{}{}", self.stdout, self.stderr);
        ensure!(self.code != 0, "{}: expected a failure with {text:?}, it printed {}", self.line, shorten(&printed));
        ensure!(printed.contains(text), "{}: expected {text:?} in: {}", self.line, shorten(&printed));
        Ok(())
    }
}

/// The newest kubectl on this machine, asked for its version; Debian's and the cloud tools' places are looked at too.
pub fn newest() -> Option<PathBuf> {
    let mut best: Option<((u32, u32), PathBuf)> = None;
    for path in all() {
        if let Some(version) = version(&path)
            && best.as_ref().is_none_or(|(known, _)| version > *known)
        {
            best = Some((version, path));
        }
    }
    best.map(|(_, path)| path)
}

/// Every kubectl found in PATH, beside the cloud tools, in kinstall's cache, and the one that `KINSTALL_KUBECTL` names.
pub fn all() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    folders.push("/usr/lib/google-cloud-sdk/bin".into());
    let named = std::env::var_os("KINSTALL_KUBECTL").map(PathBuf::from);
    folders.extend(named.as_deref().and_then(Path::parent).map(Path::to_owned));
    if let Ok(cached) = std::fs::read_dir("/var/cache/kinstall/kubectl") {
        folders.extend(cached.flatten().map(|entry| entry.path()));
    }
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut here: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| is_kubectl(path)).collect();
        here.sort();
        for path in here {
            let real = std::fs::canonicalize(&path).unwrap_or(path);
            if !found.contains(&real) {
                found.push(real);
            }
        }
    }
    found
}

fn is_kubectl(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name == "kubectl" || name.strip_prefix("kubectl.").is_some_and(|rest| rest.starts_with("1."))
}

/// Major and minor.
pub fn version(binary: &Path) -> Option<(u32, u32)> {
    let output = std::process::Command::new(binary).args(["version", "--client", "-o", "json"]).output().ok()?;
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let version = &version["clientVersion"];
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some((digits(version["major"].as_str()?)?, digits(version["minor"].as_str()?)?))
}
