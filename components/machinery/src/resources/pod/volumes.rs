//! Validation of a pod's volumes (kubernetes `ValidateVolumes`); what PersistentVolumes have too is in `sources`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Subject, env, resources,
    sources::{self, Owner, all_required, below, file, required},
};
use crate::{
    field::{FieldError, Path},
    names,
    resources::{certificates, meta},
    value::{get, int_at, list_at, str_at},
};

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];

/// The volumes that are in order, by name, and what is wrong with the others.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

pub(super) fn validate<'a>(spec: &'a Value, subject: Subject, path: &Path) -> (Volumes<'a>, Vec<FieldError>) {
    let mut errors = Vec::new();
    let mut known = Volumes::new();
    let list = list_at(spec, "volumes");
    // the claims that will be made for this pod
    let made: BTreeSet<String> = list
        .iter()
        .filter(|v| !subject.pod_name.is_empty() && v.get("ephemeral").is_some())
        .map(|v| format!("{}-{}", subject.pod_name, str_at(v, "name")))
        .collect();
    for (i, volume) in list.iter().enumerate() {
        let at = path.index(i);
        let name = str_at(volume, "name");
        let mut found = sources(volume, subject, &at);
        if name.is_empty() {
            found.push(FieldError::required(&at.child("name"), ""));
        } else {
            found.extend(FieldError::each_invalid(&at.child("name"), name, names::dns1123_label(name)));
        }
        if known.contains_key(name) {
            found.push(FieldError::duplicate(&at.child("name"), name));
        }
        if found.is_empty() {
            known.insert(name, volume);
        }
        errors.extend(found);
        if let Some(claim) = get(volume, "persistentVolumeClaim.claimName").and_then(Value::as_str)
            && made.contains(claim)
        {
            let at = at.child("persistentVolumeClaim").child("claimName");
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.push(FieldError::invalid(&at, claim, detail));
        }
    }
    (known, errors)
}

/// Upstream's order, with the names it shows for a source in error and for one too many where those are not the field's own.
const KINDS: &[(&str, &str, &str)] = &[
    ("emptyDir", "", ""),
    ("hostPath", "", ""),
    ("gitRepo", "", ""),
    ("gcePersistentDisk", "persistentDisk", ""),
    ("awsElasticBlockStore", "", ""),
    ("secret", "", ""),
    ("nfs", "", ""),
    ("iscsi", "", ""),
    ("glusterfs", "", ""),
    ("flocker", "", ""),
    ("persistentVolumeClaim", "", ""),
    ("rbd", "", ""),
    ("cinder", "", ""),
    ("cephfs", "", "cephFS"),
    ("quobyte", "", ""),
    ("downwardAPI", "", "downwarAPI"),
    ("fc", "", ""),
    ("flexVolume", "", ""),
    ("configMap", "", ""),
    ("azureFile", "", ""),
    ("vsphereVolume", "", ""),
    ("photonPersistentDisk", "", ""),
    ("portworxVolume", "", ""),
    ("azureDisk", "", ""),
    ("storageos", "", ""),
    ("projected", "", ""),
    ("scaleIO", "", ""),
    ("csi", "", ""),
    ("ephemeral", "", ""),
    ("image", "", ""),
];

fn or<'a>(shown: &'a str, field: &'a str) -> &'a str {
    if shown.is_empty() { field } else { shown }
}

