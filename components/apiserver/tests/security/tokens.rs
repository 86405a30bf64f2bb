//! Tokens: bound to objects, bootstrap, legacy, of an OIDC provider, and what is said about them.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    DEFAULT,
    common::{Api, admin},
};

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

async fn review(api: &Api, token: &Value) -> Value {
    api.create(REVIEWS, json!({"spec": {"token": token}})).await["status"].clone()
}

#[tokio::test]
async fn a_bound_token_says_what_it_is_bound_to_and_dies_with_it() {
    let api = Api::start().await;
    api.create(&format!("{DEFAULT}/serviceaccounts"), json!({"metadata": {"name": "default"}})).await;
    api.create(&format!("{DEFAULT}/serviceaccounts"), json!({"metadata": {"name": "other"}})).await;
    let node = api.create("/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    let spec =
        json!({"nodeName": "n1", "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "x"}]});
    let pod = api.create(&format!("{DEFAULT}/pods"), json!({"metadata": {"name": "p"}, "spec": spec})).await;
    let uid = &pod["metadata"]["uid"];
    let request = |kind: &str, name: &str, uid: &Value| json!({"spec": {"expirationSeconds": 3607, "boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}}});
    let url = format!("{DEFAULT}/serviceaccounts/default/token");
    let answer = api.create(&url, request("Pod", "p", uid)).await;
    let status = review(&api, &answer["status"]["token"]).await;
    assert_eq!(status["authenticated"], true, "{status}");
    let extra = &status["user"]["extra"];
    for (key, wanted) in [
        ("pod-name", &json!("p")),
        ("pod-uid", uid),
        ("node-name", &json!("n1")),
        ("node-uid", &node["metadata"]["uid"]),
    ] {
        assert_eq!(&extra[format!("authentication.kubernetes.io/{key}")][0], wanted, "{extra}");
    }
    let id = extra["authentication.kubernetes.io/credential-id"][0].as_str().unwrap();
    assert!(id.starts_with("JTI="), "{id}");

    for (body, code, text) in [
        (request("Pod", "gone", &json!("")), 404, "pods \"gone\" not found"),
        (
            request("Pod", "p", &json!("other")),
            409,
            "Operation cannot be fulfilled on Pod \"p\": the UID in the bound object reference (other)",
        ),
        (request("ConfigMap", "c", &json!("")), 400, "cannot bind token to object of type /v1, Kind=ConfigMap"),
        (json!({"spec": {"expirationSeconds": 599}}), 422, "may not specify a duration less than 10 minutes"),
        (json!({"metadata": {"name": "x"}}), 422, "must match the service account name if specified"),
    ] {
        let (status, error) = api.call("POST", &url, body).await;
        assert_eq!(status, code, "{error}");
        assert!(error["message"].as_str().unwrap().contains(text), "{error}");
    }
    let (status, error) =
        api.call("POST", &format!("{DEFAULT}/serviceaccounts/other/token"), request("Pod", "p", uid)).await;
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (400, "cannot bind token for serviceaccount \"other\" to pod running with different serviceaccount name.")
    );

    // over the wire twice: the second time from memory; then the pod is gone and so is the token
    let token = answer["status"]["token"].as_str().unwrap();
    let client = api.wire("");
    let get = async || client.get(api.url("/apis")).bearer_auth(token).send().await.unwrap().status().as_u16();
    assert_eq!((get().await, get().await), (200, 200));
    api.call("DELETE", &format!("{DEFAULT}/pods/p?gracePeriodSeconds=0"), Value::Null).await;
    assert_eq!(get().await, 401);
    let status = review(&api, &answer["status"]["token"]).await;
    assert_eq!(
        (&status["authenticated"], &status["error"]),
        (&Value::Null, &json!("[invalid bearer token, service account token has been invalidated]"))
    );
}

#[tokio::test]
async fn reviews_tell_why_not_and_for_whom() {
    let api = Api::start().await;
    assert_eq!(review(&api, &json!("nonsense")).await, json!({"user": {}, "error": "invalid bearer token"}));
    let (status, error) = api.call("POST", REVIEWS, json!({"spec": {}})).await;
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (400, "token is required for TokenReview in authentication")
    );
    api.create(&format!("{DEFAULT}/serviceaccounts"), json!({"metadata": {"name": "sa"}})).await;
    let body = json!({"spec": {"audiences": ["vault", "x"]}});
    let token = api.create(&format!("{DEFAULT}/serviceaccounts/sa/token"), body).await["status"]["token"].clone();
    let own = review(&api, &token).await;
    assert!(own["error"].as_str().unwrap().contains("is invalid for the target audiences"), "{own}");
    let theirs =
        api.create(REVIEWS, json!({"spec": {"token": token, "audiences": ["other", "vault"]}})).await["status"].clone();
    assert_eq!(theirs["audiences"], json!(["vault"]), "{theirs}");
}

#[tokio::test]
async fn secrets_of_the_old_kind_hold_tokens() {
    let api = Api::start().await;
    let account = api.create(&format!("{DEFAULT}/serviceaccounts"), json!({"metadata": {"name": "old"}})).await;
    let secret = api
        .create(
            &format!("{DEFAULT}/secrets"),
            json!({"metadata": {"name": "t", "annotations": {"kubernetes.io/service-account.name": "old"}}, "type": "kubernetes.io/service-account-token"}),
        )
        .await;
    assert_eq!(secret["metadata"]["annotations"]["kubernetes.io/service-account.uid"], account["metadata"]["uid"]);
    let token = STANDARD.decode(secret["data"]["token"].as_str().unwrap()).unwrap();
    let token = json!(String::from_utf8(token).unwrap());
    let status = review(&api, &token).await;
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:old", "{status}");
    api.call("DELETE", &format!("{DEFAULT}/secrets/t"), Value::Null).await;
    assert_eq!(review(&api, &token).await["authenticated"], Value::Null);
}

#[tokio::test]
async fn bootstrap_tokens_let_machines_ask_for_certificates() {
    let api = Api::start().await;
    let secret = |extra: Value| {
        let mut data =
            json!({"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"});
        data.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token", "stringData": data})
    };
    let url = "/api/v1/namespaces/kube-system/secrets";
    api.create(url, secret(json!({"auth-extra-groups": "system:bootstrappers:kubeadm"}))).await;
    let client = api.wire("");
    let get = async |path: &str| {
        client.get(api.url(path)).bearer_auth("abcdef.0123456789abcdef").send().await.unwrap().status().as_u16()
    };
    let csrs = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    assert_eq!((get(csrs).await, get("/api/v1/secrets").await), (200, 403));
    let status = review(&api, &json!("abcdef.0123456789abcdef")).await;
    assert_eq!(status["user"]["username"], "system:bootstrap:abcdef");
    assert_eq!(
        status["user"]["groups"],
        json!(["system:bootstrappers", "system:bootstrappers:kubeadm", "system:authenticated"])
    );
    // an end that has come, written over it, is noticed at once
    let over = secret(json!({"expiration": "2001-01-01T00:00:00Z"}));
    assert_eq!(api.call("PUT", &format!("{url}/bootstrap-token-abcdef"), over).await.0, 200);
    assert_eq!(get(csrs).await, 401);
}

#[tokio::test]
async fn the_issuer_tells_how_to_check_its_tokens() {
    let api = Api::start().await;
    let get = async |path: &str| {
        let response = api.send(admin(), "GET", path, "", "").await;
        let head = ["content-type", "cache-control"].map(|h| response.headers()[h].to_str().unwrap().to_owned());
        (head, api.get(path).await)
    };
    let ([kind, cache], document) = get("/.well-known/openid-configuration").await;
    assert_eq!((kind.as_str(), cache.as_str()), ("application/json", "public, max-age=3600"));
    assert_eq!(document["issuer"], "https://kubernetes.default.svc.cluster.local");
    assert_eq!(document["jwks_uri"], "https://kubernetes.default.svc.cluster.local/openid/v1/jwks");
    assert_eq!(document["id_token_signing_alg_values_supported"], json!(["ES256"]));
    let ([kind, _], keys) = get("/openid/v1/jwks").await;
    assert_eq!((kind.as_str(), &keys["keys"][0]["kty"]), ("application/jwk-set+json", &json!("EC")));
}
