//! Printer columns of every kind, as kubectl shows them (kubernetes `pkg/printers/internalversion/printers.go`). Pods have a file of
//! their own.

use serde_json::{Map, Value};

use super::{Cell, Column};
use crate::{
    time,
    value::{bool_at, get, int_at, list_at, map_at, str_at},
};

pub(super) const fn text(name: &'static str, priority: i32, cell: Cell) -> Column {
    Column { name, kind: "string", format: "", priority, description: "", cell }
}

const fn number(name: &'static str, cell: Cell) -> Column {
    Column { name, kind: "integer", format: "", priority: 0, description: "", cell }
}

pub(super) const NAME: Column =
    Column { name: "Name", kind: "string", format: "name", priority: 0, description: "", cell: Cell::Path("metadata.name") };
pub(super) const AGE: Column = text("Age", 0, Cell::Age("metadata.creationTimestamp"));
const CREATED_AT: Column =
    Column { name: "Created At", kind: "date", format: "", priority: 0, description: "", cell: Cell::Path("metadata.creationTimestamp") };
const CONTAINERS: Column = text("Containers", 1, Cell::Of(|o| containers(o, "name")));
const IMAGES: Column = text("Images", 1, Cell::Of(|o| containers(o, "image")));
const SELECTOR: Column = text("Selector", 1, Cell::Of(|o| label_selector(get(o, "spec.selector"))));

pub(super) const NAME_AGE: &[Column] = &[NAME, AGE];
pub(super) const NAME_CREATED: &[Column] = &[NAME, CREATED_AT];

