//! Writes a root as an OCI image archive with one layer (https://github.com/opencontainers/image-spec: image layout, manifest,
//! config). The same root gives the same bytes: entries are sorted, times are zero.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::Path;

/// Part of the cache key; raise with every change of the bytes written here.
pub const FORMAT: &str = "oci-2";
/// zstd: containerd unpacks it several times faster than gzip, and it is smaller on the way to the hosts.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const LEVEL: i32 = 6;

/// `image.json` of a recipe.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Full reference, for example `docker.io/library/mariadb:10.11`.
    pub reference: String,
    /// The `config` object of the image configuration, verbatim.
    config: Value,
}

struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Blob { digest: digest(&bytes), bytes }
    }

    fn json(value: &Value) -> Result<Self> {
        Ok(Blob::new(serde_json::to_vec(value)?))
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

pub fn write(spec: &Spec, root: &Path, archive: &Path) -> Result<()> {
    let (layer, diff_id) = layer(root)?;
    let config = Blob::json(&json!({
        "architecture": architecture(), "os": "linux", "created": "1970-01-01T00:00:00Z", "config": spec.config,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "kinstall lab"}],
    }))?;
    let manifest = Blob::json(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
        "layers": [layer.descriptor(LAYER)],
    }))?;
    let mut entry = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
    let tag = spec.reference.rsplit(':').next().unwrap_or_default();
    entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
    entry["annotations"] =
        json!({"io.containerd.image.name": spec.reference, "org.opencontainers.image.ref.name": tag});
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});

    let mut tar = tar::Builder::new(BufWriter::new(File::create(archive)?));
    append(&mut tar, "oci-layout", &serde_json::to_vec(&json!({"imageLayoutVersion": "1.0.0"}))?)?;
    append(&mut tar, "index.json", &serde_json::to_vec(&index)?)?;
    for blob in [&manifest, &config, &layer] {
        append(&mut tar, &format!("blobs/sha256/{}", blob.digest.trim_start_matches("sha256:")), &blob.bytes)?;
    }
    tar.into_inner()?.flush()?;
    Ok(())
}

/// The compressed layer and the digest of the layer before compression.
fn layer(root: &Path) -> Result<(Blob, String)> {
    // GNU tar, because it also keeps file capabilities and hard links
    let mut child = std::process::Command::new("tar")
        .args([
            "--format=posix",
            "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
            "--numeric-owner",
        ])
        .args(["--sort=name", "--mtime=@0", "--xattrs", "--xattrs-include=security.capability", "-C"])
        .arg(root)
        .args(["-cf", "-", "."])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("cannot start tar")?;
    let mut plain = child.stdout.take().context("tar has no output")?;
    let mut hash = Sha256::new();
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        let n = plain.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        encoder.write_all(&buffer[..n])?;
    }
    if !child.wait()?.success() {
        anyhow::bail!("tar cannot read all of {}", root.display());
    }
    Ok((Blob::new(encoder.finish()?), format!("sha256:{}", hex::encode(hash.finalize()))))
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_cksum();
    tar.append_data(&mut header, name, bytes)
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Go's name of this machine's architecture, as OCI wants it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::fs;

    #[test]
    fn the_same_root_gives_the_same_archive() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(root.join("bin/x"), "hello").unwrap();
        let spec = || Spec { reference: "example.org/a:1".into(), config: json!({"Entrypoint": ["/bin/x"]}) };
        let (one, two) = (dir.path().join("1.tar"), dir.path().join("2.tar"));
        write(&spec(), &root, &one).unwrap();
        fs::File::open(root.join("bin/x"))
            .unwrap()
            .set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(9))
            .unwrap();
        write(&spec(), &root, &two).unwrap();
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());

        let mut blobs = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(File::open(&one).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            blobs.insert(entry.path().unwrap().display().to_string(), bytes);
        }
        let index: Value = serde_json::from_slice(&blobs["index.json"]).unwrap();
        let name = index["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
        assert_eq!(digest(&blobs[&name]), index["manifests"][0]["digest"]);
        let manifest: Value = serde_json::from_slice(&blobs[&name]).unwrap();
        let layer = &blobs[&manifest["layers"][0]["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/")];
        let config: Value = serde_json::from_slice(
            &blobs[&manifest["config"]["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/")],
        )
        .unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&zstd::decode_all(&layer[..]).unwrap()));
    }
}
