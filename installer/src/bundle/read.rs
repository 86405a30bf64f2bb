//! Opens a bundle: unpacks it once into the cache, verifying every blob against its name.
//!
//! Cache: `$KINSTALL_CACHE` or `~/.cache/kinstall`. `bundles/<key>/` holds `manifest.json` and the blobs of one bundle file;
//! the key is made from the file's path, size, time and inode, so a replaced bundle is unpacked anew. What nobody has opened for a
//! week goes when another one is unpacked.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail, ensure};
use hoststate::bundle::BundleManifest;
use sha2::Digest as _;

use super::Bundle;
use super::signature::{self, Signer};

const MANIFEST: &str = "manifest.json";
/// Beside the manifest: the key that had signed the file. Whoever asks for another one makes it be read again.
const SIGNER: &str = "signed-by";
const MANIFEST_LIMIT: u64 = 16 * 1024 * 1024;
/// How long an unpacked bundle stays that nobody opens.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

impl Bundle {
    /// `signer`: who has to have signed it, if somebody has to.
    pub fn open(path: &Path, signer: Option<&Signer>) -> anyhow::Result<Self> {
        Self::open_in(path, signer, &cache_directory()?)
    }

    pub fn open_in(path: &Path, signer: Option<&Signer>, cache: &Path) -> anyhow::Result<Self> {
        let directory = cache
            .join("bundles")
            .join(key(path).with_context(|| format!("cannot read the bundle {}", path.display()))?);
        if let Some(bundle) = cached(path, signer, &directory) {
            // a cache that cannot be written to serves as well
            let _ = used(&directory);
            return Ok(bundle);
        }
        let parent = directory.parent().unwrap_or(cache).to_path_buf();
        create_private(&parent).with_context(|| format!("cannot create the cache {}", parent.display()))?;
        let temporary = parent.join(format!("tmp-{}", std::process::id()));
        let _ = fs::remove_dir_all(&temporary);
        let unpacked = unpack(path, signer, &temporary).and_then(|()| {
            let _ = fs::remove_dir_all(&directory);
            match fs::rename(&temporary, &directory) {
                // another run was quicker: its result is as good
                Err(_) if directory.join(MANIFEST).exists() => Ok(()),
                result => result.with_context(|| format!("cannot keep {}", directory.display())),
            }
        });
        let _ = fs::remove_dir_all(&temporary);
        // what cannot be removed now can the next time
        let _ = prune(&parent);
        unpacked
            .with_context(|| format!("the bundle {} cannot be used: fetch it or create it again", path.display()))?;
        cached(path, signer, &directory)
            .with_context(|| format!("the cache {} is broken: remove it and run again", directory.display()))
    }
}

/// Its time says when it was used.
fn used(directory: &Path) -> io::Result<()> {
    File::open(directory)?.set_modified(SystemTime::now())
}

