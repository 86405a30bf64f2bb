use super::*;

fn messages(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(FieldError::to_string).collect()
}

fn pod(spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "a"}, "spec": spec});
    defaults(&mut pod);
    pod
}

fn good() -> Value {
    pod(json!({
        "containers": [{"name": "a", "image": "x:1", "ports": [{"containerPort": 80, "name": "http"}], "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}], "readinessProbe": {"tcpSocket": {"port": "http"}}, "resources": {"requests": {"cpu": "1m"}}}],
        "initContainers": [{"name": "i", "image": "x:1", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["true"]}}}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}],
        "tolerations": [{"operator": "Exists"}]
    }))
}

#[test]
fn a_good_pod_passes() {
    assert_eq!(messages(&validate(&good())), Vec::<String>::new());
}

#[test]
fn faults_have_upstreams_texts() {
    let container = |extra: Value| {
        let mut c = json!({"name": "a", "image": "x"});
        crate::patch::merge_patch(&mut c, &extra);
        json!({"containers": [c]})
    };
    for (spec, wanted) in [
        (json!({}), "spec.containers: Required value"),
        (container(json!({"image": ""})), "spec.containers[0].image: Required value"),
        (
            container(json!({"name": "A_"})),
            "spec.containers[0].name: Invalid value: \"A_\": a lowercase RFC 1123 label must",
        ),
        (
            container(json!({"imagePullPolicy": "No"})),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"No\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            container(json!({"volumeMounts": [{"name": "z", "mountPath": "/z"}]})),
            "spec.containers[0].volumeMounts[0].name: Not found: \"z\"",
        ),
        (
            container(json!({"ports": [{"containerPort": 70000}]})),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            container(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            container(json!({"livenessProbe": {}})),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "x"}]}),
            "spec.containers[1].name: Duplicate value: \"a\"",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "restartPolicy": "x"}),
            "spec.restartPolicy: Unsupported value: \"x\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            json!({"serviceAccountName": "s", "containers": [{"name": "a", "image": "x"}], "volumes": [{"name": "v", "projected": {"sources": [
                {"serviceAccountToken": {"path": "t", "expirationSeconds": 5}}]}}]}),
            "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "volumes": [{"name": "v", "projected": {"sources": [
                {"podCertificate": {"signerName": "example.com/s", "keyType": "ED25519", "keyPath": "k", "maxExpirationSeconds": 3599}}]}}]}),
            "spec.volumes[0].projected.sources[0].podCertificate.maxExpirationSeconds: Invalid value: 3599: if provided, maxExpirationSeconds must be greater than or equal to 3600",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "volumes": [{"name": "v", "projected": {"sources": [
                {"podCertificate": {"signerName": "example.com/s", "keyType": "ED25519", "keyPath": "k", "maxExpirationSeconds": 7862401}}]}}]}),
            "spec.volumes[0].projected.sources[0].podCertificate.maxExpirationSeconds: Invalid value: 7862401: if provided, maxExpirationSeconds must be less than or equal to 7862400",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "volumes": [{"name": "v", "image": {}}]}),
            "spec.volumes[0].image.reference: Required value",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {
                "spec": {"resources": {"requests": {"storage": "1Gi"}}}}}}]}),
            "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Required value: at least 1 access mode is required",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "schedulingGates": [{"name": "a/b"}, {"name": "a/b"}]}),
            "spec.schedulingGates[1]: Duplicate value: \"a/b\"",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x", "resources": {"claims": [{"name": "gpu"}]}}]}),
            "spec.containers[0].resources.claims[0]: Not found: \"gpu\"",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 2}]}),
            "spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "securityContext": {"seccompProfile": {"type": "Localhost"}}}),
            "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ),
        (
            json!({"resources": {"requests": {"cpu": "1"}}, "containers": [{"name": "a", "image": "x", "resources": {"requests": {"cpu": "2"}}}]}),
            "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 2",
        ),
        (
            container(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 60}}}})),
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 60: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
        (
            container(json!({"resizePolicy": [{"resourceName": "gpu", "restartPolicy": "NotRequired"}]})),
            "spec.containers[0].resizePolicy: Unsupported value: \"gpu\": supported values: \"cpu\", \"memory\"",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "ephemeralContainers": [
                {"name": "d", "image": "y", "targetContainerName": "z"}]}),
            "spec.ephemeralContainers[0].targetContainerName: Not found: \"z\"",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "securityContext": {"sysctls": [{"name": "ok.x"}, {"name": "foo-"}]}}),
            "spec.securityContext.sysctls[1].name: Invalid value: \"foo-\": must have at most 253",
        ),
    ] {
        let got = messages(&validate(&pod(spec)));
        assert!(got.len() == 1 && got[0].starts_with(wanted), "wanted {wanted}\n got {got:?}");
    }
}

