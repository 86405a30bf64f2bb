//! Rows of networking, RBAC, certificates, coordination, scheduling and node.

pub(super) mod hooks;

use super::{NameRule, PLAIN, Resource, STATUS, Strategy, Subresource, columns, row, writing};

const NET: (&str, &str) = ("networking.k8s.io", "v1");
const RBAC: (&str, &str) = ("rbac.authorization.k8s.io", "v1");
const APPROVAL: Subresource =
    Subresource { name: "approval", group: "", version: "", kind: "", verbs: &["get", "patch", "update"] };

/// RBAC objects: names only have to fit into a URL, and PUT creates.
const ROLE: Strategy = Strategy { name: NameRule::PathSegment, create_on_update: true, ..PLAIN };

pub(super) static RESOURCES: &[Resource] = &[
    Resource {
        namespaced: false,
        columns: columns::INGRESS_CLASS,
        strategy: Strategy {
            validate_create: hooks::ingress_class,
            validate_update: hooks::ingress_class_update,
            generation: true,
            ..PLAIN
        },
        ..row(
            NET,
            ("IngressClass", "IngressClassList"),
            ("ingressclasses", "ingressclass"),
            "io.k8s.api.networking.v1.IngressClass",
        )
    },
    Resource {
        short_names: &["ing"],
        subresources: &[STATUS],
        columns: columns::INGRESS,
        strategy: Strategy {
            prepare_create: |o| super::meta::set_status(o, serde_json::json!({"loadBalancer": {}})),
            prepare_update: writing::keep_status,
            validate_create: hooks::ingress,
            validate_update: |n, _| hooks::ingress(n),
            generation: true,
            ..PLAIN
        },
        ..row(NET, ("Ingress", "IngressList"), ("ingresses", "ingress"), "io.k8s.api.networking.v1.Ingress")
    },
    Resource {
        short_names: &["netpol"],
        columns: columns::NETWORK_POLICY,
        strategy: Strategy {
            default: hooks::network_policy_defaults,
            validate_create: hooks::network_policy,
            validate_update: |n, _| hooks::network_policy(n),
            generation: true,
            ..PLAIN
        },
        ..row(
            NET,
            ("NetworkPolicy", "NetworkPolicyList"),
            ("networkpolicies", "networkpolicy"),
            "io.k8s.api.networking.v1.NetworkPolicy",
        )
    },
    Resource {
        namespaced: false,
        columns: columns::BINDING,
        strategy: Strategy {
            default: hooks::binding_defaults,
            validate_create: hooks::binding,
            validate_update: hooks::binding_update,
            ..ROLE
        },
        ..row(
            RBAC,
            ("ClusterRoleBinding", "ClusterRoleBindingList"),
            ("clusterrolebindings", "clusterrolebinding"),
            "io.k8s.api.rbac.v1.ClusterRoleBinding",
        )
    },
    Resource {
        namespaced: false,
        columns: columns::NAME_CREATED,
        strategy: Strategy {
            validate_create: |r| hooks::role(r, false),
            validate_update: |r, _| hooks::role(r, false),
            ..ROLE
        },
        ..row(
            RBAC,
            ("ClusterRole", "ClusterRoleList"),
            ("clusterroles", "clusterrole"),
            "io.k8s.api.rbac.v1.ClusterRole",
        )
    },
    Resource {
        columns: columns::BINDING,
        strategy: Strategy {
            default: hooks::binding_defaults,
            validate_create: hooks::binding,
            validate_update: hooks::binding_update,
            ..ROLE
        },
        ..row(
            RBAC,
            ("RoleBinding", "RoleBindingList"),
            ("rolebindings", "rolebinding"),
            "io.k8s.api.rbac.v1.RoleBinding",
        )
    },
    Resource {
        columns: columns::NAME_CREATED,
        strategy: Strategy {
            validate_create: |r| hooks::role(r, true),
            validate_update: |r, _| hooks::role(r, true),
            ..ROLE
        },
        ..row(RBAC, ("Role", "RoleList"), ("roles", "role"), "io.k8s.api.rbac.v1.Role")
    },
    Resource {
        short_names: &["csr"],
        namespaced: false,
        subresources: &[APPROVAL, STATUS],
        columns: columns::CSR,
        field_selectors: &[("spec.signerName", "spec.signerName")],
        strategy: Strategy {
            default: hooks::csr_defaults,
            prepare_create: writing::drop_status,
            prepare_update: writing::keep_spec_and_status,
            validate_create: hooks::csr,
            validate_status_update: hooks::csr_status_update,
            ..PLAIN
        },
        ..row(
            ("certificates.k8s.io", "v1"),
            ("CertificateSigningRequest", "CertificateSigningRequestList"),
            ("certificatesigningrequests", "certificatesigningrequest"),
            "io.k8s.api.certificates.v1.CertificateSigningRequest",
        )
    },
    Resource {
        columns: columns::LEASE,
        strategy: Strategy {
            validate_create: hooks::lease,
            validate_update: |n, _| hooks::lease(n),
            create_on_update: true,
            ..PLAIN
        },
        ..row(
            ("coordination.k8s.io", "v1"),
            ("Lease", "LeaseList"),
            ("leases", "lease"),
            "io.k8s.api.coordination.v1.Lease",
        )
    },
    Resource {
        short_names: &["pc"],
        namespaced: false,
        columns: columns::PRIORITY_CLASS,
        strategy: Strategy {
            default: hooks::priority_class_defaults,
            validate_create: hooks::priority_class,
            validate_update: hooks::priority_class_update,
            generation: true,
            ..PLAIN
        },
        ..row(
            ("scheduling.k8s.io", "v1"),
            ("PriorityClass", "PriorityClassList"),
            ("priorityclasses", "priorityclass"),
            "io.k8s.api.scheduling.v1.PriorityClass",
        )
    },
    Resource {
        namespaced: false,
        columns: columns::RUNTIME_CLASS,
        strategy: Strategy {
            validate_create: hooks::runtime_class,
            validate_update: hooks::runtime_class_update,
            ..PLAIN
        },
        ..row(
            ("node.k8s.io", "v1"),
            ("RuntimeClass", "RuntimeClassList"),
            ("runtimeclasses", "runtimeclass"),
            "io.k8s.api.node.v1.RuntimeClass",
        )
    },
];
