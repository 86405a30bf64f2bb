//! The disk image that every host's disk is a copy of: Debian as installed, an ext4 of its own so that overlayfs, quotas and
//! "disk full" are as on a real host.

use crate::recipe::{self, Recipe};
use crate::release::Release;
use crate::{command, paths};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

pub const DEFAULT_BYTES: u64 = 8 << 30;

pub(crate) fn recipe(release: Release) -> Recipe {
    Recipe::open("host", release)
}

/// Where the image is, or would be.
pub(crate) fn image_path(recipe: &Recipe, kernel: &str) -> Result<PathBuf> {
    Ok(paths::cache_dir().join("host").join(format!("{}.ext4", recipe.hash(kernel)?)))
}

/// The cached image, built when it is missing.
pub fn host_image(release: Release) -> Result<PathBuf> {
    let recipe = recipe(release);
    let kernel = kernel_release()?;
    let image = image_path(&recipe, &kernel)?;
    recipe::cached(&image, |partial| {
        let root = paths::beside(partial, ".root");
        recipe::remove(&root)?;
        recipe.build(&root)?;
        builtin_modules(&root, &kernel)?;
        make_ext4(&root, partial)?;
        recipe::remove(&root)
    })?;
    Ok(image)
}

/// Where the machine's kernel has no modules on disk (all built in), `modprobe br_netfilter` must still succeed in a host, as
/// it would on any Debian kernel. Where it has them, hosts get the machine's own folder as a read-only mount.
fn builtin_modules(root: &Path, kernel: &str) -> Result<()> {
    if machine_modules(kernel) {
        return Ok(());
    }
    const BUILTIN: &[&str] = &[
        "drivers/net/bridge/br_netfilter",
        "drivers/net/vxlan/vxlan",
        "drivers/net/veth",
        "fs/overlayfs/overlay",
        "net/bridge/bridge",
        "net/ipv4/netfilter/ip_tables",
        "net/netfilter/nf_conntrack",
        "net/netfilter/nf_tables",
        "net/netfilter/nft_chain_nat",
        "net/netfilter/nft_masq",
        "net/netfilter/nft_numgen",
    ];
    let dir = root.join("usr/lib/modules").join(kernel);
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("modules.order"), "")?;
    let list: String = BUILTIN.iter().map(|module| format!("kernel/{module}.ko\n")).collect();
    std::fs::write(dir.join("modules.builtin"), list)?;
    command::run(Command::new("depmod").arg("-b").arg(root.join("usr")).arg(kernel))
        .or_else(|_| command::run(Command::new("chroot").arg(root).args(["depmod", kernel])))?;
    Ok(())
}

pub fn machine_modules(kernel: &str) -> bool {
    Path::new("/lib/modules").join(kernel).join("modules.dep").exists()
}

pub fn kernel_release() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's release")?;
    Ok(text.trim().to_owned())
}

fn make_ext4(root: &Path, image: &Path) -> Result<()> {
    let file = std::fs::File::create(image)?;
    file.set_len(DEFAULT_BYTES)?;
    drop(file);
    // fixed seed and UUID: the same root gives the same image; no reserved blocks, so that "disk full" is where df says
    let options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,hash_seed=6b696e73-7461-6c6c-0000-000000000001";
    command::run(
        Command::new("mkfs.ext4")
            .args([
                "-q",
                "-F",
                "-m",
                "0",
                "-L",
                "kinstall-lab",
                "-U",
                "6b696e73-7461-6c6c-0000-000000000002",
                "-J",
                "size=32",
                "-E",
                options,
                "-d",
            ])
            .arg(root)
            .arg(image),
    )?;
    Ok(())
}
