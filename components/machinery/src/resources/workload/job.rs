//! Jobs (kubernetes `pkg/apis/batch`, `pkg/registry/batch/job/strategy.go`).

use serde_json::{Map, Value, json};

use crate::{
    field::{FieldError, Path},
    resources::{meta, pod, writing},
    selector::LabelSelector,
    value::{bool_at, default_to, get, int_at, map_at, object_mut, str_at},
};

const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const BACKOFF_LIMIT: i64 = 6;

pub(in crate::resources) fn defaults(job: &mut Value) {
    let labels = map_at(job, "spec.template.metadata.labels").filter(|l| !l.is_empty()).cloned();
    let Some(spec) = object_mut(job, "spec") else { return };
    if let Some(template) = object_mut(spec, "template") {
        pod::template_defaults(template);
    }
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
    let path = Path::new("spec");
    let spec = job.get("spec").unwrap_or(&Value::Null);
    let mut errors = Vec::new();
    for field in ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"] {
        errors.extend(meta::non_negative(spec, field, &path));
    }
    errors.extend(meta::one_of(spec, "completionMode", &path, &["Indexed", "NonIndexed"]));
    if str_at(spec, "completionMode") == "Indexed" && int_at(spec, "completions").is_none() {
        errors.push(FieldError::required(&path.child("completions"), "when completion mode is Indexed"));
    }
    let template = spec.get("template").unwrap_or(&Value::Null);
    let at = path.child("template");
    errors.extend(selector(spec, template));
    errors.extend(pod::validate_template(template, &at));
    let policy = str_at(template, "spec.restartPolicy");
    if !matches!(policy, "OnFailure" | "Never") {
        errors.push(FieldError::not_supported(
            &at.child("spec").child("restartPolicy"),
            policy,
            &["OnFailure", "Never"],
        ));
    }
    errors
}

fn selector(spec: &Value, template: &Value) -> Option<FieldError> {
    let at = Path::new("spec").child("selector");
    let Some(selector) = spec.get("selector") else { return Some(FieldError::required(&at, "")) };
    let labels = get(template, "metadata.labels").cloned().unwrap_or_else(|| json!({}));
    let matches = LabelSelector::from_object(Some(selector)).is_ok_and(|s| s.matches(labels.as_object()));
    let at = Path::new("spec").child("template").child("metadata").child("labels");
    (!matches).then(|| FieldError::invalid(&at, labels, "`selector` does not match template `labels`"))
}

pub(in crate::resources) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(new);
    errors.extend(meta::immutable(new, old, &["spec.selector", "spec.completionMode", "spec.podFailurePolicy"]));
    // an indexed job may grow and shrink if both numbers stay equal
    let elastic = str_at(new, "spec.completionMode") == "Indexed"
        && int_at(new, "spec.completions") == int_at(new, "spec.parallelism");
    if !elastic {
        errors.extend(meta::immutable(new, old, &["spec.completions"]));
    }
    // a suspended job that has not started may still be directed to other nodes
    let movable = bool_at(old, "spec.suspend") && get(old, "status.startTime").is_none();
    let template = |job: &Value| {
        let mut template = get(job, "spec.template").cloned().unwrap_or_default();
        if movable {
            for field in ["nodeSelector", "affinity", "tolerations", "schedulingGates"] {
                if let Some(spec) = template.get_mut("spec") {
                    crate::value::remove(spec, field);
                }
            }
            crate::value::remove(&mut template, "metadata");
        }
        template
    };
    if template(new) != template(old) {
        let at = Path::new("spec").child("template");
        errors.push(FieldError::invalid(&at, get(new, "spec.template").cloned().unwrap_or_default(), meta::IMMUTABLE));
    }
    errors
}
