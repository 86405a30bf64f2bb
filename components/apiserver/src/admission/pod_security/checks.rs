//! The checks of the Pod Security Standards, with upstream's words (upstream: pod-security-admission/policy).
//!
//! Each looks at a pod's metadata and spec and says, if it does not like them, a reason and details.

use std::collections::BTreeSet;

use machinery::value::{get, list_at, map_at, str_at};
use serde_json::Value;

use super::policy::{Level, Version};

/// Reason, and details that may be empty.
pub type Violation = (&'static str, String);

pub struct Pod<'a> {
    pub metadata: &'a Value,
    pub spec: &'a Value,
}

type Check = fn(&Pod<'_>, Version) -> Option<Violation>;

struct Row {
    level: Level,
    /// The first minor version that has it.
    since: u32,
    check: Check,
    /// Of the baseline, but said better by a check of the restricted level from this version on.
    replaced_since: Option<u32>,
}

const fn baseline(since: u32, check: Check) -> Row {
    Row { level: Level::Baseline, since, check, replaced_since: None }
}

const fn replaced(replaced_since: u32, check: Check) -> Row {
    Row { level: Level::Baseline, since: 0, check, replaced_since: Some(replaced_since) }
}

const fn restricted(since: u32, check: Check) -> Row {
    Row { level: Level::Restricted, since, check, replaced_since: None }
}

/// In the order of their names, level by level, as upstream reports them.
const CHECKS: &[Row] = &[
    baseline(0, app_armor),
    replaced(22, capabilities_baseline),
    baseline(0, host_namespaces),
    replaced(0, host_path),
    baseline(0, host_ports),
    baseline(34, host_probes),
    baseline(0, privileged),
    replaced(35, proc_mount_baseline),
    baseline(0, se_linux),
    replaced(19, seccomp_baseline),
    baseline(0, sysctls),
    baseline(0, windows_host_process),
    restricted(8, privilege_escalation),
    restricted(22, capabilities_restricted),
    restricted(35, proc_mount),
    restricted(0, volume_types),
    restricted(0, run_as_non_root),
    restricted(23, run_as_user),
    restricted(19, seccomp_restricted),
];

/// Everything a level does not allow in a pod.
pub fn violations(level: Level, version: Version, pod: &Pod<'_>) -> Vec<Violation> {
    let holds = |row: &&Row| {
        row.level <= level
            && version.at_least(row.since)
            && !(level == Level::Restricted && row.replaced_since.is_some_and(|since| version.at_least(since)))
    };
    CHECKS.iter().filter(holds).filter_map(|row| (row.check)(pod, version)).collect()
}

fn plural<'a>(one: &'a str, many: &'a str, n: usize) -> &'a str {
    if n == 1 { one } else { many }
}

fn quoted<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    names.into_iter().map(|name| format!("{:?}", name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// `container "a"`, `containers "a", "b"`.
fn containers_text(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// The pod itself and its containers, as far as they are to blame.
fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    let mut parts = Vec::new();
    if pod {
        parts.push("pod".to_owned());
    }
    if !containers.is_empty() {
        parts.push(containers_text(containers));
    }
    (!parts.is_empty()).then(|| parts.join(" and "))
}

impl<'a> Pod<'a> {
    /// Init containers first, as upstream visits them.
    fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |list| list_at(spec, list))
    }

    /// Names of containers that `is_bad` says something about.
    fn bad(&self, mut is_bad: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|c| is_bad(c)).map(|c| str_at(c, "name")).collect()
    }

    fn is_windows(&self) -> bool {
        str_at(self.spec, "os.name") == "windows"
    }

    /// In a user namespace root is nobody on the host.
    fn has_user_namespace(&self, version: Version) -> bool {
        version.at_least(35) && self.spec.get("hostUsers") == Some(&Value::Bool(false))
    }
}

fn set<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    get(value, path).filter(|v| !v.is_null())
}

