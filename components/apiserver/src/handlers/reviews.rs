//! Kinds that are questions: nothing is stored, a create is answered (authorization.k8s.io, authentication.k8s.io).

mod access;

use http::StatusCode;
use machinery::{
    ApiError,
    request_info::RequestInfo,
    value::{get, list_at, str_at},
};
use serde_json::{Value, json};

use super::decode;
use crate::{
    authn,
    authz::{self, Attributes},
    http::{Request, Response, respond},
    identity::Identity,
    pipeline::Call,
};

pub struct Review {
    pub group: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
}

const AUTHN: &str = "authentication.k8s.io";
const AUTHZ: &str = "authorization.k8s.io";

pub const ALL: &[Review] = &[
    Review { group: AUTHN, plural: "selfsubjectreviews", kind: "SelfSubjectReview", namespaced: false },
    Review { group: AUTHN, plural: "tokenreviews", kind: "TokenReview", namespaced: false },
    Review { group: AUTHZ, plural: "localsubjectaccessreviews", kind: "LocalSubjectAccessReview", namespaced: true },
    Review { group: AUTHZ, plural: "selfsubjectaccessreviews", kind: "SelfSubjectAccessReview", namespaced: false },
    Review { group: AUTHZ, plural: "selfsubjectrulesreviews", kind: "SelfSubjectRulesReview", namespaced: false },
    Review { group: AUTHZ, plural: "subjectaccessreviews", kind: "SubjectAccessReview", namespaced: false },
];

pub fn find(info: &RequestInfo) -> Option<&'static Review> {
    ALL.iter().find(|r| r.group == info.group && info.version == "v1" && r.plural == info.resource)
}

pub async fn answer(call: &Call, review: &Review, request: Request) -> Result<Response, ApiError> {
    if review.namespaced == call.info.namespace.is_empty() || !call.info.name.is_empty() {
        return Err(ApiError::no_such_resource());
    }
    if call.info.verb != "create" || !call.info.subresource.is_empty() {
        return Err(ApiError::method_not_allowed(review.group, review.plural, call.info.verb));
    }
    let mut body = decode::any(request).await?.unwrap_or_else(|| json!({}));
    decode::check_kind(&body, &format!("{}/v1", review.group), review.kind)?;
    body["kind"] = review.kind.into();
    body["apiVersion"] = format!("{}/v1", review.group).into();
    body["status"] = match review.kind {
        "SelfSubjectReview" => json!({"userInfo": user_info(&call.identity)}),
        "TokenReview" => token_review(call, &body).await?,
        "SelfSubjectRulesReview" => rules_review(call, str_at(&body, "spec.namespace"))?,
        "LocalSubjectAccessReview" => {
            place(&mut body, &call.info.namespace);
            access_review(call, review, &body).await?
        }
        _ => access_review(call, review, &body).await?,
    };
    if !body["metadata"].is_object() {
        body["metadata"] = json!({});
    }
    Ok(respond::value(StatusCode::CREATED, call.accept.syntax, &body))
}

/// A review without a namespace is of the one in the URL.
fn place(body: &mut Value, namespace: &str) {
    if !body["metadata"].is_object() {
        body["metadata"] = json!({});
    }
    machinery::value::default_to(&mut body["metadata"], "namespace", namespace);
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

fn strings(value: &Value, path: &str) -> Vec<String> {
    list_at(value, path).iter().filter_map(Value::as_str).map(Into::into).collect()
}

/// The user a SubjectAccessReview asks about, with exactly the groups it names.
fn subject(body: &Value) -> Identity {
    let extra = get(body, "spec.extra").and_then(Value::as_object).into_iter().flatten();
    Identity {
        user: str_at(body, "spec.user").into(),
        uid: str_at(body, "spec.uid").into(),
        groups: strings(body, "spec.groups"),
        extra: extra
            .map(|(key, values)| {
                let values = values.as_array().into_iter().flatten().filter_map(Value::as_str);
                (key.to_ascii_lowercase(), values.map(Into::into).collect())
            })
            .collect(),
    }
}

fn resource_attributes(r: &Value) -> Attributes {
    Attributes {
        is_resource: true,
        verb: str_at(r, "verb").into(),
        group: str_at(r, "group").into(),
        version: str_at(r, "version").into(),
        resource: str_at(r, "resource").into(),
        subresource: str_at(r, "subresource").into(),
        namespace: str_at(r, "namespace").into(),
        name: str_at(r, "name").into(),
        path: String::new(),
        field_selector: access::field_selector(r),
    }
}

async fn access_review(call: &Call, review: &Review, body: &Value) -> Result<Value, ApiError> {
    access::validate(call, review, body)?;
    let given;
    let who = match review.kind {
        "SelfSubjectAccessReview" => &*call.identity,
        _ => {
            given = subject(body);
            &given
        }
    };
    let what = match get(body, "spec.resourceAttributes").filter(|r| !r.is_null()) {
        Some(r) => resource_attributes(r),
        None => Attributes {
            verb: str_at(body, "spec.nonResourceAttributes.verb").into(),
            path: str_at(body, "spec.nonResourceAttributes.path").into(),
            ..Attributes::default()
        },
    };
    let allowed = authz::allows(&call.core, who, &what).await;
    let reason = authz::reason(&call.core, who, &what);
    let mut status = json!({"allowed": allowed});
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    Ok(status)
}

async fn token_review(call: &Call, body: &Value) -> Result<Value, ApiError> {
    let token = str_at(body, "spec.token");
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let mut wanted = strings(body, "spec.audiences");
    if wanted.is_empty() {
        wanted = call.core.config.audiences();
    }
    Ok(match authn::check(&call.core, token, &wanted).await {
        Ok(accepted) => {
            json!({"authenticated": true, "user": user_info(&accepted.identity), "audiences": accepted.audiences})
        }
        Err(why) => json!({"user": {}, "error": why}),
    })
}

fn rules_review(call: &Call, namespace: &str) -> Result<Value, ApiError> {
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let state = call.core.observed.state.read();
    let mut resource_rules = Vec::new();
    let mut path_rules = Vec::new();
    if call.identity.in_group(crate::identity::MASTERS) {
        resource_rules.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        path_rules.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    for rule in state.rbac.rules_for(&call.identity, namespace) {
        if !rule.resources.is_empty() {
            let mut value = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if !rule.resource_names.is_empty() {
                value["resourceNames"] = json!(rule.resource_names);
            }
            resource_rules.push(value);
        }
        if !rule.non_resource_urls.is_empty() {
            path_rules.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    let mut status = json!({"resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": false});
    if call.identity.node().is_some() {
        status["incomplete"] = true.into();
        status["evaluationError"] = "node authorizer does not support user rule resolution".into();
    }
    Ok(status)
}
