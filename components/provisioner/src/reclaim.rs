//! Removes the data of volumes that are no longer wanted.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::volume::{Duty, FINALIZER, duty};
use crate::{Context, Failure};

pub(crate) async fn reconcile(volume: Arc<PersistentVolume>, context: Arc<Context>) -> Result<Action, Failure> {
    if duty(&volume, &context.name, &context.node) == Duty::Nothing {
        return Ok(Action::await_change());
    }
    // What is removed does not come back: only the API server's word counts, a watch may lag.
    let Some(volume) = live(&volume, &context).await? else { return Ok(Action::await_change()) };
    match duty(&volume, &context.name, &context.node) {
        Duty::Nothing => {}
        Duty::Release => let_go(&volume, &context).await?,
        Duty::Remove => {
            remove_data(&volume, &context).await?;
            delete(&volume, &context).await?;
            // the deletion has made another version of it
            if let Some(volume) = live(&volume, &context).await? {
                let_go(&volume, &context).await?;
            }
        }
    }
    Ok(Action::await_change())
}

/// The volume as it is now; `None` if it is gone, or another has its name.
async fn live(volume: &PersistentVolume, context: &Context) -> anyhow::Result<Option<PersistentVolume>> {
    let name = volume.name_any();
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let live = volumes.get_opt(&name).await.with_context(|| format!("cannot read volume {name}"))?;
    Ok(live.filter(|live| live.uid() == volume.uid()))
}

async fn remove_data(volume: &PersistentVolume, context: &Context) -> anyhow::Result<()> {
    let source = volume.spec.as_ref().and_then(|spec| spec.host_path.as_ref());
    let path = PathBuf::from(&source.with_context(|| format!("volume {} has no hostPath", volume.name_any()))?.path);
    let base = context.base.clone();
    let told = path.display().to_string();
    tokio::task::spawn_blocking(move || base.remove(&path)).await??;
    tracing::info!(volume = volume.name_any(), path = told, "removed the data");
    Ok(())
}

async fn delete(volume: &PersistentVolume, context: &Context) -> anyhow::Result<()> {
    if volume.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let name = volume.name_any();
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let exactly = Preconditions { uid: volume.uid(), resource_version: None };
    let deleted =
        volumes.delete(&name, &DeleteParams { preconditions: Some(exactly), ..DeleteParams::default() }).await;
    ignore_missing(deleted.map(|_| ())).with_context(|| format!("cannot delete volume {name}"))
}

/// Removes our finalizer, and only ours, from the volume as it was just read.
async fn let_go(current: &PersistentVolume, context: &Context) -> anyhow::Result<()> {
    let name = current.name_any();
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    if !current.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(());
    }
    let kept: Vec<&String> = current.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).collect();
    // The version makes a concurrent change of the list a conflict, which is tried again.
    let patch = json!({"metadata": {"resourceVersion": current.resource_version(), "finalizers": kept}});
    let patched = volumes.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
    ignore_missing(patched.map(|_| ())).with_context(|| format!("cannot remove the finalizer of volume {name}"))
}

fn ignore_missing(result: kube::Result<()>) -> kube::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};

    use kube::runtime::events::{Recorder, Reporter};

    use super::*;
    use crate::directory::BaseDirectory;

    fn answer(stream: TcpStream, body: &str) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        while reader.read_line(&mut line)? > 2 {
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            line.clear();
        }
        reader.by_ref().take(length).read_to_end(&mut Vec::new())?;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
        write!(reader.get_mut(), "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    /// A context whose API server has this volume, and nothing else to say.
    fn context(base: &std::path::Path, volume: &PersistentVolume) -> Arc<Context> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let body = serde_json::to_string(volume).unwrap();
        std::thread::spawn(move || listener.incoming().flatten().try_for_each(|stream| answer(stream, &body)));
        let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        let events = Recorder::new(client.clone(), Reporter { controller: "p".into(), instance: None });
        let (name, node, hostname) = ("p".into(), "n".into(), "h".into());
        Arc::new(Context { client, events, name, node, hostname, base: BaseDirectory::open(base).unwrap() })
    }

    #[tokio::test]
    async fn data_is_removed_only_when_the_api_server_says_so_too() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("ns_data_u");
        let volume = |phase: &str| -> PersistentVolume {
            let made = json!({"pv.kubernetes.io/provisioned-by": "p", "kinstall.dev/node": "n"});
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "PersistentVolume",
                "metadata": {"name": "v", "uid": "u", "annotations": made, "finalizers": [FINALIZER]},
                "spec": {"persistentVolumeReclaimPolicy": "Delete", "hostPath": {"path": path}}, "status": {"phase": phase}}))
            .unwrap()
        };
        for (live, kept) in [("Bound", true), ("Released", false)] {
            std::fs::create_dir_all(&path).unwrap();
            reconcile(Arc::new(volume("Released")), context(base.path(), &volume(live))).await.unwrap();
            assert_eq!(path.exists(), kept, "{live}");
        }
    }
}
