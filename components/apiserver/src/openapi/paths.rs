//! Paths with their operations, for both dialects.

use std::collections::BTreeSet;

use machinery::{Resource, protobuf, resources::Subresource};
use serde_json::{Map, Value, json};

use super::{
    proto,
    schema::{DELETE_OPTIONS, Dialect, PATCH, STATUS},
};
use crate::{discovery::group_version, handlers::reviews::Review};

const READ: &[&str] = &["pretty"];
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "pretty"];
const APPLY: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force", "pretty"];
const SELECT: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "pretty",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const REMOVE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "pretty",
    "propagationPolicy",
];
const REMOVE_MANY: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "labelSelector",
    "limit",
    "orphanDependents",
    "pretty",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];

/// Type and description of query parameters.
fn query(name: &str) -> (&'static str, &'static str) {
    match name {
        "allowWatchBookmarks" => ("boolean", "Whether a watch may be sent events of type BOOKMARK."),
        "continue" => ("string", "The token of the previous page, to get the next one."),
        "dryRun" => ("string", "\"All\": everything is done but storing."),
        "fieldManager" => ("string", "The name of the actor that makes these changes."),
        "fieldSelector" => ("string", "Restricts the objects by their fields. Defaults to everything."),
        "fieldValidation" => {
            ("string", "What is done about unknown and duplicate fields: Ignore, Warn (default) or Strict.")
        }
        "force" => ("boolean", "Whether an apply takes fields that others own."),
        "gracePeriodSeconds" => ("integer", "The time in seconds before the object is deleted; zero means at once."),
        "ignoreStoreReadErrorWithClusterBreakingPotential" => {
            ("boolean", "Whether an object that cannot be read is deleted nevertheless.")
        }
        "labelSelector" => ("string", "Restricts the objects by their labels. Defaults to everything."),
        "limit" => ("integer", "The largest number of objects in one answer."),
        "orphanDependents" => ("boolean", "Deprecated: use propagationPolicy."),
        "pretty" => ("string", "Whether the answer is indented."),
        "propagationPolicy" => ("string", "What becomes of dependents: Orphan, Background or Foreground."),
        "resourceVersion" => ("string", "The version a read must have reached."),
        "resourceVersionMatch" => ("string", "How resourceVersion is meant: Exact or NotOlderThan."),
        "sendInitialEvents" => ("boolean", "Whether a watch begins with what is there, and marks the end of that."),
        "timeoutSeconds" => ("integer", "The time in seconds a watch lasts."),
        "watch" => ("boolean", "Whether changes are sent as they happen."),
        _ => ("string", ""),
    }
}

/// One method of a path.
struct Operation {
    method: &'static str,
    /// `x-kubernetes-action`.
    action: &'static str,
    /// The part of the id before the group.
    verb: &'static str,
    /// The part of the id after the version.
    what: String,
    query: &'static [&'static str],
    body: Option<String>,
    answer: Option<String>,
    created: bool,
    /// Of the object that is sent or got.
    kind: (String, String, String),
    /// A custom resource knows no protobuf and no strategic patch; kubectl chooses its patch by what stands here.
    custom: bool,
}

/// The paths of a document, written as they come: all of them as values would take much memory.
pub struct Paths {
    dialect: Dialect,
    /// `"path":{…},…`
    pub json: Vec<u8>,
    /// The same in protobuf, for v2 only.
    pub proto: Vec<u8>,
    there: BTreeSet<String>,
}

fn root(resource: &Resource) -> String {
    let prefix = if resource.group.is_empty() { "/api" } else { "/apis" };
    format!("{prefix}/{}", resource.api_version())
}

