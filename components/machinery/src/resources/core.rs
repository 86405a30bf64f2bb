//! Rows of the core group and discovery; events have a file of their own.

use super::{
    NameRule, PLAIN, Resource, SCALE, STATUS, Strategy, Subresource, columns, limits, meta,
    other::hooks as o,
    pod, row, storage,
    workload::{replication, service, status, template_warnings},
    writing,
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
    // nothing is stored of it: a create binds a pod
    Resource {
        verbs: &["create"],
        ..row(V1, ("Binding", "BindingList"), ("bindings", "binding"), "io.k8s.api.core.v1.Binding")
    },
    // what there was before health checks had addresses of their own; nothing is stored
    Resource {
        short_names: &["cs"],
        namespaced: false,
        verbs: &["get", "list"],
        columns: columns::COMPONENT_STATUS,
        deprecation: "v1 ComponentStatus is deprecated in v1.19+",
        ..row(
            V1,
            ("ComponentStatus", "ComponentStatusList"),
            ("componentstatuses", "componentstatus"),
            "io.k8s.api.core.v1.ComponentStatus",
        )
    },
    Resource {
        short_names: &["cm"],
        columns: columns::CONFIG_MAP,
        strategy: Strategy { validate_create: o::config_map, validate_update: o::config_map_update, ..PLAIN },
        ..row(V1, ("ConfigMap", "ConfigMapList"), ("configmaps", "configmap"), "io.k8s.api.core.v1.ConfigMap")
    },
    Resource {
        short_names: &["ep"],
        columns: columns::ENDPOINTS,
        deprecation: "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
        strategy: Strategy {
            default: o::endpoints_defaults,
            validate_create: o::endpoints,
            validate_update: o::endpoints_update,
            create_on_update: true,
            ..PLAIN
        },
        ..row(V1, ("Endpoints", "EndpointsList"), ("endpoints", "endpoints"), "io.k8s.api.core.v1.Endpoints")
    },
    Resource {
        short_names: &["limits"],
        columns: columns::NAME_CREATED,
        strategy: Strategy {
            default: limits::limit_range_defaults,
            validate_create: limits::limit_range,
            validate_update: |new, _| limits::limit_range(new),
            create_on_update: true,
            ..PLAIN
        },
        ..row(V1, ("LimitRange", "LimitRangeList"), ("limitranges", "limitrange"), "io.k8s.api.core.v1.LimitRange")
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
            validate_create: o::namespace,
            validate_update: |n, _| o::namespace(n),
            validate_subresource: o::namespace_finalize,
            validate_status_update: o::namespace_status,
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
            prepare_create: o::node_create,
            prepare_update: o::node_prepare_update,
            prepare_status: o::node_prepare_status,
            validate_create: o::node,
            validate_update: o::node_update,
            validate_status_update: o::node_status,
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
            validate_status_update: storage::claim_status,
            warnings: storage::claim_warnings,
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
            warnings: storage::volume_warnings,
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
            Subresource { name: "resize", group: "", version: "", kind: "", verbs: &["get", "patch", "update"] },
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
            validate_create: pod::validate_create,
            validate_update: pod::update::validate,
            validate_status_update: pod::status::validate_update,
            prepare_subresource: pod::prepare_subresource,
            validate_subresource: pod::validate_subresource,
            warnings: pod::warnings,
            generation: true,
            ..PLAIN
        },
        ..row(V1, ("Pod", "PodList"), ("pods", "pod"), "io.k8s.api.core.v1.Pod")
    },
    Resource {
        columns: columns::POD_TEMPLATE,
        strategy: Strategy {
            default: replication::pod_template_defaults,
            validate_create: replication::pod_template,
            validate_update: |new, _| replication::pod_template(new),
            generation: true,
            ..PLAIN
        },
        ..row(V1, ("PodTemplate", "PodTemplateList"), ("podtemplates", "podtemplate"), "io.k8s.api.core.v1.PodTemplate")
    },
    Resource {
        short_names: &["rc"],
        categories: ALL,
        subresources: &[SCALE, STATUS],
        columns: columns::REPLICATION_CONTROLLER,
        field_selectors: &[("status.replicas", "status.replicas?0")],
        strategy: Strategy {
            default: replication::defaults,
            prepare_create: writing::drop_status,
            prepare_update: writing::keep_status,
            validate_create: replication::validate,
            validate_update: |new, _| replication::validate(new),
            validate_status_update: status::replica_set,
            warnings: template_warnings,
            generation: true,
            ..PLAIN
        },
        ..row(
            V1,
            ("ReplicationController", "ReplicationControllerList"),
            ("replicationcontrollers", "replicationcontroller"),
            "io.k8s.api.core.v1.ReplicationController",
        )
    },
    Resource {
        short_names: &["quota"],
        subresources: &[STATUS],
        columns: columns::RESOURCE_QUOTA,
        strategy: Strategy {
            prepare_create: writing::drop_status,
            prepare_update: writing::keep_status,
            validate_create: limits::quota,
            validate_update: limits::quota_update,
            validate_status_update: limits::quota_status,
            ..PLAIN
        },
        ..row(
            V1,
            ("ResourceQuota", "ResourceQuotaList"),
            ("resourcequotas", "resourcequota"),
            "io.k8s.api.core.v1.ResourceQuota",
        )
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
            name: NameRule::DnsLabel,
            default: service::defaults,
            prepare_create: |s| meta::set_status(s, serde_json::json!({"loadBalancer": {}})),
            prepare_update: service::prepare_update,
            validate_create: service::validate,
            validate_update: service::validate_update,
            validate_status_update: service::validate_status_update,
            warnings: service::warnings,
            create_on_update: true,
            ..PLAIN
        },
        ..row(V1, ("Service", "ServiceList"), ("services", "service"), "io.k8s.api.core.v1.Service")
    },
    Resource {
        columns: columns::ENDPOINT_SLICE,
        strategy: Strategy {
            default: o::slice_defaults,
            prepare_create: o::drop_topology,
            prepare_update: |new, _| o::drop_topology(new),
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
