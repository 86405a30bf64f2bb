//! Printer columns of every kind, as kubectl shows them (kubernetes `pkg/printers/internalversion/printers.go`). Pods have a file of
//! their own.

use super::{Cell, Column, cells::*};
use crate::value::{bool_at, get, list_at, map_at, str_at};

pub(super) const fn text(name: &'static str, priority: i32, cell: Cell) -> Column {
    Column { name, kind: "string", format: "", priority, description: "", cell }
}

const fn number(name: &'static str, cell: Cell) -> Column {
    Column { name, kind: "integer", format: "", priority: 0, description: "", cell }
}

pub(super) const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    priority: 0,
    description: "",
    cell: Cell::Path("metadata.name"),
};
pub(super) const AGE: Column = text("Age", 0, Cell::Age("metadata.creationTimestamp"));
const CREATED_AT: Column = Column {
    name: "Created At",
    kind: "date",
    format: "",
    priority: 0,
    description: "",
    cell: Cell::Path("metadata.creationTimestamp"),
};
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
pub(super) const SECRET: &[Column] =
    &[NAME, text("Type", 0, Cell::Path("type")), number("Data", Cell::Of(|o| size(o, &["data"]))), AGE];
pub(super) const CONFIG_MAP: &[Column] = &[NAME, number("Data", Cell::Of(|o| size(o, &["data", "binaryData"]))), AGE];
pub(super) const SERVICE_ACCOUNT: &[Column] =
    &[NAME, number("Secrets", Cell::Of(|o| list_at(o, "secrets").len().into())), AGE];