fn app_armor(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = BTreeSet::new();
    let mut is_bad = |holder: &Value, path: &str| {
        let kind = set(holder, path).map(|p| str_at(p, "type"));
        let bad = kind.is_some_and(|kind| !matches!(kind, "RuntimeDefault" | "Localhost"));
        if let Some(kind) = kind.filter(|_| bad) {
            values.insert(kind.to_owned());
        }
        bad
    };
    let own = is_bad(pod.spec, "securityContext.appArmorProfile");
    let containers = pod.bad(|c| is_bad(c, "securityContext.appArmorProfile"));
    let allowed = |v: &str| v.is_empty() || v == "runtime/default" || v.starts_with("localhost/");
    let mut annotations = BTreeSet::new();
    for (key, value) in map_at(pod.metadata, "annotations").into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        if key.starts_with(PREFIX) && !allowed(value) {
            annotations.insert(key.as_str());
            values.insert(value.to_owned());
        }
    }
    let mut parts: Vec<String> = setters(own, &containers).into_iter().collect();
    if !annotations.is_empty() {
        parts.push(format!("{} {}", plural("annotation", "annotations", annotations.len()), quoted(annotations)));
    }
    if parts.is_empty() {
        return None;
    }
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    Some((reason, format!("{} must not set AppArmor profile type to {}", parts.join(" and "), quoted(values))))
}

const DEFAULT_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Containers that add capabilities which are not among `allowed`, in words.
fn added_capabilities(pod: &Pod<'_>, allowed: &[&str]) -> Option<String> {
    let mut forbidden = BTreeSet::new();
    let bad = pod.bad(|c| {
        let added = list_at(c, "securityContext.capabilities.add").iter().filter_map(Value::as_str);
        let wrong: Vec<&str> = added.filter(|name| !allowed.contains(name)).collect();
        forbidden.extend(wrong.iter().copied());
        !wrong.is_empty()
    });
    (!bad.is_empty()).then(|| {
        format!("{} must not include {} in securityContext.capabilities.add", containers_text(&bad), quoted(forbidden))
    })
}

fn capabilities_baseline(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    added_capabilities(pod, DEFAULT_CAPABILITIES).map(|detail| ("non-default capabilities", detail))
}

fn capabilities_restricted(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    if version.at_least(25) && pod.is_windows() {
        return None;
    }
    let missing = pod.bad(|c| !list_at(c, "securityContext.capabilities.drop").iter().any(|d| d == "ALL"));
    let mut details = Vec::new();
    if !missing.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers_text(&missing)));
    }
    details.extend(added_capabilities(pod, &["NET_BIND_SERVICE"]));
    (!details.is_empty()).then(|| ("unrestricted capabilities", details.join("; ")))
}

fn host_namespaces(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|key| pod.spec.get(*key) == Some(&Value::Bool(true)))
        .map(|key| format!("{key}=true"))
        .collect();
    (!shared.is_empty()).then(|| ("host namespaces", shared.join(", ")))
}

fn host_path(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let volumes: Vec<&str> = list_at(pod.spec, "volumes")
        .iter()
        .filter(|v| set(v, "hostPath").is_some())
        .map(|v| str_at(v, "name"))
        .collect();
    let detail = || format!("{} {}", plural("volume", "volumes", volumes.len()), quoted(&volumes));
    (!volumes.is_empty()).then(|| ("hostPath volumes", detail()))
}

fn host_ports(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let bad = pod.bad(|c| {
        let used: Vec<i64> = list_at(c, "ports")
            .iter()
            .filter_map(|p| p.get("hostPort").and_then(Value::as_i64))
            .filter(|port| *port != 0)
            .collect();
        ports.extend(used.iter().map(ToString::to_string));
        !used.is_empty()
    });
    (!bad.is_empty()).then(|| {
        let uses = plural("uses", "use", bad.len());
        let host_ports = plural("hostPort", "hostPorts", ports.len());
        let list = ports.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        ("hostPort", format!("{} {uses} {host_ports} {list}", containers_text(&bad)))
    })
}

