//! Lists in pieces, and tables.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use crate::client::JSON;
use crate::context::{T, names, same};
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new(
            "[sig-api-machinery] Servers with support for API chunking should return chunks of results for list calls",
            chunks,
        ),
        Entry::new(
            "[sig-api-machinery] Servers with support for API chunking should support continue listing from the last key if the original version has been compacted away, though the list is inconsistent [Slow]",
            compacted,
        )
        .limit(900),
        Entry::new(
            "[sig-api-machinery] Servers with support for Table transformation should return a 406 for a backend which does not implement metadata",
            no_table,
        ),
    ]
}

const TOTAL: usize = 400;

fn name(number: usize) -> String {
    format!("template-{number:04}")
}

async fn many(t: &T) -> Result<()> {
    futures::stream::iter(0..TOTAL)
        .map(|number| {
            let template = json!({"spec": {"containers": [{"name": "test", "image": t.env.surroundings.image}]}});
            let body = json!({"metadata": {"name": name(number)}, "template": template});
            async move { t.make(&Res::POD_TEMPLATE, body).await }
        })
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await
        .map(drop)
}

fn remaining(list: &Value) -> u64 {
    list["metadata"]["remainingItemCount"].as_u64().unwrap_or(0)
}

async fn page(t: &T, limit: usize, token: &str) -> Result<Value> {
    let path = Res::POD_TEMPLATE.collection(&t.ns);
    let token = token.replace('=', "%3D").replace('+', "%2B").replace('/', "%2F");
    t.api.get(&format!("{path}?limit={limit}&continue={token}")).await
}

async fn chunks(t: Arc<T>) -> Result<()> {
    many(&t).await?;
    for limit in [1, 7, 150, TOTAL] {
        let (mut seen, mut token, mut version) = (0, String::new(), Value::Null);
        loop {
            let list = page(&t, limit, &token).await?;
            let got = names(&list);
            ensure!(got.len() <= limit, "{} items where {limit} is the limit", got.len());
            if version.is_null() {
                version = list["metadata"]["resourceVersion"].clone();
            }
            same("resourceVersion of a later page", &list["metadata"]["resourceVersion"], &version)?;
            for item in got {
                same("item in order", item, name(seen).as_str())?;
                seen += 1;
            }
            let Some(next) = list["metadata"]["continue"].as_str().filter(|next| !next.is_empty()) else { break };
            same("remainingItemCount", &remaining(&list), &((TOTAL - seen) as u64))?;
            token = next.to_owned();
            if limit == 1 && seen == 20 {
                break;
            }
        }
        ensure!(limit == 1 || seen == TOTAL, "{seen} of {TOTAL} items in pages of {limit}");
    }
    let all = t.api.get(&format!("{}?limit=500", Res::POD_TEMPLATE.collection(&t.ns))).await?;
    same("items without a limit that matters", &names(&all).len(), &TOTAL)?;
    ensure!(all["metadata"].get("continue").is_none(), "a complete list has a continue token");
    ensure!(all["metadata"].get("remainingItemCount").is_none(), "a complete list has remainingItemCount");
    Ok(())
}

async fn compacted(t: Arc<T>) -> Result<()> {
    many(&t).await?;
    let first = page(&t, TOTAL / 10, "").await?;
    let version = first["metadata"]["resourceVersion"].clone();
    let token = first["metadata"]["continue"].as_str().context("no continue token")?.to_owned();
    let path = Res::POD_TEMPLATE.collection(&t.ns);
    let encoded = token.replace('=', "%3D").replace('+', "%2B").replace('/', "%2F");
    // nothing tells a client that its snapshot is gone; upstream compacts every five minutes
    let expired = loop {
        let answer =
            t.api.call("GET", &format!("{path}?limit={}&continue={encoded}", TOTAL / 10), JSON, &Value::Null).await?;
        match answer.status {
            200 => tokio::time::sleep(std::time::Duration::from_secs(5)).await,
            410 => break answer.json()?,
            _ => bail!("{}: {} {}", answer.request, answer.status, answer.text()),
        }
    };
    same("reason", &expired["reason"], &json!("Expired"))?;
    let mut token = expired["metadata"]["continue"].as_str().context("the refusal has no continue token")?.to_owned();
    let (mut seen, mut fresh) = (TOTAL / 10, Value::Null);
    loop {
        let list = page(&t, TOTAL / 10, &token).await?;
        if fresh.is_null() {
            fresh = list["metadata"]["resourceVersion"].clone();
            ensure!(fresh != version, "an inconsistent list carries the old resourceVersion");
        }
        same("resourceVersion of a later page", &list["metadata"]["resourceVersion"], &fresh)?;
        for item in names(&list) {
            same("item in order", item, name(seen).as_str())?;
            seen += 1;
        }
        match list["metadata"]["continue"].as_str().filter(|next| !next.is_empty()) {
            Some(next) => token = next.to_owned(),
            None => return same("items in all pages", &seen, &TOTAL),
        }
    }
}

async fn no_table(t: Arc<T>) -> Result<()> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": t.ns, "verb": "list", "resource": "pods"}},
    });
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let headers = [("accept", table), ("content-type", JSON)];
    let refused = t.api.send("POST", path, &headers, review.to_string()).await?.refused(406, "")?;
    same("reason", &refused["reason"], &json!("NotAcceptable"))?;
    let both = format!("{table},{JSON}");
    let answer =
        t.api.send("POST", path, &[("accept", both.as_str()), ("content-type", JSON)], review.to_string()).await?;
    same("kind with a fallback", &answer.ok()?["kind"], &json!("SelfSubjectAccessReview"))?;
    let pods = t.api.send("GET", &Res::POD.collection(&t.ns), &[("accept", table)], "").await?.ok()?;
    same("kind of a list of pods as a table", &pods["kind"], &json!("Table"))
}
