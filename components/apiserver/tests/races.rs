//! What two API servers on one store must not do twice, or not know.
#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::BTreeSet, panic::AssertUnwindSafe, path::Path, sync::Arc, time::Duration};

use apiserver::{ApiServer, Identity};
use common::{Api, late::LateStore, within};
use futures::{FutureExt, future::join_all};
use serde_json::{Value, json};
use store::{EmbeddedStore, Expect, KeyValue, Op, RangeRequest, Store, Txn};

/// Two servers; the second hears late of what the first does.
struct Pair {
    a: ApiServer,
    b: ApiServer,
    _dir: tempfile::TempDir,
}

const LATE: Duration = Duration::from_millis(300);

impl Pair {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&dir.path().join("store")).unwrap();
        let a = Api::start_on(store.clone(), dir.path(), |config| config.name = Some("a".into())).await;
        let port = a.address().port();
        let late = LateStore::new(store, LATE).await;
        let b = Api::start_on(late, dir.path(), |config| {
            config.name = Some("b".into());
            config.bind_address = "127.0.0.2".parse().unwrap();
            config.secure_port = port;
        })
        .await;
        Pair { a, b, _dir: dir }
    }

    /// Requests to both servers, in turn and at once; their answers.
    async fn both(&self, requests: impl Iterator<Item = (String, Value)>) -> Vec<(u16, Value)> {
        let servers = [&self.a, &self.b];
        join_all(
            requests
                .enumerate()
                .map(|(n, (path, body))| async move { within(servers[n % 2], admin(), "POST", &path, body).await }),
        )
        .await
    }

    async fn end(self) {
        self.a.shutdown().await;
        self.b.shutdown().await;
    }
}

fn admin() -> Identity {
    common::admin()
}

async fn post(server: &ApiServer, path: &str, body: Value) -> Value {
    let (status, made) = within(server, admin(), "POST", path, body).await;
    assert_eq!(status, 201, "{made}");
    made
}

