//! The lower end of a terminal, where the board is drawn again and again; what is told goes above it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use console::Term;
use parking_lot::{Condvar, Mutex};

use super::board::Board;
use super::draw::{self, Canvas};

/// Clocks and rates go on by themselves.
const AGAIN: Duration = Duration::from_millis(100);

/// Terminals that do not say how large they are.
const SIZE: (u16, u16) = (24, 80);

pub struct Screen(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    over: Condvar,
    color: bool,
}

#[derive(Default)]
struct State {
    board: Board,
    /// How wide each of the lines is that are on the terminal now.
    drawn: Vec<usize>,
    /// A thread draws.
    drawing: bool,
    /// Somebody is asked something: nothing is drawn meanwhile.
    asking: bool,
}

impl Screen {
    pub fn new(color: bool) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), over: Condvar::new(), color }))
    }

    /// Changes the board; drawn a moment later. As long as it is live somebody draws.
    pub fn change<T>(&self, change: impl FnOnce(&mut Board, Instant) -> T) -> T {
        let mut state = self.0.state.lock();
        let result = change(&mut state.board, Instant::now());
        if state.board.is_live() && !state.drawing {
            state.drawing = true;
            let shared = self.0.clone();
            std::thread::spawn(move || shared.draw_on());
        }
        result
    }

    /// Nobody is at work any more: what came of it stays, and the next hosts begin anew.
    pub fn settle(&self) {
        let mut state = self.0.state.lock();
        let canvas = self.0.canvas();
        let lines = draw::left(&state.board, canvas, Instant::now());
        let text = replace(&mut state.drawn, canvas.columns, &lines);
        state.drawn.clear();
        state.board.clear();
        self.0.over.notify_all();
        write(&text);
    }

    /// Draws at once: the board may have become empty, and then nobody else does.
    pub fn refresh(&self) {
        let mut state = self.0.state.lock();
        let canvas = self.0.canvas();
        let live = state.board.is_live() && !state.asking;
        let lines = if live { draw::live(&state.board, canvas, Instant::now()) } else { Vec::new() };
        write(&replace(&mut state.drawn, canvas.columns, &lines));
    }

    /// Gives a function that asks a person something while nothing is drawn.
    pub fn aside<T>(&self) -> impl Fn(&mut dyn FnMut() -> T) -> T + Send + Sync + use<T> {
        let shared = self.0.clone();
        move |ask| {
            shared.is_asking(true);
            let answer = ask();
            shared.is_asking(false);
            answer
        }
    }

    /// A line that stays, above the board.
    pub fn line(&self, text: &str) {
        let mut state = self.0.state.lock();
        let canvas = self.0.canvas();
        let mut out = replace(&mut state.drawn, canvas.columns, &[]);
        out.push_str(text);
        out.push('\n');
        if state.board.is_live() && !state.asking {
            let lines = draw::live(&state.board, canvas, Instant::now());
            out.push_str(&replace(&mut state.drawn, canvas.columns, &lines));
        }
        write(&out);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // an interrupted run: the last picture stays, and nobody draws over what comes after it
        let mut state = self.0.state.lock();
        state.board = Board::default();
        self.0.over.notify_all();
    }
}

impl Shared {
    fn canvas(&self) -> Canvas {
        let (rows, columns) = Term::stderr().size_checked().unwrap_or(SIZE);
        Canvas { columns: usize::from(columns), rows: usize::from(rows), color: self.color }
    }

    fn is_asking(&self, asking: bool) {
        let mut state = self.state.lock();
        state.asking = asking;
        if asking {
            write(&replace(&mut state.drawn, self.canvas().columns, &[]));
        }
    }

    fn draw_on(&self) {
        let mut state = self.state.lock();
        while state.board.is_live() {
            if !state.asking {
                let canvas = self.canvas();
                let lines = draw::live(&state.board, canvas, Instant::now());
                write(&replace(&mut state.drawn, canvas.columns, &lines));
            }
            self.over.wait_for(&mut state, AGAIN);
        }
        state.drawing = false;
    }
}

/// What takes the lines away that are there and writes others in their place.
fn replace(drawn: &mut Vec<usize>, columns: usize, lines: &[String]) -> String {
    let mut text = String::new();
    let up = rows(drawn, columns);
    if up > 0 {
        let _ = write!(text, "\x1b[{up}A\r\x1b[J");
    }
    *drawn = lines.iter().map(|line| console::measure_text_width(line)).collect();
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// How many rows lines of these widths take. A terminal that became narrower has broken those that do not fit any more.
fn rows(widths: &[usize], columns: usize) -> usize {
    widths.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum()
}

fn write(text: &str) {
    // a terminal that went away is no error of ours
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrower_terminal_has_broken_the_lines_that_are_taken_away() {
        assert_eq!((rows(&[], 80), rows(&[79, 0, 40], 80), rows(&[79, 0, 40], 40)), (0, 3, 4));
        let mut drawn = Vec::new();
        assert_eq!(replace(&mut drawn, 80, &["\x1b[1mabc\x1b[0m".to_owned()]), "\x1b[1mabc\x1b[0m\n");
        assert_eq!(drawn, [3], "colours take no room");
        assert_eq!(replace(&mut drawn, 2, &[]), "\x1b[2A\r\x1b[J");
        assert!(drawn.is_empty());
    }
}
