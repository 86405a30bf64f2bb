//! Addresses and node ports of Services.
//!
//! Each one taken is a key of its own (for an address, that of its IPAddress object), put and deleted in the transaction that
//! writes the Service: so two Services can never hold the same, whoever writes, and nothing has to be rebuilt at start.

use std::collections::BTreeSet;

use bytes::Bytes;
use machinery::{
    ApiError, FieldError, Path,
    value::{int_at, list_at, map_at, remove, str_at},
};
use rand::Rng;
use serde_json::{Value, json};
use store::{Expect, Op};

use crate::{
    cluster_ips::{self, ADDRESSES},
    core::Core,
    handlers::Target,
    registry,
};

const PORTS: &str = "/claims/nodeport/";
/// Random tries before free ones are searched in order.
const TRIES: usize = 64;

pub fn allocates_for(target: &Target) -> bool {
    target.resource.group.is_empty() && target.resource.plural == "services"
}

fn needs_address(service: &Value) -> bool {
    matches!(str_at(service, "spec.type"), "" | "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn needs_ports(service: &Value) -> bool {
    match str_at(service, "spec.type") {
        "NodePort" => true,
        "LoadBalancer" => service["spec"]["allocateLoadBalancerNodePorts"].as_bool() != Some(false),
        _ => false,
    }
}

fn needs_health_port(service: &Value) -> bool {
    str_at(service, "spec.type") == "LoadBalancer" && str_at(service, "spec.externalTrafficPolicy") == "Local"
}

/// The keys a Service holds.
fn held(service: &Value) -> BTreeSet<String> {
    let mut keys: BTreeSet<String> = cluster_ips::held(service).map(cluster_ips::key).collect();
    for port in list_at(service, "spec.ports") {
        if let Some(number) = int_at(port, "nodePort").filter(|n| *n > 0) {
            keys.insert(port_key(number, protocol(port)));
        }
    }
    if let Some(number) = int_at(service, "spec.healthCheckNodePort").filter(|n| *n > 0) {
        keys.insert(port_key(number, "TCP"));
    }
    keys
}

fn protocol(port: &Value) -> &str {
    match str_at(port, "protocol") {
        "" => "TCP",
        protocol => protocol,
    }
}

fn port_key(port: i64, protocol: &str) -> String {
    format!("{PORTS}{port}/{protocol}")
}

/// Before an update is validated: what was allocated stays when the client left it out, and what the new type cannot have
/// goes when the client only left it in (upstream: `patchAllocatedValues`, `dropTypeDependentFields`).
pub fn carry_over(target: &Target, new: &mut Value, old: &Value) {
    if !allocates_for(target) || !new["spec"].is_object() {
        return;
    }
    let same_address = str_at(new, "spec.clusterIP") == str_at(old, "spec.clusterIP");
    if needs_address(new) && needs_address(old) {
        if str_at(new, "spec.clusterIP").is_empty() && list_at(new, "spec.clusterIPs").is_empty() {
            new["spec"]["clusterIP"] = old["spec"]["clusterIP"].clone();
            new["spec"]["clusterIPs"] = old["spec"]["clusterIPs"].clone();
        }
        for family in ["ipFamilies", "ipFamilyPolicy"] {
            if new["spec"].get(family).is_none() && !old["spec"][family].is_null() {
                new["spec"][family] = old["spec"][family].clone();
            }
        }
    } else if needs_address(old) {
        // each for itself: who takes away the address alone has not said anything of the families
        let dropped: &[&str] = if same_address { &["clusterIP", "clusterIPs"] } else { &[] };
        let carried = ["ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"];
        let carried = carried.into_iter().filter(|key| new["spec"].get(*key) == old["spec"].get(*key));
        for key in dropped.iter().copied().chain(carried.collect::<Vec<_>>()) {
            remove(&mut new["spec"], key);
        }
    }
    let (wants, had) = (needs_ports(new), needs_ports(old));
    let old_ports = list_at(old, "spec.ports").to_vec();
    let mut used: BTreeSet<i64> = list_at(new, "spec.ports").iter().filter_map(|p| int_at(p, "nodePort")).collect();
    for port in new["spec"]["ports"].as_array_mut().into_iter().flatten() {
        let before = old_ports
            .iter()
            .find(|o| o["port"] == port["port"] && protocol(o) == protocol(port))
            .and_then(|o| int_at(o, "nodePort"));
        let given = int_at(port, "nodePort").unwrap_or(0);
        if wants && had && given == 0 {
            if let Some(number) = before.filter(|n| used.insert(*n)) {
                port["nodePort"] = number.into();
            }
        } else if !wants && had && old_ports.iter().any(|o| int_at(o, "nodePort") == Some(given)) {
            remove(port, "nodePort");
        }
    }
    if !needs_health_port(new) && needs_health_port(old) {
        remove(&mut new["spec"], "healthCheckNodePort");
    }
}

/// Fills in what is to be allocated; the operations that take it, and give back what is no longer held.
pub async fn claim(
    core: &Core,
    target: &Target,
    service: &mut Value,
    old: Option<&Value>,
) -> Result<Vec<Op>, ApiError> {
    if !allocates_for(target) {
        return Ok(Vec::new());
    }
    let before = old.map(held).unwrap_or_default();
    let problems = families(service);
    if !problems.is_empty() {
        return Err(ApiError::invalid("", "Service", &target.name, &problems));
    }
    allocate_address(core, service).await?;
    allocate_ports(core, service).await?;
    let after = held(service);
    let mut ops = Vec::new();
    let owner = Bytes::from(format!("{}/{}", target.namespace, target.name));
    for key in after.difference(&before) {
        check_range(core, target, service, key).await?;
        if core.store.get(key).await.map_err(registry::store_error)?.is_some() {
            return Err(taken(target, service, key));
        }
        let value = match key.strip_prefix(ADDRESSES) {
            Some(address) => cluster_ips::object(address, &target.namespace, &target.name),
            None => owner.clone(),
        };
        ops.push(Op::Put { key: key.clone(), value, expect: Expect::Absent });
    }
    give_back(core, before.difference(&after), &mut ops).await?;
    Ok(ops)
}

/// What a cluster of IPv4 alone cannot give (upstream's `initIPFamilyFields`). A headless Service that selects nobody may say
/// what it wants: its addresses come from elsewhere.
fn families(service: &Value) -> Vec<FieldError> {
    let headless = str_at(service, "spec.clusterIP") == "None";
    let selects = map_at(service, "spec.selector").is_some_and(|s| !s.is_empty());
    if !needs_address(service) || (headless && !selects) {
        return Vec::new();
    }
    let spec = Path::new("spec");
    let policy = str_at(service, "spec.ipFamilyPolicy");
    let families = list_at(service, "spec.ipFamilies");
    let mut problems = Vec::new();
    for (i, family) in families.iter().enumerate().filter(|(_, family)| *family != "IPv4") {
        let at = spec.child("ipFamilies").index(i);
        problems.push(FieldError::invalid(&at, family.clone(), "not configured on this cluster"));
    }
    let at = spec.child("ipFamilyPolicy");
    let dual = ["PreferDualStack", "RequireDualStack"].contains(&policy);
    for (field, what) in [("spec.clusterIPs", "cluster IPs"), ("spec.ipFamilies", "IP families")] {
        if list_at(service, field).len() > 1 && !dual {
            let detail = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            problems.push(FieldError::invalid(&at, policy, detail));
        }
    }
    if policy == "RequireDualStack" {
        let detail = "this cluster is not configured for dual-stack services";
        problems.push(FieldError::invalid(&at, policy, detail));
    }
    problems
}

/// The operations that give everything back.
pub async fn release(core: &Core, target: &Target, service: &Value) -> Result<Vec<Op>, ApiError> {
    let mut ops = Vec::new();
    if allocates_for(target) {
        give_back(core, held(service).iter(), &mut ops).await?;
    }
    Ok(ops)
}

async fn give_back(core: &Core, keys: impl Iterator<Item = &String>, ops: &mut Vec<Op>) -> Result<(), ApiError> {
    for key in keys {
        if let Some(kv) = core.store.get(key).await.map_err(registry::store_error)? {
            ops.push(Op::Delete { key: key.clone(), expect: Expect::Revision(kv.mod_revision) });
        }
    }
    Ok(())
}

fn invalid(target: &Target, path: &Path, value: Value, why: String) -> ApiError {
    ApiError::invalid("", "Service", &target.name, &[FieldError::invalid(path, value, why)])
}

/// The field a port of nodes was asked for in.
fn port_path(service: &Value, number: i64) -> Path {
    let spec = Path::new("spec");
    match list_at(service, "spec.ports").iter().position(|port| int_at(port, "nodePort") == Some(number)) {
        Some(i) => spec.child("ports").index(i).child("nodePort"),
        None => spec.child("healthCheckNodePort"),
    }
}

fn taken(target: &Target, service: &Value, key: &str) -> ApiError {
    let spec = Path::new("spec");
    match key.strip_prefix(ADDRESSES) {
        Some(address) => invalid(
            target,
            &spec.child("clusterIPs"),
            json!([address]),
            format!("failed to allocate IP {address}: provided IP is already allocated"),
        ),
        None => {
            let port: i64 = key.strip_prefix(PORTS).and_then(|p| p.split('/').next()?.parse().ok()).unwrap_or(0);
            invalid(target, &port_path(service, port), port.into(), "provided port is already allocated".into())
        }
    }
}

async fn check_range(core: &Core, target: &Target, service: &Value, key: &str) -> Result<(), ApiError> {
    let spec = Path::new("spec");
    if let Some(address) = key.strip_prefix(ADDRESSES) {
        if let Some(why) = cluster_ips::refused(core, address).await? {
            let why = format!("failed to allocate IP {address}: {why}");
            return Err(invalid(target, &spec.child("clusterIPs"), json!([address]), why));
        }
    } else if let Some(port) = key.strip_prefix(PORTS).and_then(|p| p.split('/').next()?.parse::<i64>().ok()) {
        let range = core.config.service_node_port_range;
        if !range.contains(port) {
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                range.first, range.last
            );
            return Err(invalid(target, &port_path(service, port), port.into(), why));
        }
    }
    Ok(())
}

