//! What the status of a ResourceClaim may become (kubernetes `validateResourceClaimStatusUpdate`, registry `resourceclaim`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    claim::{CONFIGS_MAX, known_requests, reference, references},
    device::{configuration, raw_object, tolerations},
    names::{each, label, pool, set, text, uid},
    offer::bindings,
};
use crate::{
    field::{FieldError, Path},
    resources::{conditions, meta, networking, pod, storage::driver_name},
    value::{get, list_at, str_at},
};

const RESERVED_MAX: usize = 256;
const RESULTS_MAX: usize = 32;
const SOURCES: &[&str] = &["FromClaim", "FromClass"];
const CONDITIONS_MAX: usize = 8;
const DATA_MAX: usize = 10 * 1024;
const INTERFACE_MAX: usize = 256;
const HARDWARE_MAX: usize = 128;
const IPS_MAX: usize = 16;

/// Driver, pool and device, and the share of it if there are several.
fn device_id(device: &Value) -> String {
    let parts = ["driver", "pool", "device", "shareID"].map(|field| str_at(device, field));
    let parts = if parts[3].is_empty() { &parts[..3] } else { &parts };
    parts.join("/")
}

fn allocated(claim: &Value) -> BTreeSet<String> {
    list_at(claim, "status.allocation.devices.results").iter().map(device_id).collect()
}

/// Devices that a claim gives back take what was told of them with them.
pub(super) fn prepare(new: &mut Value, old: &Value) {
    let plain = |claim: &Value| -> BTreeSet<[String; 3]> {
        list_at(claim, "status.allocation.devices.results").iter().map(unshared).collect()
    };
    let kept = plain(new);
    let gone: BTreeSet<_> = plain(old).into_iter().filter(|id| !kept.contains(id)).collect();
    let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) else { return };
    let Some(devices) = status.get_mut("devices").and_then(Value::as_array_mut) else { return };
    devices.retain(|device| !gone.contains(&unshared(device)));
    if devices.is_empty() {
        status.remove("devices");
    }
}

fn unshared(device: &Value) -> [String; 3] {
    ["driver", "pool", "device"].map(|field| str_at(device, field).to_owned())
}

pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("status");
    let (reserved, at) = (list_at(new, "status.reservedFor"), path.child("reservedFor"));
    let mut errors = set(reserved, RESERVED_MAX, &at, consumer, |it| str_at(it, "uid"));
    errors.extend(devices(new, &path.child("devices")));
    let given = |claim: &'_ Value| get(claim, "status.allocation").filter(|a| !a.is_null()).cloned();
    let (after, before) = (given(new), given(old));
    if !reserved.is_empty() {
        let newly = reserved.iter().any(|r| !list_at(old, "status.reservedFor").contains(r));
        if after.is_none() {
            errors.push(FieldError::forbidden(&at, "may not be specified when `allocated` is not set"));
        } else if newly && get(new, "metadata.deletionTimestamp").is_some() {
            let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.push(FieldError::forbidden(&at, detail));
        }
    }
    let at = path.child("allocation");
    match (after, before) {
        (Some(after), Some(before)) if after != before => errors.push(FieldError::invalid(&at, after, meta::IMMUTABLE)),
        (Some(after), None) => {
            let known = known_requests(get(new, "spec.devices").unwrap_or(&Value::Null));
            errors.extend(allocation(&after, &known, &at));
        }
        _ => {}
    }
    errors
}

fn consumer(consumer: &Value, path: &Path) -> Vec<FieldError> {
    let missing = ["resource", "name", "uid"].into_iter().filter(|field| str_at(consumer, field).is_empty());
    missing.map(|field| FieldError::required(&path.child(field), "")).collect()
}

