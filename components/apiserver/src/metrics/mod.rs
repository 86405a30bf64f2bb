//! What is counted, under upstream's names, in the Prometheus text format.

mod process;
mod requests;
mod storage;
pub mod text;

pub use requests::{Kind, Running};

use crate::{core::Core, handlers::health};
use requests::Requests;
use storage::Storage;
use text::Text;

/// Buckets of how long requests, and their writes, take.
const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

#[derive(Default)]
pub struct Metrics {
    pub requests: Requests,
    pub storage: Storage,
}

/// Everything, as a scrape sees it.
pub async fn render(core: &Core) -> Vec<u8> {
    let mut out = Text::default();
    core.metrics.requests.render(&mut out);
    core.metrics.storage.render(core, &mut out).await;
    core.flow.render(&mut out);
    core.pod_security.render(&mut out);
    core.aggregation.render(&mut out);
    if let Some(audit) = &core.audit {
        audit.render(&mut out);
    }
    if let Some(encryption) = &core.encryption {
        encryption.render(&mut out);
    }
    let help = "A metric with a constant '1' value labeled by major, minor, git version and platform.";
    let labels =
        [("git_version", health::GIT_VERSION), ("major", "1"), ("minor", "37"), ("platform", health::PLATFORM)];
    out.gauge("kubernetes_build_info", help).sample(&labels, 1);
    process::render(&mut out);
    out.into_bytes()
}
