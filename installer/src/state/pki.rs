//! The cluster's keys and certificates, made once and kept in the state directory.
//!
//! A leaf is made anew when it is missing, does not fit (its subject or names changed, another authority) or runs out within
//! [`RENEW_DAYS`]; so running `up` again also renews. What hosts have renewed by themselves is only there (`desired/kept.rs`).

mod orders;
pub mod rotation;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use certs::{Ca, Issued, Leaf, Subject, Usage};
use time::OffsetDateTime;

use super::StateDir;
use super::write_private;
use crate::cluster::{Cluster, ExternalEtcd, Host};

pub use certs::RENEW_DAYS;
pub use orders::Orders;

/// Certificates that each host has of its own; its name follows after a hyphen.
pub const OF_ONE_HOST: [&str; 4] = ["kubelet-bootstrap", "apiserver", "etcd-server", "etcd-peer"];

/// What leaves are for, as operators choose them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The administrator's
    Admin,
    /// The API servers' own, and those by which they call kubelets
    Apiserver,
    /// The kubelets': both that they ask for, and the one they ask with
    Kubelet,
    /// The members of etcd, and the API servers as its clients
    Etcd,
    /// The API servers' towards extension servers
    FrontProxy,
    /// The Service proxy's and the network agent's
    Agents,
}

/// Leaves that all hosts share.
const SHARED: [(&str, Kind); 6] = [
    ("admin", Kind::Admin),
    ("apiserver-kubelet-client", Kind::Apiserver),
    ("apiserver-etcd-client", Kind::Etcd),
    ("front-proxy-client", Kind::FrontProxy),
    ("proxy", Kind::Agents),
    ("cni-agent", Kind::Agents),
];

const KINDS_OF_ONE_HOST: [Kind; 4] = [Kind::Kubelet, Kind::Apiserver, Kind::Etcd, Kind::Etcd];

/// What a leaf is for, and whose it is if one host's; `name` is its file's without the ending.
fn leaf_of(cluster: &Cluster, name: &str) -> Option<(Kind, Option<String>)> {
    if let Some((_, kind)) = SHARED.iter().find(|(shared, _)| *shared == name) {
        return Some((*kind, None));
    }
    if name == "apiserver" {
        return cluster.control_planes().next().map(|host| (Kind::Apiserver, Some(host.name.clone())));
    }
    OF_ONE_HOST.iter().zip(KINDS_OF_ONE_HOST).find_map(|(what, kind)| {
        let host = name.strip_prefix(what)?.strip_prefix('-')?;
        Some((kind, Some(host.to_owned())))
    })
}

/// Which leaves are to be made anew.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// All where there are none.
    pub kinds: &'a [Kind],
    /// With some, only what is these hosts' own.
    pub hosts: &'a [String],
}

impl Selection<'_> {
    fn has(&self, kind: Kind, host: Option<&String>) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&kind))
            && (self.hosts.is_empty() || host.is_some_and(|host| self.hosts.contains(host)))
    }
}

/// Gives up the chosen leaves, so that [`Pki::load_or_create`] makes them anew. Gives their names, sorted.
pub fn give_up(state: &StateDir, cluster: &Cluster, selection: Selection<'_>) -> anyhow::Result<Vec<String>> {
    let folder = state.path().join("pki");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut given_up = Vec::new();
    for entry in entries {
        let file = entry?.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".crt") else { continue };
        if leaf_of(cluster, name).is_some_and(|(kind, host)| selection.has(kind, host.as_ref())) {
            given_up.push(name.to_owned());
        }
    }
    given_up.sort();
    // first this: what hosts have renewed by themselves is replaced too, whoever goes on from here
    Orders::place(state, &given_up)?;
    for name in &given_up {
        super::remove(&folder.join(format!("{name}.crt")))?;
    }
    Ok(given_up)
}

