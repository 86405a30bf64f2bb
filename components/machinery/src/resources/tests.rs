#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::schema::{self, Unknown};

#[test]
fn names_are_unique_and_served_once() {
    let mut seen = BTreeSet::new();
    for resource in all() {
        assert!(seen.insert((resource.group, resource.version, resource.plural)), "{}", resource.plural);
        assert!(seen.insert((resource.group, resource.version, resource.kind)), "{}", resource.kind);
        assert_eq!(resource.list_kind, format!("{}List", resource.kind));
        assert_eq!(resource.singular, resource.kind.to_lowercase());
        assert!(resource.definition.ends_with(&format!(".{}", resource.kind)));
        let found = find(resource.group, resource.version, resource.plural).map(|r| r.kind);
        assert_eq!(
            (found, find_kind(resource.group, resource.version, resource.kind).map(|r| r.plural)),
            (Some(resource.kind), Some(resource.plural))
        );
    }
}

/// Hooks see only decoded objects; on the smallest of them none may panic, defaults must be idempotent and fit the schema.
#[test]
fn hooks_bear_small_objects() {
    for resource in all() {
        for mut object in
            [json!({"metadata": {"name": "a"}}), json!({"metadata": {"name": "a"}, "spec": {}, "status": {}})]
        {
            schema::check(resource.definition, &mut object, Unknown::Prune).unwrap();
            let strategy = resource.strategy;
            (strategy.default)(&mut object);
            let once = object.clone();
            (strategy.default)(&mut object);
            assert_eq!(object, once, "{}", resource.kind);
            (strategy.prepare_create)(&mut object);
            let unknown = schema::check(resource.definition, &mut object, Unknown::Prune).unwrap();
            assert_eq!(unknown, Vec::<String>::new(), "{}", resource.kind);
            let old = object.clone();
            (strategy.prepare_update)(&mut object, &old);
            assert_eq!(object, old, "{}: an update that changes nothing", resource.kind);
            let created = (strategy.validate_create)(&object);
            let updated = (strategy.validate_update)(&object, &old);
            assert!(updated.iter().all(|error| created.contains(error)), "{}: {updated:?}", resource.kind);
            assert!((strategy.validate_status_update)(&object, &old).is_empty(), "{}", resource.kind);
        }
    }
}

#[test]
fn metadata_rules() {
    let pods = find("", "v1", "pods").unwrap();
    let texts = |resource: &Resource, object: Value| {
        validate_metadata(resource, &object).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(texts(pods, json!({"metadata": {"name": "a", "namespace": "b", "labels": {"x/y": "z"}}})).is_empty());
    assert_eq!(
        texts(pods, json!({"metadata": {"namespace": "b"}})),
        ["metadata.name: Required value: name or generateName is required"]
    );
    assert!(
        texts(pods, json!({"metadata": {"name": "A", "namespace": "b"}}))[0]
            .starts_with("metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must")
    );
    let nodes = find("", "v1", "nodes").unwrap();
    assert_eq!(
        texts(nodes, json!({"metadata": {"name": "a", "namespace": "b"}})),
        ["metadata.namespace: Forbidden: not allowed on this type"]
    );
    let role = find("rbac.authorization.k8s.io", "v1", "clusterroles").unwrap();
    assert!(texts(role, json!({"metadata": {"name": "system:Node"}})).is_empty());
    let (old, new) = (json!({"metadata": {"uid": "1"}}), json!({"metadata": {"uid": "2"}}));
    assert_eq!(
        validate_metadata_update(&new, &old)[0].to_string(),
        "metadata.uid: Invalid value: \"2\": field is immutable"
    );
}

#[test]
fn names_are_kept_once() {
    let (a, b) = (intern(&"we".repeat(2)), intern("wewe"));
    assert!(std::ptr::eq(a, b));
}
