//! One kubeconfig into another: entries of ours are exchanged, everything else stays as it is.
//!
//! Ours are told by an extension (`kinstall.dev`) that says whose they are, never by their names alone: an entry of somebody
//! else that has a name which we need stops the merge.

use anyhow::{Context as _, bail};
use serde_yaml::{Mapping, Value};

const EXTENSION: &str = "kinstall.dev";
/// The lists of a kubeconfig, and the field of their items that holds what is meant.
const LISTS: [(&str, &str); 3] = [("clusters", "cluster"), ("users", "user"), ("contexts", "context")];

/// Whose entries they are. Of two that have either the id or the directory in common, one is the other's successor.
#[derive(Clone, Debug)]
pub struct Owner {
    pub cluster: String,
    pub id: String,
    pub directory: String,
}

#[derive(Debug)]
pub struct Merged {
    pub text: String,
    /// The context that is current now.
    pub context: String,
    /// Entries of ours that are no more, such as the context of a control plane that has left.
    pub gone: Vec<String>,
}

/// `there`: the text of the file, empty where there is none; `ours`: the administrator's kubeconfig.
pub fn merge(there: &str, ours: &str, owner: &Owner) -> anyhow::Result<Merged> {
    let mut file = match serde_yaml::from_str(there).context("it is no YAML")? {
        Value::Null => Mapping::new(),
        Value::Mapping(file) => file,
        _ => bail!("it is no kubeconfig"),
    };
    let mut ours: Mapping = serde_yaml::from_str(ours).context("the administrator's kubeconfig is damaged")?;
    rename_user(&mut ours, owner);
    for (field, value) in [("apiVersion", "v1"), ("kind", "Config")] {
        match file.get(field) {
            None => _ = file.insert(field.into(), value.into()),
            Some(there) if there.as_str() == Some(value) => {}
            Some(_) => bail!("it is no kubeconfig: {field} is not {value}"),
        }
    }
    let mut gone = Vec::new();
    for (list, inner) in LISTS {
        let there = take_list(&mut file, list)?;
        let new = take_list(&mut ours, list)?;
        file.insert(list.into(), merged(inner, there, new, owner, &mut gone)?.into());
    }
    let context = ours.get("current-context").and_then(Value::as_str).unwrap_or_default().to_owned();
    file.insert("current-context".into(), context.as_str().into());
    Ok(Merged { text: serde_yaml::to_string(&file)?, context, gone })
}

/// The administrator has the same name in every cluster, and a kubeconfig can hold that once.
fn rename_user(ours: &mut Mapping, owner: &Owner) {
    let renamed = |value: &mut Value| {
        if let Some(name) = value.as_str() {
            *value = format!("{name}@{}", owner.cluster).into();
        }
    };
    for (list, path) in [("users", &["name"][..]), ("contexts", &["context", "user"])] {
        for item in ours.get_mut(list).and_then(Value::as_sequence_mut).into_iter().flatten() {
            let found = path.iter().try_fold(item, |value, key| value.get_mut(*key));
            found.into_iter().for_each(renamed);
        }
    }
}

fn take_list(file: &mut Mapping, list: &str) -> anyhow::Result<Vec<Value>> {
    match file.remove(list) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Sequence(items)) => Ok(items),
        Some(_) => bail!("it is no kubeconfig: {list} is no list"),
    }
}

fn merged(
    inner: &str,
    there: Vec<Value>,
    new: Vec<Value>,
    owner: &Owner,
    gone: &mut Vec<String>,
) -> anyhow::Result<Vec<Value>> {
    let mut new: Vec<Option<Value>> = new.into_iter().map(|item| Some(marked(item, inner, owner))).collect();
    let mut out = Vec::new();
    for item in there {
        let name = name(&item).to_owned();
        let successor = new.iter_mut().find(|new| new.as_ref().is_some_and(|new| self::name(new) == name));
        match (is_owned(&item, inner, owner), successor) {
            (true, Some(successor)) => out.extend(successor.take().map(|new| with_namespace_of(new, &item))),
            (true, None) => gone.push(format!("{inner} {name}")),
            (false, Some(_)) => bail!(
                "it has a {inner} {name:?} that is not this cluster's; give that another name (`kubectl config rename-context`, \
                 or an editor), or name another file"
            ),
            (false, None) => out.push(item),
        }
    }
    out.extend(new.into_iter().flatten());
    Ok(out)
}

