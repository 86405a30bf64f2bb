//! The board as lines of text: one for each host, or counts where there are more hosts than lines.

use std::time::{Duration, Instant};

use super::board::{Board, Lane};

/// Room and ways of a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Canvas {
    pub columns: usize,
    pub rows: usize,
    pub color: bool,
}

const BAR: usize = 12;
/// Lines that stay for what is told above the board.
const ABOVE: usize = 4;
const NAME: usize = 24;

impl Canvas {
    fn room(self) -> usize {
        self.rows.saturating_sub(ABOVE).max(3)
    }
}

/// What is shown while hosts are worked on.
pub fn live(board: &Board, canvas: Canvas, now: Instant) -> Vec<String> {
    let mut lines = match board.lanes.len() + 1 > canvas.room() {
        true => summary(board, canvas, now),
        false => every(board, canvas, now),
    };
    if let Some((what, since)) = &board.cluster {
        lines.push(fit("  cluster", what, &seconds(now.duration_since(*since)), canvas));
    }
    lines
}

/// What stays when all is over: hosts without an outcome had only been looked at.
pub fn left(board: &Board, canvas: Canvas, now: Instant) -> Vec<String> {
    if board.lanes.iter().all(|lane| lane.ended.is_none()) {
        return Vec::new();
    }
    match board.lanes.len() + 1 > canvas.room() {
        true => {
            let mut lines = counts(board, canvas, now);
            lines.extend(
                board.lanes.iter().filter(|lane| failed(lane)).map(|lane| line(lane, width(board), canvas, now)),
            );
            lines
        }
        false => every(board, canvas, now),
    }
}

fn every(board: &Board, canvas: Canvas, now: Instant) -> Vec<String> {
    board.lanes.iter().map(|lane| line(lane, width(board), canvas, now)).collect()
}

fn width(board: &Board) -> usize {
    board.lanes.iter().map(|lane| lane.name.chars().count()).max().unwrap_or(0).min(NAME)
}

/// Counts, then what failed, then who takes longest.
fn summary(board: &Board, canvas: Canvas, now: Instant) -> Vec<String> {
    let mut lines = counts(board, canvas, now);
    let room = canvas.room().saturating_sub(lines.len());
    let failures: Vec<&Lane> = board.lanes.iter().filter(|lane| failed(lane)).collect();
    let mut busy: Vec<&Lane> =
        board.lanes.iter().filter(|lane| lane.ended.is_none() && lane.stopped.is_none()).collect();
    // a host that only waits tells nothing
    busy.sort_by_key(|lane| (lane.is_waiting(), lane.started));
    let shown = failures.len().min(room.saturating_sub(busy.len().min(3)));
    lines.extend(failures.iter().take(shown).map(|lane| line(lane, width(board), canvas, now)));
    if shown < failures.len() {
        lines.push(fit("  ", &format!("and {} more that failed", failures.len() - shown), "", canvas));
    }
    let rest = canvas.room().saturating_sub(lines.len());
    lines.extend(busy.iter().take(rest).map(|lane| line(lane, width(board), canvas, now)));
    lines
}

fn failed(lane: &Lane) -> bool {
    matches!(lane.ended, Some(Err(_)))
}

