//! The part of a host's state that keys and certificates are.

use hoststate::bundle::BundleManifest;
use hoststate::{Facts, HostState, Resource};

use super::{Inputs, host_state};
use crate::cluster::Host;

/// What stands for a bundle where none is needed: a host keeps what it has of one.
pub fn no_bundle() -> BundleManifest {
    let arch = String::new();
    BundleManifest { format: 1, version: String::new(), kubernetes: None, arch, files: Vec::new(), images: Vec::new() }
}

/// What a host that has kinstall is to have of keys, certificates and kubeconfigs, and the units that use them; for
/// [`hoststate::Request::Amend`].
pub fn certificates_state(inputs: Inputs<'_>, host: &Host, facts: &Facts) -> anyhow::Result<HostState> {
    let mut state = host_state(inputs, host, facts)?;
    let there = |kind: &str, name: &str| {
        let entries = facts.manifest.as_ref().map(|manifest| manifest.entries.as_slice()).unwrap_or_default();
        entries.iter().any(|entry| entry.kind == kind && entry.name == name)
    };
    state.resources.retain(|resource| match resource {
        Resource::File { path, .. } => is_of_certificates(path) && there("file", path),
        Resource::Unit { name, .. } => there("unit", name),
        _ => false,
    });
    if let Some(manifest) = &facts.manifest {
        state.version.clone_from(&manifest.version);
    }
    Ok(state)
}

fn is_of_certificates(path: &str) -> bool {
    path.starts_with("/etc/kinstall/pki/") || (path.starts_with("/etc/kinstall/") && path.ends_with(".kubeconfig"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hoststate::HostManifest;
    use hoststate::resource::ClusterRef;
    use hoststate::wire::{ManifestEntry, Undo};

    use super::*;
    use crate::cluster::Cluster;
    use crate::desired::Topology;
    use crate::state::StateDir;
    use crate::state::pki::Pki;

    #[test]
    fn only_what_the_host_has_of_keys_and_their_units() {
        let directory = tempfile::tempdir().unwrap();
        let text = "cluster: c\nhosts:\n- {name: h1, address: 10.0.0.1, role: controlPlane}\n";
        let cluster = Cluster::parse(text, "i", directory.path()).unwrap();
        let state = StateDir::at(directory.path(), "c");
        state.create().unwrap();
        let pki = Pki::load_or_create(&state, &cluster).unwrap();
        let (identity, bundle, topology) = (ClusterRef::default(), no_bundle(), Topology::default());
        let inputs = Inputs { cluster: &cluster, identity: &identity, pki: &pki, bundle: &bundle, topology: &topology };
        let all = host_state(inputs, &cluster.hosts[0], &Facts::default()).unwrap();
        let entry = |kind: &str, name: &str| ManifestEntry {
            resource: format!("{kind} {name}"),
            kind: kind.into(),
            name: name.into(),
            undo: Undo::Remove,
        };
        let entries = all
            .resources
            .iter()
            .filter_map(|resource| match resource {
                Resource::File { path, .. } if !path.ends_with("front-proxy-client.key") => Some(entry("file", path)),
                Resource::Unit { name, .. } if !name.contains("proxy") => Some(entry("unit", name)),
                _ => None,
            })
            .collect();
        let manifest = HostManifest {
            cluster: identity.clone(),
            host: "h1".into(),
            version: "0.0.9".into(),
            complete: true,
            entries,
            ..HostManifest::default()
        };
        let facts = Facts { manifest: Some(manifest), ..Facts::default() };
        let part = certificates_state(inputs, &cluster.hosts[0], &facts).unwrap();
        let ids: Vec<_> = part.resources.iter().map(Resource::id).collect();
        let has = |id: &str| ids.iter().any(|found| found == id);
        assert!(has("file /etc/kinstall/pki/apiserver.key") && has("file /etc/kinstall/admin.kubeconfig"));
        assert!(has("unit kinstall-control-plane.service") && has("unit kinstall-kubelet.service"));
        assert!(!has("file /etc/kinstall/kubelet.yaml") && !ids.iter().any(|id| id.starts_with("symlink")), "{ids:?}");
        assert!(!has("file /etc/kinstall/pki/front-proxy-client.key") && !has("unit kinstall-proxy.service"));
        assert_eq!(part.version, "0.0.9");
    }
}
