//! Security contexts: what pods and containers have alike, and what only pods have.

use serde_json::Value;

use super::containers;
use crate::{
    field::{FieldError, Path},
    resources::meta,
    value::{list_at, str_at},
};

/// seccomp and AppArmor: a file is named where, and only where, it is asked for.
pub(super) fn profiles(context: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (field, what) in [("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")] {
        let Some(profile) = context.get(field) else { continue };
        let at = path.child(field);
        errors.extend(meta::one_of(profile, "type", &at, &["Localhost", "RuntimeDefault", "Unconfined"]));
        let at = at.child("localhostProfile");
        match (str_at(profile, "type"), profile.get("localhostProfile").and_then(Value::as_str)) {
            ("Localhost", None | Some("")) => {
                errors.push(FieldError::required(&at, format!("must be set when {what} type is Localhost")));
            }
            ("Localhost", Some(file)) => errors.extend(super::volumes::below(file, &at)),
            (_, Some(file)) => {
                let detail = format!("can only be set when {what} type is Localhost");
                errors.push(FieldError::invalid(&at, file, detail));
            }
            (_, None) => {}
        }
    }
    errors
}

pub(super) fn validate(spec: &Value, path: &Path) -> Vec<FieldError> {
    let Some(context) = spec.get("securityContext") else { return Vec::new() };
    let at = path.child("securityContext");
    let mut errors = Vec::new();
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        errors.extend(containers::id(context, field, &at));
    }
    for (i, group) in list_at(context, "supplementalGroups").iter().enumerate() {
        if group.as_i64().is_some_and(|g| !(0..=i64::from(i32::MAX)).contains(&g)) {
            let at = at.child("supplementalGroups").index(i);
            errors.push(FieldError::invalid(&at, group.clone(), containers::ID_RANGE));
        }
    }
    if context.get("shareProcessNamespace").is_none()
        && crate::value::bool_at(spec, "shareProcessNamespace")
        && crate::value::bool_at(spec, "hostPID")
    {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
    errors.extend(sysctls(list_at(context, "sysctls"), &at.child("sysctls")));
    errors.extend(meta::optional_one_of(context, "fsGroupChangePolicy", &at, &["OnRootMismatch", "Always"]));
    errors.extend(meta::optional_one_of(context, "supplementalGroupsPolicy", &at, &["Merge", "Strict"]));
    errors.extend(profiles(context, &at));
    errors
}

/// All bad names at once.
fn sysctls(sysctls: &[Value], path: &Path) -> Vec<FieldError> {
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
        seen.push(name);
    }
    errors
}

fn is_sysctl_part(part: &str) -> bool {
    let plain = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    plain(part.chars().next())
        && plain(part.chars().last())
        && part.chars().all(|c| c == '-' || c == '_' || plain(Some(c)))
}
