//! Nobody gives by RBAC what he has not: roles need the rules or `escalate`, bindings the role's rules or `bind`
//! (upstream: pkg/registry/rbac/*/policybased and `ConfirmNoEscalation`).

use std::collections::{BTreeMap, BTreeSet};

use machinery::{
    ApiError,
    value::{get, list_at, str_at},
};
use serde_json::Value;

use super::{Attempt, Operation};
use crate::{
    authz::{self, Attributes, rbac::Rule},
    identity::{Identity, MASTERS},
    registry,
};

const GROUP: &str = "rbac.authorization.k8s.io";

pub async fn check(attempt: &Attempt<'_>, new: &Value) -> Result<(), ApiError> {
    let target = attempt.target;
    if target.resource.group != GROUP
        || attempt.operation == Operation::Delete
        || attempt.call.identity.in_group(MASTERS)
    {
        return Ok(());
    }
    match target.resource.plural {
        "roles" | "clusterroles" => check_role(attempt, new).await,
        _ => check_binding(attempt, new).await,
    }
}

async fn check_role(attempt: &Attempt<'_>, new: &Value) -> Result<(), ApiError> {
    let aggregates = |role: &Value| get(role, "aggregationRule").is_some_and(|rule| !rule.is_null());
    let same = |key: &str| attempt.old.is_some_and(|old| old.get(key) == new.get(key));
    if same("rules") && same("aggregationRule") {
        return Ok(());
    }
    if may(attempt, "escalate", attempt.target.resource.plural, &attempt.target.name).await {
        return Ok(());
    }
    let mut rules: Vec<Rule> = list_at(new, "rules").iter().map(Rule::from_value).collect();
    // what an aggregated role will hold, others decide
    if aggregates(new) || attempt.old.is_some_and(aggregates) {
        rules.extend(Rule::everything());
    }
    confirm(attempt, &rules).await
}

async fn check_binding(attempt: &Attempt<'_>, new: &Value) -> Result<(), ApiError> {
    if attempt.old.is_some_and(|old| old["subjects"] == new["subjects"] && old["roleRef"] == new["roleRef"]) {
        return Ok(());
    }
    let cluster = str_at(new, "roleRef.kind") == "ClusterRole";
    let (plural, name) = (if cluster { "clusterroles" } else { "roles" }, str_at(new, "roleRef.name"));
    if may(attempt, "bind", plural, name).await {
        return Ok(());
    }
    let core = &attempt.call.core;
    core.observed.caught_up(registry::newest(core).await).await;
    let home = if cluster { "" } else { attempt.target.namespace.as_str() };
    let rules = core.observed.state.read().rbac.role_rules(home, name).map(<[Rule]>::to_vec);
    // what a role that is yet to be made will give, nobody knows
    let rules = rules.ok_or_else(|| ApiError::not_found(GROUP, plural, name))?;
    confirm(attempt, &rules).await
}

async fn may(attempt: &Attempt<'_>, verb: &str, resource: &str, name: &str) -> bool {
    let what = Attributes {
        is_resource: true,
        verb: verb.into(),
        group: GROUP.into(),
        version: "v1".into(),
        resource: resource.into(),
        namespace: attempt.target.namespace.clone(),
        name: name.into(),
        ..Attributes::default()
    };
    authz::allows(&attempt.call.core, &attempt.call.identity, &what).await
}

async fn confirm(attempt: &Attempt<'_>, rules: &[Rule]) -> Result<(), ApiError> {
    let (core, who) = (&attempt.call.core, &attempt.call.identity);
    core.observed.caught_up(registry::newest(core).await).await;
    let missing = core.observed.state.read().rbac.missing(who, &attempt.target.namespace, rules);
    if missing.is_empty() {
        return Ok(());
    }
    Err(attempt.target.forbidden(&refusal(who, missing)))
}

fn refusal(who: &Identity, missing: Vec<Rule>) -> String {
    let described: BTreeSet<String> = compact(missing).iter().map(describe).collect();
    format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        who.user,
        quoted(&who.groups),
        described.into_iter().collect::<Vec<_>>().join("\n")
    )
}

/// Rules of one group, resource and name become one with all their verbs.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut simple: BTreeMap<[Vec<String>; 3], Rule> = BTreeMap::new();
    let mut others = Vec::new();
    for rule in rules {
        if !rule.non_resource_urls.is_empty() {
            others.push(rule);
            continue;
        }
        let key = [rule.api_groups.clone(), rule.resources.clone(), rule.resource_names.clone()];
        match simple.get_mut(&key) {
            Some(known) => known.verbs.extend(rule.verbs),
            None => drop(simple.insert(key, rule)),
        }
    }
    others.extend(simple.into_values());
    others
}

/// As Go prints a list of quoted texts.
fn quoted(list: &[String]) -> String {
    format!("[{}]", list.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" "))
}

fn describe(rule: &Rule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("Verbs", &rule.verbs),
    ];
    let set = parts.into_iter().filter(|(_, values)| !values.is_empty());
    format!("{{{}}}", set.map(|(name, values)| format!("{name}:{}", quoted(values))).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_is_told_as_upstream_tells_it() {
        let step = |verb: &str| Rule::from_value(&json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}));
        let path = Rule::from_value(&json!({"verbs": ["get"], "nonResourceURLs": ["/x"]}));
        let text = refusal(&Identity::new("joe", ["dev"]), vec![step("get"), step("list"), path]);
        assert_eq!(
            text,
            "user \"joe\" (groups=[\"dev\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}\n\
             {NonResourceURLs:[\"/x\"], Verbs:[\"get\"]}"
        );
    }
}
