//! Images of versions that no host has any more. They have no registry to come back from, so those that any pod of the cluster still
//! names stay on every host: it may be moved there.

use std::time::Duration;

use anyhow::Context as _;
use futures::future::join_all;
use hoststate::resource::OUR_IMAGES;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::runtime::watcher::Config;
use serde_json::json;

use super::Upgrading;
use crate::api::wait;
use crate::commands::fleet::{self, Member};
use crate::desired::components_image;
use crate::host::{Executable, HostError};

/// Pods of the addons' old version end while those of the new one serve already.
const PATIENCE: Duration = Duration::from_secs(60);

impl Upgrading<'_> {
    /// When hosts and addons have the new version. What does not succeed is told, and left for the next run.
    pub async fn tidy(&self, client: &Client) {
        let image = components_image(&self.bundle.manifest.version);
        let addons: Api<Pod> = Api::namespaced(client.clone(), "kube-system");
        let is_new = |pod: &Pod| images(pod).all(|name| name == image || !name.starts_with(OUR_IMAGES));
        // who stays longer keeps its image
        let _ = wait::until(addons, Config::default(), PATIENCE, |pods| pods.values().all(is_new)).await;
        let keep = match named(client).await {
            Ok(keep) => keep,
            Err(error) => {
                return self.run.printer.warning(&format!("images of old versions stay on the hosts: {error:#}"));
            }
        };
        let opened = self.fleet.open(self.run, Executable::Of(self.bundle)).await;
        let (mut members, _) = fleet::sort_out(self.run.printer, opened);
        join_all(members.iter_mut().map(|member| self.tidy_one(member, &keep))).await;
        fleet::close(members).await;
    }

    /// One host that has been brought back.
    pub async fn tidy_back(&self, member: &mut Member<'_>, client: &Client) {
        match named(client).await {
            Ok(keep) => self.tidy_one(member, &keep).await,
            Err(error) => self.run.printer.warning(&format!("{}: images stay there: {error:#}", member.host.name)),
        }
    }

    async fn tidy_one(&self, member: &mut Member<'_>, keep: &[String]) {
        let name = &member.host.name;
        let removed: Result<_, HostError> = self.fleet.bounded(member.host, member.session.tidy(keep)).await;
        match removed {
            Ok(done) if done.changed == 0 => {}
            Ok(done) => {
                let text = format!("  {name}: removed {} images of other versions", done.changed);
                self.run.printer.event("images", &text, json!({"host": name, "removed": done.changed}));
            }
            Err(error) => self.run.printer.warning(&format!("images of other versions stay on it: {error}")),
        }
    }
}

/// The images of ours that pods name, whatever their state.
async fn named(client: &Client) -> anyhow::Result<Vec<String>> {
    let pods = Api::<Pod>::all(client.clone()).list(&ListParams::default()).await.context("cannot ask for pods")?;
    let ours = pods.iter().flat_map(images).filter(|name| name.starts_with(OUR_IMAGES));
    let mut names: Vec<_> = ours.map(str::to_owned).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

fn images(pod: &Pod) -> impl Iterator<Item = &str> {
    let specs = pod.spec.iter();
    let containers = specs.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    containers.filter_map(|container| container.image.as_deref())
}
