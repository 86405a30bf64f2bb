#![allow(clippy::unwrap_used)]

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;

use super::*;

const POD: &str = "io.k8s.api.core.v1.Pod";
const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";

fn strategic(definition: &str, mut object: Value, patch: Value) -> Value {
    strategic_merge(definition, &mut object, &patch).unwrap();
    object
}

#[test]
fn json_patch_is_all_or_nothing() {
    let mut object = json!({"a": [1, 2]});
    let patch = json!([{"op": "add", "path": "/a/-", "value": 3}, {"op": "test", "path": "/a/0", "value": 9}]);
    assert!(matches!(json_patch(&mut object, &patch), Err(PatchError::Rejected(_))));
    assert_eq!(object, json!({"a": [1, 2]}));
    assert!(matches!(json_patch(&mut object, &json!({"op": "add"})), Err(PatchError::Malformed(_))));
    json_patch(
        &mut object,
        &json!([{"op": "replace", "path": "/a/1", "value": 7}, {"op": "copy", "from": "/a", "path": "/b"}]),
    )
    .unwrap();
    assert_eq!(object, json!({"a": [1, 7], "b": [1, 7]}));
}

#[test]
fn merge_patch_follows_the_rfc() {
    let table = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!({"a": "c"}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
    ];
    for (mut object, patch, wanted) in table {
        merge_patch(&mut object, &patch);
        assert_eq!(object, wanted);
    }
}

#[test]
fn lists_merge_by_key() {
    let pod = json!({"spec": {"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b"}], "tolerations": [{"key": "k"}]}});
    let got = strategic(
        POD,
        pod,
        json!({"spec": {"containers": [{"name": "a", "image": "2", "args": ["y"]}, {"name": "c"}], "tolerations": []}}),
    );
    assert_eq!(
        got,
        json!({"spec": {"containers": [{"name": "a", "image": "2", "args": ["y"]}, {"name": "b"}, {"name": "c"}], "tolerations": []}})
    );
}

#[test]
fn directives_act_and_vanish() {
    let pod = || json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1"}}, "spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}]}});
    let got = strategic(POD, pod(), json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}));
    assert_eq!(got["spec"]["containers"], json!([{"name": "b"}]));
    let got = strategic(POD, pod(), json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}}));
    assert_eq!(got["spec"]["containers"], json!([{"name": "z"}]));
    let got = strategic(
        POD,
        pod(),
        json!({"metadata": {"labels": {"$patch": "replace", "y": "2"}, "$deleteFromPrimitiveList/finalizers": ["a"]}}),
    );
    assert_eq!(got["metadata"], json!({"finalizers": ["b"], "labels": {"y": "2"}}));
    let got = strategic(
        POD,
        pod(),
        json!({"metadata": {"$patch": "delete"}, "spec": {"containers": [{"name": "a", "$patch": "merge", "image": null}]}}),
    );
    assert_eq!(got, json!({"metadata": {}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}));
    let got = strategic(POD, pod(), json!({"metadata": {"finalizers": ["b", "c"]}}));
    assert_eq!(got["metadata"]["finalizers"], json!(["a", "b", "c"]));
    assert!(strategic_merge(POD, &mut pod(), &json!({"spec": {"$patch": "other"}})).is_err());
    assert!(strategic_merge(POD, &mut pod(), &json!({"spec": {"containers": [{"image": "x"}]}})).is_err());
}

#[test]
fn element_order() {
    let pod = || json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "own"}, {"name": "c"}]}});
    let names = |v: &Value| {
        v["spec"]["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}, {"name": "n"}, {"name": "c"}], "containers": [{"name": "n"}]}});
    assert_eq!(names(&strategic(POD, pod(), patch)), ["b", "a", "n", "own", "c"]);
    let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}});
    assert_eq!(names(&strategic(POD, pod(), patch)), ["own", "c", "a", "b"]);
}

#[test]
fn retain_keys_switches_strategies() {
    let deployment = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let got =
        strategic(DEPLOYMENT, deployment, json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}));
    assert_eq!(got["spec"]["strategy"], json!({"type": "Recreate"}));
    let pod = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
    let got = strategic(
        POD,
        pod,
        json!({"spec": {"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/x"}}]}}),
    );
    assert_eq!(got["spec"]["volumes"], json!([{"name": "v", "hostPath": {"path": "/x"}}]));
}

#[test]
fn new_objects_take_no_nulls_and_no_directives() {
    let patch = json!({"spec": {"securityContext": {"runAsUser": null, "fsGroup": 1}, "volumes": [{"name": "v", "$retainKeys": ["name"], "emptyDir": null}]}});
    assert_eq!(
        strategic(POD, json!({}), patch),
        json!({"spec": {"securityContext": {"fsGroup": 1}, "volumes": [{"name": "v"}]}})
    );
}

/// Property: applying a patch twice is applying it once, and no directive is ever stored.
#[test]
fn patches_are_idempotent() {
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..2000 {
        let object =
            json!({"metadata": random_metadata(&mut rng), "spec": {"containers": random_containers(&mut rng, false)}});
        let mut patch =
            json!({"metadata": random_metadata(&mut rng), "spec": {"containers": random_containers(&mut rng, true)}});
        if rng.random_bool(0.3) {
            patch["spec"]["$setElementOrder/containers"] = json!([{"name": "c"}, {"name": "a"}]);
        }
        let once = strategic(POD, object, patch.clone());
        assert!(!once.to_string().contains('$'), "{once}");
        assert_eq!(strategic(POD, once.clone(), patch.clone()), once, "{patch}");
    }
}

fn random_metadata(rng: &mut StdRng) -> Value {
    let pick = |rng: &mut StdRng| ["1", "2", "3"][rng.random_range(0..3)];
    let finalizers: std::collections::BTreeSet<&str> = (0..rng.random_range(0..3)).map(|_| pick(rng)).collect();
    json!({"labels": {pick(rng): pick(rng)}, "finalizers": finalizers})
}

fn random_containers(rng: &mut StdRng, patch: bool) -> Value {
    let mut list = Vec::new();
    for name in ["a", "b", "c", "d"] {
        if rng.random_bool(0.5) {
            let mut container = json!({"name": name, "image": rng.random_range(0..3).to_string(), "env": [{"name": "E", "value": name}]});
            if patch && rng.random_bool(0.3) {
                container = json!({"name": name, "$patch": "delete"});
            }
            list.push(container);
        }
    }
    Value::Array(list)
}

#[test]
fn copies_are_bounded() {
    let mut object = json!({"a": {"x": "y".repeat(1000)}});
    let before = object.clone();
    let doubling: Vec<Value> =
        (0..40).map(|i| json!({"op": "copy", "from": "/a", "path": format!("/a/c{i}")})).collect();
    let error = json_patch(&mut object, &Value::Array(doubling)).unwrap_err();
    assert!(matches!(&error, PatchError::Rejected(why) if why.contains("accumulated size")), "{error}");
    assert_eq!(object, before, "all or nothing");
    json_patch(&mut object, &json!([{"op": "copy", "from": "/a/x", "path": "/b"}])).unwrap();
    assert_eq!(object["b"], object["a"]["x"]);
}
