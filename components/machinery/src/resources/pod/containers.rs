//! Validation of containers, init containers and ephemeral containers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{env, is_sidecar, mounts, probes, resources, security, volumes::Volumes};
use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{int_at, list_at, str_at},
};

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const NOT_FOR_INIT: &str = "may not be set for init containers without restartPolicy=Always";
const NOT_FOR_EPHEMERAL: &str = "cannot be set for an Ephemeral Container";

/// What a pod's containers are checked against.
struct Context<'a> {
    volumes: Volumes<'a>,
    /// Names of the pod's resource claims.
    claims: BTreeSet<&'a str>,
    restart_policy: &'a str,
    grace: i64,
    /// Whether users in the pod are those of the host.
    host_users: bool,
}

pub(super) fn validate_all<'a>(spec: &'a Value, volumes: Volumes<'a>, path: &Path) -> Vec<FieldError> {
    let context = Context {
        volumes,
        claims: list_at(spec, "resourceClaims").iter().map(|c| str_at(c, "name")).filter(|n| !n.is_empty()).collect(),
        restart_policy: str_at(spec, "restartPolicy"),
        grace: int_at(spec, "terminationGracePeriodSeconds").unwrap_or(30),
        host_users: spec.get("hostUsers").and_then(Value::as_bool).unwrap_or(true),
    };
    let mut errors = context.regular(list_at(spec, "containers"), &path.child("containers"));
    errors.extend(context.init(spec, &path.child("initContainers")));
    errors.extend(context.ephemeral(spec, &path.child("ephemeralContainers")));
    errors
}

/// Only pods refuse blanks around the image; templates may hold special tokens.
pub(super) fn padded_image(container: &Value, path: &Path) -> Option<FieldError> {
    let image = str_at(container, "image");
    (image.trim() != image)
        .then(|| FieldError::invalid(&path.child("image"), image, "must not have leading or trailing whitespace"))
}

impl<'a> Context<'a> {
    fn regular(&self, containers: &'a [Value], path: &Path) -> Vec<FieldError> {
        if containers.is_empty() {
            return vec![FieldError::required(path, "")];
        }
        let mut errors = Vec::new();
        let mut seen = BTreeSet::new();
        for (i, container) in containers.iter().enumerate() {
            let at = path.index(i);
            errors.extend(self.common(container, &at));
            errors.extend(unique_name(container, &mut seen, &at));
            errors.extend(probes::lifecycle(container, &at, self.grace));
            errors.extend(probes::validate(container, &at));
            errors.extend(restart_rules(container, &at));
        }
        errors.extend(host_port_conflicts(containers, path));
        errors
    }

    fn init(&self, spec: &'a Value, path: &Path) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut seen: BTreeSet<&str> = list_at(spec, "containers").iter().map(|c| str_at(c, "name")).collect();
        for (i, container) in list_at(spec, "initContainers").iter().enumerate() {
            let at = path.index(i);
            errors.extend(self.common(container, &at));
            errors.extend(restart_rules(container, &at));
            errors.extend(unique_name(container, &mut seen, &at));
            // they run one after the other: only their own ports can collide. Upstream counts each as the first.
            errors.extend(host_port_conflicts(std::slice::from_ref(container), path));
            if is_sidecar(container) {
                errors.extend(probes::lifecycle(container, &at, self.grace));
                errors.extend(probes::validate(container, &at));
            } else {
                let fields = ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"];
                let set = fields.iter().filter(|field| container.get(**field).is_some());
                errors.extend(set.map(|field| FieldError::forbidden(&at.child(field), NOT_FOR_INIT)));
            }
        }
        errors
    }

    fn ephemeral(&self, spec: &'a Value, path: &Path) -> Vec<FieldError> {
        let others = || ["containers", "initContainers"].iter().flat_map(|list| list_at(spec, list));
        let names: BTreeSet<&str> = others().map(|c| str_at(c, "name")).collect();
        let mut seen = names.clone();
        let mut errors = Vec::new();
        for (i, container) in list_at(spec, "ephemeralContainers").iter().enumerate() {
            let at = path.index(i);
            errors.extend(self.common(container, &at));
            errors.extend(padded_image(container, &at));
            errors.extend(unique_name(container, &mut seen, &at));
            let target = str_at(container, "targetContainerName");
            if !target.is_empty() && !names.contains(target) {
                errors.push(FieldError::not_found(&at.child("targetContainerName"), target));
            }
            errors.extend(not_for_ephemeral(container, &at));
        }
        errors
    }

    /// What holds for every kind of container (`validateContainerCommon`).
    fn common(&self, container: &'a Value, path: &Path) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let at = path.child("name");
        match str_at(container, "name") {
            "" => errors.push(FieldError::required(&at, "")),
            name => errors.extend(FieldError::each_invalid(&at, name, names::dns1123_label(name))),
        }
        if str_at(container, "image").is_empty() {
            errors.push(FieldError::required(&path.child("image"), ""));
        }
        errors.extend(meta::one_of(container, "terminationMessagePolicy", path, &["File", "FallbackToLogsOnError"]));
        errors.extend(ports(container, path));
        errors.extend(env::validate(container, &self.volumes, path));
        errors.extend(mounts::validate(container, &self.volumes, path));
        errors.extend(meta::one_of(container, "imagePullPolicy", path, &["Always", "IfNotPresent", "Never"]));
        errors.extend(resources::validate(container, &path.child("resources")));
        errors.extend(resources::claims(container, &self.claims, &path.child("resources")));
        errors.extend(resources::resize_policy(container, self.restart_policy, &path.child("resizePolicy")));
        errors.extend(security::of_container(container, self.host_users, &path.child("securityContext")));
        errors
    }
}

