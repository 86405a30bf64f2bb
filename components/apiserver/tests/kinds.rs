//! Kinds of core, apps, batch, autoscaling, policy and events, over HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::Api;
use serde_json::{Value, json};

const NS: &str = "/api/v1/namespaces/default";

async fn start() -> Api {
    let api = Api::start().await;
    api.create(&format!("{NS}/serviceaccounts"), json!({"metadata": {"name": "default"}})).await;
    api
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}})
}

fn job_template() -> Value {
    let mut template = template();
    template["spec"]["restartPolicy"] = "Never".into();
    json!({"spec": {"template": template}})
}

/// Every kind: made, listed under its own list kind, found as a table, patched and deleted.
#[tokio::test]
async fn every_kind_lives() {
    let api = start().await;
    for (path, list_kind, body) in [
        (format!("{NS}/podtemplates"), "PodTemplateList", json!({"template": template()})),
        (
            format!("{NS}/replicationcontrollers"),
            "ReplicationControllerList",
            json!({"spec": {"replicas": 2, "template": template()}}),
        ),
        (
            format!("{NS}/limitranges"),
            "LimitRangeList",
            json!({"spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]}}),
        ),
        (format!("{NS}/resourcequotas"), "ResourceQuotaList", json!({"spec": {"hard": {"services": "5"}}})),
        (
            "/apis/batch/v1/namespaces/default/cronjobs".into(),
            "CronJobList",
            json!({"spec": {"schedule": "*/5 * * * ?", "timeZone": "Europe/Paris", "jobTemplate": job_template()}}),
        ),
        (
            "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers".into(),
            "HorizontalPodAutoscalerList",
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}}}),
        ),
        (
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets".into(),
            "PodDisruptionBudgetList",
            json!({"spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "a"}}}}),
        ),
        (
            "/apis/events.k8s.io/v1/namespaces/default/events".into(),
            "EventList",
            json!({"regarding": {"namespace": "default", "kind": "Pod", "name": "p"}, "eventTime": "2026-01-01T00:00:00.000000Z",
                   "type": "Normal", "reason": "Made", "action": "Make", "reportingController": "x/y", "reportingInstance": "z"}),
        ),
    ] {
        let mut body = body;
        body["metadata"] = json!({"name": "one", "labels": {"test": "yes"}});
        let made = api.create(&path, body.clone()).await;
        let kind = list_kind.trim_end_matches("List");
        assert_eq!(made["kind"], kind, "{made}");
        assert_eq!(api.call("POST", &path, body).await.1["reason"], "AlreadyExists", "{kind}");
        let url = format!("{path}/one");
        let (status, patched) = api.call("PATCH", &url, json!({"metadata": {"annotations": {"n": "1"}}})).await;
        assert_eq!((status, &patched["metadata"]["annotations"]["n"]), (200, &json!("1")), "{patched}");
        assert_eq!(api.get(&url).await, patched);
        let list = api.get(&format!("{path}?labelSelector=test=yes")).await;
        assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!(list_kind), 1), "{list}");
        let response = api.server().handler_as(common::admin());
        let request = http::Request::get(&path)
            .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(http_body_util::Full::new(bytes::Bytes::new()))
            .unwrap();
        let table = tower::ServiceExt::oneshot(response, request).await.unwrap();
        assert_eq!(table.status(), 200, "{kind}");
        assert_eq!(api.call("DELETE", &format!("{path}?labelSelector=test=yes"), Value::Null).await.0, 200);
        assert_eq!(api.get(&url).await["reason"], "NotFound", "{kind}");
    }
}

