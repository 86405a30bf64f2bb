//! Upstream's own structures as its messages show them: types without a JSON form are written by the names and in the order of
//! their Go fields, with what is absent.

use serde_json::Value;

use crate::field;

/// What a field is, and so how it is written where it is absent.
#[derive(Clone, Copy)]
pub enum Part {
    Text,
    Number,
    Flag,
    /// Anything that may be absent: `null`.
    Any,
    /// A structure that is always there.
    Inner(Fields),
    /// A structure that may be absent.
    Maybe(Fields),
    /// A list of structures.
    Each(Fields),
}

/// (Go's name, JSON's name, what it is).
pub type Fields = &'static [(&'static str, &'static str, Part)];

/// `value`, an object in its JSON form, as Go's encoder writes the structure of `fields`.
pub fn shown(value: &Value, fields: Fields) -> String {
    let parts = fields.iter().map(|(name, key, part)| {
        let given = value.get(key).filter(|v| !v.is_null());
        format!("\"{name}\":{}", one(given, *part))
    });
    format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
}

/// A list of such structures; one without members is absent.
pub fn list_shown(list: &[Value], fields: Fields) -> String {
    if list.is_empty() {
        return "null".to_owned();
    }
    format!("[{}]", list.iter().map(|item| shown(item, fields)).collect::<Vec<_>>().join(","))
}

fn one(given: Option<&Value>, part: Part) -> String {
    match (part, given) {
        (Part::Inner(fields), given) => shown(given.unwrap_or(&Value::Null), fields),
        (Part::Maybe(fields), Some(given)) => shown(given, fields),
        (Part::Each(fields), Some(given)) => {
            list_shown(given.as_array().map(Vec::as_slice).unwrap_or_default(), fields)
        }
        (Part::Text | Part::Number | Part::Flag | Part::Any, Some(given)) => field::shown(given),
        (Part::Text, None) => "\"\"".to_owned(),
        (Part::Number, None) => "0".to_owned(),
        (Part::Flag, None) => "false".to_owned(),
        (Part::Any | Part::Maybe(_) | Part::Each(_), None) => "null".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_absent_is_written_too() {
        const INNER: Fields = &[("Name", "name", Part::Text)];
        const OUTER: Fields = &[
            ("Text", "text", Part::Text),
            ("Number", "number", Part::Number),
            ("Flag", "flag", Part::Flag),
            ("Any", "any", Part::Any),
            ("Inner", "inner", Part::Inner(INNER)),
            ("Maybe", "maybe", Part::Maybe(INNER)),
            ("Each", "each", Part::Each(INNER)),
        ];
        assert_eq!(
            shown(&json!({}), OUTER),
            r#"{"Text":"","Number":0,"Flag":false,"Any":null,"Inner":{"Name":""},"Maybe":null,"Each":null}"#
        );
        let full = json!({"text": "<", "number": 1, "flag": true, "any": ["a"], "inner": {"name": "b"}, "maybe": {}, "each": [{"name": "c"}]});
        assert_eq!(
            shown(&full, OUTER),
            r#"{"Text":"\u003c","Number":1,"Flag":true,"Any":["a"],"Inner":{"Name":"b"},"Maybe":{"Name":""},"Each":[{"Name":"c"}]}"#
        );
    }
}
