//! Which requests a policy or binding is about (apiserver `pkg/admission/plugin/policy/matching`).

use machinery::{
    ApiError,
    selector::LabelSelector,
    value::{get, list_at, map_at, str_at},
};
use serde_json::Value;

use crate::{
    admission::{
        Attempt, Operation,
        webhook::rules::{Asked, Rule},
    },
    registry,
};

/// `MatchResources`, read.
pub struct Matching {
    rules: Vec<Named>,
    excluded: Vec<Named>,
    namespaces: LabelSelector,
    objects: LabelSelector,
    /// `matchPolicy: Exact`
    exact: bool,
}

/// A rule that may be restricted to some names.
struct Named {
    rule: Rule,
    names: Vec<String>,
}

impl Named {
    fn from_value(value: &Value) -> Self {
        let names = list_at(value, "resourceNames").iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Named { rule: Rule::from_value(value), names }
    }

    fn matches(&self, asked: &Asked<'_>, name: &str) -> bool {
        self.rule.matches(asked) && (self.names.is_empty() || self.names.iter().any(|n| n == name))
    }
}

impl Matching {
    pub fn from_value(value: &Value) -> Self {
        let rules = |field| list_at(value, field).iter().map(Named::from_value).collect();
        let selector = |field| match get(value, field) {
            None => LabelSelector::everything(),
            given => LabelSelector::from_object(given).unwrap_or_else(|_| LabelSelector::nothing()),
        };
        Matching {
            rules: rules("resourceRules"),
            excluded: rules("excludeResourceRules"),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            exact: str_at(value, "matchPolicy") == "Exact",
        }
    }

    /// Whether one of the rules names the request, or (unless they are to be taken exactly) the same objects in another of their groups
    /// and versions.
    fn names(&self, rules: &[Named], attempt: &Attempt<'_>, asked: &Asked<'_>) -> bool {
        let name = &attempt.target.name;
        if rules.iter().any(|rule| rule.matches(asked, name)) {
            return true;
        }
        if self.exact || rules.is_empty() {
            return false;
        }
        let own = &*attempt.target.resource;
        let others = registry::served(&attempt.call.core);
        others.iter().filter(|other| other.stored_as() == own.stored_as()).any(|other| {
            let asked = Asked { group: other.group, version: other.version, resource: other.plural, ..*asked };
            rules.iter().any(|rule| rule.matches(&asked, name))
        })
    }

    /// Without rules (bindings may have none) every resource is meant.
    pub async fn matches(&self, attempt: &Attempt<'_>, object: &Value) -> Result<bool, ApiError> {
        let resource = &*attempt.target.resource;
        let asked = Asked {
            operation: attempt.operation,
            group: resource.group,
            version: resource.version,
            resource: resource.plural,
            subresource: attempt.subresource,
            namespace: if is_namespace(attempt) { &attempt.target.name } else { &attempt.target.namespace },
        };
        if self.names(&self.excluded, attempt, &asked) {
            return Ok(false);
        }
        if !self.rules.is_empty() && !self.names(&self.rules, attempt, &asked) {
            return Ok(false);
        }
        Ok(self.object_selected(attempt, object) && self.namespace_selected(attempt, object).await?)
    }

    /// The new or the old object is enough.
    fn object_selected(&self, attempt: &Attempt<'_>, object: &Value) -> bool {
        let has_labels = !matches!(attempt.operation, Operation::Delete | Operation::Connect);
        let new = has_labels.then_some(object);
        self.objects.is_everything()
            || [new, attempt.old].into_iter().flatten().any(|it| self.objects.matches_object(it))
    }

    async fn namespace_selected(&self, attempt: &Attempt<'_>, object: &Value) -> Result<bool, ApiError> {
        let name = if is_namespace(attempt) { &attempt.target.name } else { &attempt.target.namespace };
        if self.namespaces.is_everything() || name.is_empty() {
            return Ok(true);
        }
        let written = matches!(attempt.operation, Operation::Create | Operation::Update);
        if is_namespace(attempt) && attempt.subresource.is_empty() && written {
            return Ok(self.namespaces.matches(map_at(object, "metadata.labels")));
        }
        let Some(row) = registry::find("", "v1", "namespaces") else { return Ok(false) };
        let stored = registry::look(&attempt.call.core, row, "", name).await?;
        Ok(self.namespaces.matches(map_at(&stored, "metadata.labels")))
    }
}

fn is_namespace(attempt: &Attempt<'_>) -> bool {
    attempt.target.resource.group.is_empty() && attempt.target.resource.plural == "namespaces"
}
