#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::{jsonpath::JsonPath, *};
use crate::field::Path;

fn texts(schema: Value, value: Value, old: Option<Value>) -> Vec<String> {
    validate(&parse(&schema), &value, old.as_ref()).iter().map(ToString::to_string).collect()
}

fn spec(inner: Value) -> Value {
    json!({"type": "object", "properties": {"spec": inner}})
}

#[test]
fn values_are_judged_in_upstreams_words() {
    let schema = spec(json!({"type": "object", "required": ["cronSpec"], "properties": {
        "replicas": {"type": "integer", "minimum": 1, "maximum": 10},
        "cronSpec": {"type": "string", "pattern": "^\\d+$", "maxLength": 3},
        "mode": {"type": "string", "enum": ["b", "a"]},
        "ports": {"type": "array", "maxItems": 1, "items": {"x-kubernetes-int-or-string": true}},
        "at": {"type": "string", "format": "date-time"},
    }}));
    let wrong = json!({"spec": {"replicas": 11, "mode": "c", "ports": [true, 1], "at": "x"}});
    assert_eq!(
        texts(schema.clone(), wrong, None),
        [
            "spec.cronSpec: Required value",
            "spec.at: Invalid value: \"x\": spec.at in body must be of type date-time: \"x\"",
            "spec.mode: Unsupported value: \"c\": supported values: \"b\", \"a\"",
            "spec.ports[0]: Invalid value: \"boolean\": spec.ports[0] in body must be of type integer,string: \"boolean\"",
            "spec.ports: Too many: 2: must have at most 1 items",
            "spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10",
        ]
    );
    assert_eq!(
        texts(schema.clone(), json!({"spec": {"cronSpec": "abcd", "replicas": "x"}}), None),
        [
            "spec.cronSpec: Too long: may not be more than 3 bytes",
            "spec.cronSpec: Invalid value: \"abcd\": spec.cronSpec in body should match '^\\d+$'",
            "spec.replicas: Invalid value: \"string\": spec.replicas in body must be of type integer: \"string\"",
        ]
    );
    assert!(texts(schema, json!({"spec": {"cronSpec": "1", "replicas": 2.0}}), None).is_empty());
}

#[test]
fn alternatives_fail_without_a_field() {
    let schema = spec(json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}));
    assert_eq!(
        texts(schema.clone(), json!({"spec": {}}), None),
        [
            "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found none valid",
            "spec.a: Required value"
        ]
    );
    assert!(texts(schema, json!({"spec": {"a": "x", "b": "y"}}), None)[0].ends_with("Found 2 valid alternatives"));
    let not = spec(json!({"type": "object", "not": {"required": ["a"]}}));
    assert!(texts(not, json!({"spec": {"a": 1}}), None)[0].ends_with("\"spec\" must not validate the schema (not)"));
}

#[test]
fn what_did_not_change_is_not_judged() {
    let schema = spec(json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "string", "maxLength": 1}}}},
        "atomic": {"type": "array", "items": {"type": "string", "maxLength": 1}},
    }}));
    let old = json!({"spec": {"a": "xx", "b": "x", "map": [{"k": "1", "v": "xx"}], "atomic": ["xx"]}});
    assert!(texts(schema.clone(), old.clone(), Some(old.clone())).is_empty());
    let mut new = old.clone();
    new["spec"]["b"] = "yy".into();
    new["spec"]["map"] = json!([{"k": "0", "v": "y"}, {"k": "1", "v": "xx"}]);
    new["spec"]["atomic"] = json!(["y", "xx"]);
    let found = texts(schema, new, Some(old));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("spec.atomic[1]:") && found[1].starts_with("spec.b:"));
}

