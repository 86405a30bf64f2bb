//! The store that the configuration names.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use store::{EmbeddedStore, EtcdConfig, EtcdStore, Store};

use crate::config::Config;

/// With etcd this waits until it answers, its store is made, and all of it is read.
pub async fn open(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let Some(etcd) = &config.etcd else {
        let store = EmbeddedStore::open(&config.data_dir)
            .with_context(|| format!("cannot open the store in {}", config.data_dir.display()))?;
        return Ok(store);
    };
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let options = EtcdConfig {
        endpoints: etcd.endpoints.clone(),
        ca: Some(read(&etcd.ca_file)?),
        identity: Some((read(&etcd.cert_file)?, read(&etcd.key_file)?)),
        founder: etcd.founder.then(|| config.data_dir.clone()),
        cluster: etcd.cluster.clone(),
    };
    let store = EtcdStore::open(&options)
        .await
        .with_context(|| format!("cannot use the store in etcd at {}", etcd.endpoints.join(", ")))?;
    Ok(store)
}