/// `apps` → `Apps`, `rbac.authorization.k8s.io` → `RbacAuthorization`, as in upstream's operation ids.
fn camel(group: &str) -> String {
    let group = if group.is_empty() { "core" } else { group.trim_end_matches(".k8s.io") };
    group.split(['.', '-']).map(capital).collect()
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// What objects of a resource are called in a document.
pub fn definition_of(resource: &Resource) -> String {
    match resource.custom() {
        Some(_) => machinery::structural::openapi::definition_name(resource.group, resource.version, resource.kind),
        None => resource.definition.to_owned(),
    }
}

/// The definition of a list: beside that of its items.
pub fn list_definition(resource: &Resource) -> String {
    let item = definition_of(resource);
    match item.rsplit_once('.') {
        Some((place, _)) => format!("{place}.{}", resource.list_kind),
        None => resource.list_kind.to_owned(),
    }
}

impl Paths {
    pub fn new(dialect: Dialect) -> Self {
        Paths { dialect, json: Vec::new(), proto: Vec::new(), there: BTreeSet::new() }
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub fn add(&mut self, resource: &Resource) {
        let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("{}{scope}/{}", root(resource), resource.plural);
        if resource.namespaced && resource.supports("list") {
            let all = format!("{}/{}", root(resource), resource.plural);
            let mut list = operation(resource, "list");
            list.what = format!("{}ForAllNamespaces", resource.kind);
            self.insert(&all, &[list], &[]);
        }
        let place: &[&str] = if resource.namespaced { &["namespace"] } else { &[] };
        let object: &[&str] = if resource.namespaced { &["name", "namespace"] } else { &["name"] };
        let verbs = |wanted: &[&'static str]| -> Vec<Operation> {
            wanted.iter().filter(|v| resource.supports(v)).map(|v| operation(resource, v)).collect()
        };
        self.insert(&collection, &verbs(&["list", "create", "deletecollection"]), place);
        let one = format!("{collection}/{{name}}");
        self.insert(&one, &verbs(&["get", "update", "delete", "patch"]), object);
        for sub in resource.subresources {
            let operations: Vec<Operation> = sub.verbs.iter().filter_map(|v| sub_operation(resource, sub, v)).collect();
            self.insert(&format!("{one}/{}", sub.name), &operations, object);
        }
    }

    /// A kind that is only a question.
    pub fn add_review(&mut self, review: &Review) {
        let version = format!("{}/v1", review.group);
        let definition = protobuf::definition(&version, review.kind);
        let create = Operation {
            method: "post",
            action: "post",
            verb: "create",
            what: format!("{}{}", if review.namespaced { "Namespaced" } else { "" }, review.kind),
            query: WRITE,
            body: definition.clone(),
            answer: definition,
            created: true,
            kind: (review.group.into(), "v1".into(), review.kind.into()),
            custom: false,
        };
        let scope = if review.namespaced { "/namespaces/{namespace}" } else { "" };
        let place: &[&str] = if review.namespaced { &["namespace"] } else { &[] };
        self.insert(&format!("/apis/{version}{scope}/{}", review.plural), &[create], place);
    }

    /// A path as another server writes it; ours stands if there is the same.
    pub fn add_foreign(&mut self, path: &str, item: &Value) {
        if !self.there.contains(path) {
            self.write(path, item);
        }
    }

    fn insert(&mut self, path: &str, operations: &[Operation], places: &[&str]) {
        if operations.is_empty() {
            return;
        }
        let mut item = Map::new();
        for operation in operations {
            item.insert(operation.method.into(), self.operation(operation));
        }
        let parameters: Vec<Value> = places.iter().map(|p| self.place(p)).collect();
        if !parameters.is_empty() {
            item.insert("parameters".into(), parameters.into());
        }
        self.write(path, &Value::Object(item));
    }

    fn write(&mut self, path: &str, item: &Value) {
        if self.dialect == Dialect::V2 {
            self.proto.extend(proto::path(path, item));
            // only there others' paths may follow
            self.there.insert(path.to_owned());
        }
        if !self.json.is_empty() {
            self.json.push(b',');
        }
        self.json.extend_from_slice(format!("{}:{item}", Value::from(path)).as_bytes());
    }

    fn reference(&self, definition: &str) -> Value {
        json!({"$ref": format!("{}{definition}", self.dialect.references())})
    }

    fn place(&self, name: &str) -> Value {
        let description = if name == "name" { "name of the object" } else { "the namespace of the object" };
        self.typed(json!({"name": name, "in": "path", "required": true, "description": description}), "string")
    }

    fn typed(&self, mut parameter: Value, kind: &str) -> Value {
        match self.dialect {
            Dialect::V2 => {
                parameter["type"] = kind.into();
                parameter["uniqueItems"] = true.into();
            }
            Dialect::V3 => parameter["schema"] = json!({"type": kind, "uniqueItems": true}),
        }
        parameter
    }

    fn operation(&self, operation: &Operation) -> Value {
        let (group, version, kind) = &operation.kind;
        let mut parameters: Vec<Value> = operation
            .query
            .iter()
            .map(|name| {
                let (kind, description) = query(name);
                self.typed(json!({"name": name, "in": "query", "description": description}), kind)
            })
            .collect();
        let id = format!("{}{}{}{}", operation.verb, camel(group), capital(version), operation.what);
        let mut value = json!({
            "operationId": id, "x-kubernetes-action": operation.action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
            "responses": self.responses(operation),
        });
        if let Some(body) = &operation.body {
            let required = operation.method != "delete";
            match self.dialect {
                Dialect::V2 => {
                    let mut parameter = json!({"name": "body", "in": "body", "schema": self.reference(body)});
                    if required {
                        parameter["required"] = true.into();
                    }
                    parameters.push(parameter);
                }
                Dialect::V3 => {
                    let mut content = Map::new();
                    for media in media_types(operation) {
                        content.insert((*media).into(), json!({"schema": self.reference(body)}));
                    }
                    value["requestBody"] = json!({"content": content, "required": required});
                }
            }
        }
        if self.dialect == Dialect::V2 {
            value["consumes"] = media_types(operation).into();
            value["produces"] = answers(operation).into();
        }
        value["parameters"] = parameters.into();
        value
    }

    fn responses(&self, operation: &Operation) -> Value {
        let mut responses = Map::new();
        let codes: &[(&str, &str)] = match (operation.created, operation.method) {
            (true, "post") => &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
            (true, _) => &[("200", "OK"), ("201", "Created")],
            (false, "delete") => &[("200", "OK"), ("202", "Accepted")],
            _ => &[("200", "OK")],
        };
        for (code, description) in codes {
            let mut response = json!({"description": description});
            if let Some(answer) = &operation.answer {
                match self.dialect {
                    Dialect::V2 => response["schema"] = self.reference(answer),
                    Dialect::V3 => {
                        let content: Map<String, Value> = answers(operation)
                            .iter()
                            .map(|media| ((*media).to_owned(), json!({"schema": self.reference(answer)})))
                            .collect();
                        response["content"] = content.into();
                    }
                }
            }
            responses.insert((*code).to_owned(), response);
        }
        responses.insert("401".into(), json!({"description": "Unauthorized"}));
        responses.into()
    }
}

const ANSWERS: &[&str] = &["application/json", "application/yaml", protobuf::MEDIA_TYPE];
const BODIES: &[&str] = &["*/*"];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

const CUSTOM_ANSWERS: &[&str] = &["application/json", "application/yaml"];
const CUSTOM_PATCHES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

fn answers(operation: &Operation) -> &'static [&'static str] {
    if operation.custom { CUSTOM_ANSWERS } else { ANSWERS }
}

fn media_types(operation: &Operation) -> &'static [&'static str] {
    match (operation.method, operation.custom) {
        ("patch", true) => CUSTOM_PATCHES,
        ("patch", false) => PATCHES,
        _ => BODIES,
    }
}

