#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn full() -> Value {
    json!({
        "metadata": {"name": "a", "namespace": "b", "annotations": {"mine": "1"}},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 2, "maxReplicas": 5,
            "metrics": [
                v2::cpu(50),
                {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "3"}}},
            ],
            "behavior": {"scaleDown": {"selectPolicy": "Min", "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}
        },
        "status": {
            "currentReplicas": 2, "desiredReplicas": 3,
            "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "70m"}}}],
            "conditions": [{"type": "AbleToScale", "status": "True"}]
        }
    })
}

#[test]
fn v1_holds_everything_v2_has() {
    let mut object = full();
    v1::from_v2(&mut object);
    assert_eq!(object["spec"]["targetCPUUtilizationPercentage"], 50);
    assert_eq!(object["status"]["currentCPUUtilizationPercentage"], 7);
    let annotations = &object["metadata"]["annotations"];
    let metrics: Value =
        serde_json::from_str(annotations["autoscaling.alpha.kubernetes.io/metrics"].as_str().unwrap()).unwrap();
    assert_eq!(metrics[0], json!({"type": "Pods", "pods": {"metricName": "rps", "targetAverageValue": "10"}}));
    let behavior = annotations["autoscaling.alpha.kubernetes.io/behavior"].as_str().unwrap();
    assert!(behavior.contains("\"ScaleDown\":{") && behavior.contains("\"PeriodSeconds\":60"), "{behavior}");
    v1::to_v2(&mut object);
    assert_eq!(object, full());
}

#[test]
fn v1_without_a_target_gets_the_default() {
    let mut object = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 2}});
    v1::defaults(&mut object);
    v1::to_v2(&mut object);
    assert_eq!(object["spec"]["metrics"], json!([v2::cpu(80)]));
    assert!(object.get("status").is_none());
}

#[test]
fn defaults_fill_behavior_only_where_it_is_asked_for() {
    let mut object = json!({"spec": {"maxReplicas": 2, "behavior": {"scaleUp": {"selectPolicy": "Disabled"}}}});
    v2::defaults(&mut object);
    assert_eq!(object["spec"]["behavior"]["scaleUp"]["policies"].as_array().unwrap().len(), 2);
    assert_eq!(object["spec"]["behavior"]["scaleUp"]["selectPolicy"], "Disabled");
    assert_eq!(object["spec"]["behavior"]["scaleDown"].get("stabilizationWindowSeconds"), None);
}

fn changed(patch: Value) -> Value {
    let mut object = full();
    crate::patch::merge_patch(&mut object, &json!({"spec": patch}));
    object
}

fn texts(object: &Value) -> Vec<String> {
    validate::create(object).iter().map(ToString::to_string).collect()
}

#[test]
fn faults_have_upstreams_texts() {
    let change = |patch: Value| texts(&changed(patch));
    assert_eq!(change(json!({})), Vec::<String>::new());
    assert_eq!(change(json!({"minReplicas": 0})), [""; 0]);
    let unknown = "spec.metrics[0].type: Unsupported value: \"Foo\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"";
    for (patch, wanted) in [
        (json!({"minReplicas": -1}), vec!["spec.minReplicas: Invalid value: -1: must be greater than or equal to 0"]),
        (
            json!({"maxReplicas": 1}),
            vec!["spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`"],
        ),
        (json!({"scaleTargetRef": {"kind": null}}), vec!["spec.scaleTargetRef.kind: Required value"]),
        (
            json!({"scaleTargetRef": {"apiVersion": "v1"}}),
            vec!["spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group"],
        ),
        (json!({"scaleTargetRef": {"apiVersion": "v1", "kind": "ReplicationController"}}), vec![]),
        (
            json!({"scaleTargetRef": {"apiVersion": "a/b/c"}}),
            vec!["spec.scaleTargetRef.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c"],
        ),
        (
            json!({"minReplicas": 0, "metrics": [v2::cpu(1)]}),
            vec![
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ],
        ),
        (
            json!({"metrics": [{"type": "Resource"}]}),
            vec!["spec.metrics[0].resource: Required value: must populate information for the given metric source"],
        ),
        (json!({"metrics": [{"type": "Foo", "resource": v2::cpu(1)["resource"]}]}), vec![unknown, unknown]),
        (
            json!({"metrics": [v2::cpu(0)]}),
            vec!["spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0"],
        ),
        (
            json!({"metrics": [{"type": "ContainerResource", "containerResource": {
                "name": "pods", "container": "A_b", "target": {"averageValue": "0"}}}]}),
            vec![
                "spec.metrics[0].containerResource.name: Invalid value: \"pods\": must be a standard resource for containers",
                "spec.metrics[0].containerResource.container: Invalid value: \"A_b\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                "spec.metrics[0].containerResource.target.type: Required value: must specify a metric target type",
                "spec.metrics[0].containerResource.target.type: Invalid value: \"\": must be either Utilization, Value, or AverageValue",
                "spec.metrics[0].containerResource.target.averageValue: Invalid value: \"0\": must be positive",
            ],
        ),
        (
            json!({"metrics": [{"type": "Object", "object": {
                "describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m"}, "target": {"type": "Value"}}}]}),
            vec![
                "spec.metrics[0].object.target.averageValue: Required value: must set either a target value or averageValue",
            ],
        ),
        (
            json!({"behavior": {"scaleDown": {"policies": [], "selectPolicy": "", "tolerance": "-1"}}}),
            vec![
                "spec.behavior.scaleDown.selectPolicy: Unsupported value: \"\": supported values: \"Disabled\", \"Max\", \"Min\"",
                "spec.behavior.scaleDown.policies: Required value: must specify at least one Policy",
                "spec.behavior.scaleDown.tolerance: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        ),
    ] {
        assert_eq!(change(patch), wanted);
    }
}

#[test]
fn references_that_were_stored_stay() {
    let old = changed(json!({"scaleTargetRef": {"apiVersion": "v1"}}));
    assert_eq!(validate::update(&old, &old), []);
    assert_eq!(validate::update(&old, &full()).len(), 1);
    let metric = |version: &str| {
        let described = json!({"apiVersion": version, "kind": "Service", "name": "s"});
        let target = json!({"type": "Value", "value": "1"});
        changed(json!({"metrics": [{"type": "Object", "object": {
            "describedObject": described, "metric": {"name": "m"}, "target": target}}]}))
    };
    assert_eq!(validate::update(&metric("a/b/c"), &metric("d/e/f")), []);
    assert_eq!(validate::update(&metric("a/b/c"), &metric("v1")).len(), 1);
}

#[test]
fn targets_are_shown_as_upstream_shows_them() {
    let v2 = &columns::V2[2];
    let crate::resources::Cell::Of(cell) = v2.cell else { unreachable!() };
    assert_eq!(cell(&full()), "cpu: 7%/50%, <unknown>/10 + 1 more...");
}
