//! CronJobs (kubernetes `pkg/apis/batch`).

use serde_json::Value;

use super::job;
use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{bool_at, default_to, get, int_at, object_mut, str_at},
};

/// Jobs get a suffix of eleven characters.
const NAME_MAX: usize = 52;
const ZONE_PART_MAX: usize = 14;

pub(in crate::resources) fn defaults(object: &mut Value) {
    let Some(spec) = object_mut(object, "spec") else { return };
    default_to(spec, "concurrencyPolicy", "Allow");
    default_to(spec, "suspend", false);
    default_to(spec, "successfulJobsHistoryLimit", 3);
    default_to(spec, "failedJobsHistoryLimit", 1);
    if let Some(template) = object_mut(spec, "jobTemplate").and_then(|j| object_mut(j, "spec")) {
        job::template_defaults(template);
    }
}

pub(in crate::resources) fn validate_create(object: &Value) -> Vec<FieldError> {
    let mut errors = validate(object, None);
    let name = str_at(object, "metadata.name");
    if name.len() > NAME_MAX {
        let detail = format!("must be no more than {NAME_MAX} characters");
        errors.push(FieldError::invalid(&Path::new("metadata").child("name"), name, detail));
    }
    errors
}

pub(in crate::resources) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    validate(new, Some(old))
}

fn validate(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let path = Path::new("spec");
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut errors = schedule(spec, old, &path);
    errors.extend(meta::non_negative(spec, "startingDeadlineSeconds", &path));
    if old.is_none_or(|old| get(old, "spec.timeZone") != spec.get("timeZone")) {
        errors.extend(time_zone(spec, &path.child("timeZone")));
    }
    errors.extend(meta::one_of(spec, "concurrencyPolicy", &path, &["Allow", "Forbid", "Replace"]));
    errors.extend(job_template(spec, &path.child("jobTemplate").child("spec")));
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        errors.extend(meta::non_negative(spec, field, &path));
    }
    errors
}

fn schedule(spec: &Value, old: Option<&Value>, path: &Path) -> Vec<FieldError> {
    let at = path.child("schedule");
    let text = str_at(spec, "schedule");
    if text.is_empty() {
        return vec![FieldError::required(&at, "")];
    }
    let mut errors: Vec<FieldError> =
        cron::Schedule::parse(text).err().into_iter().map(|e| FieldError::invalid(&at, text, e.0)).collect();
    let allowed = old.is_some_and(|old| str_at(old, "spec.schedule").contains("TZ"));
    if text.contains("TZ") && !allowed {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid(&at, text, detail));
    } else if text.contains("TZ") && spec.get("timeZone").is_some() {
        let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.push(FieldError::invalid(&at, text, detail));
    }
    errors
}

fn time_zone(spec: &Value, path: &Path) -> Vec<FieldError> {
    let Some(name) = spec.get("timeZone").and_then(Value::as_str) else { return Vec::new() };
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(FieldError::invalid(path, name, "timeZone must be nil or non-empty string"));
        return errors;
    }
    let unknown = || FieldError::invalid(path, name, format!("unknown time zone {name}"));
    if !name.split('/').all(may_name_zones) {
        errors.push(unknown());
        return errors;
    }
    if name.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(FieldError::invalid(path, name, detail));
    } else if cron::zone(name).is_none() {
        errors.push(unknown());
    }
    errors
}

/// Whether a part of a path may be a part of the database's names.
fn may_name_zones(part: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b".-_+".contains(&b);
    (1..=ZONE_PART_MAX).contains(&part.len())
        && part.bytes().all(known)
        && part != "."
        && part != ".."
        && !part.starts_with('-')
}

/// Every Job gets a selector of its own, so the template must have none.
fn job_template(spec: &Value, path: &Path) -> Vec<FieldError> {
    let empty = Value::Null;
    let template = get(spec, "jobTemplate.spec").unwrap_or(&empty);
    let mut errors = job::validate_spec(template, path);
    if let Some(selector) = template.get("selector") {
        let detail = "`selector` will be auto-generated";
        errors.push(FieldError::invalid(&path.child("selector"), selector.clone(), detail));
    }
    if bool_at(template, "manualSelector") {
        errors.push(FieldError::not_supported(&path.child("manualSelector"), true, &["nil", "false"]));
    }
    errors
}

pub(in crate::resources) fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if str_at(new, "spec.schedule").contains("TZ") {
        warnings.push("cannot use TZ or CRON_TZ in spec.schedule, use spec.timeZone instead".to_owned());
    }
    if old.is_none() {
        let name = str_at(new, "metadata.name");
        warnings.extend(names::dns1123_label(name).into_iter().map(|problem| {
            format!("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{problem}]")
        }));
    }
    let generation = |object: &Value| int_at(object, "metadata.generation");
    if old.is_none_or(|old| generation(old) != generation(new)) {
        let path = Path::new("spec").child("jobTemplate").child("spec").child("template");
        let template = get(new, "spec.jobTemplate.spec.template").unwrap_or(&Value::Null);
        warnings.extend(crate::resources::pod::template_warnings(template, &path));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn zones_are_those_of_the_database() {
        let of = |name: &str| {
            let found = time_zone(&json!({"timeZone": name}), &Path::new("z"));
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!((of("Europe/Berlin"), of("Etc/GMT+5")), (vec![], vec![]));
        assert_eq!(of(""), ["z: Invalid value: \"\": timeZone must be nil or non-empty string"]);
        assert_eq!(
            of("local"),
            [
                "z: Invalid value: \"local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
            ]
        );
        for name in ["Europe/../UTC", "/UTC", "-UTC", "Europe/Berlin ", "America/NorthAndSouthDakota", "Mars/Base"] {
            assert_eq!(of(name), [format!("z: Invalid value: {name:?}: unknown time zone {name}")]);
        }
    }
}
