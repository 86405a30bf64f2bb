//! A timeline as a picture: a band for each host with a bar for each thing that was done there. Plain SVG, in colours and greys
//! that can be read on white and on black; what a bar is stands beside it where there is room, and in its tooltip always.

use std::fmt::Write as _;
use std::time::Duration;

use super::timeline::{CLUSTER, Kind, Span};

const WIDTH: f64 = 1200.0;
/// Where time begins: left of it stand the hosts' names.
const LEFT: f64 = 90.0;
const RIGHT: f64 = 20.0;
const ROW: f64 = 14.0;
const HEAD: f64 = 62.0;
/// Of a letter at the labels' size.
const LETTER: f64 = 5.6;
/// Shorter ones have a tooltip only, or there would be more text than picture.
const LABELLED: Duration = Duration::from_millis(100);
const GREY: &str = "#777777";

fn color(kind: Kind) -> &'static str {
    match kind {
        Kind::Wait => "#b0b0b0",
        Kind::Connect => "#8a7f6a",
        Kind::Look => "#8f7fc0",
        Kind::Send => "#d9822b",
        Kind::File => "#3f9c9c",
        Kind::Unit => "#4f9a4c",
        Kind::Image => "#b8901b",
        Kind::Api => "#c0605c",
        Kind::Validation => "#5583c0",
    }
}

/// `total`: how long the run took.
pub fn svg(title: &str, total: Duration, spans: &[Span]) -> String {
    let scale = Scale { total: total.as_secs_f64().max(0.001) };
    let mut body = String::new();
    let mut y = HEAD;
    for (index, lane) in lanes(spans).into_iter().enumerate() {
        let rows = packed(spans.iter().filter(|span| span.lane == lane), scale);
        let height = rows.len() as f64 * ROW + 6.0;
        if index % 2 == 0 {
            let _ = writeln!(
                body,
                "<rect x=\"0\" y=\"{y}\" width=\"{WIDTH}\" height=\"{height}\" fill=\"{GREY}\" fill-opacity=\"0.08\"/>"
            );
        }
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-weight=\"bold\">{}</text>",
            LEFT - 8.0,
            y + 14.0,
            escape(lane)
        );
        for (row, placed) in rows.iter().enumerate() {
            placed.iter().for_each(|span| bar(&mut body, span, y + 3.0 + row as f64 * ROW, scale));
        }
        y += height;
    }
    let height = y + 10.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"10\" fill=\"{GREY}\">\n<title>{title}</title>\n\
         <text x=\"10\" y=\"18\" font-size=\"14\" font-weight=\"bold\">{title}</text>\n{}{}{body}</svg>\n",
        legend(),
        axis(scale, y),
        title = escape(title),
    )
}

/// The cluster first, then hosts by the order in which they began.
fn lanes(spans: &[Span]) -> Vec<&str> {
    let mut lanes: Vec<(&str, Duration)> = Vec::new();
    for span in spans {
        match lanes.iter_mut().find(|(lane, _)| *lane == span.lane) {
            Some((_, from)) => *from = span.from.min(*from),
            None => lanes.push((&span.lane, span.from)),
        }
    }
    lanes.sort_by_key(|(lane, from)| (*lane != CLUSTER, *from, *lane));
    lanes.into_iter().map(|(lane, _)| lane).collect()
}

#[derive(Clone, Copy)]
struct Scale {
    /// Seconds.
    total: f64,
}

impl Scale {
    fn x(self, at: Duration) -> f64 {
        LEFT + at.as_secs_f64().min(self.total) / self.total * (WIDTH - LEFT - RIGHT)
    }

    /// Left end and width of a bar: the shortest can still be seen.
    fn bar(self, span: &Span) -> (f64, f64) {
        let from = self.x(span.from);
        (from, (self.x(span.from + span.took) - from).max(0.7))
    }

    /// Where a bar's label begins and ends: right of the bar, else left of it, else in it.
    fn label(self, span: &Span) -> Option<(f64, f64)> {
        let text = label(span)?;
        let (from, width) = self.bar(span);
        let long = text.chars().count() as f64 * LETTER;
        let right = from + width + 3.0;
        Some(if right + long <= WIDTH {
            (right, right + long)
        } else if from - 3.0 - long >= LEFT {
            (from - 3.0 - long, from - 3.0)
        } else {
            (from + 3.0, from + 3.0 + long)
        })
    }

