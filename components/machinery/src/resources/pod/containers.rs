//! Validation of containers, init containers and ephemeral containers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{probes, resources, security::profiles, volumes};
use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{bool_at, get, int_at, list_at, str_at},
};

pub(super) const ID_RANGE: &str = "must be between 0 and 2147483647, inclusive";
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// What a pod's containers are checked against.
struct Context<'a> {
    volumes: BTreeSet<&'a str>,
    host_network: bool,
    names: BTreeSet<&'a str>,
    host_ports: BTreeSet<String>,
    /// Names of the pod's resource claims.
    claims: BTreeSet<&'a str>,
    restart_policy: &'a str,
    grace: i64,
}

pub(super) fn validate_all(spec: &Value, path: &Path) -> Vec<FieldError> {
    let volumes = list_at(spec, "volumes").iter().map(|v| str_at(v, "name")).collect();
    let mut context = Context {
        volumes,
        host_network: bool_at(spec, "hostNetwork"),
        names: BTreeSet::new(),
        host_ports: BTreeSet::new(),
        claims: list_at(spec, "resourceClaims").iter().map(|c| str_at(c, "name")).collect(),
        restart_policy: str_at(spec, "restartPolicy"),
        grace: int_at(spec, "terminationGracePeriodSeconds").unwrap_or(30),
    };
    let mut errors = Vec::new();
    let containers = list_at(spec, "containers");
    if containers.is_empty() {
        errors.push(FieldError::required(&path.child("containers"), ""));
    }
    for (i, container) in containers.iter().enumerate() {
        errors.extend(context.container(container, &path.child("containers").index(i), true));
    }
    for (i, container) in list_at(spec, "initContainers").iter().enumerate() {
        let at = path.child("initContainers").index(i);
        let sidecar = str_at(container, "restartPolicy") == "Always";
        // init containers run one after the other: only their own ports can collide, unless they stay
        let before = context.host_ports.clone();
        errors.extend(context.container(container, &at, sidecar));
        if !sidecar {
            context.host_ports = before;
        }
    }
    for (i, container) in list_at(spec, "ephemeralContainers").iter().enumerate() {
        let at = path.child("ephemeralContainers").index(i);
        errors.extend(ephemeral(container, spec, &at));
        errors.extend(context.container(container, &at, true));
    }
    errors
}

/// What an ephemeral container may not have, and whom it is for.
fn ephemeral(container: &Value, spec: &Value, path: &Path) -> Vec<FieldError> {
    const DETAIL: &str = "cannot be set for an Ephemeral Container";
    let mut errors = Vec::new();
    let target = str_at(container, "targetContainerName");
    let all = ["containers", "initContainers"].iter().flat_map(|list| list_at(spec, list));
    if !target.is_empty() && !all.into_iter().any(|c| str_at(c, "name") == target) {
        errors.push(FieldError::not_found(&path.child("targetContainerName"), target));
    }
    for field in [
        "lifecycle",
        "livenessProbe",
        "ports",
        "readinessProbe",
        "resizePolicy",
        "resources",
        "restartPolicy",
        "startupProbe",
    ] {
        let set = container.get(field).is_some_and(|v| v.as_object().is_none_or(|m| !m.is_empty()));
        if set {
            errors.push(FieldError::forbidden(&path.child(field), DETAIL));
        }
    }
    for (i, mount) in list_at(container, "volumeMounts").iter().enumerate() {
        for field in ["subPath", "subPathExpr"] {
            if !str_at(mount, field).is_empty() {
                errors.push(FieldError::forbidden(&path.child("volumeMounts").index(i).child(field), DETAIL));
            }
        }
    }
    errors
}

impl<'a> Context<'a> {
    fn container(&mut self, container: &'a Value, path: &Path, probes_allowed: bool) -> Vec<FieldError> {
        let mut errors = self.name(container, path);
        errors.extend(image(container, path));
        errors.extend(meta::one_of(container, "terminationMessagePolicy", path, &["File", "FallbackToLogsOnError"]));
        errors.extend(meta::one_of(container, "imagePullPolicy", path, &["Always", "IfNotPresent", "Never"]));
        errors.extend(self.ports(container, path));
        errors.extend(env(container, path));
        errors.extend(self.mounts(container, path));
        errors.extend(resources::validate(container, &path.child("resources")));
        errors.extend(resources::claims(container, &self.claims, &path.child("resources")));
        errors.extend(security(container, path));
        errors.extend(probes::validate(container, path, probes_allowed, self.grace));
        errors.extend(resources::resize_policy(container, self.restart_policy, &path.child("resizePolicy")));
        errors
    }

