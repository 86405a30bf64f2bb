//! What a host has renewed by itself stays there: its key never leaves the host, so the state directory cannot have it.
//!
//! Here, and nowhere else, is decided whether a host's certificate takes the place of the state directory's: it is for the same
//! subject, names and usage, of the same authority, with time left, and from after the last `certs renew` of its kind.

use hoststate::certificates::{CertificateFile, in_kubeconfig, in_pem};
use hoststate::{Content, Facts, Resource};
use time::{Duration, OffsetDateTime};

use super::Inputs;
use crate::cluster::Host;
use crate::state::pki::RENEW_DAYS;

/// The paths of files whose credentials this host keeps; see [`hoststate::HostState::keeps`].
pub fn keeps(inputs: Inputs<'_>, host: &Host, facts: &Facts, resources: &[Resource]) -> Vec<String> {
    // a run that was cut off may have left a certificate without its key
    let whole = facts.manifest.as_ref().is_some_and(|it| it.complete && it.cluster.id == inputs.identity.id);
    if !whole {
        return Vec::new();
    }
    let authorities = authorities(inputs);
    let files = || resources.iter().filter_map(text);
    let mut keeps = Vec::new();
    for (path, wanted) in files() {
        let Some(own) = facts.certificates.iter().find(|file| file.path == path) else { continue };
        let (wanted, key) = match (path.strip_suffix(".crt"), path.ends_with(".kubeconfig")) {
            (Some(stem), _) => (in_pem(wanted), Some(format!("{stem}.key"))),
            (None, true) => (in_kubeconfig(wanted), None),
            (None, false) => continue,
        };
        let has_key = key.as_ref().is_none_or(|key| files().any(|(path, _)| path == key));
        if let Some(wanted) = wanted.first()
            && has_key
            && is_as_good(inputs, host, facts, own, wanted, &authorities)
        {
            keeps.push(path.to_owned());
            keeps.extend(key);
        }
    }
    keeps
}

fn text(resource: &Resource) -> Option<(&str, &str)> {
    match resource {
        Resource::File { path, content: Content::Inline { text, .. }, .. } => Some((path, text)),
        _ => None,
    }
}

/// Those whose keys hosts sign with; what another one issued is never a host's own work.
fn authorities(inputs: Inputs<'_>) -> String {
    let pki = inputs.pki;
    let etcd = pki.etcd.as_ref().filter(|etcd| etcd.ca_key_pem.is_some()).map(|etcd| etcd.ca_pem.as_str());
    let texts = [Some(pki.ca.cert_pem.as_str()), Some(&pki.front_proxy_ca.cert_pem), etcd];
    texts.into_iter().flatten().map(|text| format!("{}\n", text.trim_end())).collect()
}

fn is_as_good(
    inputs: Inputs<'_>,
    host: &Host,
    facts: &Facts,
    own: &CertificateFile,
    wanted: &str,
    authorities: &str,
) -> bool {
    let own_pem = in_pem(&own.pem);
    let Some(own_pem) = own_pem.first().filter(|own| own.as_str() != wanted) else { return false };
    let (Ok(has), Ok(wants)) = (certs::inspect(own_pem), certs::inspect(wanted)) else { return false };
    let authority = certs::authority_of(own_pem, authorities);
    let now = OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_millis(facts.clock_millis);
    !has.is_ca
        && has.subject == wants.subject
        && has.usage == wants.usage
        && names(&has) == names(&wants)
        && authority.is_some()
        && authority == certs::authority_of(wanted, authorities)
        && has.not_after > now + Duration::days(RENEW_DAYS)
        && !ordered(inputs, host, &own.path, has.not_before)
}

fn names(info: &certs::CertificateInfo) -> Vec<String> {
    let addresses = info.ip_addresses.iter().map(ToString::to_string);
    let mut names: Vec<_> = info.dns_names.iter().cloned().chain(addresses).collect();
    names.sort();
    names
}

