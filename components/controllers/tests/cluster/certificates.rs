//! Node certificates, from bootstrap to serving.

use certs::{Subject, create_csr, generate_key, inspect};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::support::{Cluster, client_of, client_with_certificate, eventually};

fn request(name: &str, signer: &str, usage: &str, names: &[&str]) -> CertificateSigningRequest {
    let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
    let pem = create_csr(&generate_key().unwrap(), &Subject::new("system:node:n1", &["system:nodes"]), &names).unwrap();
    let request: Value = serde_json::to_value(ByteString(pem.into_bytes())).unwrap();
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"request": request, "signerName": signer, "usages": ["digital signature", usage]}})).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_bootstraps_its_certificates_and_a_stranger_does_not() {
    let cluster = Cluster::bare().await;
    cluster.add_node("n1").await;
    let csrs = Api::<CertificateSigningRequest>::all(cluster.client.clone());
    let certificate = |name: &'static str| {
        let csrs = csrs.clone();
        move || {
            let csrs = csrs.clone();
            async move { csrs.get_opt(name).await.unwrap()?.status?.certificate }
        }
    };
    let bootstrap =
        Api::all(client_of(&cluster.server, "system:bootstrap:n1", &["system:bootstrappers", "system:authenticated"]));
    bootstrap
        .create(
            &PostParams::default(),
            &request("client", "kubernetes.io/kube-apiserver-client-kubelet", "client auth", &[]),
        )
        .await
        .unwrap();
    let signed = eventually("the client certificate", certificate("client")).await;
    let info = inspect(std::str::from_utf8(&signed.0).unwrap()).unwrap();
    assert_eq!(info.subject.common_name, "system:node:n1");

    let node = Api::all(client_of(&cluster.server, "system:node:n1", &["system:nodes", "system:authenticated"]));
    node.create(
        &PostParams::default(),
        &request("serving", "kubernetes.io/kubelet-serving", "server auth", &["n1", "10.99.0.1"]),
    )
    .await
    .unwrap();
    eventually("the serving certificate", certificate("serving")).await;
    node.create(
        &PostParams::default(),
        &request("greedy", "kubernetes.io/kubelet-serving", "server auth", &["n1", "10.96.0.1"]),
    )
    .await
    .unwrap();
    node.create(&PostParams::default(), &request("later", "kubernetes.io/kubelet-serving", "server auth", &["n1"]))
        .await
        .unwrap();
    eventually("a later certificate", certificate("later")).await;
    assert!(csrs.get("greedy").await.unwrap().status.unwrap_or_default().conditions.unwrap_or_default().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_renews_its_own_certificate_and_no_others() {
    const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
    let cluster = Cluster::bare().await;
    let ask = |user: &'static str, subject: &'static str| {
        let api = Api::<CertificateSigningRequest>::all(client_with_certificate(&cluster.server, user));
        let pem = create_csr(&generate_key().unwrap(), &Subject::new(subject, &[]), &[]).unwrap();
        let request: Value = serde_json::to_value(ByteString(pem.into_bytes())).unwrap();
        let spec = json!({"request": request, "signerName": SIGNER, "usages": ["digital signature", "client auth"]});
        let request = serde_json::from_value(json!({"metadata": {"generateName": "a-"}, "spec": spec})).unwrap();
        async move { api.create(&PostParams::default(), &request).await }
    };
    let stolen = ask("system:kube-proxy", "system:kinstall:cni-agent").await.unwrap();
    let own = ask("system:kube-proxy", "system:kube-proxy").await.unwrap();
    assert!(ask("mallory", "mallory").await.is_err(), "may not even ask");
    let csrs = Api::<CertificateSigningRequest>::all(cluster.client.clone());
    let name = own.metadata.name.unwrap();
    let signed =
        eventually("the proxy's own certificate", || async { csrs.get_opt(&name).await.unwrap()?.status?.certificate })
            .await;
    assert_eq!(
        inspect(std::str::from_utf8(&signed.0).unwrap()).unwrap().subject,
        Subject::new("system:kube-proxy", &[])
    );
    let left = csrs.get(&stolen.metadata.name.unwrap()).await.unwrap().status.unwrap_or_default();
    assert!(left.conditions.unwrap_or_default().is_empty(), "it came first and was left");
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_bootstrap_tokens_are_deleted() {
    let cluster = Cluster::bare().await;
    let now = k8s_openapi::jiff::Timestamp::now();
    let token = |id: &str, expiration: Option<String>| {
        let mut data =
            json!({"token-id": id, "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"});
        if let Some(expiration) = expiration {
            data["expiration"] = expiration.into();
        }
        json!({"metadata": {"name": format!("bootstrap-token-{id}")}, "type": "bootstrap.kubernetes.io/token", "stringData": data})
    };
    let soon = now + std::time::Duration::from_millis(1500);
    for (id, expiration) in
        [("expire", Some(soon.to_string())), ("stayin", None), ("future", Some("2999-01-01T00:00:00Z".into()))]
    {
        cluster.create::<Secret>("kube-system", token(id, expiration)).await;
    }
    eventually("the expired token to go", || async {
        Some(cluster.get::<Secret>("kube-system", "bootstrap-token-expire").await).filter(Option::is_none)
    })
    .await;
    assert!(k8s_openapi::jiff::Timestamp::now() >= soon);
    for id in ["stayin", "future"] {
        assert!(cluster.get::<Secret>("kube-system", &format!("bootstrap-token-{id}")).await.is_some(), "{id}");
    }
}
