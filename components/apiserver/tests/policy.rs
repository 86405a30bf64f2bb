//! Expressions (CEL) where clients meet them: admission policies, match conditions, rules of custom resources.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use apiserver::Identity;
use common::{Api, admin};
use serde_json::{Value, json};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn deployment(name: &str, replicas: u32) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    }})
}

fn constraints(group: &str, resource: &str, operations: &[&str]) -> Value {
    json!({"resourceRules": [{"apiGroups": [group], "apiVersions": ["v1"], "operations": operations, "resources": [resource]}]})
}

/// A policy with a binding of the same name.
async fn policy(api: &Api, kind: &str, name: &str, spec: Value, binding: Value) {
    let plural = format!("{}ies", kind.to_lowercase().trim_end_matches('y'));
    api.create(&format!("{GROUP}/{plural}"), json!({"metadata": {"name": name}, "spec": spec})).await;
    let mut binding = binding;
    binding["policyName"] = name.into();
    let path = format!("{GROUP}/{}bindings", kind.to_lowercase());
    api.create(&path, json!({"metadata": {"name": name}, "spec": binding})).await;
}

async fn validating(api: &Api, name: &str, spec: Value, binding: Value) {
    policy(api, "ValidatingAdmissionPolicy", name, spec, binding).await;
}

async fn mutating(api: &Api, name: &str, spec: Value) {
    policy(api, "MutatingAdmissionPolicy", name, spec, json!({})).await;
}