#[tokio::test]
async fn two_forms_are_one_object() {
    let api = start().await;
    let (v1, v2) =
        ["v1", "v2"].map(|v| format!("/apis/autoscaling/{v}/namespaces/default/horizontalpodautoscalers")).into();
    let mut watch = api.watch(&format!("{v1}?watch=1")).await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
    api.create(
        &v2,
        json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target, "metrics": [memory]}}),
    )
    .await;
    let (kind, seen) = watch.next().await;
    assert_eq!((kind.as_str(), &seen["apiVersion"]), ("ADDED", &json!("autoscaling/v1")));
    let note = seen["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"].as_str().unwrap();
    assert!(note.contains("\"targetAverageValue\":\"1Gi\""), "{note}");
    let (status, patched) =
        api.call("PATCH", &format!("{v1}/a"), json!({"spec": {"targetCPUUtilizationPercentage": 60}})).await;
    assert_eq!((status, &patched["spec"]["targetCPUUtilizationPercentage"]), (200, &json!(60)), "{patched}");
    let now = api.get(&format!("{v2}/a")).await;
    assert_eq!(now["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 60);
    assert_eq!(now["spec"]["metrics"][1], memory);
    assert_eq!(now["metadata"].get("annotations"), None);
    let refused = api
        .call("POST", &v1, json!({"metadata": {"name": "b"}, "spec": {"maxReplicas": 0, "scaleTargetRef": target}}))
        .await;
    assert_eq!(refused.0, 422);
    assert!(
        refused.1["message"].as_str().unwrap().contains("spec.maxReplicas: Invalid value: 0: must be greater than 0")
    );

    let (old, new) = (format!("{NS}/events"), "/apis/events.k8s.io/v1/namespaces/default/events");
    api.create(
        &old,
        json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default", "name": "p", "kind": "Pod"},
                            "message": "hi", "reason": "R", "type": "Normal", "source": {"component": "me"}}),
    )
    .await;
    let seen = api.get(&format!("{new}/e")).await;
    assert_eq!(
        (&seen["note"], &seen["regarding"]["name"], &seen["deprecatedSource"]["component"]),
        (&json!("hi"), &json!("p"), &json!("me"))
    );
    let by = |field: &str| format!("{new}?fieldSelector={field}");
    assert_eq!(api.get(&by("regarding.name=p,reason=R")).await["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.get(&by("involvedObject.name=p")).await["code"], 400);
    let strict = api.call("POST", new, json!({"metadata": {"name": "s"}, "regarding": {"namespace": "default"}})).await;
    assert!(strict.1["message"].as_str().unwrap().contains("eventTime: Required value"), "{}", strict.1);
}

#[tokio::test]
async fn subresources_write_their_part() {
    let api = start().await;
    let rc = format!("{NS}/replicationcontrollers");
    let made = api.create(&rc, json!({"metadata": {"name": "r"}, "spec": {"template": template()}})).await;
    assert_eq!((&made["spec"]["selector"], &made["spec"]["replicas"]), (&json!({"app": "a"}), &json!(1)));
    let (_, scale) = api.call("PATCH", &format!("{rc}/r/scale"), json!({"spec": {"replicas": 4}})).await;
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(4), &json!("app=a")), "{scale}");
    let status = json!({"status": {"replicas": 1, "readyReplicas": 2}});
    let (code, refused) = api.call("PATCH", &format!("{rc}/r/status"), status).await;
    assert_eq!(code, 422, "{refused}");
    assert_eq!(refused["details"]["causes"][0]["field"], "status.readyReplicas");

    let mut pod = template();
    pod["metadata"] = json!({"name": "p"});
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
    api.create(&format!("{NS}/pods"), pod).await;
    let url = format!("{NS}/pods/p");
    let bigger = json!([{"op": "replace", "path": "/spec/containers/0/resources/requests/cpu", "value": "200m"}]);
    let send = |url: String, patch: Value| {
        let api = &api;
        async move {
            let response = api.send(common::admin(), "PATCH", &url, "application/json-patch+json", patch).await;
            response.status().as_u16()
        }
    };
    assert_eq!(send(url.clone(), bigger.clone()).await, 422, "resources change through /resize only");
    assert_eq!(send(format!("{url}/resize"), bigger).await, 200);
    let now = api.get(&url).await;
    assert_eq!(now["spec"]["containers"][0]["resources"]["requests"]["cpu"], "200m");
    assert_eq!(now["metadata"]["generation"], 2);
    let gone = json!([{"op": "remove", "path": "/spec/containers/0/resources/requests/cpu"}]);
    assert_eq!(send(format!("{url}/resize"), gone).await, 422);
    let debug =
        json!([{"op": "add", "path": "/spec/ephemeralContainers", "value": [{"name": "d", "image": "busybox"}]}]);
    assert_eq!(send(format!("{url}/ephemeralcontainers"), debug.clone()).await, 200);
    let other = json!([{"op": "replace", "path": "/spec/ephemeralContainers/0/image", "value": "z"}]);
    assert_eq!(send(format!("{url}/ephemeralcontainers"), other).await, 422);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(api.call("POST", &format!("{NS}/bindings"), binding).await.0, 201);
    assert_eq!(api.get(&url).await["spec"]["nodeName"], "n");
    assert_eq!(api.get("/api/v1/componentstatuses").await["items"][0]["conditions"][0]["status"], "True");
    assert_eq!(api.get("/api/v1/componentstatuses/x").await["reason"], "NotFound");
}

