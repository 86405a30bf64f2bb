//! `kinstall bundle create`.

use std::path::PathBuf;

use serde_json::json;

use super::Ended;
use crate::bundle::create::{self, Input};
use crate::cli::BundleCreate;
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
    let size = std::fs::metadata(&output)?.len();
    let mut text = format!("{} ({} MiB)\n", output.display(), size >> 20);
    for file in &manifest.files {
        text.push_str(&format!("  {:<34} {:>7.1} MiB\n", file.path, mib(file.size)));
    }
    for image in &manifest.images {
        text.push_str(&format!("  {:<34} {:>7.1} MiB\n", image.name, mib(image.size)));
    }
    printer.result(&text, &json!({"event": "bundle", "file": output, "size": size, "manifest": manifest}));
    Ok(Ended::Done)
}

#[allow(clippy::cast_precision_loss)]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
