//! Jobs (kubernetes `pkg/apis/batch`, `pkg/registry/batch/job/strategy.go`).

mod policies;
mod status;

use serde_json::{Map, Value, json};

use crate::{
    field::{FieldError, Path},
    names,
    resources::{meta, pod, writing},
    selector::LabelSelector,
    value::{bool_at, default_to, each_mut, get, int_at, map_at, object_mut, str_at, with_mut},
};

pub(in crate::resources) use status::validate_update as validate_status_update;

const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const BACKOFF_LIMIT: i64 = 6;

pub(in crate::resources) fn template_defaults(spec: &mut Value) {
    if let Some(template) = object_mut(spec, "template") {
        pod::template_defaults(template);
    }
}

pub(in crate::resources) fn defaults(job: &mut Value) {
    let labels = map_at(job, "spec.template.metadata.labels").filter(|l| !l.is_empty()).cloned();
    let Some(spec) = object_mut(job, "spec") else { return };
    template_defaults(spec);
    // without either, a job is one pod; with parallelism alone it is a work queue
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        default_to(spec, "completions", 1);
    }
    default_to(spec, "parallelism", 1);
    let limit = if spec.get("backoffLimitPerIndex").is_some() { i64::from(i32::MAX) } else { BACKOFF_LIMIT };
    default_to(spec, "backoffLimit", limit);
    default_to(spec, "completionMode", "NonIndexed");
    default_to(spec, "suspend", false);
    let replacement = if spec.get("podFailurePolicy").is_some() { "Failed" } else { "TerminatingOrFailed" };
    default_to(spec, "podReplacementPolicy", replacement);
    default_to(spec, "manualSelector", false);
    with_mut(spec, "podFailurePolicy", |policy| {
        each_mut(policy, "rules", |rule| each_mut(rule, "onPodConditions", |c| default_to(c, "status", "True")));
    });
    if map_at(job, "metadata.labels").is_none_or(Map::is_empty)
        && let (Some(labels), Some(metadata)) = (labels, object_mut(job, "metadata").and_then(Value::as_object_mut))
    {
        metadata.insert("labels".into(), Value::Object(labels));
    }
}

/// A job selects its pods by its own uid, so the caller must have set `metadata.uid` and the name.
pub(in crate::resources) fn prepare_create(job: &mut Value) {
    writing::drop_status(job);
    if bool_at(job, "spec.manualSelector") {
        return;
    }
    let (uid, name) = (str_at(job, "metadata.uid").to_owned(), str_at(job, "metadata.name").to_owned());
    let Some(spec) = object_mut(job, "spec") else { return };
    for (key, value) in [(CONTROLLER_UID, &uid), ("controller-uid", &uid), (JOB_NAME, &name), ("job-name", &name)] {
        if let Some(map) = labels_of(spec) {
            map.insert(key.into(), value.as_str().into());
        }
    }
    if let Some(labels) =
        object_mut(spec, "selector").and_then(|s| object_mut(s, "matchLabels")).and_then(Value::as_object_mut)
    {
        labels.insert(CONTROLLER_UID.into(), uid.into());
    }
}

fn labels_of(spec: &mut Value) -> Option<&mut Map<String, Value>> {
    object_mut(object_mut(object_mut(spec, "template")?, "metadata")?, "labels")?.as_object_mut()
}

pub(in crate::resources) fn validate(job: &Value) -> Vec<FieldError> {
    let mut errors = generated_selector(job);
    errors.extend(with_selector(job));
    let name = str_at(job, "metadata.name");
    if let Some(last) = int_at(job, "spec.completions").filter(|n| *n > 0 && is_indexed(&job["spec"])) {
        let hostname = format!("{name}-{}", last - 1);
        if !names::dns1123_label(&hostname).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {hostname}");
            errors.push(FieldError::invalid(&Path::new("metadata").child("name"), name, detail));
        }
    }
    errors
}

/// What has to hold at creation and at every update.
fn with_selector(job: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let empty = Value::Null;
    let spec = job.get("spec").unwrap_or(&empty);
    let mut errors = validate_spec(spec, &path);
    let Some(selector) = spec.get("selector") else {
        errors.push(FieldError::required(&path.child("selector"), ""));
        return errors;
    };
    errors.extend(meta::label_selector(Some(selector), &path.child("selector")));
    let labels = get(spec, "template.metadata.labels").cloned().unwrap_or_else(|| json!({}));
    if LabelSelector::from_object(Some(selector)).is_ok_and(|s| !s.matches(labels.as_object())) {
        let at = path.child("template").child("metadata").child("labels");
        errors.push(FieldError::invalid(&at, labels, "`selector` does not match template `labels`"));
    }
    errors
}

