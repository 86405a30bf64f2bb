#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn full() -> Value {
    json!({
        "metadata": {"name": "a", "namespace": "b", "annotations": {"mine": "1"}},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 2, "maxReplicas": 5,
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

#[test]
fn faults_have_upstreams_texts() {
    let change = |patch: Value| {
        let mut object = full();
        crate::patch::merge_patch(&mut object, &json!({"spec": patch}));
        validate::spec(&object).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(change(json!({})), Vec::<String>::new());
    for (patch, wanted) in [
        (json!({"minReplicas": 0}), "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1"),
        (
            json!({"maxReplicas": 1}),
            "spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`",
        ),
        (json!({"scaleTargetRef": {"kind": null}}), "spec.scaleTargetRef.kind: Required value"),
        (
            json!({"metrics": [{"type": "Resource"}]}),
            "spec.metrics[0].resource: Required value: must populate information for the given metric source",
        ),
        (
            json!({"metrics": [{"type": "Foo", "resource": v2::cpu(1)["resource"]}]}),
            "spec.metrics[0].type: Unsupported value: \"Foo\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"",
        ),
        (
            json!({"metrics": [v2::cpu(0)]}),
            "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
        ),
        (
            json!({"behavior": {"scaleDown": {"policies": []}}}),
            "spec.behavior.scaleDown.policies: Required value: must specify at least one Policy",
        ),
    ] {
        assert_eq!(change(patch), [wanted]);
    }
}

#[test]
fn targets_are_shown_as_upstream_shows_them() {
    let v2 = &columns::V2[2];
    let crate::resources::Cell::Of(cell) = v2.cell else { unreachable!() };
    assert_eq!(cell(&full()), "cpu: 7%/50%, <unknown>/10 + 1 more...");
}