/// Removes what was not used for long, and what killed runs have left.
fn prune(bundles: &Path) -> io::Result<()> {
    for entry in fs::read_dir(bundles)? {
        let entry = entry?;
        let idle = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if idle > KEPT {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Where bundles are unpacked.
pub fn cache_directory() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("KINSTALL_CACHE").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let home = std::env::home_dir()
        .context("there is no home directory; set KINSTALL_CACHE to where bundles may be unpacked")?;
    Ok(home.join(".cache/kinstall"))
}

fn key(path: &Path) -> io::Result<String> {
    let path = fs::canonicalize(path)?;
    let metadata = fs::metadata(&path)?;
    let identity = format!(
        "{}\0{}\0{}.{}\0{}\0{}",
        path.display(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.dev(),
        metadata.ino()
    );
    Ok(hoststate::sha256_hex(identity.as_bytes())[..32].to_owned())
}

/// An unpacked bundle, if every blob is there at its full size (contents were verified when they were written, and the host
/// verifies them again).
fn cached(path: &Path, signer: Option<&Signer>, directory: &Path) -> Option<Bundle> {
    if let Some(signer) = signer
        && fs::read_to_string(directory.join(SIGNER)).ok()? != signer.text()
    {
        return None;
    }
    let manifest = parse(&fs::read(directory.join(MANIFEST)).ok()?).ok()?;
    let complete =
        blobs(&manifest).all(|(sha256, size)| fs::metadata(directory.join(sha256)).is_ok_and(|m| m.len() == size));
    complete.then(|| Bundle { path: path.to_path_buf(), manifest, blobs: directory.to_path_buf() })
}

pub(super) fn blobs(manifest: &BundleManifest) -> impl Iterator<Item = (&str, u64)> {
    let files = manifest.files.iter().map(|file| (file.sha256.as_str(), file.size));
    files.chain(manifest.images.iter().map(|image| (image.sha256.as_str(), image.size)))
}

/// Reads every byte of the file and keeps none. Gives its table of contents.
pub fn verify(path: &Path, signer: Option<&Signer>) -> anyhow::Result<BundleManifest> {
    signature::read(path, signer, |source| walk(source, None))
        .map(|(manifest, _)| manifest)
        .with_context(|| format!("the bundle {} is not as it was made", path.display()))
}

/// The table of contents alone, whatever follows it.
pub fn manifest(path: &Path) -> anyhow::Result<BundleManifest> {
    let read = || {
        let mut archive = tar::Archive::new(zstd::Decoder::new(File::open(path)?).context("it is not a zstd file")?);
        head(&mut archive.entries()?).map(|(manifest, _)| manifest)
    };
    read().with_context(|| format!("cannot read the bundle {}", path.display()))
}

fn unpack(path: &Path, signer: Option<&Signer>, directory: &Path) -> anyhow::Result<()> {
    create_private(directory)?;
    let (_, text) = signature::read(path, signer, |source| walk(source, Some(directory)))?;
    if let Some(signer) = signer {
        fs::write(directory.join(SIGNER), signer.text())?;
    }
    fs::write(directory.join(MANIFEST), text)?;
    Ok(())
}

/// Compares every blob with its name, and writes it to a file of that name if there is a directory for it. Gives the manifest and
/// its text.
fn walk(source: &mut dyn Read, directory: Option<&Path>) -> anyhow::Result<(BundleManifest, Vec<u8>)> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(source).context("it is not a zstd file")?);
    let mut entries = archive.entries()?;
    let (manifest, text) = head(&mut entries)?;
    let mut seen = HashSet::new();
    for entry in entries {
        let mut entry = entry.context("it is cut off or damaged")?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let sha256 =
            name.strip_prefix("blobs/").ok_or_else(|| anyhow!("it holds {name:?}, which no bundle has"))?.to_owned();
        let Some((_, size)) = blobs(&manifest).find(|(digest, _)| *digest == sha256) else {
            bail!("it holds a blob {sha256} that its manifest does not name");
        };
        match directory {
            Some(directory) => compare(&mut entry, &sha256, size, &mut File::create(directory.join(&sha256))?)?,
            None => compare(&mut entry, &sha256, size, &mut io::sink())?,
        }
        seen.insert(sha256);
    }
    for (sha256, _) in blobs(&manifest) {
        ensure!(seen.contains(sha256), "the blob {sha256} is missing");
    }
    Ok((manifest, text))
}

fn head<R: Read>(entries: &mut tar::Entries<'_, R>) -> anyhow::Result<(BundleManifest, Vec<u8>)> {
    let first = entries.next().ok_or_else(|| anyhow!("it is empty"))?.context("it is no bundle, or damaged")?;
    ensure!(first.path()?.as_os_str() == MANIFEST, "its first member is not {MANIFEST}");
    let mut text = Vec::new();
    first.take(MANIFEST_LIMIT).read_to_end(&mut text).context("it is cut off")?;
    Ok((parse(&text)?, text))
}

fn compare(source: &mut impl Read, sha256: &str, size: u64, sink: &mut dyn Write) -> anyhow::Result<()> {
    let mut hash = sha2::Sha256::new();
    let mut written = 0;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = source.read(&mut buffer).context("it is cut off or damaged")?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        sink.write_all(&buffer[..read]).context("cannot write to the cache; is the disk full?")?;
        written += read as u64;
    }
    let actual = hex::encode(hash.finalize());
    ensure!(
        actual == sha256 && written == size,
        "the blob {sha256} ({size} bytes) has the digest {actual} ({written} bytes): it is damaged"
    );
    Ok(())
}

