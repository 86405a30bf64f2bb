//! Kinds of networking, storage, flow control, resource allocation, registration; what a cluster begins with.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::Api;
use serde_json::{Value, json};

/// (collection, object, the plural's table columns): one good object of each kind that is served.
fn samples() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let claim = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}});
    vec![
        (
            "networking.k8s.io/v1/ingressclasses",
            json!({"metadata": {"name": "x"}, "spec": {"controller": "a.io/b"}}),
            &["Name", "Controller", "Parameters", "Age"],
        ),
        (
            "networking.k8s.io/v1/namespaces/default/ingresses",
            json!({"metadata": {"name": "x"}, "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}),
            &["Name", "Class", "Hosts", "Address", "Ports", "Age"],
        ),
        (
            "networking.k8s.io/v1/namespaces/default/networkpolicies",
            json!({"metadata": {"name": "x"}, "spec": {"podSelector": {}}}),
            &["Name", "Pod-Selector", "Age"],
        ),
        (
            "networking.k8s.io/v1/ipaddresses",
            json!({"metadata": {"name": "10.96.7.7"}, "spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}}),
            &["Name", "ParentRef", "Age"],
        ),
        (
            "networking.k8s.io/v1/servicecidrs",
            json!({"metadata": {"name": "x"}, "spec": {"cidrs": ["10.97.0.0/16"]}}),
            &["Name", "CIDRs", "Age"],
        ),
        (
            "storage.k8s.io/v1/storageclasses",
            json!({"metadata": {"name": "x"}, "provisioner": "a.io/b"}),
            &["Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"],
        ),
        (
            "storage.k8s.io/v1/csidrivers",
            json!({"metadata": {"name": "x.io"}, "spec": {}}),
            &[
                "Name",
                "AttachRequired",
                "PodInfoOnMount",
                "StorageCapacity",
                "TokenRequests",
                "RequiresRepublish",
                "Modes",
                "Age",
            ],
        ),
        (
            "storage.k8s.io/v1/csinodes",
            json!({"metadata": {"name": "x"}, "spec": {"drivers": []}}),
            &["Name", "Drivers", "Age"],
        ),
        (
            "storage.k8s.io/v1/namespaces/default/csistoragecapacities",
            json!({"metadata": {"name": "x"}, "storageClassName": "c", "capacity": "1Gi"}),
            &["Name", "StorageClassName", "Capacity", "Age"],
        ),
        (
            "storage.k8s.io/v1/volumeattachments",
            json!({"metadata": {"name": "x"}, "spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
            &["Name", "Attacher", "PV", "Node", "Attached", "Age"],
        ),
        (
            "storage.k8s.io/v1/volumeattributesclasses",
            json!({"metadata": {"name": "x"}, "driverName": "a", "parameters": {"a": "b"}}),
            &["Name", "DriverName", "Age"],
        ),
        (
            "node.k8s.io/v1/runtimeclasses",
            json!({"metadata": {"name": "x"}, "handler": "h"}),
            &["Name", "Handler", "Age"],
        ),
        (
            "scheduling.k8s.io/v1/priorityclasses",
            json!({"metadata": {"name": "x"}, "value": 5}),
            &["Name", "Value", "Global-Default", "Age", "PreemptionPolicy"],
        ),
        (
            "flowcontrol.apiserver.k8s.io/v1/flowschemas",
            json!({"metadata": {"name": "x"}, "spec": {"priorityLevelConfiguration": {"name": "exempt"}}}),
            &["Name", "PriorityLevel", "MatchingPrecedence", "DistinguisherMethod", "Age", "MissingPL"],
        ),
        (
            "flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
            json!({"metadata": {"name": "x"}, "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}}),
            &["Name", "Type", "NominalConcurrencyShares", "Queues", "HandSize", "QueueLengthLimit", "Age"],
        ),
        ("resource.k8s.io/v1/deviceclasses", json!({"metadata": {"name": "x"}, "spec": {}}), &["Name", "Age"]),
        (
            "resource.k8s.io/v1/resourceslices",
            json!({"metadata": {"name": "x"}, "spec": {"driver": "d.io", "nodeName": "n", "pool": {"name": "p", "resourceSliceCount": 1, "generation": 0}}}),
            &["Name", "Node", "Driver", "Pool", "Age"],
        ),
        (
            "resource.k8s.io/v1/devicetaintrules",
            json!({"metadata": {"name": "x"}, "spec": {"taint": {"key": "k", "effect": "NoSchedule"}}}),
            &["Name", "Age"],
        ),
        (
            "resource.k8s.io/v1/namespaces/default/resourceclaims",
            json!({"metadata": {"name": "x"}, "spec": claim}),
            &["Name", "State", "Age"],
        ),
        (
            "resource.k8s.io/v1/namespaces/default/resourceclaimtemplates",
            json!({"metadata": {"name": "x"}, "spec": {"spec": claim}}),
            &["Name", "Age"],
        ),
        (
            "certificates.k8s.io/v1/clustertrustbundles",
            json!({"metadata": {"name": "x"}, "spec": {"trustBundle": "-----BEGIN CERTIFICATE-----\neA==\n-----END CERTIFICATE-----\n"}}),
            &["Name", "SignerName"],
        ),
        (
            "coordination.k8s.io/v1/namespaces/default/leases",
            json!({"metadata": {"name": "x"}, "spec": {"holderIdentity": "me"}}),
            &["Name", "Holder", "Age"],
        ),
        (
            "storagemigration.k8s.io/v1/storageversionmigrations",
            json!({"metadata": {"name": "x"}, "spec": {"resource": {"group": "apps", "resource": "deployments"}}}),
            &["Name", "Age"],
        ),
        (
            "apiregistration.k8s.io/v1/apiservices",
            json!({"metadata": {"name": "v1.x.io"}, "spec": {"group": "x.io", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10, "service": {"namespace": "n", "name": "s"}}}),
            &["Name", "Service", "Available", "Age"],
        ),
        (
            "admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
            json!({"metadata": {"name": "x"}}),
            &["Name", "Webhooks", "Age"],
        ),
        (
            "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
            json!({"metadata": {"name": "x"}}),
            &["Name", "Webhooks", "Age"],
        ),
    ]
}

async fn table(api: &Api, url: &str) -> Value {
    use http_body_util::{BodyExt, Full};
    use tower::ServiceExt;
    let request = http::Request::builder()
        .uri(url)
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Full::new(bytes::Bytes::new()))
        .unwrap();
    let response = api.server().handler_as(common::admin()).oneshot(request).await.unwrap();
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn every_kind_lives_through_its_verbs() {
    let api = Api::start().await;
    for (collection, object, columns) in samples() {
        let url = format!("/apis/{collection}");
        let mut made = api.create(&url, object.clone()).await;
        let one = format!("{url}/{}", made["metadata"]["name"].as_str().unwrap());
        let shown = table(&api, &one).await;
        let names: Vec<&str> =
            shown["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
        assert_eq!(names, columns, "{collection}");
        let (mut status, mut same) = api.call("PUT", &one, made.clone()).await;
        while status == 409 {
            // the server writes some statuses itself: what was read was of before
            made = api.get(&one).await;
            (status, same) = api.call("PUT", &one, made.clone()).await;
        }
        assert_eq!(
            (status, &same["metadata"]["resourceVersion"]),
            (200, &made["metadata"]["resourceVersion"]),
            "{same}"
        );
        let patch = json!({"metadata": {"labels": {"a": "b"}}});
        let (status, patched) = api.call("PATCH", &one, patch).await;
        assert_eq!((status, &patched["metadata"]["generation"]), (200, &made["metadata"]["generation"]), "{patched}");
        let listed = api.get(&format!("{url}?labelSelector=a=b")).await;
        assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{collection}");
        assert_eq!(api.call("DELETE", &format!("{url}?labelSelector=a=b"), Value::Null).await.0, 200);
        assert_eq!(api.call("GET", &one, Value::Null).await.0, 404, "{collection}");
    }
}

#[tokio::test]
async fn status_is_written_apart_and_rules_hold() {
    let api = Api::start().await;
    let claims = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    let spec = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}});
    let made =
        api.create(claims, json!({"metadata": {"name": "c"}, "spec": spec, "status": {"reservedFor": []}})).await;
    assert!(made.get("status").is_none());
    let results = json!([{"request": "r", "driver": "d.io", "pool": "p", "device": "x"}]);
    let allocated = json!({"status": {"allocation": {"devices": {"results": results}}}});
    assert_eq!(api.call("PATCH", &format!("{claims}/c/status"), allocated).await.0, 200);
    let (status, error) = api.call("PATCH", &format!("{claims}/c"), json!({"spec": {"devices": null}})).await;
    assert_eq!((status, &error["reason"]), (422, &json!("Invalid")), "{error}");
    assert!(error["message"].as_str().unwrap().ends_with("field is immutable"), "{error}");

    let policies = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    let bad = json!({"metadata": {"name": "p"}, "spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}}]}]}});
    let (status, error) = api.call("POST", policies, bad).await;
    assert_eq!(
        (status, error["details"]["causes"][0]["field"].as_str()),
        (422, Some("spec.ingress[0].from[0].ipBlock.except[0]"))
    );
    let slices = "/apis/resource.k8s.io/v1/resourceslices";
    for (name, node) in [("a", "n1"), ("b", "n2")] {
        let spec = json!({"driver": "d.io", "nodeName": node, "pool": {"name": node, "resourceSliceCount": 1, "generation": 0}});
        api.create(slices, json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    assert_eq!(
        api.get(&format!("{slices}?fieldSelector=spec.nodeName=n2")).await["items"].as_array().unwrap().len(),
        1
    );
}

#[tokio::test]
async fn a_cluster_begins_with_what_it_needs() {
    let mut api = Api::start().await;
    let range = api.get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes").await;
    assert_eq!(range["spec"]["cidrs"], json!(["10.96.0.0/16"]));
    assert_eq!(range["status"]["conditions"][0]["status"], "True");
    let services = api.get("/apis/apiregistration.k8s.io/v1/apiservices").await;
    let names: Vec<&str> =
        services["items"].as_array().unwrap().iter().map(|s| s["metadata"]["name"].as_str().unwrap()).collect();
    for name in ["v1.", "v1.apps", "v2.autoscaling", "v1.authorization.k8s.io", "v1.resource.k8s.io"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let apps = api.get("/apis/apiregistration.k8s.io/v1/apiservices/v1.apps").await;
    assert_eq!(
        (&apps["status"]["conditions"][0]["reason"], &apps["spec"]["groupPriorityMinimum"]),
        (&json!("Local"), &json!(17800))
    );
    let flows = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let nodes = api.get(&format!("{flows}/flowschemas/system-nodes")).await;
    assert_eq!(
        (&nodes["spec"]["matchingPrecedence"], &nodes["status"]["conditions"][0]["status"]),
        (&json!(500), &json!("False"))
    );
    let level = format!("{flows}/prioritylevelconfigurations/workload-low");
    let fewer = json!({"spec": {"limited": {"nominalConcurrencyShares": 7}}});
    assert_eq!(api.call("PATCH", &level, fewer).await.0, 200);
    assert_eq!(
        api.call("PATCH", &format!("{flows}/flowschemas/catch-all"), json!({"spec": {"matchingPrecedence": 9999}}))
            .await
            .0,
        422
    );
    let roles = "/apis/rbac.authorization.k8s.io/v1";
    for role in [
        "clusterroles/system:controller:job-controller",
        "clusterrolebindings/system:controller:job-controller",
        "clusterroles/system:node",
        "namespaces/kube-system/roles/extension-apiserver-authentication-reader",
        "namespaces/kube-public/rolebindings/system:controller:bootstrap-signer",
    ] {
        assert_eq!(api.call("GET", &format!("{roles}/{role}"), Value::Null).await.0, 200, "{role}");
    }
    // what was taken away comes back at the next start, unless its owner says no
    let url = format!("{roles}/clusterroles/system:volume-scheduler");
    let other = format!("{roles}/clusterroles/system:kube-dns");
    let opted_out =
        json!({"metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}, "rules": []});
    assert_eq!(api.call("PATCH", &url, json!({"rules": []})).await.0, 200);
    assert_eq!(api.call("PATCH", &other, opted_out).await.0, 200);
    let version = range["metadata"]["resourceVersion"].clone();
    api.restart().await;
    assert_eq!(api.get(&level).await["spec"]["limited"]["nominalConcurrencyShares"], 100);
    assert_eq!(api.get(&url).await["rules"].as_array().unwrap().len(), 3);
    assert_eq!(api.get(&other).await["rules"].as_array().map_or(0, Vec::len), 0);
    assert_eq!(
        api.get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes").await["metadata"]["resourceVersion"],
        version
    );
}

#[tokio::test]
async fn plugins_of_these_kinds_act() {
    let api = Api::start().await;
    api.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |name: &str, class: &str| json!({"metadata": {"name": name}, "spec": {"runtimeClassName": class, "containers": [{"name": "c", "image": "x"}]}});
    let (status, error) = api.call("POST", pods, pod("a", "none")).await;
    assert_eq!(
        (status, error["message"].as_str()),
        (403, Some("pods \"a\" is forbidden: pod rejected: RuntimeClass \"none\" not found"))
    );
    let class = json!({"metadata": {"name": "rc"}, "handler": "h", "overhead": {"podFixed": {"cpu": "250m"}}, "scheduling": {"nodeSelector": {"kvm": "yes"}}});
    api.create("/apis/node.k8s.io/v1/runtimeclasses", class).await;
    let made = api.create(pods, pod("a", "rc")).await;
    assert_eq!(
        (&made["spec"]["overhead"], &made["spec"]["nodeSelector"]),
        (&json!({"cpu": "250m"}), &json!({"kvm": "yes"}))
    );

    let default = json!({"ingressclass.kubernetes.io/is-default-class": "true"});
    api.create(
        "/apis/networking.k8s.io/v1/ingressclasses",
        json!({"metadata": {"name": "ic", "annotations": default}, "spec": {"controller": "a.io/b"}}),
    )
    .await;
    let ingress = json!({"metadata": {"name": "i"}, "spec": {"defaultBackend": {"service": {"name": "s", "port": {"name": "http"}}}}});
    let made = api.create("/apis/networking.k8s.io/v1/namespaces/default/ingresses", ingress).await;
    assert_eq!(made["spec"]["ingressClassName"], "ic");

    let priorities = "/apis/scheduling.k8s.io/v1/priorityclasses";
    api.create(priorities, json!({"metadata": {"name": "p1"}, "value": 1, "globalDefault": true})).await;
    let (status, error) =
        api.call("POST", priorities, json!({"metadata": {"name": "p2"}, "value": 2, "globalDefault": true})).await;
    assert_eq!(status, 403);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .ends_with("PriorityClass p1 is already marked as default. Only one default can exist")
    );
    let mut own = pod("b", "rc");
    own["spec"]["preemptionPolicy"] = "Never".into();
    let (status, error) = api.call("POST", pods, own).await;
    assert!(
        status == 403 && error["message"].as_str().unwrap().contains("the string value of PreemptionPolicy (Never)"),
        "{error}"
    );

    let node = json!({"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z"}}});
    let made = api.create("/api/v1/nodes", node).await;
    assert_eq!(made["spec"]["taints"], json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]));
    assert_eq!(api.call("POST", &format!("{pods}/a/binding"), json!({"target": {"name": "n"}})).await.0, 201);
    assert_eq!(api.get(&format!("{pods}/a")).await["metadata"]["labels"], json!({"topology.kubernetes.io/zone": "z"}));

    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "fixed", "resources": {"requests": {"storage": "1Gi"}}});
    api.create(claims, json!({"metadata": {"name": "c"}, "spec": spec})).await;
    let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    assert_eq!(api.call("PATCH", &format!("{claims}/c/status"), bound).await.0, 200);
    let grow = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let (status, error) = api.call("PATCH", &format!("{claims}/c"), grow.clone()).await;
    assert!(
        status == 403 && error["message"].as_str().unwrap().contains("only dynamically provisioned pvc can be resized"),
        "{error}"
    );
    let class = json!({"metadata": {"name": "fixed"}, "provisioner": "a.io/b", "allowVolumeExpansion": true});
    api.create("/apis/storage.k8s.io/v1/storageclasses", class).await;
    assert_eq!(api.call("PATCH", &format!("{claims}/c"), grow).await.0, 200);
}

#[tokio::test]
async fn certificates_of_masters_are_not_asked_for() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let api = Api::start().await;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    for (name, group, status) in [("a", "system:masters", 403), ("b", "team", 201)] {
        let key = certs::generate_key().unwrap();
        let pem = certs::create_csr(&key, &certs::Subject::new("me", &[group]), &[]).unwrap();
        let spec = json!({"request": STANDARD.encode(pem), "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]});
        let (code, answer) = api.call("POST", requests, json!({"metadata": {"name": name}, "spec": spec})).await;
        assert_eq!(code, status, "{answer}");
    }
    let conditions = json!([{"type": "Approved", "status": "True", "reason": "r", "message": "m"}]);
    let approval = json!({"metadata": {"annotations": {"patched": "true"}}, "status": {"conditions": conditions}});
    let (status, approved) = api.call("PATCH", &format!("{requests}/b/approval"), approval).await;
    assert_eq!((status, &approved["metadata"]["annotations"]["patched"]), (200, &json!("true")));
    let selected =
        api.get(&format!("{requests}?fieldSelector=spec.signerName=kubernetes.io/kube-apiserver-client")).await;
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
}

/// (collection, body, causes as `field: message` up to where upstream's text is long).
fn faults() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let peer = json!([{"from": [{"ipBlock": {"cidr": "10.0.0.1/8", "except": ["010.1.0.0/16"]}}]}]);
    vec![
        (
            "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims",
            json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c", "selectors": [{"cel": {"expression": "device.driver"}}]}}],
                "constraints": [{"requests": ["r"], "matchAttribute": "model"}]}}}),
            &[
                "spec.devices.requests[0].exactly.selectors[0].cel.expression: Invalid value: \"device.driver\": must evaluate to bool or the unknown type, not string",
                "spec.devices.constraints[0].matchAttribute: Invalid value: \"model\": a fully qualified name must be a domain and a name separated by a slash",
            ],
        ),
        (
            "/apis/resource.k8s.io/v1/resourceslices",
            json!({"spec": {"driver": "d.io", "pool": {"name": "p", "resourceSliceCount": 1}, "nodeName": "n", "devices": [{"name": "a", "attributes": {"m": {}}}]}}),
            &["spec.devices[0].attributes[m]: Invalid value: \"\": exactly one value must be specified"],
        ),
        (
            "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
            json!({"spec": {"podSelector": {}, "ingress": peer}}),
            &[
                "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
                "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"010.1.0.0/16\": must not have leading 0s in IP or prefix length",
            ],
        ),
        (
            "/apis/networking.k8s.io/v1/servicecidrs",
            json!({"spec": {"cidrs": ["10.98.0.0/16", "fd00:0::/64"]}}),
            &["spec.cidrs[1]: Invalid value: \"fd00:0::/64\": must be in canonical form (\"fd00::/64\")"],
        ),
        (
            "/apis/storage.k8s.io/v1/csinodes",
            json!({"spec": {"drivers": [{"name": "d", "nodeID": "n", "topologyKeys": ["a", "a"]}]}}),
            &["spec.drivers[0]: Duplicate value: \"a\""],
        ),
        (
            "/api/v1/nodes",
            json!({"spec": {"podCIDRs": ["10.0.0.0/24", "10.0.0.0/24"]}, "status": {"capacity": {"pods": "1500m"}}}),
            &[
                "status.capacity.pods: Invalid value: \"1500m\": must be an integer",
                "status.allocatable.pods: Invalid value: \"1500m\": must be an integer",
                "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.0.0/24\"]: may specify no more than one CIDR for each IP family",
                "spec.podCIDRs[1]: Duplicate value: \"10.0.0.0/24\"",
            ],
        ),
        (
            "/api/v1/namespaces",
            json!({"spec": {"finalizers": ["x"]}}),
            &[
                "spec.finalizers: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
            ],
        ),
        (
            "/api/v1/namespaces/default/endpoints",
            json!({"subsets": [{"addresses": [{"ip": "169.254.0.1"}]}]}),
            &[
                "subsets[0].addresses[0].ip: Invalid value: \"169.254.0.1\": may not be in the link-local range (169.254.0.0/16, fe80::/10)",
            ],
        ),
    ]
}

#[tokio::test]
async fn faults_have_their_causes() {
    let api = Api::start().await;
    for (collection, mut object, wanted) in faults() {
        object["metadata"]["name"] = "x".into();
        let (status, error) = api.call("POST", collection, object).await;
        let causes = error["details"]["causes"].as_array().unwrap_or_else(|| panic!("{collection}: {error}"));
        let text = |cause: &Value| {
            format!(
                "{}: {}",
                cause["field"].as_str().unwrap_or_default(),
                cause["message"].as_str().unwrap_or_default()
            )
        };
        assert_eq!(
            (status, causes.iter().map(text).collect::<Vec<_>>()),
            (422, wanted.iter().map(|w| (*w).to_owned()).collect())
        );
    }
}

#[tokio::test]
async fn what_is_behind_a_gate_or_of_the_past_is_dropped() {
    let api = Api::start().await;
    let node = json!({"metadata": {"name": "x"}, "spec": {"configSource": {}, "podPreemptionPolicy": {"disableResizePreemption": []}}});
    let (status, made) = api.call("POST", "/api/v1/nodes?fieldValidation=Strict", node).await;
    assert_eq!(
        (status, made["spec"].get("configSource"), made["spec"].get("podPreemptionPolicy")),
        (201, None, None),
        "{made}"
    );

    let claims = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    let spec = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}});
    let mut claim = api.create(claims, json!({"metadata": {"name": "x"}, "spec": spec})).await;
    let device = json!({"driver": "d.io", "pool": "p", "device": "a"});
    let mut result = device.clone();
    result["request"] = "r".into();
    claim["status"] = json!({"allocation": {"devices": {"results": [result]}}, "devices": [device]});
    let (status, mut claim) = api.call("PUT", &format!("{claims}/x/status"), claim).await;
    assert_eq!((status, &claim["status"]["devices"]), (200, &json!([device])), "{claim}");
    claim["status"].as_object_mut().unwrap().remove("allocation");
    let (status, claim) = api.call("PUT", &format!("{claims}/x/status"), claim).await;
    assert_eq!((status, claim["status"].get("devices")), (200, None), "{claim}");
}

