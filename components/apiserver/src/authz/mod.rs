//! Authorization: `system:masters` may everything; then the Node authorizer and RBAC, any of which may say yes.

pub mod graph;
mod node;
pub mod rbac;

use machinery::{ApiError, request_info::RequestInfo};

use crate::{
    core::Core,
    identity::{Identity, MASTERS},
    registry,
};

/// What is asked for, in the words of SubjectAccessReview.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    pub verb: String,
    pub is_resource: bool,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub path: String,
    /// `fieldSelector` of lists and watches (KEP-4601).
    pub field_selector: String,
}

impl Attributes {
    pub fn of(info: &RequestInfo, field_selector: Option<&str>) -> Self {
        Attributes {
            verb: info.verb.to_owned(),
            is_resource: info.is_resource,
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            path: info.path.clone(),
            field_selector: field_selector.unwrap_or_default().to_owned(),
        }
    }

    pub fn with_verb(&self, verb: &str) -> Self {
        Attributes { verb: verb.into(), ..self.clone() }
    }

    /// `pods/log`, as RBAC rules name it.
    pub fn qualified_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

fn allowed_now(core: &Core, who: &Identity, what: &Attributes) -> bool {
    let state = core.observed.state.read();
    who.node().is_some_and(|node| state.graph.allows(node, what)) || state.rbac.allows(who, what)
}

/// What is known already; see [`allows`].
pub fn allows_now(core: &Core, who: &Identity, what: &Attributes) -> bool {
    who.in_group(MASTERS) || allowed_now(core, who, what)
}

pub async fn allows(core: &Core, who: &Identity, what: &Attributes) -> bool {
    if who.in_group(MASTERS) {
        return true;
    }
    let known = core.observed.revision();
    if allowed_now(core, who, what) {
        return true;
    }
    let revision = registry::newest(core).await;
    if known >= revision {
        return false;
    }
    core.observed.caught_up(revision).await;
    allowed_now(core, who, what)
}

/// As [`allows`], with the refusal clients know.
pub async fn authorize(core: &Core, who: &Identity, what: &Attributes) -> Result<(), ApiError> {
    if allows(core, who, what).await { Ok(()) } else { Err(refusal(core, who, what)) }
}

/// Why the answer is what it is, in upstream's words; costs a second look, so only for who wants to know.
pub fn reason(core: &Core, who: &Identity, what: &Attributes) -> String {
    if who.in_group(MASTERS) {
        return String::new();
    }
    let state = core.observed.state.read();
    let node = who.node().map_or(Ok(()), |node| state.graph.decide(node, what));
    if who.node().is_some() && node.is_ok() {
        return String::new();
    }
    if let Some(allowed) = state.rbac.explain(who, what) {
        return allowed;
    }
    let missing = state.rbac.missing_roles(who, what);
    let rbac = if missing.is_empty() { String::new() } else { format!("RBAC: {missing}") };
    [node.err().unwrap_or_default(), rbac].into_iter().filter(|r| !r.is_empty()).collect::<Vec<_>>().join("\n")
}

pub fn refusal(core: &Core, who: &Identity, what: &Attributes) -> ApiError {
    refused(who, what, &reason(core, who, what))
}

/// The refusal clients know, for a reason (or none, "").
pub fn refused(who: &Identity, what: &Attributes, reason: &str) -> ApiError {
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    if !what.is_resource {
        let why = format!("User \"{}\" cannot {} path \"{}\"{reason}", who.user, what.verb, what.path);
        return ApiError::forbidden("", "", "", &why);
    }
    let scope = if what.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", what.namespace)
    };
    let resource = what.qualified_resource();
    let why = format!(
        "User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {scope}{reason}",
        who.user, what.verb, what.group
    );
    ApiError::forbidden(&what.group, &what.resource, &what.name, &why)
}
