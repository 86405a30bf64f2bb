//! Pure helpers over object metadata, selectors, API errors and times.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::api::{DeleteParams, Preconditions};
use kube::core::{Selector, SelectorExt};

pub fn now() -> Timestamp {
    Timestamp::now()
}

/// API times have whole seconds; anything finer would differ from what is read back.
pub fn now_time() -> Time {
    whole_second(now())
}

pub fn whole_second(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// How long until `from + seconds`; zero if that has passed.
pub fn until(from: Timestamp, seconds: i64, now: Timestamp) -> Duration {
    let millis = from.as_millisecond() + seconds * 1000 - now.as_millisecond();
    Duration::from_millis(millis.max(0) as u64)
}

pub fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

pub fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

pub fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

pub fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|it| it == finalizer)
}

pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

pub fn is_controlled_by(meta: &ObjectMeta, owner_uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == owner_uid)
}

/// The reference that marks `owner` as the managing controller.
pub fn controller_ref<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: name(owner.meta()).to_owned(),
        uid: uid(owner.meta()).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Index: the controller's uid, or `orphan/<namespace>` for objects nobody controls.
pub fn owner_index<K: Resource>(object: &K) -> Option<String> {
    let meta = object.meta();
    Some(match controller_of(meta) {
        Some(owner) => owner.uid.clone(),
        None => orphan_index(namespace(meta)),
    })
}

pub fn orphan_index(ns: &str) -> String {
    format!("orphan/{ns}")
}

/// A label selector that was accepted by the API server; one that does not parse selects nothing.
pub fn selector(selector: &LabelSelector) -> Option<Selector> {
    Selector::try_from(selector.clone()).ok()
}

pub fn selects(selector: &Selector, meta: &ObjectMeta) -> bool {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    selector.matches(meta.labels.as_ref().unwrap_or(&NONE))
}

/// Resolves a count or a percentage of `total`.
pub fn scaled(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let product = percent * i64::from(total);
            let part = if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
            part as i32
        }
    }
}

/// Deletes exactly the object that was seen; a successor of the same name survives.
pub fn delete_exactly(meta: &ObjectMeta) -> DeleteParams {
    DeleteParams::background().preconditions(Preconditions { uid: meta.uid.clone(), resource_version: None })
}

fn api_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

fn api_reason(error: &kube::Error) -> &str {
    match error {
        kube::Error::Api(status) => &status.reason,
        _ => "",
    }
}

pub fn not_found(error: &kube::Error) -> bool {
    api_code(error) == Some(404)
}

pub fn already_exists(error: &kube::Error) -> bool {
    api_reason(error) == "AlreadyExists"
}

pub fn conflict(error: &kube::Error) -> bool {
    api_code(error) == Some(409) && !already_exists(error)
}

/// A create was refused because the namespace is going away: nothing to retry.
pub fn namespace_terminating(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            status
                .details
                .iter()
                .flat_map(|details| &details.causes)
                .any(|cause| cause.reason == "NamespaceTerminating")
                || status.message.contains("is being terminated")
        }
        _ => false,
    }
}

pub fn is_conflict(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<kube::Error>()).any(conflict)
}

/// Like `namespace_terminating`, for an error with context.
pub fn is_namespace_terminating(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<kube::Error>()).any(namespace_terminating)
}

/// An outcome that must not be an error when the object is already gone or was replaced.
pub fn ignore_gone<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if not_found(&error) || conflict(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!((scaled(&quarter, 3, true), scaled(&quarter, 3, false)), (1, 0));
        assert_eq!((scaled(&quarter, 10, true), scaled(&quarter, 10, false)), (3, 2));
        assert_eq!(scaled(&IntOrString::Int(4), 100, true), 4);
    }

    #[test]
    fn selectors_match_absent_labels_as_upstream() {
        let json = serde_json::json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["x"]}]});
        let parsed: LabelSelector = serde_json::from_value(json).unwrap_or_default();
        let parsed = selector(&parsed);
        assert!(parsed.is_some_and(|it| selects(&it, &ObjectMeta::default())));
    }
}
