//! NodeRestriction for PodCertificateRequests (KEP-4317): a kubelet asks only in the name of pods that run on its own node, as
//! they run there; else any node could get the identity of any pod.

use machinery::{
    ApiError,
    value::{get, str_at},
};
use serde_json::Value;

use super::{Attempt, Operation};
use crate::registry;

const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) async fn restrict(attempt: &Attempt<'_>, request: &Value, node: &str) -> Result<(), ApiError> {
    let refuse = |why: String| Err(attempt.target.forbidden(&why));
    match (attempt.operation, attempt.subresource) {
        (Operation::Create, "") => {}
        (Operation::Create, other) => return refuse(format!("unexpected subresource {other}")),
        (Operation::Update, _) => return refuse("unexpected operation UPDATE".into()),
        (Operation::Delete, _) => return refuse("unexpected operation DELETE".into()),
        (Operation::Connect, _) => return refuse("unexpected operation CONNECT".into()),
    }
    let spec = |field: &str| str_at(&request["spec"], field);
    if spec("nodeName") != node {
        return refuse(format!(
            "PodCertificateRequest.Spec.NodeName={:?}, which is not the requesting node {node:?}",
            spec("nodeName")
        ));
    }
    let namespace = attempt.target.namespace.as_str();
    let about = format!("PodCertificateRequest for pod \"{namespace}/{}\"", spec("podName"));
    let running = read(attempt, "nodes", "", node).await?;
    if uid(&running) != spec("nodeUID") {
        return differs(format!(
            "{about} names node UID {:?}, inconsistent with the running node ({:?})",
            spec("nodeUID"),
            uid(&running)
        ));
    }
    let pod = read(attempt, "pods", namespace, spec("podName")).await?;
    if uid(&pod) != spec("podUID") {
        return differs(format!(
            "{about} contains pod UID ({:?}) which differs from running pod {:?}",
            spec("podUID"),
            uid(&pod)
        ));
    }
    if pod["metadata"]["annotations"].get(MIRROR).is_some() {
        return refuse(format!("pod \"{namespace}/{}\" is a mirror pod", spec("podName")));
    }
    if get(&pod, "spec.nodeName").and_then(Value::as_str) != Some(node) {
        return refuse(format!(
            "pod \"{namespace}/{}\" is not running on node {node:?} named in the PodCertificateRequest",
            spec("podName")
        ));
    }
    let account = str_at(&pod, "spec.serviceAccountName");
    if account != spec("serviceAccountName") {
        return refuse(format!(
            "{about} contains serviceAccountName ({:?}) that differs from running pod ({account:?})",
            spec("serviceAccountName")
        ));
    }
    let account = read(attempt, "serviceaccounts", namespace, account).await?;
    if uid(&account) != spec("serviceAccountUID") {
        return differs(format!(
            "{about} names service account UID {:?}, which differs from the running service account ({:?})",
            spec("serviceAccountUID"),
            uid(&account)
        ));
    }
    Ok(())
}

fn uid(object: &Value) -> &str {
    str_at(object, "metadata.uid")
}

/// What may be right a moment later is no refusal: upstream answers an error without a reason.
fn differs(why: String) -> Result<(), ApiError> {
    Err(ApiError::new(500, "", why))
}

async fn read(attempt: &Attempt<'_>, plural: &str, namespace: &str, name: &str) -> Result<Value, ApiError> {
    let resource = registry::find("", "v1", plural).ok_or_else(ApiError::no_such_resource)?;
    Ok(registry::read(&attempt.call.core, resource, namespace, name).await?.object)
}
