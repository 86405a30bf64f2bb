//! The cluster's keys and certificates, made once and kept in the state directory.
//!
//! A leaf is made anew when it is missing, does not fit (its subject or names changed, another authority) or runs out within
//! [`RENEW_DAYS`]; so running `up` again also renews.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use certs::{Ca, Issued, Leaf, Subject, Usage};
use time::OffsetDateTime;

use super::StateDir;
use super::write_private;
use crate::cluster::Cluster;

pub const RENEW_DAYS: i64 = 30;

/// Everything host states need, as PEM.
#[derive(Clone)]
pub struct Pki {
    pub ca: Issued,
    pub service_account: Issued,
    pub apiserver: Issued,
    pub apiserver_kubelet_client: Issued,
    /// The authority of who may speak for others: only its certificate goes to hosts.
    pub front_proxy_ca: Issued,
    pub front_proxy_client: Issued,
    pub proxy: Issued,
    pub cni_agent: Issued,
    pub admin: Issued,
    /// By host name.
    pub kubelet_bootstrap: std::collections::BTreeMap<String, Issued>,
}

impl Pki {
    /// Reads what is there and makes what is not.
    pub fn load_or_create(state: &StateDir, cluster: &Cluster) -> anyhow::Result<Self> {
        let folder = Folder { path: state.path().join("pki") };
        let ca = folder.authority("ca", "kinstall-ca")?;
        let front_proxy = folder.authority("front-proxy-ca", "kinstall-front-proxy-ca")?;
        let client = |name: &str, subject: Subject| folder.leaf(&ca, name, Leaf::new(subject, Usage::Client));
        let kubelet_bootstrap = cluster
            .hosts
            .iter()
            .map(|host| {
                let subject = Subject::new(&format!("system:bootstrap:{}", host.name), &["system:bootstrappers"]);
                Ok((host.name.clone(), client(&format!("kubelet-bootstrap-{}", host.name), subject)?))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            service_account: folder.service_account()?,
            apiserver: folder.leaf(
                &ca,
                "apiserver",
                Leaf::new(Subject::new("kube-apiserver", &[]), Usage::Server).names(server_names(cluster)?),
            )?,
            apiserver_kubelet_client: client(
                "apiserver-kubelet-client",
                Subject::new("kube-apiserver-kubelet-client", &["system:masters"]),
            )?,
            front_proxy_client: folder.leaf(
                &front_proxy,
                "front-proxy-client",
                Leaf::new(Subject::new("front-proxy-client", &[]), Usage::Client),
            )?,
            front_proxy_ca: authority_of(&front_proxy),
            proxy: client("proxy", Subject::new("system:kube-proxy", &[]))?,
            cni_agent: client("cni-agent", Subject::new("system:kinstall:cni-agent", &[]))?,
            admin: client("admin", Subject::new("kubernetes-admin", &["system:masters"]))?,
            ca: authority_of(&ca),
            kubelet_bootstrap,
        })
    }
}

fn authority_of(ca: &Ca) -> Issued {
    Issued { cert_pem: ca.cert_pem().to_owned(), key_pem: ca.key_pem() }
}

/// Every name and address that clients use for the API server.
fn server_names(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let host = cluster.control_plane()?;
    let mut names: Vec<String> =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned).to_vec();
    names.push(format!("kubernetes.default.svc.{}", cluster.network.domain));
    names.extend([host.name.clone(), "localhost".into(), "127.0.0.1".into()]);
    names.extend([cluster.network.kubernetes_ip().to_string(), host.node_address.to_string()]);
    if !names.contains(&host.address) {
        names.push(host.address.clone());
    }
    Ok(names)
}

struct Folder {
    path: PathBuf,
}

impl Folder {
    fn authority(&self, name: &str, common_name: &str) -> anyhow::Result<Ca> {
        match self.read(name, "key")? {
            Some(issued) => Ca::from_pem(&issued.cert_pem, &issued.key_pem).with_context(|| {
                format!("the authority {name} in {} is damaged; restore it from a backup", self.path.display())
            }),
            None => {
                let ca = Ca::generate(common_name)?;
                self.write(name, "crt", &authority_of(&ca))?;
                Ok(ca)
            }
        }
    }

