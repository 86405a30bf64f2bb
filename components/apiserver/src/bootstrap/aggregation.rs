//! Aggregated roles hold their rules from the first moment: the controller that keeps them up comes later.

use std::collections::BTreeMap;

use machinery::value::{list_at, map_at, str_at};
use serde_json::Value;

/// Fills the rules of each role with an `aggregationRule` from the roles before it; `objects` are in the order of the manifests.
pub fn fill(objects: &mut [Value]) {
    for index in 0..objects.len() {
        let selectors: Vec<BTreeMap<String, Value>> = list_at(&objects[index], "aggregationRule.clusterRoleSelectors")
            .iter()
            .filter_map(|selector| Some(map_at(selector, "matchLabels")?.clone().into_iter().collect()))
            .collect();
        if selectors.is_empty() {
            continue;
        }
        let mut rules: Vec<Value> = Vec::new();
        for role in objects[..index].iter().filter(|o| str_at(o, "kind") == "ClusterRole") {
            let labels = map_at(role, "metadata.labels");
            let selected = |selector: &BTreeMap<String, Value>| {
                selector.iter().all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
            };
            if selectors.iter().any(selected) {
                rules.extend(
                    list_at(role, "rules").iter().filter(|rule| !rules.contains(rule)).cloned().collect::<Vec<_>>(),
                );
            }
        }
        objects[index]["rules"] = rules.into();
    }
}
