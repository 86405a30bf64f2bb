//! Security contexts of pods and containers in the runtime's terms.

use anyhow::{Result, bail};
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
};

/// Hidden from containers unless procMount is Unmasked; the list is the runtimes' common one.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
];
const MASKED_SYS: [&str; 2] = ["/sys/firmware", "/sys/devices/virtual/powercap"];
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub fn int(value: i64) -> Option<cri::Int64Value> {
    Some(cri::Int64Value { value })
}

fn pod_context(pod: &Pod) -> PodSecurityContext {
    pod.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default()
}

pub fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|s| s.privileged).unwrap_or(false)
}

/// Which namespaces are the node's own and which are shared in the pod.
pub fn namespaces(pod: &Pod) -> cri::NamespaceOption {
    let spec = pod.spec.as_ref();
    let on = |flag: Option<bool>, otherwise: cri::NamespaceMode| {
        if flag == Some(true) { cri::NamespaceMode::Node as i32 } else { otherwise as i32 }
    };
    let shared = spec.and_then(|s| s.share_process_namespace) == Some(true);
    let pid = if shared { cri::NamespaceMode::Pod } else { cri::NamespaceMode::Container };
    cri::NamespaceOption {
        network: on(spec.and_then(|s| s.host_network), cri::NamespaceMode::Pod),
        ipc: on(spec.and_then(|s| s.host_ipc), cri::NamespaceMode::Pod),
        pid: on(spec.and_then(|s| s.host_pid), pid),
        ..Default::default()
    }
}

fn groups(context: &PodSecurityContext) -> Vec<i64> {
    let mut all: Vec<i64> = context.fs_group.into_iter().collect();
    all.extend(context.supplemental_groups.iter().flatten());
    all
}

fn group_policy(context: &PodSecurityContext) -> i32 {
    match context.supplemental_groups_policy.as_deref() {
        Some("Strict") => cri::SupplementalGroupsPolicy::Strict as i32,
        _ => cri::SupplementalGroupsPolicy::Merge as i32,
    }
}

pub fn sandbox(pod: &Pod) -> cri::LinuxSandboxSecurityContext {
    let context = pod_context(pod);
    let spec = pod.spec.as_ref();
    let privileged =
        spec.is_some_and(|s| s.containers.iter().chain(s.init_containers.iter().flatten()).any(is_privileged));
    cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        selinux_options: context.se_linux_options.as_ref().map(selinux),
        run_as_user: context.run_as_user.and_then(int),
        run_as_group: context.run_as_user.and(context.run_as_group).and_then(int),
        supplemental_groups: groups(&context),
        supplemental_groups_policy: group_policy(&context),
        privileged,
        // the sandbox itself needs nothing: upstream always confines it (KEP-2413)
        seccomp: Some(profile(cri::security_profile::ProfileType::RuntimeDefault, "")),
        ..Default::default()
    }
}

/// The user a container's image names: a number, or a name that cannot be checked.
pub struct ImageUser {
    pub uid: Option<i64>,
    pub name: String,
}

pub fn container(pod: &Pod, container: &Container, image: &ImageUser) -> Result<cri::LinuxContainerSecurityContext> {
    let context = pod_context(pod);
    let own = container.security_context.clone().unwrap_or_default();
    let user = own.run_as_user.or(context.run_as_user);
    let group = own.run_as_group.or(context.run_as_group);
    check_non_root(container, own.run_as_non_root.or(context.run_as_non_root), user, image)?;
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let list = |paths: &[&str]| if unmasked { Vec::new() } else { paths.iter().map(|p| (*p).to_string()).collect() };
    let mut masked: Vec<String> = list(&MASKED);
    masked.extend(list(&MASKED_SYS));
    let mut result = cri::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|c| cri::Capability {
            add_capabilities: c.add.clone().unwrap_or_default(),
            drop_capabilities: c.drop.clone().unwrap_or_default(),
            ..Default::default()
        }),
        privileged: own.privileged.unwrap_or(false),
        namespace_options: Some(namespaces(pod)),
        selinux_options: own.se_linux_options.as_ref().or(context.se_linux_options.as_ref()).map(selinux),
        run_as_user: user.and_then(int),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(&context),
        supplemental_groups_policy: group_policy(&context),
        no_new_privs: no_new_privs(&own),
        masked_paths: masked,
        readonly_paths: list(&READONLY),
        seccomp: Some(seccomp(own.seccomp_profile.as_ref().or(context.seccomp_profile.as_ref()))),
        apparmor: apparmor(own.app_armor_profile.as_ref().or(context.app_armor_profile.as_ref())),
        ..Default::default()
    };
    match (user, image.uid, image.name.as_str()) {
        (Some(_), _, _) | (None, None, "") => {}
        (None, Some(uid), _) => result.run_as_user = int(uid),
        (None, None, name) => result.run_as_username = name.to_string(),
    }
    // the runtime refuses a group without a user
    if result.run_as_user.is_some() || !result.run_as_username.is_empty() {
        result.run_as_group = group.and_then(int);
    } else if let Some(group) = group {
        result.run_as_user = int(0);
        result.run_as_group = int(group);
    }
    Ok(result)
}

