//! Rows of flowcontrol.apiserver.k8s.io.

mod level;
mod schema;
mod shown;

use serde_json::Value;

use super::{Cell, Column, PLAIN, Resource, STATUS, Strategy, cells, columns, row, writing};
use crate::{
    field::{FieldError, Path},
    structure,
    value::{get, list_at, str_at},
};

const V1: (&str, &str) = ("flowcontrol.apiserver.k8s.io", "v1");

const FLOW_SCHEMA: &[Column] = &[
    columns::NAME,
    columns::text("PriorityLevel", 0, Cell::Path("spec.priorityLevelConfiguration.name")),
    columns::text("MatchingPrecedence", 0, Cell::Path("spec.matchingPrecedence")),
    columns::text("DistinguisherMethod", 0, Cell::Path("spec.distinguisherMethod.type")),
    columns::AGE,
    columns::text("MissingPL", 0, Cell::Of(missing_level)),
];
const LEVEL: &[Column] = &[
    columns::NAME,
    columns::text("Type", 0, Cell::Path("spec.type")),
    columns::text("NominalConcurrencyShares", 0, Cell::Path("spec.limited.nominalConcurrencyShares")),
    columns::text("Queues", 0, Cell::Path("spec.limited.limitResponse.queuing.queues")),
    columns::text("HandSize", 0, Cell::Path("spec.limited.limitResponse.queuing.handSize")),
    columns::text("QueueLengthLimit", 0, Cell::Path("spec.limited.limitResponse.queuing.queueLengthLimit")),
    columns::AGE,
];

fn missing_level(schema: &Value) -> Value {
    cells::or(cells::condition(schema, "Dangling").map_or("", |c| str_at(c, "status")), "?")
}

pub(super) static RESOURCES: &[Resource] = &[
    Resource {
        namespaced: false,
        subresources: &[STATUS],
        columns: FLOW_SCHEMA,
        strategy: Strategy {
            default: schema::defaults,
            prepare_create: writing::drop_status,
            prepare_update: writing::keep_status,
            validate_create: schema::validate,
            validate_update: |n, _| schema::validate(n),
            validate_status_update: |n, _| conditions(n),
            generation: true,
            ..PLAIN
        },
        ..row(
            V1,
            ("FlowSchema", "FlowSchemaList"),
            ("flowschemas", "flowschema"),
            "io.k8s.api.flowcontrol.v1.FlowSchema",
        )
    },
    Resource {
        namespaced: false,
        subresources: &[STATUS],
        columns: LEVEL,
        strategy: Strategy {
            default: level::defaults,
            prepare_create: writing::drop_status,
            prepare_update: writing::keep_status,
            validate_create: level::validate,
            validate_update: |n, _| level::validate(n),
            validate_status_update: |n, _| conditions(n),
            generation: true,
            ..PLAIN
        },
        ..row(
            V1,
            ("PriorityLevelConfiguration", "PriorityLevelConfigurationList"),
            ("prioritylevelconfigurations", "prioritylevelconfiguration"),
            "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
        )
    },
];

fn conditions(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let all = list_at(object, "status.conditions");
    for (i, condition) in all.iter().enumerate() {
        let at = Path::new("status").child("conditions").index(i).child("type");
        let kind = str_at(condition, "type");
        if all[..i].iter().any(|c| str_at(c, "type") == kind) {
            errors.push(FieldError::duplicate(&at, kind));
        }
        if kind.is_empty() {
            errors.push(FieldError::required(&at, "must not be empty"));
        }
    }
    errors
}

/// The two schemas and the two levels that always are, and always as they are (`internalbootstrap`): their specs as JSON.
const FIXED: &[(&str, &str, &str)] = &[
    (
        "FlowSchema",
        "exempt",
        r#"{"priorityLevelConfiguration":{"name":"exempt"},"matchingPrecedence":1,"rules":[{"subjects":[{"kind":"Group","group":{"name":"system:masters"}}],"resourceRules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"],"clusterScope":true,"namespaces":["*"]}],"nonResourceRules":[{"verbs":["*"],"nonResourceURLs":["*"]}]}]}"#,
    ),
    (
        "FlowSchema",
        "catch-all",
        r#"{"priorityLevelConfiguration":{"name":"catch-all"},"matchingPrecedence":10000,"distinguisherMethod":{"type":"ByUser"},"rules":[{"subjects":[{"kind":"Group","group":{"name":"system:unauthenticated"}},{"kind":"Group","group":{"name":"system:authenticated"}}],"resourceRules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"],"clusterScope":true,"namespaces":["*"]}],"nonResourceRules":[{"verbs":["*"],"nonResourceURLs":["*"]}]}]}"#,
    ),
    (
        "PriorityLevelConfiguration",
        "exempt",
        r#"{"type":"Exempt","exempt":{"nominalConcurrencyShares":0,"lendablePercent":0}}"#,
    ),
    (
        "PriorityLevelConfiguration",
        "catch-all",
        r#"{"type":"Limited","limited":{"nominalConcurrencyShares":5,"limitResponse":{"type":"Reject"},"lendablePercent":0}}"#,
    ),
];

/// The specs of mandatory objects do not change; the exempt level may have other shares.
fn fixed(kind: &str, name: &str, object: &Value) -> Option<FieldError> {
    let (_, _, text) = FIXED.iter().find(|(k, n, _)| *k == kind && *n == name)?;
    let wanted: Value = serde_json::from_str(text).ok()?;
    let given = get(object, "spec").cloned().unwrap_or_default();
    let is_level = kind == "PriorityLevelConfiguration";
    let shares = is_level && name == "exempt";
    let compared = |spec: &Value| {
        let mut spec = spec.clone();
        if shares {
            crate::value::remove(&mut spec, "exempt");
        }
        spec
    };
    let but = if shares { " except the 'spec.exempt' field" } else { "" };
    let shown = structure::shown(&given, if is_level { shown::LEVEL } else { shown::SCHEMA });
    (compared(&given) != compared(&wanted)).then(|| {
        FieldError::invalid_omitted(
            &Path::new("spec"),
            format!("{shown}: spec of '{name}'{but} must equal the fixed value"),
        )
    })
}
