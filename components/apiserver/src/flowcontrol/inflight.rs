//! How many requests are served at once when priority and fairness is off: two numbers, no queue (upstream:
//! apiserver pkg/server/filters/maxinflight.go).

use std::sync::Arc;

use machinery::request_info::RequestInfo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    config::Fairness,
    identity::{Identity, MASTERS},
};

pub struct Inflight {
    /// `None`: no bound.
    reading: Option<Arc<Semaphore>>,
    writing: Option<Arc<Semaphore>>,
}

/// There is no place.
pub struct Full;

impl Inflight {
    pub fn new(config: &Fairness) -> Self {
        let places = |count: u32| (count > 0).then(|| Arc::new(Semaphore::new(count as usize)));
        Inflight {
            reading: places(config.max_requests_inflight),
            writing: places(config.max_mutating_requests_inflight),
        }
    }

    /// A place until it is dropped; administrators need none when there is none.
    pub fn enter(&self, who: &Identity, info: &RequestInfo) -> Result<Option<OwnedSemaphorePermit>, Full> {
        let places = if matches!(info.verb, "get" | "list" | "watch") { &self.reading } else { &self.writing };
        let Some(places) = places else { return Ok(None) };
        match places.clone().try_acquire_owned() {
            Ok(place) => Ok(Some(place)),
            Err(_) if who.in_group(MASTERS) => Ok(None),
            Err(_) => Err(Full),
        }
    }
}
