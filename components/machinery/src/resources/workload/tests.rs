#![allow(clippy::unwrap_used)]

use super::*;
use crate::resources::find;

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(FieldError::to_string).collect()
}

fn workload(extra: Value) -> Value {
    let mut object = json!({"metadata": {"name": "a", "uid": "u"}, "spec": {
        "selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "x:1"}]}}}});
    crate::patch::merge_patch(&mut object, &extra);
    object
}

#[test]
fn defaults_are_upstreams_and_idempotent() {
    for (plural, pointer, wanted) in [
        (
            "deployments",
            "/spec/strategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
        ),
        ("statefulsets", "/spec/updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})),
        (
            "daemonsets",
            "/spec/updateStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}),
        ),
        ("replicasets", "/spec/replicas", json!(1)),
    ] {
        let strategy = find("apps", "v1", plural).unwrap().strategy;
        let mut object = workload(json!({}));
        (strategy.default)(&mut object);
        assert_eq!(object.pointer(pointer), Some(&wanted), "{plural}");
        assert_eq!(object.pointer("/spec/template/spec/restartPolicy"), Some(&json!("Always")));
        let once = object.clone();
        (strategy.default)(&mut object);
        assert_eq!(object, once);
        assert_eq!(texts(&(strategy.validate_create)(&object)), Vec::<String>::new(), "{plural}");
        assert!((strategy.validate_update)(&object, &once).is_empty());
    }
}

#[test]
fn selectors_must_fit_and_stay() {
    let mut wrong = workload(json!({"spec": {"selector": {"matchLabels": {"app": "b"}}}}));
    deployment_defaults(&mut wrong);
    assert_eq!(
        texts(&deployment(&wrong)),
        ["spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"]
    );
    let mut new = workload(
        json!({"spec": {"selector": {"matchLabels": {"x": "y"}}, "template": {"metadata": {"labels": {"x": "y"}}}}}),
    );
    let mut old = workload(json!({}));
    deployment_defaults(&mut new);
    deployment_defaults(&mut old);
    assert_eq!(
        texts(&deployment_update(&new, &old)),
        ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"a\",\"x\":\"y\"}}: field is immutable"]
    );
    let mut none = workload(json!({"spec": {"selector": null}}));
    deployment_defaults(&mut none);
    assert_eq!(
        texts(&deployment(&none)),
        [
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"
        ]
    );
}

type Kind = (fn(&mut Value), fn(&Value) -> Vec<FieldError>);

#[test]
fn each_fault_has_upstreams_words() {
    const DEPLOYMENT: Kind = (deployment_defaults, deployment);
    const REPLICA_SET: Kind = (replica_set_defaults, replica_set);
    const DAEMON_SET: Kind = (daemon_set_defaults, daemon_set);
    const STATEFUL_SET: Kind = (stateful_set_defaults, stateful_set);
    let cases: &[(Kind, Value, &[&str])] = &[
        (
            DEPLOYMENT,
            json!({"replicas": -1, "minReadySeconds": 600, "revisionHistoryLimit": -1}),
            &[
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
                "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
            ],
        ),
        (
            DEPLOYMENT,
            json!({"strategy": {"type": "Foo"}}),
            &[
                "spec.strategy: Unsupported value: {\"Type\":\"Foo\",\"RollingUpdate\":null}: supported values: \"Recreate\", \"RollingUpdate\"",
            ],
        ),
        (
            DEPLOYMENT,
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}),
            &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
        ),
        (
            DEPLOYMENT,
            json!({"strategy": {"rollingUpdate": {"maxSurge": "x", "maxUnavailable": "101%"}}}),
            &[
                "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            ],
        ),
        (
            DEPLOYMENT,
            json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
            &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"],
        ),
        (
            DEPLOYMENT,
            json!({"template": {"spec": {"restartPolicy": "Never", "activeDeadlineSeconds": 1}}}),
            &[
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
            ],
        ),
        (
            REPLICA_SET,
            json!({"selector": {"matchLabels": null}}),
            &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
        ),
        (
            DAEMON_SET,
            json!({"selector": {"matchLabels": null}}),
            &["spec.selector: Invalid value: {}: empty selector is invalid for daemonset"],
        ),
        (
            DAEMON_SET,
            json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}}),
            &[
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
            ],
        ),
        (
            DAEMON_SET,
            json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}),
            &["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"],
        ),
        (
            DAEMON_SET,
            json!({"updateStrategy": {"type": "x"}}),
            &[
                "spec.updateStrategy: Unsupported value: {\"Type\":\"x\",\"RollingUpdate\":null}: supported values: \"RollingUpdate\", \"OnDelete\"",
            ],
        ),
        (
            STATEFUL_SET,
            json!({"podManagementPolicy": "x", "updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "x"}, "ordinals": {"start": -1}, "serviceName": "a.b"}),
            &[
                "spec.podManagementPolicy: Invalid value: \"x\": must be 'OrderedReady' or 'Parallel'",
                "spec.updateStrategy.rollingUpdate: Invalid value: {\"Partition\":1,\"MaxUnavailable\":null}: only allowed for updateStrategy 'RollingUpdate'",
                "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: \"x\": supported values: \"Retain\", \"Delete\"",
                "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
                "spec.serviceName: Invalid value: \"a.b\": must not contain dots",
            ],
        ),
        (
            STATEFUL_SET,
            json!({"updateStrategy": {"rollingUpdate": {"partition": -1, "maxUnavailable": 0}}}),
            &[
                "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
            ],
        ),
    ];
    for ((default, validate), spec, wanted) in cases {
        let mut object = workload(json!({"spec": spec}));
        default(&mut object);
        assert_eq!(&texts(&validate(&object)), wanted, "{spec}");
    }
}

