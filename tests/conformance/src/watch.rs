//! A watch: one JSON event a line, for as long as the server sends.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

pub struct Watch {
    response: reqwest::Response,
    path: String,
    buffer: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub kind: String,
    pub object: Value,
}

impl Event {
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }
    pub fn version(&self) -> &str {
        self.object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
    }
}

impl Watch {
    pub(crate) fn new(response: reqwest::Response, path: String) -> Self {
        Watch { response, path, buffer: Vec::new() }
    }

    /// The next event, bookmarks too; `None` when the server ended the stream.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line)
                    .with_context(|| format!("{}: not an event: {}", self.path, String::from_utf8_lossy(&line)))?;
                let kind = event["type"].as_str().unwrap_or_default().to_owned();
                return Ok(Some(Event { kind, object: event["object"].clone() }));
            }
            match self.response.chunk().await.with_context(|| self.path.clone())? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }

    /// The next event that is no bookmark, within 30 s.
    pub async fn event(&mut self) -> Result<Event> {
        let path = self.path.clone();
        let wait = async {
            loop {
                match self.next().await? {
                    Some(event) if event.kind == "BOOKMARK" => {}
                    Some(event) => return Ok(event),
                    None => bail!("{path}: the watch ended where an event was expected"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait)
            .await
            .with_context(|| format!("{path}: no event within 30 s"))?
    }

    /// The next event must be of this kind and for this object.
    pub async fn expect(&mut self, kind: &str, name: &str) -> Result<Value> {
        let event = self.event().await?;
        ensure!(
            event.kind == kind && event.name() == name,
            "{}: expected {kind} of {name}, got {} {}",
            self.path,
            event.kind,
            event.object
        );
        Ok(event.object)
    }

    /// Skips events until one pleases.
    pub async fn until(&mut self, what: &str, pleases: impl Fn(&Event) -> bool) -> Result<Event> {
        loop {
            let event = self.event().await.with_context(|| format!("waiting for {what}"))?;
            if pleases(&event) {
                return Ok(event);
            }
        }
    }

    /// Nothing may come within this time.
    pub async fn silent(&mut self, time: Duration) -> Result<()> {
        match tokio::time::timeout(time, self.event()).await {
            Err(_) => Ok(()),
            Ok(event) => {
                let event = event?;
                bail!("{}: expected no event, got {} {}", self.path, event.kind, event.object)
            }
        }
    }
}
