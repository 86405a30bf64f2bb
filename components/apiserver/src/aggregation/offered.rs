//! What an extension server says that it serves: its part of discovery and of OpenAPI (kube-aggregator
//! `pkg/apiserver/handler_discovery.go`, `pkg/controllers/openapi*`).

use std::sync::Arc;

use http::StatusCode;
use machinery::value::{list_at, str_at};
use serde_json::{Map, Value, json};

use super::{Remote, availability::aggregator};
use crate::{identity::Identity, openapi::foreign::Foreign};

/// Both forms of the aggregated document; servers before v1.26 know neither.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
const JSON: &str = "application/json";

/// Nothing at all before it was asked.
#[derive(Clone, Default)]
pub struct Offered {
    /// As the aggregated document has them.
    pub resources: Arc<Vec<Value>>,
    /// The server answered when it was asked last.
    pub current: bool,
    etag: Option<String>,
    /// Where below `/openapi/v3` its document is, as its own index says.
    pub v3: Option<String>,
    /// Its part of the v2 document.
    pub v2: Option<Arc<Foreign>>,
    v2_etag: Option<String>,
}

/// Asks again, unless the server is known not to answer.
pub async fn refresh(remote: &Remote, answers: bool) {
    let mut new = (*remote.offered()).clone();
    let asked = match answers {
        true => discover(remote, &new).await,
        false => Err("it does not answer".into()),
    };
    match asked {
        Ok(Some((resources, etag))) => (new.resources, new.etag, new.current) = (Arc::new(resources), etag, true),
        Ok(None) => new.current = true,
        Err(why) => {
            tracing::debug!(name = remote.name, why, "an extension server cannot say what it serves");
            // documents stay as they were; resources nobody can tell
            (new.resources, new.etag, new.current) = (Arc::default(), None, false);
        }
    }
    if new.current {
        documents(remote, &mut new).await;
    }
    remote.offer(new);
}

type Discovered = (Vec<Value>, Option<String>);

/// `None`: what was known is still so.
async fn discover(remote: &Remote, known: &Offered) -> Result<Option<Discovered>, String> {
    let who = aggregator();
    let answer = remote.fetch("/apis", AGGREGATED, known.etag.as_deref(), &who).await?;
    match answer.status {
        StatusCode::NOT_MODIFIED => return Ok(None),
        StatusCode::SERVICE_UNAVAILABLE => return Err("the server is unavailable".into()),
        StatusCode::OK if answer.media.contains("as=APIGroupDiscoveryList") => {
            let document = answer.json().ok_or("the document is no JSON")?;
            return Ok(Some((of_version(&document, &remote.group, &remote.version), answer.etag)));
        }
        _ => {}
    }
    let path = remote.path();
    let answer = remote.fetch(&path, JSON, None, &who).await?;
    if answer.status != StatusCode::OK {
        return Err(format!("{path} answered {}", answer.status));
    }
    let list = answer.json().ok_or_else(|| format!("{path} is no JSON"))?;
    Ok(Some((converted(&list, &remote.group, &remote.version), None)))
}

/// The resources of one version in an aggregated document.
fn of_version(document: &Value, group: &str, version: &str) -> Vec<Value> {
    let groups = list_at(document, "items").iter().filter(|it| str_at(it, "metadata.name") == group);
    let mut versions = groups.flat_map(|it| list_at(it, "versions")).filter(|it| str_at(it, "version") == version);
    let mut resources = versions.next().map(|it| list_at(it, "resources").to_vec()).unwrap_or_default();
    resources.iter_mut().for_each(complete);
    resources
}

/// Some clients do not bear a resource without `responseKind`.
fn complete(resource: &mut Value) {
    let Some(map) = resource.as_object_mut() else { return };
    map.entry("responseKind").or_insert_with(|| json!({"group": "", "version": "", "kind": ""}));
    if let Some(Value::Array(all)) = map.get_mut("subresources") {
        all.iter_mut().for_each(complete);
    }
}

