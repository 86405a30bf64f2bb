//! The plugin's configuration. The container runtime reports its network ready once the file is there.

use std::fs;
use std::io::Write;

use anyhow::Context;
use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::config::Config;

fn conflist(config: &Config, pod_cidr: Ipv4Net, mtu: u32) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "kinstall",
        "plugins": [{
            "type": "kinstall-cni",
            "podCIDR": pod_cidr,
            "nodeIP": config.node_ip,
            "mtu": mtu,
            "dataDir": config.data_dir,
            "capabilities": {"portMappings": true},
        }],
    })
}

pub fn remove(config: &Config) -> anyhow::Result<()> {
    crate::remove(&config.cni_conf_dir.join(crate::CONFLIST), |path| fs::remove_file(path))
}

/// Writes the file at once and only if it changes: the runtime watches the directory.
pub fn write(config: &Config, pod_cidr: Ipv4Net, mtu: u32) -> anyhow::Result<()> {
    let text = format!("{:#}\n", conflist(config, pod_cidr, mtu));
    let path = config.cni_conf_dir.join(crate::CONFLIST);
    if fs::read_to_string(&path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    let context = || format!("cannot write {}", path.display());
    fs::create_dir_all(&config.cni_conf_dir).with_context(context)?;
    let mut new = tempfile::NamedTempFile::new_in(&config.cni_conf_dir).with_context(context)?;
    new.write_all(text.as_bytes()).with_context(context)?;
    new.as_file().sync_all().with_context(context)?;
    new.persist(&path).with_context(context)?;
    tracing::info!(%pod_cidr, path = %path.display(), "wrote the network plugin's configuration");
    Ok(())
}