/// What upstream's conformance suite asks of discovery here.
#[tokio::test]
async fn discovery_tells_what_is_served() {
    let api = Api::start().await;
    let names = |list: &Value| -> Vec<String> {
        list["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap().to_owned()).collect()
    };
    let core = names(&api.get("/api/v1").await);
    for name in [
        "bindings",
        "componentstatuses",
        "limitranges",
        "podtemplates",
        "pods/ephemeralcontainers",
        "pods/eviction",
        "pods/resize",
        "replicationcontrollers",
        "replicationcontrollers/scale",
        "replicationcontrollers/status",
        "resourcequotas",
        "resourcequotas/status",
    ] {
        assert!(core.contains(&name.to_owned()), "{name}");
    }
    let group = api.get("/apis/autoscaling").await;
    assert_eq!(group["preferredVersion"]["version"], "v2");
    assert_eq!(group["versions"].as_array().unwrap().len(), 2);
    for (path, name) in [
        ("/apis/batch/v1", "cronjobs/status"),
        ("/apis/autoscaling/v1", "horizontalpodautoscalers/status"),
        ("/apis/events.k8s.io/v1", "events"),
    ] {
        assert!(names(&api.get(path).await).contains(&name.to_owned()), "{name}");
    }
}

/// Until the quota controller has counted, a quota limits nothing; here its part is played by hand.
async fn quota(api: &Api, spec: Value, used: Value) {
    let path = format!("{NS}/resourcequotas");
    let made = api.create(&path, json!({"metadata": {"name": "q"}, "spec": spec})).await;
    let status = json!({"status": {"hard": made["spec"]["hard"], "used": used}});
    let (code, answer) = api.call("PATCH", &format!("{path}/q/status"), status).await;
    assert_eq!(code, 200, "{answer}");
}

async fn used(api: &Api) -> Value {
    api.get(&format!("{NS}/resourcequotas/q")).await["status"]["used"].clone()
}

#[tokio::test]
async fn quotas_are_charged_with_the_write() {
    let api = start().await;
    let hard = json!({"pods": "3", "requests.cpu": "1", "count/configmaps": "2", "services.nodeports": "1"});
    quota(
        &api,
        json!({"hard": hard}),
        json!({"pods": "0", "requests.cpu": "0", "count/configmaps": "0", "services.nodeports": "0"}),
    )
    .await;
    let pod = |name: &str, cpu: Option<&str>| {
        let mut pod = template();
        pod["metadata"] = json!({"name": name});
        if let Some(cpu) = cpu {
            pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
        }
        pod
    };
    let pods = format!("{NS}/pods");
    let (code, silent) = api.call("POST", &pods, pod("silent", None)).await;
    assert_eq!(
        (code, silent["message"].as_str().unwrap()),
        (403, "pods \"silent\" is forbidden: failed quota: q: must specify requests.cpu for: c")
    );
    assert_eq!(api.call("POST", &format!("{pods}?dryRun=All"), pod("dry", Some("300m"))).await.0, 201);
    api.create(&pods, pod("a", Some("300m"))).await;
    assert_eq!(
        used(&api).await,
        json!({"count/configmaps": "0", "pods": "1", "requests.cpu": "300m", "services.nodeports": "0"})
    );
    assert_eq!(api.call("POST", &pods, pod("a", Some("300m"))).await.1["reason"], "AlreadyExists");
    assert_eq!(used(&api).await["pods"], "1", "what was not stored is not charged");
    let (code, much) = api.call("POST", &pods, pod("b", Some("800m"))).await;
    assert_eq!(
        (code, much["message"].as_str().unwrap()),
        (
            403,
            "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=800m, used: requests.cpu=300m, limited: requests.cpu=1"
        )
    );
    let resize = |cpu: &str| json!({"spec": {"containers": [{"name": "c", "image": "x:1", "resources": {"requests": {"cpu": cpu}}}]}});
    assert_eq!(api.call("PATCH", &format!("{pods}/a/resize"), resize("500m")).await.0, 200);
    assert_eq!(used(&api).await["requests.cpu"], "500m");
    assert_eq!(api.call("PATCH", &format!("{pods}/a/resize"), resize("2")).await.0, 403);

    // forty writers want the last two
    let maps = format!("{NS}/configmaps");
    let (api_ref, maps) = (&api, &maps);
    let write =
        |i: i32| async move { api_ref.call("POST", maps, json!({"metadata": {"name": format!("m{i}")}})).await.0 };
    let codes: Vec<u16> = futures::future::join_all((0..40).map(write)).await;
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 2, "{codes:?}");
    assert_eq!(used(&api).await["count/configmaps"], "2");
    let service = |kind: &str| json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}});
    api.create(&format!("{NS}/services"), service("ClusterIP")).await;
    let (code, ports) = api.call("PATCH", &format!("{NS}/services/s"), json!({"spec": {"type": "NodePort"}})).await;
    assert_eq!(code, 403, "{ports}");
    assert!(ports["message"].as_str().unwrap().contains("requested: services.nodeports=2"), "{ports}");
}