/// An `APIResourceList` in the words of the aggregated document.
fn converted(list: &Value, group: &str, version: &str) -> Vec<Value> {
    let mut found: Vec<(String, Map<String, Value>)> = Vec::new();
    for entry in list_at(list, "resources") {
        let (name, sub) = str_at(entry, "name").split_once('/').unwrap_or((str_at(entry, "name"), ""));
        let or = |key: &str, otherwise: &str| match str_at(entry, key) {
            "" => otherwise.to_owned(),
            own => own.to_owned(),
        };
        let kind = json!({"group": or("group", group), "version": or("version", version), "kind": entry["kind"]});
        let at = found.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            let scope = if entry["namespaced"] == true { "Namespaced" } else { "Cluster" };
            let fresh = json!({"resource": name, "scope": scope, "singularResource": "", "verbs": [],
                "responseKind": {"group": "", "version": "", "kind": ""}});
            found.push((name.to_owned(), fresh.as_object().cloned().unwrap_or_default()));
            found.len() - 1
        });
        let Some((_, resource)) = found.get_mut(at) else { continue };
        if sub.is_empty() {
            resource.insert("responseKind".into(), kind);
            resource.insert("singularResource".into(), str_at(entry, "singularName").into());
            for key in ["verbs", "shortNames", "categories"] {
                if let Some(value) = entry.get(key).filter(|it| it.is_array()) {
                    resource.insert(key.into(), value.clone());
                }
            }
        } else if let Some(all) = resource.entry("subresources").or_insert_with(|| json!([])).as_array_mut() {
            all.push(json!({"subresource": sub, "responseKind": kind, "verbs": list_at(entry, "verbs")}));
        }
    }
    found.into_iter().map(|(_, resource)| Value::Object(resource)).collect()
}

/// The newer form if the server knows it; the older in any case, for clients that know no other.
async fn documents(remote: &Remote, offered: &mut Offered) {
    let who = Identity { user: "system:aggregator".into(), ..Identity::default() };
    match remote.fetch("/openapi/v3", JSON, None, &who).await {
        Ok(answer) if answer.status == StatusCode::OK => {
            let path = remote.path();
            let index = answer.json().unwrap_or_default();
            offered.v3 = index["paths"][path.trim_start_matches('/')]["serverRelativeURL"].as_str().map(str::to_owned);
        }
        Ok(_) => offered.v3 = None,
        Err(why) => tracing::debug!(name = remote.name, why, "an extension server's OpenAPI v3 cannot be had"),
    }
    match remote.fetch("/openapi/v2", JSON, offered.v2_etag.as_deref(), &who).await {
        Ok(answer) if answer.status == StatusCode::OK => {
            let document = answer.json();
            offered.v2 = document.map(|it| Arc::new(Foreign::extract(&it, &format!("{}/", remote.path()))));
            offered.v2_etag = answer.etag;
        }
        Ok(answer) if answer.status == StatusCode::NOT_MODIFIED => {}
        Ok(_) => (offered.v2, offered.v2_etag) = (None, None),
        Err(why) => tracing::debug!(name = remote.name, why, "an extension server's OpenAPI v2 cannot be had"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_list_says_the_same() {
        let list = json!({"resources": [
            {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["list"], "shortNames": ["fl"]},
            {"name": "flunders/scale", "namespaced": true, "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get"]},
        ]});
        let own = json!({"group": "w.io", "version": "v1", "kind": "Flunder"});
        let wanted = json!([{
            "resource": "flunders", "scope": "Namespaced", "singularResource": "flunder", "verbs": ["list"],
            "shortNames": ["fl"], "responseKind": own,
            "subresources": [
                {"subresource": "status", "responseKind": own, "verbs": ["get"]},
                {"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}, "verbs": ["get"]},
            ],
        }]);
        assert_eq!(json!(converted(&list, "w.io", "v1")), wanted);
    }

    #[test]
    fn only_the_registered_version_counts() {
        let document = json!({"items": [
            {"metadata": {"name": "other"}, "versions": [{"version": "v1", "resources": [{"resource": "x"}]}]},
            {"metadata": {"name": "w.io"}, "versions": [
                {"version": "v2", "resources": [{"resource": "y"}]},
                {"version": "v1", "resources": [{"resource": "z", "subresources": [{"subresource": "status"}]}]}]},
        ]});
        let kind = json!({"group": "", "version": "", "kind": ""});
        let wanted = json!([{"resource": "z", "responseKind": kind, "subresources": [{"subresource": "status", "responseKind": kind}]}]);
        assert_eq!(json!(of_version(&document, "w.io", "v1")), wanted);
        assert!(of_version(&document, "w.io", "v3").is_empty());
    }
}
