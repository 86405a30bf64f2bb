//! Cells of printer columns that are computed from the whole object.

use serde_json::{Map, Value};

use crate::{
    time,
    value::{bool_at, get, int_at, list_at, map_at, str_at},
};

pub(super) fn or(text: &str, otherwise: &str) -> Value {
    if text.is_empty() { otherwise.into() } else { text.into() }
}

pub(super) fn or_none(text: &str) -> Value {
    or(text, "<none>")
}

pub(super) fn or_unset(object: &Value, path: &str) -> Value {
    or(str_at(object, path), "<unset>")
}

pub(super) fn or_unknown(object: &Value, path: &str) -> Value {
    or(str_at(object, path), "<unknown>")
}

pub(super) fn plain(value: &Value) -> Value {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned).into()
}

pub(super) fn count(object: &Value, path: &str) -> Value {
    int_at(object, path).unwrap_or(0).into()
}

pub(super) fn size(object: &Value, keys: &[&str]) -> Value {
    keys.iter().map(|k| map_at(object, k).map_or(0, Map::len)).sum::<usize>().into()
}

pub(super) fn labels(map: Option<&Map<String, Value>>) -> Value {
    let pairs: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    or_none(&pairs.join(","))
}

pub(super) fn label_selector(selector: Option<&Value>) -> Value {
    match crate::selector::LabelSelector::from_object(selector) {
        Ok(selector) => {
            let text: Vec<String> = selector
                .requirements
                .iter()
                .map(|r| match (r.operator, r.values.as_slice()) {
                    (crate::selector::Operator::In, [only]) => format!("{}={only}", r.key),
                    _ => r.to_string(),
                })
                .collect();
            or_none(&text.join(","))
        }
        Err(_) => "<error>".into(),
    }
}

pub(super) fn names_of(containers: &[Value], field: &str) -> Value {
    containers.iter().map(|c| str_at(c, field)).collect::<Vec<_>>().join(",").into()
}

pub(super) fn containers(object: &Value, field: &str) -> Value {
    names_of(list_at(object, "spec.template.spec.containers"), field)
}

pub(super) fn cron_containers(object: &Value) -> &[Value] {
    list_at(object, "spec.jobTemplate.spec.template.spec.containers")
}

pub(super) fn cron_last_schedule(object: &Value) -> Value {
    match str_at(object, "status.lastScheduleTime") {
        "" => "<none>".into(),
        at => time::age(at).into(),
    }
}

/// A ComponentStatus says all in its first healthy or unhealthy condition.
pub(super) fn component_cell(object: &Value, field: &str) -> Value {
    let condition = list_at(object, "conditions").iter().find(|c| str_at(c, "type") == "Healthy");
    let text = condition.map_or("", |c| str_at(c, field));
    match (field, text) {
        ("status", "True") => "Healthy".into(),
        ("status", "False") => "Unhealthy".into(),
        ("status", _) => "Unknown".into(),
        (_, text) => text.into(),
    }
}

pub(super) fn event_count(event: &Value) -> Value {
    int_at(event, "series.count").or(int_at(event, "count")).filter(|n| *n > 0).unwrap_or(1).into()
}

pub(super) fn ready_of_replicas(object: &Value) -> Value {
    format!("{}/{}", int_at(object, "status.readyReplicas").unwrap_or(0), int_at(object, "spec.replicas").unwrap_or(0))
        .into()
}

pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list_at(object, "status.conditions").iter().find(|c| str_at(c, "type") == kind)
}

pub(super) fn condition_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|c| str_at(c, "status") == "True")
}

