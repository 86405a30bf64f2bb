//! How often a host's operator had to wait for an answer before it could go on.
//!
//! Told by what the server sees, not by what the client believes: a message that comes at least a round trip after the one before
//! it, with an answer sent in between early enough to have been its cause, ends a wait. What streams (an upload) has no such pause;
//! where the machine is busy it has, so what is known to be a file ends none. Nor does what the operator says by a clock of its own or
//! because of other hosts. Files are sent while the host works; those that it had to ask for are in `up`'s own count.

use std::time::Duration;

use tokio::time::Instant;

/// Timers and queues on both sides are late rather than early, and by so much at most where the machine is not overloaded.
const EARLY: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub struct Trips {
    round_trip: Duration,
    count: u32,
    heard: Option<Instant>,
    /// The first answer since then.
    answered: Option<Instant>,
}

impl Trips {
    pub fn new(round_trip: Duration) -> Self {
        Self { round_trip: round_trip.saturating_sub(EARLY), count: 0, heard: None, answered: None }
    }

    /// The first message after login, or one more, has come.
    pub fn hear(&mut self, now: Instant) {
        match (self.heard, self.answered) {
            // the operator waits for the answer to its first message too
            (None, _) => self.count += 1,
            (Some(_), Some(answered)) if now.duration_since(answered) >= self.round_trip => self.count += 1,
            _ => {}
        }
        self.heard = Some(now);
        self.answered = None;
    }

    /// Something has come for which the operator did not wait.
    pub fn overhear(&mut self, now: Instant) {
        self.heard = self.heard.map(|_| now);
        self.answered = None;
    }

    pub fn answer(&mut self, now: Instant) {
        self.answered.get_or_insert(now);
    }

    /// How many waits there were.
    pub fn count(&self) -> u32 {
        self.count
    }
}

/// What an operator says to `converge`: lines, some of which a file follows.
#[derive(Debug, Default)]
pub struct Said {
    /// Bytes of a file that are still to come.
    file: usize,
}

impl Said {
    /// That it is still there, and where another host has a blob: said while the host works, and not because of it.
    const BY_ITSELF: [&[u8]; 2] = [br#"{"type":"alive""#, br#"{"type":"fetch""#];
    const FILE: &[u8] = br#"{"type":"blob""#;
    const SIZE: &[u8] = br#""size":"#;

    /// Whether something in what has come may have had to wait for an answer. Lines come whole, but for those that are long anyway.
    pub fn asks(&mut self, mut data: &[u8]) -> bool {
        let mut asks = false;
        while !data.is_empty() {
            let of_file = self.file.min(data.len());
            self.file -= of_file;
            data = &data[of_file..];
            let end = data.iter().position(|byte| *byte == b'\n').map_or(data.len(), |at| at + 1);
            let (line, rest) = data.split_at(end);
            let is_file = line.starts_with(Self::FILE);
            if is_file {
                self.file = size(line).unwrap_or(0);
            }
            asks |= !line.is_empty() && !is_file && !Self::BY_ITSELF.iter().any(|own| line.starts_with(own));
            data = rest;
        }
        asks
    }
}

fn size(line: &[u8]) -> Option<usize> {
    let at = line.windows(Said::SIZE.len()).position(|part| part == Said::SIZE)? + Said::SIZE.len();
    let digits = line[at..].iter().take_while(|byte| byte.is_ascii_digit());
    std::str::from_utf8(&line[at..at + digits.count()]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_may_have_waited_but_not_a_file_nor_a_sign_of_life() {
        let mut said = Said::default();
        for (data, asks) in [
            (&b"{\"type\":\"applyPlanned\"}\n"[..], true),
            (b"{\"type\":\"alive\"}\n", false),
            (b"{\"type\":\"fetch\",\"sha256\":\"0\"}\n", false),
            (b"{\"type\":\"blob\",\"sha256\":\"0\",\"size\":9}\nfour", false),
            (b"more", false),
            (b".{\"type\":\"alive\"}\n", false),
            (b"{\"type\":\"plan\"}\n", true),
        ] {
            assert_eq!(said.asks(data), asks, "{}", String::from_utf8_lossy(data));
        }
    }

    #[test]
    fn what_comes_by_itself_is_no_wait_nor_is_what_follows_it() {
        let mut trips = Trips::new(Duration::from_millis(20));
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        trips.hear(at(0));
        trips.answer(at(1));
        trips.overhear(at(30));
        trips.hear(at(31));
        assert_eq!(trips.count(), 1);
    }

    #[test]
    fn only_waiting_counts() {
        let mut trips = Trips::new(Duration::from_millis(20));
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        trips.hear(at(0)); // opens a channel
        trips.answer(at(0));
        trips.hear(at(20)); // starts a command
        trips.answer(at(30));
        assert_eq!(trips.count(), 2);
        for millis in [50, 52, 54, 80] {
            trips.hear(at(millis)); // an upload, with a pause of its own
        }
        assert_eq!(trips.count(), 3);
        trips.answer(at(85));
        trips.hear(at(90)); // it cannot know of that answer yet
        assert_eq!(trips.count(), 3);
        trips.answer(at(100));
        trips.hear(at(125));
        assert_eq!(trips.count(), 4);
    }
}