#[test]
fn containers_of_a_stateful_set_mount_its_claims() {
    let mut object = workload(json!({"spec": {
        "serviceName": "s",
        "volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
    }}));
    object["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "d", "mountPath": "/d"}]);
    stateful_set_defaults(&mut object);
    assert_eq!(texts(&stateful_set(&object)), Vec::<String>::new());
    object["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["name"] = "e".into();
    assert_eq!(
        texts(&stateful_set(&object)),
        ["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"e\""]
    );
}

#[test]
fn stateful_sets_change_little() {
    let mut old = workload(
        json!({"spec": {"serviceName": "s", "volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}}),
    );
    stateful_set_defaults(&mut old);
    assert_eq!(old["spec"]["volumeClaimTemplates"][0]["spec"]["volumeMode"], "Filesystem");
    let mut new = old.clone();
    new["spec"]["replicas"] = 3.into();
    assert!(stateful_set_update(&new, &old).is_empty());
    new["spec"]["serviceName"] = "t".into();
    assert!(
        texts(&stateful_set_update(&new, &old))[0]
            .starts_with("spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals'")
    );
}

#[test]
fn stateful_sets_of_old_stay_as_they_are() {
    let mut old =
        workload(json!({"spec": {"serviceName": "a.b", "volumeClaimTemplates": [{"metadata": {}, "spec": {}}]}}));
    stateful_set_defaults(&mut old);
    let fields = |errors: &[FieldError]| errors.iter().map(|e| e.field.clone()).collect::<Vec<_>>();
    let found = fields(&stateful_set(&old));
    assert_eq!(found[..2], ["spec.serviceName", "spec.volumeClaimTemplates[0].metadata.name"]);
    let mut new = old.clone();
    new["spec"]["replicas"] = 2.into();
    assert_eq!(texts(&stateful_set_update(&new, &old)), [""; 0]);
    new["spec"]["updateStrategy"] = json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}});
    assert_eq!(
        texts(&stateful_set_update(&new, &old)),
        [
            "spec.updateStrategy.rollingUpdate: Invalid value: {\"Partition\":1,\"MaxUnavailable\":null}: only allowed for updateStrategy 'RollingUpdate'"
        ]
    );
    new["spec"]["updateStrategy"] = json!({"type": "Never"});
    assert_eq!(
        texts(&stateful_set_update(&new, &old)),
        [
            "spec.updateStrategy: Invalid value: {\"Type\":\"Never\",\"RollingUpdate\":null}: must be 'RollingUpdate' or 'OnDelete'"
        ]
    );
}

#[test]
fn jobs_select_by_uid() {
    let strategy = find("batch", "v1", "jobs").unwrap().strategy;
    let mut object = json!({"metadata": {"name": "j", "uid": "u1"}, "spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x"}]}}}});
    (strategy.default)(&mut object);
    (strategy.prepare_create)(&mut object);
    assert_eq!(object["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u1"}}));
    assert_eq!(object["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
    assert_eq!(object["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!((&object["spec"]["completions"], &object["spec"]["backoffLimit"]), (&json!(1), &json!(6)));
    assert_eq!(texts(&(strategy.validate_create)(&object)), Vec::<String>::new());
    object["spec"]["template"]["spec"]["restartPolicy"] = "Always".into();
    assert_eq!(
        texts(&(strategy.validate_create)(&object)),
        ["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""]
    );
}

#[test]
fn services_keep_what_was_allocated() {
    let mut old = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "clusterIP": "10.96.0.5", "ports": [{"port": 80, "nodePort": 30001}]}});
    service::defaults(&mut old);
    assert_eq!(old["spec"]["ports"][0], json!({"port": 80, "nodePort": 30001, "protocol": "TCP", "targetPort": 80}));
    let mut new = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 81}]}});
    service::defaults(&mut new);
    service::prepare_update(&mut new, &old);
    assert_eq!((&new["spec"]["clusterIP"], &new["spec"]["ports"][0]["nodePort"]), (&json!("10.96.0.5"), &json!(30001)));
    assert_eq!(texts(&service::validate_update(&new, &old)), Vec::<String>::new());
    new["spec"]["clusterIP"] = "10.96.0.6".into();
    service::prepare_update(&mut new, &old);
    assert_eq!(
        texts(&service::validate_update(&new, &old)),
        ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.6\"]: may not change once set"]
    );
    let mut bad = json!({"spec": {}});
    service::defaults(&mut bad);
    assert_eq!(texts(&service::validate(&bad)), ["spec.ports: Required value"]);
}
