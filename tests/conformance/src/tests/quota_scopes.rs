//! ResourceQuotas that count some pods only.

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use super::objects::pod;
use super::quota::{quota, used, with_requests};
use crate::context::T;
use crate::resource::Res;
use crate::runner::Entry;

pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new(
            "[sig-api-machinery] ResourceQuota should verify ResourceQuota with best effort scope.",
            best_effort,
        ),
        Entry::new(
            "[sig-api-machinery] ResourceQuota should verify ResourceQuota with terminating scopes.",
            terminating,
        ),
    ]
}

/// Each pod is counted by one quota and not by the other, and gives back what it took.
async fn counted(t: &T, body: Value, by: (&str, Value), not_by: (&str, Value), none: &Value) -> Result<()> {
    let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    t.make(&Res::POD, body).await?;
    used(t, by.0, &by.1).await?;
    used(t, not_by.0, &not_by.1).await?;
    t.api.delete(&t.path(&Res::POD, &name), &json!({"gracePeriodSeconds": 0})).await?;
    used(t, by.0, none).await
}

async fn best_effort(t: Arc<T>) -> Result<()> {
    let hard = json!({"pods": "5"});
    let (one, none) = (json!({"pods": "1"}), json!({"pods": "0"}));
    let (best, other) = ("quota-besteffort", "quota-not-besteffort");
    quota(&t, best, &hard, &["BestEffort"]).await?;
    quota(&t, other, &hard, &["NotBestEffort"]).await?;
    counted(&t, pod(&t, "besteffort-pod"), (best, one.clone()), (other, none.clone()), &none).await?;
    let burstable = with_requests(&t, "burstable-pod", &json!({"cpu": "500m", "memory": "252Mi"}));
    counted(&t, burstable, (other, one), (best, none.clone()), &none).await
}

async fn terminating(t: Arc<T>) -> Result<()> {
    let hard = json!({"requests.cpu": "1", "requests.memory": "500Mi", "limits.cpu": "2", "limits.memory": "1Gi", "pods": "5"});
    let none =
        json!({"requests.cpu": "0", "requests.memory": "0", "limits.cpu": "0", "limits.memory": "0", "pods": "0"});
    let some = json!({"requests.cpu": "500m", "requests.memory": "200Mi", "limits.cpu": "1", "limits.memory": "400Mi", "pods": "1"});
    let (ending, lasting) = ("quota-terminating", "quota-not-terminating");
    quota(&t, ending, &hard, &["Terminating"]).await?;
    quota(&t, lasting, &hard, &["NotTerminating"]).await?;
    let body = |name: &str| {
        let mut body = pod(&t, name);
        body["spec"]["containers"][0]["resources"] =
            json!({"requests": {"cpu": "500m", "memory": "200Mi"}, "limits": {"cpu": "1", "memory": "400Mi"}});
        body
    };
    counted(&t, body("test-pod"), (lasting, some.clone()), (ending, none.clone()), &none).await?;
    let mut bounded = body("terminating-pod");
    bounded["spec"]["activeDeadlineSeconds"] = json!(3600);
    counted(&t, bounded, (ending, some), (lasting, none.clone()), &none).await
}
