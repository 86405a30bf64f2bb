//! Request counts and latencies in the Prometheus text format, under upstream's names.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use parking_lot::Mutex;

const BUCKETS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Default)]
struct Series {
    count: u64,
    sum: f64,
    buckets: [u64; 10],
}

type Target = (String, String, String, String);

/// Keyed by verb, group, resource, subresource.
#[derive(Default)]
pub struct Metrics {
    latency: Mutex<BTreeMap<Target, Series>>,
    codes: Mutex<BTreeMap<(Target, u16), u64>>,
}

impl Metrics {
    pub fn observe(&self, verb: &str, group: &str, resource: &str, subresource: &str, code: u16, took: Duration) {
        let target: Target = (verb.into(), group.into(), resource.into(), subresource.into());
        *self.codes.lock().entry((target.clone(), code)).or_default() += 1;
        if verb == "watch" {
            return; // a watch takes as long as the client likes
        }
        let seconds = took.as_secs_f64();
        let mut latency = self.latency.lock();
        let series = latency.entry(target).or_default();
        series.count += 1;
        series.sum += seconds;
        for (bucket, limit) in series.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= *limit);
        }
    }

    pub fn render(&self) -> String {
        let mut out = String::from(
            "# HELP apiserver_request_total Counter of apiserver requests.\n# TYPE apiserver_request_total counter\n",
        );
        for ((target, code), count) in self.codes.lock().iter() {
            let _ = writeln!(out, "apiserver_request_total{{{},code=\"{code}\"}} {count}", labels(target));
        }
        out.push_str("# HELP apiserver_request_duration_seconds Response latency distribution.\n# TYPE apiserver_request_duration_seconds histogram\n");
        for (target, series) in self.latency.lock().iter() {
            let labels = labels(target);
            for (limit, count) in BUCKETS.iter().zip(series.buckets) {
                let _ = writeln!(out, "apiserver_request_duration_seconds_bucket{{{labels},le=\"{limit}\"}} {count}");
            }
            let _ = writeln!(out, "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {}", series.count);
            let _ = writeln!(out, "apiserver_request_duration_seconds_sum{{{labels}}} {}", series.sum);
            let _ = writeln!(out, "apiserver_request_duration_seconds_count{{{labels}}} {}", series.count);
        }
        out
    }
}

fn labels((verb, group, resource, subresource): &Target) -> String {
    let [verb, group, resource, subresource] =
        [&verb.to_uppercase(), group, resource, subresource].map(|it| escaped(it));
    format!("verb=\"{verb}\",group=\"{group}\",resource=\"{resource}\",subresource=\"{subresource}\"")
}

/// A label value of the text format.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_breaks_out_of_its_label() {
        assert_eq!(escaped("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
    }
}
