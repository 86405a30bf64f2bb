//! NetworkPolicies (kubernetes `pkg/apis/networking`).

use serde_json::{Value, json};

use super::cidr::{lenient, range_text, strictly_within};
use crate::{
    field::{FieldError, Path},
    names,
    resources::meta,
    value::{default_to, each_mut, get, int_at, list_at, object_mut, str_at},
};

const DIRECTIONS: &[&str] = &["Ingress", "Egress"];

pub(super) fn defaults(policy: &mut Value) {
    let Some(spec) = object_mut(policy, "spec") else { return };
    object_mut(spec, "podSelector");
    for rules in ["ingress", "egress"] {
        each_mut(spec, rules, |rule| each_mut(rule, "ports", |port| default_to(port, "protocol", "TCP")));
    }
    if list_at(spec, "policyTypes").is_empty() {
        let egress = !list_at(spec, "egress").is_empty();
        spec["policyTypes"] = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    }
}

pub(super) fn validate(policy: &Value) -> Vec<FieldError> {
    spec(policy, &[])
}

/// Ranges that were there may stay, wherever they now stand and however they are written.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let rules = [("ingress", "from"), ("egress", "to")].into_iter();
    let peers = rules
        .flat_map(|(rules, peers)| list_at(old, &format!("spec.{rules}")).iter().flat_map(move |r| list_at(r, peers)));
    let blocks = peers.filter_map(|peer| peer.get("ipBlock"));
    let known: Vec<&str> = blocks
        .flat_map(|block| block.get("cidr").into_iter().chain(list_at(block, "except")))
        .filter_map(Value::as_str)
        .collect();
    spec(new, &known)
}

fn spec(policy: &Value, known: &[&str]) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut errors = meta::label_selector(get(policy, "spec.podSelector"), &path.child("podSelector"));
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in list_at(policy, &format!("spec.{rules}")).iter().enumerate() {
            let at = path.child(rules).index(i);
            for (j, item) in list_at(rule, "ports").iter().enumerate() {
                errors.extend(port(item, &at.child("ports").index(j)));
            }
            for (j, item) in list_at(rule, peers).iter().enumerate() {
                errors.extend(peer(item, known, &at.child(peers).index(j)));
            }
        }
    }
    let (types, at) = (list_at(policy, "spec.policyTypes"), path.child("policyTypes"));
    if types.len() > DIRECTIONS.len() {
        errors.push(FieldError::invalid(&at, types.to_vec(), "may not specify more than two policyTypes"));
        return errors;
    }
    for (i, kind) in types.iter().filter_map(Value::as_str).enumerate().filter(|(_, k)| !DIRECTIONS.contains(k)) {
        errors.push(FieldError::not_supported(&at.index(i), kind, DIRECTIONS));
    }
    errors
}

fn port(port: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> =
        meta::optional_one_of(port, "protocol", path, &["TCP", "UDP", "SCTP"]).into_iter().collect();
    let end = int_at(port, "endPort");
    let mut wrong_end =
        |detail: &str| errors.extend(end.map(|e| FieldError::invalid(&path.child("endPort"), e, detail)));
    match port.get("port") {
        None => wrong_end("may not be specified when `port` is not specified"),
        Some(Value::String(name)) => {
            wrong_end("may not be specified when `port` is non-numeric");
            errors.extend(
                names::port_name(name).into_iter().map(|p| FieldError::invalid(&path.child("port"), name.as_str(), p)),
            );
        }
        Some(number) => {
            let number = number.as_i64().unwrap_or(0);
            errors.extend(
                names::port_number(number).into_iter().map(|p| FieldError::invalid(&path.child("port"), number, p)),
            );
            if let Some(end) = end {
                let at = path.child("endPort");
                if end < number {
                    errors.push(FieldError::invalid(&at, end, "must be greater than or equal to `port`"));
                }
                errors.extend(names::port_number(end).into_iter().map(|p| FieldError::invalid(&at, end, p)));
            }
        }
    }
    errors
}

