//! ValidatingAdmissionPolicy, MutatingAdmissionPolicy and their bindings (admissionregistration.k8s.io/v1).

mod bindings;
mod columns;
mod definitions;
mod matching;

use super::{PLAIN, Resource, STATUS, Strategy, row};

const GROUP: (&str, &str) = ("admissionregistration.k8s.io", "v1");

const DEFINITION: Strategy = Strategy { default: definitions::defaults, generation: true, ..PLAIN };
const BINDING: Strategy = Strategy { default: bindings::defaults, generation: true, ..PLAIN };

pub(super) static RESOURCES: &[Resource] = &[
    Resource {
        namespaced: false,
        categories: &["api-extensions"],
        columns: columns::MUTATING,
        strategy: Strategy {
            validate_create: definitions::mutating,
            validate_update: |new, _| definitions::mutating(new),
            ..DEFINITION
        },
        ..row(
            GROUP,
            ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyList"),
            ("mutatingadmissionpolicies", "mutatingadmissionpolicy"),
            "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
        )
    },
    Resource {
        namespaced: false,
        categories: &["api-extensions"],
        columns: columns::BINDING,
        strategy: Strategy {
            validate_create: bindings::mutating,
            validate_update: |new, _| bindings::mutating(new),
            ..BINDING
        },
        ..row(
            GROUP,
            ("MutatingAdmissionPolicyBinding", "MutatingAdmissionPolicyBindingList"),
            ("mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding"),
            "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
        )
    },
    Resource {
        namespaced: false,
        categories: &["api-extensions"],
        subresources: &[STATUS],
        columns: columns::VALIDATING,
        strategy: Strategy {
            prepare_create: definitions::prepare_create,
            prepare_update: definitions::prepare_update,
            validate_create: definitions::validating,
            validate_update: |new, _| definitions::validating(new),
            validate_status_update: |new, _| definitions::status(new),
            ..DEFINITION
        },
        ..row(
            GROUP,
            ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyList"),
            ("validatingadmissionpolicies", "validatingadmissionpolicy"),
            "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
        )
    },
    Resource {
        namespaced: false,
        categories: &["api-extensions"],
        columns: columns::BINDING,
        strategy: Strategy {
            validate_create: bindings::validating,
            validate_update: |new, _| bindings::validating(new),
            ..BINDING
        },
        ..row(
            GROUP,
            ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicyBindingList"),
            ("validatingadmissionpolicybindings", "validatingadmissionpolicybinding"),
            "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
        )
    },
];