fn message(answer: &Value) -> &str {
    answer["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_policy_acts_on_the_next_request() {
    let api = Api::start().await;
    let spec = json!({
        "matchConstraints": constraints("apps", "deployments", &["CREATE", "UPDATE"]),
        "variables": [{"name": "replicas", "expression": "object.spec.replicas"}, {"name": "odd", "expression": "variables.replicas % 2 == 1"}],
        "validations": [
            {"expression": "variables.replicas > 1", "messageExpression": "'wants replicas > 1, got ' + string(variables.replicas)"},
            {"expression": "variables.odd || oldObject != null", "reason": "Forbidden", "message": "must be odd"},
        ],
    });
    validating(&api, "replicas.example.com", spec, json!({"validationActions": ["Deny"]})).await;
    let (status, answer) = api.call("POST", DEPLOYMENTS, deployment("one", 1)).await;
    assert_eq!((status, &answer["reason"]), (422, &json!("Invalid")), "{answer}");
    let text = "deployments.apps \"one\" is forbidden: ValidatingAdmissionPolicy 'replicas.example.com' with binding 'replicas.example.com' denied request: wants replicas > 1, got 1";
    assert_eq!(message(&answer), text);
    let (status, answer) = api.call("POST", DEPLOYMENTS, deployment("two", 2)).await;
    assert_eq!((status, &answer["reason"]), (403, &json!("Forbidden")), "{answer}");
    assert!(answer["details"]["causes"][0]["message"].as_str().unwrap().ends_with("denied request: must be odd"));
    api.create(DEPLOYMENTS, deployment("three", 3)).await;
    let patch = |replicas: u32| json!({"spec": {"replicas": replicas}});
    assert_eq!(api.call("PATCH", &format!("{DEPLOYMENTS}/three"), patch(4)).await.0, 200);
    assert_eq!(api.call("PATCH", &format!("{DEPLOYMENTS}/three"), patch(1)).await.0, 422);
    // without its binding a policy does nothing
    api.call("DELETE", &format!("{GROUP}/validatingadmissionpolicybindings/replicas.example.com"), Value::Null).await;
    api.create(DEPLOYMENTS, deployment("one", 1)).await;
}

#[tokio::test]
async fn expressions_are_checked_when_they_are_written() {
    let api = Api::start().await;
    let spec = json!({"matchConstraints": constraints("", "configmaps", &["CREATE"]), "validations": [{"expression": "object.data.x =="}]});
    let body = json!({"metadata": {"name": "bad"}, "spec": spec});
    let (status, answer) = api.call("POST", &format!("{GROUP}/validatingadmissionpolicies"), body).await;
    assert_eq!(status, 422);
    assert!(message(&answer).contains("spec.validations[0].expression: Invalid value: \"object.data.x ==\": compilation failed: ERROR: <input>:1:17: Syntax error: mismatched input '<EOF>'"), "{answer}");
    for kind in ["Validating", "Mutating"] {
        let hook = json!({
            "name": "w.example.com", "clientConfig": {"url": "https://127.0.0.1:1/"}, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "matchConditions": [{"name": "wrong", "expression": "... [] bad expression"}],
        });
        let body = json!({"metadata": {"name": "bad"}, "webhooks": [hook]});
        let path = format!("{GROUP}/{}webhookconfigurations", kind.to_lowercase());
        let (status, answer) = api.call("POST", &path, body).await;
        assert_eq!(status, 422);
        assert!(message(&answer).contains("compilation failed"), "{answer}");
    }
    let map = json!({"metadata": {"name": "bad"}, "spec": {
        "matchConstraints": constraints("", "configmaps", &["CREATE"]), "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "1"}}],
    }});
    let (status, answer) = api.call("POST", &format!("{GROUP}/mutatingadmissionpolicies"), map).await;
    assert!(status == 422 && message(&answer).contains("must evaluate to Object but got int"), "{answer}");
}

#[tokio::test]
async fn conditions_parameters_and_what_is_done() {
    let api = Api::start().await;
    api.create(MAPS, json!({"metadata": {"name": "limit"}, "data": {"max": "3"}})).await;
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": constraints("apps", "deployments", &["CREATE"]),
        "matchConditions": [{"name": "not-admin", "expression": "request.userInfo.username != 'root' && !authorizer.group('apps').resource('deployments').check('bypass').allowed()"}],
        "validations": [{"expression": "object.spec.replicas <= int(params.data.max)"}],
        "auditAnnotations": [{"key": "replicas", "valueExpression": "string(object.spec.replicas)"}],
    });
    let params = json!({"name": "limit", "namespace": "default", "parameterNotFoundAction": "Deny"});
    validating(&api, "limit.example.com", spec, json!({"validationActions": ["Warn", "Audit"], "paramRef": params}))
        .await;
    api.create(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
        json!({"metadata": {"name": "joe"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "joe"}]}),
    )
    .await;
    let joe = || Identity::new("joe", [""; 0]);
    let send = async |who: Identity, body: Value| {
        let answer = api.send(who, "POST", DEPLOYMENTS, "application/json", body).await;
        let warning = answer.headers().get("warning").map(|w| w.to_str().unwrap().to_owned());
        (answer.status().as_u16(), warning)
    };
    let (status, warning) = send(joe(), deployment("big", 5)).await;
    assert_eq!(status, 201);
    assert_eq!(
        warning.unwrap(),
        "299 - \"Validation failed for ValidatingAdmissionPolicy 'limit.example.com' with binding 'limit.example.com': failed expression: object.spec.replicas <= int(params.data.max)\""
    );
    assert_eq!(send(joe(), deployment("small", 1)).await, (201, None));
    // who may bypass it is not looked at
    assert_eq!(send(admin(), deployment("admin", 9)).await, (201, None));

    let binding = format!("{GROUP}/validatingadmissionpolicybindings/limit.example.com");
    api.call("PATCH", &binding, json!({"spec": {"validationActions": ["Deny"]}})).await;
    assert_eq!(send(joe(), deployment("bigger", 5)).await.0, 422);
    api.call("DELETE", &format!("{MAPS}/limit"), Value::Null).await;
    let (status, answer) = api.call_as(joe(), "POST", DEPLOYMENTS, deployment("tiny", 1)).await;
    assert_eq!(status, 422);
    assert!(
        message(&answer).ends_with(
            "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        ),
        "{answer}"
    );
    api.call("PATCH", &binding, json!({"spec": {"paramRef": {"parameterNotFoundAction": "Allow"}}})).await;
    assert_eq!(send(joe(), deployment("tiny", 1)).await.0, 201);
}

