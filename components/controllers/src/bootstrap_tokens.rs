//! Expired bootstrap tokens are deleted (upstream: pkg/controller/bootstrap `TokenCleaner`).

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use tokio::task::JoinSet;

use crate::core::{Ctx, Key, WorkQueue, meta};

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    let queue = WorkQueue::new();
    let to = queue.clone();
    ctx.informers.bootstrap_tokens.on_change(move |_, new| new.into_iter().for_each(|it| to.add(Key::of(it.as_ref()))));
    let informers = ctx.informers.clone();
    let ready = async move { informers.bootstrap_tokens.wait_synced().await };
    let (ctx, again) = (Arc::new(ctx.clone()), queue.clone());
    queue.work(tasks, "token-cleaner", 1, ready, move |key| {
        let (ctx, again) = (ctx.clone(), again.clone());
        async move { sync(&ctx, &key, &again).await }
    });
}

async fn sync(ctx: &Ctx, key: &Key, queue: &WorkQueue) -> anyhow::Result<()> {
    let Some(secret) = ctx.informers.bootstrap_tokens.get_key(key) else { return Ok(()) };
    let now = meta::now();
    match expiration(&secret) {
        Expiration::Never => return Ok(()),
        Expiration::At(at) if at > now => {
            queue.add_after(key.clone(), at.duration_since(now).unsigned_abs());
            return Ok(());
        }
        Expiration::At(_) | Expiration::Unreadable => {}
    }
    let deleted = ctx.api::<Secret>(&key.ns).delete(&key.name, &meta::delete_exactly(&secret.metadata)).await;
    match deleted {
        Ok(_) => {
            tracing::info!(secret = %key, "an expired bootstrap token was deleted");
            Ok(())
        }
        Err(error) if meta::not_found(&error) || meta::conflict(&error) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot delete the expired bootstrap token {key}")),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Expiration {
    Never,
    At(Timestamp),
    /// As good as expired.
    Unreadable,
}

fn expiration(secret: &Secret) -> Expiration {
    let text = secret.data.as_ref().and_then(|data| data.get("expiration")).filter(|text| !text.0.is_empty());
    let Some(text) = text else { return Expiration::Never };
    let at = std::str::from_utf8(&text.0).ok().and_then(|text| text.parse().ok());
    at.map_or(Expiration::Unreadable, Expiration::At)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn expirations() {
        let of = |text: &str| {
            let data = [("expiration".to_owned(), ByteString(text.as_bytes().to_vec()))].into();
            expiration(&Secret { data: Some(data), ..Default::default() })
        };
        assert_eq!(expiration(&Secret::default()), Expiration::Never);
        assert_eq!(of(""), Expiration::Never);
        assert_eq!(of("2026-01-01T00:00:00Z"), Expiration::At("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(of("tomorrow"), Expiration::Unreadable);
    }
}
