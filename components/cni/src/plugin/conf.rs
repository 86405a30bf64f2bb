//! What the runtime tells the plugin.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// One plugin's part of the conflist that the agent writes, with what the runtime adds to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetConf {
    pub cni_version: String,
    pub name: String,
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Ipv4Net,
    /// The source of the node's own connections to its pods.
    #[serde(rename = "nodeIP", default)]
    pub node_ip: Option<Ipv4Addr>,
    pub mtu: u32,
    pub data_dir: PathBuf,
    #[serde(default)]
    pub runtime_config: RuntimeConfig,
    #[serde(default, rename = "cni.dev/valid-attachments", alias = "cni.dev/attachments")]
    pub valid_attachments: Option<Vec<Attachment>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeConfig {
    #[serde(default)]
    pub port_mappings: Vec<PortMapping>,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    pub host_port: u16,
    pub container_port: u16,
    #[serde(default)]
    pub protocol: String,
    #[serde(default, rename = "hostIP")]
    pub host_ip: String,
}

/// A pod's interface, as the runtime names it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    #[serde(rename = "containerID")]
    pub container_id: String,
    pub ifname: String,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub attachment: Attachment,
    pub netns: PathBuf,
}

fn env(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set"))
}

impl Call {
    pub fn from_env() -> anyhow::Result<Self> {
        let call = Self::from_env_for_del()?;
        ensure!(!call.netns.as_os_str().is_empty(), "CNI_NETNS is not set");
        Ok(call)
    }

    /// A pod whose namespace is already gone must still be released.
    pub fn from_env_for_del() -> anyhow::Result<Self> {
        let attachment = Attachment { container_id: env("CNI_CONTAINERID")?, ifname: env("CNI_IFNAME")? };
        ensure!(!attachment.container_id.is_empty(), "CNI_CONTAINERID is empty");
        Ok(Self { attachment, netns: std::env::var_os("CNI_NETNS").unwrap_or_default().into() })
    }
}