async fn get(server: &ApiServer, path: &str) -> Value {
    within(server, admin(), "GET", path, Value::Null).await.1
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_node_ports_are_given_once() {
    let pair = Pair::start().await;
    let services = (0..60).map(|n| {
        let spec = json!({"type": "NodePort", "ports": [{"port": 80}], "selector": {"a": "b"}});
        let body = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{n}")}, "spec": spec});
        ("/api/v1/namespaces/default/services".to_owned(), body)
    });
    let made = pair.both(services).await;
    let all: BTreeSet<(String, String)> = made
        .iter()
        .map(|(status, made)| {
            assert_eq!(*status, 201, "{made}");
            (made["spec"]["clusterIP"].to_string(), made["spec"]["ports"][0]["nodePort"].to_string())
        })
        .collect();
    assert_eq!(all.iter().map(|(address, _)| address).collect::<BTreeSet<_>>().len(), 60);
    assert_eq!(all.iter().map(|(_, port)| port).collect::<BTreeSet<_>>().len(), 60);
    // one that is asked for by two
    let wanted = |name: &str| {
        let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 31999}]});
        let body = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
        ("/api/v1/namespaces/default/services".to_owned(), body)
    };
    let answers = pair.both([wanted("x"), wanted("y")].into_iter()).await;
    let mut codes: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
    codes.sort_unstable();
    assert_eq!(codes, [201, 422], "{answers:?}");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_one_for_both() {
    let pair = Pair::start().await;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "5"}}});
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let mut quota = post(&pair.a, quotas, quota).await;
    quota["status"] = json!({"hard": {"configmaps": "5"}, "used": {"configmaps": "0"}});
    assert_eq!(within(&pair.a, admin(), "PUT", &format!("{quotas}/q/status"), quota).await.0, 200);
    let maps = (0..24).map(|n| {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{n}")}});
        ("/api/v1/namespaces/default/configmaps".to_owned(), body)
    });
    let codes: Vec<u16> = pair.both(maps).await.iter().map(|(status, _)| *status).collect();
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 5, "{codes:?}");
    assert!(codes.iter().all(|code| [201, 403].contains(code)), "{codes:?}");
    assert_eq!(get(&pair.b, &format!("{quotas}/q")).await["status"]["used"]["configmaps"], "5");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_allowed_the_other_does_not_refuse() {
    let pair = Pair::start().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": "reader"}, "rules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["secrets"]}]});
    post(&pair.a, &format!("{rbac}/namespaces/default/roles"), role).await;
    let binding = json!({"metadata": {"name": "joe"}, "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "joe"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}});
    post(&pair.a, &format!("{rbac}/namespaces/default/rolebindings"), binding).await;
    let joe = Identity::new("joe", [""; 0]);
    let (status, answer) = within(&pair.b, joe, "GET", "/api/v1/namespaces/default/secrets", Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_wrote_the_other_lists_and_watches_from_there() {
    let pair = Pair::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    for n in 0..3 {
        let made = post(&pair.a, maps, json!({"metadata": {"name": format!("m{n}")}})).await;
        let version = made["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        for query in
            ["", "?resourceVersion=0&resourceVersionMatch=NotOlderThan", &format!("?resourceVersion={version}")]
        {
            let list = get(&pair.b, &format!("{maps}{query}")).await;
            let there = list["items"].as_array().unwrap().iter().any(|it| it["metadata"]["name"] == format!("m{n}"));
            // "0" is whatever the server has
            assert!(there || query.contains("=0"), "{query}: {list}");
        }
    }
    pair.end().await;
}

fn definition(plural: &str, kind: &str) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("{plural}.g.example")},
        "spec": {"group": "g.example", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_belongs_to_one_definition() {
    const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let accepted = |made: &Value| {
        let conditions = made["status"]["conditions"].as_array().unwrap().clone();
        conditions.iter().find(|it| it["type"] == "NamesAccepted").unwrap()["status"] == "True"
    };
    let pair = Pair::start().await;
    // one after the other: the second server has not heard of the first definition yet
    assert!(accepted(&post(&pair.a, DEFINITIONS, definition("foos", "Foo")).await));
    assert!(!accepted(&post(&pair.b, DEFINITIONS, definition("bars", "Foo")).await));
    // at once
    let both = (0..6).map(|n| (DEFINITIONS.to_owned(), definition(&format!("things{n}"), "Thing")));
    let made = pair.both(both).await;
    assert_eq!(made.iter().filter(|(status, made)| *status == 201 && accepted(made)).count(), 1, "{made:?}");
    // both serve what was accepted, and neither takes the other's APIService away
    let mut watch = common::Watch::of(&pair.a, "/apis/apiregistration.k8s.io/v1/apiservices?watch=true").await;
    let end = tokio::time::Instant::now() + 3 * LATE;
    while let Ok(event) = tokio::time::timeout_at(end, watch.line()).await {
        let (kind, object) = event.unwrap();
        assert_ne!(kind, "DELETED", "{object}");
    }
    for server in [&pair.a, &pair.b] {
        let list = get(server, "/apis/g.example/v1/namespaces/default/foos").await;
        assert_eq!(list["kind"], "FooList", "{list}");
    }
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_with_different_authorities_publish_all_and_come_to_rest() {
    const MAP: &str = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("store")).unwrap();
    let start = async |name: &str, file: Option<&Path>| {
        Api::start_on(store.clone() as Arc<dyn store::Store>, dir.path(), |config| {
            config.name = Some(name.to_owned());
            if let Some(file) = file {
                config.client_ca_file = file.to_owned();
            }
        })
        .await
    };
    let a = start("a", None).await;
    let old = std::fs::read_to_string(dir.path().join("ca.crt")).unwrap();
    let next = certs::Ca::generate("next").unwrap().cert_pem().to_owned();
    let file = dir.path().join("next.crt");
    std::fs::write(&file, &next).unwrap();
    let b = start("b", Some(&file)).await;
    let begun = std::time::Instant::now();
    let holds = |map: &Value| {
        let text = map["data"]["client-ca-file"].as_str().unwrap().to_owned();
        text.contains(old.trim()) && text.contains(next.trim())
    };
    while !holds(&get(&a, MAP).await) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", get(&a, MAP).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let version = get(&a, MAP).await["metadata"]["resourceVersion"].clone();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(get(&b, MAP).await["metadata"]["resourceVersion"], version, "they write for ever");
    a.shutdown().await;
    b.shutdown().await;
}

/// Another server has taken the address of Service `kubernetes`, and is about to write the Service.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_waits_for_the_service_whose_address_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| EmbeddedStore::open(&dir.path().join(name)).unwrap();
    let made = open("made");
    Api::start_on(made.clone(), dir.path(), |_| ()).await.shutdown().await;
    let all = made.range(RangeRequest { prefix: "/".into(), ..RangeRequest::default() }).await.unwrap().items;
    let of =
        |part: &str, end: &str| all.iter().find(|kv| kv.key.contains(part) && kv.key.ends_with(end)).unwrap().clone();
    let (address, service) = (of("ipaddresses", "0.1"), of("services", "/default/kubernetes"));
    // The server waits for about a second. Where the other one's write takes that long, another server starts.
    for left in (0..5).rev() {
        let store = open(&format!("store{left}"));
        let put = |kv: &KeyValue| {
            let op = Op::Put { key: kv.key.to_string(), value: kv.value.clone(), expect: Expect::Absent };
            store.txn(Txn { ops: vec![op] })
        };
        put(&address).await.unwrap();
        let begun = std::time::Instant::now();
        let later = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            put(&service).await.unwrap();
            begun.elapsed()
        };
        let starting = AssertUnwindSafe(Api::start_on(store.clone(), dir.path(), |_| ())).catch_unwind();
        match tokio::join!(starting, later) {
            (Ok(server), _) => return server.shutdown().await,
            (Err(panic), took) if left == 0 || took < Duration::from_millis(700) => std::panic::resume_unwind(panic),
            _ => {}
        }
    }
}
