//! The documents: built on demand in one pass over the definitions, kept compressed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    sync::Arc,
};

use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use machinery::{Resource, ResourceRef, protobuf, resources};
use serde_json::{Value, json};

use super::{
    etag,
    foreign::Foreign,
    paths::{self, Paths},
    proto,
    schema::{self, DELETE_OPTIONS, Dialect, Kind, STATUS},
};
use crate::{discovery::group_version, handlers::reviews};

/// A document as it is kept.
#[derive(Clone)]
pub struct Document {
    pub gzipped: Bytes,
    pub tag: String,
}

impl Document {
    pub(super) fn new(plain: &[u8]) -> Self {
        let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::new(6));
        // writing into memory does not fail
        let written = encoder.write_all(plain);
        debug_assert!(written.is_ok());
        Document { gzipped: encoder.finish().unwrap_or_default().into(), tag: etag::of(plain) }
    }

    pub fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::with_capacity(self.gzipped.len() * 8);
        let read = GzDecoder::new(&*self.gzipped).read_to_end(&mut plain);
        debug_assert!(read.is_ok());
        plain
    }
}

/// `api/v1`, `apis/apps/v1`.
pub fn path_of(group: &str, version: &str) -> String {
    let prefix = if group.is_empty() { "api" } else { "apis" };
    format!("{prefix}/{}", group_version(group, version))
}

/// Title and version.
pub const INFO: (&str, &str) = ("Kubernetes", "v1.37.0");
/// How clients say who they are.
const SECURITY: &str = r#"{"BearerToken":{"description":"Bearer Token authentication","in":"header","name":"authorization","type":"apiKey"}}"#;

/// A document that is being written.
struct Draft {
    wanted: BTreeSet<String>,
    paths: Paths,
    lists: Vec<(String, Value)>,
    /// The names of the definitions that were written.
    names: BTreeSet<String>,
    definitions: Vec<u8>,
    /// The same in protobuf, for v2 only.
    proto: Vec<u8>,
}

impl Draft {
    fn new(dialect: Dialect) -> Self {
        Draft {
            wanted: BTreeSet::new(),
            paths: Paths::new(dialect),
            lists: Vec::new(),
            names: BTreeSet::new(),
            definitions: Vec::new(),
            proto: Vec::new(),
        }
    }

    fn add(&mut self, resource: &Resource) {
        let dialect = self.dialect();
        self.paths.add(resource);
        self.wanted.insert(resource.definition.to_owned());
        let id: Kind = (resource.group.into(), resource.version.into(), resource.list_kind.into());
        let list = schema::list(resource.kind, resource.definition, &id, dialect);
        self.lists.push((paths::list_definition(resource), list));
        for sub in resource.subresources.iter().filter(|s| !s.kind.is_empty() && !s.version.is_empty()) {
            self.wanted.extend(protobuf::definition(&group_version(sub.group, sub.version), sub.kind));
        }
    }

    fn add_review(&mut self, review: &reviews::Review) {
        self.paths.add_review(review);
        self.wanted.extend(protobuf::definition(&format!("{}/v1", review.group), review.kind));
    }

    fn dialect(&self) -> Dialect {
        self.paths.dialect()
    }

    /// Everything reached from what was added; then lists and what paths need besides.
    fn close(&mut self, graph: &BTreeMap<String, Vec<String>>) {
        let more = ["io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta", "io.k8s.apimachinery.pkg.runtime.RawExtension"];
        let roots =
            self.wanted.iter().cloned().chain([DELETE_OPTIONS, STATUS].map(Into::into)).chain(more.map(Into::into));
        self.wanted = schema::reachable(graph, roots);
        for (name, list) in std::mem::take(&mut self.lists) {
            self.push(&name, &list);
        }
        for (name, definition) in schema::additional(self.dialect()) {
            self.push(name, &definition);
        }
    }

    fn push(&mut self, name: &str, definition: &Value) {
        if self.dialect() == Dialect::V2 {
            self.proto.extend(proto::definition(name, definition));
        }
        if !self.definitions.is_empty() {
            self.definitions.push(b',');
        }
        self.definitions.extend_from_slice(format!("{}:{definition}", Value::from(name)).as_bytes());
        self.names.insert(name.to_owned());
    }

    /// What an extension server serves; last, since its names give way.
    fn add_foreign(&mut self, foreign: &Foreign) {
        let (paths, definitions) = foreign.beside(&self.names);
        paths.iter().for_each(|(path, item)| self.paths.add_foreign(path, item));
        definitions.iter().for_each(|(name, definition)| self.push(name, definition));
    }

