//! Images of versions that this host has no more. Each version brings its own, and nobody else removes them: the kubelet spares
//! what has no registry to come back from.

use std::collections::HashSet;
use std::io;

use hoststate::resource::OUR_IMAGES;
use hoststate::wire::Failure;
use hoststate::{Event, HostState, Resource};

use crate::resources::{self, Context, image};
use crate::{kept, manifest, runtime};

const STEP: &str = "remove old images";

/// Removes those that the host's state does not name, nor `keep`. On its way from one version to another a host needs both.
pub fn tidy(context: Context<'_>, keep: &[String]) -> Result<Event, Failure> {
    let fail = |error: io::Error| resources::io(STEP, &error);
    let settled = manifest::load(context.root).map_err(fail)?.is_some_and(|m| m.complete && m.previous.is_none());
    let state = kept::load(context.root).map_err(fail)?.filter(|_| settled);
    let going = state.map_or_else(Vec::new, |state| superfluous(image::recorded(context.root), &state, keep));
    if !going.is_empty() {
        let listed = runtime::run(context.sink, STEP, &["images", "ls"])?;
        let references = references(&listed, &going);
        if !references.is_empty() {
            runtime::run(context.sink, STEP, &[&["images", "rm"], references.as_slice()].concat())?;
        }
        image::forget(context.root, &going).map_err(fail)?;
    }
    Ok(Event::Done { changed: going.len(), unchanged: 0 })
}

fn superfluous(recorded: Vec<String>, state: &HostState, keep: &[String]) -> Vec<String> {
    let named = |resource: &Resource, wanted: &str| matches!(resource, Resource::Image { name, .. } if name == wanted);
    let is_needed = |name: &String| keep.contains(name) || state.resources.iter().any(|resource| named(resource, name));
    recorded.into_iter().filter(|name| name.starts_with(OUR_IMAGES) && !is_needed(name)).collect()
}

/// The runtime's references to these images, out of what `ctr images ls` prints (reference, type, digest, …). Besides its names an
/// image has one by its own digest, which goes with the last name.
fn references<'a>(listed: &'a str, going: &[String]) -> Vec<&'a str> {
    let rows: Vec<(&str, &str)> = listed
        .lines()
        .filter_map(|line| {
            let mut columns = line.split_whitespace();
            Some((columns.next()?, columns.nth(1)?))
        })
        .collect();
    let goes = |reference: &str| going.iter().any(|name| name == reference);
    let is_name = |reference: &str| !reference.starts_with("sha256:") && !reference.contains('@');
    let digests = |goes_or_stays: bool| -> HashSet<&str> {
        let rows = rows.iter().filter(|(reference, _)| is_name(reference) && goes(reference) == goes_or_stays);
        rows.map(|(_, digest)| *digest).collect()
    };
    let (leaving, staying) = (digests(true), digests(false));
    let is_last = |digest: &str| leaving.contains(digest) && !staying.contains(digest);
    rows.iter()
        .filter(|(reference, digest)| goes(reference) || !is_name(reference) && is_last(digest))
        .map(|(reference, _)| *reference)
        .collect()
}

#[cfg(test)]
mod tests {
    use hoststate::ImageSource;
    use hoststate::resource::ClusterRef;

    use super::*;

    #[test]
    fn what_the_state_or_a_pod_names_stays_and_so_does_what_is_not_ours() {
        let image = |name: &str| Resource::Image {
            name: name.into(),
            source: ImageSource::Executable { path: String::new(), entrypoint: Vec::new() },
        };
        let state = HostState {
            cluster: ClusterRef { name: "c".into(), id: "1".into() },
            host: "h1".into(),
            version: "2".into(),
            kubernetes: None,
            resources: vec![image("kinstall.local/components:2"), image("kinstall.local/pause:b")],
            keeps: Vec::new(),
        };
        let recorded = [
            "docker.io/library/wordpress:6",
            "kinstall.local/components:0",
            "kinstall.local/components:1",
            "kinstall.local/components:2",
            "kinstall.local/pause:a",
            "kinstall.local/pause:b",
        ];
        let keep = ["kinstall.local/components:0".to_owned()];
        let going = superfluous(recorded.map(str::to_owned).to_vec(), &state, &keep);
        assert_eq!(going, ["kinstall.local/components:1", "kinstall.local/pause:a"]);
    }

    #[test]
    fn an_images_own_digest_goes_with_its_last_name() {
        const LISTED: &str = "\
REF                         TYPE                                       DIGEST    SIZE     PLATFORMS   LABELS
kinstall.local/components:1 application/vnd.oci.image.manifest.v1+json sha256:aa 55.1 MiB linux/amd64 io.cri-containerd.image=managed
kinstall.local/components:2 application/vnd.oci.image.manifest.v1+json sha256:bb 55.1 MiB linux/amd64 io.cri-containerd.image=managed
kinstall.local/components:3 application/vnd.oci.image.manifest.v1+json sha256:bb 55.1 MiB linux/amd64 io.cri-containerd.image=managed
sha256:a1                   application/vnd.oci.image.manifest.v1+json sha256:aa 55.1 MiB linux/amd64 io.cri-containerd.image=managed
sha256:b1                   application/vnd.oci.image.manifest.v1+json sha256:bb 55.1 MiB linux/amd64 io.cri-containerd.image=managed
";
        let going =
            |names: &[&str]| names.iter().map(|name| format!("kinstall.local/components:{name}")).collect::<Vec<_>>();
        assert_eq!(
            references(LISTED, &going(&["1", "2"])),
            ["kinstall.local/components:1", "kinstall.local/components:2", "sha256:a1"]
        );
        assert_eq!(references(LISTED, &going(&["2", "3"])).last(), Some(&"sha256:b1"));
        assert!(references(LISTED, &going(&["9"])).is_empty(), "somebody has removed it by hand");
    }
}
