//! What may be approved and what may be signed: pure. The signers' rules are those of
//! https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use certs::{Csr, LEAF_DAYS, Usage};
use ipnet::IpNet;
use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use k8s_openapi::api::core::v1::Node;

use crate::core::meta;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const NODES: &str = "system:nodes";
const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// What a request is compared with.
pub struct Cluster<'a> {
    pub nodes: &'a [Arc<Node>],
    pub service_cidr: IpNet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Approve(&'static str),
    /// If who asks may create this subresource of signing requests.
    Ask {
        right: &'static str,
        message: &'static str,
    },
    Leave(&'static str),
}

pub fn is_ours(signer: &str) -> bool {
    [CLIENT, KUBELET_CLIENT, KUBELET_SERVING].contains(&signer)
}

/// The node a request names in its subject.
pub fn node_of(csr: &Csr) -> Option<&str> {
    csr.subject.common_name.strip_prefix("system:node:").filter(|it| !it.is_empty())
}

fn usages_are(spec: &CertificateSigningRequestSpec, needed: &str) -> bool {
    let usages: BTreeSet<&str> = spec.usages.iter().flatten().map(String::as_str).collect();
    let allowed = ["digital signature", "key encipherment", needed];
    usages.contains(needed) && usages.contains("digital signature") && usages.iter().all(|it| allowed.contains(it))
}

fn is_node_subject(csr: &Csr) -> bool {
    node_of(csr).is_some() && csr.subject.organizations == [NODES]
}

fn has_names(csr: &Csr) -> bool {
    csr.other_names || !csr.dns_names.is_empty() || !csr.ip_addresses.is_empty()
}

/// The rules of the signer itself, which hold whoever approved.
pub fn signable(spec: &CertificateSigningRequestSpec, csr: &Csr) -> Result<Usage, &'static str> {
    match spec.signer_name.as_str() {
        KUBELET_CLIENT if !is_node_subject(csr) => {
            Err("subject must be system:node:<name> in organization system:nodes")
        }
        KUBELET_CLIENT if has_names(csr) => Err("a kubelet client certificate has no subject alternative names"),
        KUBELET_CLIENT if !usages_are(spec, "client auth") => {
            Err("usages must be client auth, digital signature and at most key encipherment")
        }
        KUBELET_SERVING if !is_node_subject(csr) => {
            Err("subject must be system:node:<name> in organization system:nodes")
        }
        KUBELET_SERVING if csr.other_names || !has_names(csr) => {
            Err("DNS names or IP addresses, and only those, are required")
        }
        KUBELET_SERVING if !usages_are(spec, "server auth") => {
            Err("usages must be server auth, digital signature and at most key encipherment")
        }
        CLIENT if csr.subject.organizations.iter().any(|it| it == "system:masters") => {
            Err("organization system:masters is never signed")
        }
        CLIENT if !usages_are(spec, "client auth") => {
            Err("usages must be client auth, digital signature and at most key encipherment")
        }
        KUBELET_SERVING => Ok(Usage::Server),
        KUBELET_CLIENT | CLIENT => Ok(Usage::Client),
        _ => Err("unknown signer"),
    }
}

pub fn decide(spec: &CertificateSigningRequestSpec, csr: &Csr, cluster: &Cluster) -> Decision {
    if let Err(why) = signable(spec, csr) {
        return Decision::Leave(why);
    }
    let user = spec.username.as_deref().unwrap_or_default();
    let in_group = |group: &str| spec.groups.iter().flatten().any(|it| it == group);
    let own = user == csr.subject.common_name && in_group(NODES);
    match spec.signer_name.as_str() {
        KUBELET_CLIENT if own => Decision::Ask {
            right: "selfnodeclient",
            message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
        },
        KUBELET_CLIENT if in_group(BOOTSTRAPPERS) && may_bootstrap(user, csr) => Decision::Ask {
            right: "nodeclient",
            message: "Auto approving kubelet client certificate after SubjectAccessReview.",
        },
        KUBELET_CLIENT => Decision::Leave("the requestor is neither the node itself nor its bootstrapper"),
        KUBELET_SERVING if !own => Decision::Leave("a serving certificate can only be requested by the node itself"),
        KUBELET_SERVING => match cluster.nodes.iter().find(|it| Some(meta::name(&it.metadata)) == node_of(csr)) {
            None => Decision::Leave("the node is not registered yet"),
            Some(node) if covers(cluster, node, csr) => {
                Decision::Approve("Auto approving kubelet serving certificate: all names are the node's own.")
            }
            Some(_) => Decision::Leave("a name is not the node's, or an address is not its alone"),
        },
        _ if !shows_certificate(spec) => Decision::Leave("client certificates are approved by an administrator"),
        _ if user == csr.subject.common_name
            && csr.subject.organizations.iter().all(|it| in_group(it))
            && !has_names(csr) =>
        {
            Decision::Ask {
                right: "selfclient",
                message: "Auto approving the requestor's own client certificate after SubjectAccessReview.",
            }
        }
        _ => Decision::Leave("client certificates for others are approved by an administrator"),
    }
}

