//! Addresses within the cluster and their families (`ValidateServiceClusterIPsRelatedFields`).

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    resources::{meta, pod},
    value::{get, list_at, str_at},
};

const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];
const FIXED: &str = "may not change once set";

pub(super) fn headless(spec: &Value) -> bool {
    matches!(list_at(spec, "clusterIPs"), [only] if only == "None")
}

pub(super) fn validate(spec: &Value, path: &Path) -> Vec<FieldError> {
    if str_at(spec, "type") == "ExternalName" {
        return Vec::new();
    }
    let mut errors: Vec<FieldError> = in_step(spec, path).into_iter().collect();
    let mut seen = BTreeSet::new();
    for (i, family) in list_at(spec, "ipFamilies").iter().filter_map(Value::as_str).enumerate() {
        let at = path.child("ipFamilies").index(i);
        if !FAMILIES.contains(&family) {
            errors.push(FieldError::not_supported(&at, family, FAMILIES));
        }
        if !seen.insert(family) {
            errors.push(FieldError::duplicate(&at, family));
        }
    }
    errors.extend(meta::optional_one_of(spec, "ipFamilyPolicy", path, POLICIES));
    errors.extend(addresses(spec, &path.child("clusterIPs")));
    errors
}

/// The list begins with the one address of old.
fn in_step(spec: &Value, path: &Path) -> Option<FieldError> {
    let at = path.child("clusterIPs");
    let (one, list) = (str_at(spec, "clusterIP"), list_at(spec, "clusterIPs"));
    match list.first() {
        None if one.is_empty() => None,
        None => Some(FieldError::required(&at, "")),
        Some(_) if one.is_empty() => {
            Some(FieldError::invalid(&at, list.to_vec(), "must be empty when `clusterIP` is not specified"))
        }
        Some(first) if first != one => {
            Some(FieldError::invalid(&at, list.to_vec(), "first value must match `clusterIP`"))
        }
        Some(_) => None,
    }
}

fn addresses(spec: &Value, path: &Path) -> Vec<FieldError> {
    let list = list_at(spec, "clusterIPs");
    let mut errors = Vec::new();
    let mut broken = false;
    for (i, address) in list.iter().filter_map(Value::as_str).enumerate() {
        let error = match address {
            "None" if i == 0 && list.len() == 1 => None,
            "None" if i == 0 => {
                Some(FieldError::invalid(path, list.to_vec(), "'None' must be the first and only value"))
            }
            address => pod::ip(address, &path.index(i)),
        };
        broken |= error.is_some();
        errors.extend(error);
    }
    if list.len() > 2 {
        errors.push(FieldError::invalid(path, list.to_vec(), "may only hold up to 2 values"));
    }
    if broken {
        return errors;
    }
    let ipv4: Vec<bool> = list.iter().filter_map(|a| a.as_str()?.parse::<IpAddr>().ok()).map(|a| a.is_ipv4()).collect();
    if list.len() > 1 && !(ipv4.len() == 2 && ipv4[0] != ipv4[1]) {
        errors.push(FieldError::invalid(path, list.to_vec(), "may specify no more than one IP for each IP family"));
    }
    for (i, (is_ipv4, family)) in ipv4.iter().zip(list_at(spec, "ipFamilies")).enumerate() {
        let wanted = if family == "IPv4" { "IPv4" } else { "IPv6" };
        if (wanted == "IPv4") != *is_ipv4 && FAMILIES.iter().any(|f| family == f) {
            let detail = format!("expected an {wanted} value as indicated by `ipFamilies[{i}]`");
            errors.push(FieldError::invalid(&path.index(i), list[i].clone(), detail));
        }
    }
    errors
}

/// Addresses and families stay; a second one may come, or go when the policy says so.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let spec = |service: &'_ Value| service.get("spec").cloned().unwrap_or_default();
    let (after, before) = (spec(new), spec(old));
    if [&after, &before].iter().any(|s| str_at(s, "type") == "ExternalName") {
        return Vec::new();
    }
    let heads = (headless(&after), headless(&before));
    let mut errors = Vec::new();
    if heads != (true, true) {
        errors.extend(kept(&after, &before, "clusterIPs", "clusterIP"));
    }
    if heads == (false, false) {
        errors.extend(kept(&after, &before, "ipFamilies", "ipFamily"));
    }
    errors
}

fn kept(after: &Value, before: &Value, field: &str, one: &str) -> Vec<FieldError> {
    let path = Path::new("spec");
    let (new, old) = (list_at(after, field), list_at(before, field));
    let changed = |i: usize| FieldError::invalid(&path.child(field).index(i), new.to_vec(), FIXED);
    if new.len() == old.len() {
        // upstream names the first place for families, whichever changed
        let place = |i: usize| if field == "ipFamilies" { 0 } else { i };
        return (0..new.len()).filter(|i| new[*i] != old[*i]).map(|i| changed(place(i))).collect();
    }
    let mut errors = Vec::new();
    match (new.first(), old.first()) {
        (None, Some(_)) => {
            let detail = format!("primary {one} can not be unset");
            errors.push(FieldError::invalid_no_list(&path.child(field).index(0), &detail));
        }
        (Some(first), Some(was)) if first != was => errors.push(changed(0)),
        _ => {}
    }
    let policy = get(after, "ipFamilyPolicy").cloned().unwrap_or_default();
    if new.len() == 1 && old.len() > 1 && policy != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), policy, detail));
    }
    errors
}
