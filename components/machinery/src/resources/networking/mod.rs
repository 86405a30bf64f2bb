//! Rows of networking.k8s.io.

mod cidr;
mod class;
mod ingress;
mod policy;

use serde_json::{Value, json};

pub(super) use cidr::{interface_address, odd_range, range_text as range};

use super::{Cell, Column, NameRule, PLAIN, Resource, STATUS, Strategy, columns, meta, row, writing};
use crate::value::{list_at, str_at};

const V1: (&str, &str) = ("networking.k8s.io", "v1");

const IP_ADDRESS: &[Column] = &[columns::NAME, columns::text("ParentRef", 0, Cell::Of(parent_ref)), columns::AGE];
const SERVICE_CIDR: &[Column] =
    &[columns::NAME, columns::text("CIDRs", 0, Cell::Of(|o| joined(list_at(o, "spec.cidrs")))), columns::AGE];

fn joined(list: &[Value]) -> Value {
    list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",").into()
}

fn parent_ref(address: &Value) -> Value {
    let part = |field: &str| str_at(address, &format!("spec.parentRef.{field}"));
    if part("resource").is_empty() {
        return "<none>".into();
    }
    let group = if part("group").is_empty() { String::new() } else { format!(".{}", part("group")) };
    let place = if part("namespace").is_empty() { String::new() } else { format!("/{}", part("namespace")) };
    format!("{}{group}{place}/{}", part("resource"), part("name")).to_lowercase().into()
}

pub(super) static RESOURCES: &[Resource] = &[
    Resource {
        namespaced: false,
        columns: columns::INGRESS_CLASS,
        strategy: Strategy {
            default: class::defaults,
            validate_create: class::validate,
            validate_update: class::validate_update,
            generation: true,
            ..PLAIN
        },
        ..row(
            V1,
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
            prepare_create: |o| meta::set_status(o, json!({"loadBalancer": {}})),
            prepare_update: writing::keep_status,
            validate_create: ingress::validate_create,
            validate_update: |n, _| ingress::validate(n),
            validate_status_update: ingress::validate_status,
            generation: true,
            ..PLAIN
        },
        ..row(V1, ("Ingress", "IngressList"), ("ingresses", "ingress"), "io.k8s.api.networking.v1.Ingress")
    },
    Resource {
        short_names: &["ip"],
        namespaced: false,
        columns: IP_ADDRESS,
        strategy: Strategy {
            name: NameRule::PathSegment,
            validate_create: cidr::address,
            validate_update: cidr::address_update,
            ..PLAIN
        },
        ..row(V1, ("IPAddress", "IPAddressList"), ("ipaddresses", "ipaddress"), "io.k8s.api.networking.v1.IPAddress")
    },
    Resource {
        short_names: &["netpol"],
        columns: columns::NETWORK_POLICY,
        strategy: Strategy {
            default: policy::defaults,
            validate_create: policy::validate,
            validate_update: policy::validate_update,
            generation: true,
            ..PLAIN
        },
        ..row(
            V1,
            ("NetworkPolicy", "NetworkPolicyList"),
            ("networkpolicies", "networkpolicy"),
            "io.k8s.api.networking.v1.NetworkPolicy",
        )
    },
    Resource {
        namespaced: false,
        subresources: &[STATUS],
        columns: SERVICE_CIDR,
        strategy: Strategy {
            prepare_create: writing::drop_status,
            prepare_update: writing::keep_status,
            validate_create: cidr::range,
            validate_update: cidr::range_update,
            ..PLAIN
        },
        ..row(
            V1,
            ("ServiceCIDR", "ServiceCIDRList"),
            ("servicecidrs", "servicecidr"),
            "io.k8s.api.networking.v1.ServiceCIDR",
        )
    },
];
