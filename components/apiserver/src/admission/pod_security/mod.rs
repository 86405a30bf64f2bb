//! PodSecurity: what pods may be, as the labels of their namespace say (upstream: pod-security-admission/admission).
//!
//! Pods that violate the enforced level are refused; workloads whose pods would, and pods that violate the other levels, are warned
//! about and written down.

mod checks;
pub mod policy;

use std::collections::{BTreeMap, btree_map::Entry};

use machinery::{
    ApiError,
    value::{get, list_at, map_at, str_at},
};
use parking_lot::Mutex;
use serde_json::Value;

use super::{Attempt, Operation};
use crate::{config::PodSecurityExemptions, metrics::text::Text, registry};
use checks::{Pod, Violation};
use policy::{Level, LevelVersion, Policy};

/// Pods of a namespace that are looked at when its level is raised.
const PODS_CHECKED: usize = 3000;
const ANNOTATION: &str = "pod-security.kubernetes.io";

/// Kinds with pod templates, and where these are.
const WORKLOADS: &[(&str, &str, &str)] = &[
    ("", "podtemplates", "template"),
    ("", "replicationcontrollers", "spec.template"),
    ("apps", "replicasets", "spec.template"),
    ("apps", "deployments", "spec.template"),
    ("apps", "statefulsets", "spec.template"),
    ("apps", "daemonsets", "spec.template"),
    ("batch", "jobs", "spec.template"),
    ("batch", "cronjobs", "spec.jobTemplate.spec.template"),
];