/// Whether who asks has a certificate already (upstream's credential id): a token that is good for an hour must not become a
/// certificate that is good for a year.
fn shows_certificate(spec: &CertificateSigningRequestSpec) -> bool {
    let id = spec.extra.as_ref().and_then(|extra| extra.get("authentication.kubernetes.io/credential-id")?.first());
    id.is_some_and(|id| id.starts_with("X509SHA256="))
}

/// `system:bootstrap:<node>` asks for its own node only; a bootstrap token's user (`system:bootstrap:<token id>`), which names
/// no node, is told apart by its length, fixed at six.
fn may_bootstrap(user: &str, csr: &Csr) -> bool {
    let Some(of) = user.strip_prefix("system:bootstrap:") else { return true };
    let is_token = of.len() == 6 && of.bytes().all(|it| it.is_ascii_alphanumeric());
    is_token || node_of(csr) == Some(of)
}

/// A node chooses the addresses it reports, so that they are its own is not enough: none may belong to somebody else.
fn covers(cluster: &Cluster, node: &Node, csr: &Csr) -> bool {
    let name = meta::name(&node.metadata);
    let own: BTreeSet<IpAddr> = addresses(node).collect();
    let others: BTreeSet<IpAddr> =
        cluster.nodes.iter().filter(|it| meta::name(&it.metadata) != name).flat_map(|it| addresses(it)).collect();
    let ip = |wanted: &IpAddr| {
        let wanted = wanted.to_canonical();
        let everybodys = wanted.is_loopback() || wanted.is_unspecified() || wanted.is_multicast();
        let taken = others.contains(&wanted) || cluster.service_cidr.contains(&wanted);
        own.contains(&wanted) && !everybodys && !taken
    };
    csr.ip_addresses.iter().all(ip) && csr.dns_names.iter().all(|it| it == name)
}

fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    let all = node.status.iter().flat_map(|it| it.addresses.iter().flatten());
    all.filter(|it| it.type_.ends_with("IP"))
        .filter_map(|it| it.address.parse::<IpAddr>().ok())
        .map(|it| it.to_canonical())
}

