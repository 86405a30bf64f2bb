//! The copy: one JSON text.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use hoststate::resource::ClusterRef;
use serde::{Deserialize, Serialize};

use crate::commands::Run;
use crate::inventory::{Inventory, Sink};

/// Raised when an older reader would misread; it refuses instead.
const FORMAT: u32 = 1;
/// Made anew from the hosts' own records; it changes with every `up`.
const APPLIED: &str = "applied.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    format: u32,
    pub cluster: ClusterRef,
    /// As it was written.
    pub inventory: String,
    /// Text by its path below the state directory.
    pub files: BTreeMap<String, String>,
}

impl Copy {
    pub fn of(run: &Run<'_>) -> anyhow::Result<Self> {
        let inventory =
            std::fs::read_to_string(&run.inventory).with_context(|| format!("cannot read {}", run.inventory))?;
        let mut files = run.state.files()?;
        files.remove(APPLIED);
        let as_text = |(name, bytes)| match String::from_utf8(bytes) {
            Ok(text) => Ok((name, text)),
            Err(_) => bail!("{name} in the state directory is no text"),
        };
        let files = files.into_iter().map(as_text).collect::<anyhow::Result<_>>()?;
        Ok(Self { format: FORMAT, cluster: run.state.identity()?, inventory, files })
    }

    pub fn text(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let copy: Self =
            serde_json::from_str(text).context("the copy on this host is damaged; try another control plane")?;
        ensure!(
            copy.format == FORMAT,
            "the copy has format {}, this kinstall reads format {FORMAT}: use the kinstall that wrote it",
            copy.format
        );
        Ok(copy)
    }

    /// What an operator cannot make anew and is not here.
    pub fn missing(&self) -> Vec<&'static str> {
        let inventory = crate::inventory::decode(&self.inventory, &mut Sink::default());
        let several = inventory.as_ref().is_some_and(own_etcd);
        expected(several).into_iter().filter(|name| !self.files.contains_key(*name)).collect()
    }
}

fn own_etcd(inventory: &Inventory) -> bool {
    let is_control_plane = |host: &&crate::inventory::Host| {
        host.roles.iter().any(|role| role.value == crate::inventory::Role::ControlPlane)
    };
    inventory.etcd.is_none() && inventory.hosts.iter().filter(is_control_plane).count() > 1
}

fn expected(own_etcd: bool) -> Vec<&'static str> {
    let mut list = vec![
        "cluster.json",
        "pki/ca.crt",
        "pki/ca.key",
        "pki/front-proxy-ca.crt",
        "pki/front-proxy-ca.key",
        "pki/sa.pub",
        "pki/sa.key",
    ];
    if own_etcd {
        list.extend(["pki/etcd-ca.crt", "pki/etcd-ca.key"]);
    }
    list
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let inventory = |control_planes: usize| {
            let host = |index| format!("- {{name: h{index}, address: 10.0.0.{index}, role: controlPlane}}\n");
            format!("cluster: c\nhosts:\n{}", (0..control_planes).map(host).collect::<String>())
        };
        let files = expected(false).into_iter().map(|name| (name.to_owned(), String::new())).collect();
        let cluster = ClusterRef { name: "c".into(), id: "1".into() };
        let one = Copy { format: FORMAT, cluster, inventory: inventory(1), files };
        assert!(one.missing().is_empty());
        let mut three = Copy { inventory: inventory(3), ..one.clone() };
        three.files.remove("pki/sa.key");
        assert_eq!(three.missing(), ["pki/sa.key", "pki/etcd-ca.crt", "pki/etcd-ca.key"]);
        assert_eq!(Copy::parse(&one.text().unwrap()).unwrap(), one);
        assert!(Copy::parse("{").unwrap_err().to_string().contains("another control plane"));
    }
}
