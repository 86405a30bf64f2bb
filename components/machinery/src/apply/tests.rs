#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";

fn rules<'a>(shape: &'a Shape, reset: &'a FieldSet) -> Rules<'a> {
    Rules { shape, reset, versions: &OneVersion }
}

fn writer(manager: &str) -> Writer<'_> {
    Writer { manager, api_version: "apps/v1", subresource: "", time: "2026-01-01T00:00:00Z" }
}

fn deployment(replicas: i64, containers: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": containers}}},
    })
}

fn apply_as(live: Option<&Value>, config: &Value, manager: &str, force: bool) -> Result<Value, ApplyError> {
    let (shape, reset) = (built_in(DEPLOYMENT), FieldSet::of(&[&["status"]]));
    let config = Configuration { object: config, force, api_version: "apps/v1", kind: "Deployment" };
    apply(live, &config, &writer(manager), &rules(&shape, &reset))
}

fn updated(live: Option<&Value>, mut new: Value, manager: &str) -> Value {
    let (shape, reset) = (built_in(DEPLOYMENT), FieldSet::of(&[&["status"]]));
    update(live, &mut new, &writer(manager), &rules(&shape, &reset));
    new
}

fn owned(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.into_iter().find(|e| e["manager"] == manager).map_or(Value::Null, |e| e["fieldsV1"].clone())
}

fn message(error: ApplyError) -> String {
    crate::ApiError::from(error).message
}

#[test]
fn a_creator_owns_what_it_wrote() {
    let made = updated(
        None,
        deployment(1, json!([{"name": "c", "image": "x", "ports": [{"containerPort": 80}]}])),
        "kubectl-create",
    );
    let wanted = json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
        "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
            ".": {},
            "k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}, "f:ports": {
                ".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}},
    });
    assert_eq!(owned(&made, "kubectl-create"), wanted);
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!((&entry["operation"], &entry["fieldsType"]), (&json!("Update"), &json!("FieldsV1")));
}

#[test]
fn updates_take_over_and_removals_are_forgotten() {
    let made = updated(None, deployment(1, json!([{"name": "c", "image": "x"}])), "a");
    let mut new = made.clone();
    new["spec"]["replicas"] = 3.into();
    new["metadata"]["labels"] = json!({"b": "1"});
    let now = updated(Some(&made), new, "b");
    assert_eq!(owned(&now, "b"), json!({"f:metadata": {"f:labels": {"f:b": {}}}, "f:spec": {"f:replicas": {}}}));
    assert!(owned(&now, "a")["f:spec"].get("f:replicas").is_none());
    assert_eq!(owned(&now, "a")["f:metadata"]["f:labels"], json!({}));
    // nothing changes: nobody gets anything
    assert_eq!(updated(Some(&now), now.clone(), "c"), now);
    let mut forget = now.clone();
    forget["metadata"]["managedFields"] = json!([{}]);
    assert_eq!(updated(Some(&now), forget, "c")["metadata"].get("managedFields"), None);
    // a client that sends none does not delete them
    let mut silent = now.clone();
    silent["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(updated(Some(&now), silent, "c"), now);
}

#[test]
fn applying_merges_prunes_and_conflicts() {
    let first = deployment(
        1,
        json!([{"name": "c", "image": "x", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}]),
    );
    let live = apply_as(None, &first, "a", false).unwrap();
    assert_eq!(owned(&live, "a")["f:metadata"], json!({"f:labels": {"f:app": {}}}));
    // another applier adds a container and shares a value
    let second = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "d", "image": "y"}]}}},
    });
    let live = apply_as(Some(&live), &second, "b", false).unwrap();
    let containers = live["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.iter().map(|c| c["name"].as_str().unwrap()).collect::<Vec<_>>(), ["c", "d"]);
    let mut third = second.clone();
    third["spec"]["replicas"] = 5.into();
    let error = apply_as(Some(&live), &third, "b", false).unwrap_err();
    assert_eq!(message(error), "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
    let forced = apply_as(Some(&live), &third, "b", true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 5);
    assert!(owned(&forced, "a")["f:spec"].get("f:replicas").is_none());
    // what "a" no longer applies goes, what "b" owns stays
    let fewer = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x", "env": [{"name": "B", "value": "2"}]}]}}},
    });
    let pruned = apply_as(Some(&forced), &fewer, "a", false).unwrap();
    assert_eq!(pruned["metadata"].get("labels"), None);
    assert_eq!(pruned["spec"]["replicas"], 5);
    let containers = &pruned["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0]["env"], json!([{"name": "B", "value": "2"}]));
    assert_eq!(containers[1]["name"], "d");
    // the same again changes nothing, times included
    let mut again = pruned.clone();
    again["metadata"]["managedFields"][0]["time"] = "2025-01-01T00:00:00Z".into();
    again["metadata"]["managedFields"][1]["time"] = "2025-01-01T00:00:00Z".into();
    assert_eq!(apply_as(Some(&again), &fewer, "a", false).unwrap(), again);
}

