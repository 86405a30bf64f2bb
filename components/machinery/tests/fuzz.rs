//! Whatever comes in, the pure machinery neither panics nor hangs nor grows; and some laws hold for every input.
#![allow(clippy::unwrap_used)]

mod fuzzing;

use fuzzing::{disturb, fuzz, mutated, mutated_text, object, samples, value};
use machinery::apply::FieldSet;
use machinery::patch::{json_patch, merge_patch, strategic_merge};
use machinery::request_info::{RequestInfo, query_bool, query_pairs, query_value};
use machinery::selector::{FieldSelector, LabelSelector};
use machinery::structural::jsonpath::JsonPath;
use machinery::{encoding, names, protobuf, quantity, schema, structural, time};
use rand::Rng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

const POD: &str = "io.k8s.api.core.v1.Pod";

#[test]
fn paths_and_queries() {
    const PATHS: &[&str] = &[
        "/api/v1/namespaces/default/pods/a/log",
        "/apis/apps/v1/watch/deployments",
        "/api/v1/namespaces/a/services/https:b:c/proxy/x/../y",
        "/apis",
        "/api/v1/namespaces/a/finalize",
        "/",
    ];
    const QUERIES: &[&str] = &[
        "labelSelector=a%3Db%2Cc&limit=500&continue=eyJ",
        "watch=1&timeoutSeconds=-1&x&=&&",
        "dryRun=All&fieldManager=%C3%A4",
    ];
    let methods: Vec<http::Method> =
        ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "CONNECT", "X"].map(|m| m.parse().unwrap()).into();
    fuzz(4_000, |rng| {
        let (path, query) = (mutated_text(rng, PATHS), mutated_text(rng, QUERIES));
        RequestInfo::parse(methods.choose(rng).unwrap(), &path, &query);
        for (key, value) in query_pairs(&query) {
            query_bool(&value);
            // the first of a name is what a look-up finds
            assert!(query_value(&query, &key).is_some());
        }
    });
}

#[test]
fn selectors() {
    const LABELS: &[&str] =
        &["a=b,c!=d,!e,f", "x in (a,b,),y notin (c), z", "a==b", "app.kubernetes.io/name=x", "a in ()", "n>1,m<2"];
    const FIELDS: &[&str] = &["metadata.name=a,spec.nodeName!=b", "status.phase==Running", "a\\,b=c\\=d", "=,="];
    let objects = samples();
    fuzz(4_000, |rng| {
        if let Ok(selector) = LabelSelector::parse(&mutated_text(rng, LABELS)) {
            selector.matches_object(objects.choose(rng).unwrap());
        }
        let _ = FieldSelector::parse(&mutated_text(rng, FIELDS));
        if let Ok(selector) = LabelSelector::from_object(Some(&object(rng, 3))) {
            selector.matches_object(&object(rng, 2));
        }
    });
}

#[test]
fn json_patches() {
    let objects = samples();
    fuzz(4_000, |rng| {
        let before = objects.choose(rng).unwrap().clone();
        let operations: Value = (0..rng.random_range(0..6))
            .map(|_| {
                let mut operation =
                    json!({"op": "add", "path": "/metadata/labels/x", "from": "/spec", "value": value(rng, 2)});
                disturb(rng, &mut operation, 2);
                operation
            })
            .collect();
        let mut after = before.clone();
        if json_patch(&mut after, &operations).is_err() {
            assert_eq!(after, before, "a patch that failed left something behind: {operations}");
        }
    });
}

#[test]
fn a_json_patch_cannot_blow_an_object_up() {
    let double = json!({"op": "copy", "from": "/a", "path": "/a/-"});
    let operations: Value = std::iter::repeat_n(double, 64).collect();
    let mut object = json!({"a": ["x"]});
    assert!(json_patch(&mut object, &operations).is_err());
}

#[test]
fn merge_patches() {
    let objects = samples();
    fuzz(4_000, |rng| {
        let patch = object(rng, 4);
        let mut once = objects.choose(rng).unwrap().clone();
        merge_patch(&mut once, &patch);
        let mut twice = once.clone();
        merge_patch(&mut twice, &patch);
        assert_eq!(once, twice, "a merge patch applied twice is applied once: {patch}");
    });
}

#[test]
fn strategic_patches() {
    let objects = samples();
    fuzz(4_000, |rng| {
        let mut after = objects[0].clone();
        let mut patch = objects[0].clone();
        for _ in 0..rng.random_range(1..4) {
            disturb(rng, &mut patch, 6);
        }
        let _ = strategic_merge(POD, &mut after, &patch);
    });
}

#[test]
fn bodies() {
    let texts: Vec<String> = samples().iter().map(Value::to_string).collect();
    let corpus: Vec<&str> = texts.iter().map(String::as_str).collect();
    fuzz(4_000, |rng| {
        let bytes = mutated(rng, &corpus);
        let ours = schema::parse_json(&bytes);
        let theirs = serde_json::from_slice::<Value>(&bytes);
        assert_eq!(ours.is_ok(), theirs.is_ok(), "{}", String::from_utf8_lossy(&bytes));
        if let Ok((mut object, _)) = ours {
            let unknown = if rng.random() { schema::Unknown::Prune } else { schema::Unknown::Keep };
            let _ = schema::check(POD, &mut object, unknown);
        }
    });
}

#[test]
fn deep_bodies_are_refused_and_not_followed() {
    for open in ["[", "{\"a\":"] {
        assert!(schema::parse_json(open.repeat(200_000).as_bytes()).is_err());
    }
}