    /// What bar and label take.
    fn extent(self, span: &Span) -> (f64, f64) {
        let (from, width) = self.bar(span);
        let (left, right) = self.label(span).unwrap_or((from, from));
        (from.min(left), (from + width).max(right))
    }
}

fn label(span: &Span) -> Option<String> {
    (span.took >= LABELLED).then(|| format!("{} {}", short(&span.what), seconds(span.took)))
}

/// `unit kinstall-kubelet.service` is `kubelet` where a colour says that it is a unit.
fn short(what: &str) -> &str {
    let name = ["unit ", "image "].iter().find_map(|kind| what.strip_prefix(kind)).unwrap_or(what);
    let name = name.strip_prefix("kinstall-").unwrap_or(name);
    name.strip_suffix(".service").unwrap_or(name)
}

/// As few rows as it takes for nothing to lie on anything else.
fn packed<'a>(spans: impl Iterator<Item = &'a Span>, scale: Scale) -> Vec<Vec<&'a Span>> {
    let mut spans: Vec<&Span> = spans.collect();
    spans.sort_by_key(|span| span.from);
    let mut rows: Vec<Vec<&Span>> = Vec::new();
    for span in spans {
        let (left, right) = scale.extent(span);
        let free = |row: &&mut Vec<&Span>| {
            row.iter().map(|other| scale.extent(other)).all(|(from, to)| right <= from || to <= left)
        };
        match rows.iter_mut().find(free) {
            Some(row) => row.push(span),
            None => rows.push(vec![span]),
        }
    }
    rows
}

fn bar(out: &mut String, span: &Span, y: f64, scale: Scale) {
    let (x, width) = scale.bar(span);
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{}\" data-kind=\"{}\" data-millis=\"{}\"><title>{}</title></rect>",
        ROW - 3.0,
        color(span.kind),
        span.kind.name(),
        span.took.as_millis(),
        escape(&format!("{}: {}, {} after {}", span.lane, span.what, seconds(span.took), seconds(span.from)))
    );
    if let (Some(text), Some((left, _))) = (label(span), scale.label(span)) {
        let fill = if left > x && left < x + width { " fill=\"#ffffff\"" } else { "" };
        let _ = writeln!(out, "<text x=\"{left:.1}\" y=\"{}\"{fill}>{}</text>", y + 9.0, escape(&text));
    }
}

fn legend() -> String {
    let mut out = String::new();
    let mut x = LEFT;
    for kind in Kind::ALL {
        let _ = writeln!(
            out,
            "<g><rect x=\"{x}\" y=\"28\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{}\" y=\"37\">{}</text></g>",
            color(kind),
            x + 14.0,
            kind.name()
        );
        x += 34.0 + kind.name().len() as f64 * LETTER;
    }
    out
}

/// Lines at round seconds, at most about twelve.
fn axis(scale: Scale, bottom: f64) -> String {
    const STEPS: [f64; 13] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];
    let step = STEPS.into_iter().find(|step| scale.total / step <= 12.0).unwrap_or(3600.0);
    let mut out = String::new();
    for index in 0..=(scale.total / step) as u32 {
        let at = f64::from(index) * step;
        let x = scale.x(Duration::from_secs_f64(at));
        let _ = writeln!(
            out,
            "<path d=\"M{x:.1} {} V{bottom}\" stroke=\"{GREY}\" stroke-opacity=\"0.3\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{} s</text>",
            HEAD - 4.0,
            HEAD - 8.0,
            (at * 10.0).round() / 10.0
        );
    }
    out
}

