//! What a pod's status may become (kubernetes `ValidatePodStatusUpdate`).

use serde_json::Value;

use super::ip;
use crate::{
    field::{FieldError, Path},
    names,
    value::{list_at, str_at},
};

pub(in crate::resources) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let mut errors = Vec::new();
    if str_at(new, "spec.nodeName") != str_at(old, "spec.nodeName") {
        errors.push(FieldError::forbidden(&path.child("nodeName"), "may not be changed directly"));
    }
    let nominated = str_at(new, "status.nominatedNodeName");
    if !nominated.is_empty() && nominated != str_at(old, "status.nominatedNodeName") {
        let at = path.child("nominatedNodeName");
        errors.extend(names::dns1123_subdomain(nominated).into_iter().map(|p| FieldError::invalid(&at, nominated, p)));
    }
    for list in ["podIPs", "hostIPs"] {
        let all = list_at(new, &format!("status.{list}"));
        let at = path.child(list);
        for (i, address) in all.iter().enumerate() {
            errors.extend(ip(str_at(address, "ip"), &at.index(i)));
        }
        if all.len() > 2 {
            let detail = "may specify no more than one IP for each IP family";
            errors.push(FieldError::invalid(&at, all.to_vec(), detail));
        }
    }
    errors
}
