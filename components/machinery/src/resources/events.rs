//! Events: one stored object (core/v1), served also as events.k8s.io/v1 (kubernetes `pkg/apis/core/validation/events.go`,
//! `pkg/apis/events/v1/conversion.go`).

use serde_json::Value;

use super::{PLAIN, Resource, Strategy, View, columns, meta, row};
use crate::{
    field::{FieldError, Path},
    names,
    value::{get, int_at, namespace, str_at},
};

const KIND: (&str, &str) = ("Event", "EventList");
const NAMES: (&str, &str) = ("events", "event");
const TEXT_MAX: usize = 128;
const NOTE_MAX: usize = 1024;

/// (core/v1, events.k8s.io/v1): what has another name there.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

pub(super) static RESOURCES: &[Resource] = &[
    Resource {
        short_names: &["ev"],
        columns: columns::EVENT,
        field_selectors: &[
            ("involvedObject.kind", "involvedObject.kind"),
            ("involvedObject.namespace", "involvedObject.namespace"),
            ("involvedObject.name", "involvedObject.name"),
            ("involvedObject.uid", "involvedObject.uid"),
            ("involvedObject.apiVersion", "involvedObject.apiVersion"),
            ("involvedObject.resourceVersion", "involvedObject.resourceVersion"),
            ("involvedObject.fieldPath", "involvedObject.fieldPath"),
            ("reason", "reason"),
            ("reportingComponent", "reportingComponent"),
            ("source", "source.component"),
            ("type", "type"),
        ],
        strategy: Strategy {
            validate_create: every_event,
            validate_update: |new, _| every_event(new),
            create_on_update: true,
            ..PLAIN
        },
        ..row(("", "v1"), KIND, NAMES, "io.k8s.api.core.v1.Event")
    },
    Resource {
        short_names: &["ev"],
        columns: columns::NEW_EVENT,
        field_selectors: &[
            ("regarding.kind", "regarding.kind"),
            ("regarding.namespace", "regarding.namespace"),
            ("regarding.name", "regarding.name"),
            ("regarding.uid", "regarding.uid"),
            ("regarding.apiVersion", "regarding.apiVersion"),
            ("regarding.resourceVersion", "regarding.resourceVersion"),
            ("regarding.fieldPath", "regarding.fieldPath"),
            ("reason", "reason"),
            ("reportingController", "reportingController"),
            ("type", "type"),
        ],
        view: Some(View { group: "", version: "v1", plural: "events", from_stored, to_stored }),
        strategy: Strategy {
            validate_create: |new| new_event(&stored(new)),
            validate_update: |new, old| new_event_update(&stored(new), &stored(old)),
            create_on_update: true,
            ..PLAIN
        },
        ..row(("events.k8s.io", "v1"), KIND, NAMES, "io.k8s.api.events.v1.Event")
    },
];

