//! Rows of the storage group; hooks of volumes, claims and classes.

mod class;
mod volumes;

pub(super) use volumes::{
    claim, claim_create, claim_defaults, claim_update, volume, volume_create, volume_defaults, volume_update,
};

use super::{PLAIN, Resource, STATUS, Strategy, columns, row, writing};

const V1: (&str, &str) = ("storage.k8s.io", "v1");

pub(super) static RESOURCES: &[Resource] = &[
    Resource {
        namespaced: false,
        columns: columns::CSI_DRIVER,
        strategy: Strategy {
            default: class::driver_defaults,
            validate_create: class::driver,
            validate_update: class::driver_update,
            generation: true,
            ..PLAIN
        },
        ..row(V1, ("CSIDriver", "CSIDriverList"), ("csidrivers", "csidriver"), "io.k8s.api.storage.v1.CSIDriver")
    },
    Resource {
        namespaced: false,
        columns: columns::CSI_NODE,
        ..row(V1, ("CSINode", "CSINodeList"), ("csinodes", "csinode"), "io.k8s.api.storage.v1.CSINode")
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
            validate_create: class::attachment,
            validate_update: class::attachment_update,
            ..PLAIN
        },
        ..row(
            V1,
            ("VolumeAttachment", "VolumeAttachmentList"),
            ("volumeattachments", "volumeattachment"),
            "io.k8s.api.storage.v1.VolumeAttachment",
        )
    },
];
