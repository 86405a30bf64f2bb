//! Where an object differs from what is wanted of it, field by field.

use hoststate::shown::{self, HIDDEN, is_secret, masked};
use serde::Serialize;
use serde_json::Value;

/// Longest value that is shown on its line, in characters.
const LONG: usize = 160;
/// What servers and controllers write by themselves.
const NOT_OURS: [&[&str]; 5] = [
    &["status"],
    &["metadata", "resourceVersion"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "uid"],
];

/// One field as it is shown: without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// `spec.template.spec.containers[dns].image`
    pub field: String,
    /// As JSON; nothing: it is not there.
    pub found: String,
    pub wanted: String,
    /// How a text of several lines changes; then the other two are empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub diff: String,
}

/// One field. Not for people: secrets are in it.
pub struct Difference<'a> {
    path: Vec<String>,
    found: Option<&'a Value>,
    wanted: Option<&'a Value>,
}

/// What `live` has not of that which `wanted` says; what defaults and others added is of no matter.
pub fn missing<'a>(live: &'a Value, wanted: &'a Value) -> Vec<Difference<'a>> {
    let mut walk = Walk { both: false, found: Vec::new() };
    walk.compare(&mut Vec::new(), Some(live), Some(wanted));
    walk.found
}

/// How two versions of one object differ, but for what servers write by themselves.
pub fn between<'a>(before: &'a Value, after: &'a Value) -> Vec<Difference<'a>> {
    let mut walk = Walk { both: true, found: Vec::new() };
    walk.compare(&mut Vec::new(), Some(before), Some(after));
    walk.found.retain(|difference| !NOT_OURS.iter().any(|path| starts_with(&difference.path, path)));
    walk.found
}

fn starts_with(path: &[String], other: &[&str]) -> bool {
    path.len() >= other.len() && path.iter().zip(other).all(|(one, other)| one == other)
}

struct Walk<'a> {
    /// What only the first has is a difference, too.
    both: bool,
    found: Vec<Difference<'a>>,
}

impl<'a> Walk<'a> {
    fn compare(&mut self, path: &mut Vec<String>, live: Option<&'a Value>, wanted: Option<&'a Value>) {
        match (live, wanted) {
            (Some(Value::Object(live)), Some(Value::Object(wanted))) => {
                for (key, wanted) in wanted {
                    self.below(path, key.clone(), live.get(key), Some(wanted));
                }
                let both = self.both;
                for (key, live) in live.iter().filter(|(key, _)| both && !wanted.contains_key(*key)) {
                    self.below(path, key.clone(), Some(live), None);
                }
            }
            (Some(Value::Array(live)), Some(Value::Array(wanted))) => {
                for index in 0..live.len().max(wanted.len()) {
                    let (live, wanted) = (live.get(index), wanted.get(index));
                    self.below(path, label(index, live, wanted), live, wanted);
                }
            }
            (live, wanted) if live == wanted => {}
            // the API drops empty lists and objects; an empty text (a label's value) is something
            (None, Some(wanted)) if is_empty(wanted) => {}
            (Some(live), None) if self.both && is_empty(live) => {}
            (found, wanted) => self.found.push(Difference { path: path.clone(), found, wanted }),
        }
    }

    fn below(&mut self, path: &mut Vec<String>, part: String, live: Option<&'a Value>, wanted: Option<&'a Value>) {
        path.push(part);
        self.compare(path, live, wanted);
        path.pop();
    }
}

