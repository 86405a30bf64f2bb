//! `Impersonate-*` headers: acting as somebody else (upstream: apiserver pkg/endpoints/filters/impersonation).
//!
//! There are several ways to be allowed to (KEP-5284). The constrained ones ask twice: whether who asks may do this very thing as
//! somebody of that kind (`impersonate-on:<mode>:<verb>`), and whether he may be that somebody (`impersonate:<mode>`). The old one
//! (`impersonate`) asks the latter only, and holds for every request.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use http::{HeaderMap, HeaderName};
use machinery::{ApiError, FieldError, Path, names};
use parking_lot::Mutex;

use crate::{
    authn::front_proxy::extra,
    authz::{self, Attributes},
    core::Core,
    identity::{ANONYMOUS, AUTHENTICATED, Identity, MASTERS, NODES, UNAUTHENTICATED},
};

const PREFIX: &str = "impersonate-";
const EXTRA: &str = "impersonate-extra-";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// From so many names on one question about all of them is tried first.
const MANY: usize = 4;
/// Users whose last mode is remembered.
const REMEMBERED: usize = 1024;

/// Whether any header asks for it.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(PREFIX))
}

/// How somebody was allowed to act as another.
pub struct Impersonated {
    pub identity: Arc<Identity>,
    /// The verb that allowed it, if that is a constrained one.
    pub constraint: &'static str,
}

/// Which mode let a user pass last: it is tried first.
#[derive(Default)]
pub struct LastModes(Mutex<HashMap<String, usize>>);

impl LastModes {
    fn of(&self, who: &Identity) -> Option<usize> {
        self.0.lock().get(&who.user).copied()
    }

    fn remember(&self, who: &Identity, mode: usize) {
        let mut all = self.0.lock();
        if all.len() >= REMEMBERED {
            all.clear();
        }
        all.insert(who.user.clone(), mode);
    }
}

