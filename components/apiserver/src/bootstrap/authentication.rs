//! `kube-system/extension-apiserver-authentication`: how extension servers recognise clients, and this server as a proxy.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use futures::StreamExt;
use serde_json::{Value, json};
use store::{Revision, WatchItem};
use tokio::sync::Notify;

use crate::{config::Config, core::Core, files, registry};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
const PERIOD: Duration = Duration::from_secs(60);

pub fn config_map(config: &Config) -> anyhow::Result<Value> {
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let mut data = json!({"client-ca-file": read(&config.client_ca_file)?});
    if let Some(proxy) = &config.request_header {
        data["requestheader-client-ca-file"] = read(&proxy.client_ca_file)?.into();
        for (key, list) in [
            ("requestheader-allowed-names", &proxy.allowed_names),
            ("requestheader-username-headers", &proxy.username_headers),
            ("requestheader-uid-headers", &proxy.uid_headers),
            ("requestheader-group-headers", &proxy.group_headers),
            ("requestheader-extra-headers-prefix", &proxy.extra_header_prefixes),
        ] {
            data[key] = json!(list).to_string().into();
        }
    }
    let metadata = json!({"name": NAME, "namespace": NAMESPACE});
    Ok(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}))
}

/// Keeps the ConfigMap as it has to be, until the server stops: it is looked at when it or one of the authorities' files changes,
/// and every minute as upstream does.
pub fn keep(core: &Arc<Core>) {
    let mut files = vec![core.config.client_ca_file.clone()];
    files.extend(core.config.request_header.as_ref().map(|proxy| proxy.client_ca_file.clone()));
    let changed = Arc::new(Notify::new());
    let notify = changed.clone();
    if let Err(error) = files::watch(files, core.stopping.clone(), move || notify.notify_one()) {
        tracing::warn!(error = format!("{error:#}"), "changed authorities are published late");
    }
    let core = core.clone();
    tokio::spawn(async move {
        loop {
            let written = next_write(&core, core.store.revision());
            if let Err(error) = publish(&core).await {
                tracing::warn!(error = format!("{error:#}"), "the authorities for extension servers are not published");
            }
            tokio::select! {
                () = core.stopping.cancelled() => return,
                () = changed.notified() => {}
                () = written => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    });
}

async fn publish(core: &Arc<Core>) -> anyhow::Result<()> {
    super::ensure(core, config_map(&core.config)?).await
}

/// Ends when the ConfigMap is written or deleted after a revision.
async fn next_write(core: &Core, after: Revision) {
    let key = registry::find("", "v1", "configmaps").map(|row| registry::key(row, NAMESPACE, NAME));
    if let Some(key) = key
        && let Ok(mut items) = core.store.watch(&key, after).await
    {
        while let Some(Ok(item)) = items.next().await {
            if matches!(item, WatchItem::Event(_)) {
                return;
            }
        }
    }
    std::future::pending().await
}
