//! Endpoints and EndpointSlices.

use serde_json::Value;

use crate::{
    field::{FieldError, Path},
    names,
    resources::{
        meta,
        pod::{self, ip::lenient},
    },
    value::{default_to, each_mut, int_at, list_at, str_at},
};

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const HINTS_MAX: usize = 8;
const PORTS_MAX: usize = 20_000;

pub(in crate::resources) fn endpoints_defaults(endpoints: &mut Value) {
    each_mut(endpoints, "subsets", |subset| each_mut(subset, "ports", |port| default_to(port, "protocol", "TCP")));
}

pub(in crate::resources) fn endpoints(endpoints: &Value) -> Vec<FieldError> {
    subsets(endpoints, &[])
}

/// Addresses that were there may stay, however they are written.
pub(in crate::resources) fn endpoints_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let lists = list_at(old, "subsets").iter().flat_map(|subset| {
        ["addresses", "notReadyAddresses"].into_iter().flat_map(move |field| list_at(subset, field))
    });
    let known: Vec<&str> = lists.map(|address| str_at(address, "ip")).collect();
    subsets(new, &known)
}

fn subsets(endpoints: &Value, known: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, subset) in list_at(endpoints, "subsets").iter().enumerate() {
        let at = Path::new("subsets").index(i);
        let (ready, unready) = (list_at(subset, "addresses"), list_at(subset, "notReadyAddresses"));
        if ready.is_empty() && unready.is_empty() {
            errors.push(FieldError::required(&at, "must specify `addresses` or `notReadyAddresses`"));
        }
        for (field, list) in [("addresses", ready), ("notReadyAddresses", unready)] {
            for (j, address) in list.iter().enumerate() {
                errors.extend(endpoint_address(address, known, &at.child(field).index(j)));
            }
        }
        let ports = list_at(subset, "ports");
        for (j, port) in ports.iter().enumerate() {
            errors.extend(endpoint_port(port, &at.child("ports").index(j), ports.len() > 1));
        }
    }
    errors
}

/// `known`: addresses whose writing is not judged anew.
fn endpoint_address(address: &Value, known: &[&str], path: &Path) -> Vec<FieldError> {
    let (ip, at) = (str_at(address, "ip"), path.child("ip"));
    let mut errors: Vec<FieldError> =
        if known.contains(&ip) { Vec::new() } else { pod::ip(ip, &at).into_iter().collect() };
    let hostname = str_at(address, "hostname");
    if !hostname.is_empty() {
        errors.extend(FieldError::each_invalid(&path.child("hostname"), hostname, names::dns1123_label(hostname)));
    }
    if let Some(node) = address.get("nodeName").and_then(Value::as_str) {
        errors.extend(FieldError::each_invalid(&path.child("nodeName"), node, names::dns1123_subdomain(node)));
    }
    errors.extend(reachable(ip, &at));
    errors
}

/// `ValidateNonSpecialIP`, but loopback addresses are taken: a control plane on one machine stands behind one.
fn reachable(address: &str, path: &Path) -> Vec<FieldError> {
    match lenient(address) {
        None => vec![FieldError::invalid(path, address, "must be a valid IP address")],
        Some(ip) if ip.is_loopback() => Vec::new(),
        Some(_) => pod::special_ip(address, path),
    }
}

fn app_protocol(port: &Value, path: &Path) -> Vec<FieldError> {
    let Some(protocol) = port.get("appProtocol").and_then(Value::as_str) else { return Vec::new() };
    FieldError::each_invalid(&path.child("appProtocol"), protocol, names::qualified_name(protocol))
}

