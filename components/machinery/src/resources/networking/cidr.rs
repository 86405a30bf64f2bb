//! IPAddresses and ServiceCIDRs (kubernetes `pkg/apis/networking/validation`), and what addresses and ranges look like.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
    field::{FieldError, Path},
    names,
    resources::{meta, pod::ip},
    value::{get, list_at, name, str_at},
};

const NO_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
const CIDRS_MAX: usize = 2;

/// Address and prefix length.
fn parse(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let plain = bits.bytes().all(|c| c.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let bits: u8 = if plain { bits.parse().ok()? } else { return None };
    (bits <= longest).then_some((address, bits))
}

/// As `parse`, with leading zeros tolerated, as upstream's older parser did.
pub(super) fn lenient(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let digits = !bits.is_empty() && bits.bytes().all(|c| c.is_ascii_digit());
    let bits: u8 = if digits { bits.parse().ok()? } else { return None };
    let address = ip::lenient(address)?;
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
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

/// `StrictIPCIDRValidation`: a range as older kinds have it; what could be read in more than one way is refused.
pub(in crate::resources) fn range_text(text: &str, path: &Path) -> Option<FieldError> {
    if lenient(text).is_none() {
        return Some(FieldError::invalid(path, text, NO_CIDR));
    }
    let detail = match parse(text) {
        None => "must not have leading 0s in IP or prefix length",
        Some((IpAddr::V6(v6), _)) if v6.to_ipv4_mapped().is_some() => "must not have an IPv4-mapped IPv6 address",
        Some((address, bits)) if masked(address, bits) != address => "must not have bits set beyond the prefix length",
        Some(_) => return None,
    };
    Some(FieldError::invalid(path, text, detail))
}

/// An address of an interface with its prefix length, in its one canonical form (`IsValidInterfaceAddress`).
pub(in crate::resources) fn interface_address(text: &str, path: &Path) -> Option<FieldError> {
    let no_address = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
    let Some((address, bits)) = lenient(text) else { return Some(FieldError::invalid(path, text, no_address)) };
    let form = match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() && bits > 96 => {
            format!("{}/{}", address.to_canonical(), bits - 96)
        }
        _ => format!("{address}/{bits}"),
    };
    (form != text).then(|| FieldError::invalid(path, text, format!("must be in canonical form ({form:?})")))
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
fn canonical(text: &str, path: &Path) -> Option<FieldError> {
    if let Some(error) = range_text(text, path) {
        return Some(error);
    }
    let (address, bits) = parse(text)?;
    let form = format!("{address}/{bits}");
    (form != text).then(|| FieldError::invalid(path, text, format!("must be in canonical form ({form:?})")))
}

/// An address in its one canonical form.
fn canonical_address(text: &str, path: &Path) -> Option<FieldError> {
    if let Some(error) = ip::ip(text, path) {
        return Some(error);
    }
    let form = text.parse::<IpAddr>().ok()?.to_string();
    (form != text).then(|| FieldError::invalid(path, text, format!("must be in canonical form ({form:?})")))
}

pub(super) fn address(object: &Value) -> Vec<FieldError> {
    let at = Path::new("metadata").child("name");
    let text = name(object);
    let mut errors: Vec<FieldError> =
        if text.is_empty() { Vec::new() } else { canonical_address(text, &at).into_iter().collect() };
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
    meta::immutable(new, old, &["spec.parentRef"])
}

pub(super) fn range(object: &Value) -> Vec<FieldError> {
    let path = Path::new("spec").child("cidrs");
    let cidrs = list_at(object, "spec.cidrs");
    if cidrs.is_empty() {
        return vec![FieldError::required(&path, "at least one CIDR required")];
    }
    if cidrs.len() > CIDRS_MAX {
        return vec![FieldError::invalid(&path, json!({"CIDRs": cidrs}), "may only hold up to 2 values")];
    }
    let texts: Vec<&str> = cidrs.iter().filter_map(Value::as_str).collect();
    let mut errors: Vec<FieldError> =
        texts.iter().enumerate().filter_map(|(i, text)| canonical(text, &path.index(i))).collect();
    if let [Some((first, _)), Some((second, _))] = texts.iter().map(|t| lenient(t)).collect::<Vec<_>>()[..]
        && first.is_ipv4() == second.is_ipv4()
    {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(FieldError::invalid(&path, cidrs.to_vec(), detail));
    }
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
        assert_eq!(
            texts(&range(&of(&["10.0.0.0/16", "010.1.0.0/16"]))),
            [
                "spec.cidrs[1]: Invalid value: \"010.1.0.0/16\": must not have leading 0s in IP or prefix length",
                "spec.cidrs: Invalid value: [\"10.0.0.0/16\",\"010.1.0.0/16\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
            ]
        );
        assert_eq!(
            texts(&range(&of(&["fd00:0::/64"]))),
            ["spec.cidrs[0]: Invalid value: \"fd00:0::/64\": must be in canonical form (\"fd00::/64\")"]
        );
        assert_eq!(
            texts(&range(&of(&["a", "b", "c"]))),
            ["spec.cidrs: Invalid value: {\"CIDRs\":[\"a\",\"b\",\"c\"]}: may only hold up to 2 values"]
        );
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
        for (name, detail) in
            [("10.0.0.01", "must not have leading 0s"), ("::ffff:10.0.0.1", "must not be an IPv4-mapped IPv6 address")]
        {
            assert_eq!(texts(&address(&of(name))), [format!("metadata.name: Invalid value: {name:?}: {detail}")]);
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let detail = |text: &str| range_text(text, &Path::new("x")).map(|e| e.detail);
        assert_eq!(detail("10.0.0.0/8"), None);
        for (text, wanted) in [
            ("10.0.0.0", NO_CIDR),
            ("10.0.0.0/33", NO_CIDR),
            ("10.0.0.0/+8", NO_CIDR),
            ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
            ("::ffff:10.0.0.0/104", "must not have an IPv4-mapped IPv6 address"),
            ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
            ("fd00::1/64", "must not have bits set beyond the prefix length"),
        ] {
            assert_eq!(detail(text).as_deref(), Some(wanted), "{text}");
        }
    }

    #[test]
    fn subsets_are_smaller() {
        let cidr = |text| parse(text).unwrap_or((IpAddr::from([0, 0, 0, 0]), 0));
        assert!(strictly_within(cidr("10.0.0.0/8"), cidr("10.1.0.0/16")));
        assert!(!strictly_within(cidr("10.0.0.0/8"), cidr("10.0.0.0/8")));
        assert!(!strictly_within(cidr("10.0.0.0/8"), cidr("11.0.0.0/16")));
    }
}