    /// `sa.key` and `sa.pub`, as kubeadm names them.
    fn service_account(&self) -> anyhow::Result<Issued> {
        let (public, private) = (self.path.join("sa.pub"), self.path.join("sa.key"));
        if let (Ok(cert_pem), Ok(key_pem)) = (fs::read_to_string(&public), fs::read_to_string(&private)) {
            return Ok(Issued { cert_pem, key_pem });
        }
        let key = certs::generate_service_account_key()?;
        let issued = Issued { cert_pem: key.public_pem, key_pem: key.private_pem };
        self.write("sa", "pub", &issued)?;
        Ok(issued)
    }

    fn leaf(&self, ca: &Ca, name: &str, leaf: Leaf) -> anyhow::Result<Issued> {
        if let Some(issued) = self.read(name, "key")?
            && fits(ca, &issued, &leaf)
        {
            return Ok(issued);
        }
        let issued = ca.issue(&leaf).with_context(|| format!("cannot issue the certificate {name}"))?;
        self.write(name, "crt", &issued)?;
        Ok(issued)
    }

    fn read(&self, name: &str, key: &str) -> anyhow::Result<Option<Issued>> {
        let (cert, key) = (self.path.join(format!("{name}.crt")), self.path.join(format!("{name}.{key}")));
        match (fs::read_to_string(&cert), fs::read_to_string(&key)) {
            (Ok(cert_pem), Ok(key_pem)) => Ok(Some(Issued { cert_pem, key_pem })),
            (Err(_), _) | (_, Err(_)) if !cert.exists() || !key.exists() => Ok(None),
            (cert, key) => Err(cert.err().or(key.err()).unwrap_or_else(|| std::io::Error::other("unreadable")))
                .with_context(|| format!("cannot read {name} in {}", self.path.display())),
        }
    }

    fn write(&self, name: &str, public: &str, issued: &Issued) -> anyhow::Result<()> {
        write_private(&self.path.join(format!("{name}.key")), issued.key_pem.as_bytes())?;
        write_private(&self.path.join(format!("{name}.{public}")), issued.cert_pem.as_bytes())
    }
}

fn fits(ca: &Ca, issued: &Issued, wanted: &Leaf) -> bool {
    let (Ok(info), Ok(authority)) = (certs::inspect(&issued.cert_pem), certs::inspect(ca.cert_pem())) else {
        return false;
    };
    let mut names: Vec<String> = info.dns_names.clone();
    names.extend(info.ip_addresses.iter().map(ToString::to_string));
    names.sort();
    let mut expected = wanted.names.clone();
    expected.sort();
    info.subject == wanted.subject
        && names == expected
        && info.issuer.contains(&authority.subject.common_name)
        && info.not_before >= authority.not_before - time::Duration::minutes(10)
        && info.not_after > OffsetDateTime::now_utc() + time::Duration::days(RENEW_DAYS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const INVENTORY: &str = "cluster: t\nhosts:\n- {name: h1, address: 10.99.0.11, role: controlPlane}\n- {name: h2, address: 10.99.0.12, role: worker}\n";

    #[test]
    fn made_once_private_and_renewed_when_names_change() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path(), "t");
        state.create().unwrap();
        let cluster = Cluster::parse(INVENTORY, "i", directory.path()).unwrap();
        let first = Pki::load_or_create(&state, &cluster).unwrap();
        let second = Pki::load_or_create(&state, &cluster).unwrap();
        assert_eq!(first.apiserver.cert_pem, second.apiserver.cert_pem);
        assert_eq!(first.front_proxy_client.cert_pem, second.front_proxy_client.cert_pem);
        let proxy = certs::inspect(&first.front_proxy_client.cert_pem).unwrap();
        assert_eq!(
            (proxy.subject.common_name.as_str(), proxy.issuer.as_str()),
            ("front-proxy-client", "kinstall-front-proxy-ca"),
            "an authority of its own"
        );
        assert_eq!(first.kubelet_bootstrap.keys().collect::<Vec<_>>(), ["h1", "h2"]);
        for entry in fs::read_dir(state.path().join("pki")).unwrap().flatten() {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        }
        let moved = Cluster::parse(&INVENTORY.replace("0.11", "0.21"), "i", directory.path()).unwrap();
        let third = Pki::load_or_create(&state, &moved).unwrap();
        assert_ne!(first.apiserver.cert_pem, third.apiserver.cert_pem);
        assert_eq!(first.admin.cert_pem, third.admin.cert_pem);
        assert_eq!(first.ca.cert_pem, third.ca.cert_pem);
    }
}