/// Who acts from here on; `None`: the one who asked. The headers are taken out.
pub async fn apply(
    core: &Core,
    who: &Identity,
    request: &Attributes,
    headers: &mut HeaderMap,
) -> Result<Option<Impersonated>, ApiError> {
    let wanted = Wanted::from_headers(headers);
    if wanted.user.is_empty() {
        if wanted.is_only_user() {
            return Ok(None);
        }
        return Err(ApiError::bad_request(format!("requested {} without impersonating a user name", wanted.go_text())));
    }
    let gone: Vec<HeaderName> = headers.keys().filter(|n| n.as_str().starts_with(PREFIX)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
    let mut first = None;
    let last = core.impersonation.of(who);
    for index in last.into_iter().chain((0..MODES.len()).filter(|index| Some(*index) != last)) {
        let Some(mode) = MODES.get(index).filter(|mode| mode.fits(who, &wanted)) else { continue };
        match mode.check(core, who, request, &wanted).await {
            Ok(identity) => {
                core.impersonation.remember(who, index);
                return Ok(Some(Impersonated { identity: Arc::new(identity), constraint: mode.constraint }));
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| ApiError::internal("all impersonation modes failed")))
}

/// Somebody, as the headers say.
#[derive(Debug, Default)]
struct Wanted {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Wanted {
    fn from_headers(headers: &HeaderMap) -> Self {
        let all = |name: &str| -> Vec<String> {
            headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
        };
        let first = |name: &str| all(name).into_iter().next().unwrap_or_default();
        let mut wanted = Wanted {
            user: first("impersonate-user"),
            uid: first("impersonate-uid"),
            groups: all("impersonate-group"),
            ..Wanted::default()
        };
        for (key, value) in extra(headers, EXTRA) {
            wanted.extra.entry(key).or_default().push(value);
        }
        wanted
    }

    fn is_only_user(&self) -> bool {
        self.uid.is_empty() && self.groups.is_empty() && self.extra.is_empty()
    }

    /// As Go writes the structure upstream keeps this in.
    fn go_text(&self) -> String {
        let list = |texts: &[String]| {
            let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
            format!("[]string{{{}}}", texts.join(", "))
        };
        let groups = if self.groups.is_empty() { "[]string(nil)".to_owned() } else { list(&self.groups) };
        let entries: Vec<String> = self.extra.iter().map(|(key, values)| format!("{key:?}:{}", list(values))).collect();
        let extra = match entries.as_slice() {
            [] => "map[string][]string(nil)".to_owned(),
            entries => format!("map[string][]string{{{}}}", entries.join(", ")),
        };
        format!("&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{groups}, Extra:{extra}}}", self.user, self.uid)
    }

    fn node(&self) -> Option<&str> {
        self.user.strip_prefix("system:node:").filter(|name| names::dns1123_subdomain(name).is_empty())
    }

    fn service_account(&self) -> Option<(&str, &str)> {
        service_account(&self.user)
    }
}

fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let valid = names::dns1123_label(namespace).is_empty() && names::dns1123_subdomain(name).is_empty();
    valid.then_some((namespace, name))
}

#[derive(PartialEq, Eq)]
enum Kind {
    /// The node that the asking service account's pod runs on.
    OwnNode,
    AnyNode,
    ServiceAccount,
    /// Everybody else.
    User,
    /// Anybody, by the old verb.
    Old,
}

struct Mode {
    kind: Kind,
    name: &'static str,
    /// The verb; empty for the old one.
    constraint: &'static str,
}

/// In the order they are tried.
const MODES: [Mode; 5] = [
    Mode { kind: Kind::OwnNode, name: "associated-node", constraint: "impersonate:associated-node" },
    Mode { kind: Kind::AnyNode, name: "arbitrary-node", constraint: "impersonate:arbitrary-node" },
    Mode { kind: Kind::ServiceAccount, name: "serviceaccount", constraint: "impersonate:serviceaccount" },
    Mode { kind: Kind::User, name: "user-info", constraint: "impersonate:user-info" },
    Mode { kind: Kind::Old, name: "", constraint: "" },
];

impl Mode {
    /// Whether it is for somebody of this kind at all.
    fn fits(&self, who: &Identity, wanted: &Wanted) -> bool {
        match self.kind {
            Kind::OwnNode => {
                let own = who.extra.get(NODE_NAME).map(Vec::as_slice);
                wanted.is_only_user()
                    && service_account(&who.user).is_some()
                    && wanted.node().is_some_and(|node| matches!(own, Some([own]) if own == node))
            }
            Kind::AnyNode => wanted.is_only_user() && wanted.node().is_some(),
            Kind::ServiceAccount => wanted.is_only_user() && wanted.service_account().is_some(),
            Kind::User => wanted.node().is_none() && wanted.service_account().is_none(),
            Kind::Old => true,
        }
    }

    fn is_constrained(&self) -> bool {
        self.kind != Kind::Old
    }

    async fn check(
        &self,
        core: &Core,
        who: &Identity,
        request: &Attributes,
        wanted: &Wanted,
    ) -> Result<Identity, ApiError> {
        if self.is_constrained() {
            let verb = format!("impersonate-on:{}:{}", self.name, request.verb);
            authz::authorize(core, who, &request.with_verb(&verb)).await?;
        }
        authz::authorize(core, who, &self.of_user(wanted)).await?;
        if !wanted.uid.is_empty() {
            authz::authorize(core, who, &self.part("uids", &wanted.uid)).await?;
        }
        self.check_groups(core, who, wanted).await?;
        self.check_extra(core, who, wanted).await?;
        Ok(self.identity(wanted))
    }

    /// The question whether somebody's part may be taken on.
    fn part(&self, resource: &str, name: &str) -> Attributes {
        let named_apart = self.is_constrained() || matches!(resource, "userextras" | "uids");
        Attributes {
            verb: if self.is_constrained() { self.constraint.into() } else { "impersonate".into() },
            is_resource: true,
            group: if named_apart { "authentication.k8s.io".into() } else { String::new() },
            version: "v1".into(),
            resource: resource.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    fn of_user(&self, wanted: &Wanted) -> Attributes {
        if let Some((namespace, name)) = wanted.service_account() {
            return Attributes { namespace: namespace.into(), ..self.part("serviceaccounts", name) };
        }
        match (&self.kind, wanted.node()) {
            // the answer must not depend on the node the pod happens to run on
            (Kind::OwnNode, _) => self.part("nodes", "*"),
            (Kind::Old, _) | (_, None) => self.part("users", &wanted.user),
            (_, Some(node)) => self.part("nodes", node),
        }
    }

    async fn check_groups(&self, core: &Core, who: &Identity, wanted: &Wanted) -> Result<(), ApiError> {
        let groups = &wanted.groups;
        if self.is_constrained() {
            let refused = |name: &str, why: &str| Err(authz::refused(who, &self.part("groups", name), why));
            if groups.iter().any(String::is_empty) {
                return refused("", "impersonating the empty string group is not allowed");
            }
            if groups.iter().any(|group| group == MASTERS) {
                return refused(MASTERS, "impersonating the system:masters group is not allowed");
            }
            if groups.len() >= MANY && authz::allows(core, who, &self.part("groups", "*")).await {
                return Ok(());
            }
        }
        for group in groups {
            authz::authorize(core, who, &self.part("groups", group)).await?;
        }
        Ok(())
    }

    async fn check_extra(&self, core: &Core, who: &Identity, wanted: &Wanted) -> Result<(), ApiError> {
        let of = |key: &str, value: &str| Attributes { subresource: key.into(), ..self.part("userextras", value) };
        if self.is_constrained() {
            if let Some(why) = wanted.extra.iter().find_map(|(key, values)| odd_extra(key, values)) {
                return Err(authz::refused(who, &self.part("userextras", ""), &why));
            }
            let many = wanted.extra.values().map(Vec::len).sum::<usize>() >= MANY;
            if many && authz::allows(core, who, &of("*", "*")).await {
                return Ok(());
            }
        }
        for (key, values) in &wanted.extra {
            for value in values {
                authz::authorize(core, who, &of(key, value)).await?;
            }
        }
        Ok(())
    }

    fn identity(&self, wanted: &Wanted) -> Identity {
        let mut groups = wanted.groups.clone();
        if let Some((namespace, _)) = wanted.service_account().filter(|_| groups.is_empty()) {
            groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
        }
        if matches!(self.kind, Kind::OwnNode | Kind::AnyNode) {
            groups = vec![NODES.into()];
        }
        let needed = if wanted.user == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
        if !groups.iter().any(|g| g == needed || g == UNAUTHENTICATED) {
            groups.push(needed.into());
        }
        Identity { user: wanted.user.clone(), uid: wanted.uid.clone(), groups, extra: wanted.extra.clone() }
    }
}

/// What a constrained mode has against an extra.
fn odd_extra(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".into());
    }
    let problems = domain_path(key);
    if !problems.is_empty() {
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let all = if let [one] = texts.as_slice() { one.clone() } else { format!("[{}]", texts.join(", ")) };
        return Some(format!("impersonating an invalid key in extra is not allowed: {all}"));
    }
    if values.iter().any(String::is_empty) {
        return Some("impersonating the empty string value in extra is not allowed".into());
    }
    None
}

/// Of `example.com/some/path`: what is wrong with it.
fn domain_path(text: &str) -> Vec<FieldError> {
    let at = Path::new("extra").child("key");
    let Some((domain, path)) = text.split_once('/').filter(|(domain, path)| !domain.is_empty() && !path.is_empty())
    else {
        return vec![FieldError::invalid(&at, text, "must be a domain-prefixed path (such as \"acme.io/foo\")")];
    };
    let problems = names::dns1123_subdomain(domain).into_iter();
    let mut errors: Vec<FieldError> = problems.map(|why| FieldError::invalid(&at, domain, why)).collect();
    if !path.chars().all(|c| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c)) {
        let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.push(FieldError::invalid(&at, path, why));
    }
    errors
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wanted(user: &str) -> Wanted {
        Wanted { user: user.into(), ..Wanted::default() }
    }

    fn as_old(wanted: &Wanted) -> Identity {
        MODES[4].identity(wanted)
    }

    #[test]
    fn groups_that_are_said_are_the_groups() {
        let plain = as_old(&Wanted { groups: vec!["dev".into()], ..wanted("joe") });
        assert_eq!(plain.groups, ["dev", AUTHENTICATED]);
        let account = as_old(&wanted("system:serviceaccount:a:b"));
        assert_eq!(account.groups, ["system:serviceaccounts", "system:serviceaccounts:a", AUTHENTICATED]);
        let outside = as_old(&Wanted { groups: vec![UNAUTHENTICATED.into()], ..wanted("joe") });
        assert_eq!(outside.groups, [UNAUTHENTICATED]);
        assert_eq!(as_old(&wanted(ANONYMOUS)).groups, [UNAUTHENTICATED]);
        assert_eq!(as_old(&wanted("system:node:n")).groups, [AUTHENTICATED]);
        assert_eq!(MODES[1].identity(&wanted("system:node:n")).groups, [NODES, AUTHENTICATED]);
    }

    #[test]
    fn names_that_are_no_accounts_are_users() {
        assert_eq!(service_account("system:serviceaccount:ns:sa"), Some(("ns", "sa")));
        assert_eq!(service_account("system:serviceaccount:ns:a:b"), None);
        assert_eq!(service_account("system:serviceaccount::b"), None);
    }

    #[test]
    fn modes_are_for_their_kinds() {
        let mut agent = Identity::new("system:serviceaccount:a:agent", [""; 0]);
        agent.extra.insert(NODE_NAME.into(), vec!["n1".into()]);
        let fitting = |who: &Identity, wanted: &Wanted| {
            let all = MODES.iter().filter(|mode| mode.fits(who, wanted));
            all.map(|mode| mode.name).collect::<Vec<_>>()
        };
        assert_eq!(fitting(&agent, &wanted("system:node:n1")), ["associated-node", "arbitrary-node", ""]);
        assert_eq!(fitting(&agent, &wanted("system:node:n2")), ["arbitrary-node", ""]);
        assert_eq!(fitting(&agent, &wanted("system:serviceaccount:a:b")), ["serviceaccount", ""]);
        assert_eq!(fitting(&agent, &wanted("joe")), ["user-info", ""]);
        assert_eq!(fitting(&agent, &Wanted { uid: "1".into(), ..wanted("system:node:n1") }), [""]);
    }

    #[test]
    fn extras_of_constrained_modes_have_a_domain() {
        let values = ["x".to_owned()];
        assert_eq!(odd_extra("example.com/scope", &values), None);
        assert!(odd_extra("scope", &values).unwrap().contains("domain-prefixed path"));
        assert!(odd_extra("", &values).is_some() && odd_extra("example.com/a", &[String::new()]).is_some());
    }

    #[test]
    fn go_writes_structures() {
        let mut wanted = Wanted { groups: vec!["dev".into()], ..Wanted::default() };
        assert_eq!(
            wanted.go_text(),
            "&user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"dev\"}, Extra:map[string][]string(nil)}"
        );
        wanted.extra.insert("a".into(), vec!["b".into()]);
        assert!(wanted.go_text().ends_with("Extra:map[string][]string{\"a\":[]string{\"b\"}}}"));
    }
}