/// The labels that make a job's pods its own must be those the server set.
fn generated_selector(job: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if bool_at(job, "spec.manualSelector") || get(job, "spec.selector").is_none() {
        return errors;
    }
    let (uid, name) = (str_at(job, "metadata.uid"), str_at(job, "metadata.name"));
    let at = Path::new("spec").child("template").child("metadata").child("labels");
    let labels = map_at(job, "spec.template.metadata.labels");
    let wanted = [("controller-uid", uid), ("job-name", name), (CONTROLLER_UID, uid), (JOB_NAME, name)];
    for (key, value) in wanted {
        match labels.and_then(|l| l.get(key)).and_then(Value::as_str) {
            None => errors.push(FieldError::required(&at.key(key), format!("must be '{value}'"))),
            Some(found) if found != value => {
                let shown = labels.cloned().map(Value::Object).unwrap_or_default();
                errors.push(FieldError::invalid(&at.key(key), shown, format!("must be '{value}'")));
            }
            Some(_) => {}
        }
    }
    let expected: Map<String, Value> = wanted.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
    let selector = get(job, "spec.selector");
    if LabelSelector::from_object(selector).is_ok_and(|s| !s.matches(Some(&expected))) {
        let shown = selector.cloned().unwrap_or_default();
        let at = Path::new("spec").child("selector");
        errors.push(FieldError::invalid(&at, shown, "`selector` not auto-generated"));
    }
    errors
}

fn is_indexed(spec: &Value) -> bool {
    str_at(spec, "completionMode") == "Indexed"
}

/// A JobSpec without its selector, also that of a CronJob's template.
pub(in crate::resources) fn validate_spec(spec: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        errors.extend(meta::non_negative(spec, field, path));
    }
    if spec.get("maxFailedIndexes").is_some() && spec.get("backoffLimitPerIndex").is_none() {
        let detail = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(&path.child("backoffLimitPerIndex"), detail));
    }
    errors.extend(managed_by(spec, path));
    errors.extend(meta::optional_one_of(spec, "completionMode", path, &["NonIndexed", "Indexed"]));
    if is_indexed(spec) {
        errors.extend(indexed(spec, path));
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(value) = spec.get(field) {
                let detail = "requires indexed completion mode";
                errors.push(FieldError::invalid(&path.child(field), value.clone(), detail));
            }
        }
    }
    errors.extend(policies::failure(spec, &path.child("podFailurePolicy")));
    errors.extend(policies::success(spec, &path.child("successPolicy")));
    errors.extend(policies::replacement(spec, path));
    let template = spec.get("template").unwrap_or(&Value::Null);
    let at = path.child("template");
    errors.extend(pod::validate_template(template, &at));
    let at = at.child("spec").child("restartPolicy");
    match str_at(template, "spec.restartPolicy") {
        "" | "Always" => errors.push(FieldError::required(&at, "valid values: \"OnFailure\", \"Never\"")),
        "Never" => {}
        policy @ "OnFailure" if spec.get("podFailurePolicy").is_some() => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(&at, policy, detail));
        }
        "OnFailure" => {}
        other => errors.push(FieldError::not_supported(&at, other, &["OnFailure", "Never"])),
    }
    errors
}

fn managed_by(spec: &Value, path: &Path) -> Vec<FieldError> {
    const MAX: usize = 63;
    const PATH: &[u8] = b"/-._~%!$&'()*+,;=:";
    const BAD_PATH: &str = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
    let at = path.child("managedBy");
    let Some(manager) = spec.get("managedBy").and_then(Value::as_str) else { return Vec::new() };
    let mut errors = Vec::new();
    match manager.split_once('/') {
        _ if manager.is_empty() => errors.push(FieldError::required(&at, "")),
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            errors.extend(names::dns1123_subdomain(domain).into_iter().map(|p| FieldError::invalid(&at, domain, p)));
            if !rest.bytes().all(|b| b.is_ascii_alphanumeric() || PATH.contains(&b)) {
                errors.push(FieldError::invalid(&at, rest, BAD_PATH));
            }
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(FieldError::invalid(&at, manager, detail));
        }
    }
    if manager.len() > MAX {
        errors.push(FieldError::too_long(&at, MAX));
    }
    errors
}