#[test]
fn updates_may_change_little() {
    let change = |path: &str, value: Value| {
        let mut new = good();
        if let Some(slot) = new.pointer_mut(path) {
            *slot = value;
        }
        update::validate(&new, &good())
    };
    assert!(change("/spec/containers/0/image", json!("y:2")).is_empty());
    assert!(
        change("/spec/tolerations", json!([{"operator": "Exists"}, {"key": "k", "operator": "Exists"}])).is_empty()
    );
    assert_eq!(change("/spec/tolerations", json!([])).len(), 1);
    let resources = messages(&change("/spec/containers/0/resources", json!({})));
    assert!(resources[0].starts_with("spec: Forbidden: pod updates may not change fields other than"), "{resources:?}");
    assert_eq!(change("/spec/containers", json!([])).len(), 2);
}

#[test]
fn births() {
    let mut new = good();
    prepare_create(&mut new);
    assert_eq!(new["status"], json!({"phase": "Pending", "qosClass": "Burstable"}));
}

/// Objects and the exact list of what is wrong with them.
#[test]
fn all_faults_are_listed_in_upstreams_order() {
    let with = |extra: Value| {
        let mut spec = json!({"containers": [{"name": "a", "image": "x:1"}]});
        crate::patch::merge_patch(&mut spec, &extra);
        spec
    };
    let container = |extra: Value| {
        let mut c = json!({"name": "a", "image": "x:1"});
        crate::patch::merge_patch(&mut c, &extra);
        json!({"containers": [c]})
    };
    let cases: Vec<(Value, &[&str])> = vec![
        (
            with(
                json!({"volumes": [{"name": "v", "gcePersistentDisk": {"partition": -1}, "cephfs": {}, "downwardAPI": {}}]}),
            ),
            &[
                "spec.volumes[0].persistentDisk.pdName: Required value",
                "spec.volumes[0].persistentDisk.partition: Invalid value: -1: must be between 1 and 255, inclusive",
                "spec.volumes[0].cephFS: Forbidden: may not specify more than 1 volume type",
                "spec.volumes[0].downwarAPI: Forbidden: may not specify more than 1 volume type",
            ],
        ),
        (
            with(
                json!({"volumes": [{"name": "v", "downwardAPI": {"items": [{"path": "../x", "fieldRef": {"fieldPath": "status.podIP"}}]}}]}),
            ),
            &[
                "spec.volumes[0].downwardAPI.path: Invalid value: \"../x\": must not contain '..'",
                "spec.volumes[0].downwardAPI.fieldRef.fieldPath: Unsupported value: \"status.podIP\": supported values: \"metadata.annotations\", \"metadata.labels\", \"metadata.name\", \"metadata.namespace\", \"metadata.uid\"",
            ],
        ),
        (
            with(json!({"volumes": [{"name": "v", "projected": {"sources": [
                {"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}, "configMap": {"name": "c"}},
                {"secret": {"name": "t", "items": [{"key": "k", "path": "p"}]}}, {"clusterTrustBundle": {"path": "q"}}]}}]})),
            &[
                "spec.volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
                "spec.volumes[0].projected: Invalid value: \"t\": conflicting duplicate paths",
                "spec.volumes[0].projected.sources[2].clusterTrustBundle: Required value: either name or signerName must be specified",
            ],
        ),
        (
            container(
                json!({"env": [{"name": "", "valueFrom": {}}, {"name": "A=", "value": "x", "valueFrom": {"secretKeyRef": {"name": "S", "key": ""}}}],
                "envFrom": [{}, {"configMapRef": {"name": ""}}]}),
            ),
            &[
                "spec.containers[0].env[0].name: Required value",
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
                "spec.containers[0].env[1].name: Invalid value: \"A=\": a valid environment variable name must consist only of printable ASCII characters other than '='",
                "spec.containers[0].env[1].valueFrom.secretKeyRef.name: Invalid value: \"S\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                "spec.containers[0].env[1].valueFrom.secretKeyRef.key: Required value",
                "spec.containers[0].env[1].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
                "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
                "spec.containers[0].envFrom[1].configMapRef.name: Required value",
            ],
        ),
        (
            container(
                json!({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}}},
                {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "spec.foo"}}}]}),
            ),
            &[
                "spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
                "spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.foo\": error converting fieldPath: field label not supported: spec.foo",
            ],
        ),
        (
            container(
                json!({"volumeMounts": [{"name": "v", "mountPath": "/a", "subPath": "/b", "mountPropagation": "Bidirectional"},
                {"name": "z", "mountPath": "/a", "recursiveReadOnly": "Enabled"}]}),
            ),
            &[
                "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
                "spec.containers[0].volumeMounts.subPath: Invalid value: \"/b\": must be a relative path",
                "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
                "spec.containers[0].volumeMounts[1].name: Not found: \"z\"",
                "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique",
                "spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
            ],
        ),
        (
            container(
                json!({"resources": {"requests": {"foo": "1", "example.com/gpu": "1500m", "hugepages-2Mi": "3Mi"}}}),
            ),
            &[
                "spec.containers[0].resources.requests[example.com/gpu]: Invalid value: \"1500m\": must be an integer",
                "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
                "spec.containers[0].resources.requests[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified",
                "spec.containers[0].resources.requests[foo]: Invalid value: \"foo\": must be a standard resource for containers",
                "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
                "spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                "spec.containers[0].resources: Forbidden: HugePages require cpu or memory",
            ],
        ),
        (
            container(
                json!({"restartPolicyRules": [{"action": "x"}], "securityContext": {"runAsUser": -1, "procMount": "Unmasked",
                "allowPrivilegeEscalation": false, "privileged": true}}),
            ),
            &[
                "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 4294967295, inclusive",
                "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
                "spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true,\"procMount\":\"Unmasked\",\"runAsUser\":-1}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
                "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
                "spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"x\": supported values: \"Restart\", \"RestartAllContainers\"",
                "spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified",
            ],
        ),
        (
            with(
                json!({"initContainers": [{"name": "a", "image": "y", "lifecycle": {}, "livenessProbe": {"exec": {"command": ["x"]}}}],
                "hostNetwork": true, "hostUsers": false, "dnsPolicy": "None", "dnsConfig": {"nameservers": ["010.0.0.1"], "searches": ["-x."]},
                "os": {"name": "windows"}, "shareProcessNamespace": true}),
            ),
            &[
                "spec.initContainers[0].name: Duplicate value: \"a\"",
                "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
                "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
                "spec.dnsConfig.nameservers[0]: Invalid value: \"010.0.0.1\": must not have leading 0s",
                "spec.dnsConfig.searches[0]: Invalid value: \"-x\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
                "spec.hostNetwork: Forbidden: when `pod.Spec.HostUsers` is false",
                "spec.hostUsers: Forbidden: cannot be set for a windows pod",
                "spec.shareProcessNamespace: Forbidden: cannot be set for a windows pod",
            ],
        ),
        (
            with(
                json!({"tolerations": [{"key": "k", "operator": "Foo", "value": "v"}, {"key": "k", "value": "a b", "effect": "Never"}, {"key": "k", "operator": "Gt", "value": "x"}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "In", "values": ["a b"]}]}]}},
                    "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "", "matchLabelKeys": ["a"]}]}}}),
            ),
            &[
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values[0]: Invalid value: \"a b\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
                "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
                "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: \"\": name part must be non-empty",
                "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                "spec.tolerations[0].operator: Unsupported value: \"Foo\": supported values: \"Equal\", \"Exists\"",
                "spec.tolerations[1].operator: Invalid value: \"a b\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                "spec.tolerations[1].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
                "spec.tolerations[2].operator: Unsupported value: \"Gt\": supported values: \"Equal\", \"Exists\"",
            ],
        ),
        (
            with(
                json!({"ephemeralContainers": [{"name": "a", "image": "z", "resources": {"limits": {"cpu": "1"}}, "ports": [{"containerPort": 1}]}],
                "schedulingGates": [{"name": "a.b/c"}], "nodeName": "n"}),
            ),
            &[
                "spec.ephemeralContainers[0].name: Duplicate value: \"a\"",
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
                "spec.ephemeralContainers[0].resources: Forbidden: cannot be set for an Ephemeral Container",
                "spec.ephemeralContainers: Forbidden: cannot be set on create",
                "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
            ],
        ),
    ];
    for (spec, wanted) in cases {
        assert_eq!(messages(&validate_create(&pod(spec.clone()))), wanted, "{spec}");
    }
}

