//! A kubelet asks for certificates only in the name of pods that run on its node, as they run there.

use serde_json::{Value, json};

use crate::common::Api;
use crate::{DEFAULT, node};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/namespaces/default/podcertificaterequests";

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap()
}

#[tokio::test]
async fn a_kubelet_asks_only_for_its_own_pods() {
    let api = Api::start().await;
    let mut nodes = Vec::new();
    for name in ["n1", "n2"] {
        nodes.push(api.create("/api/v1/nodes", json!({"metadata": {"name": name}})).await);
    }
    let account = api.create(&format!("{DEFAULT}/serviceaccounts"), json!({"metadata": {"name": "runs"}})).await;
    let mut pods = Vec::new();
    for (name, on) in [("mine", "n1"), ("other", "n2")] {
        let spec = json!({"nodeName": on, "serviceAccountName": "runs", "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "i"}]});
        let body = json!({"metadata": {"name": name}, "spec": spec});
        pods.push(api.create(&format!("{DEFAULT}/pods"), body).await);
    }
    use base64::{Engine, engine::general_purpose::STANDARD};
    let key = certs::WorkloadKey::generate(certs::KeyKind::EcdsaP256).unwrap();
    let good = json!({"signerName": "example.com/s", "podName": "mine", "podUID": uid(&pods[0]),
        "serviceAccountName": "runs", "serviceAccountUID": uid(&account), "nodeName": "n1", "nodeUID": uid(&nodes[0]),
        "stubPKCS10Request": STANDARD.encode(&key.request)});
    let ask = async |change: Value| {
        let mut spec = good.clone();
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        api.call_as(node("n1"), "POST", REQUESTS, json!({"metadata": {"generateName": "req-"}, "spec": spec})).await
    };
    let (status, made) = ask(json!({})).await;
    assert_eq!(status, 201, "{made}");
    let about = "PodCertificateRequest for pod \"default/mine\"";
    for (change, status, why) in [
        (
            json!({"nodeName": "n2", "nodeUID": uid(&nodes[1])}),
            403,
            "PodCertificateRequest.Spec.NodeName=\"n2\", which is not the requesting node \"n1\"".to_owned(),
        ),
        (
            json!({"podName": "other", "podUID": uid(&pods[1])}),
            403,
            "pod \"default/other\" is not running on node \"n1\" named in the PodCertificateRequest".to_owned(),
        ),
        (
            json!({"serviceAccountName": "default"}),
            403,
            format!("{about} contains serviceAccountName (\"default\") that differs from running pod (\"runs\")"),
        ),
        (
            json!({"podUID": "wrong"}),
            500,
            format!("{about} contains pod UID (\"wrong\") which differs from running pod {:?}", uid(&pods[0])),
        ),
        (
            json!({"nodeUID": "wrong"}),
            500,
            format!("{about} names node UID \"wrong\", inconsistent with the running node ({:?})", uid(&nodes[0])),
        ),
        (
            json!({"serviceAccountUID": "wrong"}),
            500,
            format!(
                "{about} names service account UID \"wrong\", which differs from the running service account ({:?})",
                uid(&account)
            ),
        ),
        (json!({"podName": "none"}), 404, "pods \"none\" not found".to_owned()),
    ] {
        let (got, refused) = ask(change).await;
        assert_eq!(got, status, "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(&why), "{refused}");
    }
}
