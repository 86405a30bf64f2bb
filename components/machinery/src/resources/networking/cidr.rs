//! IPAddresses and ServiceCIDRs (kubernetes `pkg/apis/networking/validation`), and what addresses and ranges look like.

use std::net::IpAddr;

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{get, list_at, name, str_at},
};

pub(super) const NO_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
const CIDRS_MAX: usize = 2;

/// Address and prefix length.
pub(super) fn parse(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let bits: u8 = bits.parse().ok()?;
    (bits <= longest).then_some((address, bits))
}

/// The network an address lies in.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::from((u32::from(v4) & mask).to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::from((u128::from(v6) & mask).to_be_bytes())
        }
    }
}

/// Whether `inner` lies within `outer` and is smaller.
pub(super) fn strictly_within(outer: (IpAddr, u8), inner: (IpAddr, u8)) -> bool {
    outer.0.is_ipv4() == inner.0.is_ipv4() && masked(outer.0, outer.1) == masked(inner.0, outer.1) && outer.1 < inner.1
}

/// A range as older kinds have it, whose address may lie within the network.
pub(in crate::resources) fn range_text(text: &str, path: &Path) -> Option<FieldError> {
    parse(text).is_none().then(|| FieldError::invalid(path, text, NO_CIDR))
}

/// The warning of a range whose address has bits beyond the prefix (`GetWarningsForCIDR`).
pub(in crate::resources) fn odd_range(text: &str, path: &Path) -> Option<String> {
    let (address, bits) = parse(text)?;
    let network = masked(address, bits);
    let whole = if address.is_ipv4() { 32 } else { 128 };
    (network != address).then(|| {
        format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be \"{network}/{bits}\" or \"{address}/{whole}\"?)"
        )
    })
}

/// A range in its one canonical form, as new kinds ask for.
fn canonical(text: &str, path: &Path) -> Vec<FieldError> {
    let Some((address, bits)) = parse(text) else { return vec![FieldError::invalid(path, text, NO_CIDR)] };
    let network = masked(address, bits);
    if network != address {
        let detail = "must not have bits set beyond the prefix length".to_owned();
        return vec![FieldError::invalid(path, text, detail)];
    }
    let form = format!("{network}/{bits}");
    if form == text {
        Vec::new()
    } else {
        vec![FieldError::invalid(path, text, format!("must be in canonical form ({form:?})"))]
    }
}