/// Decision, mode, policy, operation, resource, subresource.
type Evaluated = (&'static str, &'static str, String, &'static str, String, String);

/// The configured policy, and what was decided by it.
pub struct PodSecurity {
    defaults: Policy,
    exemptions: PodSecurityExemptions,
    evaluated: Mutex<BTreeMap<Evaluated, u64>>,
}

impl PodSecurity {
    pub fn from_config(config: &crate::config::PodSecurity) -> anyhow::Result<Self> {
        Ok(PodSecurity {
            defaults: Policy::from_config(&config.defaults)?,
            exemptions: config.exemptions.clone(),
            evaluated: Mutex::default(),
        })
    }

    fn count(&self, attempt: &Attempt<'_>, mode: &'static str, policy: LevelVersion, allowed: bool) {
        let key = (
            if allowed { "allow" } else { "deny" },
            mode,
            policy.to_string(),
            if attempt.operation == Operation::Create { "create" } else { "update" },
            attempt.target.resource.plural.to_string(),
            attempt.subresource.to_owned(),
        );
        *self.evaluated.lock().entry(key).or_default() += 1;
    }

    pub fn render(&self, out: &mut Text) {
        let help = "Number of policy evaluations that occurred, not counting ignored or exempt requests.";
        let mut family = out.counter("pod_security_evaluations_total", help);
        for ((decision, mode, policy, operation, resource, subresource), count) in self.evaluated.lock().iter() {
            let (level, version) = policy.split_once(':').unwrap_or((policy, ""));
            let labels = [
                ("decision", *decision),
                ("mode", mode),
                ("policy_level", level),
                ("policy_version", version),
                ("request_operation", operation),
                ("resource", resource),
                ("subresource", subresource),
            ];
            family.sample(&labels, count);
        }
    }
}

pub async fn check(attempt: &Attempt<'_>, new: &Value) -> Result<(), ApiError> {
    if !matches!(attempt.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let resource = &attempt.target.resource;
    match (resource.group, resource.plural) {
        ("", "namespaces") if attempt.subresource.is_empty() => check_namespace(attempt, new).await,
        ("", "pods") if matches!(attempt.subresource, "" | "ephemeralcontainers" | "resize") => {
            check_pod(attempt, new).await
        }
        (group, plural) if attempt.subresource.is_empty() => {
            let row = WORKLOADS.iter().find(|(g, p, _)| *g == group && *p == plural);
            match row.and_then(|(_, _, path)| get(new, path)).filter(|template| template.is_object()) {
                Some(template) => check_template(attempt, template).await,
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Policy of the attempt's namespace; `None` where nothing is looked at.
async fn policy_of(attempt: &Attempt<'_>) -> Result<Option<Policy>, ApiError> {
    let security = &attempt.call.core.pod_security;
    let namespace = &attempt.target.namespace;
    if security.exemptions.namespaces.contains(namespace) {
        attempt.call.annotate(&format!("{ANNOTATION}/exempt"), "namespace");
        return Ok(None);
    }
    if security.exemptions.usernames.contains(&attempt.call.identity.user) {
        attempt.call.annotate(&format!("{ANNOTATION}/exempt"), "user");
        return Ok(None);
    }
    let namespaces = registry::find("", "v1", "namespaces").ok_or_else(ApiError::no_such_resource)?;
    let stored = registry::look(&attempt.call.core, namespaces, "", namespace).await?;
    let (policy, errors) = security.defaults.of_labels(map_at(&stored, "metadata.labels"));
    if !errors.is_empty() {
        let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
        attempt.call.annotate(&format!("{ANNOTATION}/error"), format!("Failed to parse policy: {}", list.join(", ")));
    }
    Ok(Some(policy).filter(|policy| !policy.is_privileged()))
}

fn is_exempt(attempt: &Attempt<'_>, spec: &Value) -> bool {
    let class = str_at(spec, "runtimeClassName");
    let exempt = !class.is_empty()
        && attempt.call.core.pod_security.exemptions.runtime_classes.iter().any(|exempt| exempt == class);
    if exempt {
        attempt.call.annotate(&format!("{ANNOTATION}/exempt"), "runtimeClass");
    }
    exempt
}

async fn check_pod(attempt: &Attempt<'_>, new: &Value) -> Result<(), ApiError> {
    if attempt.old.is_some_and(|old| !is_significant(new, old)) {
        return Ok(());
    }
    let Some(policy) = policy_of(attempt).await? else { return Ok(()) };
    if is_exempt(attempt, &new["spec"]) {
        return Ok(());
    }
    let pod = Pod { metadata: &new["metadata"], spec: &new["spec"] };
    let enforced = evaluate(attempt, "enforce", policy.enforce, &pod);
    attempt.call.annotate(&format!("{ANNOTATION}/enforce-policy"), policy.enforce.to_string());
    note(attempt, policy.audit, &pod);
    if let Some(why) = enforced {
        return Err(attempt.target.forbidden(&format!("violates PodSecurity \"{}\": {why}", policy.enforce)));
    }
    warn(attempt, policy.warn, &pod);
    Ok(())
}

async fn check_template(attempt: &Attempt<'_>, template: &Value) -> Result<(), ApiError> {
    let Some(policy) = policy_of(attempt).await? else { return Ok(()) };
    if is_exempt(attempt, &template["spec"]) {
        return Ok(());
    }
    let empty = Value::Null;
    let pod = Pod { metadata: template.get("metadata").unwrap_or(&empty), spec: &template["spec"] };
    note(attempt, policy.audit, &pod);
    warn(attempt, policy.warn, &pod);
    Ok(())
}

/// What is wrong with a pod under a policy, in words.
fn evaluate(attempt: &Attempt<'_>, mode: &'static str, policy: LevelVersion, pod: &Pod<'_>) -> Option<String> {
    let violations = match policy.level {
        Level::Privileged => Vec::new(),
        level => checks::violations(level, policy.version, pod),
    };
    // as upstream: of the other modes only what is not liked counts
    if mode == "enforce" || !violations.is_empty() {
        attempt.call.core.pod_security.count(attempt, mode, policy, violations.is_empty());
    }
    (!violations.is_empty()).then(|| details(&violations))
}

fn details(violations: &[Violation]) -> String {
    let one = |(reason, detail): &Violation| match detail.is_empty() {
        true => (*reason).to_owned(),
        false => format!("{reason} ({detail})"),
    };
    violations.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn note(attempt: &Attempt<'_>, policy: LevelVersion, pod: &Pod<'_>) {
    if let Some(why) = evaluate(attempt, "audit", policy, pod) {
        let text = format!("would violate PodSecurity \"{policy}\": {why}");
        attempt.call.annotate(&format!("{ANNOTATION}/audit-violations"), text);
    }
}

fn warn(attempt: &Attempt<'_>, policy: LevelVersion, pod: &Pod<'_>) {
    if let Some(why) = evaluate(attempt, "warn", policy, pod) {
        attempt.call.warn(format!("would violate PodSecurity \"{policy}\": {why}"));
    }
}

/// Of an update only what these standards are about: images, seccomp annotations, further containers.
fn is_significant(new: &Value, old: &Value) -> bool {
    let annotation = |pod: &Value, key: &str| pod["metadata"]["annotations"].get(key).cloned();
    let seccomp = "seccomp.security.alpha.kubernetes.io/pod";
    if annotation(new, seccomp) != annotation(old, seccomp) {
        return true;
    }
    ["containers", "initContainers", "ephemeralContainers"].into_iter().any(|list| {
        let (after, before) = (list_at(&new["spec"], list), list_at(&old["spec"], list));
        let changed = |container: &Value| {
            let key = format!("container.seccomp.security.alpha.kubernetes.io/{}", str_at(container, "name"));
            let same = before.iter().find(|b| b["name"] == container["name"]);
            same.is_none_or(|b| b["image"] != container["image"]) || annotation(new, &key) != annotation(old, &key)
        };
        after.len() != before.len() || after.iter().any(changed)
    })
}

async fn check_namespace(attempt: &Attempt<'_>, new: &Value) -> Result<(), ApiError> {
    let security = &attempt.call.core.pod_security;
    let (policy, errors) = security.defaults.of_labels(map_at(new, "metadata.labels"));
    let before = attempt.old.map(|old| security.defaults.of_labels(map_at(old, "metadata.labels")));
    let known = |errors: &[machinery::FieldError]| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
    if !errors.is_empty() && before.as_ref().is_none_or(|(_, old)| known(old) != known(&errors)) {
        return Err(ApiError::invalid("", "Namespace", &attempt.target.name, &errors));
    }
    let Some((before, _)) = before else { return Ok(()) };
    let (enforce, old) = (policy.enforce, before.enforce);
    let relaxed = enforce.version == old.version && enforce.level <= old.level;
    if enforce == old
        || enforce.level == Level::Privileged
        || relaxed
        || security.exemptions.namespaces.contains(&attempt.target.name)
    {
        return Ok(());
    }
    warn_of_pods(attempt, enforce).await
}

/// Warnings about pods that are there already, by what is wrong with them.
async fn warn_of_pods(attempt: &Attempt<'_>, enforce: LevelVersion) -> Result<(), ApiError> {
    let (core, namespace) = (&attempt.call.core, &attempt.target.name);
    let pods = registry::find("", "v1", "pods").ok_or_else(ApiError::no_such_resource)?;
    let stored = registry::read_all(core, pods, namespace).await?;
    let mut wrong: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in stored.iter().take(PODS_CHECKED).map(|s| &s.object) {
        if is_exempt(attempt, &pod["spec"]) {
            continue;
        }
        let violations =
            checks::violations(enforce.level, enforce.version, &Pod { metadata: &pod["metadata"], spec: &pod["spec"] });
        if violations.is_empty() {
            continue;
        }
        let reasons = violations.iter().map(|(reason, _)| *reason).collect::<Vec<_>>().join(", ");
        let name = str_at(pod, "metadata.name").to_owned();
        match wrong.entry(reasons) {
            Entry::Vacant(slot) => drop(slot.insert((name, 1))),
            Entry::Occupied(mut slot) => slot.get_mut().1 += 1,
        }
    }
    let call = attempt.call;
    if stored.len() > PODS_CHECKED {
        call.warn(format!(
            "new PodSecurity enforce level only checked against the first {PODS_CHECKED} of {} existing pods",
            stored.len()
        ));
    }
    if !wrong.is_empty() {
        call.warn(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut texts: Vec<String> = wrong
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            more => format!("{name} (and {} other pods): {reasons}", more - 1),
        })
        .collect();
    texts.sort();
    texts.into_iter().for_each(|text| call.warn(text));
    Ok(())
}
