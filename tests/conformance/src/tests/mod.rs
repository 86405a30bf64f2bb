//! The entries, by theme.

mod aggregator;
mod apis;
mod certificates;
mod chunking;
mod containers;
mod crds;
mod discovery;
mod events;
mod field_validation;
mod gc;
mod guestbook;
mod kubectl;
mod kubectl_proxy;
mod namespaces;
mod objects;
mod openapi;
mod pod_certificates;
mod policies;
mod quota;
mod quota_scopes;
mod service_accounts;
mod trust_bundles;
mod versions;
mod watches;
mod webhook_cr;
mod webhook_lists;
mod webhooks;

use crate::runner::Entry;

/// Names the suite must cover, as upstream writes them, `[Conformance]` included.
const ENTRIES: &str = include_str!("../../entries.txt");

/// The same without `[Conformance]`, which stands in all of them.
pub fn entries() -> impl Iterator<Item = String> {
    ENTRIES.lines().filter(|line| !line.starts_with('#')).map(|line| line.replace(" [Conformance]", ""))
}

pub fn all() -> Vec<Entry> {
    [
        aggregator::entries(),
        apis::entries(),
        certificates::entries(),
        chunking::entries(),
        crds::entries(),
        discovery::entries(),
        events::entries(),
        field_validation::entries(),
        gc::entries(),
        guestbook::entries(),
        kubectl::entries(),
        kubectl_proxy::entries(),
        namespaces::entries(),
        openapi::entries(),
        pod_certificates::entries(),
        policies::entries(),
        quota::entries(),
        quota_scopes::entries(),
        service_accounts::entries(),
        trust_bundles::entries(),
        versions::entries(),
        watches::entries(),
        webhook_cr::entries(),
        webhook_lists::entries(),
        webhooks::entries(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod checks {
    use std::collections::BTreeSet;

    #[test]
    fn each_entry_has_one_test_and_each_test_an_entry() {
        let wanted: Vec<String> = super::entries().collect();
        let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
        let all = super::all();
        let have: Vec<&str> = all.iter().map(|entry| entry.name.as_str()).collect();
        let set: BTreeSet<&str> = have.iter().copied().collect();
        let missing: Vec<_> = wanted.difference(&set).collect();
        let unknown: Vec<_> = set.difference(&wanted).collect();
        assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:#?}, unknown: {unknown:#?}");
        assert_eq!(have.len(), set.len(), "a name stands twice");
    }
}
