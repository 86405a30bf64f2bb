//! Cordons that a run finds: those that a killed upgrade has left go, a person's stays.

use anyhow::{Result, ensure};

use crate::Story;

/// As an upgrade marks its own.
const MARK: &str = "kinstall.dev/cordoned-for=upgrade";

/// h2 was left cordoned by an upgrade that was killed, h3 was cordoned by a person; `work` does not drain them.
pub fn found_by<T>(story: &Story, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let kubectl = |args: &[&str]| story.operator.kubectl(args);
    kubectl(&["cordon", "h2", "h3"])?;
    kubectl(&["annotate", "node", "h2", MARK])?;
    let done = work()?;
    ensure!(story.cordoned()? == ["h3"], "cordoned, of which only h3 was by a person: {:?}", story.cordoned()?);
    let marks =
        kubectl(&["get", "nodes", "-o", r"jsonpath={.items[*].metadata.annotations.kinstall\.dev/cordoned-for}"])?;
    ensure!(marks.trim().is_empty(), "a node that is not cordoned is still marked: {marks}");
    kubectl(&["uncordon", "h3"])?;
    Ok(done)
}