pub(super) fn node_status(node: &Value) -> Value {
    let ready = match condition(node, "Ready").map(|c| str_at(c, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = if bool_at(node, "spec.unschedulable") { ",SchedulingDisabled" } else { "" };
    format!("{ready}{cordoned}").into()
}

pub(super) fn node_roles(node: &Value) -> Value {
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in map_at(node, "metadata.labels").into_iter().flatten() {
        let role = match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => role,
            None if key == "kubernetes.io/role" => value.as_str().unwrap_or_default(),
            None => continue,
        };
        if !role.is_empty() && !roles.contains(&role) {
            roles.push(role);
        }
    }
    roles.sort_unstable();
    or_none(&roles.join(","))
}

pub(super) fn node_address(node: &Value, kind: &str) -> Value {
    let address = list_at(node, "status.addresses").iter().find(|a| str_at(a, "type") == kind);
    or_none(address.map_or("", |a| str_at(a, "address")))
}

pub(super) fn load_balancer(object: &Value) -> Vec<&str> {
    list_at(object, "status.loadBalancer.ingress")
        .iter()
        .map(|i| if str_at(i, "ip").is_empty() { str_at(i, "hostname") } else { str_at(i, "ip") })
        .filter(|a| !a.is_empty())
        .collect()
}

pub(super) fn service_external(service: &Value) -> Value {
    let mut addresses: Vec<&str> = list_at(service, "spec.externalIPs").iter().filter_map(Value::as_str).collect();
    match str_at(service, "spec.type") {
        "ExternalName" => str_at(service, "spec.externalName").into(),
        "LoadBalancer" => {
            let mut all = load_balancer(service);
            all.append(&mut addresses);
            or(&all.join(","), "<pending>")
        }
        _ => or_none(&addresses.join(",")),
    }
}

pub(super) fn service_ports(service: &Value) -> Value {
    let ports: Vec<String> = list_at(service, "spec.ports")
        .iter()
        .map(|p| {
            let node_port = int_at(p, "nodePort").filter(|n| *n > 0).map(|n| format!(":{n}")).unwrap_or_default();
            format!("{}{node_port}/{}", int_at(p, "port").unwrap_or(0), str_at(p, "protocol"))
        })
        .collect();
    or_none(&ports.join(","))
}

/// The first three, and how many more there are.
pub(super) fn shortened(all: &[String]) -> Value {
    const SHOWN: usize = 3;
    match all.len() {
        0 => "<none>".into(),
        n if n <= SHOWN => all.join(",").into(),
        n => format!("{} + {} more...", all[..SHOWN].join(","), n - SHOWN).into(),
    }
}

pub(super) fn endpoints(object: &Value) -> Value {
    let mut all = Vec::new();
    for subset in list_at(object, "subsets") {
        let addresses = list_at(subset, "addresses").iter().map(|a| str_at(a, "ip"));
        let ports = list_at(subset, "ports");
        for address in addresses {
            if ports.is_empty() {
                all.push(address.to_owned());
            }
            all.extend(ports.iter().map(|p| format!("{address}:{}", int_at(p, "port").unwrap_or(0))));
        }
    }
    shortened(&all)
}

pub(super) fn slice_ports(object: &Value) -> Value {
    let ports = list_at(object, "ports");
    if ports.is_empty() {
        return "<unset>".into();
    }
    let text = |p: &Value| int_at(p, "port").map_or_else(|| "*".to_owned(), |n| n.to_string());
    shortened(&ports.iter().map(text).collect::<Vec<_>>())
}

pub(super) fn slice_addresses(object: &Value) -> Value {
    let all: Vec<String> = list_at(object, "endpoints")
        .iter()
        .flat_map(|e| list_at(e, "addresses"))
        .map(|a| a.as_str().unwrap_or_default().to_owned())
        .collect();
    if all.is_empty() { "<unset>".into() } else { shortened(&all) }
}

pub(super) fn first_time<'a>(object: &'a Value, paths: &[&str]) -> &'a str {
    paths.iter().map(|p| str_at(object, p)).find(|t| !t.is_empty()).unwrap_or_default()
}

pub(super) fn event_last_seen(event: &Value) -> Value {
    let at = first_time(event, &["series.lastObservedTime", "lastTimestamp", "eventTime", "firstTimestamp"]);
    time::age(at).into()
}

pub(super) fn event_first_seen(event: &Value) -> Value {
    time::age(first_time(event, &["firstTimestamp", "eventTime"])).into()
}

pub(super) fn event_object(event: &Value) -> Value {
    let kind = str_at(event, "involvedObject.kind").to_lowercase();
    let name = str_at(event, "involvedObject.name");
    if name.is_empty() { kind.into() } else { format!("{kind}/{name}").into() }
}

pub(super) fn event_source(event: &Value) -> Value {
    let component = first_time(event, &["source.component", "reportingComponent"]);
    let host = first_time(event, &["source.host", "reportingInstance"]);
    if host.is_empty() { component.into() } else { format!("{component}, {host}").into() }
}

pub(super) fn access_modes(modes: &[Value]) -> Value {
    let short = |m: &Value| match m.as_str() {
        Some("ReadWriteOnce") => "RWO",
        Some("ReadOnlyMany") => "ROX",
        Some("ReadWriteMany") => "RWX",
        Some("ReadWriteOncePod") => "RWOP",
        _ => "",
    };
    modes.iter().map(short).collect::<Vec<_>>().join(",").into()
}

pub(super) fn terminating_or_phase(object: &Value) -> Value {
    if get(object, "metadata.deletionTimestamp").is_some() {
        "Terminating".into()
    } else {
        str_at(object, "status.phase").into()
    }
}

pub(super) fn if_bound(claim: &Value, cell: Value) -> Value {
    if str_at(claim, "spec.volumeName").is_empty() { "".into() } else { cell }
}

pub(super) fn pv_claim(volume: &Value) -> Value {
    if get(volume, "spec.claimRef").is_none_or(Value::is_null) {
        return "".into();
    }
    format!("{}/{}", str_at(volume, "spec.claimRef.namespace"), str_at(volume, "spec.claimRef.name")).into()
}