fn parse(text: &[u8]) -> anyhow::Result<BundleManifest> {
    let manifest: BundleManifest = serde_json::from_slice(text)
        .context("its manifest cannot be read; it may come from another version of kinstall")?;
    ensure!(manifest.format == 1, "its format is {}, this kinstall reads 1", manifest.format);
    for (sha256, _) in blobs(&manifest) {
        ensure!(sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit()), "{sha256:?} is no digest");
    }
    for file in &manifest.files {
        let plain = Path::new(&file.path).components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(plain && !file.path.is_empty(), "the path {:?} leaves its directory", file.path);
    }
    ensure!(
        !manifest.version.is_empty()
            && manifest.version.chars().all(|c| c.is_ascii_alphanumeric() || ".-+_".contains(c))
            && !manifest.version.starts_with('.'),
        "{:?} is no version",
        manifest.version
    );
    Ok(manifest)
}

fn create_private(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::super::create::{Input, create};
    use super::*;

    fn bundle(directory: &Path) -> PathBuf {
        let runtime = directory.join("runtime/bin");
        fs::create_dir_all(&runtime).unwrap();
        for name in ["containerd", "containerd-shim-runc-v2", "ctr", "runc"] {
            fs::write(runtime.join(name), format!("this is {name}").repeat(1000)).unwrap();
        }
        for name in ["components", "pause", "image.tar"] {
            fs::write(directory.join(name), format!("{name}\n").repeat(5000)).unwrap();
        }
        let input = Input {
            components: directory.join("components"),
            pause: directory.join("pause"),
            runtime_dir: directory.join("runtime"),
            images: vec![("docker.io/library/mariadb:10.11".into(), directory.join("image.tar"))],
            arch: "amd64".into(),
            version: "0.1.0".into(),
            kubernetes: "1.38.0".into(),
        };
        let output = directory.join("bundle.tar.zst");
        create(&input, &output).unwrap();
        output
    }

    #[test]
    fn what_was_put_in_comes_out_and_the_second_time_from_the_cache() {
        let directory = tempfile::tempdir().unwrap();
        let path = bundle(directory.path());
        let opened = Bundle::open_in(&path, None, &directory.path().join("cache")).unwrap();
        let components = opened.components().unwrap();
        assert_eq!(fs::read(opened.blob(&components.sha256)).unwrap(), "components\n".repeat(5000).into_bytes());
        assert_eq!(opened.manifest.kubernetes(), "1.38.0");
        assert_eq!(opened.manifest.images[0].name, "docker.io/library/mariadb:10.11");
        let before = fs::metadata(opened.blob(&components.sha256)).unwrap().ino();
        let again = Bundle::open_in(&path, None, &directory.path().join("cache")).unwrap();
        assert_eq!(fs::metadata(again.blob(&components.sha256)).unwrap().ino(), before);
    }

    #[test]
    fn what_nobody_opens_for_long_goes_when_another_one_comes() {
        let directory = tempfile::tempdir().unwrap();
        let path = bundle(directory.path());
        let cache = directory.path().join("cache");
        let bundles = cache.join("bundles");
        for name in ["opened-lately", "of-long-ago", "tmp-1"] {
            fs::create_dir_all(bundles.join(name)).unwrap();
            fs::write(bundles.join(name).join("blob"), name).unwrap();
        }
        let long_ago = SystemTime::now() - KEPT - Duration::from_secs(60);
        for name in ["of-long-ago", "tmp-1"] {
            File::open(bundles.join(name)).unwrap().set_modified(long_ago).unwrap();
        }
        let opened = Bundle::open_in(&path, None, &cache).unwrap();
        assert!(bundles.join("opened-lately").exists());
        assert_eq!(fs::read_dir(&bundles).unwrap().count(), 2, "it, and what was opened lately");

        File::open(&opened.blobs).unwrap().set_modified(long_ago).unwrap();
        let again = Bundle::open_in(&path, None, &cache).unwrap();
        assert!(fs::metadata(&again.blobs).unwrap().modified().unwrap() > long_ago, "it is in use");
    }

    #[test]
    fn a_cut_or_damaged_bundle_is_refused_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = bundle(directory.path());
        let whole = fs::read(&path).unwrap();
        let cache = directory.path().join("cache");
        let half = whole.len() / 2;
        let mut flipped = whole.clone();
        flipped[half] ^= 0x55;
        for bytes in [whole[..half].to_vec(), flipped, Vec::new(), b"no bundle at all".to_vec()] {
            fs::write(&path, bytes).unwrap();
            let message = format!("{:#}", Bundle::open_in(&path, None, &cache).unwrap_err());
            assert!(message.contains("create it again"), "{message}");
            assert_eq!(fs::read_dir(cache.join("bundles")).unwrap().count(), 0);
        }
    }

    #[test]
    fn who_has_to_have_signed_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let path = bundle(directory.path());
        let cache = directory.path().join("cache");
        let keys = [(); 2].map(|()| minisign::KeyPair::generate_unencrypted_keypair().unwrap());
        let [signer, other] = keys.each_ref().map(|keys| Signer::parse(&keys.pk.to_base64()).unwrap());
        let open =
            |signer: Option<&Signer>| Bundle::open_in(&path, signer, &cache).map_err(|error| format!("{error:#}"));
        assert!(open(Some(&signer)).unwrap_err().contains("has to be signed"));
        open(None).unwrap();
        assert!(open(Some(&signer)).unwrap_err().contains("has to be signed"), "the cache has an unsigned one");

        let made = minisign::sign(None, &keys[0].sk, File::open(&path).unwrap(), None, None).unwrap();
        fs::write(signature::signature_of(&path), made.into_string()).unwrap();
        open(Some(&signer)).unwrap();
        assert!(open(Some(&other)).unwrap_err().contains("another key"));
        assert_eq!(verify(&path, Some(&signer)).unwrap().version, "0.1.0");
        assert!(verify(&path, Some(&other)).is_err());
        // it was heard when it was unpacked
        fs::remove_file(signature::signature_of(&path)).unwrap();
        open(Some(&signer)).unwrap();
    }

    #[test]
    fn contents_are_read_without_unpacking() {
        let directory = tempfile::tempdir().unwrap();
        let path = bundle(directory.path());
        assert_eq!(manifest(&path).unwrap(), verify(&path, None).unwrap());
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 20]).unwrap();
        assert!(format!("{:#}", verify(&path, None).unwrap_err()).contains("not as it was made"));
        fs::write(&path, b"nothing").unwrap();
        assert!(manifest(&path).is_err());
    }

    #[test]
    fn a_manifest_of_the_first_days_does_not_name_kubernetes_version() {
        let old = parse(br#"{"format":1,"version":"0.1.0","arch":"amd64","images":[],"files":[]}"#).unwrap();
        assert_eq!(old.kubernetes(), "1.37.0");
    }

    #[test]
    fn a_manifest_that_leaves_its_directory_is_refused() {
        let text = br#"{"format":1,"version":"1","arch":"amd64","images":[],"files":[{"path":"../x","mode":1,"sha256":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","size":1}]}"#;
        assert!(parse(text).unwrap_err().to_string().contains("leaves"));
    }
}
