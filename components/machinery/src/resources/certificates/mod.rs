//! Rows of certificates.k8s.io.

mod bundle;
mod pod_request;
mod request;

pub(super) use bundle::name_problems as bundle_name_problems;
pub(super) use request::signer_name;

use super::{Cell, Column, NameRule, PLAIN, Resource, STATUS, Strategy, Subresource, columns, row, writing};
use crate::value::str_at;

const V1: (&str, &str) = ("certificates.k8s.io", "v1");
const APPROVAL: Subresource =
    Subresource { name: "approval", group: "", version: "", kind: "", verbs: &["get", "patch", "update"] };

const BUNDLE: &[Column] =
    &[columns::NAME, columns::text("SignerName", 0, Cell::Of(|o| str_at(o, "spec.signerName").into()))];
const POD_REQUEST: &[Column] = &[
    columns::NAME,
    columns::text("PodName", 0, Cell::Path("spec.podName")),
    columns::text("ServiceAccountName", 0, Cell::Path("spec.serviceAccountName")),
    columns::text("NodeName", 0, Cell::Path("spec.nodeName")),
    columns::text("SignerName", 0, Cell::Path("spec.signerName")),
    columns::text("State", 0, Cell::Of(pod_request::state)),
    columns::AGE,
];

pub(super) static RESOURCES: &[Resource] = &[
    Resource {
        short_names: &["csr"],
        namespaced: false,
        subresources: &[APPROVAL, STATUS],
        columns: columns::CSR,
        field_selectors: &[("spec.signerName", "spec.signerName")],
        strategy: Strategy {
            prepare_create: writing::drop_status,
            prepare_update: writing::keep_spec_and_status,
            validate_create: request::csr,
            validate_status_update: request::csr_status_update,
            ..PLAIN
        },
        ..row(
            V1,
            ("CertificateSigningRequest", "CertificateSigningRequestList"),
            ("certificatesigningrequests", "certificatesigningrequest"),
            "io.k8s.api.certificates.v1.CertificateSigningRequest",
        )
    },
    Resource {
        namespaced: false,
        columns: BUNDLE,
        field_selectors: &[("spec.signerName", "spec.signerName")],
        strategy: Strategy {
            // those of a signer have colons in them
            name: NameRule::PathSegment,
            validate_create: bundle::validate,
            validate_update: bundle::validate_update,
            ..PLAIN
        },
        ..row(
            V1,
            ("ClusterTrustBundle", "ClusterTrustBundleList"),
            ("clustertrustbundles", "clustertrustbundle"),
            "io.k8s.api.certificates.v1.ClusterTrustBundle",
        )
    },
    Resource {
        subresources: &[STATUS],
        columns: POD_REQUEST,
        field_selectors: &[
            ("spec.signerName", "spec.signerName"),
            ("spec.podName", "spec.podName"),
            ("spec.nodeName", "spec.nodeName"),
        ],
        strategy: Strategy {
            default: pod_request::defaults,
            prepare_create: writing::drop_status,
            prepare_update: writing::keep_status,
            validate_create: pod_request::validate,
            validate_update: pod_request::validate_update,
            validate_status_update: pod_request::validate_status_update,
            ..PLAIN
        },
        ..row(
            V1,
            ("PodCertificateRequest", "PodCertificateRequestList"),
            ("podcertificaterequests", "podcertificaterequest"),
            "io.k8s.api.certificates.v1.PodCertificateRequest",
        )
    },
];