pub(super) fn controller(object: &Value) -> Value {
    let owner = list_at(object, "metadata.ownerReferences").iter().find(|o| bool_at(o, "controller"));
    let Some(owner) = owner else { return "<none>".into() };
    let kind = str_at(owner, "kind").to_lowercase();
    let group = str_at(owner, "apiVersion").split_once('/').map(|(g, _)| format!(".{g}")).unwrap_or_default();
    format!("{kind}{group}/{}", str_at(owner, "name")).into()
}

pub(super) fn job_status(job: &Value) -> Value {
    for (kind, text) in [("Complete", "Complete"), ("Failed", "Failed")] {
        if condition_true(job, kind) {
            return text.into();
        }
    }
    if get(job, "metadata.deletionTimestamp").is_some() {
        return "Terminating".into();
    }
    for (kind, text) in
        [("Suspended", "Suspended"), ("FailureTarget", "FailureTarget"), ("SuccessCriteriaMet", "SuccessCriteriaMet")]
    {
        if condition_true(job, kind) {
            return text.into();
        }
    }
    "Running".into()
}

pub(super) fn job_completions(job: &Value) -> Value {
    let succeeded = int_at(job, "status.succeeded").unwrap_or(0);
    match (int_at(job, "spec.completions"), int_at(job, "spec.parallelism").unwrap_or(0)) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}").into(),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}").into(),
        _ => format!("{succeeded}/1").into(),
    }
}

pub(super) fn job_duration(job: &Value) -> Value {
    let Some(start) = time::parse(str_at(job, "status.startTime")) else { return "".into() };
    let failed = condition(job, "Failed").map_or("", |c| str_at(c, "lastTransitionTime"));
    let end = [str_at(job, "status.completionTime"), failed].into_iter().find_map(time::parse);
    let end = end.unwrap_or_else(::time::OffsetDateTime::now_utc);
    time::human_duration((end - start).whole_seconds()).into()
}

pub(super) fn ingress_hosts(ingress: &Value) -> Value {
    let hosts: Vec<String> =
        list_at(ingress, "spec.rules").iter().map(|r| str_at(r, "host").to_owned()).filter(|h| !h.is_empty()).collect();
    if hosts.is_empty() { "*".into() } else { shortened(&hosts) }
}

pub(super) fn class_parameters(class: &Value) -> Value {
    let kind = str_at(class, "spec.parameters.kind");
    if kind.is_empty() {
        return "<none>".into();
    }
    let group = str_at(class, "spec.parameters.apiGroup");
    let dot = if group.is_empty() { "" } else { "." };
    format!("{kind}{dot}{group}/{}", str_at(class, "spec.parameters.name")).into()
}

pub(super) fn class_name(class: &Value) -> Value {
    let default = map_at(class, "metadata.annotations").is_some_and(|annotations| {
        let set = |key: &str| annotations.get(key).and_then(Value::as_str) == Some("true");
        set("storageclass.kubernetes.io/is-default-class") || set("storageclass.beta.kubernetes.io/is-default-class")
    });
    let mark = if default { " (default)" } else { "" };
    format!("{}{mark}", str_at(class, "metadata.name")).into()
}

pub(super) fn csr_duration(csr: &Value) -> Value {
    int_at(csr, "spec.expirationSeconds").map_or("<none>".into(), |s| time::human_duration(s).into())
}

pub(super) fn csr_condition(csr: &Value) -> Value {
    let has = |kind: &str| condition(csr, kind).is_some();
    let mut text = if has("Denied") {
        "Denied".to_owned()
    } else if has("Approved") {
        "Approved".to_owned()
    } else {
        "Pending".to_owned()
    };
    if has("Failed") {
        text.push_str(",Failed");
    }
    if !str_at(csr, "status.certificate").is_empty() {
        text.push_str(",Issued");
    }
    text.into()
}

pub(super) fn subjects(binding: &Value, kind: &str) -> Value {
    let name = |s: &Value| match kind {
        "ServiceAccount" => format!("{}/{}", str_at(s, "namespace"), str_at(s, "name")),
        _ => str_at(s, "name").to_owned(),
    };
    let names: Vec<String> =
        list_at(binding, "subjects").iter().filter(|s| str_at(s, "kind") == kind).map(name).collect();
    names.join(", ").into()
}

pub(super) fn token_audiences(driver: &Value) -> Value {
    let audiences: Vec<&str> = list_at(driver, "spec.tokenRequests").iter().map(|t| str_at(t, "audience")).collect();
    or(&audiences.join(","), "<unset>")
}

pub(super) fn lifecycle_modes(driver: &Value) -> Value {
    let modes: Vec<&str> = list_at(driver, "spec.volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
    or(&modes.join(","), "Persistent")
}
