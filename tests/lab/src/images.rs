//! OCI archives of the sample application, under the names of the official images and understanding their environment
//! variables, built from Debian's packages: the lab has no registry to pull from.

use crate::recipe::{self, Recipe};
use crate::{oci, paths};
use anyhow::{Context as _, Result};
use std::path::PathBuf;

/// Recipe folders below `images/`.
const IMAGES: [&str; 2] = ["mariadb", "wordpress"];

#[derive(Debug, Clone)]
pub struct Image {
    /// Full reference, for example `docker.io/library/mariadb:10.11`.
    pub reference: String,
    /// An OCI archive.
    pub archive: PathBuf,
}

/// All images; those that are missing are built at once.
pub fn all() -> Result<Vec<Image>> {
    std::thread::scope(|scope| {
        let builds = IMAGES.map(|name| scope.spawn(move || build(name)));
        builds
            .into_iter()
            .map(|build| build.join().unwrap_or_else(|_| anyhow::bail!("an image build panicked")))
            .collect()
    })
}

fn build(name: &str) -> Result<Image> {
    let recipe = Recipe::open(&format!("images/{name}"));
    let archive = paths::cache_dir().join("images").join(recipe.hash(oci::FORMAT)?).join(format!("{name}.tar"));
    let spec = std::fs::read(recipe.file("image.json")).with_context(|| format!("image {name} has no image.json"))?;
    let spec: oci::Spec = serde_json::from_slice(&spec).with_context(|| format!("image.json of {name} is broken"))?;
    recipe::cached(&archive, |partial| {
        let root = paths::beside(partial, ".root");
        recipe::remove(&root)?;
        recipe.build(&root)?;
        oci::write(&spec, &root, partial)?;
        recipe::remove(&root)
    })?;
    Ok(Image { reference: spec.reference, archive })
}
