//! Writes the schema definitions of all kinds that the resource table names, as JSON, from k8s-openapi's types: without descriptions,
//! which is what is needed at run time, and compressed with them, for the documents that clients seldom ask for.

use std::{env, fs, io::Write, path::Path};

use flate2::{Compression, write::GzEncoder};

use k8s_openapi::{
    api::{
        admissionregistration::v1 as admissionregistration,
        apps::v1 as apps,
        authentication::v1 as authentication,
        authorization::v1 as authorization,
        autoscaling::{v1 as autoscaling, v2 as autoscaling_v2},
        batch::v1 as batch,
        certificates::v1 as certificates,
        coordination::v1 as coordination,
        core::v1 as core,
        discovery::v1 as discovery,
        events::v1 as events,
        flowcontrol::v1 as flowcontrol,
        networking::v1 as networking,
        node::v1 as node,
        policy::v1 as policy,
        rbac::v1 as rbac,
        resource::v1 as resource,
        scheduling::v1 as scheduling,
        storage::v1 as storage,
        storagemigration::v1 as storagemigration,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions,
    apimachinery::pkg::apis::meta::v1 as meta,
    kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration,
};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;

macro_rules! register {
    ($generator:expr, $($kind:ty),* $(,)?) => { $( let _ = $generator.subschema_for::<$kind>(); )* };
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let mut generator = SchemaSettings::default().into_generator();
    core_kinds(&mut generator);
    other_kinds(&mut generator);
    let mut definitions = Value::Object(generator.take_definitions(true));
    let out = env::var_os("OUT_DIR").ok_or("cargo did not set OUT_DIR")?;
    fs::write(Path::new(&out).join("described.gz"), described(&definitions)?)?;
    strip(&mut definitions);
    fs::write(Path::new(&out).join("definitions.json"), serde_json::to_vec(&definitions)?)?;
    Ok(())
}

/// One line for each definition: its name, a tab, its JSON.
fn described(definitions: &Value) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for (name, definition) in definitions.as_object().into_iter().flatten() {
        writeln!(encoder, "{name}\t{definition}")?;
    }
    Ok(encoder.finish()?)
}

fn core_kinds(g: &mut SchemaGenerator) {
    register!(
        g,
        core::Namespace,
        core::Node,
        core::Pod,
        core::PodTemplate,
        core::Service,
        core::Endpoints,
        core::ConfigMap,
        core::Secret,
        core::ServiceAccount,
        core::PersistentVolume,
        core::PersistentVolumeClaim,
        core::Event,
        core::LimitRange,
        core::ResourceQuota,
        core::ReplicationController,
        core::Binding,
        discovery::EndpointSlice,
        apps::Deployment,
        apps::ReplicaSet,
        apps::StatefulSet,
        apps::DaemonSet,
        apps::ControllerRevision,
        batch::Job,
        batch::CronJob,
    );
}

fn other_kinds(g: &mut SchemaGenerator) {
    register!(
        g,
        storage::StorageClass,
        storage::CSINode,
        storage::CSIDriver,
        storage::VolumeAttachment,
        networking::Ingress,
        networking::IngressClass,
        networking::NetworkPolicy,
        rbac::Role,
        rbac::ClusterRole,
        rbac::RoleBinding,
        rbac::ClusterRoleBinding,
        coordination::Lease,
        certificates::CertificateSigningRequest,
        scheduling::PriorityClass,
        node::RuntimeClass,
        policy::PodDisruptionBudget,
        policy::Eviction,
        autoscaling::Scale,
        autoscaling::HorizontalPodAutoscaler,
        autoscaling_v2::HorizontalPodAutoscaler,
        core::ComponentStatus,
        events::Event,
        authentication::TokenRequest,
        authentication::TokenReview,
        authentication::SelfSubjectReview,
        authorization::SubjectAccessReview,
        authorization::SelfSubjectAccessReview,
        authorization::LocalSubjectAccessReview,
        authorization::SelfSubjectRulesReview,
        meta::APIGroup,
        meta::APIGroupList,
        meta::APIResourceList,
        meta::APIVersions,
        apiextensions::CustomResourceDefinition,
        meta::DeleteOptions,
        meta::Status,
        admissionregistration::ValidatingWebhookConfiguration,
        admissionregistration::MutatingWebhookConfiguration,
        admissionregistration::ValidatingAdmissionPolicy,
        admissionregistration::ValidatingAdmissionPolicyBinding,
        admissionregistration::MutatingAdmissionPolicy,
        admissionregistration::MutatingAdmissionPolicyBinding,
        networking::IPAddress,
        networking::ServiceCIDR,
        storage::CSIStorageCapacity,
        storage::VolumeAttributesClass,
        certificates::ClusterTrustBundle,
        certificates::PodCertificateRequest,
        flowcontrol::FlowSchema,
        flowcontrol::PriorityLevelConfiguration,
        resource::DeviceClass,
        resource::DeviceTaintRule,
        resource::ResourceClaim,
        resource::ResourceClaimTemplate,
        resource::ResourceSlice,
        storagemigration::StorageVersionMigration,
        apiregistration::APIService,
    );
}

/// Removes every description that is a text (a property may be called "description", and is an object then).
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, v| !(key == "description" && v.is_string()));
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}
