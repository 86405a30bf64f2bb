//! What the operating system that a pod names rules out, and Windows' own settings (kubernetes `validateOS`, `validateLinux`,
//! `validateWindows`, `validateWindowsSecurityContextOptions`, `validateWindowsHostProcessPod`).

use serde_json::Value;

use super::each_container;
use crate::{
    field::{FieldError, Path},
    names,
    value::{bool_at, get, list_at, str_at},
};

pub(super) fn validate(spec: &Value, path: &Path) -> Vec<FieldError> {
    let Some(system) = spec.get("os") else { return Vec::new() };
    match str_at(system, "name") {
        "" => vec![FieldError::required(&path.child("os").child("name"), "cannot be empty")],
        "linux" => linux(spec, path),
        "windows" => windows(spec, path),
        other => vec![FieldError::not_supported(&path.child("os"), other, &["linux", "windows"])],
    }
}

fn linux(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut owners = vec![(spec, path.clone())];
    owners.extend(each_container(spec, path));
    owners
        .iter()
        .filter(|(owner, _)| get(owner, "securityContext.windowsOptions").is_some())
        .map(|(_, at)| {
            let at = at.child("securityContext").child("windowsOptions");
            FieldError::forbidden(&at, "windows options cannot be set for a linux pod")
        })
        .collect()
}

/// Fields of a pod's spec that only Linux knows, in upstream's order.
const LINUX_ONLY: &[&str] = &[
    "securityContext.appArmorProfile",
    "securityContext.seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "securityContext.seccompProfile",
    "securityContext.fsGroup",
    "securityContext.fsGroupChangePolicy",
    "securityContext.sysctls",
    "shareProcessNamespace",
    "securityContext.runAsUser",
    "securityContext.runAsGroup",
    "securityContext.supplementalGroups",
    "securityContext.supplementalGroupsPolicy",
    "securityContext.seLinuxChangePolicy",
];
const LINUX_ONLY_IN_CONTAINERS: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

fn windows(spec: &Value, path: &Path) -> Vec<FieldError> {
    const DETAIL: &str = "cannot be set for a windows pod";
    let set = |field: &&&str| match **field {
        "hostPID" | "hostIPC" => bool_at(spec, field),
        "securityContext.sysctls" => !list_at(spec, field).is_empty(),
        _ => get(spec, field).is_some(),
    };
    let mut errors: Vec<FieldError> =
        LINUX_ONLY.iter().filter(set).map(|field| FieldError::forbidden(&path.child(field), DETAIL)).collect();
    for (container, at) in each_container(spec, path) {
        let Some(context) = container.get("securityContext") else { continue };
        let set = LINUX_ONLY_IN_CONTAINERS.iter().filter(|field| context.get(**field).is_some());
        errors.extend(set.map(|field| FieldError::forbidden(&at.child("securityContext").child(field), DETAIL)));
    }
    errors
}

/// Either all containers run as processes of the host, or none.
pub(super) fn host_process(spec: &Value, path: &Path) -> Vec<FieldError> {
    let asked = |owner: &Value| get(owner, "securityContext.windowsOptions.hostProcess").and_then(Value::as_bool);
    let whole = asked(spec);
    let mut errors = Vec::new();
    let (mut all, mut host) = (0, 0);
    for (container, at) in each_container(spec, path) {
        all += 1;
        let own = asked(container);
        if let (Some(whole), Some(own)) = (whole, own)
            && whole != own
        {
            let at = at.child("securityContext").child("windowsOptions").child("hostProcess");
            let detail = format!("pod hostProcess value must be identical if both are specified, was {whole}");
            errors.push(FieldError::invalid(&at, own, detail));
        }
        if own.or(whole) == Some(true) {
            host += 1;
        }
    }
    if host == 0 {
        return errors;
    }
    if host != all {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(FieldError::invalid(path, "", detail));
    }
    if !bool_at(spec, "hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(FieldError::invalid(&path.child("hostNetwork"), false, detail));
    }
    errors
}

/// `windowsOptions` of a pod or a container; `path` is the security context's.
pub(super) fn options(context: &Value, path: &Path) -> Vec<FieldError> {
    const SPEC_MAX_KIB: usize = 64;
    let Some(options) = context.get("windowsOptions") else { return Vec::new() };
    let path = path.child("windowsOptions");
    let mut errors = Vec::new();
    if let Some(name) = options.get("gmsaCredentialSpecName").and_then(Value::as_str) {
        let at = path.child("gmsaCredentialSpecName");
        errors.extend(FieldError::each_invalid(&at, name, names::dns1123_subdomain(name)));
    }
    if let Some(text) = options.get("gmsaCredentialSpec").and_then(Value::as_str) {
        let at = path.child("gmsaCredentialSpec");
        if text.is_empty() {
            errors.push(FieldError::invalid(&at, text, "gmsaCredentialSpec cannot be an empty string"));
        } else if text.len() > SPEC_MAX_KIB * 1024 {
            let detail = format!("gmsaCredentialSpec size must be under {SPEC_MAX_KIB} KiB");
            errors.push(FieldError::invalid(&at, text, detail));
        }
    }
    if let Some(name) = options.get("runAsUserName").and_then(Value::as_str) {
        let at = path.child("runAsUserName");
        errors.extend(user_problems(name).into_iter().map(|problem| FieldError::invalid(&at, name, problem)));
    }
    errors
}

/// What is wrong with `[DOMAIN\]USER`.
fn user_problems(name: &str) -> Vec<&'static str> {
    const DOMAIN_MAX: usize = 256;
    const USER_MAX: usize = 104;
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string"];
    }
    if name.contains(|c: char| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters"];
    }
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts.as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return vec!["runAsUserName cannot contain more than one backslash"],
    };
    let mut problems = Vec::new();
    if domain.is_some_and(|d| d.len() >= DOMAIN_MAX) {
        problems.push("runAsUserName's Domain length must be under 256 characters");
    }
    if domain.is_some_and(|d| !is_net_bios(d) && !is_dns(d)) {
        problems.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        problems.push("runAsUserName's User cannot be empty");
    } else if user.len() > USER_MAX {
        problems.push("runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        problems.push("runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        problems.push("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
    }
    problems
}

fn is_net_bios(domain: &str) -> bool {
    let bad = ['\\', '/', ':', '*', '?', '"', '<', '>', '|'];
    (1..=15).contains(&domain.chars().count()) && !domain.starts_with('.') && !domain.contains(bad)
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}