fn endpoint_port(port: &Value, path: &Path, name_required: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = str_at(port, "name");
    if name.is_empty() && name_required {
        errors.push(FieldError::required(&path.child("name"), ""));
    } else if !name.is_empty() {
        errors.extend(FieldError::each_invalid(&path.child("name"), name, names::dns1123_label(name)));
    }
    let number = int_at(port, "port").unwrap_or(0);
    errors.extend(names::port_number(number).into_iter().map(|p| FieldError::invalid(&path.child("port"), number, p)));
    errors.extend(meta::one_of(port, "protocol", path, PROTOCOLS));
    errors.extend(app_protocol(port, path));
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

/// What v1beta1 had labels for has fields of its own in v1, where nobody writes the labels.
pub(in crate::resources) fn drop_topology(slice: &mut Value) {
    each_mut(slice, "endpoints", |endpoint| {
        crate::value::remove(endpoint, "deprecatedTopology");
    });
}

pub(in crate::resources) fn slice(slice: &Value) -> Vec<FieldError> {
    let root = Path::default();
    let mut errors: Vec<FieldError> =
        meta::one_of(slice, "addressType", &root, &["FQDN", "IPv4", "IPv6"]).into_iter().collect();
    let at = root.child("endpoints");
    let all = list_at(slice, "endpoints");
    if all.len() > ENDPOINTS_MAX {
        errors.push(FieldError::too_many(&at, all.len(), ENDPOINTS_MAX));
    } else {
        let kind = str_at(slice, "addressType");
        errors.extend(all.iter().enumerate().flat_map(|(i, e)| slice_endpoint(e, kind, &at.index(i))));
    }
    errors.extend(slice_ports(list_at(slice, "ports"), &root.child("ports")));
    errors
}

fn slice_endpoint(endpoint: &Value, kind: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = path.child("addresses");
    let addresses = list_at(endpoint, "addresses");
    if addresses.is_empty() {
        errors.push(FieldError::required(&at, "must contain at least 1 address"));
    } else if addresses.len() > ADDRESSES_MAX {
        errors.push(FieldError::too_many(&at, addresses.len(), ADDRESSES_MAX));
    }
    for (i, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
        errors.extend(slice_address(address, kind, &at.index(i)));
    }
    if let Some(name) = endpoint.get("nodeName").and_then(Value::as_str) {
        errors.extend(FieldError::each_invalid(&path.child("nodeName"), name, names::dns1123_subdomain(name)));
    }
    if let Some(name) = endpoint.get("hostname").and_then(Value::as_str) {
        errors.extend(FieldError::each_invalid(&path.child("hostname"), name, names::dns1123_label(name)));
    }
    errors.extend(endpoint.get("hints").into_iter().flat_map(|h| hints(h, &path.child("hints"))));
    errors
}

/// Which zones and which nodes an endpoint is meant for: each once, and named as such are named.
fn hints(hints: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (field, rule) in [("forZones", names::label_value as fn(&str) -> _), ("forNodes", names::dns1123_subdomain)] {
        let (list, at) = (list_at(hints, field), path.child(field));
        if list.len() > HINTS_MAX {
            errors.push(FieldError::too_many(&at, list.len(), HINTS_MAX));
            return errors;
        }
        for (i, hint) in list.iter().enumerate() {
            let (at, name) = (at.index(i).child("name"), str_at(hint, "name"));
            if list[..i].iter().any(|earlier| str_at(earlier, "name") == name) {
                errors.push(FieldError::duplicate(&at, name));
            }
            errors.extend(FieldError::each_invalid(&at, name, rule(name)));
        }
    }
    errors
}

/// An address of the slice's family.
fn slice_address(address: &str, kind: &str, path: &Path) -> Vec<FieldError> {
    let family = match (kind, lenient(address)) {
        ("IPv4", ip) => ip.is_some_and(|ip| ip.is_ipv4()),
        ("IPv6", ip) => ip.is_some_and(|ip| ip.is_ipv6()),
        ("FQDN", _) => return full_name(address, path),
        _ => return Vec::new(),
    };
    let mut errors = Vec::new();
    if !family {
        errors.push(FieldError::invalid(path, address, format!("must be a valid {kind} address")));
    }
    errors.extend(reachable(address, path));
    errors
}

/// `IsFullyQualifiedDomainName`: two labels at least, and a dot at the end if one likes.
fn full_name(name: &str, path: &Path) -> Vec<FieldError> {
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let problems = names::dns1123_subdomain(name);
    if !problems.is_empty() {
        return vec![FieldError::invalid(path, name, problems.join(","))];
    }
    if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        return vec![FieldError::invalid(path, name, detail)];
    }
    let labels = name.split('.').map(|label| (label, names::dns1123_label(label))).filter(|(_, p)| !p.is_empty());
    labels.map(|(label, problems)| FieldError::invalid(path, label, problems.join(","))).collect()
}

fn slice_ports(ports: &[Value], path: &Path) -> Vec<FieldError> {
    if ports.len() > PORTS_MAX {
        return vec![FieldError::too_many(path, ports.len(), PORTS_MAX)];
    }
    let mut errors = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let name = str_at(port, "name");
        if !name.is_empty() {
            errors.extend(FieldError::each_invalid(&at.child("name"), name, names::dns1123_label(name)));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
        errors.extend(meta::one_of(port, "protocol", &at, PROTOCOLS));
        errors.extend(app_protocol(port, &at));
    }
    errors
}