fn seconds(time: Duration) -> String {
    match time.as_millis() {
        short @ 0..1000 => format!("{short} ms"),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_control()) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use super::super::timeline::Timeline;
    use super::*;

    fn span(lane: &str, what: &str, from: u64, took: u64) -> Span {
        Span {
            lane: lane.into(),
            what: what.into(),
            kind: Kind::of(what),
            from: Duration::from_millis(from),
            took: Duration::from_millis(took),
        }
    }

    fn spans() -> Vec<Span> {
        vec![
            span("h2", "connecting", 10, 90),
            span("h1", "connecting", 5, 120),
            span("h1", "send bin/kinstall-components", 130, 800),
            span("h1", "unit kinstall-containerd.service", 1000, 700),
            span("h1", "unit kinstall-control-plane.service", 1000, 900),
            span("h1", "file /etc/kinstall/<a&b>.yaml", 990, 2),
            span("cluster", "API server ready", 500, 1500),
            span("h2", "image docker.io/library/wordpress:6", 1900, 100),
        ]
    }

    #[test]
    fn every_span_has_its_bar_and_no_time_is_lost() {
        let spans = spans();
        let text = svg("kinstall up: c & d", Duration::from_secs(2), &spans);
        let document = roxmltree::Document::parse(&text).unwrap();
        let bars: Vec<_> = document.descendants().filter(|node| node.has_attribute("data-millis")).collect();
        assert_eq!(bars.len(), spans.len());
        let millis = |node: &roxmltree::Node<'_, '_>| node.attribute("data-millis").unwrap().parse::<u64>().unwrap();
        assert_eq!(bars.iter().map(millis).sum::<u64>(), 4212);
        let width = |kind: &str, at: u64| {
            let bar = bars.iter().find(|bar| bar.attribute("data-kind") == Some(kind) && millis(bar) == at).unwrap();
            bar.attribute("width").unwrap().parse::<f64>().unwrap()
        };
        assert!((width("API", 1500) - 0.75 * (WIDTH - LEFT - RIGHT)).abs() < 0.1);
        let titles: Vec<_> = bars.iter().map(|bar| bar.first_element_child().unwrap().text().unwrap()).collect();
        assert!(titles.contains(&"h1: file /etc/kinstall/<a&b>.yaml, 2 ms after 990 ms"), "{titles:?}");
        let labels: Vec<_> =
            document.descendants().filter(|node| node.has_tag_name("text")).filter_map(|n| n.text()).collect();
        assert!(labels.contains(&"containerd 700 ms") && labels.contains(&"kinstall up: c & d"), "{labels:?}");
        let lanes: Vec<_> = labels.iter().filter(|label| ["cluster", "h1", "h2"].contains(label)).collect();
        assert_eq!(lanes, [&"cluster", &"h1", &"h2"]);
    }

    #[test]
    fn nothing_lies_on_anything_else_nor_outside() {
        let spans = spans();
        let scale = Scale { total: 2.0 };
        for row in packed(spans.iter(), scale) {
            for (index, span) in row.iter().enumerate() {
                let (left, right) = scale.extent(span);
                assert!(left >= 0.0 && right <= WIDTH, "{span:?}");
                for other in &row[index + 1..] {
                    let (from, to) = scale.extent(other);
                    assert!(right <= from || to <= left, "{span:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn an_empty_run_is_a_picture_too() {
        roxmltree::Document::parse(&svg("nothing", Duration::ZERO, &[])).unwrap();
    }

    #[test]
    fn an_upgrades_stages_are_told_apart() {
        for (what, kind) in [
            ("bundle and keys", Kind::Look),
            ("control planes", Kind::Wait),
            ("workers", Kind::Wait),
            ("draining", Kind::Api),
            ("upgrading", Kind::Look),
            ("waiting until it is well", Kind::Api),
            ("going back", Kind::Look),
            ("unit kinstall-kubelet.service", Kind::Unit),
        ] {
            assert_eq!(Kind::of(what), kind, "{what}");
        }
    }

    #[test]
    fn what_ended_now_began_before() {
        let timeline = Timeline::new(Instant::now());
        timeline.add("h1", "nobody wants to see it", Duration::from_secs(1));
        timeline.keep();
        timeline.add("h1", "unit kinstall-proxy.service", Duration::from_secs(3600));
        let span = &timeline.spans()[0];
        assert!(span.from + span.took < Duration::from_secs(60), "not before the run itself: {span:?}");
        assert_eq!(span.kind, Kind::Unit);
    }
}
