//! The machinery every controller shares: one informer for each kind, work queues, expectations, events and small pure
//! helpers over metadata and pods. Nothing in here knows of a single controller.

pub mod affinity;
pub mod claim;
pub mod context;
pub mod events;
pub mod expectations;
pub mod hash;
pub mod history;
pub mod informer;
pub mod meta;
pub mod pods;
pub mod quantity;
pub mod queue;
pub mod slow_start;
pub mod spawn;

pub use context::{Ctx, Informers};
pub use informer::Key;
pub use queue::WorkQueue;
