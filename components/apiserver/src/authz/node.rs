//! The Node authorizer: a kubelet may do what kubelets do, and reads only what the pods bound to its node refer to
//! (upstream: plugin/pkg/auth/authorizer/node, and `NodeRules` of the bootstrap policy).

use super::{Attributes, graph::Graph};

const READ: &[&str] = &["get", "list", "watch"];
const WRITE_STATUS: &[&str] = &["update", "patch"];

/// What every node may do; NodeRestriction narrows the writes to its own things.
const FIXED: &[(&str, &str, &[&str])] = &[
    ("authentication.k8s.io", "tokenreviews", &["create"]),
    ("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    ("authorization.k8s.io", "localsubjectaccessreviews", &["create"]),
    ("", "services", READ),
    ("", "events", &["create", "update", "patch"]),
    ("events.k8s.io", "events", &["create", "update", "patch"]),
    ("", "endpoints", &["get"]),
    ("certificates.k8s.io", "certificatesigningrequests", &["create", "get", "list", "watch"]),
    ("certificates.k8s.io", "certificatesigningrequests/selfnodeclient", &["create"]),
    ("certificates.k8s.io", "clustertrustbundles", READ),
    ("certificates.k8s.io", "podcertificaterequests", &["create"]),
    ("storage.k8s.io", "csidrivers", READ),
    ("node.k8s.io", "runtimeclasses", READ),
    ("networking.k8s.io", "servicecidrs", &["list", "watch"]),
];

/// Nothing to say but no.
fn no() -> Result<(), String> {
    Err(String::new())
}

fn because(why: impl Into<String>) -> Result<(), String> {
    Err(why.into())
}

impl Graph {
    pub fn allows(&self, node: &str, what: &Attributes) -> bool {
        self.decide(node, what).is_ok()
    }

    /// Upstream's decision; an error is its reason, which may be empty.
    pub fn decide(&self, node: &str, what: &Attributes) -> Result<(), String> {
        if !what.is_resource {
            return no();
        }
        match (what.group.as_str(), what.resource.as_str()) {
            ("", "secrets") => self.read_namespaced(node, what, |g| g.needs_secret(node, &what.namespace, &what.name)),
            ("", "configmaps") => {
                self.read_namespaced(node, what, |g| g.needs_config_map(node, &what.namespace, &what.name))
            }
            ("", "persistentvolumeclaims") if what.subresource == "status" => match what.verb.as_str() {
                "update" | "patch" => self.related(node, what, |g| g.needs_claim(node, &what.namespace, &what.name)),
                _ => because("can only get/update/patch this type"),
            },
            ("", "persistentvolumeclaims") => {
                self.get(node, what, |g| g.needs_claim(node, &what.namespace, &what.name))
            }
            ("", "persistentvolumes") => self.get(node, what, |g| g.needs_volume(node, &what.name)),
            ("resource.k8s.io", "resourceclaims") => {
                self.get(node, what, |g| g.needs_resource_claim(node, &what.namespace, &what.name))
            }
            ("storage.k8s.io", "volumeattachments") => self.get(node, what, |g| g.is_attached(node, &what.name)),
            ("", "serviceaccounts") => self.decide_account(node, what),
            ("coordination.k8s.io", "leases") => decide_lease(node, what),
            ("storage.k8s.io", "csinodes") => decide_csi_node(node, what),
            ("resource.k8s.io", "resourceslices") => self.decide_slice(node, what),
            ("certificates.k8s.io", "podcertificaterequests") if what.verb != "create" => {
                match READ.contains(&what.verb.as_str()) && selects(what, "spec.nodeName", node) {
                    true => Ok(()),
                    false => because("can only list/watch podcertificaterequests with spec.nodeName field selector"),
                }
            }
            ("", "nodes") => decide_node(node, what),
            ("", "pods") => self.decide_pod(node, what),
            (group, _) => {
                let resource = what.qualified_resource();
                let fits = |(g, r, verbs): &&(&str, &str, &[&str])| {
                    *g == group && *r == resource && verbs.contains(&what.verb.as_str())
                };
                if FIXED.iter().any(|rule| fits(&rule)) { Ok(()) } else { no() }
            }
        }
    }

    fn related(&self, node: &str, what: &Attributes, is: impl Fn(&Graph) -> bool) -> Result<(), String> {
        if what.name.is_empty() {
            return because("No Object name found");
        }
        match is(self) {
            true => Ok(()),
            false => because(format!("no relationship found between node '{node}' and this object")),
        }
    }

    fn get(&self, node: &str, what: &Attributes, is: impl Fn(&Graph) -> bool) -> Result<(), String> {
        if what.verb != "get" {
            return because("can only get individual resources of this type");
        }
        if !what.subresource.is_empty() {
            return because("cannot get subresource");
        }
        self.related(node, what, is)
    }

    fn read_namespaced(&self, node: &str, what: &Attributes, is: impl Fn(&Graph) -> bool) -> Result<(), String> {
        if !READ.contains(&what.verb.as_str()) {
            return because("can only read resources of this type");
        }
        if !what.subresource.is_empty() {
            return because("cannot read subresource");
        }
        if what.namespace.is_empty() {
            return because("can only read namespaced object of this type");
        }
        self.related(node, what, is)
    }

    fn decide_account(&self, node: &str, what: &Attributes) -> Result<(), String> {
        let is = |g: &Graph| g.runs_as(node, &what.namespace, &what.name);
        // since 1.33: credential providers are told of the account
        if what.verb == "get" && what.subresource.is_empty() {
            return self.related(node, what, is);
        }
        if what.verb != "create" || what.name.is_empty() {
            return because("can only create tokens for individual service accounts");
        }
        if what.subresource != "token" {
            return because("can only create token subresource of serviceaccount");
        }
        self.related(node, what, is)
    }

    fn decide_slice(&self, node: &str, what: &Attributes) -> Result<(), String> {
        if !what.subresource.is_empty() {
            return because("cannot authorize ResourceSlice subresources");
        }
        match what.verb.as_str() {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(node, what, |g| g.owns_slice(node, &what.name)),
            "watch" | "list" | "deletecollection" if selects(what, "spec.nodeName", node) => Ok(()),
            "watch" | "list" | "deletecollection" if selects(what, "nodeName", node) => Ok(()),
            "watch" | "list" | "deletecollection" => {
                because("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => because(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn decide_pod(&self, node: &str, what: &Attributes) -> Result<(), String> {
        let own = |g: &Graph| g.runs(node, &what.namespace, &what.name);
        match (what.subresource.as_str(), what.verb.as_str()) {
            ("", "get") => self.get(node, what, own),
            ("", "list" | "watch") if selects(what, "spec.nodeName", node) => Ok(()),
            ("", "list" | "watch") if !what.name.is_empty() => self.related(node, what, own),
            ("", "list" | "watch") => because("can only list/watch pods with spec.nodeName field selector"),
            // mirror pods; NodeRestriction looks at them
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => no(),
        }
    }
}

fn decide_lease(node: &str, what: &Attributes) -> Result<(), String> {
    let verb = what.verb.as_str();
    if !["get", "create", "update", "patch", "delete"].contains(&verb) {
        return because("can only get, create, update, patch, or delete a node lease");
    }
    if what.namespace != "kube-node-lease" {
        return because("can only access leases in the \"kube-node-lease\" system namespace");
    }
    if verb != "create" && what.name != node {
        return because("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

fn decide_csi_node(node: &str, what: &Attributes) -> Result<(), String> {
    let verb = what.verb.as_str();
    if !["get", "create", "update", "patch", "delete"].contains(&verb) {
        return because("can only get, create, update, patch, or delete a CSINode");
    }
    if !what.subresource.is_empty() {
        return because("cannot authorize CSINode subresources");
    }
    if verb != "create" && what.name != node {
        return because("can only access CSINode with the same name as the requesting node");
    }
    Ok(())
}

fn decide_node(node: &str, what: &Attributes) -> Result<(), String> {
    match (what.subresource.as_str(), what.verb.as_str()) {
        ("", "create" | "update" | "patch") => Ok(()),
        ("", verb) if READ.contains(&verb) => match what.name.as_str() {
            name if name == node => Ok(()),
            "" => because(format!("node '{node}' cannot read all nodes, only its own Node object")),
            name => because(format!("node '{node}' cannot read '{name}', only its own Node object")),
        },
        ("status", verb) if WRITE_STATUS.contains(&verb) => Ok(()),
        _ => no(),
    }
}

/// Whether only objects with this value of the field are asked for.
fn selects(what: &Attributes, field: &str, value: &str) -> bool {
    what.field_selector
        .split(',')
        .filter_map(|term| term.strip_prefix(field)?.strip_prefix('='))
        .any(|wanted| wanted.strip_prefix('=').unwrap_or(wanted) == value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asks(verb: &str, resource: &str, namespace: &str, name: &str) -> Attributes {
        let (group, resource) = resource.rsplit_once(':').unwrap_or(("", resource));
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb: verb.into(),
            is_resource: true,
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn a_node_reads_what_its_pods_refer_to() {
        let mut graph = Graph::default();
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "serviceAccountName": "sa",
            "containers": [{"envFrom": [{"secretRef": {"name": "s1"}}]}],
            "resourceClaims": [{"name": "gpu", "resourceClaimName": "rc"}, {"name": "made", "resourceClaimTemplateName": "t"}],
            "volumes": [{"configMap": {"name": "c1"}}, {"persistentVolumeClaim": {"claimName": "data"}}]},
            "status": {"resourceClaimStatuses": [{"name": "made", "resourceClaimName": "p-made"}]}});
        graph.set_pod("a", "p", Some(&pod));
        graph.set_volume("pv1", Some(&json!({"spec": {"claimRef": {"namespace": "a", "name": "data"},
            "csi": {"nodePublishSecretRef": {"namespace": "s", "name": "mount"}, "controllerExpandSecretRef": {"namespace": "s", "name": "far"}}}})));
        graph.set_attachment("va", Some(&json!({"spec": {"nodeName": "n1"}})));
        graph.set_slice("mine", Some(&json!({"spec": {"nodeName": "n1"}})));
        for what in [
            asks("get", "secrets", "a", "s1"),
            asks("watch", "configmaps", "a", "c1"),
            asks("get", "persistentvolumes", "", "pv1"),
            asks("get", "secrets", "s", "mount"),
            asks("create", "serviceaccounts/token", "a", "sa"),
            asks("patch", "persistentvolumeclaims/status", "a", "data"),
            asks("get", "resource.k8s.io:resourceclaims", "a", "rc"),
            asks("get", "resource.k8s.io:resourceclaims", "a", "p-made"),
            asks("get", "storage.k8s.io:volumeattachments", "", "va"),
            asks("update", "resource.k8s.io:resourceslices", "", "mine"),
            asks("create", "pods", "a", ""),
        ] {
            assert_eq!(graph.decide("n1", &what), Ok(()), "{what:?}");
        }
        let unrelated = "no relationship found between node 'n1' and this object";
        for (what, why) in [
            (asks("get", "secrets", "b", "s1"), unrelated),
            (asks("get", "secrets", "s", "far"), unrelated),
            (asks("list", "secrets", "a", ""), "No Object name found"),
            (asks("list", "secrets", "", ""), "can only read namespaced object of this type"),
            (asks("create", "secrets", "a", ""), "can only read resources of this type"),
            (asks("get", "persistentvolumes", "", "pv2"), unrelated),
            (asks("list", "persistentvolumes", "", ""), "can only get individual resources of this type"),
            (asks("get", "nodes", "", "n2"), "node 'n1' cannot read 'n2', only its own Node object"),
            (asks("list", "pods", "", ""), "can only list/watch pods with spec.nodeName field selector"),
            (
                asks("get", "coordination.k8s.io:leases", "kube-node-lease", "n2"),
                "can only access node lease with the same name as the requesting node",
            ),
            (asks("update", "resource.k8s.io:resourceslices", "", "other"), unrelated),
            (asks("delete", "nodes", "", "n1"), ""),
        ] {
            assert_eq!(graph.decide("n1", &what), Err(why.to_owned()), "{what:?}");
        }
        assert!(!graph.allows("n2", &asks("get", "secrets", "a", "s1")));
        let selected = Attributes { field_selector: "spec.nodeName==n1,x!=y".into(), ..asks("list", "pods", "", "") };
        assert!(graph.allows("n1", &selected) && !graph.allows("n2", &selected));
    }

    #[test]
    fn mirror_pods_give_no_rights() {
        let mut graph = Graph::default();
        let mirror = json!({"metadata": {"name": "p", "annotations": {"kubernetes.io/config.mirror": ""}},
            "spec": {"nodeName": "n1", "serviceAccountName": "sa", "imagePullSecrets": [{"name": "s1"}]}});
        graph.set_pod("a", "p", Some(&mirror));
        assert!(!graph.allows("n1", &asks("get", "secrets", "a", "s1")));
        assert!(!graph.allows("n1", &asks("create", "serviceaccounts/token", "a", "sa")));
        assert!(graph.allows("n1", &asks("get", "pods", "a", "p")));
        graph.set_pod("a", "p", None);
        assert!(!graph.allows("n1", &asks("get", "pods", "a", "p")));
    }
}
