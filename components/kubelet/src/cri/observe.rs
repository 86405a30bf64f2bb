//! What the runtime says about one pod, in the form the rest of the kubelet reasons about.

use std::cmp::Reverse;
use std::collections::HashMap;

use anyhow::Result;
use futures::future::try_join_all;
use k8s_cri::v1 as cri;

use super::{Cri, LABEL_CONTAINER};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    pub id: String,
    pub ready: bool,
    pub attempt: u32,
    pub ips: Vec<String>,
    pub created_at: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Created,
    Running,
    Exited,
    Unknown,
}

#[derive(Debug, Clone)]
pub struct Container {
    pub sandbox: String,
    pub phase: Phase,
    pub status: cri::ContainerStatus,
}

impl Container {
    pub fn id(&self) -> &str {
        &self.status.id
    }
    pub fn attempt(&self) -> u32 {
        self.status.metadata.as_ref().map_or(0, |m| m.attempt)
    }
    pub fn running(&self) -> bool {
        self.phase == Phase::Running
    }
}

/// Sandboxes newest first; containers of each name newest first.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub sandboxes: Vec<Sandbox>,
    pub containers: HashMap<String, Vec<Container>>,
}

impl Observed {
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first()
    }

    pub fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.get(name).and_then(|list| list.first())
    }

    /// By attempts, which only grow; a clock that was set back makes what comes after it older.
    fn newest_first(&mut self) {
        self.sandboxes.sort_by_key(|s| Reverse((s.attempt, s.created_at)));
        for list in self.containers.values_mut() {
            list.sort_by_key(|c| Reverse((c.attempt(), c.status.created_at)));
        }
    }

    /// The newest container of this name in the newest sandbox.
    pub fn current(&self, name: &str) -> Option<&Container> {
        let sandbox = self.sandbox()?;
        self.latest(name).filter(|c| c.sandbox == sandbox.id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Container> {
        self.containers.values().flatten()
    }

    pub fn running(&self) -> impl Iterator<Item = &Container> {
        self.all().filter(|c| c.running())
    }

    pub fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }
}

/// Statuses of exited containers never change; they are asked for once.
#[derive(Default)]
pub struct Observer {
    exited: HashMap<String, cri::ContainerStatus>,
    addresses: HashMap<String, Vec<String>>,
}

impl Observer {
    pub async fn observe(&mut self, cri: &Cri, uid: &str) -> Result<Observed> {
        let (sandboxes, containers) = tokio::try_join!(cri.sandboxes(Some(uid)), cri.containers(Some(uid)))?;
        let mut observed = Observed::default();
        for sandbox in &sandboxes {
            observed.sandboxes.push(self.sandbox(cri, sandbox).await?);
        }
        let statuses = try_join_all(containers.iter().map(|c| self.status(cri, c))).await?;
        for (container, status) in containers.into_iter().zip(statuses) {
            let Some(status) = status else { continue };
            let name = container.labels.get(LABEL_CONTAINER).cloned().unwrap_or_default();
            let phase = phase(status.state);
            let entry = Container { sandbox: container.pod_sandbox_id, phase, status };
            observed.containers.entry(name).or_default().push(entry);
        }
        observed.newest_first();
        self.remember(&observed);
        Ok(observed)
    }

    async fn sandbox(&self, cri: &Cri, sandbox: &cri::PodSandbox) -> Result<Sandbox> {
        let ready = sandbox.state == cri::PodSandboxState::SandboxReady as i32;
        let ips = match self.addresses.get(&sandbox.id) {
            Some(ips) => ips.clone(),
            None if ready => cri.sandbox_status(&sandbox.id).await?.map(addresses).unwrap_or_default(),
            None => Vec::new(),
        };
        Ok(Sandbox {
            id: sandbox.id.clone(),
            ready,
            attempt: sandbox.metadata.as_ref().map_or(0, |m| m.attempt),
            ips,
            created_at: sandbox.created_at,
        })
    }

    async fn status(&self, cri: &Cri, container: &cri::Container) -> Result<Option<cri::ContainerStatus>> {
        match self.exited.get(&container.id) {
            Some(status) => Ok(Some(status.clone())),
            None => cri.container_status(&container.id).await,
        }
    }

    fn remember(&mut self, observed: &Observed) {
        self.exited = observed
            .all()
            .filter(|c| c.phase == Phase::Exited && c.status.finished_at > 0)
            .map(|c| (c.id().to_string(), c.status.clone()))
            .collect();
        self.addresses =
            observed.sandboxes.iter().filter(|s| !s.ips.is_empty()).map(|s| (s.id.clone(), s.ips.clone())).collect();
    }
}

fn addresses(status: cri::PodSandboxStatus) -> Vec<String> {
    let Some(network) = status.network else { return Vec::new() };
    let mut ips: Vec<String> = Vec::new();
    if !network.ip.is_empty() {
        ips.push(network.ip);
    }
    ips.extend(network.additional_ips.into_iter().map(|ip| ip.ip));
    ips
}

fn phase(state: i32) -> Phase {
    match cri::ContainerState::try_from(state) {
        Ok(cri::ContainerState::ContainerCreated) => Phase::Created,
        Ok(cri::ContainerState::ContainerRunning) => Phase::Running,
        Ok(cri::ContainerState::ContainerExited) => Phase::Exited,
        _ => Phase::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_so_although_the_clock_was_set_back_before_it() {
        let sandbox = |id: &str, attempt, created_at| Sandbox {
            id: id.into(),
            ready: attempt == 1,
            attempt,
            ips: Vec::new(),
            created_at,
        };
        let container = |sandbox: &str, attempt, created_at| Container {
            sandbox: sandbox.into(),
            phase: Phase::Running,
            status: cri::ContainerStatus {
                metadata: Some(cri::ContainerMetadata { name: "c".into(), attempt }),
                created_at,
                ..cri::ContainerStatus::default()
            },
        };
        let mut observed = Observed {
            sandboxes: vec![sandbox("dead", 0, 3600), sandbox("lives", 1, 10)],
            containers: HashMap::from([("c".into(), vec![container("dead", 0, 3601), container("lives", 1, 11)])]),
        };
        observed.newest_first();
        assert_eq!(observed.sandbox().map(|s| s.id.as_str()), Some("lives"));
        assert_eq!(observed.current("c").map(Container::attempt), Some(1));
    }
}
