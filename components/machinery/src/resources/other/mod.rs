//! Rows of RBAC; hooks of the kinds whose rules are few.

pub(super) mod hooks;

use super::{NameRule, PLAIN, Resource, Strategy, columns, row};

const RBAC: (&str, &str) = ("rbac.authorization.k8s.io", "v1");

/// RBAC objects: names only have to fit into a URL, and PUT creates.
const ROLE: Strategy = Strategy { name: NameRule::PathSegment, create_on_update: true, ..PLAIN };

pub(super) static RESOURCES: &[Resource] = &[
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
];