fn host_probes(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let mut hosts = BTreeSet::new();
    let bad: BTreeSet<&str> = pod
        .bad(|c| {
            let mut found = false;
            for action in
                ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle.postStart", "lifecycle.preStop"]
            {
                for kind in ["httpGet", "tcpSocket"] {
                    let host = str_at(c, &format!("{action}.{kind}.host"));
                    if !host.is_empty() {
                        hosts.insert(host);
                        found = true;
                    }
                }
            }
            found
        })
        .into_iter()
        .collect();
    (!bad.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {} {}",
            plural("container", "containers", bad.len()),
            quoted(&bad),
            plural("uses", "use", bad.len()),
            plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
            quoted(hosts)
        );
        ("probe or lifecycle host", detail)
    })
}

fn is_true(value: &Value, path: &str) -> bool {
    get(value, path) == Some(&Value::Bool(true))
}

fn privileged(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let bad = pod.bad(|c| is_true(c, "securityContext.privileged"));
    let detail = || format!("{} must not set securityContext.privileged=true", containers_text(&bad));
    (!bad.is_empty()).then(|| ("privileged", detail()))
}

fn proc_mount_baseline(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    if pod.has_user_namespace(version) { None } else { proc_mount(pod, version) }
}

fn proc_mount(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let bad = pod.bad(|c| {
        let kind = str_at(c, "securityContext.procMount");
        let wrong = !matches!(kind, "" | "Default");
        if wrong {
            kinds.insert(kind);
        }
        wrong
    });
    (!bad.is_empty()).then(|| {
        ("procMount", format!("{} must not set securityContext.procMount to {}", containers_text(&bad), quoted(kinds)))
    })
}

fn se_linux(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut is_bad = |holder: &Value| {
        let Some(options) = set(holder, "securityContext.seLinuxOptions") else { return false };
        let kind = str_at(options, "type");
        let allowed = matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || (kind == "container_engine_t" && version.at_least(31));
        if !allowed {
            types.insert(kind.to_owned());
        }
        let (has_user, has_role) = (!str_at(options, "user").is_empty(), !str_at(options, "role").is_empty());
        user |= has_user;
        role |= has_role;
        !allowed || has_user || has_role
    };
    let own = is_bad(pod.spec);
    let containers = pod.bad(is_bad);
    let setters = setters(own, &containers)?;
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), quoted(types)));
    }
    if user {
        data.push("user may not be set".into());
    }
    if role {
        data.push("role may not be set".into());
    }
    Some(("seLinuxOptions", format!("{setters} set forbidden securityContext.seLinuxOptions: {}", data.join("; "))))
}

fn seccomp_allowed(holder: &Value) -> Option<bool> {
    let profile = set(holder, "securityContext.seccompProfile")?;
    Some(matches!(str_at(profile, "type"), "RuntimeDefault" | "Localhost"))
}

/// Whoever sets a profile that is not allowed, in words.
fn seccomp_set(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let mut is_bad = |holder: &Value| {
        let bad = seccomp_allowed(holder) == Some(false);
        if bad {
            values.insert(str_at(holder, "securityContext.seccompProfile.type").to_owned());
        }
        bad
    };
    let own = is_bad(pod.spec);
    let containers = pod.bad(is_bad);
    let setters = setters(own, &containers)?;
    let values = quoted(values);
    Some(("seccompProfile", format!("{setters} must not set securityContext.seccompProfile.type to {values}")))
}

fn seccomp_baseline(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    if version.at_least(19) { seccomp_set(pod) } else { seccomp_annotations(pod) }
}