#[test]
fn unknown_fields_go_unless_kept() {
    let schema = parse(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"a": {"type": "string"}, "list": {"type": "array", "items": {
            "type": "object", "properties": {"x": {"type": "integer"}}}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"strict": {"type": "object"}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"v": {"type": "string"}}}},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
    }}));
    let mut object = json!({
        "apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a", "zz": 1}, "other": 1,
        "spec": {"a": "1", "b": 2, "list": [{"x": 1, "y": 2}]}, "free": {"q": {"r": 1}, "strict": {"s": 1}},
        "map": {"k": {"v": "1", "w": 2}}, "pod": {"apiVersion": "v1", "metadata": {"labels": {}, "bad": 1}, "extra": 1},
    });
    let dropped = prune(&schema, &mut object, true);
    assert_eq!(dropped, ["free.strict.s", "map.k.w", "pod.extra", "spec.list[0].y", "spec.b", "other"]);
    assert_eq!(object["free"], json!({"q": {"r": 1}, "strict": {}}));
    let dropped = prune_metadata(&schema, &mut object, true).unwrap();
    assert_eq!(dropped, ["metadata.zz", "pod.metadata.bad"]);
    let missing = embedded(&schema, &object, &Path::default());
    assert_eq!(
        missing.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["pod.kind: Required value: must not be empty"]
    );
}

#[test]
fn defaults_fill_what_is_absent_or_wrongly_null() {
    let schema = parse(&json!({"type": "object", "properties": {
        "a": {"type": "string", "default": "A"}, "n": {"type": "string", "nullable": true, "default": "N"},
        "gone": {"type": "string"},
        "spec": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 1}}},
        "list": {"type": "array", "items": {"type": "object", "properties": {"c": {"type": "boolean", "default": true}}}},
    }}));
    let mut object = json!({"a": null, "n": null, "gone": null, "list": [{}]});
    drop_nulls(&schema, &mut object);
    default(&schema, &mut object);
    assert_eq!(object, json!({"a": "A", "n": null, "spec": {"b": 1}, "list": [{"c": true}]}));
}

#[test]
fn lists_that_are_sets_or_maps_hold_nothing_twice() {
    let schema = parse(&spec(json!({"type": "object", "properties": {
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object"}},
    }})));
    let value = json!({"spec": {"set": ["a", "b", "a", "a"], "map": [{"k": 1}, {"k": 2}, {"k": 1}]}});
    let found: Vec<String> = unique(&schema, &value, &Path::default()).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["spec.map[2]: Duplicate value: {\"k\":1}", "spec.set[2]: Duplicate value: \"a\""]);
}

#[test]
fn a_schema_must_be_structural() {
    let path = Path::new("s");
    let problems = |schema: Value| -> Vec<String> {
        check_nodes(&schema, &parse(&schema), false, &path).iter().map(ToString::to_string).collect()
    };
    assert!(problems(spec(json!({"type": "object"}))).is_empty());
    assert_eq!(
        problems(json!({"properties": {"spec": {}}})),
        [
            "s.properties[spec].type: Required value: must not be empty for specified object fields",
            "s.type: Required value: must not be empty at the root",
        ]
    );
    assert_eq!(
        problems(spec(json!({"type": "object", "anyOf": [{"properties": {"x": {"type": "string"}}}]}))),
        [
            "s.properties[spec].anyOf[0].properties[x].type: Forbidden: must be empty to be structural",
            "s.properties[spec].properties[x]: Required value: because it is defined in s.properties[spec].anyOf[0].properties[x]",
        ]
    );
    let port = json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]});
    assert!(problems(spec(port)).is_empty());
    assert_eq!(
        problems(spec(json!({"type": "object", "properties": {"x": {"type": "string", "default": 1}}}))),
        ["s.properties[spec].properties[x].default: Invalid value: \"integer\": s.properties[spec].properties[x].default in body must be of type string: \"integer\""
            .replace("s.properties[spec].properties[x].default in body", " in body")]
    );
    let list = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object", "properties": {"k": {"type": "string"}}}});
    assert_eq!(
        problems(spec(list)),
        [
            "s.properties[spec].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
        ]
    );
    assert_eq!(
        problems(
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}})
        ),
        [
            "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"
        ]
    );
}