fn allocation(allocation: &Value, known: &[String], path: &Path) -> Vec<FieldError> {
    let devices = path.child("devices");
    let results = list_at(allocation, "devices.results");
    let mut errors = each(results, RESULTS_MAX, &devices.child("results"), |it, at| result(it, known, at));
    let configs = list_at(allocation, "devices.config");
    errors.extend(each(configs, 2 * CONFIGS_MAX, &devices.child("config"), |it, at| {
        let mut errors: Vec<FieldError> = meta::one_of(it, "source", at, SOURCES).into_iter().collect();
        errors.extend(references(it, known, at));
        errors.extend(configuration(it, false, at));
        errors
    }));
    if let Some(selector) = allocation.get("nodeSelector").filter(|s| !s.is_null()) {
        errors.extend(pod::node_selector(selector, &path.child("nodeSelector")));
    }
    errors
}

fn result(result: &Value, known: &[String], path: &Path) -> Vec<FieldError> {
    let [request, driver, pool_name, device] =
        ["request", "driver", "pool", "device"].map(|field| str_at(result, field));
    let mut errors = reference(request, known, &path.child("request"));
    errors.extend(driver_name(driver, &path.child("driver")));
    errors.extend(pool(pool_name, &path.child("pool")));
    errors.extend(label(device, &path.child("device")));
    errors.extend(bindings(result, path));
    errors.extend(tolerations(result, path));
    errors.extend(share(result, path));
    errors
}

fn share(device: &Value, path: &Path) -> Option<FieldError> {
    uid(device.get("shareID")?.as_str()?, &path.child("shareID"))
}

/// What drivers tell of the devices of a claim, each once.
fn devices(claim: &Value, path: &Path) -> Vec<FieldError> {
    let known = allocated(claim);
    let list = list_at(claim, "status.devices");
    let mut errors = each(list, usize::MAX, path, |it, at| device(it, &known, at));
    let mut seen = BTreeSet::new();
    for (i, it) in list.iter().enumerate() {
        let id = device_id(it);
        if seen.contains(&id) {
            errors.push(FieldError::duplicate_shown(&path.index(i), &id));
        }
        seen.insert(id);
    }
    errors
}

fn device(device: &Value, known: &BTreeSet<String>, path: &Path) -> Vec<FieldError> {
    let mut errors = driver_name(str_at(device, "driver"), &path.child("driver"));
    errors.extend(pool(str_at(device, "pool"), &path.child("pool")));
    errors.extend(label(str_at(device, "device"), &path.child("device")));
    errors.extend(share(device, path));
    let id = device_id(device);
    if !known.contains(&id) {
        errors.push(FieldError::invalid_omitted(path, format!("{id}: must be an allocated device in the claim")));
    }
    let (list, at) = (list_at(device, "conditions"), path.child("conditions"));
    if list.len() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(&at, list.len(), CONDITIONS_MAX));
    }
    errors.extend(conditions::validate(list, &at));
    if let Some(data) = device.get("data") {
        errors.extend(raw_object(Some(data), DATA_MAX, &path.child("data")));
    }
    if let Some(network) = device.get("networkData").filter(|n| !n.is_null()) {
        errors.extend(network_data(network, &path.child("networkData")));
    }
    errors
}

