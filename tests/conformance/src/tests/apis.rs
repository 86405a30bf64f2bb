//! Entries that are the life of one kind.

use serde_json::{Value, json};

use super::objects::{condition, rule};
use crate::lifecycle::{Lifecycle, Make};
use crate::resource::Res;
use crate::runner::Entry;

fn entry(name: &'static str, lifecycle: fn() -> Lifecycle) -> Entry {
    Entry::new(name, move |t| async move { lifecycle().run(&t).await })
}

pub fn entries() -> Vec<Entry> {
    vec![
        entry("[sig-api-machinery] API priority and fairness should support FlowSchema API operations", flow_schema),
        entry(
            "[sig-api-machinery] API priority and fairness should support PriorityLevelConfiguration API operations",
            priority_level,
        ),
        entry(
            "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicy API operations",
            || policy(Res::MAP, "mutations", json!([annotate()]), None),
        ),
        entry(
            "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicyBinding API operations",
            || binding(Res::MAP_BINDING, &json!({})),
        ),
        entry(
            "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicy API operations",
            || {
                let status = json!({"status": {"conditions": [condition("PatchStatusFailed", "False")]}});
                policy(
                    Res::VAP,
                    "validations",
                    json!([{"expression": "true"}]),
                    Some((status, "/status/conditions/0/type")),
                )
            },
        ),
        entry(
            "[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicyBinding API operations",
            || binding(Res::VAP_BINDING, &json!({"validationActions": ["Deny"]})),
        ),
        entry(
            "[sig-api-machinery] StorageVersionMigration CRUD Tests storagemigration.k8s.io/v1 StorageVersionMigration",
            migration,
        ),
        entry("[sig-api-machinery] ResourceQuota should manage the lifecycle of a ResourceQuota", || Lifecycle {
            res: Res::QUOTA,
            object: numbered("quota", json!({"hard": {"cpu": "1", "memory": "500Mi"}})),
            change: Some((json!({"spec": {"hard": {"memory": "750Mi"}}}), "/spec/hard/memory")),
            status: None,
            deletes_collection: true,
        }),
        entry("[sig-auth] ServiceAccounts should run through the lifecycle of a ServiceAccount", || Lifecycle {
            res: Res::SERVICE_ACCOUNT,
            object: Box::new(|_, number| json!({"metadata": {"name": format!("account-{number}")}})),
            change: Some((json!({"automountServiceAccountToken": false}), "/automountServiceAccountToken")),
            status: None,
            deletes_collection: true,
        }),
    ]
}

fn numbered(prefix: &'static str, spec: Value) -> Make {
    Box::new(move |t, number| json!({"metadata": {"name": format!("{prefix}-{number}-{}", t.ns)}, "spec": spec}))
}

fn flow_schema() -> Lifecycle {
    let subject = json!({"kind": "User", "user": {"name": "a-user-nobody-is"}});
    let spec = json!({
        "matchingPrecedence": 9999,
        "priorityLevelConfiguration": {"name": "global-default"},
        "rules": [{"subjects": [subject], "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]}],
    });
    Lifecycle {
        res: Res::FLOW_SCHEMA,
        object: numbered("conf", spec),
        change: Some((json!({"spec": {"matchingPrecedence": 9998}}), "/spec/matchingPrecedence")),
        status: Some((
            json!({"status": {"conditions": [condition("PatchStatusFailed", "False")]}}),
            "/status/conditions/0",
        )),
        deletes_collection: true,
    }
}

fn priority_level() -> Lifecycle {
    let limited = json!({"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}});
    Lifecycle {
        res: Res::PRIORITY_LEVEL,
        object: numbered("conf", json!({"type": "Limited", "limited": limited})),
        change: Some((
            json!({"spec": {"limited": {"nominalConcurrencyShares": 4}}}),
            "/spec/limited/nominalConcurrencyShares",
        )),
        status: Some((
            json!({"status": {"conditions": [condition("PatchStatusFailed", "False")]}}),
            "/status/conditions/0",
        )),
        deletes_collection: true,
    }
}

fn annotate() -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {
        "expression": r#"Object{metadata: Object.metadata{annotations: {"seen": "true"}}}"#}})
}

/// Its rules match nothing, so that it disturbs nobody.
fn policy(res: Res, field: &'static str, value: Value, status: Option<(Value, &'static str)>) -> Lifecycle {
    let mutating = field == "mutations";
    let object: Make = Box::new(move |t, number| {
        let mut spec = json!({
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"a-label-no-namespace-has": t.ns}},
                "resourceRules": [rule("apps", "v1", "deployments", &["CREATE"])],
            },
        });
        spec[field] = value.clone();
        if mutating {
            spec["reinvocationPolicy"] = json!("Never");
        }
        json!({"metadata": {"name": format!("{number}.{}.example.com", t.ns)}, "spec": spec})
    });
    let change = Some((json!({"spec": {"failurePolicy": "Ignore"}}), "/spec/failurePolicy"));
    Lifecycle { res, object, change, status, deletes_collection: true }
}

fn binding(res: Res, extra: &Value) -> Lifecycle {
    let mut spec = extra.clone();
    spec["policyName"] = json!("a-policy-that-is-not-there.example.com");
    Lifecycle { res, object: numbered("conf", spec), change: None, status: None, deletes_collection: true }
}

fn migration() -> Lifecycle {
    Lifecycle {
        res: Res::MIGRATION,
        object: numbered("conf", json!({"resource": {"group": "coordination.k8s.io", "resource": "leases"}})),
        change: None,
        status: None,
        deletes_collection: true,
    }
}
