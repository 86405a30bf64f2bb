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
            "spec.restartPolicy: Unsupported value: \"x\": supported values: \"Always\", \"Never\", \"OnFailure\"",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "volumes": [{"name": "v", "projected": {"sources": [
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
            "spec.containers[0].resizePolicy.resourceName: Unsupported value: \"gpu\": supported values: \"cpu\", \"memory\"",
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
