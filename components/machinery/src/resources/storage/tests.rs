use super::*;
use crate::{
    patch::merge_patch,
    resources::storage::{claim, claim_defaults, claim_update},
};

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(FieldError::to_string).collect()
}

fn new_claim(extra: Value) -> Value {
    let mut c = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    merge_patch(&mut c, &extra);
    claim_defaults(&mut c);
    c
}

#[test]
fn claims_fail_in_upstreams_words() {
    let cases: &[(Value, &[&str])] = &[
        (json!({}), &[]),
        (
            json!({"accessModes": null, "resources": null}),
            &[
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Required value",
            ],
        ),
        (
            json!({"accessModes": ["x", "ReadWriteOncePod"], "volumeMode": "y", "resources": {"requests": {"storage": "-1"}}}),
            &[
                "spec.accessModes: Unsupported value: \"x\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                "spec.resources[storage]: Invalid value: \"-1\": must be greater than zero",
                "spec.volumeMode: Unsupported value: \"y\": supported values: \"Block\", \"Filesystem\"",
            ],
        ),
        (
            json!({"accessModes": ["ReadWriteMany", "ReadWriteOncePod"]}),
            &["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
        ),
        (
            json!({"dataSource": {"kind": "Pod"}}),
            &[
                "spec.dataSource.name: Required value",
                "spec.dataSource: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                "spec.dataSourceRef.name: Required value",
                "spec.dataSourceRef: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            ],
        ),
        (
            json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "a"}, "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "b"}}),
            &["spec: Invalid value: {}: must match dataSourceRef"],
        ),
    ];
    for (spec, wanted) in cases {
        assert_eq!(&texts(&claim(&new_claim(json!({"spec": spec})))), wanted, "{spec}");
    }
}

#[test]
fn claims_change_little() {
    let free = new_claim(json!({}));
    let bound = new_claim(json!({
        "spec": {"volumeName": "pv", "storageClassName": "local"},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
    }));
    assert_eq!(texts(&claim_update(&bound, &free)), [""; 0]);
    let mut moved = bound.clone();
    moved["spec"]["volumeName"] = "other".into();
    let fixed = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    assert_eq!(texts(&claim_update(&moved, &bound)), [fixed]);
    moved = bound.clone();
    moved["spec"]["volumeMode"] = "Block".into();
    assert_eq!(
        texts(&claim_update(&moved, &bound)),
        [fixed, "volumeMode: Invalid value: \"Block\": field is immutable"]
    );
    let mut grown = bound.clone();
    grown["spec"]["resources"]["requests"]["storage"] = "2Gi".into();
    assert_eq!(texts(&claim_update(&grown, &bound)), [""; 0]);
    grown["status"]["capacity"]["storage"] = "2Gi".into();
    assert_eq!(
        texts(&claim_update(&bound, &grown)),
        ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
    );
}

#[test]
fn classes_of_claims_are_set_once() {
    let annotated = |class: &str| {
        let mut c = new_claim(json!({}));
        c["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"] = class.into();
        c
    };
    let (old, mut new) = (annotated("a"), annotated("a"));
    new["spec"]["storageClassName"] = "a".into();
    assert_eq!(texts(&claim_update(&new, &old)), [""; 0]);
    new["spec"]["storageClassName"] = "b".into();
    assert_eq!(claim_update(&new, &old).len(), 1, "another class than the annotation's");
    assert_eq!(
        texts(&claim_update(&annotated("b"), &old)),
        ["metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid value: \"b\": field is immutable"]
    );
}

#[test]
fn attributes_are_for_bound_claims() {
    let class =
        |name: Value, status: Value| new_claim(json!({"spec": {"volumeAttributesClassName": name}, "status": status}));
    let bound = json!({"phase": "Bound", "currentVolumeAttributesClassName": "a"});
    let old = class("a".into(), bound.clone());
    assert_eq!(texts(&claim_update(&class("b".into(), bound.clone()), &old)), [""; 0]);
    let forbidden = |what: &str| {
        [format!("spec.volumeAttributesClassName: Forbidden: update from non-nil value to {what} is forbidden")]
    };
    assert_eq!(texts(&claim_update(&class(Value::Null, bound.clone()), &old)), forbidden("nil"));
    assert_eq!(texts(&claim_update(&class("".into(), bound), &old)), forbidden("an empty string"));
    let free = class("a".into(), json!({"phase": "Pending"}));
    assert_eq!(claim_update(&class("b".into(), json!({"phase": "Pending"})), &free).len(), 1);
}

fn new_volume(extra: Value) -> Value {
    let term = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]}]});
    let mut v = json!({"spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "local": {"path": "/x"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}});
    merge_patch(&mut v, &extra);
    volume_defaults(&mut v);
    v
}

#[test]
fn volumes_fail_in_upstreams_words() {
    let cases: &[(Value, &[&str])] = &[
        (json!({}), &[]),
        (
            json!({"accessModes": null, "capacity": null, "local": null, "persistentVolumeReclaimPolicy": "x"}),
            &[
                "spec.accessModes: Required value",
                "spec.capacity: Required value",
                "spec.capacity: Unsupported value: null: supported values: \"storage\"",
                "spec.persistentVolumeReclaimPolicy: Unsupported value: \"x\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
                "spec: Required value: must specify a volume type",
            ],
        ),
        (
            json!({"capacity": {"cpu": "1"}, "nfs": {"server": "s", "path": "/"}}),
            &[
                "spec.capacity: Unsupported value: {\"cpu\":\"1\",\"storage\":\"1Gi\"}: supported values: \"storage\"",
                "spec.local: Forbidden: may not specify more than 1 volume type",
            ],
        ),
        (
            json!({"local": {"path": "/a/../b"}, "nodeAffinity": null}),
            &[
                "spec.local.path: Invalid value: \"/a/../b\": must not contain '..'",
                "spec.nodeAffinity: Required value: Local volume requires node affinity",
            ],
        ),
        (
            json!({"local": null, "csi": {"nodeStageSecretRef": {}, "nodePublishSecretRef": {"name": "a", "namespace": "a.b"}}}),
            &[
                "spec.csi.driver: Required value",
                "spec.csi.driver: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                "spec.csi.volumeHandle: Required value",
                "spec.csi.nodePublishSecretRef.namespace: Invalid value: \"a.b\": must not contain dots",
                "spec.csi.nodeStageSecretRef.name: Required value",
                "spec.csi.nodeStageSecretRef.namespace: Required value",
            ],
        ),
        (
            json!({"local": null, "hostPath": {"path": "//."}, "persistentVolumeReclaimPolicy": "Recycle", "volumeAttributesClassName": ""}),
            &[
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
                "spec.volumeAttributesClassName: Required value: an empty string is disallowed",
                "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
            ],
        ),
    ];
    for (spec, wanted) in cases {
        assert_eq!(&texts(&volume(&new_volume(json!({"spec": spec})))), wanted, "{spec}");
    }
}

#[test]
fn volumes_keep_their_source() {
    let old = new_volume(json!({}));
    let new = new_volume(json!({"spec": {"local": {"path": "/y"}, "volumeMode": "Block"}}));
    assert_eq!(
        texts(&volume_update(&new, &old)),
        [
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
            "volumeMode: Invalid value: \"Block\": field is immutable",
        ]
    );
}