/// In the state directory a host's own leaf is called after it.
fn ordered(inputs: Inputs<'_>, host: &Host, path: &str, issued: OffsetDateTime) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    let name = file.rsplit_once('.').map_or(file, |(name, _)| name);
    [name.to_owned(), format!("{name}-{}", host.name)].iter().any(|name| inputs.pki.orders.want_anew(name, issued))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use certs::{Ca, Leaf, Subject, Usage};
    use hoststate::HostManifest;
    use hoststate::resource::ClusterRef;

    use super::*;
    use crate::cluster::Cluster;
    use crate::desired::{Topology, host_state, no_bundle};
    use crate::state::StateDir;
    use crate::state::pki::{Kind, Pki, Selection, give_up};

    const TEXT: &str = "cluster: c\nhosts:\n- {name: h1, address: 10.0.0.1, role: controlPlane}\n";
    const SERVER: &str = "/etc/kinstall/pki/apiserver.crt";
    const PROXY: &str = "/etc/kinstall/proxy.kubeconfig";

    struct Fixture {
        _directory: tempfile::TempDir,
        cluster: Cluster,
        state: StateDir,
        pki: Pki,
    }

    fn now() -> OffsetDateTime {
        OffsetDateTime::now_utc().replace_nanosecond(0).unwrap()
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let cluster = Cluster::parse(TEXT, "i", directory.path()).unwrap();
            let state = StateDir::at(directory.path(), "c");
            state.create().unwrap();
            let pki = Pki::load_or_create(&state, &cluster).unwrap();
            Self { _directory: directory, cluster, state, pki }
        }

        /// The same as the state directory's, issued so many days ago and with so many left.
        fn again(&self, ca: &Ca, wanted: &str, usage: Usage, ago: i64, left: i64) -> String {
            let info = certs::inspect(wanted).unwrap();
            let leaf = Leaf::new(info.subject.clone(), usage).names(names(&info));
            let days = Duration::days;
            ca.issue(&leaf.valid(now() - days(ago), now() + days(left))).unwrap().cert_pem
        }

        fn ca(&self) -> Ca {
            Ca::from_pem(&self.pki.ca.cert_pem, &self.pki.ca.key_pem).unwrap()
        }

        fn kept(&self, certificates: &[(&str, &str)], change: impl Fn(&mut Facts)) -> Vec<String> {
            let identity = ClusterRef { name: "c".into(), id: "1".into() };
            let (bundle, topology) = (no_bundle(), Topology::default());
            let inputs = Inputs {
                cluster: &self.cluster,
                identity: &identity,
                pki: &self.pki,
                bundle: &bundle,
                topology: &topology,
            };
            let manifest = serde_json::json!({
                "cluster": {"name": "c", "id": "1"}, "host": "h1", "version": "", "applied": "", "complete": true, "entries": [],
            });
            let mut facts = Facts {
                manifest: Some(serde_json::from_value::<HostManifest>(manifest).unwrap()),
                certificates: certificates
                    .iter()
                    .map(|(path, pem)| CertificateFile { path: (*path).into(), pem: (*pem).into() })
                    .collect(),
                clock_millis: u64::try_from(now().unix_timestamp()).unwrap() * 1000,
                ..Facts::default()
            };
            change(&mut facts);
            host_state(inputs, &self.cluster.hosts[0], &facts).unwrap().keeps
        }
    }

    const WHOLE: fn(&mut Facts) = |_| {};

    #[test]
    fn what_a_host_renewed_stays_with_its_key() {
        let it = Fixture::new();
        let server = it.again(&it.ca(), &it.pki.apiserver["h1"].cert_pem, Usage::Server, 0, 365);
        let proxy = it.again(&it.ca(), &it.pki.proxy.cert_pem, Usage::Client, 0, 365);
        let both = [(SERVER, server.as_str()), (PROXY, proxy.as_str())];
        let mut kept = it.kept(&both, WHOLE);
        kept.sort();
        assert_eq!(kept, [SERVER, "/etc/kinstall/pki/apiserver.key", PROXY]);
        // the state directory's own are no matter of keeping, nor are authorities
        let theirs = [(SERVER, it.pki.apiserver["h1"].cert_pem.as_str()), ("/etc/kinstall/pki/ca.crt", "")];
        assert!(it.kept(&theirs, WHOLE).is_empty());
        let cut_off = |facts: &mut Facts| facts.manifest.as_mut().unwrap().complete = false;
        assert!(it.kept(&both, cut_off).is_empty(), "its key may be another one's");
        let of_another = |facts: &mut Facts| facts.manifest.as_mut().unwrap().cluster.id = "2".into();
        assert!(it.kept(&both, of_another).is_empty());
    }

    #[test]
    fn what_is_not_the_same_or_ends_soon_is_replaced() {
        let it = Fixture::new();
        let (ca, wanted) = (it.ca(), it.pki.apiserver["h1"].cert_pem.as_str());
        let keeps = |pem: &str| !it.kept(&[(SERVER, pem)], WHOLE).is_empty();
        assert!(keeps(&it.again(&ca, wanted, Usage::Server, 325, 31)), "also an older one");
        assert!(!keeps(&it.again(&ca, wanted, Usage::Server, 335, 29)));
        assert!(!keeps(&it.again(&ca, wanted, Usage::Both, 0, 365)));
        assert!(!keeps(&it.again(&Ca::generate("kinstall-ca").unwrap(), wanted, Usage::Server, 0, 365)));
        let other = Leaf::new(Subject::new("kube-apiserver", &[]), Usage::Server).names(["10.0.0.2"]);
        assert!(!keeps(&ca.issue(&other).unwrap().cert_pem));
    }

    #[test]
    fn what_was_ordered_anew_is_replaced() {
        let mut it = Fixture::new();
        let proxy = it.again(&it.ca(), &it.pki.proxy.cert_pem, Usage::Client, 0, 365);
        let server = it.again(&it.ca(), &it.pki.apiserver["h1"].cert_pem, Usage::Server, 0, 365);
        give_up(&it.state, &it.cluster, Selection { kinds: &[Kind::Agents], hosts: &[] }).unwrap();
        it.pki = Pki::load_or_create(&it.state, &it.cluster).unwrap();
        let kept = it.kept(&[(SERVER, &server), (PROXY, &proxy)], WHOLE);
        assert_eq!(kept, [SERVER, "/etc/kinstall/pki/apiserver.key"]);
        let later = it.again(&it.ca(), &it.pki.proxy.cert_pem, Usage::Client, -275, 640);
        assert_eq!(it.kept(&[(PROXY, &later)], WHOLE), [PROXY], "renewed again long after the order");
    }

    #[test]
    fn who_runs_an_external_etcd_brings_its_certificates() {
        let directory = tempfile::tempdir().unwrap();
        let theirs = Ca::generate("theirs").unwrap();
        let client = theirs.issue(&Leaf::new(Subject::new("us", &[]), Usage::Client)).unwrap();
        for (name, text) in [("ca.crt", theirs.cert_pem()), ("c.crt", &client.cert_pem), ("c.key", &client.key_pem)] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let etcd = "etcd: {endpoints: ['https://e:2379'], caFile: ca.crt, certFile: c.crt, keyFile: c.key}\n";
        let cluster = Cluster::parse(&format!("{TEXT}{etcd}"), "i", directory.path()).unwrap();
        let state = StateDir::at(Path::new(directory.path()), "c");
        state.create().unwrap();
        let pki = Pki::load_or_create(&state, &cluster).unwrap();
        let it = Fixture { _directory: directory, cluster, state, pki };
        let old = it.again(&theirs, &client.cert_pem, Usage::Client, 100, 265);
        assert!(it.kept(&[("/etc/kinstall/pki/apiserver-etcd-client.crt", &old)], WHOLE).is_empty());
    }
}
