//! `kube-system/extension-apiserver-authentication`: how extension servers recognise clients, and this server as a proxy.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use crate::config::Config;

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
    let metadata = json!({"name": "extension-apiserver-authentication", "namespace": "kube-system"});
    Ok(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}))
}