#[test]
fn updaters_conflict_with_their_version() {
    let made = updated(None, deployment(1, json!([{"name": "c", "image": "x"}])), "kubectl-create");
    let config = deployment(2, json!([{"name": "c", "image": "y"}]));
    let error = crate::ApiError::from(apply_as(Some(&made), &config, "me", false).unwrap_err());
    assert_eq!(
        error.message,
        "Apply failed with 2 conflicts: conflicts with \"kubectl-create\" using apps/v1:\n- .spec.replicas\n- .spec.template.spec.containers[name=\"c\"].image"
    );
    let causes = &error.to_value()["details"]["causes"];
    assert_eq!(
        causes[0],
        json!({"reason": "FieldManagerConflict", "message": "conflict with \"kubectl-create\" using apps/v1", "field": ".spec.replicas"})
    );
}

#[test]
fn first_applies_find_an_owner_for_what_was_there() {
    let mut old = deployment(1, json!([{"name": "c", "image": "x"}]));
    let config = deployment(2, json!([{"name": "c", "image": "x"}]));
    let error = apply_as(Some(&old), &config, "me", false).unwrap_err();
    assert!(message(error).contains("conflict with \"before-first-apply\" using apps/v1: .spec.replicas"));
    // kubectl's own client-side apply is no stranger
    old["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": deployment(1, json!([{"name": "c", "image": "x"}])).to_string()});
    let live = updated(None, old, "kubectl-client-side-apply");
    let applied = apply_as(Some(&live), &config, "kubectl", false).unwrap();
    assert_eq!(applied["spec"]["replicas"], 2);
    let note = applied["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(note).unwrap()["spec"]["replicas"], 2);
    assert!(apply_as(Some(&live), &config, "other", false).is_err());
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut bad = deployment(1, json!([{"name": "c"}]));
    bad["spec"]["foo"] = 1.into();
    let error = apply_as(None, &bad, "a", false).unwrap_err();
    assert_eq!(
        message(error),
        "failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema"
    );
    let twice = deployment(1, json!([{"name": "c"}, {"name": "c"}]));
    assert!(
        message(apply_as(None, &twice, "a", false).unwrap_err())
            .ends_with(".spec.template.spec.containers: duplicate entries for key [name=\"c\"]")
    );
    let mut version = deployment(1, json!([]));
    version["apiVersion"] = "apps/v1beta1".into();
    assert!(
        message(apply_as(None, &version, "a", false).unwrap_err())
            .starts_with("Incorrect version specified in apply patch.")
    );
    let mut managed = deployment(1, json!([]));
    managed["metadata"]["managedFields"] = json!([]);
    assert_eq!(message(apply_as(None, &managed, "a", false).unwrap_err()), "metadata.managedFields must be nil");
}

#[test]
fn many_updaters_become_one() {
    let mut object = updated(None, deployment(0, json!([])), "m0");
    for index in 1..14 {
        let mut new = object.clone();
        new["metadata"]["labels"][format!("l{index}")] = "1".into();
        object = updated(Some(&object), new, &format!("m{index:02}"));
    }
    let managers = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(managers.len(), 10);
    assert!(owned(&object, "ancient-changes")["f:metadata"]["f:labels"].get("f:app").is_some());
}

