//! Which names a definition gets, and its conditions (apiextensions-apiserver `pkg/controller/{status,establish,apiapproval}`).

use std::{collections::BTreeSet, sync::Arc};

use machinery::{
    ApiError,
    resources::apiextensions::set_condition,
    value::{list_at, str_at},
};
use serde_json::{Map, Value, json};
use store::{Expect, Op};
use tokio::sync::OwnedMutexGuard;

use crate::{
    core::Core,
    registry::{self, Write, WriteError},
};

const APPROVAL: &str = "api-approved.kubernetes.io";

/// Written with every definition, so that of two servers that give names at the same time one has to look again.
const TURN: &str = "/claims/definitions";

/// A definition that is about to be stored, with its names and conditions.
pub struct Settled {
    pub object: Value,
    /// Belongs into the same transaction.
    pub turn: Op,
    /// Held until it is stored and served: within this server nobody needs to try twice.
    _naming: OwnedMutexGuard<()>,
}

/// Whether a transaction failed because another server has stored a definition meanwhile.
pub fn is_turn(key: &str) -> bool {
    key == TURN
}

/// Gives a definition its names: those that no other has.
pub async fn settle(core: &Core, object: &Value) -> Result<Settled, ApiError> {
    let naming = core.custom.naming.clone().lock_owned().await;
    let last = core.store.get(TURN).await.map_err(registry::store_error)?;
    let expect = match &last {
        Some(kv) => {
            // what was written with it, by whomever, counts
            core.custom.caught_up(kv.mod_revision).await;
            Expect::Revision(kv.mod_revision)
        }
        None => Expect::Absent,
    };
    let mut object = object.clone();
    let others: Vec<Arc<Value>> = core.custom.objects();
    let name = str_at(&object, "metadata.name").to_owned();
    give(&mut object, others.iter().map(|it| &**it).filter(|it| str_at(it, "metadata.name") != name));
    let turn = Op::Put { key: TURN.into(), value: name.into(), expect };
    Ok(Settled { object, turn, _naming: naming })
}

/// Tries again for definitions that did not get their names: to be stored is to be settled.
pub fn retry(core: &Arc<Core>) {
    let refused = |object: &Arc<Value>| condition(object, "NamesAccepted") == Some("False");
    for object in core.custom.objects().into_iter().filter(refused) {
        let core = core.clone();
        tokio::spawn(async move {
            let name = str_at(&object, "metadata.name");
            if let Err(error) = store_again(&core, name).await {
                tracing::debug!(%error, name, "a definition's names stay refused");
            }
        });
    }
}

async fn store_again(core: &Core, name: &str) -> Result<(), ApiError> {
    let Some(resource) = super::row() else { return Ok(()) };
    let stored = registry::read(core, resource, "", name).await?;
    let write = Write { resource, namespace: "", name, claims: Vec::new() };
    match write.put(core, &stored.object, Some(stored.revision)).await {
        Err(WriteError::Failed(error)) => Err(error),
        // whoever was faster has settled it
        _ => Ok(()),
    }
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    list_at(object, "status.conditions").iter().find(|c| str_at(c, "type") == kind).map(|c| str_at(c, "status"))
}

