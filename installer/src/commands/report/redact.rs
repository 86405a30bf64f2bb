//! Takes secrets out of what goes into a report: by what things are called and look like, by the values that are known, and at last
//! by a look at every byte. What is a secret by name is the business of [`hoststate::shown`].

use hoststate::shown::{HIDDEN, is_secret, masked};
use serde_json::Value;

/// A copy of the whole object, with all its secrets, as text.
const COPY: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// What may be told of a reference to a secret.
const NAMES: [&str; 11] =
    ["name", "namespace", "kind", "key", "path", "items", "optional", "mode", "defaultMode", "secretName", "sources"];

/// Knows values that must not be told.
#[derive(Default)]
pub struct Redactor {
    /// The longest first: a value may be a part of another.
    known: Vec<String>,
}

impl Redactor {
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut known: Vec<String> = values.into_iter().collect();
        known.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        known.dedup();
        Self { known }
    }

    /// A text of any kind, such as a log or a configuration.
    pub fn text(&self, text: &str) -> String {
        self.last(&masked(&without_commands(text)).text)
    }

    /// A JSON document, which stays one.
    pub fn json(&self, mut value: Value) -> String {
        self.walk(&mut value, false);
        self.last(&format!("{value:#}\n"))
    }

    /// `hidden`: what stands here belongs to something that is secret by its name.
    fn walk(&self, value: &mut Value, hidden: bool) {
        match value {
            Value::String(_) | Value::Number(_) if hidden => *value = HIDDEN.into(),
            Value::String(text) => {
                let shown = masked(text).text;
                *text = shown;
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item, hidden)),
            Value::Object(fields) => {
                fields.remove("managedFields");
                for (name, value) in fields.iter_mut() {
                    match value {
                        _ if name == COPY => *value = HIDDEN.into(),
                        Value::Array(entries) if name == "env" => {
                            entries.iter_mut().for_each(|entry| self.variable(entry))
                        }
                        _ => self.walk(value, is_secret(name) || hidden && !NAMES.contains(&name.as_str())),
                    }
                }
            }
            _ => {}
        }
    }

    /// Of a variable of a container's environment its name, and where its value comes from; never the value.
    fn variable(&self, entry: &mut Value) {
        if let Some(value) = entry.get_mut("value") {
            *value = HIDDEN.into();
        }
        self.walk(entry, false);
    }

    /// What was missed: the values that are known, keys and tokens by their form.
    fn last(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.known {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), HIDDEN);
            }
        }
        without_tokens(&without_keys(&text))
    }
}

/// Commands that print secrets may have them in their words.
fn without_commands(text: &str) -> String {
    let hide = |line: &str| match ["passwordCommand:", "passphraseCommand:"]
        .iter()
        .find_map(|key| line.find(key).map(|at| at + key.len()))
    {
        Some(at) => format!("{} {HIDDEN}", &line[..at]),
        None => line.to_owned(),
    };
    let lines: Vec<_> = text.split('\n').map(hide).collect();
    lines.join("\n")
}

/// Private keys, wherever in a line they begin and end.
fn without_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    const END: &str = "-----END ";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let title = from[BEGIN.len()..].split("-----").next().unwrap_or_default();
        if !title.ends_with("PRIVATE KEY") {
            out.push_str(BEGIN);
            rest = &from[BEGIN.len()..];
            continue;
        }
        out.push_str(HIDDEN);
        // one that does not end here goes on to the end
        let end =
            from.find(END).and_then(|end| from[end + END.len()..].find("-----").map(|more| end + END.len() + more + 5));
        rest = end.map_or("", |end| &from[end..]);
    }
    out + rest
}

/// JSON web tokens.
fn without_tokens(text: &str) -> String {
    const BEGIN: &str = "eyJ";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let length = from.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(from.len());
        let word = &from[..length];
        out.push_str(if word.matches('.').count() >= 2 { HIDDEN } else { word });
        rest = &from[length..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_stay_json_and_lose_their_secrets() {
        let object = json!({
            "metadata": {"name": "p", "managedFields": [{"x": 1}], "annotations": {(COPY): "{\"password\":\"s3kr1t-1\"}", "note": "token: s3kr1t-2"}},
            "data": {"app.conf": "user: me\npassword: s3kr1t-3\nport: 1\n", "API_TOKEN": "s3kr1t-4"},
            "spec": {
                "automountServiceAccountToken": false,
                "imagePullSecrets": [{"name": "registry"}],
                "volumes": [{"name": "v", "secret": {"secretName": "tls", "items": [{"key": "a", "path": "b"}]}}],
                "containers": [{
                    "env": [
                        {"name": "HARMLESS", "value": "s3kr1t-5"},
                        {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
                    ],
                    "args": ["--password=s3kr1t-6", "--verbose", "http://me:s3kr1t-7@proxy/"],
                    "password": 123_456,
                }],
                "note": "it is known-value-8 here",
            },
        });
        let text = Redactor::new(["known-value-8".to_owned()]).json(object);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(!text.contains("s3kr1t") && !text.contains("known-value") && !text.contains("123456"), "{text}");
        assert_eq!(value["spec"]["volumes"][0]["secret"]["secretName"], "tls");
        assert_eq!(value["spec"]["imagePullSecrets"][0]["name"], "registry");
        assert_eq!(value["spec"]["containers"][0]["env"][1]["valueFrom"]["secretKeyRef"]["key"], "password");
        assert_eq!(value["spec"]["automountServiceAccountToken"], false);
        assert!(
            value["data"]["app.conf"].as_str().unwrap().contains("user: me")
                && value["metadata"].get("managedFields").is_none()
        );
        assert_eq!(value["spec"]["note"], format!("it is {HIDDEN} here"));
    }

    #[test]
    fn texts_lose_what_is_known_and_what_looks_like_it() {
        let redactor = Redactor::new(["hunter2hunter2".to_owned(), "hunter2hunter2hunter2".to_owned()]);
        for (text, left) in [
            ("a hunter2hunter2 b", format!("a {HIDDEN} b")),
            ("a hunter2hunter2hunter2 b", format!("a {HIDDEN} b")),
            ("x -----BEGIN EC PRIVATE KEY-----\nMIIabc\n-----END EC PRIVATE KEY-----\ny", format!("x {HIDDEN}\ny")),
            ("it said {\\\"k\\\":\\\"eyJh.eyJi.c-_\\\"}", format!("it said {{\\\"k\\\":\\\"{HIDDEN}\\\"}}")),
            ("passwordCommand: echo abc", format!("passwordCommand: {HIDDEN}")),
            (
                "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
                "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----".to_owned(),
            ),
        ] {
            let shown = redactor.text(text);
            // a private key is cut off with the line in which it begins
            let same = shown == left
                || text.contains("PRIVATE") && shown.starts_with(&format!("x {HIDDEN}")) && !shown.contains("MIIabc");
            let token = text.contains("eyJ") && !shown.contains("eyJh");
            assert!(same || token, "{text:?} became {shown:?}");
        }
        assert_eq!(without_keys("a-----BEGIN PRIVATE KEY-----cut off"), format!("a{HIDDEN}"));
        assert_eq!(without_tokens("eyJ is no token, eyJa.eyJb.c is"), format!("eyJ is no token, {HIDDEN} is"));
    }
}
