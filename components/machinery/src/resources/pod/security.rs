//! Security contexts of pods and containers.

use serde_json::Value;

use super::{operating_system, sources};
use crate::{
    field::{FieldError, Path},
    value::{bool_at, get, int_at, list_at, str_at},
};

/// User and group ids are unsigned numbers of 32 bits.
const ID_MAX: i64 = u32::MAX as i64;
const ID_RANGE: &str = "must be between 0 and 4294967295, inclusive";
const PROFILE_PATH_MAX: usize = 4095;

/// A user or group id.
pub(super) fn id(number: i64, path: &Path) -> Option<FieldError> {
    (!(0..=ID_MAX).contains(&number)).then(|| FieldError::invalid(path, number, ID_RANGE))
}

fn ids(context: &Value, fields: &[&str], path: &Path) -> Vec<FieldError> {
    fields.iter().filter_map(|field| id(int_at(context, field)?, &path.child(field))).collect()
}

/// A field that must be one of these if it is there at all, even if it is empty.
fn one_of(context: &Value, field: &str, path: &Path, known: &[&str]) -> Option<FieldError> {
    let value = context.get(field)?.as_str()?;
    (!known.contains(&value)).then(|| FieldError::not_supported(&path.child(field), value, known))
}

/// The kind of a profile; a file is named where, and only where, it is asked for.
fn kind(profile: &Value, required: &str, path: &Path) -> Option<FieldError> {
    const KINDS: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
    match str_at(profile, "type") {
        "" => Some(FieldError::required(&path.child("type"), required)),
        kind if !KINDS.contains(&kind) => Some(FieldError::not_supported(&path.child("type"), kind, KINDS)),
        _ => None,
    }
}

fn seccomp(context: &Value, path: &Path) -> Vec<FieldError> {
    let Some(profile) = context.get("seccompProfile") else { return Vec::new() };
    let path = path.child("seccompProfile");
    let mut errors: Vec<FieldError> =
        kind(profile, "type is required when seccompProfile is set", &path).into_iter().collect();
    let at = path.child("localhostProfile");
    match (str_at(profile, "type"), profile.get("localhostProfile").and_then(Value::as_str)) {
        ("Localhost", None) => errors.push(FieldError::required(&at, "must be set when seccomp type is Localhost")),
        ("Localhost", Some(file)) => errors.extend(sources::below(file, &at)),
        (_, Some(_)) => {
            errors.push(FieldError::invalid(&at, profile.clone(), "can only be set when seccomp type is Localhost"));
        }
        (_, None) => {}
    }
    errors
}

