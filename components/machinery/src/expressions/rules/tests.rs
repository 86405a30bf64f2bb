#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::*;
use crate::structural::parse;

fn checked(schema: Value) -> Vec<String> {
    let errors = Cel.check(&parse(&schema), &Path::new("schema"), None);
    errors.iter().map(FieldError::to_string).collect()
}

fn run(schema: &Value, new: Value, old: Option<Value>) -> Vec<String> {
    let rules = Cel.compile(&parse(schema));
    rules.validate(&Path::default(), &new, old.as_ref()).iter().map(FieldError::to_string).collect()
}

fn spec(spec: Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec}})
}

fn rule(text: &str) -> Value {
    json!([{"rule": text}])
}

#[test]
fn expressions_of_definitions_are_compiled() {
    let good = spec(json!({
        "type": "object",
        "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"}, "namespace": {"type": "string"}, "a-b": {"type": "string"},
            "port": {"x-kubernetes-int-or-string": true}, "when": {"type": "string", "format": "date-time"},
            "names": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10, "x-kubernetes-validations": rule("self != ''")}},
        },
        "x-kubernetes-validations": [
            {"rule": "self.min <= self.max", "messageExpression": "'min is %d'.format([self.min])", "fieldPath": ".min"},
            {"rule": "self.__namespace__ != '' && self.a__dash__b != ''"},
            {"rule": "type(self.port) == int || self.port.matches('^[a-z]+$')"},
            {"rule": "self.when > timestamp('2020-01-01T00:00:00Z')"},
            {"rule": "oldSelf.min <= self.min"},
            {"rule": "!oldSelf.hasValue() || oldSelf.value().min <= self.min", "optionalOldSelf": true},
        ],
    }));
    assert_eq!(checked(good), Vec::<String>::new());
    let mut root = spec(json!({"type": "object"}));
    root["x-kubernetes-validations"] =
        rule("self.metadata.name.size() < 10 && self.kind != '' && self.apiVersion != ''");
    assert_eq!(checked(root), Vec::<String>::new());
}

#[test]
fn wrong_rules_are_named() {
    let found = checked(spec(json!({
        "type": "object",
        "properties": {"x": {"type": "integer"}, "list": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 5, "x-kubernetes-validations": rule("oldSelf == self")}},
            "map": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": {"type": "string", "maxLength": 5, "x-kubernetes-validations": rule("oldSelf == self")}}}},
        "x-kubernetes-validations": [
            {"rule": "self.y > 1"}, {"rule": "self.x"}, {"rule": "self.x >"}, {"rule": "self.x > 0", "messageExpression": "1"},
            {"rule": "self.x > 0", "optionalOldSelf": true},
        ],
    })));
    let at = "schema.properties[spec].x-kubernetes-validations";
    let rule = |text: &str, message: &str| {
        format!(
            r#"{{"Rule":"{text}","Message":"","MessageExpression":"{message}","Reason":null,"FieldPath":"","OptionalOldSelf":null}}"#
        )
    };
    for (found, parts) in found.iter().zip([
        // what lies below comes first
        [
            "schema.properties[spec].properties[list].items.x-kubernetes-validations[0].rule: Invalid value: \"oldSelf == self\"".into(),
            "oldSelf cannot be used on the uncorrelatable portion of the schema within schema.properties[spec].properties[list]".into(),
        ],
        [
            "schema.properties[spec].properties[map].properties[a].x-kubernetes-validations[0].rule".into(),
            "uncorrelatable portion of the schema within schema.properties[spec].properties[map]".into(),
        ],
        [
            format!("{at}[0].rule: Invalid value: {}: compilation failed", rule(r"self.y \u003e 1", "")),
            "compilation failed: ERROR: <input>:1:5: undefined field 'y'".into(),
        ],
        [format!("{at}[1].rule"), "cel expression must evaluate to a bool".into()],
        [format!("{at}[2].rule"), "Syntax error: mismatched input '<EOF>'".into()],
        [
            format!("{at}[3].messageExpression: Invalid value: {}: ", rule(r"self.x \u003e 0", "1")),
            "messageExpression must evaluate to a string".into(),
        ],
        [format!("{at}[4].optionalOldSelf: Invalid value: true"), "may not be set if oldSelf is not used in rule".into()],
    ]) {
        assert!(parts.iter().all(|p| found.contains(p)), "{parts:?}: {found}");
    }
    assert_eq!(found.len(), 7, "{found:#?}");
}

