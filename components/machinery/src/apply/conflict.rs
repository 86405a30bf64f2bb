//! Fields that an applied configuration wants to be otherwise than their owner did.

use super::{
    element,
    managers::{Entry, Operation},
};
use crate::{ApiError, status::Cause};

/// A field and who owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// As upstream prints a manager: `"name" with subresource "status" using v1`.
    pub manager: String,
    /// Steps of `fieldsV1`.
    pub path: Vec<String>,
}

impl Conflict {
    pub fn new(owner: &Entry, path: Vec<String>) -> Self {
        let mut manager = format!("{:?}", owner.manager);
        if !owner.subresource.is_empty() {
            manager += &format!(" with subresource {:?}", owner.subresource);
        }
        if owner.operation == Operation::Update {
            manager += &format!(" using {}", owner.api_version);
        }
        Conflict { manager, path }
    }

    fn field(&self) -> String {
        self.path.iter().map(|step| element::display(step)).collect()
    }
}

/// The answer to an apply with conflicts (apimachinery `NewApplyConflict`).
pub fn error(conflicts: &[Conflict]) -> ApiError {
    let mut error = ApiError::new(409, "Conflict", message(conflicts));
    error.details_mut().causes = conflicts
        .iter()
        .map(|conflict| Cause {
            reason: "FieldManagerConflict".into(),
            message: format!("conflict with {}", conflict.manager),
            field: conflict.field(),
        })
        .collect();
    error
}

fn message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.field());
    }
    let mut managers: Vec<&str> = conflicts.iter().map(|conflict| conflict.manager.as_str()).collect();
    managers.sort_unstable();
    managers.dedup();
    let mut lines = Vec::new();
    for manager in managers {
        lines.push(format!("conflicts with {manager}:"));
        lines.extend(conflicts.iter().filter(|c| c.manager == manager).map(|c| format!("- {}", c.field())));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