fn give<'a>(object: &mut Value, others: impl Iterator<Item = &'a Value>) {
    let group = str_at(object, "spec.group").to_owned();
    let (mut resources, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    for other in others.filter(|it| str_at(it, "spec.group") == group) {
        let names = &other["status"]["acceptedNames"];
        let text = |key: &str| str_at(names, key).to_owned();
        resources.extend([text("plural"), text("singular")]);
        resources.extend(list_at(names, "shortNames").iter().filter_map(Value::as_str).map(str::to_owned));
        kinds.extend([text("kind"), text("listKind")]);
    }
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    let wanted = object["spec"]["names"].clone();
    let (accepted, conflict) = accept(&wanted, &object["status"]["acceptedNames"], &resources, &kinds);
    object["status"]["acceptedNames"] = Value::Object(accepted);
    match &conflict {
        Some((reason, message)) => set_condition(object, "NamesAccepted", "False", reason, message),
        None => set_condition(object, "NamesAccepted", "True", "NoConflicts", "no conflicts found"),
    }
    if condition(object, "Established") != Some("True") {
        match conflict {
            Some(_) => set_condition(object, "Established", "False", "NotAccepted", "not all names are accepted"),
            None => {
                let message = "the initial names have been accepted";
                set_condition(object, "Established", "True", "InitialNamesAccepted", message);
            }
        }
    }
    approve(object, &group);
}

type Conflict = (&'static str, String);

/// The names a definition has after it asked for `wanted`, and the last conflict.
fn accept(
    wanted: &Value,
    had: &Value,
    resources: &BTreeSet<String>,
    kinds: &BTreeSet<String>,
) -> (Map<String, Value>, Option<Conflict>) {
    let mut accepted = had.as_object().cloned().unwrap_or_default();
    let mut conflict = None;
    let in_use = |name: &str, had: &str, used: &BTreeSet<String>| name != had && used.contains(name);
    for (key, reason, used) in [
        ("plural", "PluralConflict", resources),
        ("singular", "SingularConflict", resources),
        ("kind", "KindConflict", kinds),
        ("listKind", "ListKindConflict", kinds),
    ] {
        let name = str_at(wanted, key);
        match in_use(name, str_at(had, key), used) {
            true => conflict = Some((reason, format!("{name:?} is already in use"))),
            false => drop(accepted.insert(key.to_owned(), name.into())),
        }
    }
    let names = list_at(wanted, "shortNames");
    let refused: Vec<String> = names
        .iter()
        .filter(|name| !list_at(had, "shortNames").contains(name))
        .filter_map(Value::as_str)
        .filter(|name| resources.contains(*name))
        .map(|name| format!("{name:?} is already in use"))
        .collect();
    let mut take = |key: &str, list: &[Value]| match list.is_empty() {
        true => drop(accepted.remove(key)),
        false => drop(accepted.insert(key.to_owned(), list.to_vec().into())),
    };
    match refused.as_slice() {
        [] => take("shortNames", names),
        [one] => conflict = Some(("ShortNamesConflict", one.clone())),
        several => conflict = Some(("ShortNamesConflict", format!("[{}]", several.join(", ")))),
    }
    take("categories", list_at(wanted, "categories"));
    (accepted, conflict)
}

/// Groups of the Kubernetes community say whether they may be used so.
fn approve(object: &mut Value, group: &str) {
    if !["k8s.io", "kubernetes.io"].iter().any(|it| group == *it || group.ends_with(&format!(".{it}"))) {
        return;
    }
    let kind = "KubernetesAPIApprovalPolicyConformant";
    match object["metadata"]["annotations"][APPROVAL].as_str().unwrap_or_default().to_owned() {
        text if text.starts_with("unapproved") => {
            set_condition(object, kind, "False", "UnapprovedAnnotation", &format!("not approved: {text:?}"));
        }
        text => set_condition(object, kind, "True", "ApprovedAnnotation", &format!("approved in {text}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({"metadata": {"name": plural}, "spec": {"group": "g.example", "names": {
            "plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List"), "shortNames": short}}})
    }

    #[test]
    fn the_first_keeps_its_names() {
        let mut first = definition("foos", "Foo", &["f"]);
        give(&mut first, std::iter::empty());
        assert_eq!(
            (condition(&first, "NamesAccepted"), condition(&first, "Established")),
            (Some("True"), Some("True"))
        );
        let mut second = definition("bars", "Foo", &["f", "b"]);
        give(&mut second, [&first].into_iter());
        assert_eq!(
            (condition(&second, "NamesAccepted"), condition(&second, "Established")),
            (Some("False"), Some("False"))
        );
        assert_eq!(second["status"]["conditions"][0]["message"], "\"f\" is already in use");
        assert_eq!(second["status"]["acceptedNames"]["plural"], "bars");
        assert!(second["status"]["acceptedNames"].get("kind").is_none());
        give(&mut second, std::iter::empty());
        assert_eq!(condition(&second, "Established"), Some("True"));
    }
}
