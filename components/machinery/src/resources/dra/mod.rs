//! Rows of resource.k8s.io: dynamic resource allocation.

mod capacity;
mod claim;
mod device;
mod names;
mod offer;
mod selector;
mod slice;
mod status;

use serde_json::Value;

use super::{Cell, Column, PLAIN, Resource, STATUS, Strategy, columns, row, writing};
use crate::value::{get, list_at};

const V1: (&str, &str) = ("resource.k8s.io", "v1");

const CLAIM: &[Column] = &[columns::NAME, columns::text("State", 0, Cell::Of(claim_state)), columns::AGE];
const SLICE: &[Column] = &[
    columns::NAME,
    columns::text("Node", 0, Cell::Path("spec.nodeName")),
    columns::text("Driver", 0, Cell::Path("spec.driver")),
    columns::text("Pool", 0, Cell::Path("spec.pool.name")),
    columns::AGE,
];

fn claim_state(claim: &Value) -> Value {
    let mut states = Vec::new();
    let deleted = get(claim, "metadata.deletionTimestamp").is_some();
    if deleted {
        states.push("deleted");
    }
    if get(claim, "status.allocation").is_some() {
        states.push("allocated");
        if !list_at(claim, "status.reservedFor").is_empty() {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    states.join(",").into()
}

pub(super) static RESOURCES: &[Resource] = &[
    Resource {
        namespaced: false,
        strategy: Strategy {
            validate_create: device::class,
            validate_update: device::class_update,
            generation: true,
            ..PLAIN
        },
        ..row(
            V1,
            ("DeviceClass", "DeviceClassList"),
            ("deviceclasses", "deviceclass"),
            "io.k8s.api.resource.v1.DeviceClass",
        )
    },
    Resource {
        namespaced: false,
        subresources: &[STATUS],
        strategy: Strategy {
            default: device::taint_rule_defaults,
            prepare_create: writing::drop_status,
            prepare_update: writing::keep_status,
            validate_create: device::taint_rule,
            validate_update: device::taint_rule_update,
            validate_status_update: device::taint_rule_status,
            generation: true,
            ..PLAIN
        },
        ..row(
            V1,
            ("DeviceTaintRule", "DeviceTaintRuleList"),
            ("devicetaintrules", "devicetaintrule"),
            "io.k8s.api.resource.v1.DeviceTaintRule",
        )
    },
    Resource {
        subresources: &[STATUS],
        columns: CLAIM,
        strategy: Strategy {
            default: |claim| claim::defaults(claim.get_mut("spec")),
            prepare_create: writing::drop_status,
            prepare_update: writing::keep_status,
            validate_create: claim::validate,
            prepare_status: status::prepare,
            validate_update: claim::spec_stays,
            validate_status_update: status::validate_update,
            ..PLAIN
        },
        ..row(
            V1,
            ("ResourceClaim", "ResourceClaimList"),
            ("resourceclaims", "resourceclaim"),
            "io.k8s.api.resource.v1.ResourceClaim",
        )
    },
    Resource {
        strategy: Strategy {
            default: |template| claim::defaults(crate::value::get_mut(template, "spec.spec")),
            validate_create: claim::template,
            validate_update: claim::spec_stays,
            ..PLAIN
        },
        ..row(
            V1,
            ("ResourceClaimTemplate", "ResourceClaimTemplateList"),
            ("resourceclaimtemplates", "resourceclaimtemplate"),
            "io.k8s.api.resource.v1.ResourceClaimTemplate",
        )
    },
    Resource {
        namespaced: false,
        columns: SLICE,
        field_selectors: &[("spec.nodeName", "spec.nodeName"), ("spec.driver", "spec.driver")],
        strategy: Strategy {
            default: slice::defaults,
            validate_create: slice::validate,
            validate_update: slice::validate_update,
            generation: true,
            ..PLAIN
        },
        ..row(
            V1,
            ("ResourceSlice", "ResourceSliceList"),
            ("resourceslices", "resourceslice"),
            "io.k8s.api.resource.v1.ResourceSlice",
        )
    },
];