#[tokio::test]
async fn access_to_devices_in_use_is_for_labelled_namespaces() {
    let api = Api::start().await;
    let claims = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    let spec = |admin: bool| json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c", "adminAccess": admin}}]}});
    let claim = |name: &str, admin: bool| json!({"metadata": {"name": name}, "spec": spec(admin)});
    let template = json!({"metadata": {"name": "t"}, "spec": {"spec": spec(true)}});
    let wanted = "spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace";
    for (plural, object) in [("resourceclaims", claim("x", true)), ("resourceclaimtemplates", template)] {
        let url = format!("/apis/resource.k8s.io/v1/namespaces/default/{plural}");
        let (status, error) = api.call("POST", &url, object).await;
        let message = error["message"].as_str().unwrap_or_default();
        assert!(status == 422 && message.ends_with(wanted), "{message}");
    }
    let mut plain = api.create(claims, claim("x", false)).await;
    plain["status"] = json!({"allocation": {"devices": {"results": [
        {"request": "r", "driver": "d.io", "pool": "p", "device": "a", "adminAccess": true}]}}});
    let (status, error) = api.call("PUT", &format!("{claims}/x/status"), plain.clone()).await;
    assert_eq!(
        (status, &error["details"]["causes"][0]["field"]),
        (422, &json!("status.allocation.devices.results[0].adminAccess"))
    );

    let mut namespace = api.call("GET", "/api/v1/namespaces/default", Value::Null).await.1;
    namespace["metadata"]["labels"]["resource.kubernetes.io/admin-access"] = "true".into();
    assert_eq!(api.call("PUT", "/api/v1/namespaces/default", namespace).await.0, 200);
    assert_eq!(api.call("PUT", &format!("{claims}/x/status"), plain).await.0, 200);
    api.create(claims, claim("y", true)).await;
}