#[tokio::test]
async fn limit_ranges_fill_and_refuse() {
    let api = start().await;
    let limits = json!([
        {"type": "Container", "default": {"memory": "200Mi"}, "defaultRequest": {"memory": "100Mi"}, "min": {"memory": "50Mi"}, "max": {"memory": "1Gi"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}},
    ]);
    api.create(&format!("{NS}/limitranges"), json!({"metadata": {"name": "l"}, "spec": {"limits": limits}})).await;
    let mut pod = template();
    pod["metadata"] = json!({"name": "p"});
    let made = api.create(&format!("{NS}/pods"), pod.clone()).await;
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"limits": {"memory": "200Mi"}, "requests": {"memory": "100Mi"}})
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: memory request for container c; memory limit for container c"
    );
    assert_eq!(made["status"]["qosClass"], "Burstable", "quality of service is told after the limits are known");
    pod["metadata"]["name"] = "small".into();
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "10Mi"}});
    let (code, small) = api.call("POST", &format!("{NS}/pods"), pod).await;
    assert_eq!(
        (code, small["message"].as_str().unwrap()),
        (403, "pods \"small\" is forbidden: minimum memory usage per Container is 50Mi, but request is 10Mi")
    );
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "3Gi"}}}});
    let (code, big) = api.call("POST", &format!("{NS}/persistentvolumeclaims"), claim).await;
    assert_eq!(code, 403);
    assert!(
        big["message"]
            .as_str()
            .unwrap()
            .contains("maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
        "{big}"
    );
}

#[tokio::test]
async fn events_are_forgotten_and_evictions_ask_budgets() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let dir = tempfile::tempdir().unwrap();
    apiserver::testing::prepare(dir.path()).unwrap();
    let mut config = apiserver::Config::in_dir(dir.path(), 0);
    config.event_ttl_seconds = 1;
    let server = apiserver::ApiServer::start(config).await.unwrap();
    let api = Api { server: Some(server), dir };
    let mut events = api.watch(&format!("{NS}/events?watch=1&fieldSelector=metadata.name=e")).await;
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}, "reason": "R"});
    api.create(&format!("{NS}/events"), event).await;
    assert_eq!(events.next().await.0, "ADDED");

    api.create(&format!("{NS}/serviceaccounts"), json!({"metadata": {"name": "default"}})).await;
    let mut pod = template();
    pod["metadata"] = json!({"name": "p", "labels": {"app": "a"}, "finalizers": ["test/keep"]});
    api.create(&format!("{NS}/pods"), pod).await;
    let url = format!("{NS}/pods/p");
    assert_eq!(api.call("PATCH", &format!("{url}/status"), json!({"status": {"phase": "Running"}})).await.0, 200);
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}});
    api.create(budgets, json!({"metadata": {"name": "b"}, "spec": spec})).await;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let (code, refused) = api.call("POST", &format!("{url}/eviction"), eviction.clone()).await;
    assert_eq!((code, &refused["details"]["causes"][0]["reason"]), (429, &json!("DisruptionBudget")), "{refused}");
    let allow = json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}});
    let unsaid = json!({"spec": {"unhealthyPodEvictionPolicy": "Sometimes"}});
    assert_eq!(api.call("PATCH", &format!("{budgets}/b"), unsaid).await.0, 422);
    assert_eq!(api.call("PATCH", &format!("{budgets}/b"), allow).await.0, 200);
    let (code, answer) = api.call("POST", &format!("{url}/eviction"), eviction).await;
    assert_eq!(code, 201, "{answer}");
    let going = api.get(&url).await;
    assert_eq!(going["status"]["conditions"][0]["reason"], "EvictionByEvictionAPI");
    assert!(going["metadata"]["deletionTimestamp"].is_string());

    assert_eq!(events.next().await.0, "DELETED", "a second after it was written");
}

