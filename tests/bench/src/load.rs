//! The measurements. Each ends after a time or a count, whichever comes first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::connection::Target;

/// The bodies of creates.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// 1 KiB of data.
    ConfigMap,
    Pod,
}

impl Kind {
    pub fn plural(self) -> &'static str {
        match self {
            Kind::ConfigMap => "configmaps",
            Kind::Pod => "pods",
        }
    }

    fn body(self, name: &str) -> Bytes {
        let body = match self {
            Kind::ConfigMap => {
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "x".repeat(1024)}})
            }
            // a scheduler that is not there leaves it alone
            Kind::Pod => {
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "bench"}},
                "spec": {"schedulerName": "nobody", "automountServiceAccountToken": false,
                    "containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10",
                        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}]}})
            }
        };
        Bytes::from(body.to_string())
    }
}

/// Bounds of one measurement.
#[derive(Clone, Copy)]
pub struct Bounds {
    pub time: Duration,
    pub count: u64,
}

/// Runs `request(connection, number)` on this many connections; requests per second and how many there were.
async fn rate<F>(target: &Target, connections: usize, bounds: Bounds, request: F) -> Result<(f64, u64)>
where
    F: Fn(u64) -> (&'static str, String, Bytes) + Send + Sync + 'static,
{
    let (request, numbers) = (Arc::new(request), Arc::new(AtomicU64::new(0)));
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(target.connect().await?);
    }
    let begun = Instant::now();
    let end = begun + bounds.time;
    let mut tasks = JoinSet::new();
    for mut connection in open {
        let (request, numbers) = (request.clone(), numbers.clone());
        tasks.spawn(async move {
            let mut done = 0_u64;
            while Instant::now() < end {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                if number >= bounds.count {
                    break;
                }
                let (method, path, body) = request(number);
                connection.call(method, &path, body).await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        done += task??;
    }
    Ok((done as f64 / begun.elapsed().as_secs_f64(), done))
}

pub async fn creates(
    target: &Target,
    namespace: &str,
    kind: Kind,
    prefix: &str,
    connections: usize,
    bounds: Bounds,
) -> Result<(f64, u64)> {
    let (path, prefix) = (format!("/api/v1/namespaces/{namespace}/{}", kind.plural()), prefix.to_owned());
    rate(target, connections, bounds, move |number| ("POST", path.clone(), kind.body(&format!("{prefix}-{number:06}"))))
        .await
}

pub async fn gets(target: &Target, path: &str, connections: usize, bounds: Bounds) -> Result<f64> {
    let path = path.to_owned();
    rate(target, connections, bounds, move |_| ("GET", path.clone(), Bytes::new())).await.map(|(rate, _)| rate)
}

/// Median time and size of a whole list.
pub async fn list(target: &Target, path: &str, times: usize) -> Result<(Duration, usize)> {
    let mut connection = target.connect().await?;
    let mut took = Vec::new();
    let mut size = 0;
    for _ in 0..times {
        let begun = Instant::now();
        size = connection.call("GET", path, Bytes::new()).await?;
        took.push(begun.elapsed());
    }
    took.sort();
    Ok((took[took.len() / 2], size))
}

/// How long writes take to reach watchers: p50 and p99 over all deliveries.
pub async fn deliveries(
    target: &Target,
    namespace: &str,
    watchers: usize,
    writes: usize,
) -> Result<(Duration, Duration)> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    let (ready, mut waiting) = tokio::sync::mpsc::channel(watchers);
    for _ in 0..watchers {
        let mut connection = target.connect().await?;
        let (path, ready) = (format!("{path}?watch=true&labelSelector=bench%3Dwatch"), ready.clone());
        tasks.spawn(async move {
            let mut body = connection.send("GET", &path, Bytes::new()).await?.into_body();
            ready.send(()).await?;
            let (mut buffer, mut took) = (Vec::new(), Vec::new());
            while took.len() < writes {
                let frame = body.frame().await.context("a watch ended early")??;
                let arrived = begun.elapsed();
                buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                    let event: Value = serde_json::from_slice(&buffer[..end])?;
                    buffer.drain(..=end);
                    let sent = event["object"]["data"]["sent"]
                        .as_str()
                        .and_then(|text| text.parse().ok())
                        .context("no time")?;
                    took.push(arrived.saturating_sub(Duration::from_nanos(sent)));
                }
            }
            anyhow::Ok(took)
        });
    }
    for _ in 0..watchers {
        waiting.recv().await.context("a watcher did not begin")?;
    }
    let mut writer = target.connect().await?;
    for number in 0..writes {
        let sent = begun.elapsed().as_nanos().to_string();
        let body = json!({"metadata": {"name": format!("watched-{number}"), "labels": {"bench": "watch"}}, "data": {"sent": sent}});
        writer.call("POST", &path, Bytes::from(body.to_string())).await?;
    }
    let mut all = Vec::new();
    let gather = async {
        while let Some(task) = tasks.join_next().await {
            all.extend(task??);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(60), gather).await.context("not all events came within 60 s")??;
    all.sort();
    Ok((all[all.len() / 2], all[all.len() * 99 / 100]))
}
