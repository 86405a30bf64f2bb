//! Told to those who wait for units: nobody needs the result any more, since another unit failed or the installer has gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by everything that belongs to one apply.
#[derive(Clone, Default)]
pub struct Abandon(Arc<AtomicBool>);

impl Abandon {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
