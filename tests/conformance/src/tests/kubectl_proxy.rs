//! `kubectl proxy`.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Child;

use crate::context::{T, same};
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new("[sig-cli] Kubectl client Proxy server should support --unix-socket=/path", socket),
        Entry::new("[sig-cli] Kubectl client Proxy server should support proxy with --port 0", port),
    ]
}

/// Starts it and reads its first line, which says where it listens. It ends when dropped.
async fn proxy(t: &T, argument: &str) -> Result<(Child, String)> {
    let kubectl = t.env.kubectl.as_ref().context("no kubectl on this machine; name one with --kubectl")?;
    let mut child = kubectl.command(&["proxy", argument]).spawn()?;
    let stdout = child.stdout.take().context("no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).await?;
    ensure!(line.starts_with("Starting to serve on "), "kubectl proxy says {line:?}");
    Ok((child, line.trim_end().trim_start_matches("Starting to serve on ").to_owned()))
}

async fn versions(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) -> Result<()> {
    stream.write_all(b"GET /api/ HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (_, body) = text.split_once("\r\n\r\n").with_context(|| format!("no body: {text}"))?;
    let body: Value = serde_json::from_str(body).with_context(|| body.to_owned())?;
    same("versions", &body["versions"][0], &Value::from("v1"))
}

async fn socket(t: Arc<T>) -> Result<()> {
    let path = t.env.scratch.path().join(format!("{}.socket", t.ns));
    let (_child, place) = proxy(&t, &format!("--unix-socket={}", path.display())).await?;
    same("where it listens", &place, &path.display().to_string())?;
    versions(UnixStream::connect(&path).await?).await
}

async fn port(t: Arc<T>) -> Result<()> {
    let (_child, place) = proxy(&t, "--port=0").await?;
    ensure!(!place.ends_with(":0"), "it listens on {place}");
    versions(TcpStream::connect(&place).await?).await
}