    fn finish(self) -> Vec<u8> {
        let info = json!({"title": INFO.0, "version": INFO.1});
        let (before, between, after) = match self.dialect() {
            Dialect::V2 => (
                format!("{{\"swagger\":\"2.0\",\"info\":{info},\"paths\":{{"),
                "},\"definitions\":{".to_owned(),
                format!("}},\"securityDefinitions\":{SECURITY},\"security\":[{{\"BearerToken\":[]}}]}}"),
            ),
            Dialect::V3 => (
                format!("{{\"openapi\":\"3.0.0\",\"info\":{info},\"paths\":{{"),
                "},\"components\":{\"schemas\":{".to_owned(),
                format!("}},\"securitySchemes\":{SECURITY}}}}}"),
            ),
        };
        [before.as_bytes(), &self.paths.json, between.as_bytes(), &self.definitions, after.as_bytes()].concat()
    }
}

/// The v3 documents of the built-in groups, by path.
pub fn built_in() -> BTreeMap<String, Document> {
    let mut drafts: BTreeMap<String, Draft> = BTreeMap::new();
    let mut draft = |group: &str, version: &str, add: &mut dyn FnMut(&mut Draft)| {
        add(drafts.entry(path_of(group, version)).or_insert_with(|| Draft::new(Dialect::V3)));
    };
    for resource in resources::all() {
        draft(resource.group, resource.version, &mut |d| d.add(resource));
    }
    for review in reviews::ALL {
        draft(review.group, "v1", &mut |d| d.add_review(review));
    }
    let (graph, kinds) = (schema::graph(), schema::kinds());
    drafts.values_mut().for_each(|d| d.close(&graph));
    schema::each(|name, text| {
        let mut wanting = drafts.values_mut().filter(|d| d.wanted.contains(name)).peekable();
        if wanting.peek().is_some() {
            let definition = schema::definition(name, text, kinds.get(name), Dialect::V3);
            wanting.for_each(|d| d.push(name, &definition));
        }
    });
    drafts.into_iter().map(|(path, draft)| (path, Document::new(&draft.finish()))).collect()
}

/// The v3 document of custom resources of one group and version.
pub fn custom(rows: &[ResourceRef]) -> Document {
    let mut draft = Draft::new(Dialect::V3);
    for row in rows {
        add_custom(&mut draft, row);
    }
    let (graph, kinds) = (schema::graph(), schema::kinds());
    let metadata = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta".to_owned();
    draft.wanted.insert(metadata);
    draft.wanted.extend(protobuf::definition("autoscaling/v1", "Scale"));
    draft.close(&graph);
    schema::each(|name, text| {
        if draft.wanted.contains(name) {
            let definition = schema::definition(name, text, kinds.get(name), Dialect::V3);
            draft.push(name, &definition);
        }
    });
    Document::new(&draft.finish())
}

fn add_custom(draft: &mut Draft, row: &Resource) {
    let Some(custom) = row.custom() else { return };
    let name = paths::definition_of(row);
    let id: Kind = (row.group.into(), row.version.into(), row.list_kind.into());
    let (definition, list) = match draft.dialect() {
        Dialect::V3 => (custom.openapi(), schema::list(row.kind, &name, &id, Dialect::V3)),
        Dialect::V2 => (custom.openapi_v2(), schema::list(row.kind, &name, &id, Dialect::V2)),
    };
    draft.paths.add(row);
    draft.push(&name, &definition);
    draft.push(&paths::list_definition(row), &list);
}

/// The v2 document: everything in one, as JSON and as protobuf.
pub fn v2(custom: &[ResourceRef], foreign: &[Arc<Foreign>]) -> (Document, Document) {
    let mut draft = Draft::new(Dialect::V2);
    resources::all().for_each(|r| draft.add(r));
    reviews::ALL.iter().for_each(|r| draft.add_review(r));
    custom.iter().for_each(|row| add_custom(&mut draft, row));
    let (graph, kinds) = (schema::graph(), schema::kinds());
    draft.close(&graph);
    schema::each(|name, text| {
        if draft.wanted.contains(name) {
            let definition = schema::definition(name, text, kinds.get(name), Dialect::V2);
            draft.push(name, &definition);
        }
    });
    foreign.iter().for_each(|it| draft.add_foreign(it));
    let protobuf = Document::new(&proto::document(INFO.0, INFO.1, &draft.paths.proto, &draft.proto));
    (Document::new(&draft.finish()), protobuf)
}

/// What of custom resources a document depends on.
pub fn fingerprint(rows: &[ResourceRef]) -> String {
    use machinery::value::str_at;
    let mut text = String::new();
    for row in rows {
        let definition = row.custom().map(|c| c.definition());
        let part = |path: &str| definition.map_or("", |d| str_at(d, path)).to_owned();
        let generation = definition.map(|d| json!(d["metadata"]["generation"])).unwrap_or_default();
        text += &format!("{}/{}/{}/{}/{generation}\n", row.group, row.version, row.plural, part("metadata.uid"));
    }
    etag::of(text.as_bytes())
}
