//! A node's pods go elsewhere, if anybody is there to end them.

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::super::volumes;
use super::{Reach, Removal};
use crate::api::wait::node_silent;
use crate::drain::{self, Pulse, Stopped, drain, pulse};

const SILENT: &str = "its kubelet is silent, so its pods are left to the cluster's garbage collection";

impl Removal<'_> {
    /// Its pods elsewhere; of a node that is gone nobody could say that they ended.
    pub(super) async fn empty(&self, node: &Node, reach: Reach) -> anyhow::Result<()> {
        let name = node.name_any();
        self.keep_volumes(node).await?;
        if reach != Reach::Ours && !self.is_heard(node).await? {
            self.tell(&name, SILENT);
            return Ok(());
        }
        let options = drain::Options {
            force: self.draining.force,
            delete_empty_dir_data: self.draining.delete_emptydir_data,
            timeout: self.draining.timeout,
        };
        match drain(&self.client, &name, &options, |text| self.tell(&name, text)).await {
            Ok(drained) => {
                self.tell(&name, &drained.to_string());
                Ok(())
            }
            // containers that still run there end when the host is taken back
            Err(Stopped::Silent) => {
                self.tell(&name, SILENT);
                Ok(())
            }
            Err(stopped) => bail!(
                "not drained: {stopped}\nthe node stays cordoned; run the command again, or `kubectl uncordon {name}` to keep it"
            ),
        }
    }

    /// Whether its kubelet is there to end pods, asked of the cluster since its host says nothing. Meanwhile nothing new comes to
    /// the node.
    async fn is_heard(&self, node: &Node) -> anyhow::Result<bool> {
        let name = node.name_any();
        Api::<Node>::all(self.client.clone()).cordon(&name).await.context("cannot cordon the node")?;
        if node_silent(node) {
            return Ok(false);
        }
        self.tell(&name, "cordoned; waiting for a sign of its kubelet, since kinstall does not reach it on its host");
        Ok(pulse(&self.client, &name).await == Pulse::Beats)
    }

    async fn keep_volumes(&self, node: &Node) -> anyhow::Result<()> {
        let name = node.name_any();
        let hostname = node.labels().get("kubernetes.io/hostname").unwrap_or(&name);
        let all = Api::<PersistentVolume>::all(self.client.clone()).list(&ListParams::default()).await?;
        let lost = volumes::lost_with(&all.items, hostname);
        if lost.is_empty() || self.draining.force {
            return Ok(());
        }
        bail!(
            "the volumes of these claims lie on its disk and would be lost: {}; nothing was changed (move what they hold and \
             delete the claims, or give --force)",
            lost.join(", ")
        )
    }
}