    fn name(&mut self, container: &'a Value, path: &Path) -> Vec<FieldError> {
        let at = path.child("name");
        let name = str_at(container, "name");
        if name.is_empty() {
            return vec![FieldError::required(&at, "")];
        }
        let mut errors: Vec<FieldError> =
            names::dns1123_label(name).into_iter().map(|p| FieldError::invalid(&at, name, p)).collect();
        if !self.names.insert(name) {
            errors.push(FieldError::duplicate(&at, name));
        }
        errors
    }

    fn ports(&mut self, container: &Value, path: &Path) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut seen = BTreeSet::new();
        for (i, port) in list_at(container, "ports").iter().enumerate() {
            let at = path.child("ports").index(i);
            let name = str_at(port, "name");
            if !name.is_empty() {
                errors.extend(
                    names::port_name(name).into_iter().map(|p| FieldError::invalid(&at.child("name"), name, p)),
                );
                if !seen.insert(name) {
                    errors.push(FieldError::duplicate(&at.child("name"), name));
                }
            }
            match int_at(port, "containerPort").unwrap_or(0) {
                0 => errors.push(FieldError::required(&at.child("containerPort"), "")),
                n => errors.extend(
                    names::port_number(n).into_iter().map(|p| FieldError::invalid(&at.child("containerPort"), n, p)),
                ),
            }
            errors.extend(meta::one_of(port, "protocol", &at, PROTOCOLS));
            errors.extend(self.host_port(port, &at));
        }
        errors
    }

    fn host_port(&mut self, port: &Value, path: &Path) -> Vec<FieldError> {
        let Some(number) = int_at(port, "hostPort").filter(|n| *n != 0) else { return Vec::new() };
        let mut errors: Vec<FieldError> = names::port_number(number)
            .into_iter()
            .map(|p| FieldError::invalid(&path.child("hostPort"), number, p))
            .collect();
        if self.host_network && int_at(port, "containerPort") != Some(number) {
            errors.push(FieldError::invalid(
                &path.child("containerPort"),
                int_at(port, "containerPort").unwrap_or(0),
                "must match `hostPort` when `hostNetwork` is true",
            ));
        }
        let key = format!("{}/{}/{number}", str_at(port, "protocol"), str_at(port, "hostIP"));
        if !self.host_ports.insert(key.clone()) {
            errors.push(FieldError::duplicate(&path.child("hostPort"), key));
        }
        errors
    }

    fn mounts(&self, container: &Value, path: &Path) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut seen = BTreeSet::new();
        for (i, mount) in list_at(container, "volumeMounts").iter().enumerate() {
            let at = path.child("volumeMounts").index(i);
            let name = str_at(mount, "name");
            if name.is_empty() {
                errors.push(FieldError::required(&at.child("name"), ""));
            } else if !self.volumes.contains(name) {
                errors.push(FieldError::not_found(&at.child("name"), name));
            }
            let target = str_at(mount, "mountPath");
            if target.is_empty() {
                errors.push(FieldError::required(&at.child("mountPath"), ""));
            } else if !seen.insert(target) {
                errors.push(FieldError::invalid(&at.child("mountPath"), target, "must be unique"));
            }
            for field in ["subPath", "subPathExpr"] {
                errors.extend(volumes::below(str_at(mount, field), &at.child(field)));
            }
            if !str_at(mount, "subPath").is_empty() && !str_at(mount, "subPathExpr").is_empty() {
                errors.push(FieldError::invalid(
                    &at.child("subPathExpr"),
                    str_at(mount, "subPathExpr"),
                    "subPathExpr and subPath are mutually exclusive",
                ));
            }
            errors.extend(meta::optional_one_of(
                mount,
                "mountPropagation",
                &at,
                &["Bidirectional", "HostToContainer", "None"],
            ));
        }
        errors
    }
}

fn image(container: &Value, path: &Path) -> Option<FieldError> {
    let at = path.child("image");
    let image = str_at(container, "image");
    if image.is_empty() {
        Some(FieldError::required(&at, ""))
    } else if image.trim() != image {
        Some(FieldError::invalid(&at, image, "must not have leading or trailing whitespace"))
    } else {
        None
    }
}

