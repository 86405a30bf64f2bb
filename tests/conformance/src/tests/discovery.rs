//! Discovery, plain and aggregated; the server's version.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::crds::{self, Crd};
use crate::context::{T, same};
use crate::lifecycle::discovered;
use crate::resource::Res;
use crate::runner::Entry;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new(
            "[sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface",
            |t| async move {
                // the client interface accepts both forms, the aggregated one first
                builtins(&t, &format!("{AGGREGATED},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json")).await
            },
        ),
        Entry::new(
            "[sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface for CRDs",
            |t| async move { custom(&t, &format!("{AGGREGATED},application/json")).await },
        ),
        Entry::new(
            "[sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers",
            |t| async move { builtins(&t, AGGREGATED).await },
        ),
        Entry::new(
            "[sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery request for CRDs",
            |t| async move { custom(&t, AGGREGATED).await },
        ),
        Entry::new(
            "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom resource definition resources in discovery documents",
            |t| async move { discovered(&t, &Res::CRD, &["status"]).await },
        ),
        Entry::new(
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery documents",
            |t| async move {
                discovered(&t, &Res::MUTATING, &[]).await?;
                discovered(&t, &Res::VALIDATING, &[]).await
            },
        ),
        Entry::new(
            "[sig-api-machinery] Discovery should locate the groupVersion and a resource within each APIGroup",
            each_group,
        ),
        Entry::new("[sig-api-machinery] Discovery should validate PreferredVersion for each APIGroup", preferred),
        Entry::new("[sig-api-machinery] server version should find the server version", version),
    ]
}

async fn aggregated(t: &T, path: &str, accept: &str) -> Result<Value> {
    let answer = t.api.send("GET", path, &[("accept", accept)], "").await?;
    let kind = answer.header("content-type").to_owned();
    ensure!(
        ["g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"].iter().all(|part| kind.contains(part)),
        "{path}: content type {kind:?}"
    );
    let document = answer.ok()?;
    same("kind", &document["kind"], &json!("APIGroupDiscoveryList"))?;
    same("apiVersion", &document["apiVersion"], &json!("apidiscovery.k8s.io/v2"))?;
    Ok(document)
}

/// The resources of one group's version in an aggregated document.
fn resources<'a>(document: &'a Value, group: &str, version: &str) -> Option<&'a Vec<Value>> {
    let groups = document["items"].as_array()?;
    let group = groups.iter().find(|item| item["metadata"]["name"].as_str().unwrap_or_default() == group)?;
    let version = group["versions"].as_array()?.iter().find(|item| item["version"] == version)?;
    version["resources"].as_array()
}

