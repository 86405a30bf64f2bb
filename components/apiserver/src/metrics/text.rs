//! The Prometheus text format (version 0.0.4): families, samples, histograms.

use std::fmt::{Display, Write};

use parking_lot::Mutex;

pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// A page of metrics while it is written.
#[derive(Default)]
pub struct Text(String);

/// What is written below one `# TYPE`.
pub struct Family<'a> {
    out: &'a mut String,
    name: &'a str,
}

impl Text {
    pub fn counter<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "counter", help)
    }

    pub fn gauge<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "gauge", help)
    }

    pub fn histogram<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "histogram", help)
    }

    fn family<'a>(&'a mut self, name: &'a str, kind: &str, help: &str) -> Family<'a> {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { out: &mut self.0, name }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

impl Family<'_> {
    pub fn sample(&mut self, labels: Labels, value: impl Display) {
        self.line("", labels, None, value);
    }

    pub fn distribution(&mut self, labels: Labels, histogram: &Histogram) {
        let counted = histogram.counted.lock();
        let mut below = 0;
        for (bound, count) in histogram.bounds.iter().zip(&counted.buckets) {
            below += count;
            self.line("_bucket", labels, Some(&bound.to_string()), below);
        }
        self.line("_bucket", labels, Some("+Inf"), counted.count);
        self.line("_sum", labels, None, counted.sum);
        self.line("_count", labels, None, counted.count);
    }

    fn line(&mut self, suffix: &str, labels: Labels, bound: Option<&str>, value: impl Display) {
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        let bound = bound.map(|it| ("le", it));
        for (index, (name, value)) in labels.iter().copied().chain(bound).enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{before}{name}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() || bound.is_some() {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }
}

/// A label value of the text format.
fn escaped(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains(['\\', '"', '\n']) {
        return text.into();
    }
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into()
}

/// How often a measured value was how large.
pub struct Histogram {
    /// Upper bounds of the buckets, ascending; the last one is +Inf.
    bounds: &'static [f64],
    counted: Mutex<Counted>,
}

struct Counted {
    buckets: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Histogram {
    pub fn new(bounds: &'static [f64]) -> Self {
        Histogram { bounds, counted: Mutex::new(Counted { buckets: vec![0; bounds.len()], count: 0, sum: 0.0 }) }
    }

    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        let mut counted = self.counted.lock();
        counted.count += 1;
        counted.sum += value;
        if let Some(count) = counted.buckets.get_mut(bucket) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_value_breaks_out_of_its_label() {
        let mut text = Text::default();
        text.counter("a", "help").sample(&[("l", "a\"b\\c\nd")], 1);
        let text = String::from_utf8(text.into_bytes()).unwrap();
        assert_eq!(text, "# HELP a help\n# TYPE a counter\na{l=\"a\\\"b\\\\c\\nd\"} 1\n");
    }

    #[test]
    fn buckets_count_what_is_not_larger() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        [0.5, 1.0, 1.5, 3.0].into_iter().for_each(|value| histogram.observe(value));
        let mut text = Text::default();
        text.histogram("h", "help").distribution(&[], &histogram);
        let text = String::from_utf8(text.into_bytes()).unwrap();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        let wanted =
            [r#"h_bucket{le="1"} 2"#, r#"h_bucket{le="2"} 3"#, r#"h_bucket{le="+Inf"} 4"#, "h_sum 6", "h_count 4"];
        assert_eq!(lines, wanted);
    }
}
