//! From a container's spec and what was resolved for it to the runtime's configuration: pure.

use std::collections::HashMap;

use anyhow::Result;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};
use sha2::{Digest, Sha256};

use super::security::{self, ImageUser};
use super::{env, resources, sandbox};
use crate::cri::{LABEL_CONTAINER, image_spec};

pub const ANNOTATION_HASH: &str = "io.kubernetes.container.hash";
pub const ANNOTATION_RESTARTS: &str = "io.kubernetes.container.restartCount";
pub const ANNOTATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const ANNOTATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const ANNOTATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
pub const DEFAULT_MESSAGE_PATH: &str = "/dev/termination-log";

/// Everything that had to be looked up, mounted or pulled first.
pub struct Resolved {
    pub env: Vec<(String, String)>,
    pub mounts: Vec<cri::Mount>,
    pub devices: Vec<cri::Device>,
    pub image_id: String,
    pub image_user: ImageUser,
    pub attempt: u32,
    pub node_memory: u64,
    /// Files of cgroup v2 that every container on this node is given.
    pub unified: HashMap<String, String>,
    /// For an ephemeral container: the container whose processes it sees.
    pub target: Option<String>,
}

pub fn config(pod: &Pod, container: &Container, resolved: Resolved) -> Result<cri::ContainerConfig> {
    let variables: HashMap<&str, &str> = resolved.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expand = |words: Option<&Vec<String>>| -> Vec<String> {
        let lookup = |name: &str| variables.get(name).map(|v| (*v).to_string());
        words.into_iter().flatten().map(|word| env::expand(word, lookup)).collect()
    };
    let mut security = security::container(pod, container, &resolved.image_user)?;
    if let (Some(target), Some(namespaces)) = (resolved.target, security.namespace_options.as_mut()) {
        namespaces.pid = cri::NamespaceMode::Target as i32;
        namespaces.target_id = target;
    }
    let mut labels = sandbox::pod_labels(pod);
    labels.insert(LABEL_CONTAINER.into(), container.name.clone());
    let image = container.image.clone().unwrap_or_default();
    Ok(cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: container.name.clone(), attempt: resolved.attempt }),
        image: Some(cri::ImageSpec { user_specified_image: image, ..image_spec(&resolved.image_id) }),
        command: expand(container.command.as_ref()),
        args: expand(container.args.as_ref()),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        annotations: annotations(pod, container, resolved.attempt),
        labels,
        mounts: resolved.mounts,
        devices: resolved.devices,
        log_path: format!("{}/{}.log", container.name, resolved.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources::container(pod, container, resolved.node_memory, resolved.unified)),
            security_context: Some(security),
        }),
        envs: resolved.env.into_iter().map(|(key, value)| cri::KeyValue { key, value }).collect(),
        ..Default::default()
    })
}

fn annotations(pod: &Pod, container: &Container, attempt: u32) -> HashMap<String, String> {
    let mut all = HashMap::from([
        (ANNOTATION_HASH.to_string(), hash(container)),
        (ANNOTATION_RESTARTS.to_string(), attempt.to_string()),
        (ANNOTATION_MESSAGE_PATH.to_string(), message_path(container).to_string()),
        (
            ANNOTATION_MESSAGE_POLICY.to_string(),
            container.termination_message_policy.clone().unwrap_or_else(|| "File".into()),
        ),
    ]);
    if let Some(grace) = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds) {
        all.insert(ANNOTATION_GRACE.to_string(), grace.to_string());
    }
    all
}

pub fn message_path(container: &Container) -> &str {
    container.termination_message_path.as_deref().filter(|p| !p.is_empty()).unwrap_or(DEFAULT_MESSAGE_PATH)
}

/// Changes when the container must be replaced: with its image (all else of it is immutable).
pub fn hash(container: &Container) -> String {
    let mut hasher = Sha256::new();
    hasher.update(container.name.as_bytes());
    hasher.update([0]);
    hasher.update(container.image.as_deref().unwrap_or_default().as_bytes());
    hex::encode(&hasher.finalize()[..4])
}

/// An ephemeral container seen as an ordinary one (KEP-277): it has no probes, ports or restarts.
pub fn from_ephemeral(ephemeral: &EphemeralContainer) -> Container {
    let e = ephemeral.clone();
    Container {
        name: e.name,
        image: e.image,
        image_pull_policy: e.image_pull_policy,
        command: e.command,
        args: e.args,
        working_dir: e.working_dir,
        env: e.env,
        env_from: e.env_from,
        volume_mounts: e.volume_mounts,
        security_context: e.security_context,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        tty: e.tty,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        resources: e.resources,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::resources::tests::pod_from;
    use super::*;

    #[test]
    fn a_spec_becomes_a_config() {
        let pod = pod_from(serde_json::json!({"containers": [{"name": "c", "image": "x:1", "command": ["sh", "-c"],
            "args": ["echo $(A) $(B)"], "workingDir": "/w", "securityContext": {"allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true, "capabilities": {"add": ["NET_ADMIN"]}}}]}));
        let resolved = Resolved {
            env: vec![("A".into(), "1".into())],
            mounts: vec![],
            devices: vec![],
            image_id: "sha256:1".into(),
            image_user: ImageUser { uid: None, name: "www".into() },
            attempt: 3,
            node_memory: 1 << 30,
            unified: HashMap::new(),
            target: None,
        };
        let built = config(&pod, &pod.spec.as_ref().unwrap().containers[0], resolved).unwrap();
        assert_eq!(built.args, ["echo 1 $(B)"]);
        assert_eq!(built.log_path, "c/3.log");
        assert_eq!(built.labels["io.kubernetes.container.name"], "c");
        assert_eq!(built.annotations[ANNOTATION_RESTARTS], "3");
        let security = built.linux.unwrap().security_context.unwrap();
        assert!(security.no_new_privs && security.readonly_rootfs);
        assert_eq!(security.run_as_username, "www");
        assert_eq!(security.capabilities.unwrap().add_capabilities, ["NET_ADMIN"]);
    }
}