/// An element of a list by its name, where both sides call it so.
fn label(index: usize, live: Option<&Value>, wanted: Option<&Value>) -> String {
    let name = |value: Option<&Value>| value.and_then(|value| value["name"].as_str()).map(str::to_owned);
    match (name(live), name(wanted)) {
        (Some(one), Some(other)) if one == other => format!("[{one}]"),
        (Some(one), None) | (None, Some(one)) if live.is_none() || wanted.is_none() => format!("[{one}]"),
        _ => format!("[{index}]"),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// The differences of an object of this kind as people may see them.
pub fn shown(kind: &str, differences: &[Difference<'_>]) -> Vec<Field> {
    differences.iter().map(|difference| field(kind, difference)).collect()
}

fn field(kind: &str, Difference { path, found, wanted }: &Difference<'_>) -> Field {
    let of_secret = kind == "Secret" && matches!(path.first().map(String::as_str), Some("data" | "stringData"));
    let secret = of_secret || path.iter().any(|part| is_secret(part));
    let name = joined(path);
    if !secret
        && let (Some(Value::String(found)), Some(Value::String(wanted))) = (found, wanted)
        && (found.contains('\n') || wanted.contains('\n'))
    {
        let diff = shown::difference(&name, Some(found), Some(wanted));
        return Field { field: name, found: String::new(), wanted: String::new(), diff };
    }
    let text =
        |value: &Option<&Value>| value.map(|value| short(&hidden(value, secret).to_string())).unwrap_or_default();
    let (found, mut wanted) = (text(found), text(wanted));
    if secret && found == wanted {
        wanted.push_str(", another one");
    }
    Field { field: name, found, wanted, diff: String::new() }
}

fn joined(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        match part.starts_with('[') {
            true => text.push_str(part),
            false if part.contains(['.', '/']) => text.push_str(&format!("[{part:?}]")),
            false if text.is_empty() => text.push_str(part),
            false => text.push_str(&format!(".{part}")),
        }
    }
    text
}

/// A value without its secrets.
fn hidden(value: &Value, secret: bool) -> Value {
    match value {
        Value::Object(fields) => {
            // an environment variable has its name beside its value
            let named = fields.get("name").and_then(Value::as_str).is_some_and(is_secret);
            let hide = |key: &str, value: &Value| hidden(value, secret || is_secret(key) || named && key != "name");
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), hide(key, value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| hidden(item, secret)).collect()),
        Value::Null | Value::Bool(_) => value.clone(),
        _ if secret => Value::String(HIDDEN.to_owned()),
        Value::String(text) => Value::String(masked(text).text),
        Value::Number(_) => value.clone(),
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(LONG) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn lines(kind: &str, differences: &[Difference<'_>]) -> Vec<String> {
        let line = |Field { field, found, wanted, diff }: Field| format!("{field}: {found} → {wanted}{diff}");
        shown(kind, differences).into_iter().map(line).collect()
    }

    #[test]
    fn defaults_are_no_difference_but_other_values_and_lengths_are() {
        let live = json!({"spec": {"replicas": 1, "ports": [{"port": 80, "protocol": "TCP"}], "type": "ClusterIP"}});
        let missing = |wanted: Value| lines("Service", &missing(&live, &wanted));
        assert!(missing(json!({"spec": {"ports": [{"port": 80}]}, "data": {}})).is_empty());
        assert_eq!(missing(json!({"spec": {"replicas": 2}})), ["spec.replicas: 1 → 2"]);
        assert_eq!(
            missing(json!({"spec": {"ports": [{"port": 80}, {"port": 81, "name": "x"}]}})),
            ["spec.ports[x]:  → {\"name\":\"x\",\"port\":81}"]
        );
        assert_eq!(missing(json!({"spec": {"ports": []}})).len(), 1);
        assert_eq!(
            missing(json!({"metadata": {"labels": {"a.b/c": ""}}})),
            ["metadata:  → {\"labels\":{\"a.b/c\":\"\"}}"]
        );
    }

    #[test]
    fn fields_are_named_and_what_the_server_writes_is_none() {
        let object = |image: &str, more: Value| {
            let mut object = json!({
                "metadata": {"resourceVersion": image, "generation": image, "labels": {"app.kubernetes.io/name": image}},
                "spec": {"template": {"spec": {"containers": [{"name": "dns", "image": image}]}}},
                "status": {"x": image},
            });
            object["spec"]["template"]["spec"]["containers"][0]["env"] = more;
            object
        };
        let (one, two) = (object("a", json!([{"name": "X"}])), object("b", json!([])));
        assert_eq!(
            lines("DaemonSet", &between(&one, &two)),
            [
                "metadata.labels[\"app.kubernetes.io/name\"]: \"a\" → \"b\"",
                "spec.template.spec.containers[dns].env[X]: {\"name\":\"X\"} → ",
                "spec.template.spec.containers[dns].image: \"a\" → \"b\"",
            ]
        );
        assert!(between(&one, &one).is_empty());
    }

    #[test]
    fn no_field_shows_a_secret() {
        let env =
            |name: &str, value: &str| json!({"spec": {"containers": [{"env": [{"name": name, "value": value}]}]}});
        for (kind, one, two) in [
            ("Secret", json!({"data": {"x": "sekrit1"}}), json!({"data": {"x": "sekrit2"}})),
            ("Secret", json!({"stringData": {"x": "a\nsekrit1"}}), json!({"stringData": {"x": "b\nsekrit2"}})),
            ("Secret", json!({"data": {}}), json!({"data": {"x": "sekrit"}})),
            ("Secret", json!({}), json!({"data": {"x": "sekrit"}})),
            ("ConfigMap", json!({"data": {"db.password": "sekrit1"}}), json!({"data": {"db.password": "sekrit2"}})),
            ("ConfigMap", json!({"data": {"x": "a\ntoken: sekrit1"}}), json!({"data": {"x": "b\ntoken: sekrit2"}})),
            ("ConfigMap", json!({}), json!({"data": {"x": "password=sekrit", "token": "sekrit"}})),
            ("Pod", env("DB_PASSWORD", "sekrit1"), env("DB_PASSWORD", "sekrit2")),
            ("Pod", json!({"spec": {"containers": []}}), env("API_TOKEN", "sekrit")),
            ("Pod", env("PROXY", "http://a:sekrit1@b/"), env("PROXY", "http://a:sekrit2@c/")),
        ] {
            for (one, two) in [(&one, &two), (&two, &one)] {
                let found = lines(kind, &between(one, two));
                assert!(!found.is_empty() && !found.iter().any(|line| line.contains("sekrit")), "{kind} {found:?}");
            }
        }
    }
}
