//! Admission in process, in upstream's order. Each plugin looks at one write and changes the object or refuses it.

mod certificates;
mod escalation;
mod limit_range;
mod namespace;
mod node;
mod pod;
pub mod quota;
mod service_account;
mod storage;

use machinery::ApiError;
use serde_json::Value;

use crate::{handlers::Target, pipeline::Call};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// One write on its way.
pub struct Attempt<'a> {
    pub call: &'a Call,
    pub target: &'a Target,
    pub operation: Operation,
    pub subresource: &'a str,
    pub old: Option<&'a Value>,
}

impl Attempt<'_> {
    /// A write of the object itself (no subresource) of this resource.
    fn is(&self, operation: Operation, group: &str, plural: &str) -> bool {
        self.operation == operation && self.subresource.is_empty() && self.is_of(group, plural)
    }

    fn is_of(&self, group: &str, plural: &str) -> bool {
        self.target.resource.plural == plural && self.target.resource.group == group
    }
}

pub async fn admit(
    call: &Call,
    target: &Target,
    operation: Operation,
    subresource: &str,
    new: &mut Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let attempt = Attempt { call, target, operation, subresource, old };
    namespace::lifecycle(&attempt).await?;
    limit_range::fill(&attempt, new).await?;
    service_account::admit(&attempt, new).await?;
    node::restrict(&attempt, new).await?;
    pod::priority(&attempt, new).await?;
    pod::default_tolerations(&attempt, new);
    storage::default_class(&attempt, new).await?;
    storage::protect(&attempt, new);
    certificates::admit(&attempt, new).await?;
    limit_range::check(&attempt, new).await?;
    escalation::check(&attempt, new).await
}