/// Whole days, at least one, at most the signer's usual duration.
pub fn days(expiration_seconds: Option<i32>) -> u32 {
    let asked = expiration_seconds.and_then(|it| u32::try_from(it).ok()).map(|it| it.div_ceil(86400).max(1));
    asked.unwrap_or(LEAF_DAYS).min(LEAF_DAYS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use certs::{Ca, Subject, create_csr, generate_key, inspect};
    use serde_json::json;

    fn request(
        signer: &str,
        user: &str,
        groups: &[&str],
        names: &[&str],
        usage: &str,
    ) -> (CertificateSigningRequestSpec, Csr) {
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        let pem = create_csr(&generate_key().unwrap(), &Subject::new("system:node:n1", &[NODES]), &names).unwrap();
        let spec = CertificateSigningRequestSpec {
            signer_name: signer.into(),
            username: Some(user.into()),
            groups: Some(groups.iter().map(|it| (*it).to_owned()).collect()),
            usages: Some(vec!["digital signature".into(), usage.into()]),
            ..Default::default()
        };
        (spec, Csr::parse(&pem).unwrap())
    }

    fn approved(case: (CertificateSigningRequestSpec, Csr)) -> bool {
        let node = |name: &str, addresses: &[&str]| -> Arc<Node> {
            let mut list: Vec<_> = addresses.iter().map(|it| json!({"type": "InternalIP", "address": it})).collect();
            list.extend([
                json!({"type": "Hostname", "address": name}),
                json!({"type": "Hostname", "address": "kubernetes"}),
            ]);
            serde_json::from_value(json!({"metadata": {"name": name}, "status": {"addresses": list}})).unwrap()
        };
        let nodes = [node("n1", &["10.0.0.1", "10.0.0.2", "10.96.0.1", "127.0.0.1"]), node("n2", &["10.0.0.2"])];
        let cluster = Cluster { nodes: &nodes, service_cidr: "10.96.0.0/16".parse().unwrap() };
        matches!(decide(&case.0, &case.1, &cluster), Decision::Approve(_) | Decision::Ask { .. })
    }

    #[test]
    fn a_client_asks_for_its_own_certificate_and_no_other() {
        let cluster = Cluster { nodes: &[], service_cidr: "10.96.0.0/16".parse().unwrap() };
        let decided = |user: &str, groups: &[&str], names: &[&str]| {
            let (mut spec, csr) = request(CLIENT, user, groups, names, "client auth");
            let without = decide(&spec, &csr, &cluster);
            assert!(matches!(without, Decision::Leave(_)), "with a token: {without:?}");
            let id = ("authentication.kubernetes.io/credential-id".to_owned(), vec!["X509SHA256=00".to_owned()]);
            spec.extra = Some([id].into());
            decide(&spec, &csr, &cluster)
        };
        let own = decided("system:node:n1", &[NODES, "system:authenticated"], &[]);
        assert!(matches!(own, Decision::Ask { right: "selfclient", .. }), "{own:?}");
        for (user, groups, names) in [
            ("system:node:n2", &[NODES][..], &[][..]),
            ("system:node:n1", &["system:authenticated"], &[]),
            ("system:node:n1", &[NODES], &["n1"]),
        ] {
            let left = decided(user, groups, names);
            assert!(matches!(left, Decision::Leave(_)), "{user} {groups:?} {names:?}: {left:?}");
        }
    }

    #[test]
    fn client_certificates_for_bootstrappers_and_the_node_itself() {
        assert!(approved(request(KUBELET_CLIENT, "system:bootstrap:n1", &[BOOTSTRAPPERS], &[], "client auth")));
        assert!(approved(request(KUBELET_CLIENT, "system:node:n1", &[NODES], &[], "client auth")));
        assert!(!approved(request(KUBELET_CLIENT, "system:node:n2", &[NODES], &[], "client auth")));
        assert!(!approved(request(
            KUBELET_CLIENT,
            "system:bootstrap:other-node",
            &[BOOTSTRAPPERS],
            &[],
            "client auth"
        )));
        assert!(!approved(request(KUBELET_CLIENT, "mallory", &["system:authenticated"], &[], "client auth")));
        assert!(!approved(request(KUBELET_CLIENT, "system:node:n1", &[NODES], &["n1"], "client auth")));
        assert!(!approved(request(KUBELET_CLIENT, "system:node:n1", &[NODES], &[], "server auth")));
    }

    #[test]
    fn serving_certificates_only_for_the_nodes_own_addresses() {
        assert!(approved(request(KUBELET_SERVING, "system:node:n1", &[NODES], &["n1", "10.0.0.1"], "server auth")));
        // the node reports all of these as its own
        for foreign in ["10.0.0.2", "10.96.0.1", "127.0.0.1", "kubernetes", "10.0.0.9"] {
            let case = request(KUBELET_SERVING, "system:node:n1", &[NODES], &["n1", foreign], "server auth");
            assert!(!approved(case), "{foreign}");
        }
        assert!(!approved(request(KUBELET_SERVING, "system:bootstrap:n1", &[BOOTSTRAPPERS], &["n1"], "server auth")));
        assert!(!approved(request(KUBELET_SERVING, "system:node:n1", &[NODES], &[], "server auth")));
    }

    #[test]
    fn signs_with_the_cluster_ca() {
        let ca = Ca::generate("kubernetes").unwrap();
        let (spec, csr) = request(KUBELET_CLIENT, "system:node:n1", &[NODES], &[], "client auth");
        let usage = signable(&spec, &csr).unwrap();
        let certificate = inspect(&ca.sign(&csr, usage, days(None)).unwrap()).unwrap();
        assert_eq!(certificate.subject.common_name, "system:node:n1");
        assert_eq!((days(Some(600)), days(Some(i32::MAX)), days(None)), (1, LEAF_DAYS, LEAF_DAYS));
    }
}
