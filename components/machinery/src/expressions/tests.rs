#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::*;
use crate::{FieldError, Path};

fn errors(spec: Value, kind: &str) -> Vec<String> {
    let object = json!({"kind": kind, "metadata": {"name": "p.example.com"}, "spec": spec});
    Policy::compile(&object).1.iter().map(FieldError::to_string).collect()
}

fn validating(spec: Value) -> Vec<String> {
    errors(spec, "ValidatingAdmissionPolicy")
}

#[test]
fn what_expressions_must_give() {
    let env = environment(Declared { authorizer: true, ..Declared::default() });
    let why = |source: &str, returns| compile(&env, source, returns).unwrap_err();
    assert_eq!(why("object.spec.paused", Returns::Bool), "must evaluate to bool but got dyn");
    assert_eq!(why("1", Returns::TextOrNull), "must evaluate to one of [string null_type] but got int");
    assert_eq!(
        why("params.x == 1", Returns::Bool),
        "compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | params.x == 1\n | ^"
    );
    assert!(why("request.foo == ''", Returns::Bool).contains("undefined field 'foo'"));
    assert!(why("namespaceObject.metadata.uid == ''", Returns::Bool).contains("undefined field 'uid'"));
    for source in [
        "request.userInfo.groups.exists(g, g == 'x') && request.?namespace.orValue('') == ''",
        "authorizer.requestResource.check('get').allowed()",
        "namespaceObject.metadata.labels['a'] == 'b' && object.a == oldObject.b",
        "request.options.dryRun == []",
    ] {
        compile(&env, source, Returns::Bool).unwrap();
    }
}

#[test]
fn variables_know_those_before_them() {
    let spec = json!({
        "variables": [
            {"name": "a", "expression": "object.spec.replicas"},
            {"name": "b", "expression": "variables.a > 1"},
            {"name": "in", "expression": "1"},
            {"name": "c", "expression": "variables.d"},
        ],
        "validations": [{"expression": "variables.b"}, {"expression": "variables.z"}],
    });
    let found = validating(spec);
    assert_eq!(found[0], "spec.variables[2].name: Invalid value: \"in\": name is not a valid CEL identifier");
    assert!(found[1].starts_with("spec.variables[3].expression: Invalid value: \"variables.d\": compilation failed: ERROR: <input>:1:10: undefined field 'd'"), "{}", found[1]);
    assert!(found[2].contains("spec.validations[1].expression") && found[2].contains("undefined field 'z'"));
    assert_eq!(found.len(), 3);
}

#[test]
fn validations_and_annotations() {
    let found = validating(json!({
        "validations": [{"expression": " ", "message": " ", "reason": "Because"}, {"expression": "true", "messageExpression": "authorizer.path('/').check('get').reason()", "message": "a\nb"}],
        "auditAnnotations": [{"key": "k", "valueExpression": "1"}, {"key": "k", "valueExpression": "null"}],
    }));
    assert_eq!(found[0], "spec.validations[0].expression: Required value: expression is not specified");
    assert_eq!(found[1], "spec.validations[0].message: Invalid value: \" \": message must be non-empty if specified");
    assert!(found[2].starts_with("spec.validations[0].reason: Unsupported value: \"Because\""));
    assert!(found[3].contains("undeclared reference to 'authorizer'"));
    assert!(found[4].ends_with("must not contain line breaks"));
    assert!(found[5].contains("must evaluate to one of [string null_type] but got int"));
    assert_eq!(found[6], "spec.auditAnnotations[1].key: Duplicate value: \"k\"");
    assert_eq!(validating(json!({})).len(), 2);
}

#[test]
fn mutations_give_patches() {
    let good = json!({"mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: Object.metadata.labels{a: 'b'}}}"}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('x/y'), value: 1}]"}},
    ]});
    assert_eq!(errors(good, "MutatingAdmissionPolicy"), Vec::<String>::new());
    let found = errors(
        json!({"mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "{'a': 'b'}"}, "jsonPatch": {}},
            {"patchType": "JSONPatch"},
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{foo: 1}]"}},
            {"patchType": "other"},
        ]}),
        "MutatingAdmissionPolicy",
    );
    assert!(found[0].ends_with("must evaluate to Object but got map(string, string)"), "{}", found[0]);
    assert!(found[1].ends_with("must not be specified when patchType is ApplyConfiguration"));
    assert_eq!(found[2], "spec.mutations[1].jsonPatch: Required value: must be specified when patchType is JSONPatch");
    assert!(found[3].contains("undefined field 'foo'"));
    assert!(found[4].contains("Unsupported value: \"other\""));
}

#[test]
fn conditions_of_webhooks() {
    let list = [
        json!({"name": "good", "expression": "object.metadata.name == 'x' && authorizer.path('/').check('get').allowed()"}),
        json!({"name": "good", "expression": "["}),
        json!({"expression": "true"}),
    ];
    let (compiled, found) = match_conditions(&list, false, &Path::new("webhooks").index(0).child("matchConditions"));
    let found: Vec<String> = found.iter().map(FieldError::to_string).collect();
    assert_eq!(compiled.len(), 2);
    assert!(found[0].starts_with("webhooks[0].matchConditions[1].expression: Invalid value: \"[\": compilation failed: ERROR: <input>:1:2: Syntax error"));
    assert_eq!(found[1], "webhooks[0].matchConditions[1].name: Duplicate value: \"good\"");
    assert_eq!(found[2], "webhooks[0].matchConditions[2].name: Required value");
}

#[test]
fn kinds_that_rules_name_are_type_checked() {
    let rules = |resources: Value| json!({"resourceRules": [{"apiGroups": ["apps", "*"], "apiVersions": ["v1"], "operations": ["*"], "resources": resources}]});
    let policy = |resources: Value, expression: &str| {
        json!({"spec": {
            "matchConstraints": rules(resources),
            "variables": [{"name": "spec", "expression": "object.spec"}],
            "validations": [{"expression": expression, "messageExpression": "object.kind"}],
        }})
    };
    let fine = policy(
        json!(["deployments"]),
        "variables.spec.replicas > 1 && object.metadata.labels['a'] == 'b' && object.spec.template.spec.containers.all(c, c.name != '')",
    );
    assert_eq!(type_checking(&fine), json!({}));
    let wrong = type_checking(&policy(
        json!(["deployments", "replicasets", "*"]),
        "variables.spec.replicas == '1' || object.spec.foo",
    ));
    let warning = &wrong["expressionWarnings"][0];
    assert_eq!(warning["fieldRef"], "spec.validations[0].expression");
    let text = warning["warning"].as_str().unwrap();
    for part in [
        "apps/v1, Kind=Deployment: ERROR: <input>:1:25: found no matching overload for '_==_' applied to '(int, string)'",
        "undefined field 'foo'",
        "apps/v1, Kind=ReplicaSet: ERROR",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(wrong["expressionWarnings"].as_array().unwrap().len(), 1);
}
