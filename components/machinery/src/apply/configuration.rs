//! Server-side apply: an object becomes what a configuration says, as far as the configuration's manager says it.

use std::{borrow::Cow, sync::LazyLock};

use serde_json::{Map, Value};

use super::{
    compare::compare,
    conflict::{self, Conflict},
    fields::{mentioned, with_named_fields},
    managers::{self, Entry, Operation, Writer},
    merge::merge,
    remove::remove,
    set::FieldSet,
    shape::Shape,
    update::{self, Rules, put_managed_fields},
    validate::validate,
};
use crate::{ApiError, value::str_at};

/// Owns what an object had before anybody's ownership was written down.
const BEFORE: &str = "before-first-apply";
/// The manager whose client-side applies become server-side ones.
const KUBECTL: &str = "kubectl";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Of all annotations together; a longer last-applied annotation is dropped.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Why a configuration was not applied.
#[derive(Clone, Debug, PartialEq)]
pub enum ApplyError {
    Conflicts(Vec<Conflict>),
    /// The request makes no sense.
    BadRequest(String),
    /// The configuration does not fit the kind; upstream answers 500 without a reason.
    Unfit(String),
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Conflicts(conflicts) => conflict::error(&conflicts),
            ApplyError::BadRequest(text) => ApiError::bad_request(text),
            ApplyError::Unfit(text) => ApiError::new(500, "", text),
        }
    }
}

/// What is applied.
#[derive(Clone, Copy)]
pub struct Configuration<'a> {
    pub object: &'a Value,
    /// Take over what others own.
    pub force: bool,
    /// `group/version` and kind that the request is for.
    pub api_version: &'a str,
    pub kind: &'a str,
}

/// Go's text of a group, version and kind.
fn gvk(api_version: &str, kind: &str) -> String {
    match api_version.contains('/') {
        true => format!("{api_version}, Kind={kind}"),
        false => format!("/{api_version}, Kind={kind}"),
    }
}

