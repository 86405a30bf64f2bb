//! Rows of the webhook configurations (admissionregistration.k8s.io).

pub(super) mod webhooks;

use super::{Cell, Column, PLAIN, Resource, Strategy, columns, row};
use crate::value::list_at;

const V1: (&str, &str) = ("admissionregistration.k8s.io", "v1");

const WEBHOOKS: &[Column] = &[
    columns::NAME,
    Column { kind: "integer", ..columns::text("Webhooks", 0, Cell::Of(|o| list_at(o, "webhooks").len().into())) },
    columns::AGE,
];

pub(super) static RESOURCES: &[Resource] = &[
    Resource {
        namespaced: false,
        categories: &["api-extensions"],
        columns: WEBHOOKS,
        strategy: Strategy {
            default: |o| webhooks::defaults(o, true),
            validate_create: |o| webhooks::validate(o, true),
            validate_update: |n, o| webhooks::validate_update(n, o, true),
            generation: true,
            ..PLAIN
        },
        ..row(
            V1,
            ("MutatingWebhookConfiguration", "MutatingWebhookConfigurationList"),
            ("mutatingwebhookconfigurations", "mutatingwebhookconfiguration"),
            "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
        )
    },
    Resource {
        namespaced: false,
        categories: &["api-extensions"],
        columns: WEBHOOKS,
        strategy: Strategy {
            default: |o| webhooks::defaults(o, false),
            validate_create: |o| webhooks::validate(o, false),
            validate_update: |n, o| webhooks::validate_update(n, o, false),
            generation: true,
            ..PLAIN
        },
        ..row(
            V1,
            ("ValidatingWebhookConfiguration", "ValidatingWebhookConfigurationList"),
            ("validatingwebhookconfigurations", "validatingwebhookconfiguration"),
            "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
        )
    },
];