#[test]
fn decoded_objects() {
    let objects = samples();
    fuzz(4_000, |rng| {
        let mut object = objects[0].clone();
        for _ in 0..rng.random_range(1..4) {
            disturb(rng, &mut object, 6);
        }
        if schema::check(POD, &mut object, schema::Unknown::Prune).is_ok() {
            let mut again = object.clone();
            assert_eq!(schema::check(POD, &mut again, schema::Unknown::Prune).unwrap(), Vec::<String>::new());
            assert_eq!(again, object, "what was decoded decodes to itself");
        }
    });
}

#[test]
fn stored_objects() {
    fuzz(4_000, |rng| {
        let mut before = object(rng, 4);
        for key in ["apiVersion", "kind"] {
            before.as_object_mut().unwrap().remove(key);
        }
        before["metadata"] = json!({"name": "a", "labels": object(rng, 1)});
        let stored = encoding::encode_stored(&before);
        let mut after = encoding::decode_stored(&stored, "v1", "Pod", 7).unwrap();
        assert_eq!(after["metadata"]["resourceVersion"], "7");
        after["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        for key in ["apiVersion", "kind"] {
            after.as_object_mut().unwrap().remove(key);
        }
        // numbers are stored as Go writes them: 1.0 as 1
        assert!(machinery::numbers::same(&after, &before), "{after}\n{before}");
        // and what the disk may have made of it
        let mut broken = stored.to_vec();
        if !broken.is_empty() {
            let at = rng.random_range(0..broken.len());
            broken[at] ^= 1 << rng.random_range(0..8);
        }
        let _ = encoding::decode_stored(&broken, "v1", "Pod", 7);
    });
}

#[test]
fn protobuf() {
    let objects: Vec<Vec<u8>> = samples().iter().map(|object| protobuf::encode(object).unwrap()).collect();
    for (bytes, object) in objects.iter().zip(samples()) {
        assert_eq!(protobuf::decode(bytes, ("", "")).unwrap()["metadata"]["name"], object["metadata"]["name"]);
    }
    fuzz(4_000, |rng| {
        let mut bytes = objects.choose(rng).unwrap().clone();
        for _ in 0..rng.random_range(0..6) {
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..4) {
                0 => bytes[at] = rng.random(),
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, [0, 1, 0x7f, 0x80, 0xff].choose(rng).copied().unwrap()),
                _ => bytes.truncate(at.max(5)),
            }
        }
        let Ok(object) = protobuf::decode(&bytes, ("v1", "Pod")) else { return };
        if let Some(again) = protobuf::encode(&object) {
            assert_eq!(
                protobuf::decode(&again, ("v1", "Pod")).unwrap(),
                object,
                "what was decoded is encoded and decoded to itself"
            );
        }
    });
    // groups within groups, and lengths that promise more than there is
    for bytes in [[0x0b; 100_000].to_vec(), [b"k8s\0".as_slice(), &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat()] {
        assert!(protobuf::decode(&bytes, ("v1", "Pod")).is_err());
    }
}

#[test]
fn structural_schemas() {
    let string = json!({"type": "string", "default": "d", "maxLength": 5});
    let list = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "items": {"type": "object", "required": ["name"], "properties": {"name": string, "value": {"type": "integer"}}}});
    let good = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"a": string, "containers": list}},
        "data": {"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": true}},
        "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}});
    fuzz(3_000, |rng| {
        let mut written = good.clone();
        for _ in 0..rng.random_range(0..4) {
            disturb(rng, &mut written, 6);
        }
        let schema = structural::parse(&written);
        let problems = structural::check(&schema, &machinery::Path::new("spec"));
        let mut object = json!({"apiVersion": "a.b/v1", "kind": "Foo", "metadata": {"name": "x"}, "spec": value(rng, 4), "data": value(rng, 2)});
        if problems.is_empty() {
            structural::prune(&schema, &mut object, true);
            structural::default(&schema, &mut object);
            let before = object.clone();
            structural::prune(&schema, &mut object, true);
            structural::default(&schema, &mut object);
            assert_eq!(object, before, "pruning and defaulting a second time changes nothing: {written}");
            structural::validate(&schema, &object, None);
        }
    });
}

#[test]
fn field_sets() {
    fuzz(4_000, |rng| {
        let fields = object(rng, 4);
        if let Ok(set) = FieldSet::decode(&fields) {
            let again = FieldSet::decode(&set.clone().encode()).unwrap();
            assert_eq!(again.paths(), set.paths());
            assert_eq!(set.union(&again).paths(), set.paths());
            assert!(set.difference(&again).paths().is_empty());
        }
    });
}

#[test]
fn small_notations() {
    const TEXTS: &[&str] = &[
        "100m",
        "1.5Gi",
        "1e3",
        "-0.1n",
        "2020-01-01T00:00:00Z",
        "a.b-c/d_e",
        "{.spec.a[0].b}",
        ".metadata.name",
        "12E",
    ];
    fuzz(4_000, |rng| {
        let text = mutated_text(rng, TEXTS);
        if let Ok(quantity) = quantity::from_json(&json!(text)) {
            let written = quantity.to_string();
            let again = quantity::from_json(&json!(written)).unwrap();
            assert_eq!(again.to_string(), written, "{text}");
            quantity.approximate();
            quantity.milli_value();
        }
        if let Some(at) = time::parse(&text) {
            time::rfc3339(at);
        }
        time::age(&text);
        names::qualified_name(&text);
        names::dns1123_subdomain(&text);
        if let Ok(path) = JsonPath::parse(&text) {
            path.find(&object(rng, 3));
        }
    });
}