/// Figures that others measured on upstream's API server.
#[test]
fn costs_are_those_of_upstream() {
    let cases = |message: u64, expectation: u64| {
        let text = |max: u64| json!({"type": "string", "maxLength": max});
        spec(json!({"type": "array", "maxItems": 20, "items": {
            "type": "object", "properties": {"message": text(message), "contains": text(expectation)},
            "x-kubernetes-validations": rule("!self.message.contains(self.contains)"),
        }}))
    };
    let dear = checked(cases(4096, 4096));
    assert!(dear[0].contains("estimated rule cost exceeds budget by factor of 5.4x"), "{dear:?}");
    assert_eq!(checked(cases(4096, 512)), Vec::<String>::new());
    let unbounded = checked(spec(json!({
        "type": "array", "items": {"type": "string"}, "x-kubernetes-validations": rule("self.all(x, self.all(y, x == y))"),
    })));
    assert!(unbounded[0].contains("factor of more than 100x"), "{unbounded:?}");
    assert!(
        unbounded
            .last()
            .unwrap()
            .starts_with("schema: Forbidden: x-kubernetes-validations estimated rule cost total for")
    );
    assert!(unbounded[1].contains("contributed to estimated rule cost total exceeding cost limit"));
}

#[test]
fn rules_are_run_on_objects() {
    let schema = spec(json!({
        "type": "object",
        "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "name is immutable", "reason": "FieldValueForbidden"}]},
        },
        "x-kubernetes-validations": [{"rule": "self.min <= self.max", "messageExpression": "'%d > %d'.format([self.min, self.max])", "fieldPath": ".min"}, {"rule": "self.max / self.min < 5"}],
    }));
    assert_eq!(run(&schema, json!({"spec": {"min": 1, "max": 2}}), None), Vec::<String>::new());
    assert_eq!(
        run(&schema, json!({"spec": {"min": 3, "max": 2}}), None),
        ["spec.min: Invalid value: \"object\": 3 > 2"]
    );
    assert_eq!(
        run(&schema, json!({"spec": {"min": 0, "max": 2}}), None),
        ["spec: Invalid value: \"object\": division by zero evaluating rule: self.max / self.min < 5"]
    );
    assert_eq!(
        run(&schema, json!({"spec": {"max": 2}}), None),
        [
            "spec: Invalid value: \"object\": no such key: min evaluating rule: self.min <= self.max",
            "spec: Invalid value: \"object\": no such key: min evaluating rule: self.max / self.min < 5",
        ]
    );
    let named = |name: &str| json!({"spec": {"min": 1, "max": 2, "name": name}});
    assert_eq!(run(&schema, named("a"), None), Vec::<String>::new());
    assert_eq!(run(&schema, named("a"), Some(named("b"))), ["spec.name: Forbidden: name is immutable"]);
}

#[test]
fn what_did_not_change_is_forgiven() {
    let schema = spec(json!({
        "type": "object",
        "properties": {
            "a": {"type": "string", "x-kubernetes-validations": rule("self == 'good'")},
            "b": {"type": "string"},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}, "x-kubernetes-validations": [{"rule": "self.v > 0"}, {"rule": "self.v >= oldSelf.v"}]}},
            "list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": rule("self == 'good'")}},
        },
    }));
    let old = json!({"spec": {"a": "bad", "b": "1", "map": [{"k": "x", "v": -1}], "list": ["bad"]}});
    let with = |change: fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new["spec"]);
        run(&schema, new, Some(old.clone()))
    };
    assert_eq!(with(|s| s["b"] = json!("2")), Vec::<String>::new());
    assert_eq!(with(|s| s["a"] = json!("worse")), ["spec.a: Invalid value: \"string\": failed rule: self == 'good'"]);
    assert_eq!(
        with(|s| s["map"][0]["v"] = json!(-2)),
        [
            "spec.map[0]: Invalid value: \"object\": failed rule: self.v > 0",
            "spec.map[0]: Invalid value: \"object\": failed rule: self.v >= oldSelf.v",
        ]
    );
    // items of plain lists cannot be told apart
    assert_eq!(with(|s| s["list"] = json!(["bad", "good"])).len(), 1);
}

#[test]
fn objects_cannot_make_rules_run_forever() {
    let schema = spec(json!({
        "type": "array", "items": {"type": "string"},
        "x-kubernetes-validations": rule("self.all(x, self.all(y, self.all(z, x != '' || y != '' || z != '')))"),
    }));
    let many: Vec<String> = (0..500).map(|i| i.to_string()).collect();
    let found = run(&schema, json!({"spec": many}), None);
    assert!(
        found[0].contains("'operation cancelled: actual cost limit exceeded': no further validation rules will be run"),
        "{found:?}"
    );
}
