//! What a plan has seen, for the apply that follows it: it need not look again.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use hoststate::HostState;

use crate::resources::Observation;
use crate::{Root, manifest};

/// A person who was asked in between may have thought about it, and looked, and mended something.
const FRESH: Duration = Duration::from_secs(60);

/// What a state is on this host, and what that changes.
pub type Seen = (HostState, Vec<Observation>);

pub struct Planned {
    /// As it came.
    pub asked: HostState,
    pub seen: Seen,
    pub began: Moment,
    /// Something was done in this session since.
    pub stale: bool,
}

/// A time, and what installers had done to the host until then.
pub struct Moment {
    when: Instant,
    manifest: Option<(u64, i64, i64)>,
}

impl Moment {
    pub fn now(root: &Root) -> Self {
        let identity = |meta: Metadata| (meta.ino(), meta.mtime(), meta.mtime_nsec());
        let meta = std::fs::metadata(manifest::path(root));
        Self { when: Instant::now(), manifest: meta.ok().map(identity) }
    }
}

impl Planned {
    /// What the plan has seen; or, where that was too long ago or another installer came between, what was asked. The host's lock is
    /// held from here on.
    pub fn fresh(self, root: &Root) -> Result<Seen, HostState> {
        let now = Moment::now(root);
        let fresh = !self.stale && now.manifest == self.began.manifest && now.when - self.began.when < FRESH;
        if fresh { Ok(self.seen) } else { Err(self.asked) }
    }
}
