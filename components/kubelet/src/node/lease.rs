//! The heartbeat: a Lease in kube-node-lease, renewed every ten seconds (KEP-589).

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};

use crate::api::is_status;

const NAMESPACE: &str = "kube-node-lease";
const RENEW: Duration = Duration::from_secs(10);
const DURATION_SECONDS: i32 = 40;

/// Renews for ever; failures are retried quickly because a missed lease makes a node unreachable.
pub async fn run(client: kube::Client, node: String) {
    let mut failures = 0u32;
    loop {
        let renewed = tokio::time::timeout(RENEW, renew(&client, &node)).await;
        match renewed {
            Ok(Ok(())) => failures = 0,
            Ok(Err(error)) => {
                failures += 1;
                tracing::debug!("lease not renewed: {error:#}");
            }
            Err(_) => {
                failures += 1;
                tracing::warn!("lease not renewed: the API server did not answer in 10 s");
            }
        }
        let pause = match failures {
            0 => RENEW,
            n => Duration::from_millis(200 * u64::from(1u32 << n.min(5))),
        };
        tokio::time::sleep(pause).await;
    }
}

async fn renew(client: &kube::Client, node: &str) -> Result<()> {
    let api: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let now = MicroTime(Timestamp::now());
    let patch = serde_json::json!({"spec": {
        "holderIdentity": node, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": now,
    }});
    match api.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => return Ok(()),
        Err(error) if is_status(&error, 404) => {}
        Err(error) => return Err(error).context("cannot renew the lease"),
    }
    let owner = Api::<Node>::all(client.clone()).get(node).await.context("cannot read the node")?;
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(node.into()),
            namespace: Some(NAMESPACE.into()),
            owner_references: owner.metadata.uid.map(|uid| {
                vec![OwnerReference {
                    api_version: "v1".into(),
                    kind: "Node".into(),
                    name: node.into(),
                    uid,
                    ..Default::default()
                }]
            }),
            ..Default::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.into()),
            lease_duration_seconds: Some(DURATION_SECONDS),
            renew_time: Some(now),
            ..Default::default()
        }),
    };
    api.create(&PostParams::default(), &lease).await.context("cannot create the lease")?;
    Ok(())
}