/// `200 hosts: 120 done, 16 sending, 64 waiting, 80.1 MiB/s`, over as many lines as it takes.
fn counts(board: &Board, canvas: Canvas, now: Instant) -> Vec<String> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for lane in &board.lanes {
        let stage = match (&lane.ended, lane.stopped) {
            (Some(Ok(_)), _) => "done",
            (Some(Err(_)), _) => "failed",
            (None, Some(_)) => "ready",
            _ => lane.stage.as_str(),
        };
        match counts.iter_mut().find(|(name, _)| *name == stage) {
            Some((_, count)) => *count += 1,
            None => counts.push((stage, 1)),
        }
    }
    counts.sort_by_key(|(stage, _)| match *stage {
        "done" | "ready" => 0,
        "failed" => 1,
        stage if stage.starts_with("waiting") => 3,
        _ => 2,
    });
    let rate: f64 = board.lanes.iter().filter_map(|lane| lane.sending.as_ref()).map(|sending| sending.rate(now)).sum();
    let mut text: Vec<String> = counts.iter().map(|(stage, count)| format!("{count} {stage}")).collect();
    if rate > 0.0 {
        text.push(format!("{}/s", bytes(rate)));
    }
    let started = board.lanes.iter().map(|lane| lane.started).min().unwrap_or(now);
    let took = seconds(now.duration_since(started));
    let head = format!("  {} hosts:", board.lanes.len());
    let room = canvas.columns.saturating_sub(head.len() + took.len() + 4).max(1);
    let mut lines = vec![String::new()];
    for item in text {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 2 + item.chars().count() > room {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            let comma = if line.is_empty() { "" } else { ", " };
            line.push_str(&format!("{comma}{item}"));
        }
    }
    lines.truncate(canvas.room());
    let heads = std::iter::once((head.clone(), took)).chain(std::iter::repeat((" ".repeat(head.len()), String::new())));
    lines.iter().zip(heads).map(|(line, (head, took))| paint(fit(&head, line, &took, canvas), "1", canvas)).collect()
}

fn line(lane: &Lane, width: usize, canvas: Canvas, now: Instant) -> String {
    let (fraction, count) = match (&lane.sending, lane.steps) {
        (Some(sending), (_, 0)) => {
            let fraction = sending.sent as f64 / sending.total.max(1) as f64;
            (Some(fraction), format!("{:.0} %", fraction * 100.0))
        }
        (_, (done, total)) if total > 0 => (Some(done as f64 / total as f64), format!("{done}/{total}")),
        _ => (None, String::new()),
    };
    let what = match (&lane.ended, &lane.sending) {
        (Some(Ok(text)), _) => text.clone(),
        (Some(Err(text)), _) => format!("failed: {text}"),
        (None, Some(sending)) => {
            let rate = sending.rate(now).max(1.0);
            let left = (sending.total - sending.sent) as f64 / rate;
            format!("{}/s, {left:.0} s left: {}", bytes(rate), sending.what)
        }
        (None, None) => lane.what.clone(),
    };
    let name: String = lane.name.chars().take(width).collect();
    let head = format!("  {name:width$} {} {count:>7}", bar(fraction));
    let took = lane.stopped.unwrap_or(now).duration_since(lane.started);
    let text = fit(&head, &what, &seconds(took), canvas);
    match lane.ended {
        Some(Err(_)) => paint(text, "31", canvas),
        Some(Ok(_)) => paint(text, "32", canvas),
        None => text,
    }
}

fn bar(fraction: Option<f64>) -> String {
    let filled = (fraction.unwrap_or(0.0).clamp(0.0, 1.0) * BAR as f64) as usize;
    format!("{}{}", "#".repeat(filled), ".".repeat(BAR - filled))
}

/// `head text … right` in exactly the columns there are, so that no line is ever broken by the terminal.
fn fit(head: &str, text: &str, right: &str, canvas: Canvas) -> String {
    let columns = canvas.columns.saturating_sub(1);
    let room = columns.saturating_sub(right.chars().count() + 1);
    let mut line: String = format!("{head} {}", text.lines().next().unwrap_or_default());
    if line.chars().count() > room {
        line = line.chars().take(room.saturating_sub(1)).collect();
        line.push('…');
    }
    let line = format!("{line}{}{right}", " ".repeat(room.saturating_sub(line.chars().count()) + 1));
    line.chars().take(columns).collect::<String>().trim_end().to_owned()
}

fn paint(text: String, code: &str, canvas: Canvas) -> String {
    if canvas.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text }
}

fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        all => format!("{}:{:02}", all / 60, all % 60),
    }
}