/// Before 1.19 profiles were annotations.
fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let annotations = map_at(pod.metadata, "annotations")?;
    let keys =
        std::iter::once(POD.to_owned()).chain(pod.containers().map(|c| format!("{CONTAINER}{}", str_at(c, "name"))));
    let allowed = |v: &str| matches!(v, "runtime/default" | "docker/default") || v.starts_with("localhost/");
    let forbidden: BTreeSet<String> = keys
        .filter_map(|key| {
            let value = annotations.get(&key)?.as_str()?;
            (!allowed(value)).then(|| format!("{key}={value:?}"))
        })
        .collect();
    let detail = || {
        let list = forbidden.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        format!("forbidden {} {list}", plural("annotation", "annotations", forbidden.len()))
    };
    (!forbidden.is_empty()).then(|| ("seccompProfile", detail()))
}

fn seccomp_restricted(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    if version.at_least(25) && pod.is_windows() {
        return None;
    }
    if let Some(violation) = seccomp_set(pod) {
        return Some(violation);
    }
    let covered = seccomp_allowed(pod.spec) == Some(true);
    let bad = pod.bad(|c| seccomp_allowed(c).is_none() && !covered);
    (!bad.is_empty()).then(|| {
        let who = containers_text(&bad);
        let detail =
            format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"");
        ("seccompProfile", detail)
    })
}

/// Sysctls that reach no further than the pod, and since when they are known to.
const SYSCTLS: &[(&str, u32)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

fn sysctls(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    let allowed = |name: &str| SYSCTLS.iter().any(|(known, since)| *known == name && version.at_least(*since));
    let forbidden: Vec<&str> = list_at(pod.spec, "securityContext.sysctls")
        .iter()
        .map(|s| str_at(s, "name"))
        .filter(|name| !allowed(name))
        .collect();
    (!forbidden.is_empty()).then(|| ("forbidden sysctls", forbidden.join(", ")))
}

fn windows_host_process(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    const PATH: &str = "securityContext.windowsOptions.hostProcess";
    let setters = setters(is_true(pod.spec, PATH), &pod.bad(|c| is_true(c, PATH)))?;
    Some(("hostProcess", format!("{setters} must not set {PATH}=true")))
}

fn privilege_escalation(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    if version.at_least(25) && pod.is_windows() {
        return None;
    }
    let bad = pod.bad(|c| get(c, "securityContext.allowPrivilegeEscalation") != Some(&Value::Bool(false)));
    let detail = || format!("{} must set securityContext.allowPrivilegeEscalation=false", containers_text(&bad));
    (!bad.is_empty()).then(|| ("allowPrivilegeEscalation != false", detail()))
}

const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "image",
];

fn volume_types(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let (mut volumes, mut types) = (Vec::new(), BTreeSet::new());
    for volume in list_at(pod.spec, "volumes") {
        let fields = || volume.as_object().into_iter().flatten().filter(|(key, v)| *key != "name" && !v.is_null());
        if fields().any(|(key, _)| VOLUMES.contains(&key.as_str())) {
            continue;
        }
        volumes.push(str_at(volume, "name"));
        types.insert(fields().map(|(key, _)| key.as_str()).next().unwrap_or("unknown"));
    }
    (!volumes.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {} {}",
            plural("volume", "volumes", volumes.len()),
            quoted(&volumes),
            plural("uses", "use", volumes.len()),
            plural("restricted volume type", "restricted volume types", types.len()),
            quoted(types)
        );
        ("restricted volume types", detail)
    })
}

fn run_as_non_root(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    const PATH: &str = "securityContext.runAsNonRoot";
    const REASON: &str = "runAsNonRoot != true";
    if pod.has_user_namespace(version) {
        return None;
    }
    let is_false = |holder: &Value| get(holder, PATH) == Some(&Value::Bool(false));
    if let Some(setters) = setters(is_false(pod.spec), &pod.bad(is_false)) {
        return Some((REASON, format!("{setters} must not set {PATH}=false")));
    }
    let covered = is_true(pod.spec, PATH);
    let bad = pod.bad(|c| set(c, PATH).is_none() && !covered);
    (!bad.is_empty()).then(|| (REASON, format!("pod or {} must set {PATH}=true", containers_text(&bad))))
}