#[test]
fn annotations_and_fields_agree() {
    let mut new = pod(
        json!({"containers": [{"name": "a", "image": "x:1", "securityContext": {"appArmorProfile": {"type": "Unconfined"}}}]}),
    );
    new["metadata"]["annotations"] = json!({
        "container.apparmor.security.beta.kubernetes.io/a": "runtime/default",
        "container.apparmor.security.beta.kubernetes.io/b": "odd",
        "controller.kubernetes.io/pod-deletion-cost": "+1",
        "kubernetes.io/config.mirror": "m",
    });
    assert_eq!(
        messages(&validate_create(&new)),
        [
            "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"m\": must set spec.nodeName if mirror pod annotation is set",
            "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"+1\": must be a 32bit integer",
            "metadata.annotations[container.apparmor.security.beta.kubernetes.io/b]: Invalid value: \"b\": container not found",
            "metadata.annotations[container.apparmor.security.beta.kubernetes.io/b]: Invalid value: \"odd\": invalid AppArmor profile name: \"odd\"",
            "spec.containers[0].securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation and field must match",
        ]
    );
}

#[test]
fn gated_pods_may_be_placed_more_narrowly() {
    let old = pod(
        json!({"containers": [{"name": "a", "image": "x:1"}], "schedulingGates": [{"name": "g"}], "nodeSelector": {"a": "b"}}),
    );
    let change = |extra: Value| {
        let mut new = old.clone();
        crate::patch::merge_patch(&mut new["spec"], &extra);
        messages(&update::validate(&new, &old))
    };
    let terms = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "Exists"}]}]}}});
    assert_eq!(change(json!({"nodeSelector": {"c": "d"}, "affinity": terms})), Vec::<String>::new());
    assert_eq!(
        change(
            json!({"nodeSelector": {"a": "c"}, "schedulingGates": [{"name": "g"}, {"name": "h"}], "activeDeadlineSeconds": 5})
        ),
        [
            "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'h'",
            "spec.nodeSelector: Invalid value: {\"a\":\"c\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        ]
    );
}
