//! Delete: preconditions, grace, finalizers, propagation.

use ::time::OffsetDateTime;
use http::StatusCode;
use machinery::{
    ApiError, FieldError, Path, time,
    value::{int_at, list_at, str_at},
};
use serde_json::{Value, json};

use super::{Target, decode, list, options, respond, selection::Selection, update};
use crate::{
    admission::{self, Attempt, Operation},
    http::{Request, Response, respond as answer},
    pipeline::Call,
    registry::{self, Write, WriteError},
    services,
};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Kinds whose delete answers with the object.
const RETURNED: &[&str] = &[
    "pods",
    "services",
    "serviceaccounts",
    "persistentvolumes",
    "persistentvolumeclaims",
    "podtemplates",
    "resourcequotas",
    "storageclasses",
    "csinodes",
];

/// `metav1.DeleteOptions`, from body or query.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub grace: Option<i64>,
    pub uid: Option<String>,
    pub revision: Option<String>,
    pub propagation: Option<String>,
    pub dry_run: bool,
    /// Admission has spoken already: an eviction is no delete to it.
    pub admitted: bool,
}

impl DeleteOptions {
    async fn read(call: &Call, request: Request) -> Result<Self, ApiError> {
        let body = decode::any(request).await?.unwrap_or(Value::Null);
        let text = |key: &str| Some(str_at(&body, key)).filter(|t| !t.is_empty()).map(str::to_owned);
        let mut options = DeleteOptions {
            grace: int_at(&body, "gracePeriodSeconds"),
            uid: text("preconditions.uid"),
            revision: text("preconditions.resourceVersion"),
            propagation: text("propagationPolicy"),
            dry_run: list_at(&body, "dryRun").iter().any(|v| v == "All") || call.query.dry_run()?,
            admitted: false,
        };
        if options.grace.is_none() {
            options.grace = call.query.number("gracePeriodSeconds")?;
        }
        if options.propagation.is_none() {
            options.propagation = call.query.get("propagationPolicy").map(str::to_owned);
        }
        let orphan =
            body["orphanDependents"].as_bool().or_else(|| call.query.get("orphanDependents").map(|v| v == "true"));
        options.check_propagation(orphan)?;
        if let (None, Some(orphan)) = (&options.propagation, orphan) {
            options.propagation = Some(if orphan { "Orphan" } else { "Background" }.into());
        }
        Ok(options)
    }
}

impl DeleteOptions {
    fn check_propagation(&self, orphan: Option<bool>) -> Result<(), ApiError> {
        let Some(policy) = &self.propagation else { return Ok(()) };
        let path = Path::new("propagationPolicy");
        let mut errors = Vec::new();
        if orphan.is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&path, policy.as_str(), why));
        }
        if !["Foreground", "Background", "Orphan"].contains(&policy.as_str()) {
            let known = &["Foreground", "Background", "Orphan", "nil"];
            errors.push(FieldError::not_supported(&path, policy.as_str(), known));
        }
        if errors.is_empty() { Ok(()) } else { Err(options::refuse("DeleteOptions", &errors)) }
    }
}

/// What became of the object.
pub enum Outcome {
    Removed(Value),
    /// It stays until grace or finalizers are over.
    Waiting(Value),
}

impl Outcome {
    fn object(&self) -> &Value {
        match self {
            Outcome::Removed(object) | Outcome::Waiting(object) => object,
        }
    }
}

pub async fn delete(call: &Call, target: &Target, request: Request) -> Result<Response, ApiError> {
    let options = DeleteOptions::read(call, request).await?;
    let outcome = delete_object(call, target, &options).await?;
    let uid = str_at(outcome.object(), "metadata.uid");
    let value = match &outcome {
        Outcome::Removed(_) if !RETURNED.contains(&target.resource.plural) => respond::deleted(target, uid),
        other => other.object().clone(),
    };
    Ok(answer::value(StatusCode::OK, call.accept.syntax, &value))
}

pub async fn collection(call: &Call, target: &Target, request: Request) -> Result<Response, ApiError> {
    let options = DeleteOptions::read(call, request).await?;
    let page = list::page(call, target, &Selection::of(call, target)?).await?;
    for kv in &page.items {
        let object = registry::decode(&target.resource, &kv.value, kv.mod_revision)?;
        let one = Target { name: str_at(&object, "metadata.name").to_owned(), ..target.clone() };
        match delete_object(call, &one, &options).await {
            Err(error) if error.code != 404 => return Err(error),
            _ => {}
        }
    }
    list::answer_typed(call, target, &page)
}

