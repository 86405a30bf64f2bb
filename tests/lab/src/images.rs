//! OCI archives of the sample application, under the names of the official images and understanding their environment
//! variables, and of tools that tests run in pods; built from Debian's packages: the lab has no registry to pull from.

use crate::recipe::{self, Recipe};
use crate::release::Release;
use crate::{oci, paths};
use anyhow::{Context as _, Result};
use std::path::PathBuf;

/// Recipe folders below `images/`.
pub(crate) const IMAGES: [&str; 3] = ["mariadb", "wordpress", "tools"];

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

pub(crate) fn recipe_of(name: &str) -> Recipe {
    Recipe::open(&format!("images/{name}"), Release::default())
}

/// Where the archive is, or would be.
pub(crate) fn archive_of(name: &str, recipe: &Recipe) -> Result<PathBuf> {
    Ok(paths::cache_dir().join("images").join(recipe.hash(oci::FORMAT)?).join(format!("{name}.tar")))
}

/// The full reference of a recipe's image.
pub fn reference(name: &str) -> Result<String> {
    Ok(spec_of(name, &recipe_of(name))?.reference)
}

fn spec_of(name: &str, recipe: &Recipe) -> Result<oci::Spec> {
    let spec = std::fs::read(recipe.file("image.json")).with_context(|| format!("image {name} has no image.json"))?;
    serde_json::from_slice(&spec).with_context(|| format!("image.json of {name} is broken"))
}

fn build(name: &str) -> Result<Image> {
    let recipe = recipe_of(name);
    let archive = archive_of(name, &recipe)?;
    let spec = spec_of(name, &recipe)?;
    recipe::cached(&archive, |partial| {
        let root = paths::beside(partial, ".root");
        recipe::remove(&root)?;
        recipe.build(&root)?;
        oci::write(&spec, &root, partial)?;
        recipe::remove(&root)
    })?;
    Ok(Image { reference: spec.reference, archive })
}
