//! The end of a pod: its containers, its volumes, its object.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};

use super::worker::{Desired, Worker};
use super::{Shared, kill, logs, resources, sandbox};
use crate::api::is_status;

impl Worker {
    /// The pod is being deleted: stop, report, clean up, confirm. Each step is tried until it succeeds.
    pub(super) async fn end(&mut self) {
        let mut delay = Duration::from_millis(100);
        while let Err(error) = self.stop_all().await {
            self.later("stop its containers", &error, &mut delay).await;
        }
        self.probes.stop();
        while let Err(error) = self.report_end().await {
            self.later("report its end", &error, &mut delay).await;
        }
        while let Err(error) = self.volumes.tear_down() {
            self.later("take its volumes away", &error, &mut delay).await;
        }
        let pod = self.desired.borrow().pod().clone();
        self.shared.cgroups.remove(&self.uid, resources::qos(&pod));
        while let Err(error) = self.confirm().await {
            self.later("confirm its deletion", &error, &mut delay).await;
        }
        while let Err(error) = remove_from_runtime(&self.shared, &self.uid).await {
            self.later("remove its containers", &error, &mut delay).await;
        }
        std::fs::remove_dir_all(sandbox::log_directory(&self.shared.config, &pod)).ok();
        logs::prune_links(&self.shared.config);
    }

    async fn later(&self, what: &str, error: &anyhow::Error, delay: &mut Duration) {
        tracing::warn!("pod {}: cannot {what} yet: {error:#}", self.desired.borrow().pod().name_any());
        tokio::time::sleep(*delay).await;
        *delay = (*delay * 2).min(Duration::from_secs(10));
    }

    async fn report_end(&mut self) -> Result<()> {
        let pod = self.desired.borrow().pod().clone();
        let observed = self.observe().await?;
        self.publish(&pod, &observed, true);
        self.flush().await;
        Ok(())
    }

    async fn stop_all(&mut self) -> Result<()> {
        loop {
            let pod = self.desired.borrow_and_update().pod().clone();
            let observed = self.observe().await?;
            if observed.running().next().is_none() {
                for sandbox in &observed.sandboxes {
                    self.shared.cri.stop_sandbox(&sandbox.id).await?;
                }
                return Ok(());
            }
            let grace = kill::grace(&pod);
            let mut news = self.desired.clone();
            let sooner = news.wait_for(move |desired| kill::grace(desired.pod()) < grace);
            let killer = self.killer(&pod, &observed);
            tokio::select! {
                result = killer.all(&observed, grace, "") => result?,
                // a shorter grace period takes effect at once
                _ = sooner => {}
            }
        }
    }

    /// Waits until the final status has arrived, unless the object is gone.
    async fn flush(&self) {
        let mut desired = self.desired.clone();
        tokio::select! {
            () = self.publisher.flushed() => {}
            _ = desired.wait_for(|d| matches!(d, Desired::Gone(_))) => {}
        }
    }

    async fn confirm(&self) -> Result<()> {
        let desired = self.desired.borrow().clone();
        let Desired::Present(pod) = desired else { return Ok(()) };
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &pod.namespace().unwrap_or_default());
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(self.uid.clone()), resource_version: None }),
            ..Default::default()
        };
        match api.delete(&pod.name_any(), &params).await {
            Ok(_) => Ok(()),
            Err(error) if is_status(&error, 404) || is_status(&error, 409) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Stops and removes all the runtime has of a pod.
pub async fn remove_from_runtime(shared: &Shared, uid: &str) -> Result<()> {
    for container in shared.cri.containers(Some(uid)).await? {
        shared.cri.remove_container(&container.id).await?;
    }
    for sandbox in shared.cri.sandboxes(Some(uid)).await? {
        shared.cri.stop_sandbox(&sandbox.id).await?;
        shared.cri.remove_sandbox(&sandbox.id).await?;
    }
    Ok(())
}
