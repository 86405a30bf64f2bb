#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::{fields::Form, *};
use crate::{resources, schema::Type};

/// A value of a type with nothing left out; definitions that hold themselves end somewhere.
fn sample(form: Form, kind: &Type, depth: usize) -> Value {
    match (form, kind) {
        (Form::Raw, Type::Any) => json!({"a": [1, "x", null, {"b": -2.5}]}),
        (Form::SchemaOrArray, Type::Any) => json!([{"type": "string"}, {"type": "integer"}]),
        (Form::SchemaOrBool, Type::Any) => json!(false),
        (Form::SchemaOrStrings, Type::Any) => json!(["a", "b"]),
        (_, Type::List(inner)) => vec![sample(form, inner, depth), sample(form, inner, depth)].into(),
        (_, Type::Map(inner)) => json!({"k": sample(form, inner, depth), "": sample(form, inner, depth)}),
        (_, Type::String) => "text, ünïcode".into(),
        (_, Type::Bytes) => "aGVsbG8=".into(),
        (_, Type::Time) => "2026-01-02T03:04:05Z".into(),
        (_, Type::MicroTime) => "1969-01-02T03:04:05.123456Z".into(),
        (_, Type::Quantity) => "1500m".into(),
        (_, Type::IntOrString) if depth.is_multiple_of(2) => "http".into(),
        (_, Type::IntOrString) => (-8080).into(),
        (_, Type::Int32) => i32::MIN.into(),
        (_, Type::Int64) => i64::MAX.into(),
        (_, Type::Float) => 1.5.into(),
        (_, Type::Bool) => true.into(),
        (_, Type::Object(name)) => object(name, depth + 1),
        (_, Type::Any) => unreachable!("free JSON without a form"),
    }
}

fn object(definition: &str, depth: usize) -> Value {
    let fields = &fields::message(definition).unwrap_or_else(|| unreachable!("{definition}")).fields;
    let in_itself = |kind: &Type| matches!(kind, Type::List(_) | Type::Map(_) | Type::Object(_) | Type::Any);
    // schemas hold schemas in a dozen ways
    let deepest = if definition.ends_with("JSONSchemaProps") { 6 } else { 8 };
    let kept = fields.iter().filter(|f| depth < deepest || !in_itself(f.kind));
    let filled = kept.map(|f| (f, sample(f.form, f.kind, depth)));
    // an empty struct that is no pointer is the same as none
    let set = filled.filter(|(f, value)| f.keeps_zero || *value != json!({}));
    Value::Object(set.map(|(f, value)| (f.name.to_owned(), value)).collect())
}

fn whole(api_version: &str, kind: &str, definition: &str) -> Value {
    let mut value = object(definition, 0);
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    value
}

/// Every kind of the table, and what belongs to no resource.
fn kinds() -> Vec<(String, &'static str, String)> {
    let mut all: Vec<_> = resources::all().map(|r| (r.api_version(), r.kind, r.definition.to_owned())).collect();
    for (version, kind) in [
        ("v1", "Binding"),
        ("policy/v1", "Eviction"),
        ("autoscaling/v1", "Scale"),
        ("authentication.k8s.io/v1", "TokenRequest"),
        ("authentication.k8s.io/v1", "TokenReview"),
        ("authentication.k8s.io/v1", "SelfSubjectReview"),
        ("authorization.k8s.io/v1", "SubjectAccessReview"),
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview"),
        ("authorization.k8s.io/v1", "LocalSubjectAccessReview"),
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview"),
        ("v1", "Status"),
        ("apps/v1", "DeleteOptions"),
        ("v1", "APIGroupList"),
        ("v1", "APIResourceList"),
    ] {
        let Some(Shape::Object(definition)) = shape(version, kind) else { unreachable!("{version} {kind}") };
        all.push((version.to_owned(), kind, definition));
    }
    all
}

#[test]
fn every_kind_comes_back_as_it_was() {
    for (api_version, kind, definition) in kinds() {
        let value = whole(&api_version, kind, &definition);
        let bytes = encode(&value).unwrap_or_else(|| unreachable!("{api_version} {kind}"));
        assert_eq!(decode(&bytes, ("", "")).unwrap(), value, "{api_version} {kind}");
    }
}

