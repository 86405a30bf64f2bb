//! Who owns whom, by uid: pure. Fed with metadata changes, it answers with the objects that have to be looked at.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

#[derive(Clone, Debug)]
pub struct Vertex {
    /// `Served::id` of its resource.
    pub resource: String,
    pub ns: String,
    pub name: String,
    pub owners: Vec<OwnerReference>,
    deleting: bool,
    foreground: bool,
    orphaning: bool,
}

impl Vertex {
    pub fn new(resource: &str, meta: &ObjectMeta) -> Self {
        let deleting = meta.deletion_timestamp.is_some();
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|it| it == finalizer);
        Self {
            resource: resource.to_owned(),
            ns: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting,
            foreground: deleting && has(FOREGROUND),
            orphaning: deleting && has(ORPHAN),
        }
    }

    pub fn deletes_dependents(&self) -> bool {
        self.foreground
    }

    pub fn orphans_dependents(&self) -> bool {
        self.orphaning
    }

    pub fn is_deleting(&self) -> bool {
        self.deleting
    }
}

#[derive(Default)]
pub struct Graph {
    vertices: HashMap<String, Vertex>,
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<&Vertex> {
        self.vertices.get(uid)
    }

    pub fn dependents(&self, uid: &str) -> Vec<String> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Dependents that hold their owner back in a foreground deletion.
    pub fn blocking(&self, uid: &str) -> Vec<String> {
        let blocks = |dependent: &&String| {
            self.vertices.get(*dependent).is_some_and(|it| {
                it.owners.iter().any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
            })
        };
        self.dependents.get(uid).into_iter().flatten().filter(blocks).cloned().collect()
    }

    /// The uids to look at after this object was seen.
    pub fn observe(&mut self, uid: &str, vertex: Vertex) -> BTreeSet<String> {
        let mut look = BTreeSet::new();
        let old = self.vertices.insert(uid.to_owned(), vertex.clone());
        let old_owners = old.map(|it| it.owners).unwrap_or_default();
        for owner in old_owners.iter().filter(|it| !vertex.owners.iter().any(|new| new.uid == it.uid)) {
            self.unlink(&owner.uid, uid);
            look.insert(owner.uid.clone());
        }
        for owner in &vertex.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.to_owned());
            match self.vertices.get(&owner.uid) {
                None => {
                    look.insert(uid.to_owned());
                }
                Some(it) if it.foreground => look.extend([owner.uid.clone(), uid.to_owned()]),
                Some(_) => {}
            }
        }
        if vertex.foreground || vertex.orphaning {
            look.insert(uid.to_owned());
        }
        look
    }

    /// The uids to look at after this object went.
    pub fn forget(&mut self, uid: &str) -> BTreeSet<String> {
        let mut look: BTreeSet<String> = self.dependents(uid).into_iter().collect();
        let Some(vertex) = self.vertices.remove(uid) else { return look };
        for owner in &vertex.owners {
            self.unlink(&owner.uid, uid);
            if self.vertices.get(&owner.uid).is_some_and(|it| it.foreground) {
                look.insert(owner.uid.clone());
            }
        }
        look
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    pub fn of_resource(&self, resource: &str) -> Vec<String> {
        self.vertices.iter().filter(|(_, it)| it.resource == resource).map(|(uid, _)| uid.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vertex(owners: &[&str], finalizer: Option<&str>) -> Vertex {
        let meta = ObjectMeta {
            deletion_timestamp: finalizer.map(|_| crate::core::meta::now_time()),
            finalizers: finalizer.map(|it| vec![it.to_owned()]),
            owner_references: Some(
                owners
                    .iter()
                    .map(|uid| OwnerReference {
                        uid: (*uid).into(),
                        block_owner_deletion: Some(true),
                        ..Default::default()
                    })
                    .collect(),
            ),
            ..Default::default()
        };
        Vertex::new("pods.", &meta)
    }

    fn set(items: &[&str]) -> BTreeSet<String> {
        items.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn dependents_are_looked_at_when_the_owner_goes() {
        let mut graph = Graph::default();
        assert_eq!(graph.observe("o", vertex(&[], None)), set(&[]));
        assert_eq!(graph.observe("d", vertex(&["o"], None)), set(&[]));
        assert_eq!(graph.forget("o"), set(&["d"]));
    }

    #[test]
    fn an_unseen_owner_is_checked_and_a_waiting_one_woken() {
        let mut graph = Graph::default();
        assert_eq!(graph.observe("d", vertex(&["o"], None)), set(&["d"]));
        assert_eq!(graph.observe("o", vertex(&[], Some(FOREGROUND))), set(&["o"]));
        assert_eq!(graph.blocking("o"), ["d"]);
        assert_eq!(graph.observe("d", vertex(&[], None)), set(&["o"]));
        assert!(graph.blocking("o").is_empty());
        graph.observe("e", vertex(&["o"], None));
        assert_eq!(graph.forget("e"), set(&["o"]));
    }
}
