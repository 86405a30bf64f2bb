//! Endpoints and EndpointSlices.

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::{meta, pod},
    value::{default_to, each_mut, int_at, list_at, str_at},
};

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const ENDPOINTS_MAX: usize = 1000;

pub(in crate::resources) fn endpoints_defaults(endpoints: &mut Value) {
    each_mut(endpoints, "subsets", |subset| each_mut(subset, "ports", |port| default_to(port, "protocol", "TCP")));
}

pub(in crate::resources) fn endpoints(endpoints: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, subset) in list_at(endpoints, "subsets").iter().enumerate() {
        let at = Path::new("subsets").index(i);
        let (ready, unready) = (list_at(subset, "addresses"), list_at(subset, "notReadyAddresses"));
        if ready.is_empty() && unready.is_empty() {
            errors.push(FieldError::required(&at, "must specify `addresses` or `notReadyAddresses`"));
        }
        for (field, list) in [("addresses", ready), ("notReadyAddresses", unready)] {
            for (j, address) in list.iter().enumerate() {
                errors.extend(pod::ip(str_at(address, "ip"), &at.child(field).index(j).child("ip")));
            }
        }
        let ports = list_at(subset, "ports");
        for (j, port) in ports.iter().enumerate() {
            errors.extend(endpoint_port(port, &at.child("ports").index(j), ports.len() > 1));
        }
    }
    errors
}

fn endpoint_port(port: &Value, path: &Path, name_required: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = str_at(port, "name");
    if name.is_empty() && name_required {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    let number = int_at(port, "port").unwrap_or(0);
    errors.extend(names::port_number(number).into_iter().map(|p| FieldError::invalid(&path.child("port"), number, p)));
    errors.extend(meta::one_of(port, "protocol", path, PROTOCOLS));
    errors
}

pub(in crate::resources) fn slice_defaults(slice: &mut Value) {
    each_mut(slice, "ports", |port| {
        if let Some(map) = port.as_object_mut() {
            map.entry("name").or_insert_with(|| "".into());
        }
        default_to(port, "protocol", "TCP");
    });
}

pub(in crate::resources) fn slice(slice: &Value) -> Vec<FieldError> {
    let root = Path::default();
    let mut errors: Vec<FieldError> =
        meta::one_of(slice, "addressType", &root, &["FQDN", "IPv4", "IPv6"]).into_iter().collect();
    let all = list_at(slice, "endpoints");
    if all.len() > ENDPOINTS_MAX {
        errors.push(FieldError::too_many(&root.child("endpoints"), all.len(), ENDPOINTS_MAX));
    }
    for (i, endpoint) in all.iter().enumerate() {
        let at = root.child("endpoints").index(i).child("addresses");
        let addresses = list_at(endpoint, "addresses");
        if addresses.is_empty() {
            errors.push(FieldError::required(&at, "must contain at least 1 address"));
        }
        if str_at(slice, "addressType") != "FQDN" {
            errors.extend(
                addresses.iter().enumerate().filter_map(|(j, a)| pod::ip(a.as_str().unwrap_or_default(), &at.index(j))),
            );
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    for (i, port) in list_at(slice, "ports").iter().enumerate() {
        let at = root.child("ports").index(i);
        let name = str_at(port, "name");
        if !name.is_empty() {
            errors.extend(
                names::dns1123_label(name).into_iter().map(|p| FieldError::invalid(&at.child("name"), name, p)),
            );
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
        errors.extend(meta::one_of(port, "protocol", &at, PROTOCOLS));
    }
    errors
}

pub(in crate::resources) fn slice_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = slice(new);
    errors.extend(meta::immutable(new, old, &["addressType"]));
    errors
}
