//! What the engine needs to know of a kind: everything is seen as a ReplicaSet.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;
use kube::core::Selector;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::informer::Object;
use crate::core::meta;

pub trait Replicated: Object + Resource<Scope = NamespaceResourceScope> + Serialize {
    /// The name under which events and logs know the controller.
    const CONTROLLER: &'static str;

    fn as_set(&self) -> ReplicaSet;
    fn with_status(&self, status: ReplicaSetStatus) -> Self;

    /// `None` where it selects nothing, or does not parse.
    fn selector(&self) -> Option<Selector> {
        meta::selector(&self.as_set().spec.selector)
    }
}

impl Replicated for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";

    fn as_set(&self) -> ReplicaSet {
        self.clone()
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        ReplicaSet { status: Some(status), ..self.clone() }
    }

    fn selector(&self) -> Option<Selector> {
        meta::selector(&self.spec.selector)
    }
}

impl Replicated for ReplicationController {
    const CONTROLLER: &'static str = "replication-controller";

    fn as_set(&self) -> ReplicaSet {
        let spec = self.spec.clone().unwrap_or_default();
        ReplicaSet {
            metadata: self.metadata.clone(),
            spec: ReplicaSetSpec {
                replicas: spec.replicas,
                min_ready_seconds: spec.min_ready_seconds,
                selector: LabelSelector { match_labels: spec.selector, match_expressions: None },
                template: spec.template,
            },
            status: self.status.as_ref().and_then(same_fields),
        }
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        ReplicationController { status: same_fields::<_, ReplicationControllerStatus>(&status), ..self.clone() }
    }

    fn selector(&self) -> Option<Selector> {
        // an empty map would select everything
        let labels = self.spec.as_ref()?.selector.clone().filter(|labels| !labels.is_empty())?;
        meta::selector(&LabelSelector { match_labels: Some(labels), match_expressions: None })
    }
}

/// Both statuses are written alike.
fn same_fields<A: Serialize, B: DeserializeOwned>(from: &A) -> Option<B> {
    serde_json::from_value(serde_json::to_value(from).ok()?).ok()
}
