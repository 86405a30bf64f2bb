//! Rust's kube, whose watcher uses what servers offer for starting a watch.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::{conditions, wait::await_condition, watcher};
use kube::{Api, Client};
use serde_json::json;

use crate::{Outcome, Server, definition, in_namespace};

pub async fn run(server: &Server) -> Result<Outcome> {
    let config = kube::config::Kubeconfig::read_from(&server.kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await?;
    let client = Client::try_from(config)?;
    in_namespace(server, async |namespace| {
        for streaming in [false, true] {
            built_in(&client, &namespace, streaming).await?;
        }
        custom(&client, &namespace).await?;
        Ok(Outcome::Passed("create, get, list, watch (both ways), patch, apply, delete, custom resources".into()))
    })
    .await
}

async fn built_in(client: &Client, namespace: &str, streaming: bool) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().labels("by=rust");
    let config = if streaming { config.streaming_lists() } else { config };
    let mut events = watcher(maps.clone(), config).boxed();
    let mut seen = async |wanted: &str| -> Result<ConfigMap> {
        tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                match events.try_next().await?.context("the watcher ended")? {
                    watcher::Event::Apply(map) if wanted == "apply" => return anyhow::Ok(map),
                    watcher::Event::Delete(map) if wanted == "delete" => return Ok(map),
                    watcher::Event::InitDone if wanted == "init" => return Ok(ConfigMap::default()),
                    _ => {}
                }
            }
        })
        .await
        .with_context(|| format!("no {wanted} within 30 s"))?
    };
    seen("init").await?;
    let name = if streaming { "streamed" } else { "listed" };
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"by": "rust"}}, "data": {"a": "b"}}))?;
    let made = maps.create(&PostParams::default(), &map).await?;
    ensure!(seen("apply").await?.metadata.uid == made.metadata.uid, "the watcher saw another object");
    let merge = Patch::Merge(json!({"data": {"c": "d"}}));
    maps.patch(name, &PatchParams::default(), &merge).await?;
    let expected = BTreeMap::from([("a", "b"), ("c", "d")].map(|(key, value)| (key.to_owned(), value.to_owned())));
    ensure!(seen("apply").await?.data == Some(expected), "the watcher saw other data");
    let apply =
        Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"e": "f"}}));
    maps.patch(name, &PatchParams::apply("rust"), &apply).await?;
    let mut held = maps.get(name).await?;
    ensure!(held.data.as_ref().is_some_and(|data| data.len() == 3), "data after all patches: {:?}", held.data);
    held.data = None;
    maps.replace(name, &PostParams::default(), &held).await?;
    let listed = maps.list(&ListParams::default().labels("by=rust")).await?;
    ensure!(listed.items.len() == 1, "{} listed", listed.items.len());
    ensure!(
        maps.list_metadata(&ListParams::default())
            .await?
            .items
            .iter()
            .any(|it| it.metadata.name.as_deref() == Some(name))
    );
    maps.delete(name, &DeleteParams::default()).await?;
    seen("delete").await?;
    ensure!(maps.get_opt(name).await?.is_none(), "it is still there");
    Ok(())
}

async fn custom(client: &Client, namespace: &str) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition: CustomResourceDefinition = serde_json::from_value(definition(namespace))?;
    let name = definition.metadata.name.clone().context("no name")?;
    let group = definition.spec.group.clone();
    definitions.create(&PostParams::default(), &definition).await?;
    let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
    tokio::time::timeout(Duration::from_secs(30), established).await.context("not established within 30 s")??;
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&group, "v1", "Widget"), "widgets");
    let widgets: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let apply = Patch::Apply(
        json!({"apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}}),
    );
    widgets.patch("w", &PatchParams::apply("rust"), &apply).await?;
    let held = widgets.get("w").await?;
    ensure!(held.data["spec"]["size"] == 1, "{held:?}");
    widgets.delete("w", &DeleteParams::default()).await?;
    definitions.delete(&name, &DeleteParams::default()).await?;
    Ok(())
}
