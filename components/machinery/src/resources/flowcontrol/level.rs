//! PriorityLevelConfigurations (kubernetes `pkg/apis/flowcontrol`).

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    value::{get, int_at, name, str_at, with_mut},
};

const QUEUES_MAX: i64 = 10_000_000;
const HASH_BITS: f64 = 60.0;

/// Sets a number that is absent or 0.
fn number(value: &mut Value, key: &str, default: i64) {
    if value.get(key).and_then(Value::as_i64).unwrap_or(0) == 0 {
        value[key] = default.into();
    }
}

fn absent(value: &mut Value, key: &str, default: i64) {
    crate::value::default_to(value, key, default);
}

pub(super) fn defaults(level: &mut Value) {
    with_mut(level, "spec", |spec| {
        if str_at(spec, "type") == "Exempt" && spec.get("exempt").is_none() {
            spec["exempt"] = Value::Object(serde_json::Map::new());
        }
        with_mut(spec, "exempt", |exempt| {
            absent(exempt, "nominalConcurrencyShares", 0);
            absent(exempt, "lendablePercent", 0);
        });
        with_mut(spec, "limited", |limited| {
            absent(limited, "nominalConcurrencyShares", 30);
            absent(limited, "lendablePercent", 0);
            with_mut(limited, "limitResponse", |response| {
                with_mut(response, "queuing", |queuing| {
                    number(queuing, "queues", 64);
                    number(queuing, "handSize", 8);
                    number(queuing, "queueLengthLimit", 50);
                });
            });
        });
    });
}

pub(super) fn validate(level: &Value) -> Vec<FieldError> {
    let path = Path::new("spec");
    let kind = str_at(level, "spec.type");
    let mut errors = Vec::new();
    if (name(level) == "exempt") != (kind == "Exempt") {
        let detail = "type must be 'Exempt' if and only if name is 'exempt'";
        errors.push(FieldError::invalid(&path.child("type"), kind, detail));
    }
    let (exempt, limited) = (get(level, "spec.exempt"), get(level, "spec.limited"));
    match kind {
        "Exempt" => {
            if limited.is_some() {
                errors.push(FieldError::forbidden(&path.child("limited"), "must be nil if the type is not Limited"));
            }
            errors.extend(exempt.into_iter().flat_map(|e| shares(e, &path.child("exempt"))));
        }
        "Limited" => {
            if exempt.is_some() {
                errors.push(FieldError::forbidden(&path.child("exempt"), "must be nil if the type is Limited"));
            }
            let at = path.child("limited");
            match limited {
                None => errors.push(FieldError::required(&at, "must not be empty when type is Limited")),
                Some(limited) => errors.extend(limits(limited, &at)),
            }
        }
        other => errors.push(FieldError::not_supported(&path.child("type"), other, &["Exempt", "Limited"])),
    }
    errors.extend(super::fixed("PriorityLevelConfiguration", name(level), level));
    errors
}

fn share_count(part: &Value, path: &Path) -> Option<FieldError> {
    let count = int_at(part, "nominalConcurrencyShares").filter(|c| *c < 0)?;
    Some(FieldError::invalid(&path.child("nominalConcurrencyShares"), count, "must be a non-negative integer"))
}

fn lendable(part: &Value, path: &Path) -> Option<FieldError> {
    let percent = int_at(part, "lendablePercent").filter(|p| !(0..=100).contains(p))?;
    Some(FieldError::invalid(&path.child("lendablePercent"), percent, "must be between 0 and 100, inclusive"))
}

fn shares(part: &Value, path: &Path) -> Vec<FieldError> {
    share_count(part, path).into_iter().chain(lendable(part, path)).collect()
}

fn limits(limited: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = share_count(limited, path).into_iter().collect();
    errors.extend(response(limited, &path.child("limitResponse")));
    errors.extend(lendable(limited, path));
    if let Some(percent) = int_at(limited, "borrowingLimitPercent").filter(|p| *p < 0) {
        let at = path.child("borrowingLimitPercent");
        errors.push(FieldError::invalid(&at, percent, "if specified, must be a non-negative integer"));
    }
    errors
}