/// The first source that is set is checked, every other one is too many.
fn sources(volume: &Value, subject: Subject, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut any = false;
    for (kind, shown, shown_extra) in KINDS {
        let Some(source) = volume.get(*kind) else { continue };
        if any {
            let at = path.child(or(shown_extra, kind));
            errors.push(FieldError::forbidden(&at, "may not specify more than 1 volume type"));
        } else {
            any = true;
            errors.extend(one_source(kind, source, subject, &path.child(or(shown, kind))));
            if *kind == "ephemeral" {
                errors.extend(claim_name(str_at(volume, "name"), subject, path));
            }
        }
        if *kind == "iscsi" {
            errors.extend(session_name(volume, source, path));
        }
    }
    if !any {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
    errors
}

/// The claim that will be made is named after both.
fn claim_name(volume: &str, subject: Subject, path: &Path) -> Vec<FieldError> {
    if subject.pod_name.is_empty() || volume.is_empty() {
        return Vec::new();
    }
    let claim = format!("{}-{volume}", subject.pod_name);
    let problems = names::dns1123_subdomain(&claim);
    problems
        .into_iter()
        .map(|p| FieldError::invalid(&path.child("name"), volume, format!("PVC name \"{claim}\": {p}")))
        .collect()
}

/// An initiator of one's own gets a name made of the volume's and the portal.
fn session_name(volume: &Value, source: &Value, path: &Path) -> Option<FieldError> {
    let name = str_at(volume, "name");
    source.get("initiatorName")?;
    (name.len() + 1 + str_at(source, "targetPortal").len() > 64).then(|| {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        FieldError::invalid(&path.child("name"), name, detail)
    })
}

fn one_source(kind: &str, source: &Value, subject: Subject, path: &Path) -> Vec<FieldError> {
    match kind {
        "emptyDir" => empty_dir(source, path).into_iter().collect(),
        "secret" => with_files(source, "secretName", path),
        "configMap" => with_files(source, "name", path),
        "downwardAPI" => {
            let mut errors: Vec<FieldError> = mode(source, "defaultMode", path).into_iter().collect();
            errors.extend(list_at(source, "items").iter().flat_map(|item| downward_file(item, path)));
            errors
        }
        "projected" => projected(source, path),
        "persistentVolumeClaim" => all_required(source, &["claimName"], path),
        "csi" => csi(source, path),
        "ephemeral" => ephemeral(source, path),
        "image" => image(source, subject, path),
        "gitRepo" => {
            let mut errors = all_required(source, &["repository"], path);
            errors.extend(below(str_at(source, "directory"), &path.child("directory")));
            errors
        }
        _ => sources::check(kind, source, Owner::Pod, path),
    }
}

fn empty_dir(source: &Value, path: &Path) -> Option<FieldError> {
    let at = path.child("sizeLimit");
    resources::amount(get(source, "sizeLimit")?, &at)
        .is_err()
        .then(|| FieldError::forbidden(&at, "SizeLimit field must be a valid resource quantity"))
}

fn csi(source: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = sources::driver_name(str_at(source, "driver"), &path.child("driver"));
    if let Some(secret) = source.get("nodePublishSecretRef") {
        match str_at(secret, "name") {
            "" => errors.extend(required(secret, "name", &path.child("nodePublishSecretRef"))),
            name => errors.extend(FieldError::each_invalid(&path.child("name"), name, names::dns1123_subdomain(name))),
        }
    }
    errors
}

fn ephemeral(source: &Value, path: &Path) -> Vec<FieldError> {
    let at = path.child("volumeClaimTemplate");
    match source.get("volumeClaimTemplate") {
        None => vec![FieldError::required(&at, "")],
        Some(template) => {
            let mut errors = template_metadata(template, &at.child("metadata"));
            let spec = template.get("spec").unwrap_or(&Value::Null);
            errors.extend(crate::resources::storage::claim_spec(spec, &at.child("spec")));
            errors
        }
    }
}

/// Only labels and annotations mean something in a template (`ValidateTemplateObjectMeta`).
pub(in crate::resources) fn template_metadata(template: &Value, path: &Path) -> Vec<FieldError> {
    const OTHERS: &[&str] = &[
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "ownerReferences",
        "finalizers",
        "managedFields",
    ];
    let mut errors = meta::annotations(get(template, "metadata.annotations"), &path.child("annotations"));
    errors.extend(meta::labels(get(template, "metadata.labels"), &path.child("labels")));
    let set = |field: &&&str| {
        template.get("metadata").and_then(|m| m.get(**field)).is_some_and(|v| {
            !v.is_null()
                && v.as_str() != Some("")
                && v.as_i64() != Some(0)
                && v.as_array().is_none_or(|l| !l.is_empty())
        })
    };
    errors.extend(OTHERS.iter().filter(set).map(|field| FieldError::forbidden(&path.child(field), "cannot be set")));
    errors
}

fn image(source: &Value, subject: Subject, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if subject.is_pod {
        errors.extend(required(source, "reference", path));
    }
    errors.extend(meta::one_of(source, "pullPolicy", path, PULL_POLICIES));
    errors
}

pub(super) fn mode(source: &Value, field: &str, path: &Path) -> Option<FieldError> {
    let mode = int_at(source, field)?;
    (!(0..=0o777).contains(&mode)).then(|| FieldError::invalid(&path.child(field), mode, MODE))
}

fn with_files(source: &Value, name: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = all_required(source, &[name], path);
    errors.extend(mode(source, "defaultMode", path));
    errors.extend(items(source, path).into_iter().flatten());
    errors
}

/// What is wrong with each of the items.
fn items(source: &Value, path: &Path) -> Vec<Vec<FieldError>> {
    let each = list_at(source, "items").iter().enumerate().map(|(i, item)| {
        let at = path.child("items").index(i);
        let mut errors = all_required(item, &["key", "path"], &at);
        errors.extend(file(str_at(item, "path"), &at.child("path")));
        errors.extend(mode(item, "mode", &at));
        errors
    });
    each.collect()
}

/// Upstream shows the whole list's path.
fn downward_file(item: &Value, path: &Path) -> Vec<FieldError> {
    const FIELDS: &[&str] =
        &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
    let mut errors: Vec<FieldError> = required(item, "path", path).into_iter().collect();
    errors.extend(file(str_at(item, "path"), &path.child("path")));
    match (item.get("fieldRef"), item.get("resourceFieldRef")) {
        (Some(field), other) => {
            errors.extend(env::field_ref(field, FIELDS, &path.child("fieldRef")));
            if other.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(path, "resource", detail));
            }
        }
        (None, Some(resource)) => {
            errors.extend(env::resource_ref(resource, true, &path.child("resourceFieldRef")));
        }
        (None, None) => errors.push(FieldError::required(path, "one of fieldRef and resourceFieldRef is required")),
    }
    errors.extend(mode(item, "mode", path));
    errors
}