fn bytes(count: f64) -> String {
    match count {
        small if small < 1048576.0 => format!("{:.0} KiB", small / 1024.0),
        large => format!("{:.1} MiB", large / 1048576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(hosts: usize, now: Instant) -> Board {
        let mut board = Board::default();
        for index in 0..hosts {
            let name = format!("h{index:03}");
            board.begin(&name, now);
            match index % 5 {
                0 => board.doing(&name, "connecting", now),
                1 => board.sent(&name, "kinstall-components", 10 << 20, 50 << 20, now),
                2 => board.step(&name, 34, 58, "unit kinstall-containerd.service"),
                3 => board.ended(&name, Ok("58 changed, 0 unchanged".into()), now),
                _ => board.doing(&name, "waiting to be sent to", now),
            }
        }
        board
    }

    const CANVAS: Canvas = Canvas { columns: 80, rows: 24, color: false };

    #[test]
    fn few_hosts_have_a_line_each() {
        let now = Instant::now();
        let mut board = board(4, now);
        board.cluster = Some(("waiting for the API server".into(), now));
        let later = now + Duration::from_secs(2);
        let lines = live(&board, CANVAS, later);
        assert_eq!(lines.len(), 5);
        assert!(lines[1].contains("##..........    20 % 5.0 MiB/s, 8 s left: kinstall-components"), "{lines:#?}");
        assert!(
            lines[2].contains("34/58 unit kinstall-containerd.service") && lines[2].ends_with("2.0 s"),
            "{lines:#?}"
        );
        assert!(lines[3].contains("58 changed") && lines[3].ends_with("0.0 s"), "its clock stands: {lines:#?}");
        assert!(lines[4].starts_with("  cluster waiting for the API server"), "{lines:#?}");
    }

    #[test]
    fn many_hosts_are_counted_and_failures_stay_in_sight() {
        let now = Instant::now();
        let mut board = board(200, now);
        for name in ["h007", "h123"] {
            board.ended(name, Err("unit kinstall-kubelet.service: systemctl failed".into()), now);
        }
        let later = now + Duration::from_secs(75);
        let lines = live(&board, CANVAS, later);
        assert!(lines.len() <= 20, "{lines:#?}");
        assert!(lines[0].starts_with("  200 hosts: 39 done, 2 failed,") && lines[0].ends_with("1:15"), "{lines:#?}");
        let counted: usize = lines[..2].concat().split([' ', ',']).filter_map(|word| word.parse::<usize>().ok()).sum();
        assert_eq!(counted, 200 + 200, "the hosts and what they are at: {lines:#?}");
        let failures: Vec<_> = lines.iter().filter(|line| line.contains("failed: unit")).collect();
        assert_eq!(failures.len(), 2, "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("connecting")), "who is at work fills the rest: {lines:#?}");
        let left = left(&board, CANVAS, later);
        assert_eq!(left.len(), 4, "counts, on two lines, and the two: {left:#?}");
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_is_wide() {
        let now = Instant::now();
        for columns in [10, 20, 40, 80, 200] {
            for rows in [1, 5, 24, 60] {
                for hosts in [1, 3, 30, 200] {
                    let canvas = Canvas { columns, rows, color: false };
                    let lines = live(&board(hosts, now), canvas, now);
                    assert!(lines.iter().all(|line| line.chars().count() < columns), "{columns}x{rows}: {lines:#?}");
                    assert!(lines.len() <= rows.max(4), "{columns}x{rows}: {lines:#?}");
                }
            }
        }
    }

    #[test]
    fn hosts_that_were_only_looked_at_leave_nothing() {
        let now = Instant::now();
        let mut board = Board::default();
        board.begin("h1", now);
        board.doing("h1", "connecting", now);
        assert!(board.leave("h1", now) && !board.is_live());
        assert!(left(&board, CANVAS, now).is_empty());
    }
}