fn check_non_root(container: &Container, wanted: Option<bool>, user: Option<i64>, image: &ImageUser) -> Result<()> {
    if wanted != Some(true) {
        return Ok(());
    }
    let name = &container.name;
    match (user, image.uid, image.name.as_str()) {
        (Some(0), _, _) => bail!("container's runAsUser breaks non-root policy (container: {name})"),
        (Some(_), _, _) => Ok(()),
        (None, Some(uid), _) if uid != 0 => Ok(()),
        (None, None, user) if !user.is_empty() => {
            bail!(
                "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (container: {name})"
            )
        }
        _ => bail!("container has runAsNonRoot and image will run as root (container: {name})"),
    }
}

fn no_new_privs(own: &SecurityContext) -> bool {
    own.allow_privilege_escalation == Some(false) && own.privileged != Some(true)
}

fn profile(kind: cri::security_profile::ProfileType, localhost: &str) -> cri::SecurityProfile {
    cri::SecurityProfile { profile_type: kind as i32, localhost_ref: localhost.to_string() }
}

fn seccomp(wanted: Option<&SeccompProfile>) -> cri::SecurityProfile {
    use cri::security_profile::ProfileType;
    match wanted.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())) {
        Some(("RuntimeDefault", _)) => profile(ProfileType::RuntimeDefault, ""),
        Some(("Localhost", Some(name))) => profile(ProfileType::Localhost, &format!("/var/lib/kubelet/seccomp/{name}")),
        _ => profile(ProfileType::Unconfined, ""),
    }
}

fn apparmor(wanted: Option<&AppArmorProfile>) -> Option<cri::SecurityProfile> {
    use cri::security_profile::ProfileType;
    let wanted = wanted?;
    Some(match wanted.type_.as_str() {
        "RuntimeDefault" => profile(ProfileType::RuntimeDefault, ""),
        "Localhost" => profile(ProfileType::Localhost, wanted.localhost_profile.as_deref().unwrap_or_default()),
        _ => profile(ProfileType::Unconfined, ""),
    })
}

fn selinux(options: &SELinuxOptions) -> cri::SeLinuxOption {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    cri::SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::resources::tests::pod_from;
    use super::*;

    fn converted(spec: serde_json::Value, uid: Option<i64>) -> Result<cri::LinuxContainerSecurityContext> {
        let pod = pod_from(spec);
        container(&pod, &pod.spec.as_ref().unwrap().containers[0], &ImageUser { uid, name: String::new() })
    }

    #[test]
    fn groups_reach_the_container() {
        let result = converted(
            serde_json::json!({"securityContext": {"fsGroup": 5, "supplementalGroups": [6], "runAsGroup": 7},
                "containers": [{"name": "c"}]}),
            None,
        )
        .unwrap();
        assert_eq!(result.supplemental_groups, vec![5, 6]);
        assert_eq!(result.run_as_user.unwrap().value, 0);
        assert_eq!(result.run_as_group.unwrap().value, 7);
        assert!(!result.masked_paths.is_empty() && !result.no_new_privs);
    }

    #[test]
    fn root_is_refused_when_asked() {
        let spec = serde_json::json!({"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c"}]});
        assert!(converted(spec.clone(), Some(0)).is_err());
        assert!(converted(spec.clone(), None).is_err());
        assert_eq!(converted(spec, Some(33)).unwrap().run_as_user.unwrap().value, 33);
    }
}