fn response(limited: &Value, path: &Path) -> Vec<FieldError> {
    let (at, queuing) = (path.child("queuing"), get(limited, "limitResponse.queuing"));
    match (str_at(limited, "limitResponse.type"), queuing) {
        ("Reject", Some(_)) => {
            vec![FieldError::forbidden(&at, "must be nil if limited.limitResponse.type is not Limited")]
        }
        ("Queue", None) => {
            vec![FieldError::required(&at, "must not be empty if limited.limitResponse.type is Limited")]
        }
        ("Queue", Some(queuing)) => queues(queuing, &at),
        ("Reject", None) => Vec::new(),
        (other, _) => vec![FieldError::not_supported(&path.child("type"), other, &["Queue", "Reject"])],
    }
}

#[allow(clippy::cast_precision_loss)]
fn queues(queuing: &Value, path: &Path) -> Vec<FieldError> {
    let number = |field: &str| int_at(queuing, field).unwrap_or(0);
    let (length, queues, hand) = (number("queueLengthLimit"), number("queues"), number("handSize"));
    let mut errors = Vec::new();
    let mut wrong =
        |field: &str, value: i64, detail: String| errors.push(FieldError::invalid(&path.child(field), value, detail));
    if length <= 0 {
        wrong("queueLengthLimit", length, "must be positive".into());
    }
    if queues <= 0 {
        wrong("queues", queues, "must be positive".into());
    } else if queues > QUEUES_MAX {
        wrong("queues", queues, format!("must not be greater than {QUEUES_MAX}"));
    }
    let bits = ((queues.max(1) as f64).log2() * hand as f64).ceil();
    if hand <= 0 {
        wrong("handSize", hand, "must be positive".into());
    } else if hand > queues {
        wrong("handSize", hand, format!("should not be greater than queues ({queues})"));
    } else if bits > HASH_BITS {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        wrong("handSize", hand, detail);
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn levels() {
        let check = |name: &str, spec: Value| {
            let mut level = json!({"metadata": {"name": name}, "spec": spec});
            defaults(&mut level);
            validate(&level).iter().map(FieldError::to_string).collect::<Vec<_>>()
        };
        let queuing =
            |q: Value| json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": q}}});
        assert!(check("a", queuing(json!({}))).is_empty());
        assert_eq!(
            check("a", queuing(json!({"queues": 4}))),
            ["spec.limited.limitResponse.queuing.handSize: Invalid value: 8: should not be greater than queues (4)"]
        );
        assert!(check("a", queuing(json!({"queues": 10000, "handSize": 10})))[0].contains("required entropy bits"));
        assert_eq!(check("a", json!({"type": "Exempt"})).len(), 1);
        assert!(check("exempt", json!({"type": "Exempt"})).is_empty());
        assert!(
            check("catch-all", json!({"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}))[0]
                .ends_with("spec of 'catch-all' must equal the fixed value")
        );
        assert!(check("exempt", json!({"type": "Exempt", "exempt": {"lendablePercent": 50}})).is_empty());
        assert_eq!(
            check(
                "exempt",
                json!({"type": "Exempt", "limited": {"limitResponse": {"type": "Reject"}, "lendablePercent": 1}})
            ),
            [
                "spec.limited: Forbidden: must be nil if the type is not Limited",
                concat!(
                    r#"spec: Invalid value: {"Type":"Exempt","Limited":{"NominalConcurrencyShares":30,"LimitResponse":{"Type":"Reject","Queuing":null},"#,
                    r#""LendablePercent":1,"BorrowingLimitPercent":null},"Exempt":{"NominalConcurrencyShares":0,"LendablePercent":0}}: "#,
                    "spec of 'exempt' except the 'spec.exempt' field must equal the fixed value"
                )
            ]
        );
        let odd = json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": -1, "limitResponse": {}, "lendablePercent": 101, "borrowingLimitPercent": -1}});
        assert_eq!(
            check("a", odd),
            [
                "spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer",
                "spec.limited.limitResponse.type: Unsupported value: \"\": supported values: \"Queue\", \"Reject\"",
                "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
                "spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer",
            ]
        );
    }
}