/// The files of a projected volume as they come together.
struct Files<'a> {
    paths: BTreeSet<&'a str>,
    path: &'a Path,
    errors: Vec<FieldError>,
}

impl<'a> Files<'a> {
    /// Upstream shows the name of the source where it has one.
    fn take(&mut self, path: &'a str, shown: &str) {
        if !path.is_empty() && !self.paths.insert(path) {
            self.errors.push(FieldError::invalid(self.path, shown, "conflicting duplicate paths"));
        }
    }
}

fn projected(source: &Value, path: &Path) -> Vec<FieldError> {
    let errors = mode(source, "defaultMode", path).into_iter().collect();
    let mut files = Files { paths: BTreeSet::new(), path, errors };
    for (i, part) in list_at(source, "sources").iter().enumerate() {
        let at = path.child("sources").index(i);
        let mut found = 0;
        for kind in
            ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"]
        {
            let Some(source) = part.get(kind) else { continue };
            found += 1;
            projection(kind, source, &mut files, &at.child(kind));
        }
        if found > 1 {
            files.errors.push(FieldError::forbidden(&at, "may not specify more than 1 volume type per source"));
        }
    }
    files.errors
}

fn projection<'a>(kind: &str, part: &'a Value, files: &mut Files<'a>, path: &Path) {
    match kind {
        "secret" | "configMap" => {
            files.errors.extend(required(part, "name", path));
            for (item, errors) in list_at(part, "items").iter().zip(items(part, path)) {
                files.errors.extend(errors);
                files.take(str_at(item, "path"), str_at(part, "name"));
            }
        }
        "downwardAPI" => {
            for item in list_at(part, "items") {
                files.errors.extend(downward_file(item, path));
                files.take(str_at(item, "path"), str_at(item, "path"));
            }
        }
        "serviceAccountToken" => files.errors.extend(token(part, path, files.path)),
        "clusterTrustBundle" => {
            files.errors.extend(trust_bundle(part, path));
            files.take(str_at(part, "path"), str_at(part, "path"));
        }
        _ => {
            files.errors.extend(pod_certificate(part, path));
            for field in CERTIFICATE_FILES {
                files.take(str_at(part, field), str_at(part, field));
            }
        }
    }
}