/// Everything host states need, as PEM.
#[derive(Clone)]
pub struct Pki {
    pub ca: Issued,
    pub service_account: Issued,
    /// By host name.
    pub apiserver: BTreeMap<String, Issued>,
    pub apiserver_kubelet_client: Issued,
    /// The authority of who may speak for others.
    pub front_proxy_ca: Issued,
    pub front_proxy_client: Issued,
    pub proxy: Issued,
    pub cni_agent: Issued,
    pub admin: Issued,
    /// By host name.
    pub kubelet_bootstrap: BTreeMap<String, Issued>,
    /// None with the embedded store.
    pub etcd: Option<EtcdPki>,
    pub orders: Orders,
}

/// What the control planes' hosts need for etcd.
#[derive(Clone)]
pub struct EtcdPki {
    pub ca_pem: String,
    /// None where somebody else runs etcd.
    pub ca_key_pem: Option<String>,
    pub client: Issued,
    /// By host name; empty where somebody else runs etcd.
    pub members: BTreeMap<String, EtcdMember>,
}

#[derive(Clone)]
pub struct EtcdMember {
    pub server: Issued,
    pub peer: Issued,
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
            apiserver: apiservers(&folder, &ca, cluster)?,
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
            etcd: etcd(&folder, cluster)?,
            orders: Orders::load(state)?,
        })
    }
}

fn authority_of(ca: &Ca) -> Issued {
    Issued { cert_pem: ca.cert_pem().to_owned(), key_pem: ca.key_pem() }
}

/// Each control plane's own, so that another one more changes none. The only one's is called as before there could be more.
fn apiservers(folder: &Folder, ca: &Ca, cluster: &Cluster) -> anyhow::Result<BTreeMap<String, Issued>> {
    cluster
        .control_planes()
        .map(|host| {
            let name = match cluster.several_control_planes() {
                true => format!("apiserver-{}", host.name),
                false => "apiserver".to_owned(),
            };
            let leaf = Leaf::new(Subject::new("kube-apiserver", &[]), Usage::Server).names(server_names(cluster, host));
            Ok((host.name.clone(), folder.leaf(ca, &name, leaf)?))
        })
        .collect()
}

/// Every name and address that clients use for a host's API server; its balancer's is 127.0.0.1.
fn server_names(cluster: &Cluster, host: &Host) -> Vec<String> {
    let mut names: Vec<String> =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned).to_vec();
    names.push(format!("kubernetes.default.svc.{}", cluster.network.domain));
    names.extend([host.name.clone(), "localhost".into(), "127.0.0.1".into()]);
    names.extend([cluster.network.kubernetes_ip().to_string(), host.node_address.to_string()]);
    if !names.contains(&host.address) {
        names.push(host.address.clone());
    }
    names
}

fn etcd(folder: &Folder, cluster: &Cluster) -> anyhow::Result<Option<EtcdPki>> {
    if let Some(external) = &cluster.external_etcd {
        return external_etcd(external).map(Some);
    }
    if !cluster.runs_etcd() {
        return Ok(None);
    }
    let ca = folder.authority("etcd-ca", "kinstall-etcd-ca")?;
    let members = cluster
        .control_planes()
        .map(|host| {
            // members are each other's clients, and the server calls itself
            let leaf = |what: &str| {
                let names = [host.name.clone(), "localhost".into(), "127.0.0.1".into(), host.node_address.to_string()];
                let leaf = Leaf::new(Subject::new(&host.name, &[]), Usage::Both).names(names);
                folder.leaf(&ca, &format!("etcd-{what}-{}", host.name), leaf)
            };
            Ok((host.name.clone(), EtcdMember { server: leaf("server")?, peer: leaf("peer")? }))
        })
        .collect::<anyhow::Result<_>>()?;
    let client = Leaf::new(Subject::new("kube-apiserver-etcd-client", &[]), Usage::Client);
    Ok(Some(EtcdPki {
        ca_pem: ca.cert_pem().to_owned(),
        ca_key_pem: Some(ca.key_pem()),
        client: folder.leaf(&ca, "apiserver-etcd-client", client)?,
        members,
    }))
}