pub(super) const NODE: &[Column] = &[
    NAME,
    text("Status", 0, Cell::Of(node_status)),
    text("Roles", 0, Cell::Of(node_roles)),
    AGE,
    text("Version", 0, Cell::Path("status.nodeInfo.kubeletVersion")),
    text("Internal-IP", 1, Cell::Of(|o| node_address(o, "InternalIP"))),
    text("External-IP", 1, Cell::Of(|o| node_address(o, "ExternalIP"))),
    text("OS-Image", 1, Cell::Of(|o| or_unknown(o, "status.nodeInfo.osImage"))),
    text("Kernel-Version", 1, Cell::Of(|o| or_unknown(o, "status.nodeInfo.kernelVersion"))),
    text("Container-Runtime", 1, Cell::Of(|o| or_unknown(o, "status.nodeInfo.containerRuntimeVersion"))),
];
pub(super) const SERVICE: &[Column] = &[
    NAME,
    text("Type", 0, Cell::Path("spec.type")),
    text("Cluster-IP", 0, Cell::Path("spec.clusterIP")),
    text("External-IP", 0, Cell::Of(service_external)),
    text("Port(s)", 0, Cell::Of(service_ports)),
    AGE,
    text("Selector", 1, Cell::Of(|o| labels(map_at(o, "spec.selector")))),
];
pub(super) const ENDPOINTS: &[Column] = &[NAME, text("Endpoints", 0, Cell::Of(endpoints)), AGE];
pub(super) const ENDPOINT_SLICE: &[Column] = &[
    NAME,
    text("AddressType", 0, Cell::Path("addressType")),
    text("Ports", 0, Cell::Of(slice_ports)),
    text("Endpoints", 0, Cell::Of(slice_addresses)),
    AGE,
];
pub(super) const NAMESPACE: &[Column] = &[NAME, text("Status", 0, Cell::Path("status.phase")), AGE];
pub(super) const SECRET: &[Column] = &[NAME, text("Type", 0, Cell::Path("type")), number("Data", Cell::Of(|o| size(o, &["data"]))), AGE];
pub(super) const CONFIG_MAP: &[Column] = &[NAME, number("Data", Cell::Of(|o| size(o, &["data", "binaryData"]))), AGE];
pub(super) const SERVICE_ACCOUNT: &[Column] = &[NAME, number("Secrets", Cell::Of(|o| list_at(o, "secrets").len().into())), AGE];
pub(super) const EVENT: &[Column] = &[
    text("Last Seen", 0, Cell::Of(event_last_seen)),
    text("Type", 0, Cell::Path("type")),
    text("Reason", 0, Cell::Path("reason")),
    text("Object", 0, Cell::Of(event_object)),
    text("Subobject", 1, Cell::Of(|o| str_at(o, "involvedObject.fieldPath").into())),
    text("Source", 1, Cell::Of(event_source)),
    text("Message", 0, Cell::Of(|o| str_at(o, "message").trim().into())),
    text("First Seen", 1, Cell::Of(event_first_seen)),
    text("Count", 1, Cell::Of(|o| int_at(o, "series.count").or(int_at(o, "count")).filter(|n| *n > 0).unwrap_or(1).into())),
    Column { name: "Name", kind: "string", format: "name", priority: 1, description: "", cell: Cell::Path("metadata.name") },
];
pub(super) const PV: &[Column] = &[
    NAME,
    text("Capacity", 0, Cell::Of(|o| str_at(o, "spec.capacity.storage").into())),
    text("Access Modes", 0, Cell::Of(|o| access_modes(list_at(o, "spec.accessModes")))),
    text("Reclaim Policy", 0, Cell::Path("spec.persistentVolumeReclaimPolicy")),
    text("Status", 0, Cell::Of(terminating_or_phase)),
    text("Claim", 0, Cell::Of(pv_claim)),
    text("StorageClass", 0, Cell::Of(|o| str_at(o, "spec.storageClassName").into())),
    text("VolumeAttributesClass", 0, Cell::Of(|o| or_unset(o, "spec.volumeAttributesClassName"))),
    text("Reason", 0, Cell::Of(|o| str_at(o, "status.reason").into())),
    AGE,
    text("VolumeMode", 1, Cell::Of(|o| or_unset(o, "spec.volumeMode"))),
];
pub(super) const PVC: &[Column] = &[
    NAME,
    text("Status", 0, Cell::Of(terminating_or_phase)),
    text("Volume", 0, Cell::Of(|o| str_at(o, "spec.volumeName").into())),
    text("Capacity", 0, Cell::Of(|o| if_bound(o, str_at(o, "status.capacity.storage").into()))),
    text("Access Modes", 0, Cell::Of(|o| if_bound(o, access_modes(list_at(o, "status.accessModes"))))),
    text("StorageClass", 0, Cell::Of(|o| str_at(o, "spec.storageClassName").into())),
    text("VolumeAttributesClass", 0, Cell::Of(|o| or_unset(o, "spec.volumeAttributesClassName"))),
    AGE,
    text("VolumeMode", 1, Cell::Of(|o| or_unset(o, "spec.volumeMode"))),
];
pub(super) const DEPLOYMENT: &[Column] = &[
    NAME,
    text("Ready", 0, Cell::Of(ready_of_replicas)),
    number("Up-to-date", Cell::Of(|o| count(o, "status.updatedReplicas"))),
    number("Available", Cell::Of(|o| count(o, "status.availableReplicas"))),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(super) const REPLICA_SET: &[Column] = &[
    NAME,
    number("Desired", Cell::Of(|o| count(o, "spec.replicas"))),
    number("Current", Cell::Of(|o| count(o, "status.replicas"))),
    number("Ready", Cell::Of(|o| count(o, "status.readyReplicas"))),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(super) const STATEFUL_SET: &[Column] = &[NAME, text("Ready", 0, Cell::Of(ready_of_replicas)), AGE, CONTAINERS, IMAGES];
pub(super) const DAEMON_SET: &[Column] = &[
    NAME,
    number("Desired", Cell::Of(|o| count(o, "status.desiredNumberScheduled"))),
    number("Current", Cell::Of(|o| count(o, "status.currentNumberScheduled"))),
    number("Ready", Cell::Of(|o| count(o, "status.numberReady"))),
    number("Up-to-date", Cell::Of(|o| count(o, "status.updatedNumberScheduled"))),
    number("Available", Cell::Of(|o| count(o, "status.numberAvailable"))),
    text("Node Selector", 0, Cell::Of(|o| labels(map_at(o, "spec.template.spec.nodeSelector")))),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(super) const CONTROLLER_REVISION: &[Column] =
    &[NAME, text("Controller", 0, Cell::Of(controller)), number("Revision", Cell::Path("revision")), AGE];
pub(super) const JOB: &[Column] = &[
    NAME,
    text("Status", 0, Cell::Of(job_status)),
    text("Completions", 0, Cell::Of(job_completions)),
    text("Duration", 0, Cell::Of(job_duration)),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(super) const INGRESS: &[Column] = &[
    NAME,
    text("Class", 0, Cell::Path("spec.ingressClassName")),
    text("Hosts", 0, Cell::Of(ingress_hosts)),
    text("Address", 0, Cell::Of(|o| load_balancer(o).join(",").into())),
    text("Ports", 0, Cell::Of(|o| if list_at(o, "spec.tls").is_empty() { "80".into() } else { "80, 443".into() })),
    AGE,
];
pub(super) const INGRESS_CLASS: &[Column] =
    &[NAME, text("Controller", 0, Cell::Path("spec.controller")), text("Parameters", 0, Cell::Of(class_parameters)), AGE];
pub(super) const NETWORK_POLICY: &[Column] = &[NAME, text("Pod-Selector", 0, Cell::Of(|o| label_selector(get(o, "spec.podSelector")))), AGE];
pub(super) const STORAGE_CLASS: &[Column] = &[
    Column { cell: Cell::Of(class_name), ..NAME },
    text("Provisioner", 0, Cell::Path("provisioner")),
    text("ReclaimPolicy", 0, Cell::Of(|o| or(str_at(o, "reclaimPolicy"), "Delete"))),
    text("VolumeBindingMode", 0, Cell::Of(|o| or(str_at(o, "volumeBindingMode"), "Immediate"))),
    Column { kind: "string", ..text("AllowVolumeExpansion", 0, Cell::Of(|o| bool_at(o, "allowVolumeExpansion").into())) },
    AGE,
];
pub(super) const CSI_NODE: &[Column] = &[NAME, number("Drivers", Cell::Of(|o| list_at(o, "spec.drivers").len().into())), AGE];
pub(super) const CSI_DRIVER: &[Column] = &[
    NAME,
    Column { kind: "boolean", ..text("AttachRequired", 0, Cell::Of(|o| get(o, "spec.attachRequired").cloned().unwrap_or(true.into()))) },
    Column { kind: "boolean", ..text("PodInfoOnMount", 0, Cell::Of(|o| bool_at(o, "spec.podInfoOnMount").into())) },
    Column { kind: "boolean", ..text("StorageCapacity", 0, Cell::Of(|o| bool_at(o, "spec.storageCapacity").into())) },
    AGE,
];
pub(super) const VOLUME_ATTACHMENT: &[Column] = &[
    NAME,
    text("Attacher", 0, Cell::Path("spec.attacher")),
    text("PV", 0, Cell::Of(|o| str_at(o, "spec.source.persistentVolumeName").into())),
    text("Node", 0, Cell::Path("spec.nodeName")),
    Column { kind: "boolean", ..text("Attached", 0, Cell::Of(|o| bool_at(o, "status.attached").into())) },
    AGE,
];
pub(super) const LEASE: &[Column] = &[NAME, text("Holder", 0, Cell::Of(|o| str_at(o, "spec.holderIdentity").into())), AGE];
pub(super) const CSR: &[Column] = &[
    NAME,
    AGE,
    text("SignerName", 0, Cell::Path("spec.signerName")),
    text("Requestor", 0, Cell::Path("spec.username")),
    text("RequestedDuration", 0, Cell::Of(csr_duration)),
    text("Condition", 0, Cell::Of(csr_condition)),
];
pub(super) const BINDING: &[Column] = &[
    NAME,
    text("Role", 0, Cell::Of(|o| format!("{}/{}", str_at(o, "roleRef.kind"), str_at(o, "roleRef.name")).into())),
    AGE,
    text("Users", 1, Cell::Of(|o| subjects(o, "User"))),
    text("Groups", 1, Cell::Of(|o| subjects(o, "Group"))),
    text("ServiceAccounts", 1, Cell::Of(|o| subjects(o, "ServiceAccount"))),
];
pub(super) const PRIORITY_CLASS: &[Column] = &[
    NAME,
    number("Value", Cell::Of(|o| count(o, "value"))),
    Column { kind: "boolean", ..text("Global-Default", 0, Cell::Of(|o| bool_at(o, "globalDefault").into())) },
    AGE,
    text("PreemptionPolicy", 0, Cell::Path("preemptionPolicy")),
];
pub(super) const RUNTIME_CLASS: &[Column] = &[NAME, text("Handler", 0, Cell::Path("handler")), AGE];
pub(super) const PDB: &[Column] = &[
    NAME,
    text("Min Available", 0, Cell::Of(|o| get(o, "spec.minAvailable").map_or("N/A".into(), plain))),
    text("Max Unavailable", 0, Cell::Of(|o| get(o, "spec.maxUnavailable").map_or("N/A".into(), plain))),
    number("Allowed Disruptions", Cell::Of(|o| count(o, "status.disruptionsAllowed"))),
    AGE,
];

fn or(text: &str, otherwise: &str) -> Value {
    if text.is_empty() { otherwise.into() } else { text.into() }
}

pub(super) fn or_none(text: &str) -> Value {
    or(text, "<none>")
}

fn or_unset(object: &Value, path: &str) -> Value {
    or(str_at(object, path), "<unset>")
}

fn or_unknown(object: &Value, path: &str) -> Value {
    or(str_at(object, path), "<unknown>")
}

fn plain(value: &Value) -> Value {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned).into()
}

fn count(object: &Value, path: &str) -> Value {
    int_at(object, path).unwrap_or(0).into()
}

fn size(object: &Value, keys: &[&str]) -> Value {
    keys.iter().map(|k| map_at(object, k).map_or(0, Map::len)).sum::<usize>().into()
}

fn labels(map: Option<&Map<String, Value>>) -> Value {
    let pairs: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    or_none(&pairs.join(","))
}

fn label_selector(selector: Option<&Value>) -> Value {
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

fn containers(object: &Value, field: &str) -> Value {
    let names: Vec<&str> = list_at(object, "spec.template.spec.containers").iter().map(|c| str_at(c, field)).collect();
    names.join(",").into()
}

fn ready_of_replicas(object: &Value) -> Value {
    format!("{}/{}", int_at(object, "status.readyReplicas").unwrap_or(0), int_at(object, "spec.replicas").unwrap_or(0)).into()
}

pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list_at(object, "status.conditions").iter().find(|c| str_at(c, "type") == kind)
}

fn condition_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|c| str_at(c, "status") == "True")
}

fn node_status(node: &Value) -> Value {
    let ready = match condition(node, "Ready").map(|c| str_at(c, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = if bool_at(node, "spec.unschedulable") { ",SchedulingDisabled" } else { "" };
    format!("{ready}{cordoned}").into()
}

fn node_roles(node: &Value) -> Value {
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

fn node_address(node: &Value, kind: &str) -> Value {
    let address = list_at(node, "status.addresses").iter().find(|a| str_at(a, "type") == kind);
    or_none(address.map_or("", |a| str_at(a, "address")))
}

fn load_balancer(object: &Value) -> Vec<&str> {
    list_at(object, "status.loadBalancer.ingress")
        .iter()
        .map(|i| if str_at(i, "ip").is_empty() { str_at(i, "hostname") } else { str_at(i, "ip") })
        .filter(|a| !a.is_empty())
        .collect()
}

fn service_external(service: &Value) -> Value {
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

fn service_ports(service: &Value) -> Value {
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
fn shortened(all: &[String]) -> Value {
    const SHOWN: usize = 3;
    match all.len() {
        0 => "<none>".into(),
        n if n <= SHOWN => all.join(",").into(),
        n => format!("{} + {} more...", all[..SHOWN].join(","), n - SHOWN).into(),
    }
}

fn endpoints(object: &Value) -> Value {
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

fn slice_ports(object: &Value) -> Value {
    let ports = list_at(object, "ports");
    if ports.is_empty() {
        return "<unset>".into();
    }
    let text = |p: &Value| int_at(p, "port").map_or_else(|| "*".to_owned(), |n| n.to_string());
    shortened(&ports.iter().map(text).collect::<Vec<_>>())
}

fn slice_addresses(object: &Value) -> Value {
    let all: Vec<String> = list_at(object, "endpoints")
        .iter()
        .flat_map(|e| list_at(e, "addresses"))
        .map(|a| a.as_str().unwrap_or_default().to_owned())
        .collect();
    if all.is_empty() { "<unset>".into() } else { shortened(&all) }
}

fn first_time<'a>(object: &'a Value, paths: &[&str]) -> &'a str {
    paths.iter().map(|p| str_at(object, p)).find(|t| !t.is_empty()).unwrap_or_default()
}

fn event_last_seen(event: &Value) -> Value {
    let at = first_time(event, &["series.lastObservedTime", "lastTimestamp", "eventTime", "firstTimestamp"]);
    time::age(at).into()
}

fn event_first_seen(event: &Value) -> Value {
    time::age(first_time(event, &["firstTimestamp", "eventTime"])).into()
}

fn event_object(event: &Value) -> Value {
    let kind = str_at(event, "involvedObject.kind").to_lowercase();
    let name = str_at(event, "involvedObject.name");
    if name.is_empty() { kind.into() } else { format!("{kind}/{name}").into() }
}

fn event_source(event: &Value) -> Value {
    let component = first_time(event, &["source.component", "reportingComponent"]);
    let host = first_time(event, &["source.host", "reportingInstance"]);
    if host.is_empty() { component.into() } else { format!("{component}, {host}").into() }
}

fn access_modes(modes: &[Value]) -> Value {
    let short = |m: &Value| match m.as_str() {
        Some("ReadWriteOnce") => "RWO",
        Some("ReadOnlyMany") => "ROX",
        Some("ReadWriteMany") => "RWX",
        Some("ReadWriteOncePod") => "RWOP",
        _ => "",
    };
    modes.iter().map(short).collect::<Vec<_>>().join(",").into()
}

fn terminating_or_phase(object: &Value) -> Value {
    if get(object, "metadata.deletionTimestamp").is_some() { "Terminating".into() } else { str_at(object, "status.phase").into() }
}

fn if_bound(claim: &Value, cell: Value) -> Value {
    if str_at(claim, "spec.volumeName").is_empty() { "".into() } else { cell }
}

fn pv_claim(volume: &Value) -> Value {
    if get(volume, "spec.claimRef").is_none_or(Value::is_null) {
        return "".into();
    }
    format!("{}/{}", str_at(volume, "spec.claimRef.namespace"), str_at(volume, "spec.claimRef.name")).into()
}

fn controller(object: &Value) -> Value {
    let owner = list_at(object, "metadata.ownerReferences").iter().find(|o| bool_at(o, "controller"));
    let Some(owner) = owner else { return "<none>".into() };
    let kind = str_at(owner, "kind").to_lowercase();
    let group = str_at(owner, "apiVersion").split_once('/').map(|(g, _)| format!(".{g}")).unwrap_or_default();
    format!("{kind}{group}/{}", str_at(owner, "name")).into()
}

fn job_status(job: &Value) -> Value {
    for (kind, text) in [("Complete", "Complete"), ("Failed", "Failed")] {
        if condition_true(job, kind) {
            return text.into();
        }
    }
    if get(job, "metadata.deletionTimestamp").is_some() {
        return "Terminating".into();
    }
    for (kind, text) in [("Suspended", "Suspended"), ("FailureTarget", "FailureTarget"), ("SuccessCriteriaMet", "SuccessCriteriaMet")] {
        if condition_true(job, kind) {
            return text.into();
        }
    }
    "Running".into()
}

fn job_completions(job: &Value) -> Value {
    let succeeded = int_at(job, "status.succeeded").unwrap_or(0);
    match (int_at(job, "spec.completions"), int_at(job, "spec.parallelism").unwrap_or(0)) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}").into(),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}").into(),
        _ => format!("{succeeded}/1").into(),
    }
}

fn job_duration(job: &Value) -> Value {
    let Some(start) = time::parse(str_at(job, "status.startTime")) else { return "".into() };
    let failed = condition(job, "Failed").map_or("", |c| str_at(c, "lastTransitionTime"));
    let end = [str_at(job, "status.completionTime"), failed].into_iter().find_map(time::parse);
    let end = end.unwrap_or_else(::time::OffsetDateTime::now_utc);
    time::human_duration((end - start).whole_seconds()).into()
}

fn ingress_hosts(ingress: &Value) -> Value {
    let hosts: Vec<String> =
        list_at(ingress, "spec.rules").iter().map(|r| str_at(r, "host").to_owned()).filter(|h| !h.is_empty()).collect();
    if hosts.is_empty() { "*".into() } else { shortened(&hosts) }
}

fn class_parameters(class: &Value) -> Value {
    let kind = str_at(class, "spec.parameters.kind");
    if kind.is_empty() {
        return "<none>".into();
    }
    let group = str_at(class, "spec.parameters.apiGroup");
    let dot = if group.is_empty() { "" } else { "." };
    format!("{kind}{dot}{group}/{}", str_at(class, "spec.parameters.name")).into()
}

fn class_name(class: &Value) -> Value {
    let default = map_at(class, "metadata.annotations").is_some_and(|annotations| {
        let set = |key: &str| annotations.get(key).and_then(Value::as_str) == Some("true");
        set("storageclass.kubernetes.io/is-default-class") || set("storageclass.beta.kubernetes.io/is-default-class")
    });
    let mark = if default { " (default)" } else { "" };
    format!("{}{mark}", str_at(class, "metadata.name")).into()
}

fn csr_duration(csr: &Value) -> Value {
    int_at(csr, "spec.expirationSeconds").map_or("<none>".into(), |s| time::human_duration(s).into())
}

fn csr_condition(csr: &Value) -> Value {
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

fn subjects(binding: &Value, kind: &str) -> Value {
    let name = |s: &Value| match kind {
        "ServiceAccount" => format!("{}/{}", str_at(s, "namespace"), str_at(s, "name")),
        _ => str_at(s, "name").to_owned(),
    };
    let names: Vec<String> = list_at(binding, "subjects").iter().filter(|s| str_at(s, "kind") == kind).map(name).collect();
    names.join(", ").into()
}