/// `volume` is the path of the projected volume, which upstream shows for the token's file.
fn token(part: &Value, path: &Path, volume: &Path) -> Vec<FieldError> {
    const MIN: i64 = 600;
    const MAX: i64 = 1 << 32;
    let at = path.child("expirationSeconds");
    let seconds = int_at(part, "expirationSeconds").unwrap_or(0);
    let mut errors = Vec::new();
    if seconds < MIN {
        errors.push(FieldError::invalid(&at, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > MAX {
        errors.push(FieldError::invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    match str_at(part, "path") {
        "" => errors.push(FieldError::required(&volume.child("path"), "")),
        text => errors.extend(file(text, &volume.child("path"))),
    }
    errors
}

fn trust_bundle(part: &Value, path: &Path) -> Vec<FieldError> {
    let text = |field: &str| part.get(field).and_then(Value::as_str);
    let mut errors = Vec::new();
    match (text("name"), text("signerName")) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::invalid(path, part.clone(), "only one of name and signerName may be used"));
        }
        (Some(name), None) => {
            let at = path.child("name");
            if name.is_empty() {
                errors.push(FieldError::required(&at, "must be a valid object name"));
            }
            let problems = certificates::bundle_name_problems(name);
            let details = problems.into_iter().map(|p| format!("not a valid clustertrustbundlename: {p}"));
            errors.extend(details.map(|detail| FieldError::invalid(&at, name, detail)));
            if let Some(selector) = part.get("labelSelector") {
                let detail = "labelSelector must be unset if name is specified";
                errors.push(FieldError::invalid(&path.child("labelSelector"), selector.clone(), detail));
            }
        }
        (None, Some(signer)) => {
            let at = path.child("signerName");
            if signer.is_empty() {
                errors.push(FieldError::required(&at, "must be a valid signer name"));
            }
            errors.extend(certificates::signer_name(signer, &at));
            errors.extend(meta::label_selector(part.get("labelSelector"), &path.child("labelSelector")));
        }
        (None, None) => errors.push(FieldError::required(path, "either name or signerName must be specified")),
    }
    errors.extend(required(part, "path", path));
    errors.extend(file(str_at(part, "path"), &path.child("path")));
    errors
}

const CERTIFICATE_FILES: [&str; 3] = ["credentialBundlePath", "keyPath", "certificateChainPath"];

/// KEP-4317.
fn pod_certificate(part: &Value, path: &Path) -> Vec<FieldError> {
    const KEY_TYPES: &[&str] = &["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    const HOUR: i64 = 3600;
    const LONGEST: i64 = 91 * 24 * HOUR;
    let mut errors: Vec<FieldError> = required(part, "signerName", path).into_iter().collect();
    match str_at(part, "keyType") {
        "" => errors.extend(required(part, "keyType", path)),
        kind if !KEY_TYPES.contains(&kind) => {
            errors.push(FieldError::not_supported(&path.child("keyType"), kind, KEY_TYPES));
        }
        _ => {}
    }
    let at = path.child("maxExpirationSeconds");
    match int_at(part, "maxExpirationSeconds") {
        Some(s) if s < HOUR => {
            let detail = format!("if provided, maxExpirationSeconds must be greater than or equal to {HOUR}");
            errors.push(FieldError::invalid(&at, s, detail));
        }
        Some(s) if s > LONGEST => {
            let detail = format!("if provided, maxExpirationSeconds must be less than or equal to {LONGEST}");
            errors.push(FieldError::invalid(&at, s, detail));
        }
        _ => {}
    }
    let files: Vec<&str> = CERTIFICATE_FILES.into_iter().filter(|name| !str_at(part, name).is_empty()).collect();
    if files.is_empty() {
        let detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.push(FieldError::required(path, detail));
    }
    errors.extend(files.into_iter().flat_map(|name| file(str_at(part, name), &path.child(name))));
    errors
}
