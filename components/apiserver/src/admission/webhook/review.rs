//! AdmissionReview: the question to a webhook, and what its answer means (admission.k8s.io).

use base64::{Engine, engine::general_purpose::STANDARD};
use machinery::{
    ApiError,
    value::{bool_at, get, list_at, map_at, str_at},
};
use serde_json::{Map, Value, json};

use super::{rules::operation_text, subject::Subject};
use crate::{admission::Operation, identity::Identity};

/// The question. `version` is that of AdmissionReview.
pub fn question(subject: &Subject<'_>, object: &Value, uid: &str, version: &str) -> Value {
    let attempt = subject.attempt;
    let target = attempt.target;
    let here = |v: Option<&Value>| v.cloned().unwrap_or(Value::Null);
    let mut request = json!({
        "uid": uid,
        "kind": subject.sent.kind_value(),
        "resource": subject.sent.resource_value(),
        "requestKind": subject.asked.kind_value(),
        "requestResource": subject.asked.resource_value(),
        "operation": operation_text(attempt.operation),
        "userInfo": user_info(&attempt.call.identity),
        "object": if attempt.operation == Operation::Delete { Value::Null } else { object.clone() },
        "oldObject": here(subject.old()),
        "dryRun": attempt.dry_run,
        "options": attempt.options(),
    });
    let mut set = |key: &str, text: &str| {
        if !text.is_empty() {
            request[key] = text.into();
        }
    };
    set("subResource", attempt.subresource);
    set("requestSubResource", attempt.subresource);
    set("name", &target.name);
    set("namespace", subject.namespace());
    json!({"kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{version}"), "request": request})
}

fn user_info(who: &Identity) -> Value {
    let mut info = json!({"username": who.user, "groups": who.groups});
    if !who.uid.is_empty() {
        info["uid"] = who.uid.as_str().into();
    }
    if !who.extra.is_empty() {
        info["extra"] = json!(who.extra);
    }
    info
}

/// What a webhook said.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub allowed: bool,
    /// `metav1.Status`
    pub result: Value,
    /// JSON Patch operations.
    pub patch: Option<Value>,
    pub warnings: Vec<String>,
    pub annotations: Map<String, Value>,
}

/// Checks an answer against its question; an error says in what the webhook breaks the protocol.
pub fn answer(body: &[u8], uid: &str, version: &str, mutating: bool) -> Result<Answer, String> {
    let review: Value =
        serde_json::from_slice(body).map_err(|e| format!("couldn't get version/kind; json parse error: {e}"))?;
    let expected = format!("admission.k8s.io/{version}");
    let (given, kind) = (str_at(&review, "apiVersion"), str_at(&review, "kind"));
    // v1beta1 servers never had to say what they answer
    if (version == "v1" || !given.is_empty()) && (given != expected || kind != "AdmissionReview") {
        return Err(format!("expected webhook response of {expected}, Kind=AdmissionReview, got {given}, Kind={kind}"));
    }
    let response = get(&review, "response").filter(|r| r.is_object()).ok_or("webhook response was absent")?;
    if version == "v1" && str_at(response, "uid") != uid {
        return Err(format!("expected response.uid={uid:?}, got {:?}", str_at(response, "uid")));
    }
    Ok(Answer {
        allowed: bool_at(response, "allowed"),
        result: get(response, "status").cloned().unwrap_or_default(),
        patch: patch(response, version, mutating)?,
        warnings: list_at(response, "warnings").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        annotations: map_at(response, "auditAnnotations").cloned().unwrap_or_default(),
    })
}

fn patch(response: &Value, version: &str, mutating: bool) -> Result<Option<Value>, String> {
    let (text, kind) = (str_at(response, "patch"), str_at(response, "patchType"));
    if !mutating && version == "v1" {
        if !text.is_empty() {
            return Err("validating webhook may not return response.patch".into());
        }
        if !kind.is_empty() {
            return Err("validating webhook may not return response.patchType".into());
        }
    }
    if !mutating || (text.is_empty() && (kind.is_empty() || version != "v1")) {
        return Ok(None);
    }
    if text.is_empty() {
        return Err("webhook returned response.patchType but not response.patch".into());
    }
    if kind.is_empty() && version == "v1" {
        return Err("webhook returned response.patch but not response.patchType".into());
    }
    if !kind.is_empty() && kind != "JSONPatch" {
        return Err(format!("webhook returned invalid response.patchType of {kind:?}"));
    }
    let bytes = STANDARD.decode(text).map_err(|e| format!("response.patch is no base64: {e}"))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|e| format!("response.patch is no JSON: {e}"))
}

/// The refusal as the client sees it: the webhook's own status, with its name before the message.
pub fn denial(hook: &str, result: &Value) -> ApiError {
    let by = format!("admission webhook {hook:?} denied the request");
    let (message, reason) = (str_at(result, "message"), str_at(result, "reason"));
    let message = match (message, reason) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let mut error = ApiError::from_value(result);
    error.message = message;
    // never a success
    if error.code < 400 {
        error.code = 400;
    }
    error
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(response: Value, mutating: bool) -> Result<Answer, String> {
        let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        answer(body.to_string().as_bytes(), "u", "v1", mutating)
    }

    #[test]
    fn answers_keep_to_the_protocol() {
        let patch = STANDARD.encode(r#"[{"op":"add","path":"/a","value":1}]"#);
        let good =
            of(json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "JSONPatch", "warnings": ["w"]}), true);
        let good = good.unwrap();
        assert_eq!(
            (good.allowed, good.patch.unwrap()[0]["path"].as_str(), good.warnings),
            (true, Some("/a"), vec!["w".into()])
        );
        for (response, mutating, why) in [
            (json!({"uid": "x", "allowed": true}), false, "expected response.uid=\"u\", got \"x\""),
            (json!(null), false, "webhook response was absent"),
            (json!({"uid": "u", "patch": patch}), true, "webhook returned response.patch but not response.patchType"),
            (
                json!({"uid": "u", "patchType": "JSONPatch"}),
                true,
                "webhook returned response.patchType but not response.patch",
            ),
            (
                json!({"uid": "u", "patch": patch, "patchType": "x"}),
                true,
                "webhook returned invalid response.patchType of \"x\"",
            ),
            (json!({"uid": "u", "patch": patch}), false, "validating webhook may not return response.patch"),
        ] {
            assert_eq!(of(response, mutating).unwrap_err(), why);
        }
        assert!(
            answer(b"{}", "u", "v1", false)
                .unwrap_err()
                .starts_with("expected webhook response of admission.k8s.io/v1")
        );
        assert!(answer(b"{\"response\": {\"allowed\": true}}", "u", "v1beta1", false).unwrap().allowed);
    }

    #[test]
    fn denials_tell_who_and_why() {
        let error = denial("a.b.c", &json!({"message": "no", "code": 418, "reason": "Teapot"}));
        assert_eq!((error.code, error.message.as_str()), (418, "admission webhook \"a.b.c\" denied the request: no"));
        assert_eq!(error.reason, "Teapot");
        let bare = denial("a.b.c", &Value::Null);
        assert_eq!(
            (bare.code, bare.message.as_str()),
            (400, "admission webhook \"a.b.c\" denied the request without explanation")
        );
        assert_eq!(
            denial("x", &json!({"code": 200, "reason": "r"})).message,
            "admission webhook \"x\" denied the request: r"
        );
    }
}