#[test]
fn lists_and_metadata_come_back() {
    for resource in resources::all() {
        let mut list = json!({
            "kind": resource.list_kind, "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": "7", "continue": "x", "remainingItemCount": 3},
            "items": [object(resource.definition, 6), object(resource.definition, 6)],
        });
        assert_eq!(decode(&encode(&list).unwrap(), ("", "")).unwrap(), list, "{}", resource.list_kind);
        let items = list["items"].as_array().unwrap().iter().cloned().map(Ok::<_, ()>);
        let streamed = encode_list(&resource.api_version(), resource.list_kind, &list["metadata"], items);
        assert_eq!(streamed, Some(Ok(encode(&list).unwrap())), "{}", resource.list_kind);
        list["items"] = json!([]);
        assert_eq!(decode(&encode(&list).unwrap(), ("", "")).unwrap(), list, "{}", resource.list_kind);
    }
    for value in [
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "a"}}),
        json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "1"}, "items": [{"metadata": {"name": "a"}}]}),
    ] {
        assert_eq!(decode(&encode(&value).unwrap(), ("", "")).unwrap(), value);
    }
    assert_eq!(encode(&json!({"kind": "Foo", "apiVersion": "example.com/v1"})), None);
    assert_eq!(encode(&json!({"kind": "Deployment", "apiVersion": "apps.example.com/v1"})), None);
}

#[test]
fn schemas_in_all_their_forms() {
    for inner in [
        json!({"items": {"type": "string"}, "additionalProperties": {"type": "object"}, "enum": ["a", 1], "default": false}),
        json!({"items": [{"type": "string"}], "additionalProperties": true, "dependencies": {"a": ["b"], "c": {"type": "x"}}}),
        json!({"properties": {"a": {"properties": {"b": {"maximum": -1.25, "$ref": "r", "x-kubernetes-int-or-string": true}}}}, "example": {"x": null}}),
    ] {
        let crd = json!({
            "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1", "metadata": {"name": "a.b.c"},
            "spec": {"group": "b.c", "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": inner}}]},
        });
        // the table may not have the kind: then it is not transcoded at all
        if let Some(bytes) = encode(&crd) {
            assert_eq!(decode(&bytes, ("", "")).unwrap(), crd);
        }
    }
}

/// What Go's clients put on the wire for a pod of one container: a zero for everything that is not a pointer.
#[test]
fn zeros_of_go_are_unset_fields() {
    let pod = json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": "a", "namespace": "", "uid": "", "resourceVersion": "", "generation": 0, "generateName": ""},
        "spec": {
            "restartPolicy": "", "serviceAccountName": "", "hostNetwork": false, "priority": 0, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "", "image": "", "resources": {}, "stdin": false, "ports": [{"containerPort": 0, "hostPort": 0}],
                "livenessProbe": {"periodSeconds": 0, "httpGet": {"port": 0, "path": ""}}}],
            "volumes": [{"name": "v", "emptyDir": {"medium": ""}}],
            "nodeSelector": {"": "", "a": ""},
        },
        "status": {"phase": ""},
    });
    let decoded = decode(&encode(&pod).unwrap(), ("", "")).unwrap();
    assert_eq!(
        decoded,
        json!({
            "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"},
            "spec": {
                "priority": 0, "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "", "ports": [{"containerPort": 0}], "livenessProbe": {"httpGet": {"port": 0}}}],
                "volumes": [{"name": "v", "emptyDir": {}}],
                "nodeSelector": {"": "", "a": ""},
            },
        })
    );
}

#[test]
fn bytes_as_a_go_client_writes_them() {
    // k8s\0, Unknown{typeMeta{v1, ConfigMap}, raw{metadata{name: a, creationTimestamp: {}}, data{k: v}}, "", ""}
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(b"\x0a\x0f\x0a\x02v1\x12\x09ConfigMap");
    bytes.extend_from_slice(b"\x12\x0f\x0a\x05\x0a\x01a\x42\x00\x12\x06\x0a\x01k\x12\x01v\x1a\x00\x22\x00");
    let decoded = decode(&bytes, ("", ""));
    assert_eq!(
        decoded,
        Ok(json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"k": "v"}}))
    );
}

