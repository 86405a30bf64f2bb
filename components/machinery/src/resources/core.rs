//! Rows of the core group, events and discovery.

use super::{
    NameRule, PLAIN, Resource, STATUS, Strategy, Subresource, columns, meta, other::hooks as o, pod, row, storage,
    workload::service, writing,
};

const fn sub(
    name: &'static str,
    kind: &'static str,
    group: &'static str,
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource { name, group, version: "v1", kind, verbs }
}

const V1: (&str, &str) = ("", "v1");
const ALL: &[&str] = &["all"];
const STREAM: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

pub(super) static RESOURCES: &[Resource] = &[
    Resource {
        short_names: &["cm"],
        columns: columns::CONFIG_MAP,
        strategy: Strategy { validate_create: o::config_map, validate_update: o::config_map_update, ..PLAIN },
        ..row(V1, ("ConfigMap", "ConfigMapList"), ("configmaps", "configmap"), "io.k8s.api.core.v1.ConfigMap")
    },
    Resource {
        short_names: &["ep"],
        columns: columns::ENDPOINTS,
        strategy: Strategy {
            default: o::endpoints_defaults,
            validate_create: o::endpoints,
            validate_update: |n, _| o::endpoints(n),
            create_on_update: true,
            ..PLAIN
        },
        ..row(V1, ("Endpoints", "EndpointsList"), ("endpoints", "endpoints"), "io.k8s.api.core.v1.Endpoints")
    },
    Resource {
        short_names: &["ev"],
        columns: columns::EVENT,
        field_selectors: &[
            ("involvedObject.kind", "involvedObject.kind"),
            ("involvedObject.namespace", "involvedObject.namespace"),
            ("involvedObject.name", "involvedObject.name"),
            ("involvedObject.uid", "involvedObject.uid"),
            ("involvedObject.apiVersion", "involvedObject.apiVersion"),
            ("involvedObject.resourceVersion", "involvedObject.resourceVersion"),
            ("involvedObject.fieldPath", "involvedObject.fieldPath"),
            ("reason", "reason"),
            ("reportingComponent", "reportingComponent"),
            ("source", "source.component"),
            ("type", "type"),
        ],
        strategy: Strategy {
            validate_create: o::event,
            validate_update: |n, _| o::event(n),
            create_on_update: true,
            ..PLAIN
        },
        ..row(V1, ("Event", "EventList"), ("events", "event"), "io.k8s.api.core.v1.Event")
    },
    Resource {
        short_names: &["ns"],
        namespaced: false,
        verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
        subresources: &[STATUS, Subresource { name: "finalize", group: "", version: "", kind: "", verbs: &["update"] }],
        columns: columns::NAMESPACE,
        field_selectors: &[("status.phase", "status.phase")],
        strategy: Strategy {
            name: NameRule::DnsLabel,
            default: o::namespace_defaults,
            prepare_create: o::namespace_create,
            prepare_update: writing::keep_spec_finalizers_and_status,
            ..PLAIN
        },
        ..row(V1, ("Namespace", "NamespaceList"), ("namespaces", "namespace"), "io.k8s.api.core.v1.Namespace")
    },
    Resource {
        short_names: &["no"],
        namespaced: false,
        subresources: &[STATUS, sub("proxy", "NodeProxyOptions", "", PROXY)],
        columns: columns::NODE,
        field_selectors: &[("spec.unschedulable", "spec.unschedulable?false")],
        strategy: Strategy {
            default: o::node_defaults,
            prepare_update: writing::keep_status,
            validate_create: o::node,
            validate_update: o::node_update,
            validate_status_update: o::node_update,
            ..PLAIN
        },
        ..row(V1, ("Node", "NodeList"), ("nodes", "node"), "io.k8s.api.core.v1.Node")
    },
    Resource {
        short_names: &["pvc"],
        subresources: &[STATUS],
        columns: columns::PVC,
        strategy: Strategy {
            default: storage::claim_defaults,
            prepare_create: storage::claim_create,
            prepare_update: writing::keep_status,
            validate_create: storage::claim,
            validate_update: storage::claim_update,
            ..PLAIN
        },
        ..row(
            V1,
            ("PersistentVolumeClaim", "PersistentVolumeClaimList"),
            ("persistentvolumeclaims", "persistentvolumeclaim"),
            "io.k8s.api.core.v1.PersistentVolumeClaim",
        )
    },
    Resource {
        short_names: &["pv"],
        namespaced: false,
        subresources: &[STATUS],
        columns: columns::PV,
        strategy: Strategy {
            default: storage::volume_defaults,
            prepare_create: storage::volume_create,
            prepare_update: writing::keep_status,
            validate_create: storage::volume,
            validate_update: storage::volume_update,
            ..PLAIN
        },
        ..row(
            V1,
            ("PersistentVolume", "PersistentVolumeList"),
            ("persistentvolumes", "persistentvolume"),
            "io.k8s.api.core.v1.PersistentVolume",
        )
    },
    Resource {
        short_names: &["po"],
        categories: ALL,
        subresources: &[
            sub("attach", "PodAttachOptions", "", STREAM),
            sub("binding", "Binding", "", &["create"]),
            Subresource {
                name: "ephemeralcontainers",
                group: "",
                version: "",
                kind: "",
                verbs: &["get", "patch", "update"],
            },
            sub("eviction", "Eviction", "policy", &["create"]),
            sub("exec", "PodExecOptions", "", STREAM),
            Subresource { name: "log", group: "", version: "", kind: "", verbs: &["get"] },
            sub("portforward", "PodPortForwardOptions", "", STREAM),
            sub("proxy", "PodProxyOptions", "", PROXY),
            STATUS,
        ],
        columns: pod::columns::POD,
        field_selectors: &[
            ("spec.nodeName", "spec.nodeName"),
            ("spec.restartPolicy", "spec.restartPolicy"),
            ("spec.schedulerName", "spec.schedulerName"),
            ("spec.serviceAccountName", "spec.serviceAccountName"),
            ("spec.hostNetwork", "spec.hostNetwork?false"),
            ("status.phase", "status.phase"),
            ("status.podIP", "status.podIP"),
            ("status.nominatedNodeName", "status.nominatedNodeName"),
        ],
        strategy: Strategy {
            default: pod::defaults,
            prepare_create: pod::prepare_create,
            prepare_update: writing::keep_status,
            validate_create: pod::validate,
            validate_update: pod::update::validate,
            generation: true,
            ..PLAIN
        },
        ..row(V1, ("Pod", "PodList"), ("pods", "pod"), "io.k8s.api.core.v1.Pod")
    },
    Resource {
        columns: columns::SECRET,
        field_selectors: &[("type", "type")],
        strategy: Strategy {
            default: o::secret_defaults,
            validate_create: o::secret,
            validate_update: o::secret_update,
            ..PLAIN
        },
        ..row(V1, ("Secret", "SecretList"), ("secrets", "secret"), "io.k8s.api.core.v1.Secret")
    },
    Resource {
        short_names: &["sa"],
        subresources: &[sub("token", "TokenRequest", "authentication.k8s.io", &["create"])],
        columns: columns::SERVICE_ACCOUNT,
        ..row(
            V1,
            ("ServiceAccount", "ServiceAccountList"),
            ("serviceaccounts", "serviceaccount"),
            "io.k8s.api.core.v1.ServiceAccount",
        )
    },
    Resource {
        short_names: &["svc"],
        categories: ALL,
        subresources: &[sub("proxy", "ServiceProxyOptions", "", PROXY), STATUS],
        columns: columns::SERVICE,
        field_selectors: &[("spec.clusterIP", "spec.clusterIP"), ("spec.type", "spec.type")],
        strategy: Strategy {
            name: NameRule::Dns1035Label,
            default: service::defaults,
            prepare_create: |s| meta::set_status(s, serde_json::json!({"loadBalancer": {}})),
            prepare_update: service::prepare_update,
            validate_create: service::validate,
            validate_update: service::validate_update,
            create_on_update: true,
            ..PLAIN
        },
        ..row(V1, ("Service", "ServiceList"), ("services", "service"), "io.k8s.api.core.v1.Service")
    },
    Resource {
        columns: columns::ENDPOINT_SLICE,
        strategy: Strategy {
            default: o::slice_defaults,
            validate_create: o::slice,
            validate_update: o::slice_update,
            generation: true,
            ..PLAIN
        },
        ..row(
            ("discovery.k8s.io", "v1"),
            ("EndpointSlice", "EndpointSliceList"),
            ("endpointslices", "endpointslice"),
            "io.k8s.api.discovery.v1.EndpointSlice",
        )
    },
];