#[test]
fn paths_find_cells() {
    let object = json!({"spec": {"a.b": 1, "list": [{"n": 1}, {"n": 2}]},
        "status": {"conditions": [{"type": "X", "status": "False"}, {"type": "Ready", "status": "True"}]}});
    let find =
        |text: &str| -> Vec<Value> { JsonPath::parse(text).unwrap().find(&object).into_iter().cloned().collect() };
    assert_eq!(find(".status.conditions[?(@.type==\"Ready\")].status"), [json!("True")]);
    assert_eq!(find(".status.conditions[?(@.type == 'Ready')].status"), [json!("True")]);
    assert_eq!(find(".spec.list[*].n"), [json!(1), json!(2)]);
    assert_eq!(find(".spec.list[-1].n"), [json!(2)]);
    assert_eq!(find(".spec.list[?(@.n>1)].n"), [json!(2)]);
    assert_eq!(find(".spec.a\\.b"), [json!(1)]);
    assert_eq!(find(".spec['a.b']"), [json!(1)]);
    assert!(find(".spec.none.deeper").is_empty());
    for bad in ["spec", ".spec[", ".spec.", ".a[x]"] {
        assert!(JsonPath::parse(bad).is_err(), "{bad}");
    }
    let schema = parse(&spec(json!({"type": "object", "properties": {"x": {"type": "string"}}})));
    assert_eq!(jsonpath::field(&schema, ".spec.x", false).unwrap().0.as_str(), "spec.x");
    assert!(jsonpath::field(&schema, ".spec.y", false).is_err() && jsonpath::field(&schema, "spec.x", false).is_err());
}

#[test]
fn formats_are_those_upstream_checks() {
    for (format, good, bad) in [
        ("ipv4", "10.0.0.1", "10.0.0"),
        ("cidr", "10.0.0.0/8", "10.0.0.0"),
        ("date", "2026-01-31", "2026-02-31"),
        ("date-time", "2026-01-31T10:00:00.5Z", "2026-01-31"),
        ("duration", "1h30m", "1x"),
        ("duration", "22 seconds", "seconds"),
        ("uuid4", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d", "9b1deb4d-3b7d-1bad-9bdd-2b0d7b3dcb6d"),
        ("uri", "https://a.example/x?y=%20", "a b"),
        ("email", "a@b.example", "ab.example"),
        ("byte", "aGk=", "a"),
        ("mac", "00:00:5e:00:53:01", "00:00:5e:00:53"),
        ("isbn", "0321751043", "0321751044"),
        ("hexcolor", "#FFFFFF", "#FFFFF"),
    ] {
        assert_eq!((formats::check(format, good), formats::check(format, bad)), (Some(true), Some(false)), "{format}");
    }
    assert_eq!(formats::check("int32", "x"), None);
}

#[test]
fn published_schemas_say_what_resources_have() {
    let written = spec(json!({"type": "object", "x-kubernetes-embedded-resource": false, "properties": {
        "port": {"x-kubernetes-int-or-string": true}, "n": {"type": "string", "nullable": true}}, "required": ["n"]}));
    let v3 = openapi::v3(&written, "a.example.com", "v1", "K");
    assert_eq!(v3["x-kubernetes-group-version-kind"][0]["kind"], "K");
    assert!(v3["properties"]["spec"].get("x-kubernetes-embedded-resource").is_none());
    assert_eq!(v3["properties"]["spec"]["properties"]["n"]["nullable"], true);
    let v2 = openapi::v2(&written, "a.example.com", "v1", "K");
    assert_eq!(v2["properties"]["spec"]["properties"]["n"], json!({}));
    assert_eq!(v2["properties"]["metadata"]["$ref"], "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    let open = openapi::v2(
        &json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}}),
        "g.x",
        "v1",
        "K",
    );
    assert!(open.get("properties").is_none());
    assert_eq!(openapi::definition_name("a.example.com", "v1", "K"), "com.example.a.v1.K");
}
