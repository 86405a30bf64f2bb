//! How much of a device's capacity a request takes (kubernetes `validateRequestPolicy`).

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    quantity::{self, Quantity},
    value::list_at,
};

const OPTIONS_MAX: usize = 10;

fn amount(owner: &Value, field: &str) -> Option<Quantity> {
    quantity::from_json(owner.get(field)?).ok()
}

/// `shared`: the device can be allocated more than once, which is what policies are for.
pub(super) fn policy(capacity: &Value, shared: bool, path: &Path) -> Vec<FieldError> {
    let at = path.child("requestPolicy");
    let Some(policy) = capacity.get("requestPolicy").filter(|p| !p.is_null()) else { return Vec::new() };
    if !shared {
        return vec![FieldError::forbidden(&at, "allowMultipleAllocations must be true")];
    }
    let whole = amount(capacity, "value").unwrap_or_else(Quantity::zero);
    let values = list_at(policy, "validValues");
    let range = policy.get("validRange").filter(|r| !r.is_null());
    let default = amount(policy, "default");
    let missing = |what: &str| FieldError::required(&at.child("default"), format!("required when {what} is defined"));
    match (values.is_empty(), range) {
        (false, Some(_)) => {
            let detail = r#"exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time"#;
            vec![FieldError::forbidden(&at, detail)]
        }
        (true, None) => Vec::new(),
        (false, None) => match default {
            Some(default) => options(values, default, whole, &at.child("validValues")),
            None => vec![missing("validValues")],
        },
        (true, Some(range)) => match default {
            Some(default) => within(range, default, whole, &at.child("validRange")),
            None => vec![missing("validRange")],
        },
    }
}

/// Some amounts, smallest first, the default one of them.
fn options(values: &[Value], default: Quantity, whole: Quantity, path: &Path) -> Vec<FieldError> {
    let parsed: Vec<Quantity> = values.iter().filter_map(|v| quantity::from_json(v).ok()).collect();
    let wrong = |i: usize, q: Quantity, detail: String| FieldError::invalid(&path.index(i), q.to_string(), detail);
    let mut errors: Vec<FieldError> = parsed
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| pair[0] > pair[1])
        .map(|(i, pair)| wrong(i + 1, pair[1], "values must be sorted in ascending order".to_owned()))
        .collect();
    if values.len() > OPTIONS_MAX {
        errors.push(FieldError::too_many(path, values.len(), OPTIONS_MAX));
    } else {
        let large = parsed.iter().enumerate().filter(|(_, q)| **q > whole);
        errors.extend(large.map(|(i, q)| wrong(i, *q, format!("option is larger than capacity value: {whole}"))));
        let again = parsed.iter().enumerate().filter(|(i, q)| parsed[..*i].contains(q));
        errors.extend(again.map(|(i, q)| FieldError::duplicate(&path.index(i), q.to_string())));
    }
    if values.len() > OPTIONS_MAX || !parsed.contains(&default) {
        let detail = "default value is not valid according to the requestPolicy";
        errors.push(FieldError::invalid(path, default.to_string(), detail));
    }
    errors
}

/// From `min` to `max` in equal steps.
fn within(range: &Value, default: Quantity, whole: Quantity, path: &Path) -> Vec<FieldError> {
    let [min, max, step] = ["min", "max", "step"].map(|field| amount(range, field));
    let Some(min) = min else {
        return vec![FieldError::required(&path.child("min"), "required when validRange is defined")];
    };
    let mut errors = Vec::new();
    let mut refuse = |wrong: bool, field: &str, shown: Quantity, detail: String| {
        if wrong {
            errors.push(FieldError::invalid(&path.child(field), shown.to_string(), detail));
        }
    };
    refuse(min > whole, "min", min, format!("min is larger than capacity value: {whole}"));
    refuse(default < min, "default", default, format!("default is less than min: {min}"));
    if let Some(max) = max {
        refuse(min > max, "max", min, format!("min is larger than max: {max}"));
        refuse(max > whole, "max", max, format!("max is larger than capacity value: {whole}"));
        refuse(default > max, "default", default, format!("default is more than max: {max}"));
    }
    let parts = [("default", Some(default)), ("min", Some(min)), ("max", max), ("step", step)];
    let fine = parts.iter().any(|(_, q)| q.is_some_and(|q| !q.is_integer()));
    let unsafe_parts = parts.map(|(field, q)| q.and_then(|q| Some((field, q, not_countable(q, fine)?))));
    if fine && unsafe_parts.iter().any(Option::is_some) {
        errors.extend(countless(&unsafe_parts, path));
        return errors;
    }
    let Some(step) = step else { return errors };
    if step.sign() <= 0 {
        let detail = "must be greater than zero";
        errors.push(FieldError::invalid(&path.child("step"), step.to_string(), detail));
        return errors;
    }
    let one = min + step;
    if one > whole {
        let detail = format!("one step {one} is larger than capacity value: {whole}");
        errors.push(FieldError::invalid(&path.child("step"), step.to_string(), detail));
    }
    if unsafe_parts.iter().any(Option::is_some) {
        errors.extend(countless(&unsafe_parts, path));
        return errors;
    }
    let count = |q: Quantity| i128::from(if fine { q.milli_value() } else { q.value() });
    for amount in [Some(default), max].into_iter().flatten() {
        if (count(amount) - count(min)) % count(step) != 0 {
            let detail = format!("value is not a multiple of a given step ({step}) from ({min})");
            errors.push(FieldError::invalid(&path.child("step"), amount.to_string(), detail));
        }
    }
    errors
}

