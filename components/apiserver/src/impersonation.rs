//! `Impersonate-*` headers: acting as somebody else, after the verb `impersonate` was granted for every part of him.

use http::HeaderMap;
use machinery::ApiError;
use percent_encoding::percent_decode_str;

use crate::{
    authz::{self, Attributes},
    core::Core,
    identity::{ANONYMOUS, AUTHENTICATED, Identity, UNAUTHENTICATED},
};

const EXTRA: &str = "impersonate-extra-";

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
}

pub async fn apply(core: &Core, who: Identity, headers: &HeaderMap) -> Result<Identity, ApiError> {
    let users = all(headers, "impersonate-user");
    let groups = all(headers, "impersonate-group");
    let uid = all(headers, "impersonate-uid").into_iter().next().unwrap_or_default();
    let extras: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(name, value)| {
            let key = percent_decode_str(name.as_str().strip_prefix(EXTRA)?).decode_utf8_lossy().into_owned();
            Some((key, value.to_str().ok()?.to_owned()))
        })
        .collect();
    let Some(user) = users.into_iter().next().filter(|u| !u.is_empty()) else {
        let nobody = groups.is_empty() && uid.is_empty() && extras.is_empty();
        return if nobody {
            Ok(who)
        } else {
            Err(ApiError::bad_request("requested groups, uid or extra without impersonating a user"))
        };
    };
    check_user(core, &who, &user).await?;
    for group in &groups {
        check(core, &who, asked("", "groups", "", group)).await?;
    }
    for (key, value) in &extras {
        let what = Attributes { subresource: key.clone(), ..asked("authentication.k8s.io", "userextras", "", value) };
        check(core, &who, what).await?;
    }
    if !uid.is_empty() {
        check(core, &who, asked("authentication.k8s.io", "uids", "", &uid)).await?;
    }
    Ok(become_user(user, groups, uid, extras))
}

fn asked(group: &str, resource: &str, namespace: &str, name: &str) -> Attributes {
    Attributes {
        verb: "impersonate".into(),
        is_resource: true,
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..Attributes::default()
    }
}

async fn check(core: &Core, who: &Identity, what: Attributes) -> Result<(), ApiError> {
    authz::authorize(core, who, &what).await
}

async fn check_user(core: &Core, who: &Identity, user: &str) -> Result<(), ApiError> {
    match service_account(user) {
        Some((namespace, name)) => check(core, who, asked("", "serviceaccounts", namespace, name)).await,
        None => check(core, who, asked("", "users", "", user)).await,
    }
}

fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}

fn become_user(user: String, mut groups: Vec<String>, uid: String, extras: Vec<(String, String)>) -> Identity {
    if let Some((namespace, _)) = service_account(&user).filter(|_| groups.is_empty()) {
        groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
    }
    let needed = if user == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !groups.iter().any(|g| g == needed || g == UNAUTHENTICATED) {
        groups.push(needed.into());
    }
    let mut identity = Identity { user, uid, groups, ..Identity::default() };
    for (key, value) in extras {
        identity.extra.entry(key).or_default().push(value);
    }
    identity
}