fn rename(event: &mut Value, names: impl Iterator<Item = (&'static str, &'static str)>) {
    let Some(map) = event.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

fn from_stored(event: &mut Value) {
    rename(event, RENAMED.iter().copied());
}

fn to_stored(event: &mut Value) {
    rename(event, RENAMED.iter().map(|(core, new)| (*new, *core)));
}

pub(super) fn stored(event: &Value) -> Value {
    let mut core = event.clone();
    to_stored(&mut core);
    core
}

/// What every event has to be, whichever group it came through. One with an event time is of the new kind.
fn every_event(event: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (about, here) = (str_at(event, "involvedObject.namespace"), namespace(event));
    let misplaced = || {
        let at = Path::new("involvedObject").child("namespace");
        FieldError::invalid(&at, about, "does not match event.namespace")
    };
    if str_at(event, "eventTime").is_empty() {
        let fits = if about.is_empty() { matches!(here, "" | "default") } else { about == here };
        if !fits {
            errors.push(misplaced());
        }
    } else {
        if about.is_empty() && !matches!(here, "default" | "kube-system") {
            errors.push(misplaced());
        }
        let controller = str_at(event, "reportingComponent");
        let at = Path::new("reportingController");
        if controller.is_empty() {
            errors.push(FieldError::required(&at, ""));
        }
        errors.extend(names::qualified_name(controller).into_iter().map(|p| FieldError::invalid(&at, controller, p)));
        for field in ["reportingInstance", "action", "reason"] {
            if str_at(event, field).is_empty() {
                errors.push(FieldError::required(&Path::new(field), ""));
            }
            errors.extend(short(event, field, TEXT_MAX));
        }
        errors.extend(short(event, "message", NOTE_MAX));
    }
    let at = Path::new("namespace");
    errors.extend(names::dns1123_subdomain(here).into_iter().map(|p| FieldError::invalid(&at, here, p)));
    errors
}

fn short(event: &Value, field: &str, max: usize) -> Option<FieldError> {
    let long = str_at(event, field).len() > max;
    long.then(|| FieldError::invalid(&Path::new(field), "", format!("can have at most {max} characters")))
}

fn series(event: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if event.get("series").is_some() {
        if int_at(event, "series.count").unwrap_or(0) < 2 {
            errors.push(FieldError::invalid(&Path::new("series.count"), "", "should be at least 2"));
        }
        if str_at(event, "series.lastObservedTime").is_empty() {
            errors.push(FieldError::required(&Path::new("series.lastObservedTime"), ""));
        }
    }
    errors
}

/// What a create through events.k8s.io/v1 has to be besides, in the stored form.
fn new_event(event: &Value) -> Vec<FieldError> {
    let mut errors = every_event(event);
    errors.extend(series(event));
    if str_at(event, "eventTime").is_empty() {
        errors.push(FieldError::required(&Path::new("eventTime"), ""));
    }
    let kind = str_at(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid(&Path::new("type"), "", format!("has invalid value: {kind}")));
    }
    let set = |path: &str| get(event, path).is_some_and(|v| !matches!(v.as_str(), Some("")) && v.as_i64() != Some(0));
    for (field, is_set) in [
        ("firstTimestamp", set("firstTimestamp")),
        ("lastTimestamp", set("lastTimestamp")),
        ("count", set("count")),
        ("source", set("source.component") || set("source.host")),
    ] {
        if is_set {
            errors.push(FieldError::invalid(&Path::new(field), "", "needs to be unset"));
        }
    }
    errors
}

fn new_event_update(new: &Value, old: &Value) -> Vec<FieldError> {
    const FIXED: &[(&str, &str)] = &[
        ("involvedObject", "involvedObject"),
        ("reason", "reason"),
        ("message", "message"),
        ("source", "source"),
        ("firstTimestamp", "firstTimestamp"),
        ("lastTimestamp", "lastTimestamp"),
        ("count", "count"),
        ("reason", "reason"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ];
    let mut errors = every_event(new);
    if new.get("series") != old.get("series") {
        errors.extend(series(new));
    }
    let value = |event: &Value, field: &str| event.get(field).cloned().unwrap_or_default();
    for (field, shown) in FIXED {
        if value(new, field) != value(old, field) {
            errors.push(FieldError::invalid(&Path::new(shown), value(new, field), meta::IMMUTABLE));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn event() -> Value {
        json!({
            "metadata": {"name": "e", "namespace": "n"}, "regarding": {"namespace": "n"}, "note": "hi", "type": "Normal",
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "a/b", "reportingInstance": "i",
            "action": "Do", "reason": "Done", "deprecatedCount": 0
        })
    }

    #[test]
    fn both_forms_hold_the_same() {
        let mut it = event();
        to_stored(&mut it);
        assert_eq!(
            (&it["message"], &it["involvedObject"]["namespace"], it.get("note")),
            (&json!("hi"), &json!("n"), None)
        );
        from_stored(&mut it);
        assert_eq!(it, event());
    }

    #[test]
    fn new_events_are_strict_and_old_ones_are_not() {
        assert_eq!(texts(&new_event(&stored(&event()))), Vec::<String>::new());
        let mut bad = event();
        bad["type"] = "x".into();
        bad["deprecatedCount"] = 3.into();
        bad["action"] = "a".repeat(129).into();
        assert_eq!(
            texts(&new_event(&stored(&bad))),
            [
                "action: Invalid value: \"\": can have at most 128 characters",
                "type: Invalid value: \"\": has invalid value: x",
                "count: Invalid value: \"\": needs to be unset"
            ]
        );
        assert_eq!(texts(&every_event(&json!({"metadata": {"namespace": "default"}}))), Vec::<String>::new());
        assert_eq!(
            texts(&every_event(&json!({"metadata": {"namespace": "n"}}))),
            ["involvedObject.namespace: Invalid value: \"\": does not match event.namespace"]
        );
        let mut changed = event();
        changed["reportingController"] = "c/d".into();
        assert_eq!(
            texts(&new_event_update(&stored(&changed), &stored(&event()))),
            ["reportingController: Invalid value: \"c/d\": field is immutable"]
        );
    }
}