/// Deletes, or marks as being deleted; tries again when somebody else writes meanwhile.
pub async fn delete_object(call: &Call, target: &Target, options: &DeleteOptions) -> Result<Outcome, ApiError> {
    let (core, resource) = (&call.core, &*target.resource);
    let mut lost = 0;
    loop {
        let current = registry::read(core, resource, &target.namespace, &target.name).await?;
        let old = &current.object;
        check_preconditions(target, options, old)?;
        if !options.admitted {
            let attempt = Attempt::new(call, target, Operation::Delete, "", Some(old)).dry_run(options.dry_run);
            admission::admit(&attempt, &mut old.clone()).await?;
            admission::review(&attempt, old).await?;
        }
        let new = mark(target, options, old);
        let removed = update::is_finished(target, &new);
        if options.dry_run || (!removed && new == *old) {
            return Ok(if removed { Outcome::Removed(new) } else { Outcome::Waiting(new) });
        }
        let claims = if removed { services::release(core, target, old).await? } else { Vec::new() };
        let write = Write { resource, namespace: &target.namespace, name: &target.name, claims };
        let written = if removed {
            write.delete(core, current.revision).await
        } else {
            write.put(core, &new, Some(current.revision)).await.map(|(_, revision)| revision)
        };
        match written {
            Ok(revision) => {
                // what goes away is shown as it was last stored
                let mut object = if removed { old.clone() } else { new };
                object["metadata"]["resourceVersion"] = revision.to_string().into();
                return Ok(if removed { Outcome::Removed(object) } else { Outcome::Waiting(object) });
            }
            Err(WriteError::Lost | WriteError::Taken(_)) => {
                lost += 1;
                update::back_off(lost).await;
            }
            Err(WriteError::Failed(error)) => return Err(error),
        }
    }
}

pub fn check_preconditions(target: &Target, options: &DeleteOptions, object: &Value) -> Result<(), ApiError> {
    let differs = |wanted: &Option<String>, field: &str, what: &str| {
        let actual = str_at(object, field);
        wanted
            .as_deref()
            .filter(|w| *w != actual)
            .map(|w| format!("Precondition failed: {what} in precondition: {w}, {what} in object meta: {actual}"))
    };
    let why = differs(&options.uid, "metadata.uid", "UID")
        .or_else(|| differs(&options.revision, "metadata.resourceVersion", "ResourceVersion"));
    match why {
        Some(why) => Err(ApiError::conflict(target.resource.group, target.resource.plural, &target.name, &why)),
        None => Ok(()),
    }
}

/// The object with deletion timestamp, grace and propagation finalizers as the request wants them.
fn mark(target: &Target, options: &DeleteOptions, old: &Value) -> Value {
    let mut new = old.clone();
    let grace = grace(target, options, old);
    let metadata = &mut new["metadata"];
    let already = !str_at(metadata, "deletionTimestamp").is_empty();
    let running = int_at(metadata, "deletionGracePeriodSeconds").unwrap_or(0);
    if !already || grace < running {
        let base = time::parse(str_at(metadata, "deletionTimestamp"))
            .map_or_else(OffsetDateTime::now_utc, |at| at - ::time::Duration::seconds(running));
        metadata["deletionTimestamp"] = time::rfc3339(base + ::time::Duration::seconds(grace)).into();
        metadata["deletionGracePeriodSeconds"] = grace.into();
        if let Some(generation) = int_at(metadata, "generation").filter(|_| !already) {
            metadata["generation"] = (generation + 1).into();
        }
    }
    set_finalizers(metadata, options.propagation.as_deref());
    if !already {
        (target.resource.strategy.prepare_delete)(&mut new);
    }
    if target.resource.plural == "namespaces" && !already {
        new["status"] = json!({"phase": "Terminating"});
    }
    new
}

/// Only pods that a kubelet runs get time to stop.
fn grace(target: &Target, options: &DeleteOptions, object: &Value) -> i64 {
    if target.resource.plural != "pods" {
        return 0;
    }
    let wanted = match options.grace.or_else(|| int_at(object, "spec.terminationGracePeriodSeconds")) {
        Some(negative) if negative < 0 => 1,
        // years are enough, and no date overflows
        Some(seconds) => seconds.min(i32::MAX.into()),
        None => 30,
    };
    let idle =
        str_at(object, "spec.nodeName").is_empty() || matches!(str_at(object, "status.phase"), "Succeeded" | "Failed");
    if idle { 0 } else { wanted }
}

fn set_finalizers(metadata: &mut Value, propagation: Option<&str>) {
    let Some(policy) = propagation else { return };
    let mut finalizers: Vec<Value> =
        list_at(metadata, "finalizers").iter().filter(|f| *f != ORPHAN && *f != FOREGROUND).cloned().collect();
    match policy {
        "Orphan" => finalizers.push(ORPHAN.into()),
        "Foreground" => finalizers.push(FOREGROUND.into()),
        _ => {}
    }
    match (finalizers.is_empty(), metadata.as_object_mut()) {
        (true, Some(map)) => drop(map.remove("finalizers")),
        (false, Some(map)) => drop(map.insert("finalizers".into(), finalizers.into())),
        _ => {}
    }
}