async fn allocate_address(core: &Core, service: &mut Value) -> Result<(), ApiError> {
    if !needs_address(service) {
        return Ok(());
    }
    let given = match str_at(service, "spec.clusterIP") {
        "" => list_at(service, "spec.clusterIPs").first().and_then(Value::as_str).unwrap_or_default().to_owned(),
        address => address.to_owned(),
    };
    let address = if given.is_empty() { cluster_ips::free(core).await?.to_string() } else { given };
    let spec = &mut service["spec"];
    spec["clusterIPs"] = json!([address]);
    spec["clusterIP"] = address.into();
    machinery::value::default_to(spec, "ipFamilyPolicy", "SingleStack");
    if list_at(spec, "ipFamilies").is_empty() {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
    Ok(())
}

async fn is_free(core: &Core, key: &str) -> Result<bool, ApiError> {
    Ok(core.store.get(key).await.map_err(registry::store_error)?.is_none())
}

async fn allocate_ports(core: &Core, service: &mut Value) -> Result<(), ApiError> {
    if needs_ports(service) {
        let mut chosen: BTreeSet<i64> =
            list_at(service, "spec.ports").iter().filter_map(|p| int_at(p, "nodePort")).collect();
        let mut ports = list_at(service, "spec.ports").to_vec();
        for port in ports.iter_mut().filter(|p| int_at(p, "nodePort").unwrap_or(0) == 0) {
            let number = free_port(core, protocol(port), &chosen).await?;
            chosen.insert(number);
            port["nodePort"] = number.into();
        }
        service["spec"]["ports"] = ports.into();
    }
    if needs_health_port(service) && int_at(service, "spec.healthCheckNodePort").unwrap_or(0) == 0 {
        let chosen = list_at(service, "spec.ports").iter().filter_map(|p| int_at(p, "nodePort")).collect();
        service["spec"]["healthCheckNodePort"] = free_port(core, "TCP", &chosen).await?.into();
    }
    Ok(())
}

async fn free_port(core: &Core, protocol: &str, chosen: &BTreeSet<i64>) -> Result<i64, ApiError> {
    let range = core.config.service_node_port_range;
    let all = i64::from(range.first)..=i64::from(range.last);
    let random: Vec<i64> = (0..TRIES).map(|_| rand::rng().random_range(all.clone())).collect();
    for number in random.into_iter().chain(all) {
        if !chosen.contains(&number) && is_free(core, &port_key(number, protocol)).await? {
            return Ok(number);
        }
    }
    Err(ApiError::internal("failed to allocate a nodePort: range is full"))
}