fn run_as_user(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    if pod.has_user_namespace(version) {
        return None;
    }
    let is_root = |holder: &Value| get(holder, "securityContext.runAsUser").and_then(Value::as_i64) == Some(0);
    let setters = setters(is_root(pod.spec), &pod.bad(is_root))?;
    Some(("runAsUser=0", format!("{setters} must not set runAsUser=0")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(level: Level, version: Version, spec: Value) -> Vec<String> {
        let metadata = json!({});
        let pod = Pod { metadata: &metadata, spec: &spec };
        violations(level, version, &pod).into_iter().map(|(reason, detail)| format!("{reason} ({detail})")).collect()
    }

    const LATEST: Version = Version(None);

    #[test]
    fn a_plain_pod_is_baseline_but_not_restricted() {
        let spec = json!({"containers": [{"name": "a"}, {"name": "b", "securityContext": {"capabilities": {"add": ["CHOWN"], "drop": ["ALL"]}}}]});
        assert!(found(Level::Baseline, LATEST, spec.clone()).is_empty());
        assert_eq!(
            found(Level::Restricted, LATEST, spec),
            [
                "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set securityContext.allowPrivilegeEscalation=false)",
                "unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"b\" must not include \"CHOWN\" in securityContext.capabilities.add)",
                "runAsNonRoot != true (pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true)",
                "seccompProfile (pod or containers \"a\", \"b\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
            ]
        );
    }

    #[test]
    fn every_baseline_check_has_its_words() {
        let spec = json!({
            "hostNetwork": true, "hostPID": true,
            "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
            "securityContext": {"sysctls": [{"name": "kernel.msgmax"}], "seccompProfile": {"type": "Unconfined"},
                "seLinuxOptions": {"type": "spc_t", "user": "u"}, "windowsOptions": {"hostProcess": true},
                "appArmorProfile": {"type": "Unconfined"}},
            "containers": [{"name": "c", "ports": [{"hostPort": 80}, {"hostPort": 443}], "livenessProbe": {"httpGet": {"host": "h"}},
                "securityContext": {"privileged": true, "procMount": "Unmasked", "capabilities": {"add": ["SYS_ADMIN"]}}}],
        });
        assert_eq!(
            found(Level::Baseline, LATEST, spec),
            [
                "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
                "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
                "host namespaces (hostNetwork=true, hostPID=true)",
                "hostPath volumes (volume \"v\")",
                "hostPort (container \"c\" uses hostPorts 443, 80)",
                "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"h\")",
                "privileged (container \"c\" must not set securityContext.privileged=true)",
                "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
                "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
                "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
                "forbidden sysctls (kernel.msgmax)",
                "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
            ]
        );
    }

    #[test]
    fn versions_bring_checks_and_leave() {
        let probe = json!({"containers": [{"name": "c", "livenessProbe": {"tcpSocket": {"host": "h"}}}]});
        assert!(found(Level::Baseline, Version(Some(33)), probe.clone()).is_empty());
        assert_eq!(found(Level::Baseline, Version(Some(34)), probe).len(), 1);
        let sysctl = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
        assert_eq!(found(Level::Baseline, Version(Some(31)), sysctl.clone()).len(), 1);
        assert!(found(Level::Baseline, LATEST, sysctl).is_empty());
        let hostile = json!({"volumes": [{"name": "v", "hostPath": {}}, {"name": "n", "nfs": {}}]});
        assert_eq!(
            found(Level::Restricted, LATEST, hostile),
            ["restricted volume types (volumes \"v\", \"n\" use restricted volume types \"hostPath\", \"nfs\")"]
        );
    }

    #[test]
    fn a_good_pod_is_restricted() {
        let spec = json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}],
        });
        assert!(found(Level::Restricted, LATEST, spec).is_empty());
    }
}
