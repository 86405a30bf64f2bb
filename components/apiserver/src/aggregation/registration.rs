//! APIServices of what is served here (kube-aggregator `pkg/controllers/{autoregister,status/local}`, kubernetes
//! `pkg/controlplane/controller/crdregistration`): custom resources get theirs, all of them are available. Those of built-in groups
//! are made at start (`bootstrap/services.rs`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::Method;
use machinery::value::{bool_at, list_at, name, str_at};
use serde_json::{Value, json};

use super::{GROUP, MANAGED, Registration, availability};
use crate::{bootstrap, core::Core, registry};

/// Custom resources come after what is built in; their versions are sorted by their names.
pub const CUSTOM: (i64, i64) = (1000, 100);
const RETRY: Duration = Duration::from_secs(1);

/// Until the server stops.
pub async fn run(core: Arc<Core>) {
    let mut definitions = core.custom.changes();
    let mut registrations = core.aggregation.changes();
    loop {
        let done = reconcile(&core).await;
        if let Err(error) = &done {
            tracing::debug!(error = format!("{error:#}"), "APIServices of custom resources are tried again");
        }
        tokio::select! {
            () = core.stopping.cancelled() => return,
            changed = definitions.changed() => if changed.is_err() { return },
            changed = registrations.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if done.is_err() => {}
        }
    }
}

async fn reconcile(core: &Arc<Core>) -> anyhow::Result<()> {
    let wanted = wanted(core.custom.objects().iter().map(|object| &**object));
    let there: BTreeMap<String, Arc<Registration>> =
        core.aggregation.all().into_iter().map(|it| (it.name.clone(), it)).collect();
    let collection = format!("/apis/{GROUP}/v1/apiservices");
    let mut last = Ok(());
    for (name, object) in &wanted {
        let done = match there.get(name) {
            None => bootstrap::send(core, Method::POST, &collection, object).await,
            Some(current) if current.managed == "true" && current.spec != object["spec"] => repair(core, object).await,
            Some(_) => Ok(()),
        };
        last = last.and(done);
    }
    let mut unwanted: Vec<_> =
        there.values().filter(|it| it.managed == "true" && !wanted.contains_key(&it.name)).collect();
    if !unwanted.is_empty() {
        // another server may have made it for a definition that has not been heard of here
        let stored = stored_definitions(core).await?;
        let wanted = self::wanted(stored.iter());
        unwanted.retain(|it| !wanted.contains_key(&it.name));
    }
    for current in unwanted {
        let path = format!("{collection}/{}", current.name);
        last = last.and(bootstrap::send(core, Method::DELETE, &path, &Value::Null).await);
    }
    let local = availability::Verdict::local();
    let said = Some((local.status.to_owned(), local.reason.to_owned()));
    for current in there.values().filter(|it| it.remote.is_none() && it.available != said) {
        let still = |object: &Value| !object["spec"]["service"].is_object();
        last = last.and(availability::write(core, &current.name, still, &local).await);
    }
    last
}

async fn stored_definitions(core: &Core) -> anyhow::Result<Vec<Value>> {
    let Some(row) = registry::find("apiextensions.k8s.io", "v1", "customresourcedefinitions") else {
        return Ok(Vec::new());
    };
    Ok(registry::read_all(core, row, "").await?.into_iter().map(|stored| stored.object).collect())
}

/// Gives an APIService its spec back.
async fn repair(core: &Arc<Core>, wanted: &Value) -> anyhow::Result<()> {
    let Some(row) = super::row() else { return Ok(()) };
    let mut object = registry::read(core, row, "", name(wanted)).await?.object;
    object["spec"] = wanted["spec"].clone();
    bootstrap::send(core, Method::PUT, &format!("/apis/{GROUP}/v1/apiservices/{}", name(wanted)), &object).await
}

/// One for each group and version that a definition serves.
fn wanted<'a>(definitions: impl Iterator<Item = &'a Value>) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for definition in definitions {
        let group = str_at(definition, "spec.group");
        for version in list_at(definition, "spec.versions").iter().filter(|it| bool_at(it, "served")) {
            let object = object(group, str_at(version, "name"), CUSTOM, "true");
            all.insert(name(&object).to_owned(), object);
        }
    }
    all
}

/// The APIService of what is served here; `priority` of group and version.
pub fn object(group: &str, version: &str, priority: (i64, i64), managed: &str) -> Value {
    let mut spec = json!({"version": version, "groupPriorityMinimum": priority.0, "versionPriority": priority.1});
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: managed}}, "spec": spec})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_are_not_served_have_none() {
        let definition = json!({"spec": {"group": "g.io", "versions": [{"name": "v1", "served": true}, {"name": "v2", "served": false}]}});
        let all = wanted([&definition].into_iter());
        assert_eq!(all.keys().collect::<Vec<_>>(), ["v1.g.io"]);
        assert_eq!(
            all["v1.g.io"]["spec"],
            json!({"group": "g.io", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 100})
        );
    }
}