async fn builtins(t: &T, accept: &str) -> Result<()> {
    let core = aggregated(t, "/api", accept).await?;
    let pods = resources(&core, "", "v1").context("/api lacks v1")?;
    let pod = pods.iter().find(|entry| entry["resource"] == "pods").context("/api lacks pods")?;
    same("responseKind of pods", &pod["responseKind"]["kind"], &json!("Pod"))?;
    same("scope of pods", &pod["scope"], &json!("Namespaced"))?;
    same("singularResource of pods", &pod["singularResource"], &json!("pod"))?;
    let subresources = pod["subresources"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(subresources.iter().any(|entry| entry["subresource"] == "status"), "pods lack status in /api");
    let groups = aggregated(t, "/apis", accept).await?;
    for (group, version, resource) in [
        ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
        ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
        ("apiregistration.k8s.io", "v1", "apiservices"),
        ("apps", "v1", "deployments"),
        ("authentication.k8s.io", "v1", "tokenreviews"),
        ("authorization.k8s.io", "v1", "subjectaccessreviews"),
        ("autoscaling", "v2", "horizontalpodautoscalers"),
        ("autoscaling", "v1", "horizontalpodautoscalers"),
        ("batch", "v1", "cronjobs"),
        ("certificates.k8s.io", "v1", "certificatesigningrequests"),
        ("coordination.k8s.io", "v1", "leases"),
        ("discovery.k8s.io", "v1", "endpointslices"),
        ("events.k8s.io", "v1", "events"),
        ("flowcontrol.apiserver.k8s.io", "v1", "flowschemas"),
        ("networking.k8s.io", "v1", "networkpolicies"),
        ("node.k8s.io", "v1", "runtimeclasses"),
        ("policy", "v1", "poddisruptionbudgets"),
        ("rbac.authorization.k8s.io", "v1", "clusterroles"),
        ("scheduling.k8s.io", "v1", "priorityclasses"),
        ("storage.k8s.io", "v1", "storageclasses"),
    ] {
        let found = resources(&groups, group, version).with_context(|| format!("/apis lacks {group}/{version}"))?;
        ensure!(found.iter().any(|entry| entry["resource"] == resource), "{group}/{version} lacks {resource}");
    }
    Ok(())
}

async fn custom(t: &T, accept: &str) -> Result<()> {
    let crd = crds::make(t, &Crd::simple(t)).await?;
    t.eventually("the custom resource in the aggregated document", || async {
        let document = aggregated(t, "/apis", accept).await?;
        let found = resources(&document, &crd.group, "v1").context("no group")?;
        ensure!(found.iter().any(|entry| entry["resource"] == crd.plural.as_str()), "no resource");
        Ok(())
    })
    .await
}

async fn groups(t: &T) -> Result<Vec<Value>> {
    let list = t.api.get("/apis").await?;
    same("kind of /apis", &list["kind"], &json!("APIGroupList"))?;
    same("/apis/", &t.api.get("/apis/").await?["kind"], &json!("APIGroupList"))?;
    same("/api/", &t.api.get("/api/").await?["kind"], &json!("APIVersions"))?;
    // other tests make and remove groups of custom resources
    let own = |group: &Value| !group["name"].as_str().unwrap_or_default().ends_with(".example.com");
    Ok(list["groups"].as_array().context("no groups")?.iter().filter(|group| own(group)).cloned().collect())
}

async fn each_group(t: Arc<T>) -> Result<()> {
    for group in groups(&t).await? {
        let name = group["name"].as_str().context("a group without a name")?;
        let path = format!("/apis/{name}");
        let alone = t.api.get(&path).await?;
        same(&path, &alone["versions"], &group["versions"])?;
        for version in group["versions"].as_array().context("no versions")? {
            let wanted = version["groupVersion"].as_str().context("no groupVersion")?;
            let list = t.api.get(&format!("/apis/{wanted}")).await?;
            same("kind", &list["kind"], &json!("APIResourceList"))?;
            same("groupVersion", &list["groupVersion"], &json!(wanted))?;
            let resources = list["resources"].as_array().context("no resources")?;
            ensure!(!resources.is_empty(), "/apis/{wanted} lists nothing");
            for resource in resources {
                for field in ["name", "kind"] {
                    ensure!(
                        resource[field].as_str().is_some_and(|text| !text.is_empty()),
                        "{wanted}: no {field}: {resource}"
                    );
                }
                ensure!(resource["verbs"].is_array(), "{wanted}: no verbs: {resource}");
            }
        }
    }
    Ok(())
}

async fn preferred(t: Arc<T>) -> Result<()> {
    let groups = groups(&t).await?;
    for name in ["events.k8s.io", "scheduling.k8s.io", "authentication.k8s.io", "node.k8s.io", "autoscaling", "policy"]
    {
        ensure!(groups.iter().any(|group| group["name"] == name), "/apis lacks {name}");
    }
    for group in groups {
        let preferred = &group["preferredVersion"];
        let versions = group["versions"].as_array().context("no versions")?;
        ensure!(versions.contains(preferred), "{}: preferred {preferred} is none of {versions:?}", group["name"]);
    }
    Ok(())
}

async fn version(t: Arc<T>) -> Result<()> {
    let version = t.api.get("/version").await?;
    for field in ["major", "minor"] {
        let text = version[field].as_str().unwrap_or_default();
        ensure!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()), "{field} is {text:?}");
    }
    for field in ["gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"] {
        ensure!(version[field].is_string(), "/version lacks {field}");
    }
    Ok(())
}