fn name(item: &Value) -> &str {
    item.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// A namespace that somebody has chosen for a context of ours stays chosen.
fn with_namespace_of(mut new: Value, old: &Value) -> Value {
    if let Some(namespace) = old.get("context").and_then(|context| context.get("namespace"))
        && let Some(Value::Mapping(context)) = new.get_mut("context")
    {
        context.insert("namespace".into(), namespace.clone());
    }
    new
}

fn marked(mut item: Value, inner: &str, owner: &Owner) -> Value {
    let fields = [("cluster", &owner.cluster), ("id", &owner.id), ("directory", &owner.directory)];
    let extension: Mapping = fields.into_iter().map(|(field, value)| (field.into(), value.as_str().into())).collect();
    let named = Mapping::from_iter([("name".into(), EXTENSION.into()), ("extension".into(), extension.into())]);
    if let Some(Value::Mapping(inner)) = item.get_mut(inner) {
        inner.insert("extensions".into(), Value::Sequence(vec![named.into()]));
    }
    item
}

fn is_owned(item: &Value, inner: &str, owner: &Owner) -> bool {
    let extensions = item.get(inner).and_then(|inner| inner.get("extensions")).and_then(Value::as_sequence);
    let marks = extensions.into_iter().flatten().filter(|extension| name(extension) == EXTENSION);
    let says = |mark: &Value, field: &str, value: &str| mark.get(field).and_then(Value::as_str) == Some(value);
    marks.filter_map(|extension| extension.get("extension")).any(|mark| {
        says(mark, "cluster", &owner.cluster)
            && (says(mark, "id", &owner.id) || says(mark, "directory", &owner.directory))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As the template makes them.
    fn ours(cluster: &str, hosts: &[&str], key: &str) -> String {
        let each = |line: fn(&str, &str) -> String| hosts.iter().map(|host| line(cluster, host)).collect::<String>();
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n{}users:\n- name: kubernetes-admin\n  user: {{client-key-data: {key}}}\n\
             contexts:\n{}current-context: {}@{cluster}\n",
            each(|cluster, host| format!("- {{name: {cluster}-{host}, cluster: {{server: 'https://{host}:6443'}}}}\n")),
            each(|cluster, host| format!(
                "- {{name: {host}@{cluster}, context: {{cluster: {cluster}-{host}, user: kubernetes-admin}}}}\n"
            )),
            hosts[0]
        )
    }

    fn owner(cluster: &str, id: &str, directory: &str) -> Owner {
        Owner { cluster: cluster.into(), id: id.into(), directory: directory.into() }
    }

    fn names(text: &str, list: &str) -> Vec<String> {
        let value: Value = serde_yaml::from_str(text).unwrap();
        value[list].as_sequence().unwrap().iter().map(|item| name(item).to_owned()).collect()
    }

    const FOREIGN: &str = "\
apiVersion: v1
kind: Config
preferences: {colors: true}
clusters:
- name: work
  cluster: {server: 'https://work:443', certificate-authority: /etc/work.crt}
users:
- name: kubernetes-admin
  user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: login, interactiveMode: Never}}
contexts:
- name: work
  context: {cluster: work, user: kubernetes-admin, namespace: team}
current-context: work
";

    #[test]
    fn what_is_there_stays_and_ours_come_beside_it() {
        let merged = merge(FOREIGN, &ours("demo", &["h1"], "a"), &owner("demo", "1", "/d")).unwrap();
        assert_eq!(merged.context, "h1@demo");
        assert_eq!(names(&merged.text, "users"), ["kubernetes-admin", "kubernetes-admin@demo"]);
        let (before, after): (Value, Value) =
            (serde_yaml::from_str(FOREIGN).unwrap(), serde_yaml::from_str(&merged.text).unwrap());
        assert_eq!(after["preferences"], before["preferences"]);
        for list in ["clusters", "users", "contexts"] {
            assert_eq!(after[list][0], before[list][0], "{list}");
        }
        assert_eq!(after["contexts"][1]["context"]["user"], Value::from("kubernetes-admin@demo"));
        assert_eq!(after["current-context"], Value::from("h1@demo"));
    }

    #[test]
    fn a_second_merge_exchanges_what_is_ours_alone() {
        let one = merge(FOREIGN, &ours("demo", &["h1", "h2", "h3"], "a"), &owner("demo", "1", "/d")).unwrap().text;
        let other = merge(&one, &ours("prod", &["p1"], "b"), &owner("prod", "2", "/p")).unwrap().text;
        let chosen =
            other.replace("user: kubernetes-admin@demo\n", "user: kubernetes-admin@demo\n    namespace: mine\n");
        assert_ne!(chosen, other);
        // another id: the cluster was taken down and is up again
        let again = merge(&chosen, &ours("demo", &["h2", "h3", "h4"], "c"), &owner("demo", "9", "/d")).unwrap();
        assert_eq!(names(&again.text, "contexts"), ["work", "h2@demo", "h3@demo", "p1@prod", "h4@demo"]);
        assert_eq!(again.gone, ["cluster demo-h1", "context h1@demo"]);
        assert_eq!(again.context, "h2@demo");
        let value: Value = serde_yaml::from_str(&again.text).unwrap();
        assert_eq!(value["contexts"][1]["context"]["namespace"], Value::from("mine"));
        assert_eq!(value["users"][1]["user"]["client-key-data"], Value::from("c"));
        assert_eq!(value["users"][2]["user"]["client-key-data"], Value::from("b"));
        // another directory, the same id: it was adopted elsewhere
        assert!(merge(&again.text, &ours("demo", &["h2"], "d"), &owner("demo", "9", "/elsewhere")).is_ok());
    }

    #[test]
    fn what_belongs_to_others_is_never_replaced() {
        let one = merge("", &ours("demo", &["h1"], "a"), &owner("demo", "1", "/d")).unwrap().text;
        let error = merge(&one, &ours("demo", &["h1"], "b"), &owner("demo", "2", "/other")).unwrap_err().to_string();
        assert!(error.contains("a cluster \"demo-h1\" that is not this cluster's"), "{error}");
        for damaged in ["a: [", "- a\n", "just text", "apiVersion: v1\nkind: Pod\n", "clusters: {a: b}\n"] {
            assert!(merge(damaged, &ours("demo", &["h1"], "a"), &owner("demo", "1", "/d")).is_err(), "{damaged}");
        }
        for empty in ["", "# nothing\n", "clusters:\nusers: []\n"] {
            let text = merge(empty, &ours("demo", &["h1"], "a"), &owner("demo", "1", "/d")).unwrap().text;
            assert_eq!(names(&text, "contexts"), ["h1@demo"]);
        }
    }
}