fn operation(resource: &Resource, verb: &str) -> Operation {
    let definition = definition_of(resource);
    let object = Some(definition.clone());
    let scoped = format!("{}{}", if resource.namespaced { "Namespaced" } else { "" }, resource.kind);
    let list = list_definition(resource);
    let (method, action, id, query, body, answer, created) = match verb {
        "list" => ("get", "list", "list", SELECT, None, Some(list), false),
        "create" => ("post", "post", "create", WRITE, object.clone(), object, true),
        "deletecollection" => (
            "delete",
            "deletecollection",
            "delete",
            REMOVE_MANY,
            Some(DELETE_OPTIONS.to_owned()),
            Some(STATUS.to_owned()),
            false,
        ),
        "update" => ("put", "put", "replace", WRITE, object.clone(), object, true),
        "patch" => ("patch", "patch", "patch", APPLY, Some(PATCH.to_owned()), object, true),
        "delete" => {
            ("delete", "delete", "delete", REMOVE, Some(DELETE_OPTIONS.to_owned()), Some(STATUS.to_owned()), false)
        }
        _ => ("get", "get", "read", READ, None, object, false),
    };
    Operation {
        method,
        action,
        verb: id,
        what: if verb == "deletecollection" { format!("Collection{scoped}") } else { scoped },
        query,
        body,
        answer,
        created,
        kind: (resource.group.into(), resource.version.into(), resource.kind.into()),
        custom: resource.custom().is_some(),
    }
}

fn sub_operation(resource: &Resource, sub: &Subresource, verb: &str) -> Option<Operation> {
    let mut operation = operation(resource, verb);
    let suffix: String = sub.name.split('-').map(capital).collect();
    operation.what.push_str(&suffix);
    if sub.kind.is_empty() {
        return Some(operation);
    }
    let (group, version) =
        if sub.version.is_empty() { (resource.group, resource.version) } else { (sub.group, sub.version) };
    let definition = protobuf::definition(&group_version(group, version), sub.kind);
    // streams answer what they like
    if matches!(verb, "create" | "update") {
        operation.body.clone_from(&definition);
    }
    operation.answer = definition;
    operation.kind = (group.into(), version.into(), sub.kind.into());
    Some(operation)
}