fn peer(peer: &Value, known: &[&str], path: &Path) -> Vec<FieldError> {
    let mut errors = meta::label_selector(peer.get("podSelector"), &path.child("podSelector"));
    errors.extend(meta::label_selector(peer.get("namespaceSelector"), &path.child("namespaceSelector")));
    let selectors = peer.get("podSelector").is_some() || peer.get("namespaceSelector").is_some();
    match peer.get("ipBlock") {
        Some(block) => {
            errors.extend(ip_block(block, known, &path.child("ipBlock")));
            if selectors {
                errors.push(FieldError::forbidden(path, "may not specify both ipBlock and another peer"));
            }
        }
        None if !selectors => errors.push(FieldError::required(path, "must specify a peer")),
        None => {}
    }
    errors
}

/// `known`: ranges that are not judged anew.
fn ip_block(block: &Value, known: &[&str], path: &Path) -> Vec<FieldError> {
    let (cidr, at) = (str_at(block, "cidr"), path.child("cidr"));
    if cidr.is_empty() {
        return vec![FieldError::required(&at, "")];
    }
    let judge = |text: &str, at: &Path| if known.contains(&text) { None } else { range_text(text, at) };
    let mut errors: Vec<FieldError> = judge(cidr, &at).into_iter().collect();
    let Some(outer) = lenient(cidr) else { return errors };
    for (i, text) in list_at(block, "except").iter().filter_map(Value::as_str).enumerate() {
        let at = path.child("except").index(i);
        errors.extend(judge(text, &at));
        if lenient(text).is_some_and(|inner| !strictly_within(outer, inner)) {
            errors.push(FieldError::invalid(&at, text, "must be a strict subset of `cidr`"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(FieldError::to_string).collect()
    }

    fn egress(rule: Value) -> Vec<String> {
        let mut policy = json!({"spec": {"egress": [rule]}});
        defaults(&mut policy);
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        texts(&validate(&policy))
    }

    #[test]
    fn peers() {
        assert!(egress(json!({"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]})).is_empty());
        assert_eq!(
            egress(
                json!({"to": [{}, {"ipBlock": {"cidr": "x"}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}},
                {"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}, {"ipBlock": {}}]})
            ),
            [
                "spec.egress[0].to[0]: Required value: must specify a peer",
                "spec.egress[0].to[1].ipBlock.cidr: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                "spec.egress[0].to[2].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                "spec.egress[0].to[3]: Forbidden: may not specify both ipBlock and another peer",
                "spec.egress[0].to[4].ipBlock.cidr: Required value",
            ]
        );
    }

    #[test]
    fn old_ranges_may_stay() {
        let of = |cidr: &str| json!({"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": cidr}}]}]}});
        let old = of("10.0.0.1/8");
        assert_eq!(
            texts(&validate(&old)),
            [
                "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length"
            ]
        );
        assert!(validate_update(&old, &old).is_empty());
        assert_eq!(validate_update(&of("10.0.0.2/8"), &old).len(), 1);
    }

    #[test]
    fn ports() {
        assert!(egress(json!({"ports": [{"port": 53, "endPort": 60}, {"port": "dns"}, {}]})).is_empty());
        assert_eq!(
            egress(
                json!({"ports": [{"port": 53, "endPort": 5}, {"port": "dns", "endPort": 1}, {"endPort": 1}, {"port": 0}]})
            ),
            [
                "spec.egress[0].ports[0].endPort: Invalid value: 5: must be greater than or equal to `port`",
                "spec.egress[0].ports[1].endPort: Invalid value: 1: may not be specified when `port` is non-numeric",
                "spec.egress[0].ports[2].endPort: Invalid value: 1: may not be specified when `port` is not specified",
                "spec.egress[0].ports[3].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ]
        );
        let types = json!({"spec": {"policyTypes": ["Ingress", "Egress", "Ingress"]}});
        assert!(texts(&validate(&types))[0].ends_with("may not specify more than two policyTypes"));
    }
}
