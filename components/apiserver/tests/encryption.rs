//! Encryption at rest: the store's files tell nothing, keys change while the server runs, a missing key is told.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{path::Path, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use common::Api;
use serde_json::{Value, json};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const PLAIN: &str = "a-word-that-is-nowhere-else";

fn configuration(dir: &Path, providers: &Value) {
    let document = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": providers}]});
    let new = dir.join("encryption.new");
    std::fs::write(&new, document.to_string()).unwrap();
    std::fs::rename(new, dir.join("encryption.yaml")).unwrap();
}

fn keys(cipher: &str, names: &[(&str, u8)]) -> Value {
    let keys: Vec<Value> =
        names.iter().map(|(name, byte)| json!({"name": name, "secret": STANDARD.encode([*byte; 32])})).collect();
    json!({cipher: {"keys": keys}})
}

/// Whether any file of the store holds these bytes.
fn stored(dir: &Path, needle: &str) -> bool {
    let files = std::fs::read_dir(dir.join("store")).unwrap();
    let holds = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(needle.len()).any(|w| w == needle.as_bytes())
    };
    files.map(|f| f.unwrap().path()).filter(|p| p.is_file()).any(|p| holds(&p))
}

async fn eventually(mut holds: impl AsyncFnMut() -> bool, what: &str) {
    let trying = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), trying).await.expect(what);
}

#[tokio::test]
async fn secrets_lie_encrypted_and_keys_change() {
    let mut api = Api::start_with(|config, dir| {
        configuration(dir, &json!([keys("aesgcm", &[("one", 1)]), {"identity": {}}]));
        config.encryption_provider_config = Some(dir.join("encryption.yaml"));
    })
    .await;
    let mut watch = api.watch(&format!("{SECRETS}?watch=1")).await;
    let encoded = STANDARD.encode(PLAIN);
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": PLAIN}});
    let made = api.create(SECRETS, secret).await;
    assert_eq!(made["data"]["k"], encoded.as_str());
    assert_eq!(watch.next().await.1["data"]["k"], encoded.as_str(), "watches see plain objects");
    assert_eq!(api.get(SECRETS).await["items"][0]["data"]["k"], encoded.as_str());
    assert!(stored(api.path(), "k8s:enc:aesgcm:v1:one:") && !stored(api.path(), &encoded));
    let map = json!({"metadata": {"name": "c"}, "data": {"k": PLAIN}});
    api.create("/api/v1/namespaces/default/configmaps", map).await;
    assert!(stored(api.path(), PLAIN), "only what is named is encrypted");

    // a new key: what is there is read, and written anew by a write that changes nothing
    configuration(api.path(), &json!([keys("secretbox", &[("two", 2)]), keys("aesgcm", &[("one", 1)])]));
    let reloaded = "apiserver_encryption_config_controller_automatic_reloads_total{status=\"success\"} 1";
    eventually(async || api.get("/metrics").await.as_str().unwrap().contains(reloaded), "the new keys").await;
    let same = api.get(&format!("{SECRETS}/s")).await;
    assert_eq!(same["data"]["k"], encoded.as_str());
    let (status, rewritten) = api.call("PUT", &format!("{SECRETS}/s"), same.clone()).await;
    assert_eq!(status, 200, "{rewritten}");
    assert_ne!(rewritten["metadata"]["resourceVersion"], same["metadata"]["resourceVersion"]);
    let (_, again) = api.call("PUT", &format!("{SECRETS}/s"), rewritten.clone()).await;
    assert_eq!(again["metadata"]["resourceVersion"], rewritten["metadata"]["resourceVersion"], "once is enough");

    // the old key is not needed any more; without the new one nothing is read, and it is told
    api.server.take().unwrap().shutdown().await;
    let start = async |api: &mut Api| {
        let mut config = apiserver::Config::in_dir(api.path(), 0);
        config.encryption_provider_config = Some(api.path().join("encryption.yaml"));
        api.server = Some(apiserver::ApiServer::start(config).await.unwrap());
    };
    configuration(api.path(), &json!([keys("secretbox", &[("two", 2)])]));
    start(&mut api).await;
    assert_eq!(api.get(&format!("{SECRETS}/s")).await["data"]["k"], encoded.as_str());
    api.server.take().unwrap().shutdown().await;
    configuration(api.path(), &json!([keys("secretbox", &[("three", 3)])]));
    start(&mut api).await;
    let (status, error) = api.call("GET", &format!("{SECRETS}/s"), Value::Null).await;
    assert_eq!(
        (status, error["message"].as_str().unwrap()),
        (
            500,
            "Internal error occurred: unable to transform key \"/registry/core/secrets/default/s\": no matching key was found for the provided secretbox transformer"
        )
    );
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_stops_the_start() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let dir = tempfile::tempdir().unwrap();
    apiserver::testing::prepare(dir.path()).unwrap();
    configuration(dir.path(), &json!([{"kms": {"name": "x"}}]));
    let mut config = apiserver::Config::in_dir(dir.path(), 0);
    config.encryption_provider_config = Some(dir.path().join("encryption.yaml"));
    let error = format!("{:#}", apiserver::ApiServer::start(config).await.err().unwrap());
    assert!(error.contains("kms is not supported"), "{error}");
}