pub(in crate::resources) fn slice_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = slice(new);
    errors.extend(meta::immutable(new, old, &["addressType"]));
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
    fn endpoints_fail_in_upstreams_words() {
        let bad = json!({"subsets": [{}, {
            "addresses": [{"ip": "x", "hostname": "a.b"}],
            "ports": [{"port": 1, "protocol": "TCP"}, {"name": "A", "port": 0, "protocol": "x", "appProtocol": "http"}],
        }]});
        assert_eq!(
            texts(&endpoints(&bad)),
            [
                "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
                "subsets[1].addresses[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                "subsets[1].addresses[0].hostname: Invalid value: \"a.b\": must not contain dots",
                "subsets[1].addresses[0].ip: Invalid value: \"x\": must be a valid IP address",
                "subsets[1].ports[0].name: Required value",
                "subsets[1].ports[1].name: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                "subsets[1].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "subsets[1].ports[1].protocol: Unsupported value: \"x\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ]
        );
    }

    #[test]
    fn nobody_stands_behind_special_addresses() {
        let of = |ip: &str| json!({"subsets": [{"addresses": [{"ip": ip}]}]});
        assert_eq!(texts(&endpoints(&of("127.0.0.1"))), [""; 0]);
        assert_eq!(
            texts(&endpoints(&of("169.254.169.254"))),
            [
                "subsets[0].addresses[0].ip: Invalid value: \"169.254.169.254\": may not be in the link-local range (169.254.0.0/16, fe80::/10)"
            ]
        );
        assert_eq!(
            texts(&endpoints(&of("0.0.0.0"))),
            ["subsets[0].addresses[0].ip: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)"]
        );
        assert_eq!(endpoints(&of("10.0.0.01")).len(), 1);
        assert!(endpoints_update(&of("10.0.0.01"), &of("10.0.0.01")).is_empty(), "what was there may stay");
        let slice_of = |ip: &str| json!({"addressType": "IPv6", "endpoints": [{"addresses": [ip]}]});
        assert_eq!(
            texts(&slice(&slice_of("ff02::1"))),
            [
                "endpoints[0].addresses[0]: Invalid value: \"ff02::1\": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
            ]
        );
    }

    #[test]
    fn slices_fail_in_upstreams_words() {
        let many: Vec<String> = (0..101).map(|i| format!("10.0.0.{i}")).collect();
        let bad = json!({"addressType": "IPv4", "endpoints": [
            {"addresses": []}, {"addresses": ["fd00::1"], "hostname": "a.b"}, {"addresses": many}],
            "ports": [{"name": "a", "protocol": "TCP"}, {"name": "a", "protocol": "TCP"}]});
        assert_eq!(
            texts(&slice(&bad)),
            [
                "endpoints[0].addresses: Required value: must contain at least 1 address",
                "endpoints[1].addresses[0]: Invalid value: \"fd00::1\": must be a valid IPv4 address",
                "endpoints[1].hostname: Invalid value: \"a.b\": must not contain dots",
                "endpoints[2].addresses: Too many: 101: must have at most 100 items",
                "ports[1].name: Duplicate value: \"a\"",
            ]
        );
        let named = json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.b."]}, {"addresses": ["a"]}]});
        assert_eq!(
            texts(&slice(&named)),
            [
                "endpoints[1].addresses[0]: Invalid value: \"a\": should be a domain with at least two segments separated by dots"
            ]
        );
    }
    #[test]
    fn hints_name_each_zone_and_node_once() {
        let slice_of = |hints: Value| {
            let endpoint = json!({"addresses": ["10.0.0.1"], "hints": hints});
            texts(&slice(&json!({"addressType": "IPv4", "endpoints": [endpoint]})))
        };
        assert_eq!(slice_of(json!({"forZones": [{"name": "a"}, {"name": ""}], "forNodes": [{"name": "n"}]})), [""; 0]);
        let found =
            slice_of(json!({"forZones": [{"name": "a"}, {"name": "a"}, {"name": "/"}], "forNodes": [{"name": "N"}]}));
        assert_eq!(found[0], "endpoints[0].hints.forZones[1].name: Duplicate value: \"a\"");
        assert!(
            found[1].starts_with("endpoints[0].hints.forZones[2].name: Invalid value: \"/\": a valid label must be")
        );
        assert!(
            found[2].starts_with("endpoints[0].hints.forNodes[0].name: Invalid value: \"N\": a lowercase RFC 1123")
        );
        let many = |count: usize| (0..count).map(|i| json!({"name": format!("n{i}")})).collect::<Vec<_>>();
        assert_eq!(
            slice_of(json!({"forZones": many(9), "forNodes": many(9)})),
            ["endpoints[0].hints.forZones: Too many: 9: must have at most 8 items"]
        );
    }

    #[test]
    fn topology_is_nothing_that_clients_write() {
        let mut slice = json!({"endpoints": [{"addresses": ["10.0.0.1"], "deprecatedTopology": {"a": "b"}}]});
        drop_topology(&mut slice);
        assert_eq!(slice, json!({"endpoints": [{"addresses": ["10.0.0.1"]}]}));
    }
}