fn network_data(data: &Value, path: &Path) -> Vec<FieldError> {
    let long = [("interfaceName", INTERFACE_MAX), ("hardwareAddress", HARDWARE_MAX)].into_iter();
    let mut errors: Vec<FieldError> = long
        .filter(|(field, max)| str_at(data, field).len() > *max)
        .map(|(field, max)| FieldError::too_long(&path.child(field), max))
        .collect();
    let check = |it: &Value, at: &Path| networking::interface_address(text(it), at).into_iter().collect();
    errors.extend(set(list_at(data, "ips"), IPS_MAX, &path.child("ips"), check, text));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(FieldError::to_string).collect()
    }

    fn claim(status: Value) -> Value {
        json!({"spec": {"devices": {"requests": [{"name": "r"}]}}, "status": status})
    }

    fn allocation_of(device: &str) -> Value {
        json!({"devices": {"results": [{"request": "r", "driver": "d.io", "pool": "p", "device": device}]}})
    }

    #[test]
    fn allocations_stay() {
        let (free, consumer) = (claim(json!({})), json!([{"resource": "pods", "name": "p", "uid": "1"}]));
        assert_eq!(
            texts(&validate_update(&claim(json!({"reservedFor": consumer})), &free)),
            ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"]
        );
        let reserved = claim(json!({"reservedFor": consumer, "allocation": allocation_of("x")}));
        assert!(validate_update(&reserved, &free).is_empty());
        let moved = claim(json!({"allocation": allocation_of("y")}));
        assert_eq!(validate_update(&moved, &reserved).len(), 1);
        assert_eq!(
            texts(&validate_update(
                &claim(
                    json!({"allocation": allocation_of("x"), "reservedFor": [{"uid": "1"}, {"resource": "pods", "name": "p", "uid": "1"}]})
                ),
                &free
            )),
            [
                "status.reservedFor[0].resource: Required value",
                "status.reservedFor[0].name: Required value",
                "status.reservedFor[1]: Duplicate value: \"1\"",
            ]
        );
    }

    #[test]
    fn results_are_judged_when_they_are_new() {
        let mut bad = allocation_of("x.y");
        bad["devices"]["results"][0]["bindingConditions"] = json!(["a"]);
        bad["devices"]["results"][0]["shareID"] = "x".into();
        bad["devices"]["config"] = json!([{"source": "Nowhere", "requests": ["q"]}]);
        bad["nodeSelector"] = json!({});
        let bad = claim(json!({"allocation": bad}));
        assert_eq!(
            texts(&validate_update(&bad, &claim(json!({})))),
            [
                "status.allocation.devices.results[0].device: Invalid value: \"x.y\": must not contain dots",
                "status.allocation.devices.results[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions",
                "status.allocation.devices.results[0].shareID: Invalid value: \"x\": error validating uid: invalid UUID length: 1",
                "status.allocation.devices.config[0].source: Unsupported value: \"Nowhere\": supported values: \"FromClaim\", \"FromClass\"",
                "status.allocation.devices.config[0].requests[0]: Invalid value: \"q\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
                "status.allocation.devices.config[0].opaque: Required value",
                "status.allocation.nodeSelector.nodeSelectorTerms: Required value: must have at least one node selector term",
            ]
        );
        assert!(validate_update(&bad, &bad).is_empty(), "what was stored once may stay");
    }

    #[test]
    fn devices_are_those_of_the_claim() {
        let told = |device: Value| {
            let new = claim(json!({"allocation": allocation_of("x"), "devices": [device]}));
            texts(&validate_update(&new, &new))
        };
        let good = json!({"driver": "d.io", "pool": "p", "device": "x", "data": {"a": 1}, "networkData": {"ips": ["10.9.8.7/24", "fd00::1/64"]}});
        assert_eq!(told(good), [""; 0]);
        assert_eq!(
            told(
                json!({"driver": "d.io", "pool": "p", "device": "y", "data": 1, "networkData": {"ips": ["10.9.8.7", "10.9.8.07/24"]}})
            ),
            [
                "status.devices[0]: Invalid value: d.io/p/y: must be an allocated device in the claim",
                "status.devices[0].data: Invalid value: \"<value omitted>\": must be a valid JSON object",
                "status.devices[0].networkData.ips[0]: Invalid value: \"10.9.8.7\": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)",
                "status.devices[0].networkData.ips[1]: Invalid value: \"10.9.8.07/24\": must be in canonical form (\"10.9.8.7/24\")",
            ]
        );
    }

    #[test]
    fn devices_go_with_their_allocation() {
        let device = json!({"driver": "d.io", "pool": "p", "device": "x"});
        let old = claim(json!({"allocation": allocation_of("x"), "devices": [device]}));
        let mut new = claim(json!({"devices": [device]}));
        prepare(&mut new, &old);
        assert_eq!(new["status"], json!({}));
        let mut kept = old.clone();
        prepare(&mut kept, &old);
        assert_eq!(kept, old);
    }
}
