//! `kube-system/extension-apiserver-authentication`: how extension servers recognise clients, and this server as a proxy.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use futures::StreamExt;
use serde_json::{Value, json};
use store::{Revision, WatchItem};
use tokio::sync::Notify;

use crate::{config::Config, core::Core, registry};

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
        let mut replaces = false;
        loop {
            let written = next_write(&core, core.store.revision());
            if let Err(error) = publish(&core, replaces).await {
                tracing::warn!(error = format!("{error:#}"), "the authorities for extension servers are not published");
            }
            replaces = tokio::select! {
                () = core.stopping.cancelled() => return,
                () = changed.notified() => true,
                () = written => false,
                () = tokio::time::sleep(PERIOD) => false,
            };
        }
    });
}

/// Who replaces says what there is now: own files have changed. Else own authorities are added to what others have written:
/// while authorities are exchanged, servers have different ones, and must not take each other's back.
async fn publish(core: &Arc<Core>, replaces: bool) -> anyhow::Result<()> {
    let mut wanted = config_map(&core.config)?;
    let row = registry::find("", "v1", "configmaps").context("ConfigMaps are not served")?;
    if !replaces && let Ok(there) = registry::read(core, row, NAMESPACE, NAME).await {
        wanted["data"] = merged(&there.object["data"], &wanted["data"]);
    }
    super::ensure(core, wanted).await
}

/// What is there with what is missing of our own.
fn merged(there: &Value, own: &Value) -> Value {
    let text = |data: &Value, key: &str| data[key].as_str().unwrap_or_default().to_owned();
    let keys = own.as_object().into_iter().flatten().map(|(key, _)| key);
    let all = keys.map(|key| (key.clone(), Value::from(added(key, &text(there, key), &text(own, key)))));
    Value::Object(all.collect())
}

/// Certificates, or a list in JSON.
fn added(key: &str, there: &str, own: &str) -> String {
    if key.ends_with("-ca-file") {
        let missing = certificates(own).filter(|one| !certificates(there).any(|it| it == *one));
        let missing: String = missing.map(|one| format!("{one}\n")).collect();
        // somebody's own text stays as it is if it holds all there is to hold
        return if missing.is_empty() { there.to_owned() } else { format!("{}{missing}", with_end(there)) };
    }
    let list = |text: &str| serde_json::from_str::<Vec<String>>(text).unwrap_or_default();
    let (mut all, before) = (list(there), list(there).len());
    all.extend(list(own).into_iter().filter(|one| !list(there).contains(one)));
    if all.len() == before && !there.is_empty() { there.to_owned() } else { json!(all).to_string() }
}

fn with_end(text: &str) -> String {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}")
}

/// The certificates of a PEM file, each as it stands there.
fn certificates(text: &str) -> impl Iterator<Item = &str> {
    const END: &str = "-----END CERTIFICATE-----";
    text.split_inclusive(END).filter_map(|part| part.find("-----BEGIN CERTIFICATE-----").map(|begin| &part[begin..]))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_add_their_authorities_and_take_nobodys_away() {
        let pem = |name: &str| format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n");
        let data = |names: &[&str], allowed: &[&str]| {
            let text: String = names.iter().map(|name| pem(name)).collect();
            json!({"client-ca-file": text, "requestheader-allowed-names": json!(allowed).to_string()})
        };
        assert_eq!(merged(&data(&["old"], &["x"]), &data(&["new"], &["y"])), data(&["old", "new"], &["x", "y"]));
        let both = data(&["new", "old"], &["y", "x"]);
        assert_eq!(merged(&both, &data(&["old"], &["x"])), both, "or two servers would write for ever");
        assert_eq!(merged(&json!({}), &data(&["new"], &[])), data(&["new"], &[]));
        assert_eq!(
            merged(&json!({"client-ca-file": "nonsense"}), &data(&["new"], &["y"]))["client-ca-file"],
            format!("nonsense\n{}", pem("new"))
        );
    }
}