fn app_armor(context: &Value, path: &Path) -> Vec<FieldError> {
    const MISSING: &str = "must be set when AppArmor type is Localhost";
    let Some(profile) = context.get("appArmorProfile") else { return Vec::new() };
    let path = path.child("appArmorProfile");
    let at = path.child("localhostProfile");
    let file = profile.get("localhostProfile").and_then(Value::as_str);
    let mut errors: Vec<FieldError> =
        kind(profile, "type is required when appArmorProfile is set", &path).into_iter().collect();
    match (str_at(profile, "type"), file) {
        ("Localhost", None) => errors.push(FieldError::required(&at, MISSING)),
        ("Localhost", Some(file)) => {
            if file.trim() != file {
                errors.push(FieldError::invalid(&at, file, "must not be padded with whitespace"));
            } else if file.is_empty() {
                errors.push(FieldError::required(&at, MISSING));
            }
            if file.len() > PROFILE_PATH_MAX {
                errors.push(FieldError::too_long(&at, PROFILE_PATH_MAX));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(file)) => {
            errors.push(FieldError::invalid(&at, file, "can only be set when AppArmor type is Localhost"));
        }
        _ => {}
    }
    errors
}

pub(super) fn of_container(container: &Value, host_users: bool, path: &Path) -> Vec<FieldError> {
    let Some(context) = container.get("securityContext") else { return Vec::new() };
    let mut errors = ids(context, &["runAsUser", "runAsGroup"], path);
    errors.extend(one_of(context, "procMount", path, &["Default", "Unmasked"]));
    if host_users && str_at(context, "procMount") == "Unmasked" {
        let detail = "`hostUsers` must be false to use `Unmasked`";
        errors.push(FieldError::invalid(&path.child("procMount"), "Unmasked", detail));
    }
    errors.extend(seccomp(context, path));
    if get(context, "allowPrivilegeEscalation").and_then(Value::as_bool) == Some(false) {
        let mut contradiction = |other: &str| {
            let detail = format!("cannot set `allowPrivilegeEscalation` to false and {other}");
            errors.push(FieldError::invalid(path, context.clone(), detail));
        };
        if bool_at(context, "privileged") {
            contradiction("`privileged` to true");
        }
        for _ in list_at(context, "capabilities.add").iter().filter(|c| c.as_str() == Some("CAP_SYS_ADMIN")) {
            contradiction("`capabilities.Add` CAP_SYS_ADMIN");
        }
    }
    errors.extend(operating_system::options(context, path));
    errors.extend(app_armor(context, path));
    errors
}

pub(super) fn validate(spec: &Value, path: &Path) -> Vec<FieldError> {
    let at = path.child("securityContext");
    let empty = Value::Null;
    let context = spec.get("securityContext").unwrap_or(&empty);
    let mut errors = ids(context, &["fsGroup", "runAsUser", "runAsGroup"], &at);
    for (i, group) in list_at(context, "supplementalGroups").iter().enumerate() {
        errors.extend(group.as_i64().and_then(|g| id(g, &at.child("supplementalGroups").index(i))));
    }
    if bool_at(spec, "shareProcessNamespace") && bool_at(spec, "hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&at.child("shareProcessNamespace"), true, detail));
    }
    errors.extend(sysctls(spec, list_at(context, "sysctls"), &at.child("sysctls")));
    errors.extend(one_of(context, "fsGroupChangePolicy", &at, &["Always", "OnRootMismatch"]));
    errors.extend(seccomp(context, &at));
    errors.extend(operating_system::options(context, &at));
    errors.extend(app_armor(context, &at));
    errors.extend(one_of(context, "supplementalGroupsPolicy", &at, &["Merge", "Strict"]));
    errors.extend(one_of(context, "seLinuxChangePolicy", &at, &["MountOption", "Recursive"]));
    errors
}

/// All bad names at once.
fn sysctls(spec: &Value, sysctls: &[Value], path: &Path) -> Vec<FieldError> {
    const RULE: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let mut errors = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (i, sysctl) in sysctls.iter().enumerate() {
        let at = path.index(i).child("name");
        let name = str_at(sysctl, "name");
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if name.len() > 253 || !name.split(['.', '/']).all(is_sysctl_part) {
            errors.push(FieldError::invalid(&at, name, RULE));
        } else if seen.contains(&name) {
            errors.push(FieldError::duplicate(&at, name));
        }
        errors.extend(of_the_host(spec, name, &at));
        seen.push(name);
    }
    errors
}

/// The settings of a namespace that the pod shares with the host are the host's.
fn of_the_host(spec: &Value, name: &str, path: &Path) -> Option<FieldError> {
    let name_dotted = name.replace('/', ".");
    let is_network = name_dotted.starts_with("net.");
    let is_ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name_dotted.starts_with(prefix))
        || name_dotted == "kernel.sem";
    if is_network && bool_at(spec, "hostNetwork") {
        Some(FieldError::invalid(path, name, "may not be specified when 'hostNetwork' is true"))
    } else if is_ipc && bool_at(spec, "hostIPC") {
        Some(FieldError::invalid(path, name, "may not be specified when 'hostIPC' is true"))
    } else {
        None
    }
}

fn is_sysctl_part(part: &str) -> bool {
    let plain = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    plain(part.chars().next())
        && plain(part.chars().last())
        && part.chars().all(|c| c == '-' || c == '_' || plain(Some(c)))
}