#[test]
fn custom_shapes_come_from_the_schema() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
            "items": {"type": "object", "properties": {"port": {"type": "integer"}, "x": {"type": "string"}}}},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "plain": {"type": "array", "items": {"type": "string"}},
        "one": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": {"type": "string"}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }}}});
    let (shape, reset) = (structural(Some(&schema)), FieldSet::default());
    let object = json!({"apiVersion": "e.x/v1", "kind": "E", "metadata": {"name": "e"}, "spec": {
        "ports": [{"port": 1, "x": "y"}], "tags": ["a"], "plain": ["a"], "one": {"a": "b"}, "free": {"q": {"r": [1]}}}});
    let config = Configuration { object: &object, force: false, api_version: "e.x/v1", kind: "E" };
    let by = Writer { api_version: "e.x/v1", ..writer("a") };
    let live = apply(None, &config, &by, &rules(&shape, &reset)).unwrap();
    assert_eq!(
        owned(&live, "a"),
        json!({"f:spec": {
        "f:ports": {"k:{\"port\":1}": {".": {}, "f:port": {}, "f:x": {}}}, "f:tags": {"v:\"a\"": {}}, "f:plain": {},
        "f:one": {}, "f:free": {"f:q": {".": {}, "f:r": {}}}}})
    );
    let other = json!({"apiVersion": "e.x/v1", "kind": "E", "metadata": {"name": "e"}, "spec": {"tags": ["b"], "ports": [{"port": 2}]}});
    let config = Configuration { object: &other, ..config };
    let live = apply(Some(&live), &config, &Writer { manager: "b", ..by }, &rules(&shape, &reset)).unwrap();
    assert_eq!(live["spec"]["tags"], json!(["a", "b"]));
    assert_eq!(live["spec"]["ports"], json!([{"port": 1, "x": "y"}, {"port": 2}]));
    let unknown = json!({"apiVersion": "e.x/v1", "kind": "E", "metadata": {"name": "e"}, "spec": {"nope": 1}});
    let error = apply(None, &Configuration { object: &unknown, ..config }, &by, &rules(&shape, &reset)).unwrap_err();
    assert!(message(error).ends_with(".spec.nope: field not declared in schema"));
}

#[test]
fn orders_of_lists_follow_the_configuration() {
    let list = |names: &[&str]| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "w"},
        "spec": {"template": {"spec": {"containers": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()}}}})
    };
    let order = |live: &[&str], config: &[&str]| {
        let merged = merge::merge(&list(live), &list(config), &built_in(DEPLOYMENT));
        let names: Vec<String> = merged["spec"]["template"]["spec"]["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect();
        names.join("")
    };
    assert_eq!(order(&["a", "b", "c"], &["b"]), "abc");
    assert_eq!(order(&["a", "b", "c"], &["c", "a"]), "bca");
    assert_eq!(order(&["a", "b"], &["x", "b"]), "axb");
    assert_eq!(order(&["a", "b"], &["b", "x", "a"]), "bxa");
}

#[test]
fn sets_read_what_they_write() {
    let text = json!({"f:a": {".": {}, "f:b": {}}, "k:{\"x\":1,\"a\":\"b\"}": {}, "v:1": {}, "i:0": {}, "z:unknown": {"f:q": {}}});
    let set = FieldSet::decode(&text).unwrap();
    assert_eq!(set.encode(), json!({"f:a": {".": {}, "f:b": {}}, "k:{\"a\":\"b\",\"x\":1}": {}, "v:1": {}, "i:0": {}}));
    assert!(FieldSet::decode(&json!({"k:{": {}})).is_err() && FieldSet::decode(&json!({"f:a": 1})).is_err());
}

#[test]
fn every_extension_names_a_field() {
    for (definition, fields) in crate::schema::all() {
        let Some(known) = extension(definition, "").or(Some(&Value::Null)) else { continue };
        assert!(known.is_null() || known.is_object());
        for field in fields.keys() {
            if let Some(extension) = extension(definition, field) {
                assert!(extension.is_object(), "{definition}.{field}");
            }
        }
    }
    assert_eq!(
        extension("io.k8s.api.core.v1.ServiceSpec", "ports").unwrap()["list-map-keys"],
        json!(["port", "protocol"])
    );
}
