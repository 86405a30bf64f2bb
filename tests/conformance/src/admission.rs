//! Admission servers for tests: a rule looks at the review's request and says what becomes of it.

use std::time::Duration;

use anyhow::Result;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::extension::{Extension, Outgoing, handler};

/// What a rule decides.
pub enum Verdict {
    Allow,
    Deny(String),
    /// A JSON patch.
    Patch(Value),
    /// Allowed, after this time.
    Late(Duration),
}

/// A server that answers every AdmissionReview by `rule(path, request)`.
pub async fn admission<F>(address: &str, rule: F) -> Result<Extension>
where
    F: Fn(&str, &Value) -> Verdict + Send + Sync + 'static,
{
    let answer = handler(move |incoming| {
        let review = incoming.json();
        let verdict = rule(&incoming.path, &review["request"]);
        async move {
            let mut response = json!({"uid": review["request"]["uid"], "allowed": true});
            match verdict {
                Verdict::Allow => {}
                Verdict::Late(time) => tokio::time::sleep(time).await,
                Verdict::Deny(message) => {
                    response["allowed"] = json!(false);
                    response["status"] = json!({"message": message, "reason": message});
                }
                Verdict::Patch(patch) => {
                    response["patchType"] = json!("JSONPatch");
                    response["patch"] = json!(BASE64_STANDARD.encode(patch.to_string()));
                }
            }
            Outgoing::json(
                200,
                &json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}),
            )
        }
    });
    Extension::start(address, &[], answer).await
}

/// A patch operation that sets `/data/<key>`.
pub fn set_data(key: &str, value: &str) -> Value {
    json!([{"op": "add", "path": format!("/data/{key}"), "value": value}])
}
