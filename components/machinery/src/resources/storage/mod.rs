//! Rows of the storage group; hooks of volumes, claims and classes.

mod claim_status;
mod claims;
mod class;
mod csi;
mod volumes;
mod warnings;

pub(super) use claim_status::claim_status;
pub(super) use claims::{claim, claim_create, claim_defaults, claim_spec, claim_update};
pub(super) use csi::driver_name;
pub(super) use volumes::{volume, volume_create, volume_defaults, volume_update};
pub(super) use warnings::{claim_spec_warnings, claim_warnings, volume_warnings};

use super::{Cell, Column, PLAIN, Resource, STATUS, Strategy, columns, row, writing};
use crate::value::str_at;

const V1: (&str, &str) = ("storage.k8s.io", "v1");

const STORAGE_CAPACITY: &[Column] = &[
    columns::NAME,
    columns::text("StorageClassName", 0, Cell::Path("storageClassName")),
    columns::text("Capacity", 0, Cell::Of(|o| str_at(o, "capacity").into())),
    columns::AGE,
];
const ATTRIBUTES_CLASS: &[Column] =
    &[columns::NAME, columns::text("DriverName", 0, Cell::Path("driverName")), columns::AGE];

pub(super) static RESOURCES: &[Resource] = &[
    Resource {
        namespaced: false,
        columns: columns::CSI_DRIVER,
        strategy: Strategy {
            default: csi::driver_defaults,
            validate_create: csi::driver,
            validate_update: csi::driver_update,
            generation: true,
            ..PLAIN
        },
        ..row(V1, ("CSIDriver", "CSIDriverList"), ("csidrivers", "csidriver"), "io.k8s.api.storage.v1.CSIDriver")
    },
    Resource {
        namespaced: false,
        columns: columns::CSI_NODE,
        strategy: Strategy { validate_create: csi::node, validate_update: csi::node_update, ..PLAIN },
        ..row(V1, ("CSINode", "CSINodeList"), ("csinodes", "csinode"), "io.k8s.api.storage.v1.CSINode")
    },
    Resource {
        columns: STORAGE_CAPACITY,
        strategy: Strategy { validate_create: csi::capacity, validate_update: csi::capacity_update, ..PLAIN },
        ..row(
            V1,
            ("CSIStorageCapacity", "CSIStorageCapacityList"),
            ("csistoragecapacities", "csistoragecapacity"),
            "io.k8s.api.storage.v1.CSIStorageCapacity",
        )
    },
    Resource {
        short_names: &["sc"],
        namespaced: false,
        columns: columns::STORAGE_CLASS,
        strategy: Strategy {
            default: class::defaults,
            validate_create: class::validate,
            validate_update: class::validate_update,
            ..PLAIN
        },
        ..row(
            V1,
            ("StorageClass", "StorageClassList"),
            ("storageclasses", "storageclass"),
            "io.k8s.api.storage.v1.StorageClass",
        )
    },
    Resource {
        namespaced: false,
        subresources: &[STATUS],
        columns: columns::VOLUME_ATTACHMENT,
        strategy: Strategy {
            prepare_create: writing::drop_status,
            prepare_update: writing::keep_status,
            validate_create: csi::attachment,
            validate_update: csi::attachment_update,
            validate_status_update: csi::attachment_status,
            ..PLAIN
        },
        ..row(
            V1,
            ("VolumeAttachment", "VolumeAttachmentList"),
            ("volumeattachments", "volumeattachment"),
            "io.k8s.api.storage.v1.VolumeAttachment",
        )
    },
    Resource {
        short_names: &["vac"],
        namespaced: false,
        columns: ATTRIBUTES_CLASS,
        strategy: Strategy { validate_create: class::attributes, validate_update: class::attributes_update, ..PLAIN },
        ..row(
            V1,
            ("VolumeAttributesClass", "VolumeAttributesClassList"),
            ("volumeattributesclasses", "volumeattributesclass"),
            "io.k8s.api.storage.v1.VolumeAttributesClass",
        )
    },
];