/// Why an amount cannot be counted with: in thousandths where parts of units are meant, in units otherwise.
fn not_countable(amount: Quantity, fine: bool) -> Option<&'static str> {
    if fine {
        (amount != Quantity::from_milli(amount.milli_value())).then_some("value cannot be represented as a milli value")
    } else if amount.sign() < 0 {
        Some("must be greater than or equal to 0")
    } else {
        let largest = Quantity::from_int(i64::MAX, quantity::Format::DecimalSi);
        (amount > largest).then_some("must not be larger than 9223372036854775807")
    }
}

fn countless(parts: &[Option<(&str, Quantity, &str)>], path: &Path) -> Vec<FieldError> {
    let parts = parts.iter().flatten();
    parts.map(|(field, amount, why)| FieldError::invalid(&path.child(field), amount.to_string(), *why)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(request_policy: Value) -> Vec<String> {
        let capacity = json!({"value": "10", "requestPolicy": request_policy});
        policy(&capacity, true, &Path::new("c")).iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn only_what_is_shared_has_a_policy() {
        let capacity = json!({"value": "10", "requestPolicy": {}});
        assert_eq!(
            policy(&capacity, false, &Path::new("c")).iter().map(FieldError::to_string).collect::<Vec<_>>(),
            ["c.requestPolicy: Forbidden: allowMultipleAllocations must be true"]
        );
        assert_eq!(found(json!({"default": "1"})), [""; 0]);
    }

    #[test]
    fn options_are_sorted_and_hold_the_default() {
        assert_eq!(found(json!({"default": "1", "validValues": ["1", "2"]})), [""; 0]);
        assert_eq!(
            found(json!({"default": "3", "validValues": ["2", "1", "11", "2"]})),
            [
                "c.requestPolicy.validValues[1]: Invalid value: \"1\": values must be sorted in ascending order",
                "c.requestPolicy.validValues[3]: Invalid value: \"2\": values must be sorted in ascending order",
                "c.requestPolicy.validValues[2]: Invalid value: \"11\": option is larger than capacity value: 10",
                "c.requestPolicy.validValues[3]: Duplicate value: \"2\"",
                "c.requestPolicy.validValues: Invalid value: \"3\": default value is not valid according to the requestPolicy",
            ]
        );
        assert_eq!(
            found(json!({"validValues": ["1"]})),
            ["c.requestPolicy.default: Required value: required when validValues is defined"]
        );
    }

    #[test]
    fn ranges_have_steps() {
        assert_eq!(found(json!({"default": "2", "validRange": {"min": "2", "max": "6", "step": "2"}})), [""; 0]);
        assert_eq!(found(json!({"default": "500m", "validRange": {"min": "250m", "step": "250m"}})), [""; 0]);
        assert_eq!(
            found(json!({"default": "3", "validRange": {"min": "2", "max": "12", "step": "9"}})),
            [
                "c.requestPolicy.validRange.max: Invalid value: \"12\": max is larger than capacity value: 10",
                "c.requestPolicy.validRange.step: Invalid value: \"9\": one step 11 is larger than capacity value: 10",
                "c.requestPolicy.validRange.step: Invalid value: \"3\": value is not a multiple of a given step (9) from (2)",
                "c.requestPolicy.validRange.step: Invalid value: \"12\": value is not a multiple of a given step (9) from (2)",
            ]
        );
        assert_eq!(
            found(json!({"default": "1", "validRange": {}})),
            ["c.requestPolicy.validRange.min: Required value: required when validRange is defined"]
        );
    }
}
