//! How often a host's operator had to wait for an answer before it could go on.
//!
//! Told by what the server sees, not by what the client believes: a message that comes at least a round trip after the one before
//! it, with an answer sent in between early enough to have been its cause, ends a wait. What streams (an upload) has no such pause.
//! What the operator says by a clock of its own, or because of other hosts, is not told to this ([`crate::server`] knows it).

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

    pub fn answer(&mut self, now: Instant) {
        self.answered.get_or_insert(now);
    }

    /// How many waits there were.
    pub fn count(&self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
