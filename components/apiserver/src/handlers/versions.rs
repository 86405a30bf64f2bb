//! Objects in the other versions of their kind, for field ownership.
//!
//! Who owns what is reckoned by pure code, but a webhook that converts has to be asked. So the reckoning runs with the conversions
//! known so far; what it misses is asked for, and it runs again.

use machinery::{
    ApiError, Resource, ResourceRef,
    apply::{Shape, Versions},
    value::str_at,
};
use parking_lot::Mutex;
use serde_json::Value;

use super::managed::shape;
use crate::{core::Core, registry};

/// What webhooks have converted for one write.
#[derive(Default)]
pub struct Conversions {
    done: Mutex<Vec<Conversion>>,
    missing: Mutex<Vec<(ResourceRef, Value, ResourceRef)>>,
}

struct Conversion {
    from: Value,
    version: String,
    to: Value,
}

impl Conversions {
    /// Asks for what was missing; `true` if there was anything, and so the last reckoning is worth nothing.
    pub async fn fill(&self) -> Result<bool, ApiError> {
        let missing = std::mem::take(&mut *self.missing.lock());
        let any = !missing.is_empty();
        for (from, object, to) in missing {
            let converted = registry::convert(&from, &to, &object).await?;
            self.done.lock().push(Conversion { from: object, version: to.api_version(), to: converted });
        }
        Ok(any)
    }

    /// Whether the last reckoning lacked something.
    pub fn lack(&self) -> bool {
        !self.missing.lock().is_empty()
    }
}

/// Whether only a webhook knows how other versions look.
pub fn by_webhook(resource: &Resource) -> bool {
    resource.custom().is_some_and(|custom| str_at(custom.definition(), "spec.conversion.strategy") == "Webhook")
}

/// The versions that are served now.
pub struct Served<'a> {
    pub core: &'a Core,
    pub resource: &'a ResourceRef,
    pub conversions: &'a Conversions,
}

impl Served<'_> {
    fn row(&self, api_version: &str) -> Option<ResourceRef> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        registry::resolve(self.core, group, version, self.resource.plural)
    }

    /// By the webhook: what it said, or for now the object as it is.
    fn asked(&self, object: &Value, to: ResourceRef) -> Value {
        let version = to.api_version();
        let done = self.conversions.done.lock();
        if let Some(known) = done.iter().find(|it| it.version == version && it.from == *object) {
            return known.to.clone();
        }
        let from = self.row(str_at(object, "apiVersion")).unwrap_or_else(|| self.resource.clone());
        self.conversions.missing.lock().push((from, object.clone(), to));
        object.clone()
    }
}

impl Versions for Served<'_> {
    fn convert(&self, object: &Value, api_version: &str) -> Option<(Value, Shape)> {
        let other = self.row(api_version)?;
        let shape = shape(&other);
        if by_webhook(self.resource) && object.get("spec").or(object.get("metadata")).is_some() {
            return Some((self.asked(object, other), shape));
        }
        let mut object = object.clone();
        object["apiVersion"] = api_version.into();
        if let Some(view) = self.resource.view {
            (view.to_stored)(&mut object);
        }
        if let Some(view) = other.view {
            (view.from_stored)(&mut object);
        }
        Some((object, shape))
    }
}
