//! How available extension servers are, under upstream's names.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::Aggregator;
use crate::metrics::text::Text;

/// How often each APIService (name, reason) became unavailable.
#[derive(Default)]
pub struct Metrics {
    lost: Mutex<BTreeMap<(String, String), u64>>,
}

impl Metrics {
    pub fn became_unavailable(&self, name: &str, reason: &str) {
        *self.lost.lock().entry((name.to_owned(), reason.to_owned())).or_default() += 1;
    }
}

impl Aggregator {
    pub fn render(&self, out: &mut Text) {
        let help = "Gauge of APIServices which are marked as unavailable broken down by APIService name.";
        let mut family = out.gauge("aggregator_unavailable_apiservice", help);
        for registration in self.all() {
            family.sample(&[("name", &registration.name)], u8::from(!registration.is_available()));
        }
        let help = "Counter of APIServices which are marked as unavailable broken down by APIService name and reason.";
        let mut family = out.counter("aggregator_unavailable_apiservice_total", help);
        for ((service, reason), count) in self.metrics.lost.lock().iter() {
            family.sample(&[("name", service), ("reason", reason)], count);
        }
    }
}
