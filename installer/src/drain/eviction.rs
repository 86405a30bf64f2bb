//! One eviction, and what its answer means.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, EvictParams, Preconditions};
use kube::{Client, ResourceExt as _};

/// What came of asking for a pod to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is on its way, or gone already.
    Going,
    /// A budget forbids it, in the server's words; it may allow it when it changes.
    Budget(String),
    /// The server has too much to do: seconds until it wants to be asked again.
    Busy(u64),
    /// Asking again will not help.
    Refused(String),
}

pub async fn evict(client: &Client, pod: &Pod) -> Answer {
    let parameters = EvictParams { delete_options: Some(exactly(pod)), ..EvictParams::default() };
    read(pods(client, pod).evict(&pod.name_any(), &parameters).await.map(drop))
}

/// Without asking any budget.
pub async fn delete(client: &Client, pod: &Pod) -> Answer {
    read(pods(client, pod).delete(&pod.name_any(), &exactly(pod)).await.map(drop))
}

/// Another pod that has got its name in the meantime is left alone.
fn exactly(pod: &Pod) -> DeleteParams {
    let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

fn pods(client: &Client, pod: &Pod) -> Api<Pod> {
    Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or("default"))
}

fn read(result: Result<(), kube::Error>) -> Answer {
    let status = match result {
        Ok(()) => return Answer::Going,
        Err(kube::Error::Api(status)) => status,
        Err(error) => return Answer::Refused(error.to_string()),
    };
    let details = status.details.as_ref();
    let cause = |reason: &str| details?.causes.iter().find(|cause| cause.reason == reason).map(|cause| &cause.message);
    match status.code {
        // gone, or another one of that name
        404 | 409 => Answer::Going,
        // its namespace takes it along
        403 if cause("NamespaceTerminating").is_some() => Answer::Going,
        429 => match cause("DisruptionBudget") {
            Some(message) => Answer::Budget(message.clone()),
            None => Answer::Busy(details.map_or(1, |details| u64::from(details.retry_after_seconds)).max(1)),
        },
        _ => Answer::Refused(status.message.clone()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn answer(code: u16, details: Value) -> Answer {
        let status = json!({"status": "Failure", "code": code, "message": "m", "details": details});
        read(Err(kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))))
    }

    #[test]
    fn what_a_budget_forbids_is_not_what_a_busy_server_puts_off() {
        let causes = |reason: &str| json!({"causes": [{"reason": reason, "message": "b needs 2"}]});
        assert_eq!(read(Ok(())), Answer::Going);
        assert_eq!(answer(404, Value::Null), Answer::Going);
        assert_eq!(answer(409, Value::Null), Answer::Going);
        assert_eq!(answer(429, causes("DisruptionBudget")), Answer::Budget("b needs 2".into()));
        assert_eq!(answer(429, json!({"retryAfterSeconds": 7})), Answer::Busy(7));
        assert_eq!(answer(429, Value::Null), Answer::Busy(1));
        assert_eq!(answer(403, causes("NamespaceTerminating")), Answer::Going);
        assert_eq!(answer(403, Value::Null), Answer::Refused("m".into()));
        assert_eq!(answer(500, Value::Null), Answer::Refused("m".into()));
    }
}
