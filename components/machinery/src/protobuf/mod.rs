//! `application/vnd.kubernetes.protobuf`: objects between JSON values and protobuf, for every kind of the built-in groups.
//!
//! One transcoder for all of them: types come from the schema, numbers from a table ([`fields`]). An object travels as the four bytes
//! `k8s\0` and a `runtime.Unknown` that names its kind and holds its bytes (apimachinery `pkg/runtime/serializer/protobuf`).

mod decode;
mod encode;
mod fields;
mod special;
mod wire;

pub use decode::decode;
pub use encode::{encode, encode_list, watch_frame};

/// What stands before every object.
pub const MAGIC: &[u8; 4] = b"k8s\0";
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Messages within messages; deeper ones are refused.
const MAX_DEPTH: usize = 100;
/// Of the JSON made from them: what is stored is read again by a parser that goes to 128.
const MAX_JSON_DEPTH: usize = 120;

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum DecodeError {
    #[error("empty data")]
    Empty,
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: illegal tag 0")]
    Tag,
    #[error("proto: illegal wireType {0}")]
    WireType(u8),
    #[error("proto: wrong wireType for field {0}")]
    Mismatch(&'static str),
    #[error("proto: field {0} is not valid UTF-8")]
    Utf8(&'static str),
    #[error("proto: field {0} does not hold JSON: {1}")]
    Json(&'static str, String),
    #[error("proto: messages are nested too deeply")]
    Depth,
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    Kind { api_version: String, kind: String },
    #[error("content encoding \"{0}\" is not supported")]
    Encoding(String),
}

/// API group → where its definitions are. What is not here has no protobuf form.
const GROUPS: &[(&str, &str)] = &[
    ("", "io.k8s.api.core"),
    ("admissionregistration.k8s.io", "io.k8s.api.admissionregistration"),
    ("apiextensions.k8s.io", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions"),
    ("apiregistration.k8s.io", "io.k8s.kube-aggregator.pkg.apis.apiregistration"),
    ("apps", "io.k8s.api.apps"),
    ("authentication.k8s.io", "io.k8s.api.authentication"),
    ("authorization.k8s.io", "io.k8s.api.authorization"),
    ("autoscaling", "io.k8s.api.autoscaling"),
    ("batch", "io.k8s.api.batch"),
    ("certificates.k8s.io", "io.k8s.api.certificates"),
    ("coordination.k8s.io", "io.k8s.api.coordination"),
    ("discovery.k8s.io", "io.k8s.api.discovery"),
    ("events.k8s.io", "io.k8s.api.events"),
    ("flowcontrol.apiserver.k8s.io", "io.k8s.api.flowcontrol"),
    ("networking.k8s.io", "io.k8s.api.networking"),
    ("node.k8s.io", "io.k8s.api.node"),
    ("policy", "io.k8s.api.policy"),
    ("rbac.authorization.k8s.io", "io.k8s.api.rbac"),
    ("resource.k8s.io", "io.k8s.api.resource"),
    ("scheduling.k8s.io", "io.k8s.api.scheduling"),
    ("storage.k8s.io", "io.k8s.api.storage"),
    ("storagemigration.k8s.io", "io.k8s.api.storagemigration"),
];

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Kinds of apimachinery that every group has.
const META_KINDS: &[&str] = &["APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "DeleteOptions", "Status"];

/// The name of a built-in kind's schema definition.
pub fn definition(api_version: &str, kind: &str) -> Option<String> {
    match shape(api_version, kind)? {
        Shape::Object(definition) => Some(definition),
        _ => None,
    }
}

/// Whether objects of a group have a protobuf form.
pub fn knows_group(group: &str) -> bool {
    GROUPS.iter().any(|(g, _)| *g == group)
}

/// What a kind is made of.
#[derive(Debug, PartialEq)]
enum Shape {
    Object(String),
    /// Of objects of the definition.
    List(String),
    Metadata,
    MetadataList,
}

fn shape(api_version: &str, kind: &str) -> Option<Shape> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    match kind {
        "PartialObjectMetadata" if group == "meta.k8s.io" => return Some(Shape::Metadata),
        "PartialObjectMetadataList" if group == "meta.k8s.io" => return Some(Shape::MetadataList),
        _ if META_KINDS.contains(&kind) => return known(format!("{META}.{kind}")).map(Shape::Object),
        _ => {}
    }
    let (_, place) = GROUPS.iter().find(|(g, _)| *g == group)?;
    known(format!("{place}.{version}.{kind}")).map(Shape::Object).or_else(|| {
        let item = kind.strip_suffix("List")?;
        known(format!("{place}.{version}.{item}")).map(Shape::List)
    })
}

fn known(definition: String) -> Option<String> {
    fields::message(&definition).is_some().then_some(definition)
}

#[cfg(test)]
mod tests;
