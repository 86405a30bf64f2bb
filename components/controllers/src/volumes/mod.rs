//! Persistent volumes and claims: binding, asking for provisioning, releasing, and the finalizers that keep what is in use.

mod binder;
mod matching;
mod protection;

use tokio::task::JoinSet;

use crate::core::Ctx;

pub fn start(ctx: &Ctx, tasks: &mut JoinSet<()>) {
    binder::start(ctx, tasks);
    protection::start(ctx, tasks);
}