#[tokio::test]
async fn failures_follow_the_policy() {
    let api = Api::start().await;
    let spec = |policy: &str, expression: &str| json!({"failurePolicy": policy, "matchConstraints": constraints("", "configmaps", &["CREATE", "DELETE"]), "validations": [{"expression": expression}]});
    let deny = json!({"validationActions": ["Deny"]});
    validating(&api, "open.example.com", spec("Ignore", "object.data.missing == 'x'"), deny.clone()).await;
    api.create(MAPS, json!({"metadata": {"name": "a"}})).await;
    validating(&api, "closed.example.com", spec("Fail", "object.data.missing == 'x'"), deny.clone()).await;
    let (status, answer) = api.call("POST", MAPS, json!({"metadata": {"name": "b"}, "data": {"k": "v"}})).await;
    assert_eq!(status, 422);
    assert!(
        message(&answer).ends_with("expression 'object.data.missing == 'x'' resulted in error: no such key: missing"),
        "{answer}"
    );
    // a delete has no object
    let (status, answer) = api.call("DELETE", &format!("{MAPS}/a"), Value::Null).await;
    assert!(status == 422 && message(&answer).contains("resulted in error: no such overload"), "{answer}");
    // policies are exempt, so that they can be taken back
    let path = format!("{GROUP}/validatingadmissionpolicies/closed.example.com");
    assert_eq!(api.call("DELETE", &path, Value::Null).await.0, 200);
    let endless = "[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, [1,2,3,4,5,6,7,8,9].all(e, [1,2,3,4,5,6,7,8,9].all(f, a+b+c+d+e+f > 0))))))";
    validating(&api, "endless.example.com", spec("Fail", endless), deny).await;
    let (status, answer) = api.call("POST", MAPS, json!({"metadata": {"name": "c"}})).await;
    assert!(status == 422 && message(&answer).contains("actual cost limit exceeded"), "{answer}");
}

#[tokio::test]
async fn mutations_change_objects() {
    let api = Api::start().await;
    let apply =
        |expression: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}});
    let patch = |expression: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}});
    let spec = |resource: (&str, &str), mutations: Value| json!({"matchConstraints": constraints(resource.0, resource.1, &["CREATE", "UPDATE"]), "reinvocationPolicy": "IfNeeded", "mutations": mutations});
    let deployments = ("apps", "deployments");
    let sidecar = "Object{metadata: Object.metadata{annotations: {'who': request.userInfo.username}}, spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'sidecar', image: 'proxy'}]}}}}";
    mutating(&api, "sidecar.example.com", spec(deployments, json!([apply(sidecar), patch("[JSONPatch{op: 'test', path: '/spec/replicas', value: 2}, JSONPatch{op: 'replace', path: '/spec/replicas', value: 7}]")]))).await;
    // begins after the other by name and gives it a reason to run again
    mutating(&api, "zz.example.com", spec(deployments, json!([patch("has(object.metadata.annotations.later) ? [] : [JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('later'), value: 'yes'}]")]))).await;
    let made = api.create(DEPLOYMENTS, deployment("web", 2)).await;
    let containers = made["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.iter().map(|c| c["name"].as_str().unwrap()).collect::<Vec<_>>(), ["c", "sidecar"], "{made}");
    // what a mutation adds gets its defaults
    assert_eq!(containers[1]["terminationMessagePath"], "/dev/termination-log");
    assert_eq!(
        (&made["spec"]["replicas"], &made["metadata"]["annotations"]),
        (&json!(7), &json!({"who": "admin", "later": "yes"}))
    );
    // a test that fails is no failure
    assert_eq!(api.create(DEPLOYMENTS, deployment("other", 3)).await["spec"]["replicas"], 3);

    mutating(
        &api,
        "atomic.example.com",
        spec(("", "services"), json!([apply("Object{spec: Object.spec{selector: Object.spec.selector{a: 'b'}}}")])),
    )
    .await;
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let (status, answer) = api.call("POST", "/api/v1/namespaces/default/services", service).await;
    assert_eq!((status, &answer["reason"]), (403, &json!("Invalid")), "{answer}");
    assert_eq!(
        message(&answer),
        "policy 'atomic.example.com' with binding 'atomic.example.com' denied request: error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector"
    );
}

