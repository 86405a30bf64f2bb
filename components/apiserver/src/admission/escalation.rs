//! Nobody gives by RBAC what he has not: roles need the rules or `escalate`, bindings the role's rules or `bind`.

use machinery::{
    ApiError,
    value::{list_at, str_at},
};
use serde_json::Value;

use super::{Attempt, Operation};
use crate::{
    authz::{self, Attributes, rbac::Rule},
    identity::MASTERS,
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
    let core = &attempt.call.core;
    core.observed.caught_up(core.store.revision()).await;
    let (rules, verb, resource, name) = match target.resource.plural {
        "roles" | "clusterroles" => {
            if attempt.old.is_some_and(|old| old["rules"] == new["rules"]) {
                return Ok(());
            }
            (
                Some(list_at(new, "rules").iter().map(Rule::from_value).collect()),
                "escalate",
                target.resource.plural,
                target.name.as_str(),
            )
        }
        _ => {
            if attempt.old.is_some_and(|old| old["subjects"] == new["subjects"] && old["roleRef"] == new["roleRef"]) {
                return Ok(());
            }
            let cluster = str_at(new, "roleRef.kind") == "ClusterRole";
            let name = str_at(new, "roleRef.name");
            let home = if cluster { "" } else { target.namespace.as_str() };
            // what a role that is yet to be made will give, nobody knows
            let rules = core.observed.state.read().rbac.role_rules(home, name).map(<[Rule]>::to_vec);
            (rules, "bind", if cluster { "clusterroles" } else { "roles" }, name)
        }
    };
    let missing: Option<Vec<Rule>> = rules.map(|rules: Vec<Rule>| {
        let state = core.observed.state.read();
        rules.into_iter().filter(|rule| !state.rbac.covers(&attempt.call.identity, &target.namespace, rule)).collect()
    });
    if missing.as_ref().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    let what = Attributes {
        is_resource: true,
        verb: verb.into(),
        group: GROUP.into(),
        version: "v1".into(),
        resource: resource.into(),
        namespace: target.namespace.clone(),
        name: name.into(),
        ..Attributes::default()
    };
    if authz::allows(core, &attempt.call.identity, &what).await {
        return Ok(());
    }
    let who = &attempt.call.identity;
    let Some(missing) = missing else {
        return Err(
            target.forbidden(&format!("user {:?} may not bind the role {name:?}, which does not exist", who.user))
        );
    };
    let list: Vec<String> = missing.iter().map(describe).collect();
    Err(target.forbidden(&format!(
        "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        who.user,
        who.groups,
        list.join("\n")
    )))
}

fn describe(rule: &Rule) -> String {
    let mut text = String::from("{");
    for (name, values) in [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("Verbs", &rule.verbs),
    ] {
        if !values.is_empty() {
            if text.len() > 1 {
                text.push_str(", ");
            }
            text.push_str(&format!("{name}:{values:?}"));
        }
    }
    text + "}"
}
