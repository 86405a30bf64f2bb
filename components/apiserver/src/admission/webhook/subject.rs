//! One request as one webhook sees it: in the group and version that the webhook's rules name.

use machinery::{ApiError, Resource, ResourceRef, selector::LabelSelector, value::map_at};
use serde_json::{Map, Value, json};

use super::{
    hooks::Hook,
    rules::{Asked, Rule},
};
use crate::{
    admission::{Attempt, Operation},
    registry,
};

/// Group, version, kind and resource of what is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    pub group: String,
    pub version: String,
    pub resource: String,
    /// Of the object, which with a subresource may be of another group.
    pub kind: (String, String, String),
}

impl Form {
    fn of(attempt: &Attempt<'_>, resource: &Resource) -> Self {
        let (group, version, kind) =
            (resource.group.to_string(), resource.version.to_string(), resource.kind.to_string());
        let own = (group.clone(), version.clone(), kind);
        let kind = attempt.kind.map_or(own, |(g, v, k)| (g.to_owned(), v.to_owned(), k.to_owned()));
        Form { group, version, resource: resource.plural.to_string(), kind }
    }

    pub fn kind_value(&self) -> Value {
        json!({"group": self.kind.0, "version": self.kind.1, "kind": self.kind.2})
    }

    pub fn resource_value(&self) -> Value {
        json!({"group": self.group, "version": self.version, "resource": self.resource})
    }
}

pub struct Subject<'a> {
    pub attempt: &'a Attempt<'a>,
    /// As the client asked.
    pub asked: Form,
    /// As the webhook's rules name it.
    pub sent: Form,
    /// The resource of `sent` where that is another version than was asked for, and the old object in it.
    other: Option<(ResourceRef, Option<Value>)>,
}

impl<'a> Subject<'a> {
    /// `None` when the hook's rules do not name this request: as it is, or (`matchPolicy: Equivalent`) in any version in which
    /// the same objects are served.
    pub async fn for_hook(attempt: &'a Attempt<'a>, hook: &Hook) -> Result<Option<Self>, ApiError> {
        let resource = &attempt.target.resource;
        let asked = Form::of(attempt, resource);
        if matches(&hook.rules, attempt, &asked) {
            return Ok(Some(Subject { attempt, sent: asked.clone(), asked, other: None }));
        }
        // what a subresource takes is of the same kind in every version
        if hook.exact || attempt.kind.is_some() {
            return Ok(None);
        }
        let same_objects = |it: &ResourceRef| it.stored_as() == resource.stored_as();
        for other in registry::served(&attempt.call.core).into_iter().filter(same_objects) {
            let sent = Form::of(attempt, &other);
            if matches(&hook.rules, attempt, &sent) {
                let old = match attempt.old {
                    Some(old) => Some(registry::convert(resource, &other, old).await?),
                    None => None,
                };
                return Ok(Some(Subject { attempt, asked, sent, other: Some((other, old)) }));
            }
        }
        Ok(None)
    }

    /// The resource in whose form the webhook sees the object.
    pub fn resource(&self) -> &Resource {
        self.other.as_ref().map_or(&self.attempt.target.resource, |(other, _)| other)
    }

    /// The object in that form, where it is another.
    pub async fn shown(&self, object: &Value) -> Result<Option<Value>, ApiError> {
        match &self.other {
            Some((other, _)) if self.attempt.operation != Operation::Delete => {
                registry::convert(&self.attempt.target.resource, other, object).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// And back.
    pub async fn taken_back(&self, shown: &Value) -> Result<Value, ApiError> {
        registry::convert(self.resource(), &self.attempt.target.resource, shown).await
    }

    pub fn old(&self) -> Option<&Value> {
        let old = self.other.as_ref().map_or(self.attempt.old, |(_, old)| old.as_ref());
        old.filter(|_| matches!(self.attempt.operation, Operation::Update | Operation::Delete))
    }

    /// A request about a namespace is one within it.
    pub fn namespace(&self) -> &str {
        let target = self.attempt.target;
        if is_namespace(self.attempt) { &target.name } else { &target.namespace }
    }

    /// Whether the hook's selectors select the namespace and the object.
    pub async fn selected(&self, hook: &Hook, object: &Value) -> Result<bool, ApiError> {
        Ok(self.object_selected(&hook.objects, object) && self.namespace_selected(&hook.namespaces, object).await?)
    }

    /// The new or the old object is enough; what has no labels (options of a connection) is never selected by any.
    fn object_selected(&self, selector: &LabelSelector, object: &Value) -> bool {
        let has_labels = !matches!(self.attempt.operation, Operation::Delete | Operation::Connect);
        let new = has_labels.then_some(object);
        selector.is_everything() || [new, self.old()].into_iter().flatten().any(|it| selector.matches_object(it))
    }

    async fn namespace_selected(&self, selector: &LabelSelector, object: &Value) -> Result<bool, ApiError> {
        let name = self.namespace();
        if selector.is_everything() || name.is_empty() {
            return Ok(true);
        }
        let written = matches!(self.attempt.operation, Operation::Create | Operation::Update);
        if is_namespace(self.attempt) && self.attempt.subresource.is_empty() && written {
            return Ok(selector.matches(labels(object)));
        }
        let namespaces = registry::find("", "v1", "namespaces").ok_or_else(ApiError::no_such_resource)?;
        let stored = registry::look(&self.attempt.call.core, namespaces, "", name).await?;
        Ok(selector.matches(labels(&stored)))
    }
}

fn is_namespace(attempt: &Attempt<'_>) -> bool {
    attempt.target.resource.group.is_empty() && attempt.target.resource.plural == "namespaces"
}

fn labels(object: &Value) -> Option<&Map<String, Value>> {
    map_at(object, "metadata.labels")
}

fn matches(rules: &[Rule], attempt: &Attempt<'_>, form: &Form) -> bool {
    let asked = Asked {
        operation: attempt.operation,
        group: &form.group,
        version: &form.version,
        resource: &form.resource,
        subresource: attempt.subresource,
        namespace: if is_namespace(attempt) { &attempt.target.name } else { &attempt.target.namespace },
    };
    rules.iter().any(|rule| rule.matches(&asked))
}

/// Configurations can neither protect nor lock themselves.
pub fn is_exempt(attempt: &Attempt<'_>) -> bool {
    const EXEMPT: &[&str] = &[
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations",
    ];
    let resource = &*attempt.target.resource;
    resource.group == super::hooks::GROUP && EXEMPT.contains(&resource.plural)
}
