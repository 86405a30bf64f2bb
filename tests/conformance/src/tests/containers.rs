//! Pods that run something, for entries that only kubelets can show.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::client::JSON;
use crate::context::T;
use crate::resource::Res;

/// A container named `main` of the image with the tools: a shell runs the script.
pub fn shell(t: &T, script: &str) -> Value {
    json!({"name": "main", "image": t.env.surroundings.shell_image, "command": ["sh", "-c", script]})
}

/// What the pod's only container has written.
pub async fn log(t: &T, pod: &str) -> Result<String> {
    let path = format!("{}/log", t.path(&Res::POD, pod));
    let answer = t.api.call("GET", &path, JSON, &Value::Null).await?;
    ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
    Ok(answer.text())
}

/// A projected volume at `/v/<number>` for each list of sources: volumes, and mounts for a container.
pub fn projected(volumes: &[Vec<Value>]) -> (Value, Value) {
    let all = volumes.iter().enumerate();
    let volumes: Vec<Value> =
        all.clone().map(|(n, sources)| json!({"name": format!("v{n}"), "projected": {"sources": sources}})).collect();
    let mounts: Vec<Value> =
        all.map(|(n, _)| json!({"name": format!("v{n}"), "mountPath": format!("/v/{n}")})).collect();
    (json!(volumes), json!(mounts))
}

/// The certificates of a text, as they are written there.
pub fn certificates(text: &str) -> BTreeSet<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    text.split(BEGIN)
        .skip(1)
        .filter_map(|rest| rest.split_once(END))
        .map(|(body, _)| format!("{BEGIN}{body}{END}"))
        .collect()
}
