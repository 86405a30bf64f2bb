//! `kinstall bundle create|list|verify|diff`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hoststate::bundle::BundleManifest;
use serde_json::{Value, json};

use super::Ended;
use crate::bundle::create::{self, Input};
use crate::bundle::{self, Signer};
use crate::cli::{BundleCreate, BundleDiff, BundleFile, BundleVerify};
use crate::printer::Printer;

pub fn create(arguments: BundleCreate, printer: &Printer) -> anyhow::Result<Ended> {
    let output = arguments.out.unwrap_or_else(|| {
        PathBuf::from(format!("kinstall-bundle-{}-linux-{}.tar.zst", arguments.bundle_version, arguments.arch))
    });
    let input = Input {
        components: arguments.components,
        pause: arguments.pause,
        runtime_dir: arguments.runtime_dir,
        images: arguments.images,
        arch: arguments.arch,
        version: arguments.bundle_version,
        kubernetes: arguments.kubernetes_version,
    };
    let manifest = create::create(&input, &output)?;
    tell_contents(&output, &manifest, printer)
}

pub fn list(arguments: &BundleFile, printer: &Printer) -> anyhow::Result<Ended> {
    let path = bundle::find(arguments.file.as_deref())?;
    tell_contents(&path, &bundle::manifest(&path)?, printer)
}

pub fn verify(arguments: &BundleVerify, printer: &Printer) -> anyhow::Result<Ended> {
    let signer = arguments.key.as_deref().map(Signer::named).transpose()?;
    let path = bundle::find(arguments.bundle.file.as_deref())?;
    let manifest = bundle::verify(&path, signer.as_ref())?;
    let blobs = manifest.files.len() + manifest.images.len();
    let signed = match &signer {
        Some(signer) => format!("signed with {}", signer.text()),
        None => "nobody was asked to have signed it (--key)".to_owned(),
    };
    printer.result(
        &format!("{}: {blobs} files and images are as they were made; {signed}", path.display()),
        &json!({"event": "verified", "file": path, "version": manifest.version, "blobs": blobs,
            "key": signer.as_ref().map(Signer::text)}),
    );
    Ok(Ended::Done)
}

pub fn diff(arguments: &BundleDiff, printer: &Printer) -> anyhow::Result<Ended> {
    let [old, new] = [&arguments.old, &arguments.new].map(|path| bundle::manifest(&bundle::find(Some(path))?));
    let changes = changes(&old?, &new?);
    let text: String = changes.iter().map(|change| change.line() + "\n").collect();
    let text = if changes.is_empty() { "they hold the same".to_owned() } else { text };
    printer.result(
        text.trim_end(),
        &json!({"event": "bundleDiff", "changes": changes.iter().map(Change::json).collect::<Vec<_>>()}),
    );
    Ok(if changes.is_empty() { Ended::Done } else { Ended::ChangesPending })
}

fn tell_contents(path: &Path, manifest: &BundleManifest, printer: &Printer) -> anyhow::Result<Ended> {
    let size = std::fs::metadata(path)?.len();
    let mut text = format!(
        "{} ({:.1} MiB): version {}, Kubernetes {}, linux/{}\n",
        path.display(),
        mib(size),
        manifest.version,
        manifest.kubernetes(),
        manifest.arch
    );
    for (name, size, _) in members(manifest) {
        text.push_str(&format!("  {name:<44} {:>7.1} MiB\n", mib(size)));
    }
    printer.result(&text, &json!({"event": "bundle", "file": path, "size": size, "manifest": manifest}));
    Ok(Ended::Done)
}

/// Name, size and digest of all that a bundle brings.
fn members(manifest: &BundleManifest) -> impl Iterator<Item = (&str, u64, &str)> {
    let files = manifest.files.iter().map(|file| (file.path.as_str(), file.size, file.sha256.as_str()));
    files.chain(manifest.images.iter().map(|image| (image.name.as_str(), image.size, image.sha256.as_str())))
}

/// What one has and the other has not, or has otherwise.
#[derive(Debug, PartialEq)]
struct Change {
    what: String,
    old: Option<String>,
    new: Option<String>,
}

impl Change {
    fn line(&self) -> String {
        match (&self.old, &self.new) {
            (None, Some(new)) => format!("  + {:<44} {new}", self.what),
            (Some(old), None) => format!("  - {:<44} {old}", self.what),
            (old, new) => {
                let side = |side: &Option<String>| side.clone().unwrap_or_default();
                format!("  ~ {:<44} {} -> {}", self.what, side(old), side(new))
            }
        }
    }

    fn json(&self) -> Value {
        json!({"what": self.what, "old": self.old, "new": self.new})
    }
}

fn changes(old: &BundleManifest, new: &BundleManifest) -> Vec<Change> {
    let about = |manifest: &BundleManifest| {
        [
            ("version", manifest.version.clone()),
            ("Kubernetes", manifest.kubernetes().to_owned()),
            ("architecture", manifest.arch.clone()),
        ]
    };
    let mut found = Vec::new();
    for ((what, old), (_, new)) in about(old).into_iter().zip(about(new)) {
        if old != new {
            found.push(Change { what: what.to_owned(), old: Some(old), new: Some(new) });
        }
    }
    let mut sides: BTreeMap<&str, [Option<(u64, &str)>; 2]> = BTreeMap::new();
    for (side, manifest) in [old, new].into_iter().enumerate() {
        for (name, size, digest) in members(manifest) {
            sides.entry(name).or_default()[side] = Some((size, digest));
        }
    }
    for (name, [old, new]) in sides {
        if old != new {
            let text =
                |(size, digest): (u64, &str)| format!("{:.1} MiB ({})", mib(size), digest.get(..12).unwrap_or(digest));
            found.push(Change { what: name.to_owned(), old: old.map(text), new: new.map(text) });
        }
    }
    found
}

#[allow(clippy::cast_precision_loss)]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bundle(version: &str, files: &[(&str, &str)]) -> BundleManifest {
        let files: Vec<_> = files
            .iter()
            .map(|(path, digest)| json!({"path": path, "mode": 493, "sha256": digest, "size": 1_048_576}))
            .collect();
        serde_json::from_value(json!({"format": 1, "version": version, "arch": "amd64", "files": files, "images": []}))
            .unwrap()
    }

    #[test]
    fn what_came_what_went_and_what_is_another() {
        let old = bundle("1", &[("bin/a", "0123456789abcdef"), ("bin/b", "bb"), ("bin/c", "cc")]);
        let new = bundle("2", &[("bin/a", "aa"), ("bin/b", "bb"), ("bin/d", "dd")]);
        let lines: Vec<_> = changes(&old, &new).iter().map(Change::line).collect();
        let squeezed: Vec<_> = lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            squeezed,
            [
                "~ version 1 -> 2",
                "~ bin/a 1.0 MiB (0123456789ab) -> 1.0 MiB (aa)",
                "- bin/c 1.0 MiB (cc)",
                "+ bin/d 1.0 MiB (dd)"
            ]
        );
        assert_eq!(changes(&old, &old), []);
    }
}