fn env(container: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, variable) in list_at(container, "env").iter().enumerate() {
        let at = path.child("env").index(i);
        let name = str_at(variable, "name");
        if name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        } else {
            errors.extend(names::env_name(name).into_iter().map(|p| FieldError::invalid(&at.child("name"), name, p)));
        }
        if let Some(source) = variable.get("valueFrom") {
            errors.extend(env_source(variable, source, &at.child("valueFrom")));
        }
    }
    for (i, source) in list_at(container, "envFrom").iter().enumerate() {
        let at = path.child("envFrom").index(i);
        let found: Vec<&str> = ["configMapRef", "secretRef"].into_iter().filter(|k| source.get(*k).is_some()).collect();
        match found.as_slice() {
            [] => errors.push(FieldError::invalid(&at, "", "must specify one of: `configMapRef` or `secretRef`")),
            [one] if str_at(source, &format!("{one}.name")).is_empty() => {
                errors.push(FieldError::required(&at.child(one).child("name"), ""));
            }
            [_] => {}
            _ => errors.push(FieldError::invalid(&at, "", "may not have more than one field specified at a time")),
        }
    }
    errors
}

fn env_source(variable: &Value, source: &Value, path: &Path) -> Vec<FieldError> {
    const KINDS: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let mut errors = Vec::new();
    let found: Vec<&str> = KINDS.into_iter().filter(|k| source.get(*k).is_some()).collect();
    if !str_at(variable, "value").is_empty() && !found.is_empty() {
        errors.push(FieldError::invalid(path, "", "may not be specified when `value` is not empty"));
    }
    match found.as_slice() {
        [] => errors.push(FieldError::invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        )),
        [one] => {
            let needed: &[&str] = match *one {
                "fieldRef" => &[],
                "resourceFieldRef" => &["resource"],
                "fileKeyRef" => &["key", "path", "volumeName"],
                _ => &["key", "name"],
            };
            for field in needed {
                if get(source, one).is_none_or(|s| str_at(s, field).is_empty()) {
                    errors.push(FieldError::required(&path.child(one).child(field), ""));
                }
            }
            errors.extend(field_ref(source, path));
        }
        _ => errors.push(FieldError::invalid(path, "", "may not have more than one field specified at a time")),
    }
    errors
}

fn field_ref(source: &Value, path: &Path) -> Option<FieldError> {
    const FIELDS: &[&str] = &[
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    field_ref_problem(source.get("fieldRef")?, FIELDS, &path.child("fieldRef"))
}

/// A `fieldRef`, to one of `supported` or to one label or annotation.
pub(super) fn field_ref_problem(reference: &Value, supported: &[&str], path: &Path) -> Option<FieldError> {
    let field = str_at(reference, "fieldPath");
    let at = path.child("fieldPath");
    if field.is_empty() {
        return Some(FieldError::required(&at, ""));
    }
    let subscript = ["metadata.annotations['", "metadata.labels['"].iter().find_map(|it| field.strip_prefix(it));
    match subscript.map(|rest| rest.strip_suffix("']").unwrap_or_default()) {
        Some(key) => {
            let key = key.to_lowercase();
            names::qualified_name(&key)
                .into_iter()
                .next()
                .map(|problem| FieldError::invalid(path, key.as_str(), problem))
        }
        None if supported.contains(&field) => None,
        None => Some(FieldError::not_supported(&at, field, supported)),
    }
}

/// A user or group id.
pub(super) fn id(context: &Value, field: &str, path: &Path) -> Option<FieldError> {
    let id = int_at(context, field)?;
    (!(0..=i64::from(i32::MAX)).contains(&id)).then(|| FieldError::invalid(&path.child(field), id, ID_RANGE))
}

fn security(container: &Value, path: &Path) -> Vec<FieldError> {
    let Some(context) = container.get("securityContext") else { return Vec::new() };
    let at = path.child("securityContext");
    let mut errors: Vec<FieldError> =
        ["runAsUser", "runAsGroup"].into_iter().filter_map(|f| id(context, f, &at)).collect();
    errors.extend(profiles(context, &at));
    errors.extend(meta::optional_one_of(context, "procMount", &at, &["Default", "Unmasked"]));
    let escalation = get(context, "allowPrivilegeEscalation").and_then(Value::as_bool);
    if escalation == Some(false) {
        if bool_at(context, "privileged") {
            errors.push(FieldError::invalid(
                &at,
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ));
        }
        let added = list_at(context, "capabilities.add");
        if added.iter().any(|c| matches!(c.as_str(), Some("CAP_SYS_ADMIN"))) {
            errors.push(FieldError::invalid(
                &at,
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            ));
        }
    }
    errors
}
