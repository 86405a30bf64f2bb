//! What a load came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Sample;

/// What one target had to bear, through some of the addresses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Borne {
    pub sent: usize,
    pub failed: usize,
    /// Sent once more, because the server had ended the connection.
    pub again: usize,
    /// Seconds in which requests failed: from the first failure's begin to the end of the last one, good stretches of more than a
    /// second left out.
    pub outage: f64,
    /// Milliseconds.
    pub median: f64,
    pub slowest: f64,
    /// What was wrong, and how often.
    pub errors: BTreeMap<String, usize>,
}

impl Borne {
    pub fn of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        let samples: Vec<_> = samples.into_iter().collect();
        let mut took: Vec<_> = samples.iter().map(|sample| sample.took).collect();
        took.sort_unstable();
        let millis = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1000.0);
        let mut borne = Self {
            sent: samples.len(),
            again: samples.iter().filter(|sample| sample.again).count(),
            median: millis(took.get(took.len() / 2)),
            slowest: millis(took.last()),
            ..Self::default()
        };
        let mut failing: Option<(Instant, Instant)> = None;
        for sample in &samples {
            let Some(error) = &sample.error else { continue };
            borne.failed += 1;
            *borne.errors.entry(error.clone()).or_default() += 1;
            let end = sample.sent + sample.took;
            failing = match failing {
                Some((from, to)) if sample.sent <= to + Duration::from_secs(1) => Some((from, to.max(end))),
                before => {
                    borne.outage += before.map_or(0.0, |(from, to)| (to - from).as_secs_f64());
                    Some((sample.sent, end))
                }
            };
        }
        borne.outage += failing.map_or(0.0, |(from, to)| (to - from).as_secs_f64());
        borne
    }

    pub fn to_json(&self) -> Value {
        let Self { sent, failed, again, outage, median, slowest, errors } = self;
        json!({"sent": sent, "failed": failed, "sentAgain": again, "outageSeconds": outage, "medianMillis": median, "slowestMillis": slowest, "errors": errors})
    }
}

impl fmt::Display for Borne {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, failed, again, outage, median, slowest, errors } = self;
        write!(f, "{failed} of {sent} failed in {outage:.1} s; {median:.0} ms, at most {slowest:.0} ms")?;
        if *again > 0 {
            write!(f, "; {again} sent once more, on a new connection")?;
        }
        for (error, times) in errors {
            write!(f, "\n            {times} × {error}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_outage_is_the_time_in_which_requests_failed() {
        let begun = Instant::now();
        let sample = |at: u64, took: u64, failed: bool| Sample {
            target: 0,
            address: "10.0.0.1:80".parse().unwrap(),
            sent: begun + Duration::from_millis(at),
            took: Duration::from_millis(took),
            again: failed,
            error: failed.then(|| "broken".to_owned()),
        };
        let samples = [
            sample(0, 5, false),
            sample(100, 200, true),
            sample(200, 2000, true),
            sample(300, 5, false),
            sample(9000, 500, true),
        ];
        let borne = Borne::of(&samples);
        assert_eq!((borne.sent, borne.failed, borne.again, borne.errors["broken"]), (5, 3, 3, 3));
        assert!((borne.outage - 2.6).abs() < 0.01, "{}", borne.outage);
        assert!((borne.median - 200.0).abs() < 0.1 && (borne.slowest - 2000.0).abs() < 0.1, "{borne:?}");
        assert_eq!(Borne::of(&[]), Borne::default());
    }
}
