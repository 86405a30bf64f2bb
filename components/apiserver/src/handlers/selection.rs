//! Which objects a list, watch or deletecollection means.

use machinery::{
    ApiError, Resource,
    selector::{FieldSelector, LabelSelector},
};
use serde_json::Value;
use store::Revision;

use super::Target;
use crate::{pipeline::Call, registry};

pub struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    /// All keys begin so; one key only when the selector names it.
    pub prefix: String,
}

impl Selection {
    pub fn of(call: &Call, target: &Target) -> Result<Self, ApiError> {
        let resource = &*target.resource;
        let bad = |what: &str, e: &dyn std::fmt::Display| {
            ApiError::bad_request(format!("unable to parse {what} selector: {e}"))
        };
        let labels = match call.query.get("labelSelector") {
            Some(text) => LabelSelector::parse(text).map_err(|e| bad("label", &e))?,
            None => LabelSelector::everything(),
        };
        let fields = match call.query.get("fieldSelector") {
            Some(text) => FieldSelector::parse_for(text, resource).map_err(|e| ApiError::bad_request(e.to_string()))?,
            None => FieldSelector::default(),
        };
        let namespace = match fields.required("metadata.namespace") {
            Some(one) if target.namespace.is_empty() => one,
            _ => target.namespace.as_str(),
        };
        let mut prefix = registry::prefix(resource, namespace);
        // not `=`: a longer name may begin the same; `matches` sorts that out
        if let Some(name) = fields.required("metadata.name")
            && (!resource.namespaced || !namespace.is_empty())
        {
            prefix.push_str(name);
        }
        Ok(Selection { labels, fields, prefix })
    }

    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    pub fn matches(&self, resource: &Resource, object: &Value) -> bool {
        self.labels.matches_object(object) && self.fields.matches(resource, object)
    }
}

pub fn parse_revision(text: &str) -> Result<Revision, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

/// A revision the client knows must be reached here; for a while it is waited for.
pub async fn not_newer_than_now(call: &Call, text: &str) -> Result<Revision, ApiError> {
    let wanted = parse_revision(text)?;
    registry::reached(&call.core, wanted).await?;
    Ok(wanted)
}