#[tokio::test]
async fn policies_are_shown_as_upstream_shows_them() {
    let api = Api::start().await;
    let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "matchConstraints": constraints("", "pods", &["*"]), "validations": [{"expression": "true"}]});
    let params = json!({"name": "limit", "parameterNotFoundAction": "Allow"});
    validating(&api, "shown.example.com", spec, json!({"validationActions": ["Deny"], "paramRef": params})).await;
    let shown = api
        .kubectl_ok(&["get", "validatingadmissionpolicies,validatingadmissionpolicybindings", "--no-headers"], "")
        .await;
    assert!(shown.contains("1") && shown.contains("v1/ConfigMap") && shown.contains("*/limit"), "{shown}");
    let path = format!("{GROUP}/validatingadmissionpolicies/shown.example.com");
    assert_eq!(api.get(&path).await["status"], json!({"observedGeneration": 1, "typeChecking": {}}));
    let status = json!({"status": {"conditions": [{"type": "x", "status": "True", "reason": "r", "message": "m", "lastTransitionTime": "2024-01-01T00:00:00Z"}]}});
    let (code, answer) = api.call("PATCH", &format!("{path}/status"), status).await;
    assert_eq!(
        (code, &answer["status"]["conditions"][0]["type"], &answer["metadata"]["generation"]),
        (200, &json!("x"), &json!(1))
    );
    let (_, answer) = api.call("PATCH", &path, json!({"spec": {"failurePolicy": "Ignore"}})).await;
    assert_eq!(
        (&answer["metadata"]["generation"], &answer["status"]["conditions"][0]["type"]),
        (&json!(2), &json!("x"))
    );
}

fn definition(spec: Value) -> Value {
    json!({"metadata": {"name": "crontabs.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}],
    }})
}

#[tokio::test]
async fn rules_of_custom_resources() {
    const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    const CRONTABS: &str = "/apis/example.com/v1/namespaces/default/crontabs";
    let api = Api::start().await;
    let with = |rules: Value| {
        json!({"type": "object", "x-kubernetes-validations": rules, "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"}, "names": {"type": "array", "items": {"type": "string"}},
        }})
    };
    for (rule, text) in [
        ("self.max >", "compilation failed: ERROR: <input>:1:11: Syntax error: mismatched input '<EOF>'"),
        ("self.other > 1", "undefined field 'other'"),
        (
            "self.names.all(a, self.names.all(b, a == b))",
            "estimated rule cost exceeds budget by factor of more than 100x",
        ),
    ] {
        let (status, answer) = api.call("POST", DEFINITIONS, definition(with(json!([{"rule": rule}])))).await;
        assert!(status == 422 && message(&answer).contains(text), "{rule}: {answer}");
        assert!(
            message(&answer)
                .contains("spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"),
            "{answer}"
        );
    }
    let rules = json!([
        {"rule": "self.min <= self.max", "messageExpression": "'%d is more than %d'.format([self.min, self.max])", "fieldPath": ".min"},
        {"rule": "self.max >= oldSelf.max", "message": "max only grows", "reason": "FieldValueForbidden"},
    ]);
    api.create(DEFINITIONS, definition(with(rules))).await;
    let crontab = |min: i64, max: i64| json!({"apiVersion": "example.com/v1", "kind": "CronTab", "metadata": {"name": "a"}, "spec": {"min": min, "max": max}});
    let (status, answer) = api.call("POST", CRONTABS, crontab(3, 2)).await;
    assert_eq!(status, 422);
    assert_eq!(
        message(&answer),
        "CronTab.example.com \"a\" is invalid: spec.min: Invalid value: \"object\": 3 is more than 2"
    );
    assert_eq!(answer["details"]["causes"][0]["field"], "spec.min");
    api.create(CRONTABS, crontab(1, 5)).await;
    let path = format!("{CRONTABS}/a");
    let (status, answer) = api.call("PATCH", &path, json!({"spec": {"max": 4}})).await;
    assert_eq!(
        (status, message(&answer)),
        (422, "CronTab.example.com \"a\" is invalid: spec: Forbidden: max only grows")
    );
    assert_eq!(api.call("PATCH", &path, json!({"spec": {"max": 6}})).await.0, 200);
}