fn external_etcd(external: &ExternalEtcd) -> anyhow::Result<EtcdPki> {
    let read = |path: &Path| {
        fs::read_to_string(path).with_context(|| format!("cannot read {}, which `etcd` names", path.display()))
    };
    let (ca_pem, cert_pem) = (read(&external.ca_file)?, read(&external.cert_file)?);
    for (path, pem) in [(&external.ca_file, &ca_pem), (&external.cert_file, &cert_pem)] {
        certs::inspect(pem).with_context(|| format!("{}, which `etcd` names, holds no certificate", path.display()))?;
    }
    let client = Issued { cert_pem, key_pem: read(&external.key_file)? };
    Ok(EtcdPki { ca_pem, ca_key_pem: None, client, members: BTreeMap::new() })
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
    let Ok(info) = certs::inspect(&issued.cert_pem) else { return false };
    let mut names: Vec<String> = info.dns_names.clone();
    names.extend(info.ip_addresses.iter().map(ToString::to_string));
    names.sort();
    let mut expected = wanted.names.clone();
    expected.sort();
    info.subject == wanted.subject
        && names == expected
        && ca.has_signed(&issued.cert_pem)
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
        assert_eq!(first.apiserver, second.apiserver);
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
        assert_ne!(first.apiserver, third.apiserver);
        assert_eq!(first.admin.cert_pem, third.admin.cert_pem);
        assert_eq!(first.ca.cert_pem, third.ca.cert_pem);
    }

    fn three() -> String {
        let more: String = (2..4)
            .map(|index| format!("- {{name: h{index}, address: 10.99.0.1{index}, role: controlPlane}}\n"))
            .collect();
        INVENTORY.lines().filter(|line| !line.contains("h2")).map(|line| format!("{line}\n")).collect::<String>()
            + &more
    }

    #[test]
    fn one_control_plane_has_nothing_of_etcd_and_three_have_certificates_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path(), "t");
        state.create().unwrap();
        let cluster = |text: &str| Cluster::parse(text, "i", directory.path()).unwrap();
        let one = Pki::load_or_create(&state, &cluster(INVENTORY)).unwrap();
        assert!(one.etcd.is_none() && !state.path().join("pki/etcd-ca.crt").exists());

        let pki = Pki::load_or_create(&state, &cluster(&three())).unwrap();
        assert_eq!((one.ca.cert_pem, one.admin.cert_pem), (pki.ca.cert_pem.clone(), pki.admin.cert_pem.clone()));
        let etcd = pki.etcd.as_ref().unwrap();
        assert_eq!(etcd.members.keys().collect::<Vec<_>>(), ["h1", "h2", "h3"]);
        for (name, member) in &etcd.members {
            let address = format!("10.99.0.1{}", &name[1..]);
            for issued in [&member.server, &member.peer, &pki.apiserver[name]] {
                let info = certs::inspect(&issued.cert_pem).unwrap();
                let has = |wanted: &str| info.ip_addresses.iter().any(|found| found.to_string() == wanted);
                assert!(has(&address) && has("127.0.0.1") && info.dns_names.contains(name), "{name}");
            }
            assert!(certs::inspect(&member.peer.cert_pem).unwrap().issuer.contains("kinstall-etcd-ca"));
        }
        assert!(certs::inspect(&etcd.client.cert_pem).unwrap().issuer.contains("kinstall-etcd-ca"));
        for entry in fs::read_dir(state.path().join("pki")).unwrap().flatten() {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        }
    }

    #[test]
    fn a_host_that_was_removed_gets_new_keys_and_the_others_keep_theirs() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path(), "t");
        state.create().unwrap();
        let cluster = Cluster::parse(&three(), "i", directory.path()).unwrap();
        let before = Pki::load_or_create(&state, &cluster).unwrap();
        state.write("applied.json", &serde_json::json!({"hosts": [{"host": "h1"}, {"host": "h2"}]})).unwrap();
        state.forget_host("h2").unwrap();
        let left = || fs::read_dir(state.path().join("pki")).unwrap().flatten().map(|entry| entry.file_name());
        assert!(!left().any(|name| name.to_string_lossy().contains("h2")), "{:?}", left().collect::<Vec<_>>());
        let applied: serde_json::Value = state.read("applied.json").unwrap().unwrap();
        assert!(applied["hosts"].as_array().is_some_and(|hosts| hosts.len() == 1 && hosts[0]["host"] == "h1"));
        let after = Pki::load_or_create(&state, &cluster).unwrap();
        let of = |pki: &Pki, name: &str| {
            let member = pki.etcd.as_ref().unwrap().members[name].clone();
            [pki.apiserver[name].clone(), pki.kubelet_bootstrap[name].clone(), member.server, member.peer]
        };
        for (old, new) in of(&before, "h2").iter().zip(&of(&after, "h2")) {
            assert_ne!(old.key_pem, new.key_pem);
        }
        assert!(of(&before, "h3") == of(&after, "h3") && before.ca == after.ca && before.admin == after.admin);
    }

    #[test]
    fn what_is_chosen_is_made_anew_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path(), "t");
        state.create().unwrap();
        let cluster = Cluster::parse(&three(), "i", directory.path()).unwrap();
        Pki::load_or_create(&state, &cluster).unwrap();
        let h2 = ["h2".to_owned()];
        let choose = |kinds: &[Kind], hosts: &[String]| give_up(&state, &cluster, Selection { kinds, hosts }).unwrap();
        let again = || Pki::load_or_create(&state, &cluster).unwrap();
        let before = again();
        assert_eq!(choose(&[Kind::Admin], &[]), ["admin"]);
        assert_eq!(choose(&[], &h2), ["apiserver-h2", "etcd-peer-h2", "etcd-server-h2", "kubelet-bootstrap-h2"]);
        let after = again();
        assert!(before.admin != after.admin && before.apiserver["h2"] != after.apiserver["h2"]);
        assert!(before.apiserver["h1"] == after.apiserver["h1"] && before.proxy == after.proxy);
        assert_eq!(choose(&[Kind::Etcd], &[]).len(), 7);
        assert_eq!(choose(&[Kind::Etcd, Kind::Kubelet], &h2), ["kubelet-bootstrap-h2"], "the others are away");
        again();
        // all of them, and never an authority
        let all = choose(&[], &[]);
        assert_eq!((all.len(), again().ca == before.ca), (6 + 3 * 4, true), "{all:?}");
    }

    #[test]
    fn a_leaf_of_an_authority_of_the_same_name_does_not_fit() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path(), "t");
        state.create().unwrap();
        let cluster = Cluster::parse(INVENTORY, "i", directory.path()).unwrap();
        let before = Pki::load_or_create(&state, &cluster).unwrap();
        let other = Ca::generate("kinstall-ca").unwrap();
        Folder { path: state.path().join("pki") }.write("ca", "crt", &authority_of(&other)).unwrap();
        let after = Pki::load_or_create(&state, &cluster).unwrap();
        assert!(other.has_signed(&after.admin.cert_pem) && after.admin != before.admin);
        assert!(after.front_proxy_client == before.front_proxy_client);
    }

    #[test]
    fn an_external_etcds_files_are_taken_as_they_are_or_named() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path(), "t");
        state.create().unwrap();
        let text = format!(
            "{INVENTORY}etcd: {{endpoints: ['https://e:2379'], caFile: ca.crt, certFile: c.crt, keyFile: c.key}}\n"
        );
        let cluster = Cluster::parse(&text, "i", directory.path()).unwrap();
        let message = format!("{:#}", Pki::load_or_create(&state, &cluster).err().unwrap());
        assert!(message.contains("ca.crt"), "{message}");
        let ca = Ca::generate("theirs").unwrap();
        let client = ca.issue(&Leaf::new(Subject::new("us", &[]), Usage::Client)).unwrap();
        for (name, text) in [("ca.crt", ca.cert_pem()), ("c.crt", &client.cert_pem), ("c.key", &client.key_pem)] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let etcd = Pki::load_or_create(&state, &cluster).unwrap().etcd.unwrap();
        assert!(etcd.client == client && etcd.members.is_empty());
        assert!(!state.path().join("pki/etcd-ca.key").exists());
    }
}