fn check(config: &Configuration, rules: &Rules) -> Result<(), ApplyError> {
    let text = |path: &str| str_at(config.object, path);
    let given = (text("apiVersion"), text("kind"));
    if given.1 != config.kind || (given.0 != config.api_version && group(given.0) != group(config.api_version)) {
        return Err(ApplyError::BadRequest(format!("invalid object type: {}", gvk(given.0, given.1))));
    }
    if given.0 != config.api_version {
        return Err(ApplyError::BadRequest(format!(
            "Incorrect version specified in apply patch. Specified patch version: {}, expected: {}",
            given.0, config.api_version
        )));
    }
    if config.object.get("metadata").and_then(|m| m.get("managedFields")).is_some_and(|it| !it.is_null()) {
        return Err(ApplyError::BadRequest("metadata.managedFields must be nil".into()));
    }
    validate(config.object, rules.shape).map_err(|problem| {
        let (namespace, name) = (text("metadata.namespace"), text("metadata.name"));
        let what = gvk(config.api_version, config.kind);
        ApplyError::Unfit(format!("failed to create typed patch object ({namespace}/{name}; {what}): {problem}"))
    })
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// `live` (`None`: nothing is there yet) with the configuration applied, `managedFields` included.
pub fn apply(
    live: Option<&Value>,
    config: &Configuration,
    writer: &Writer,
    rules: &Rules,
) -> Result<Value, ApplyError> {
    static NOTHING: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
    check(config, rules)?;
    let mut base = Cow::Borrowed(live.unwrap_or(&NOTHING));
    let stored = base.get("metadata").and_then(|m| m.get("managedFields")).cloned();
    let has_managers = stored.is_some();
    let mut entries = managers::decode(stored.unwrap_or_default())
        .map_err(|e| ApplyError::Unfit(format!("failed to decode managed fields: {e}")))?;
    if has_managers {
        update::take_managed_fields(base.to_mut());
    }
    if entries.is_empty() && live.is_some() {
        let before = Writer { manager: BEFORE, subresource: "", ..*writer };
        update::own(&NOTHING, &base, &before, rules, &mut entries);
    }
    let mut applied = attempt(&base, config, config.force, writer, rules, &entries);
    if let Err(ApplyError::Conflicts(conflicts)) = &applied
        && writer.manager == KUBECTL
        && let Some(allowed) = last_applied(&base, config, rules)
    {
        let left: Vec<Conflict> = conflicts.iter().filter(|c| !allowed.has(&c.path)).cloned().collect();
        applied = if left.is_empty() {
            attempt(&base, config, true, writer, rules, &entries)
        } else {
            Err(ApplyError::Conflicts(left))
        };
    }
    let (mut object, entries) = applied?;
    if writer.manager == KUBECTL {
        renew_last_applied(&mut object, config.object);
    }
    put_managed_fields(&mut object, entries);
    Ok(object)
}

fn attempt(
    live: &Value,
    config: &Configuration,
    force: bool,
    writer: &Writer,
    rules: &Rules,
    entries: &[Entry],
) -> Result<(Value, Vec<Entry>), ApplyError> {
    let mut entries = entries.to_vec();
    update::reconcile(live, writer, rules, &mut entries);
    let merged = merge(live, config.object, rules.shape);
    let mut fields = mentioned(config.object, rules.shape);
    fields.subtract_trees(rules.reset);

    let mine = entries.iter().position(|entry| entry.is_of(writer, Operation::Apply));
    let (mine, last) = match mine {
        Some(at) => {
            let last = entries[at].clone();
            entries[at].set_fields(fields);
            writer.api_version.clone_into(&mut entries[at].api_version);
            (at, Some(last))
        }
        None => {
            entries.push(Entry::new(writer, Operation::Apply, fields));
            (entries.len() - 1, None)
        }
    };
    let object = match last.clone() {
        Some(last) => prune(merged, last, &mut entries, mine, writer, rules),
        None => merged,
    };
    update::settle(live, &object, writer, rules, &mut entries, Some(mine), force).map_err(ApplyError::Conflicts)?;
    let changed = object != *live;
    if let Some(entry) = entries.iter_mut().find(|entry| entry.is_of(writer, Operation::Apply)) {
        let owned = update::ownable(std::mem::take(entry.fields()), rules);
        let known = last.is_some_and(|mut last| *last.fields() == owned && last.api_version == writer.api_version);
        entry.set_fields(owned);
        if changed || !known {
            entry.time = Some(writer.time.to_owned());
        }
    }
    Ok((object, entries))
}

/// An object in one version, with its shape there.
struct At {
    object: Value,
    version: String,
    shape: Shape,
}

impl At {
    fn to(&self, version: &str, rules: &Rules) -> Option<At> {
        let (object, shape) = if version == self.version {
            (self.object.clone(), self.shape.clone())
        } else {
            rules.versions.convert(&self.object, version)?
        };
        Some(At { object, version: version.to_owned(), shape })
    }

    fn fields(&self) -> FieldSet {
        with_named_fields(&mentioned(&self.object, &self.shape), &self.shape)
    }

    fn without(&self, fields: &FieldSet) -> At {
        At {
            object: remove(&self.object, fields, &self.shape),
            version: self.version.clone(),
            shape: self.shape.clone(),
        }
    }
}

/// Takes away what the manager applied last time, not this time, and nobody else owns.
fn prune(merged: Value, mut last: Entry, entries: &mut [Entry], mine: usize, writer: &Writer, rules: &Rules) -> Value {
    let kept = entries[mine].fields().clone();
    if last.api_version == writer.api_version && last.fields().difference(&kept).is_empty() {
        return merged;
    }
    let whole = At { object: merged, version: writer.api_version.to_owned(), shape: rules.shape.clone() };
    prune_at(&whole, &mut last, entries, rules).map_or(whole.object, |pruned| pruned.object)
}

/// `None` if the version in which it was applied last is not served any more.
fn prune_at(whole: &At, last: &mut Entry, entries: &mut [Entry], rules: &Rules) -> Option<At> {
    let merged = whole.to(&last.api_version, rules)?;
    let before = with_named_fields(last.fields(), &merged.shape);
    let mut pruned = merged.without(&before);

    // what anybody owns comes back; the version at hand first, as conversion may need what was taken
    let mut versions: Vec<String> = entries.iter().map(|entry| entry.api_version.clone()).collect();
    versions.sort_unstable();
    versions.dedup();
    versions.sort_by_key(|version| *version != merged.version);
    for version in versions {
        let (Some(all), Some(rest)) = (merged.to(&version, rules), pruned.to(&version, rules)) else { continue };
        let mut owned = FieldSet::default();
        for entry in entries.iter_mut().filter(|entry| entry.api_version == version) {
            owned.unite(entry.fields().clone());
        }
        let mut unowned = all.fields();
        unowned.subtract(&rest.fields());
        unowned.subtract(&with_named_fields(&owned, &all.shape));
        pruned = all.without(&unowned);
    }

    // and what this manager never owned
    let rest = pruned.to(&merged.version, rules)?;
    let mut gone = merged.fields();
    gone.subtract(&rest.fields());
    merged.without(&gone.intersection(&before)).to(&whole.version, rules)
}

/// The fields that client-side apply wrote and that are still as it wrote them: kubectl owns them.
fn last_applied(live: &Value, config: &Configuration, rules: &Rules) -> Option<FieldSet> {
    let text = live.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str()?;
    let last: Value = serde_json::from_str(text).ok()?;
    if str_at(&last, "apiVersion") != config.api_version || validate(&last, rules.shape).is_err() {
        return None;
    }
    let comparison = compare(&last, live, rules.shape);
    let mut fields = mentioned(&last, rules.shape);
    for changed in [&comparison.modified, &comparison.added, &comparison.removed] {
        fields.subtract(changed);
    }
    Some(fields)
}

/// Keeps the annotation of client-side apply true, where there is one.
fn renew_last_applied(object: &mut Value, config: &Value) {
    let Some(annotations) = object.get_mut("metadata").and_then(|m| m.get_mut("annotations")) else { return };
    if str_at_key(annotations, LAST_APPLIED).is_empty() {
        return;
    }
    let mut config = config.clone();
    let own = config.get_mut("metadata").and_then(|m| m.get_mut("annotations")).and_then(Value::as_object_mut);
    if let Some(own) = own {
        own.remove(LAST_APPLIED);
    }
    let Some(annotations) = annotations.as_object_mut() else { return };
    annotations.insert(LAST_APPLIED.into(), format!("{config}\n").into());
    let size: usize = annotations.iter().map(|(k, v)| k.len() + v.as_str().unwrap_or_default().len()).sum();
    if size > MAX_ANNOTATIONS {
        annotations.remove(LAST_APPLIED);
    }
}

fn str_at_key<'a>(map: &'a Value, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}
