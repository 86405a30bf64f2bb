//! The life most resources have in common, as one engine: found in discovery, created, read, listed, watched, patched,
//! updated, its subresources written, deleted alone and as a collection.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::client::{JSON, MERGE};
use crate::context::{T, names, same};
use crate::resource::Res;
use crate::watch::Watch;

/// Makes the body of object `number` (0, 1, 2).
pub type Make = Box<dyn Fn(&T, usize) -> Value + Send + Sync>;

/// How a resource lives.
pub struct Lifecycle {
    pub res: Res,
    /// Without labels.
    pub object: Make,
    /// A merge patch that changes something besides the metadata, and where to see it (JSON pointer); if anything may change.
    pub change: Option<(Value, &'static str)>,
    /// A merge patch for `/status`, and where to see it.
    pub status: Option<(Value, &'static str)>,
    /// The collection can be deleted.
    pub deletes_collection: bool,
}

impl Lifecycle {
    pub async fn run(&self, t: &T) -> Result<()> {
        let subresources: &[&str] = if self.status.is_some() { &["status"] } else { &[] };
        discovered(t, &self.res, subresources).await?;
        let label = format!("conformance={}", t.ns);
        let selected = format!("{}?labelSelector={}", self.res.everywhere(), label.replace('=', "%3D"));

        let mut made = Vec::new();
        for number in 0..3 {
            let mut object = (self.object)(t, number);
            object["metadata"]["labels"] = json!({"conformance": t.ns});
            made.push(t.make(&self.res, object).await?);
        }
        let name = made[0]["metadata"]["name"].as_str().context("no name")?.to_owned();
        let path = t.path(&self.res, &name);
        let again = t.try_make(&self.res, json!({"metadata": {"name": name}, "spec": made[0]["spec"]})).await?;
        ensure!(again.status >= 400, "a second object of the same name was created");

        let read = t.api.get(&path).await?;
        same("uid of what was read", &read["metadata"]["uid"], &made[0]["metadata"]["uid"])?;
        let list = t.api.get(&selected).await?;
        same("kind of the list", &list["kind"], &json!(format!("{}List", self.res.kind)))?;
        same("listed", &names(&list).len(), &3)?;

        let version = list["metadata"]["resourceVersion"].as_str().context("the list has no resourceVersion")?;
        let mut watch = t.api.watch(&format!("{selected}&resourceVersion={version}")).await?;
        self.change(t, &path, &name, &mut watch).await?;
        if let Some((patch, pointer)) = &self.status {
            write_status(t, &path, patch, pointer).await?;
        }
        self.delete(t, &path, &name, &selected, &mut watch).await
    }

    async fn change(&self, t: &T, path: &str, name: &str, watch: &mut Watch) -> Result<()> {
        let mut patch = self.change.as_ref().map_or_else(|| json!({}), |(patch, _)| patch.clone());
        patch["metadata"] = json!({"annotations": {"patched": "true"}});
        let patched = t.api.patch(path, MERGE, &patch).await?;
        same("annotation after the patch", &patched["metadata"]["annotations"]["patched"], &json!("true"))?;
        if let Some((patch, pointer)) = &self.change {
            same("what the patch changed", &patched.pointer(pointer), &patch.pointer(pointer))?;
        }
        // a controller's write of the status may come before
        watch
            .until("the patch", |event| {
                event.kind == "MODIFIED"
                    && event.name() == name
                    && event.object["metadata"]["annotations"]["patched"] == "true"
            })
            .await?;

        let updated = t.update(path, |object| object["metadata"]["annotations"]["updated"] = json!("true")).await?;
        same("annotation after the update", &updated["metadata"]["annotations"]["updated"], &json!("true"))?;
        same("annotation kept by the update", &updated["metadata"]["annotations"]["patched"], &json!("true"))?;
        watch
            .until("the update", |event| {
                event.kind == "MODIFIED" && event.object["metadata"]["annotations"]["updated"] == "true"
            })
            .await?;
        let stale = json!({"metadata": {"resourceVersion": "1"}});
        t.api.call("PATCH", path, MERGE, &stale).await?.refused(409, "the object has been modified")?;
        Ok(())
    }

    async fn delete(&self, t: &T, path: &str, name: &str, selected: &str, watch: &mut Watch) -> Result<()> {
        t.api.delete(path, &Value::Null).await?;
        if let Some(left) = t.api.find(path).await? {
            let finalizers = left["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
            ensure!(finalizers && left["metadata"]["deletionTimestamp"].is_string(), "still there: {left}");
            t.gone(path).await?;
        }
        watch.until("the deletion", |event| event.kind == "DELETED" && event.name() == name).await?;
        same("left after one was deleted", &names(&t.api.get(selected).await?).len(), &2)?;
        if self.deletes_collection {
            let (_, query) = selected.split_once('?').context("no query")?;
            let collection = format!("{}?{query}", self.res.collection(&t.ns));
            t.api.call("DELETE", &collection, JSON, &Value::Null).await?.ok()?;
            t.until_list("end of the collection", selected, <[Value]>::is_empty).await?;
        }
        Ok(())
    }
}

/// `/status` is read, patched and replaced, and nothing but the status changes by that.
pub async fn write_status(t: &T, path: &str, patch: &Value, pointer: &str) -> Result<()> {
    let status = format!("{path}/status");
    let before = t.api.get(&status).await?;
    same("uid by /status", &before["metadata"]["uid"], &t.api.get(path).await?["metadata"]["uid"])?;
    let mut patch = patch.clone();
    patch["metadata"] = json!({"annotations": {"patchedstatus": "true"}});
    let patched = t.api.patch(&status, MERGE, &patch).await?;
    ensure!(patched.pointer(pointer).is_some(), "the patch of /status is not to be seen at {pointer}: {patched}");
    same("annotation written by /status", &patched["metadata"]["annotations"]["patchedstatus"], &json!("true"))?;
    let updated =
        t.update(&status, |object| object["metadata"]["annotations"]["updatedstatus"] = json!("true")).await?;
    same("status after the update", &updated.pointer(pointer), &patched.pointer(pointer))?;
    same("spec after writes to /status", &updated["spec"], &before["spec"])
}

/// The group, its version, the resource and its subresources stand in the discovery documents.
pub async fn discovered(t: &T, res: &Res, subresources: &[&str]) -> Result<()> {
    if res.api.starts_with("apis/") {
        let group = res.group();
        let version = json!(res.api_version());
        let groups = t.api.get("/apis").await?;
        let all = groups["groups"].as_array().context("no groups in /apis")?;
        let found = all.iter().find(|entry| entry["name"] == group).with_context(|| format!("/apis lacks {group}"))?;
        let one = t.api.get(&format!("/apis/{group}")).await?;
        for (document, entry) in [("/apis", found), ("the group's document", &one)] {
            let versions = entry["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
            ensure!(versions.iter().any(|v| v["groupVersion"] == version), "{document} lacks {version}");
        }
    }
    let list = t.api.get(&format!("/{}", res.api)).await?;
    let resources = list["resources"].as_array().context("no resources")?;
    let entry = resources.iter().find(|entry| entry["name"] == res.plural);
    let entry = entry.with_context(|| format!("/{} lacks {}", res.api, res.plural))?;
    same("kind in discovery", &entry["kind"], &json!(res.kind))?;
    same("namespaced in discovery", &entry["namespaced"], &json!(res.namespaced))?;
    let verbs = entry["verbs"].as_array().map(Vec::as_slice).unwrap_or_default();
    for verb in ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"] {
        ensure!(verbs.contains(&json!(verb)), "{} in discovery lacks the verb {verb}", res.plural);
    }
    for subresource in subresources {
        let name = format!("{}/{subresource}", res.plural);
        ensure!(resources.iter().any(|entry| entry["name"] == name), "/{} lacks {name}", res.api);
    }
    Ok(())
}
