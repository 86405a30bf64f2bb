//! `Impersonate-*` headers: acting as somebody else, after the verb `impersonate` was granted for every part of him
//! (upstream: apiserver pkg/endpoints/filters/impersonation).

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use machinery::ApiError;

use crate::{
    authn::front_proxy::extra,
    authz::{self, Attributes},
    core::Core,
    identity::{ANONYMOUS, AUTHENTICATED, Identity, UNAUTHENTICATED},
};

const PREFIX: &str = "impersonate-";
const EXTRA: &str = "impersonate-extra-";

/// One part of somebody that is asked for.
struct Part {
    resource: &'static str,
    namespace: String,
    name: String,
    /// The key of an extra.
    subresource: String,
}

impl Part {
    fn new(resource: &'static str, name: impl Into<String>) -> Self {
        Part { resource, namespace: String::new(), name: name.into(), subresource: String::new() }
    }

    fn attributes(&self) -> Attributes {
        let identity = matches!(self.resource, "userextras" | "uids");
        Attributes {
            verb: "impersonate".into(),
            is_resource: true,
            group: if identity { "authentication.k8s.io".into() } else { String::new() },
            version: if identity { "v1".into() } else { String::new() },
            resource: self.resource.into(),
            subresource: self.subresource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            ..Attributes::default()
        }
    }
}

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
}

/// Who acts from here on; `None`: the one who asked. The headers are taken out.
pub async fn apply(core: &Core, who: &Identity, headers: &mut HeaderMap) -> Result<Option<Arc<Identity>>, ApiError> {
    if !headers.keys().any(|name| name.as_str().starts_with(PREFIX)) {
        return Ok(None);
    }
    let user = all(headers, "impersonate-user").into_iter().next().unwrap_or_default();
    let groups = all(headers, "impersonate-group");
    let uid = all(headers, "impersonate-uid").into_iter().next().unwrap_or_default();
    let extras: Vec<(String, String)> = extra(headers, EXTRA).collect();
    let parts = parts(&user, &groups, &extras, &uid);
    if user.is_empty() {
        if parts.is_empty() {
            return Ok(None);
        }
        return Err(ApiError::bad_request(format!("requested {} without impersonating a user", listed(&parts))));
    }
    for part in &parts {
        authz::authorize(core, who, &part.attributes()).await?;
    }
    let gone: Vec<HeaderName> = headers.keys().filter(|n| n.as_str().starts_with(PREFIX)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
    Ok(Some(Arc::new(become_user(user, groups, uid, extras))))
}

fn parts(user: &str, groups: &[String], extras: &[(String, String)], uid: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    match service_account(user) {
        Some((namespace, name)) => {
            parts.push(Part { namespace: namespace.into(), ..Part::new("serviceaccounts", name) });
        }
        None if !user.is_empty() => parts.push(Part::new("users", user)),
        None => {}
    }
    parts.extend(groups.iter().map(|group| Part::new("groups", group)));
    parts.extend(extras.iter().map(|(key, value)| Part { subresource: key.clone(), ..Part::new("userextras", value) }));
    if !uid.is_empty() {
        parts.push(Part::new("uids", uid));
    }
    parts
}

/// The parts as Go prints the object references upstream makes of them.
fn listed(parts: &[Part]) -> String {
    let one = |part: &Part| {
        let (kind, version) = match part.resource {
            "groups" => ("Group", ""),
            "userextras" => ("UserExtra", "authentication.k8s.io/v1"),
            "uids" => ("UID", "authentication.k8s.io/v1"),
            _ => ("User", ""),
        };
        format!("{{{kind}  {}  {version}  {}}}", part.name, part.subresource)
    };
    format!("[{}]", parts.iter().map(one).collect::<Vec<_>>().join(" "))
}

fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let valid =
        machinery::names::dns1123_label(namespace).is_empty() && machinery::names::dns1123_subdomain(name).is_empty();
    valid.then_some((namespace, name))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_are_said_are_the_groups() {
        let plain = become_user("joe".into(), vec!["dev".into()], String::new(), Vec::new());
        assert_eq!(plain.groups, ["dev", AUTHENTICATED]);
        let account = become_user("system:serviceaccount:a:b".into(), Vec::new(), String::new(), Vec::new());
        assert_eq!(account.groups, ["system:serviceaccounts", "system:serviceaccounts:a", AUTHENTICATED]);
        let outside = become_user("joe".into(), vec![UNAUTHENTICATED.into()], String::new(), Vec::new());
        assert_eq!(outside.groups, [UNAUTHENTICATED]);
        assert_eq!(become_user(ANONYMOUS.into(), Vec::new(), String::new(), Vec::new()).groups, [UNAUTHENTICATED]);
    }

    #[test]
    fn names_that_are_no_accounts_are_users() {
        assert_eq!(service_account("system:serviceaccount:ns:sa"), Some(("ns", "sa")));
        assert_eq!(service_account("system:serviceaccount:ns:a:b"), None);
        assert_eq!(service_account("system:serviceaccount::b"), None);
    }
}