pub(super) const EVENT: &[Column] = &[
    text("Last Seen", 0, Cell::Of(event_last_seen)),
    text("Type", 0, Cell::Path("type")),
    text("Reason", 0, Cell::Path("reason")),
    text("Object", 0, Cell::Of(event_object)),
    text("Subobject", 1, Cell::Of(|o| str_at(o, "involvedObject.fieldPath").into())),
    text("Source", 1, Cell::Of(event_source)),
    text("Message", 0, Cell::Of(|o| str_at(o, "message").trim().into())),
    text("First Seen", 1, Cell::Of(event_first_seen)),
    text("Count", 1, Cell::Of(event_count)),
    Column { priority: 1, ..NAME },
];
/// The same of events.k8s.io's form.
pub(super) const NEW_EVENT: &[Column] = &[
    text("Last Seen", 0, Cell::Of(|o| event_last_seen(&super::events::stored(o)))),
    text("Type", 0, Cell::Path("type")),
    text("Reason", 0, Cell::Path("reason")),
    text("Object", 0, Cell::Of(|o| event_object(&super::events::stored(o)))),
    text("Subobject", 1, Cell::Of(|o| str_at(o, "regarding.fieldPath").into())),
    text("Source", 1, Cell::Of(|o| event_source(&super::events::stored(o)))),
    text("Message", 0, Cell::Of(|o| str_at(o, "note").trim().into())),
    text("First Seen", 1, Cell::Of(|o| event_first_seen(&super::events::stored(o)))),
    text("Count", 1, Cell::Of(|o| event_count(&super::events::stored(o)))),
    Column { priority: 1, ..NAME },
];
pub(super) const COMPONENT_STATUS: &[Column] = &[
    NAME,
    text("Status", 0, Cell::Of(|o| component_cell(o, "status"))),
    text("Message", 0, Cell::Of(|o| component_cell(o, "message"))),
    text("Error", 0, Cell::Of(|o| component_cell(o, "error"))),
];
pub(super) const POD_TEMPLATE: &[Column] = &[
    NAME,
    text("Containers", 0, Cell::Of(|o| names_of(list_at(o, "template.spec.containers"), "name"))),
    text("Images", 0, Cell::Of(|o| names_of(list_at(o, "template.spec.containers"), "image"))),
    text("Pod Labels", 0, Cell::Of(|o| labels(map_at(o, "template.metadata.labels")))),
];
pub(super) const REPLICATION_CONTROLLER: &[Column] = &[
    NAME,
    number("Desired", Cell::Of(|o| count(o, "spec.replicas"))),
    number("Current", Cell::Of(|o| count(o, "status.replicas"))),
    number("Ready", Cell::Of(|o| count(o, "status.readyReplicas"))),
    AGE,
    CONTAINERS,
    IMAGES,
    text("Selector", 1, Cell::Of(|o| labels(map_at(o, "spec.selector")))),
];
pub(super) const RESOURCE_QUOTA: &[Column] = &[
    NAME,
    text("Request", 0, Cell::Of(|o| super::limits::request_and_limit(o)[0].as_str().into())),
    text("Limit", 0, Cell::Of(|o| super::limits::request_and_limit(o)[1].as_str().into())),
    AGE,
];
pub(super) const CRON_JOB: &[Column] = &[
    NAME,
    text("Schedule", 0, Cell::Path("spec.schedule")),
    text("Timezone", 0, Cell::Path("spec.timeZone")),
    Column {
        kind: "boolean",
        ..text("Suspend", 0, Cell::Of(|o| if bool_at(o, "spec.suspend") { "True".into() } else { "False".into() }))
    },
    number("Active", Cell::Of(|o| list_at(o, "status.active").len().into())),
    text("Last Schedule", 0, Cell::Of(cron_last_schedule)),
    AGE,
    text("Containers", 1, Cell::Of(|o| names_of(cron_containers(o), "name"))),
    text("Images", 1, Cell::Of(|o| names_of(cron_containers(o), "image"))),
    text("Selector", 1, Cell::Of(|o| label_selector(get(o, "spec.jobTemplate.spec.selector")))),
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
pub(super) const STATEFUL_SET: &[Column] =
    &[NAME, text("Ready", 0, Cell::Of(ready_of_replicas)), AGE, CONTAINERS, IMAGES];
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
pub(super) const INGRESS_CLASS: &[Column] = &[
    NAME,
    text("Controller", 0, Cell::Path("spec.controller")),
    text("Parameters", 0, Cell::Of(class_parameters)),
    AGE,
];
pub(super) const NETWORK_POLICY: &[Column] =
    &[NAME, text("Pod-Selector", 0, Cell::Of(|o| label_selector(get(o, "spec.podSelector")))), AGE];
pub(super) const STORAGE_CLASS: &[Column] = &[
    Column { cell: Cell::Of(class_name), ..NAME },
    text("Provisioner", 0, Cell::Path("provisioner")),
    text("ReclaimPolicy", 0, Cell::Of(|o| or(str_at(o, "reclaimPolicy"), "Delete"))),
    text("VolumeBindingMode", 0, Cell::Of(|o| or(str_at(o, "volumeBindingMode"), "Immediate"))),
    Column {
        kind: "string",
        ..text("AllowVolumeExpansion", 0, Cell::Of(|o| bool_at(o, "allowVolumeExpansion").into()))
    },
    AGE,
];
pub(super) const CSI_NODE: &[Column] =
    &[NAME, number("Drivers", Cell::Of(|o| list_at(o, "spec.drivers").len().into())), AGE];
pub(super) const CSI_DRIVER: &[Column] = &[
    NAME,
    Column {
        kind: "boolean",
        ..text("AttachRequired", 0, Cell::Of(|o| get(o, "spec.attachRequired").cloned().unwrap_or(true.into())))
    },
    Column { kind: "boolean", ..text("PodInfoOnMount", 0, Cell::Of(|o| bool_at(o, "spec.podInfoOnMount").into())) },
    Column { kind: "boolean", ..text("StorageCapacity", 0, Cell::Of(|o| bool_at(o, "spec.storageCapacity").into())) },
    text("TokenRequests", 0, Cell::Of(token_audiences)),
    Column {
        kind: "boolean",
        ..text("RequiresRepublish", 0, Cell::Of(|o| bool_at(o, "spec.requiresRepublish").into()))
    },
    text("Modes", 0, Cell::Of(lifecycle_modes)),
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
pub(super) const LEASE: &[Column] =
    &[NAME, text("Holder", 0, Cell::Of(|o| str_at(o, "spec.holderIdentity").into())), AGE];
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
