//! What clusters are upgraded to: ever newer components, and a newer container runtime.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use e2e::operator::{Operator, artifact};

use crate::site::State;

/// So many upgrades of components come one after the other before a cluster is made anew: making three control planes costs more than
/// their upgrade.
pub const CHAIN: u32 = 8;

/// How far the version of the second bundle of a chain is from the first one's: the runtime's is between them.
const GAP: u32 = 10;

pub struct Bundles {
    /// Of the bundle that clusters are made with: major and minor, and patch.
    minor: String,
    patch: u32,
    /// With the n-th newer components.
    components: Vec<String>,
    runtime: String,
    /// Of those that are made here.
    directory: PathBuf,
}

impl Bundles {
    /// Further ones are made in this directory.
    pub fn new(operator: &Operator, directory: PathBuf) -> Result<Self> {
        let file = |name: &str| artifact(name).map(|path| path.display().to_string());
        let said = operator.ok(&["--version"])?;
        let version = said.trim().rsplit(' ').next().context("kinstall has no version")?;
        let (minor, patch) = version.rsplit_once('.').context("a version of one number")?;
        Ok(Self {
            minor: minor.to_owned(),
            patch: patch.parse()?,
            components: vec![file("KINSTALL_BUNDLE_NEXT")?],
            runtime: file("KINSTALL_BUNDLE_RUNTIME")?,
            directory,
        })
    }

    /// What every host of a cluster has that came to this state.
    pub fn version(&self, state: State) -> String {
        let newer = match state {
            State::Newer(n @ 2..) | State::GrownNewer(n @ 2..) => GAP + n,
            State::Newer(_) | State::GrownNewer(_) => 1,
            State::Newest => 2,
            _ => 0,
        };
        format!("{}.{}", self.minor, self.patch + newer)
    }

    /// The file that brings a cluster to this state; [`Bundles::have`] has made it.
    pub fn to(&self, state: State) -> &str {
        match state {
            State::Newer(n) | State::GrownNewer(n) => &self.components[n as usize - 1],
            _ => &self.runtime,
        }
    }

    /// Makes what leads to this state, if nobody has yet.
    pub fn have(&mut self, operator: &Operator, state: State) -> Result<()> {
        let (State::Newer(wanted) | State::GrownNewer(wanted)) = state else { return Ok(()) };
        while self.components.len() < wanted as usize {
            let n = self.components.len() + 1;
            let version = self.version(State::Newer(u32::try_from(n)?));
            let bundle = self.create(operator, n, &version)?;
            self.components.push(bundle);
        }
        Ok(())
    }

    /// As tests/lab/bundles.sh makes the first: bytes behind the end of an executable change nothing.
    fn create(&self, operator: &Operator, n: usize, version: &str) -> Result<String> {
        let release = std::env::var("RELEASE").context("RELEASE is not set: run `make faults`")?;
        fs::create_dir_all(&self.directory)?;
        let components = self.directory.join("components");
        let mut bytes = fs::read(Path::new(&release).join("kinstall-components"))?;
        bytes.extend_from_slice(format!("next{n}").as_bytes());
        fs::write(&components, bytes)?;
        fs::set_permissions(&components, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let text = |path: &Path| path.display().to_string();
        let (components, pause) = (text(&components), text(&Path::new(&release).join("pause")));
        let (runtime, bundle) =
            (text(&lab::tools::runtime()?), text(&self.directory.join(format!("next-{n}.tar.zst"))));
        let from = ["--components", &components, "--pause", &pause, "--runtime-dir", &runtime];
        let versions = ["--kubernetes-version", "1.37.0", "--bundle-version", version];
        operator.ok(&[&["bundle", "create", "--out", &bundle][..], &from, &versions].concat())?;
        Ok(bundle)
    }
}