fn unique_name<'a>(container: &'a Value, seen: &mut BTreeSet<&'a str>, path: &Path) -> Option<FieldError> {
    let name = str_at(container, "name");
    (!name.is_empty() && !seen.insert(name)).then(|| FieldError::duplicate(&path.child("name"), name))
}

fn not_for_ephemeral(container: &Value, path: &Path) -> Vec<FieldError> {
    /// In the order of the fields upstream.
    const FIELDS: [&str; 9] = [
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ];
    let set = |field: &&&str| {
        container.get(**field).is_some_and(|v| match v {
            Value::Object(map) => !map.is_empty() || **field != "resources",
            Value::Array(list) => !list.is_empty(),
            _ => true,
        })
    };
    let mut errors: Vec<FieldError> =
        FIELDS.iter().filter(set).map(|field| FieldError::forbidden(&path.child(field), NOT_FOR_EPHEMERAL)).collect();
    for (i, mount) in list_at(container, "volumeMounts").iter().enumerate() {
        for field in ["subPath", "subPathExpr"] {
            if !str_at(mount, field).is_empty() {
                let at = path.child("volumeMounts").index(i).child(field);
                errors.push(FieldError::forbidden(&at, NOT_FOR_EPHEMERAL));
            }
        }
    }
    errors
}

/// KEP-5307: a container's own restart policy, and rules by exit code.
fn restart_rules(container: &Value, path: &Path) -> Vec<FieldError> {
    const RULES_MAX: usize = 20;
    const CODES_MAX: usize = 255;
    let at = path.child("restartPolicy");
    let rules = list_at(container, "restartPolicyRules");
    let mut errors = Vec::new();
    match container.get("restartPolicy").and_then(Value::as_str) {
        None if !rules.is_empty() => {
            errors.push(FieldError::required(&at, "must specify restartPolicy when restart rules are used"));
        }
        Some(policy) if !["Always", "Never", "OnFailure"].contains(&policy) => {
            errors.push(FieldError::not_supported(&at, policy, &["Always", "Never", "OnFailure"]));
        }
        _ => {}
    }
    let at = path.child("restartPolicyRules");
    if rules.len() > RULES_MAX {
        errors.push(FieldError::too_long(&at, RULES_MAX));
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = at.index(i);
        let action = str_at(rule, "action");
        if !["Restart", "RestartAllContainers"].contains(&action) {
            let known = &["Restart", "RestartAllContainers"];
            errors.push(FieldError::not_supported(&at.child("action"), action, known));
        }
        let at = at.child("exitCodes");
        let Some(codes) = rule.get("exitCodes") else {
            errors.push(FieldError::required(&at, "must be specified"));
            continue;
        };
        let operator = str_at(codes, "operator");
        if !["In", "NotIn"].contains(&operator) {
            errors.push(FieldError::not_supported(&at.child("operator"), operator, &["In", "NotIn"]));
        }
        if list_at(codes, "values").len() > CODES_MAX {
            errors.push(FieldError::too_long(&at.child("values"), CODES_MAX));
        }
    }
    errors
}

fn ports(container: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, port) in list_at(container, "ports").iter().enumerate() {
        let at = path.child("ports").index(i);
        let name = str_at(port, "name");
        if !name.is_empty() {
            let problems = names::port_name(name);
            if problems.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(&at.child("name"), name));
            }
            errors.extend(FieldError::each_invalid(&at.child("name"), name, problems));
        }
        match int_at(port, "containerPort").unwrap_or(0) {
            0 => errors.push(FieldError::required(&at.child("containerPort"), "")),
            number => errors.extend(number_problems(number, &at.child("containerPort"))),
        }
        if let Some(number) = int_at(port, "hostPort").filter(|n| *n != 0) {
            errors.extend(number_problems(number, &at.child("hostPort")));
        }
        errors.extend(meta::one_of(port, "protocol", &at, PROTOCOLS));
    }
    errors
}

fn number_problems(number: i64, path: &Path) -> Vec<FieldError> {
    names::port_number(number).into_iter().map(|p| FieldError::invalid(path, number, p)).collect()
}

fn host_port_conflicts(containers: &[Value], path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in list_at(container, "ports").iter().enumerate() {
            let Some(number) = int_at(port, "hostPort").filter(|n| *n != 0) else { continue };
            let key = format!("{}/{}/{number}", str_at(port, "protocol"), str_at(port, "hostIP"));
            if !taken.insert(key.clone()) {
                errors.push(FieldError::duplicate(&path.index(i).child("ports").index(j).child("hostPort"), key));
            }
        }
    }
    errors
}