#[test]
fn unknown_fields_and_packed_numbers() {
    let mut body = Vec::new();
    wire::put_message(&mut body, 1, |m| {
        wire::put_bytes(m, 1, b"a");
        wire::put_int(m, 999, 5);
        wire::put_double(m, 998, 5.0);
        wire::put_bytes(m, 997, b"newer");
    });
    let envelope = |body: &[u8]| {
        let mut out = MAGIC.to_vec();
        wire::put_bytes(&mut out, 2, body);
        out
    };
    let pod = decode(&envelope(&body), ("v1", "Pod")).unwrap();
    assert_eq!(pod, json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}}));

    let mut spec = Vec::new();
    // securityContext = 14, supplementalGroups = 4, both packed and not
    wire::put_message(&mut spec, 2, |m| {
        wire::put_message(m, 14, |m| {
            wire::put_bytes(m, 4, &[1, 0x80, 0x01]);
            wire::put_int(m, 4, 3);
        });
    });
    let pod = decode(&envelope(&spec), ("v1", "Pod")).unwrap();
    assert_eq!(pod["spec"]["securityContext"]["supplementalGroups"], json!([1, 128, 3]));
}

#[test]
fn whatever_comes_nothing_panics() {
    assert_eq!(decode(b"", ("", "")), Err(DecodeError::Empty));
    assert_eq!(decode(b"{}", ("", "")), Err(DecodeError::Magic));
    assert!(matches!(decode(b"k8s\0", ("", "")), Err(DecodeError::Kind { .. })));
    let bytes = encode(&whole("apps/v1", "Deployment", "io.k8s.api.apps.v1.Deployment")).unwrap();
    // every cut, and every byte changed in some way
    let mut state = 1u32;
    for at in (0..bytes.len()).step_by(bytes.len() / 700 + 1) {
        let _ = decode(&bytes[..at], ("", ""));
        let mut broken = bytes.clone();
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        broken[at] ^= (state >> 24) as u8 | 1;
        let _ = decode(&broken, ("", ""));
    }
    // a schema in a schema in a schema
    let mut schema = Vec::new();
    for _ in 0..5000 {
        let mut outer = Vec::new();
        wire::put_bytes(&mut outer, 28, &schema);
        schema = outer;
    }
    let mut body = MAGIC.to_vec();
    wire::put_message(&mut body, 2, |m| {
        wire::put_message(m, 2, |m| {
            wire::put_message(m, 7, |m| wire::put_message(m, 4, |m| wire::put_bytes(m, 1, &schema)));
        });
    });
    let nested = decode(&body, ("apiextensions.k8s.io/v1", "CustomResourceDefinition"));
    assert!(matches!(nested, Err(DecodeError::Depth | DecodeError::Kind { .. })), "{nested:?}");
}

/// What is stored must be readable again.
#[test]
fn json_in_protobuf_is_not_deeper_than_json() {
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    let revision = |data| json!({"kind": "ControllerRevision", "apiVersion": "apps/v1", "metadata": {"name": "a"}, "data": data, "revision": 1});
    assert!(decode(&encode(&revision(nested(100))).unwrap(), ("", "")).is_ok());
    assert_eq!(decode(&encode(&revision(nested(125))).unwrap(), ("", "")), Err(DecodeError::Depth));
}

#[test]
fn watch_events_are_framed() {
    let mut out = Vec::new();
    let object = encode(&json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}})).unwrap();
    watch_frame(&mut out, "ADDED", &object);
    assert_eq!(out.len() as u32 - 4, u32::from_be_bytes(out[..4].try_into().unwrap()));
    let mut reader = wire::Reader::new(&out[4..]);
    assert_eq!(reader.next().unwrap(), Some((1, wire::Raw::Bytes(b"ADDED"))));
    let Some((2, wire::Raw::Bytes(raw))) = reader.next().unwrap() else { unreachable!() };
    assert_eq!(special::wrapped(raw).unwrap(), &object[..]);
}
