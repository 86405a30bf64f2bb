//! What a version of a definition says, beside its schema.

use serde_json::{Value, json};

use crate::{
    structural::jsonpath::JsonPath,
    time,
    value::{list_at, str_at},
};

const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// `openAPIV3Schema` of a version, as written; one that keeps everything where there is none.
pub fn written_schema(version: &Value) -> Value {
    let schema = version.get("schema").and_then(|s| s.get("openAPIV3Schema")).filter(|s| s.is_object());
    schema.cloned().unwrap_or_else(|| json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}))
}

/// Dotted paths of `selectableFields`.
pub fn selectable(version: &Value) -> Vec<String> {
    let paths = list_at(version, "selectableFields").iter().map(|f| str_at(f, "jsonPath"));
    paths.map(|path| path.trim_start_matches('.').to_owned()).collect()
}

/// A column of a Table: what it is, and where its cells come from.
#[derive(Clone, Debug)]
pub struct Column {
    /// An entry of `columnDefinitions`.
    pub definition: Value,
    path: Option<JsonPath>,
}

/// The columns of a version: the name, then those of the definition, or the age if it has none.
pub fn columns(version: &Value) -> Vec<Column> {
    let age =
        [json!({"name": "Age", "type": "date", "description": CREATED, "jsonPath": ".metadata.creationTimestamp"})];
    let given = list_at(version, "additionalPrinterColumns");
    let given = if given.is_empty() { &age[..] } else { given };
    let name = json!({"name": "Name", "type": "string", "format": "name", "description": NAME, "priority": 0});
    let first = Column { definition: name, path: JsonPath::parse(".metadata.name").ok() };
    std::iter::once(first).chain(given.iter().map(column)).collect()
}

fn column(given: &Value) -> Column {
    let path = str_at(given, "jsonPath");
    let description = match str_at(given, "description") {
        "" => format!("Custom resource definition column (in JSONPath format): {path}"),
        text => text.to_owned(),
    };
    let definition = json!({
        "name": given["name"], "type": given["type"], "format": str_at(given, "format"), "description": description,
        "priority": given["priority"].as_i64().unwrap_or(0),
    });
    Column { definition, path: JsonPath::parse(path).ok() }
}

impl Column {
    /// As upstream's `cellForJSONValue`: null where there is nothing, or something of another type.
    pub fn cell(&self, object: &Value) -> Value {
        let found = self.path.as_ref().map(|path| path.find(object)).unwrap_or_default();
        let Some(value) = found.first().filter(|it| !it.is_null()) else { return Value::Null };
        match str_at(&self.definition, "type") {
            #[allow(clippy::cast_possible_truncation)]
            "integer" => value.as_i64().or_else(|| value.as_f64().map(|f| f as i64)).map_or(Value::Null, Value::from),
            "number" if value.is_number() => (*value).clone(),
            "boolean" if value.is_boolean() => (*value).clone(),
            "string" => text(&found),
            "date" => match value.as_str() {
                Some(text) if time::parse(text).is_some() => time::age(text).into(),
                Some(_) => "<invalid>".into(),
                None => Value::Null,
            },
            _ => Value::Null,
        }
    }
}

/// Several results stand side by side.
fn text(found: &[&Value]) -> Value {
    let texts = found.iter().map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned));
    texts.collect::<Vec<_>>().join(" ").into()
}
