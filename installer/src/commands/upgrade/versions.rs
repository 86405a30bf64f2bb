//! Which version may follow which. Pure.

use hoststate::HostManifest;
use hoststate::bundle::{BundleManifest, KUBERNETES};
use semver::Version;

/// kinstall's version, and Kubernetes' that its components have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions<'a> {
    pub kinstall: &'a str,
    pub kubernetes: &'a str,
}

impl<'a> Versions<'a> {
    pub fn of_bundle(bundle: &'a BundleManifest) -> Self {
        Self { kinstall: &bundle.version, kubernetes: bundle.kubernetes() }
    }

    /// What a host has for good: as long as an upgrade of it is not over that is the version it can go back to.
    pub fn of_host(manifest: &'a HostManifest) -> Self {
        let (kinstall, kubernetes) = match &manifest.previous {
            Some(previous) => (&previous.version, &previous.kubernetes),
            None => (&manifest.version, &manifest.kubernetes),
        };
        Self { kinstall, kubernetes: kubernetes.as_deref().unwrap_or(KUBERNETES) }
    }

    /// `0.1.0 → 0.2.0 (Kubernetes 1.37.0 → 1.38.0)`
    pub fn describe(self, to: Self) -> String {
        let kubernetes = match self.kubernetes == to.kubernetes {
            true => format!("Kubernetes {}", to.kubernetes),
            false => format!("Kubernetes {} → {}", self.kubernetes, to.kubernetes),
        };
        format!("{} → {} ({kubernetes})", self.kinstall, to.kinstall)
    }
}

/// Whether a host with `from` may be brought to `to`.
///
/// # Errors
/// Says why not, and what to do instead.
pub fn may_follow(from: Versions<'_>, to: Versions<'_>) -> Result<(), String> {
    if from == to {
        return Ok(());
    }
    if from.kinstall != to.kinstall && parse(to.kinstall)? < parse(from.kinstall)? {
        return Err(format!(
            "the bundle's version {} is older than its {}: downgrades are refused, since what the newer version has written \
             need not be readable for the older one",
            to.kinstall, from.kinstall
        ));
    }
    kubernetes_may_follow(from.kubernetes, to.kubernetes)
}

/// The same of Kubernetes' versions alone.
pub fn kubernetes_may_follow(from: &str, to: &str) -> Result<(), String> {
    let (had, wanted) = (parse(from)?, parse(to)?);
    if wanted < had {
        return Err(format!(
            "the bundle's Kubernetes {wanted} is older than its {had}: downgrades are refused, since stored objects need not \
             be readable for the older one"
        ));
    }
    if wanted.major != had.major || wanted.minor > had.minor + 1 {
        return Err(format!(
            "the bundle's Kubernetes {wanted} skips minor versions after its {had}: API servers, kubelets and stored objects \
             go together with the minor version before, so upgrade to {}.{} first",
            had.major,
            had.minor + 1
        ));
    }
    Ok(())
}

/// Whether `up` with this version would replace the one that a host has; it would do so on all hosts at once and without a way
/// back. A host whose first installation, or whose way back, was interrupted is `up`'s.
pub fn is_upgrade(manifest: &HostManifest, version: &str) -> bool {
    let runs = manifest.entries.iter().any(|entry| entry.kind == "unit");
    let settled = manifest.complete || manifest.previous.is_some();
    runs && settled && Versions::of_host(manifest).kinstall != version
}

fn parse(text: &str) -> Result<Version, String> {
    text.trim_start_matches('v')
        .parse()
        .map_err(|error| format!("cannot tell whether {text:?} is newer or older: versions look like 1.2.3 ({error})"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn manifest(version: &str, complete: bool, previous: Option<&str>) -> HostManifest {
        serde_json::from_value(serde_json::json!({
            "cluster": {"name": "c", "id": "1"}, "host": "h1", "version": version, "applied": "", "complete": complete,
            "previous": previous.map(|version| serde_json::json!({"version": version, "kubernetes": "1.36.0"})),
            "entries": [{"resource": "unit u", "kind": "unit", "name": "u", "undo": {"how": "remove"}}],
        }))
        .unwrap()
    }

    #[test]
    fn up_stays_with_the_version_or_goes_back_to_it() {
        for (manifest, version, expected) in [
            (manifest("0.1.0", true, None), "0.1.0", false),
            (manifest("0.1.0", true, None), "0.1.1", true),
            (manifest("0.1.1", true, None), "0.1.0", true),
            // an upgrade that is not over
            (manifest("0.1.1", false, Some("0.1.0")), "0.1.1", true),
            (manifest("0.1.1", true, Some("0.1.0")), "0.1.0", false),
            // never came up
            (manifest("0.1.0", false, None), "0.1.1", false),
        ] {
            assert_eq!(is_upgrade(&manifest, version), expected, "{manifest:?} {version}");
        }
        let kept = HostManifest { entries: Vec::new(), ..manifest("0.1.0", true, None) };
        assert!(!is_upgrade(&kept, "0.1.1"), "nothing runs there");
    }

    #[test]
    fn an_upgrade_that_is_not_over_counts_from_what_the_host_can_go_back_to() {
        let begun = manifest("0.1.5", true, Some("0.1.0"));
        assert_eq!(Versions::of_host(&begun), Versions { kinstall: "0.1.0", kubernetes: "1.36.0" });
        assert_eq!(Versions::of_host(&manifest("0.1.5", true, None)).kubernetes, KUBERNETES);
    }

    #[test]
    fn one_minor_version_at_a_time_and_never_back() {
        for (from, to, refused) in [
            (("0.1.0", "1.37.0"), ("0.1.0", "1.37.0"), None),
            (("0.1.0", "1.37.0"), ("0.1.1", "1.37.0"), None),
            (("0.1.0", "1.37.0"), ("0.2.0", "1.38.2"), None),
            (("0.1.9", "1.37.0"), ("0.1.10", "1.37.4"), None),
            (("0.2.0-rc.1", "1.37.0"), ("0.2.0", "1.37.0"), None),
            (("0.1.1", "1.37.0"), ("0.1.0", "1.37.0"), Some("downgrades are refused")),
            (("0.2.0", "1.37.0"), ("0.2.0-rc.1", "1.37.0"), Some("downgrades are refused")),
            (("0.1.0", "1.37.1"), ("0.2.0", "1.37.0"), Some("Kubernetes 1.37.0 is older")),
            (("0.1.0", "1.37.0"), ("0.2.0", "1.39.0"), Some("upgrade to 1.38 first")),
            (("0.1.0", "1.37.0"), ("0.2.0", "2.0.0"), Some("skips minor versions")),
            (("0.1.0", "1.37.0"), ("tomorrow", "1.37.0"), Some("versions look like")),
            (("odd", "1.37.0"), ("odd", "1.37.0"), None),
        ] {
            let versions = |(kinstall, kubernetes)| Versions { kinstall, kubernetes };
            let found = may_follow(versions(from), versions(to)).err();
            match refused {
                None => assert_eq!(found, None, "{from:?} → {to:?}"),
                Some(words) => {
                    assert!(found.clone().unwrap_or_default().contains(words), "{from:?} → {to:?}: {found:?}")
                }
            }
        }
    }
}
