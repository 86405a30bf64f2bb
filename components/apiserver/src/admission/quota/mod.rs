//! ResourceQuota: what is written is charged to the namespace's quotas, or refused (kubernetes
//! `apiserver/pkg/admission/plugin/resourcequota`).
//!
//! Usage is written in the very transaction that writes the object, under compare-and-swap: nothing is charged that was not
//! stored, and writers at the same time cannot both have what is left. The quota controller takes back what deletions free.

use std::collections::BTreeMap;

use machinery::{
    ApiError, encoding,
    value::{get, str_at},
};
use quota::{Kind, Usage};
use serde_json::{Map, Value};
use store::{Expect, Op};
use time::OffsetDateTime;

use crate::{
    core::Core,
    handlers::Target,
    registry::{self, Stored},
};

/// Kinds that nobody pays for: (group, plural).
const FREE: &[(&str, &str)] = &[("", "bindings"), ("", "events"), ("events.k8s.io", "events")];

/// Whether a key of a transaction is a quota's, so that losing it means trying again.
pub fn is_charge(key: &str) -> bool {
    machinery::resources::find("", "v1", "resourcequotas")
        .is_some_and(|row| key.starts_with(&registry::prefix(row, "")))
}

/// Whether a change of this kind can cost more: creates always, updates of some.
fn costs(target: &Target, subresource: &str, old: Option<&Value>) -> bool {
    let resource = &target.resource;
    if !resource.namespaced || FREE.contains(&(resource.group, resource.plural)) {
        return false;
    }
    let write = (old.is_some(), resource.group, resource.plural, subresource);
    matches!(
        write,
        (false, _, _, "") | (true, "", "services" | "persistentvolumeclaims", "") | (true, "", "pods", "resize")
    )
}

/// The operations that charge a write; the refusal if a quota does not allow it.
pub async fn charge(
    core: &Core,
    target: &Target,
    subresource: &str,
    new: &Value,
    old: Option<&Value>,
) -> Result<Vec<Op>, ApiError> {
    if !costs(target, subresource, old) {
        return Ok(Vec::new());
    }
    let Some(row) = registry::find("", "v1", "resourcequotas") else { return Ok(Vec::new()) };
    let quotas = registry::read_all(core, row, &target.namespace).await?;
    if quotas.is_empty() {
        return Ok(Vec::new());
    }
    let kind = Kind::new(target.resource.group, target.resource.plural);
    let now = OffsetDateTime::now_utc();
    let used = quota::usage(&kind, new, now);
    let more = quota::increase(used, &old.map(|old| quota::usage(&kind, old, now)).unwrap_or_default());
    let mut ops = Vec::new();
    for stored in quotas {
        let before = old.filter(|old| quota::matches_scopes(&stored.object, &kind, old)).is_some();
        if !quota::matches_scopes(&stored.object, &kind, new) {
            continue;
        }
        // what comes into a scope by an update is new to it
        let more = if old.is_none() || before { more.clone() } else { quota::usage(&kind, new, now) };
        ops.extend(charge_one(target, &kind, &stored, new, &more)?.map(|object| Op::Put {
            key: registry::key(row, &target.namespace, str_at(&object, "metadata.name")),
            value: encoding::encode_stored(&object),
            expect: Expect::Revision(stored.revision),
        }));
    }
    Ok(ops)
}

/// The quota with its new usage, if it has to do with this.
fn charge_one(
    target: &Target,
    kind: &Kind,
    stored: &Stored,
    object: &Value,
    more: &Usage,
) -> Result<Option<Value>, ApiError> {
    let quota = &stored.object;
    let name = str_at(quota, "metadata.name");
    let hard = quota::amounts(get(quota, "status.hard"));
    let used = quota::amounts(get(quota, "status.used"));
    let limited: Vec<String> = hard.keys().filter(|name| kind.is_counted_by(name)).cloned().collect();
    if limited.is_empty() {
        return Ok(None);
    }
    if kind.plural == "pods" && kind.group.is_empty() {
        quota::constraints(&limited, object)
            .map_err(|why| target.forbidden(&format!("failed quota: {name}: {why}")))?;
    }
    if limited.iter().any(|name| !used.contains_key(name)) {
        let list = limited.join(",");
        return Err(target.forbidden(&format!("status unknown for quota: {name}, resources: {list}")));
    }
    let asked: Usage = more.iter().filter(|(name, _)| hard.contains_key(*name)).map(|(n, q)| (n.clone(), *q)).collect();
    if asked.is_empty() {
        return Ok(None);
    }
    let mut total = used.clone();
    quota::add(&mut total, &asked);
    let exceeded: Vec<&String> =
        asked.keys().filter(|name| total.get(*name).zip(hard.get(*name)).is_some_and(|(t, h)| t > h)).collect();
    if !exceeded.is_empty() {
        let show = |amounts: &Usage| {
            let shown = exceeded.iter().filter_map(|name| amounts.get(*name).map(|q| format!("{name}={q}")));
            shown.collect::<Vec<_>>().join(",")
        };
        return Err(target.forbidden(&format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            show(&asked),
            show(&used),
            show(&hard)
        )));
    }
    let mut charged = quota.clone();
    charged["status"]["used"] = to_value(&total);
    Ok(Some(charged))
}

fn to_value(usage: &BTreeMap<String, machinery::quantity::Quantity>) -> Value {
    Value::Object(usage.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect::<Map<_, _>>())
}