/// Bounds that keep the status of an indexed job small.
fn indexed(spec: &Value, path: &Path) -> Vec<FieldError> {
    const MAX: i64 = 100_000;
    const MANY: i64 = 100_000;
    const MANY_MAX: i64 = 10_000;
    let mut errors = Vec::new();
    let completions = int_at(spec, "completions");
    if completions.is_none() {
        errors.push(FieldError::required(&path.child("completions"), "when completion mode is Indexed"));
    }
    let at_most = |field: &str, max: i64, detail: String| {
        let value = int_at(spec, field).filter(|v| *v > max)?;
        Some(FieldError::invalid(&path.child(field), value, detail))
    };
    let detail = format!("must be less than or equal to {MAX} when completion mode is Indexed");
    errors.extend(at_most("parallelism", MAX, detail));
    errors.extend(
        completions
            .and_then(|most| at_most("maxFailedIndexes", most, "must be less than or equal to completions".into())),
    );
    errors.extend(at_most("maxFailedIndexes", MAX, format!("must be less than or equal to {MAX}")));
    if completions.is_some_and(|n| n > MANY) && spec.get("backoffLimitPerIndex").is_some() {
        if spec.get("maxFailedIndexes").is_none() {
            let detail = format!("must be specified when completions is above {MANY}");
            errors.push(FieldError::required(&path.child("maxFailedIndexes"), detail));
        }
        let detail = format!(
            "must be less than or equal to {MANY_MAX} when completions are above {MANY} and used with backoff limit per index"
        );
        errors.extend(at_most("parallelism", MANY_MAX, detail.clone()));
        errors.extend(at_most("maxFailedIndexes", MANY_MAX, detail));
    }
    errors
}

pub(in crate::resources) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = with_selector(new);
    errors.extend(completions_update(new, old));
    errors.extend(meta::immutable(new, old, &["spec.selector"]));
    if template_for_update(new, old) != template_for_update(old, old) {
        let at = Path::new("spec").child("template");
        errors.push(FieldError::invalid(&at, get(new, "spec.template").cloned().unwrap_or_default(), meta::IMMUTABLE));
    }
    errors.extend(meta::immutable(
        new,
        old,
        &[
            "spec.completionMode",
            "spec.podFailurePolicy",
            "spec.backoffLimitPerIndex",
            "spec.managedBy",
            "spec.successPolicy",
        ],
    ));
    errors
}

/// An indexed job may grow and shrink if both numbers stay equal.
fn completions_update(new: &Value, old: &Value) -> Vec<FieldError> {
    if !is_indexed(&new["spec"]) {
        return meta::immutable(new, old, &["spec.completions"]);
    }
    let (after, before) = (int_at(new, "spec.completions"), int_at(old, "spec.completions"));
    match after {
        Some(count) if after != before && after != int_at(new, "spec.parallelism") => {
            let at = Path::new("spec").child("completions");
            vec![FieldError::invalid(&at, count, "can only be modified in tandem with spec.parallelism")]
        }
        _ => Vec::new(),
    }
}

/// The parts of the template that stay: a suspended job that has not started may still be directed to other nodes.
fn template_for_update(job: &Value, old: &Value) -> Value {
    let mut template = get(job, "spec.template").cloned().unwrap_or_default();
    let movable = bool_at(old, "spec.suspend") && get(old, "status.startTime").is_none();
    if movable {
        with_mut(&mut template, "spec", |spec| {
            for field in ["nodeSelector", "tolerations", "schedulingGates"] {
                crate::value::remove(spec, field);
            }
            with_mut(spec, "affinity", |affinity| drop(crate::value::remove(affinity, "nodeAffinity")));
            if spec.get("affinity").and_then(Value::as_object).is_some_and(Map::is_empty) {
                crate::value::remove(spec, "affinity");
            }
        });
        with_mut(&mut template, "metadata", |metadata| {
            for field in ["labels", "annotations"] {
                crate::value::remove(metadata, field);
            }
        });
        if template.get("metadata").and_then(Value::as_object).is_some_and(Map::is_empty) {
            crate::value::remove(&mut template, "metadata");
        }
    }
    template
}

pub(in crate::resources) fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = super::template_warnings(new, old);
    let number = |field: &str| int_at(new, field).unwrap_or(0);
    if is_indexed(&new["spec"]) && number("spec.completions") > 100_000 && number("spec.parallelism") > 10_000 {
        warnings.push("In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn indexed_jobs_have_bounds() {
        let of = |spec: Value| texts(&indexed(&spec, &Path::new("s")));
        assert_eq!(
            of(json!({"parallelism": 100_001, "maxFailedIndexes": 100_001})),
            [
                "s.completions: Required value: when completion mode is Indexed",
                "s.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
                "s.maxFailedIndexes: Invalid value: 100001: must be less than or equal to 100000",
            ]
        );
        assert_eq!(
            of(json!({"completions": 100_001, "parallelism": 10_001, "backoffLimitPerIndex": 1})),
            [
                "s.maxFailedIndexes: Required value: must be specified when completions is above 100000",
                "s.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index",
            ]
        );
    }

    #[test]
    fn managers_have_a_domain_and_a_path() {
        let of = |name: &str| texts(&managed_by(&json!({"managedBy": name}), &Path::new("s")));
        assert_eq!(of("a.io/b~c"), [""; 0]);
        assert_eq!(
            of("a.io/b c"),
            [
                r#"s.managedBy: Invalid value: "b c": Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')"#
            ]
        );
    }
}