#[tokio::test]
async fn odd_specs_are_accepted_with_warnings() {
    let api = start().await;
    let warnings = |response: http::Response<apiserver::ResponseBody>| -> Vec<String> {
        response.headers().get_all("warning").iter().map(|v| v.to_str().unwrap().to_owned()).collect()
    };
    let mut pod = template();
    pod["metadata"] = json!({"name": "p"});
    pod["spec"]["nodeSelector"] = json!({"beta.kubernetes.io/os": "linux"});
    pod["spec"]["terminationGracePeriodSeconds"] = json!(-1);
    let made = api.send(common::admin(), "POST", &format!("{NS}/pods"), "application/json", &pod).await;
    assert_eq!(made.status(), 201);
    assert_eq!(
        warnings(made),
        [
            "299 - \"spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \\\"kubernetes.io/os\\\" instead\"",
            "299 - \"spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1\"",
        ]
    );
    let labelled = json!({"metadata": {"labels": {"x": "y"}}});
    let patched =
        api.send(common::admin(), "PATCH", &format!("{NS}/pods/p"), "application/merge-patch+json", labelled).await;
    assert_eq!(warnings(patched), Vec::<String>::new(), "nothing is said of a spec that stays");
    let old = api.send(common::admin(), "GET", &format!("{NS}/endpoints"), "", "").await;
    assert_eq!(
        warnings(old),
        ["299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\""]
    );
}

#[tokio::test]
async fn kinds_with_few_rules_fail_in_upstreams_words() {
    let api = Api::start().await;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let scalers = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let target = json!({"apiVersion": "v1", "kind": "Deployment", "name": "web"});
    let hints = json!({"forNodes": [{"name": "n"}, {"name": "n"}]});
    for (url, body, wanted) in [
        (
            slices,
            json!({"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "hints": hints}]}),
            json!([["FieldValueDuplicate", "endpoints[0].hints.forNodes[1].name", "Duplicate value: \"n\""]]),
        ),
        (
            budgets,
            json!({"metadata": {"name": "a"}, "spec": {"minAvailable": "101%"}}),
            json!([[
                "FieldValueInvalid",
                "spec.minAvailable",
                "Invalid value: \"101%\": must not be greater than 100%"
            ]]),
        ),
        (
            scalers,
            json!({"metadata": {"name": "a"}, "spec": {"minReplicas": 0, "maxReplicas": 2, "scaleTargetRef": target}}),
            json!([
                [
                    "FieldValueInvalid",
                    "spec.scaleTargetRef.apiVersion",
                    "Invalid value: \"v1\": apiVersion must specify API group"
                ],
                [
                    "FieldValueForbidden",
                    "spec.metrics",
                    "Forbidden: must specify at least one Object or External metric to support scaling to zero replicas"
                ],
            ]),
        ),
    ] {
        let (status, error) = api.call("POST", url, body).await;
        let causes = error["details"]["causes"].as_array().unwrap().iter();
        let causes: Value = causes.map(|c| json!([c["reason"], c["field"], c["message"]])).collect();
        assert_eq!((status, causes), (422, wanted), "{url}");
    }
    let old = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}});
    let mut budget = api.create(budgets, old).await;
    budget["status"] = json!({"conditions": [{"type": "DisruptionAllowed", "status": "Yes"}], "currentHealthy": -1});
    let (status, error) = api.call("PUT", &format!("{budgets}/b/status"), budget).await;
    let fields = error["details"]["causes"].as_array().unwrap().iter().map(|c| c["field"].clone());
    let fields: Vec<Value> = fields.collect();
    let at = |field: &str| json!(format!("status.{field}"));
    assert_eq!(
        (status, fields),
        (
            422,
            vec![
                at("conditions[0].status"),
                at("conditions[0].lastTransitionTime"),
                at("conditions[0].reason"),
                at("currentHealthy")
            ]
        )
    );
}