pub(super) fn address(object: &Value) -> Vec<FieldError> {
    let at = Path::new("metadata").child("name");
    let text = name(object);
    let mut errors = Vec::new();
    match text.parse::<IpAddr>() {
        _ if text.is_empty() => {}
        Err(_) => {
            errors.push(FieldError::invalid(&at, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
        }
        Ok(ip) if ip.to_string() != text => {
            errors.push(FieldError::invalid(&at, text, format!("must be in canonical form ({:?})", ip.to_string())));
        }
        Ok(_) => {}
    }
    let at = Path::new("spec").child("parentRef");
    match get(object, "spec.parentRef") {
        None => errors.push(FieldError::required(&at, "")),
        Some(parent) => errors.extend(parent_ref(parent, &at)),
    }
    errors
}

fn parent_ref(parent: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let group = str_at(parent, "group");
    if !group.is_empty() {
        errors.extend(
            names::dns1123_subdomain(group).into_iter().map(|p| FieldError::invalid(&path.child("group"), group, p)),
        );
    }
    for (field, required) in [("resource", true), ("name", true), ("namespace", false)] {
        let value = str_at(parent, field);
        if value.is_empty() && required {
            errors.push(FieldError::required(&path.child(field), ""));
        }
        errors
            .extend(names::path_segment(value).into_iter().map(|p| FieldError::invalid(&path.child(field), value, p)));
    }
    errors
}

pub(super) fn address_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = address(new);
    errors.extend(meta::immutable(new, old, &["spec.parentRef"]));
    errors
}

pub(super) fn range(object: &Value) -> Vec<FieldError> {
    let path = Path::new("spec").child("cidrs");
    let cidrs = list_at(object, "spec.cidrs");
    if cidrs.is_empty() {
        return vec![FieldError::required(&path, "at least one CIDR required")];
    }
    if cidrs.len() > CIDRS_MAX {
        return vec![FieldError::invalid(&path, cidrs.to_vec(), "may only hold up to 2 values")];
    }
    let texts: Vec<&str> = cidrs.iter().filter_map(Value::as_str).collect();
    let mut errors = Vec::new();
    if let [Some((first, _)), Some((second, _))] = texts.iter().map(|t| parse(t)).collect::<Vec<_>>()[..]
        && first.is_ipv4() == second.is_ipv4()
    {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(FieldError::invalid(&path, cidrs.to_vec(), detail));
    }
    errors.extend(texts.iter().enumerate().flat_map(|(i, text)| canonical(text, &path.index(i))));
    errors
}

/// A single range may become two, of both families; nothing else changes.
pub(super) fn range_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("spec").child("cidrs");
    let (after, before) = (list_at(new, "spec.cidrs"), list_at(old, "spec.cidrs"));
    if after.len() < before.len() || (after.len() > before.len() && before.len() != 1) {
        return vec![FieldError::invalid(&path, after.to_vec(), meta::IMMUTABLE)];
    }
    let mut errors: Vec<FieldError> = before
        .iter()
        .zip(after)
        .enumerate()
        .filter(|(_, (old, new))| old != new)
        .map(|(i, (_, new))| FieldError::invalid(&path.index(i), new.clone(), meta::IMMUTABLE))
        .collect();
    if after.len() > before.len() {
        errors.extend(range(new));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(FieldError::to_string).collect()
    }

    #[test]
    fn ranges() {
        let of = |cidrs: &[&str]| json!({"spec": {"cidrs": cidrs}});
        assert!(range(&of(&["10.0.0.0/16", "2001:db8::/64"])).is_empty());
        assert_eq!(texts(&range(&of(&[]))), ["spec.cidrs: Required value: at least one CIDR required"]);
        assert_eq!(
            texts(&range(&of(&["10.0.0.1/16"]))),
            ["spec.cidrs[0]: Invalid value: \"10.0.0.1/16\": must not have bits set beyond the prefix length"]
        );
        assert_eq!(range(&of(&["10.0.0.0/16", "10.1.0.0/16"])).len(), 1);
        assert!(range_update(&of(&["10.0.0.0/16", "fd00::/64"]), &of(&["10.0.0.0/16"])).is_empty());
        assert_eq!(
            texts(&range_update(&of(&["10.1.0.0/16"]), &of(&["10.0.0.0/16"]))),
            ["spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable"]
        );
        assert_eq!(range_update(&of(&["10.0.0.0/16"]), &of(&["10.0.0.0/16", "fd00::/64"])).len(), 1);
    }

    #[test]
    fn addresses() {
        let of = |name: &str| json!({"metadata": {"name": name}, "spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}});
        assert!(address(&of("10.0.0.1")).is_empty() && address(&of("fd00::1")).is_empty());
        assert_eq!(address(&of("10.0.0")).len(), 1);
        assert_eq!(
            texts(&address(&of("fd00:0::1"))),
            ["metadata.name: Invalid value: \"fd00:0::1\": must be in canonical form (\"fd00::1\")"]
        );
        assert_eq!(address(&json!({"metadata": {"name": "10.0.0.1"}})).len(), 1);
    }

    #[test]
    fn subsets_are_smaller() {
        let cidr = |text| parse(text).unwrap_or((IpAddr::from([0, 0, 0, 0]), 0));
        assert!(strictly_within(cidr("10.0.0.0/8"), cidr("10.1.0.0/16")));
        assert!(!strictly_within(cidr("10.0.0.0/8"), cidr("10.0.0.0/8")));
        assert!(!strictly_within(cidr("10.0.0.0/8"), cidr("11.0.0.0/16")));
    }
}
