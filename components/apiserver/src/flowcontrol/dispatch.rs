//! Who gets a seat next: fair queues within a priority level, guaranteed and borrowed seats between levels.
//!
//! Between levels one rule holds: the sum over all levels of max(seats in use, seats that cannot be lent) is never more than the
//! server has. So a level finds its guaranteed seats free at any time, and what is lent comes back as requests end.
//! Within a level each flow is dealt a hand of queues (shuffle sharding) and joins the shortest of them; the queue that has had
//! the least service (in virtual time) is next. A level that has seats left has no queues to look at: then a request costs one lock.

use std::{collections::VecDeque, time::Duration};

use tokio::sync::oneshot;

use super::objects::{HAND_MAX, Level};

/// What a request is thought to take before it is known; upstream's G.
const GUESS: f64 = 0.003;

struct Waiter {
    id: u64,
    width: u32,
    wake: oneshot::Sender<()>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiter>,
    waiting_seats: u32,
    /// Seat-seconds of service this queue has had.
    served: f64,
}

#[derive(Default)]
pub struct LevelState {
    pub config: Level,
    pub used: u32,
    pub waiting: usize,
    queues: Vec<Queue>,
    /// Virtual time: how much service the queue had that was dispatched last.
    now: f64,
}

/// All levels; an index stays valid for ever, so that requests under way know theirs.
#[derive(Default)]
pub struct State {
    pub levels: Vec<LevelState>,
    /// What the server has.
    seats: u32,
    /// The same, or what is guaranteed to all levels together when rounding made that more.
    capacity: u32,
    waiting: usize,
    next_id: u64,
}

/// What a request that asked for a seat got.
pub enum Asked {
    Seated,
    /// The receiver hears when the seat is there; the id and queue take it back.
    Queued(oneshot::Receiver<()>, usize, u64),
    /// `queue-full` or `concurrency-limit`.
    Refused(&'static str),
}

impl State {
    pub fn new(seats: u32) -> Self {
        State { seats, ..State::default() }
    }

    /// Takes new configurations; levels that are no longer there serve what they have.
    pub fn configure(&mut self, levels: Vec<Level>) {
        for state in &mut self.levels {
            if !levels.iter().any(|l| l.name == state.config.name) {
                (state.config.nominal, state.config.min, state.config.max) = (0, 0, 1);
            }
        }
        for level in levels {
            match self.levels.iter_mut().find(|s| s.config.name == level.name) {
                Some(state) => state.config = level,
                None => self.levels.push(LevelState { config: level, ..LevelState::default() }),
            }
        }
        self.capacity = self.seats.max(self.levels.iter().map(|s| s.config.min).sum());
        for state in &mut self.levels {
            while state.queues.len() < state.config.queues {
                state.queues.push(Queue::default());
            }
        }
        self.pump();
    }

    pub fn index(&self, name: &str) -> Option<usize> {
        self.levels.iter().position(|s| s.config.name == name)
    }

    fn fits(&self, level: usize, width: u32) -> bool {
        let own = &self.levels[level];
        // no level starves, however few seats there are and however wide its request is
        if own.used == 0 {
            return true;
        }
        if own.used + width > own.config.max {
            return false;
        }
        let others: u32 =
            self.levels.iter().enumerate().filter(|(i, _)| *i != level).map(|(_, s)| s.used.max(s.config.min)).sum();
        others + (own.used + width).max(own.config.min) <= self.capacity
    }

    /// `flow` is a hash of who asks; only looked at when the level is full.
    pub fn ask(&mut self, level: usize, width: u32, flow: u64) -> Asked {
        let state = &self.levels[level];
        let width = width.min(state.config.nominal.max(1));
        if state.waiting == 0 && self.fits(level, width) {
            self.levels[level].used += width;
            return Asked::Seated;
        }
        let id = self.next_id;
        let state = &mut self.levels[level];
        if state.config.reject || state.queues.is_empty() {
            return Asked::Refused("concurrency-limit");
        }
        let queue = state.shortest(flow);
        if state.queues[queue].waiting.len() >= state.config.queue_length {
            return Asked::Refused("queue-full");
        }
        let (wake, woken) = oneshot::channel();
        let now = state.now;
        let chosen = &mut state.queues[queue];
        if chosen.waiting.is_empty() {
            // being away earns nothing
            chosen.served = chosen.served.max(now);
        }
        chosen.waiting.push_back(Waiter { id, width, wake });
        chosen.waiting_seats += width;
        state.waiting += 1;
        self.waiting += 1;
        self.next_id += 1;
        self.pump();
        Asked::Queued(woken, queue, id)
    }

    /// Gives a seat back; `queue` is where it waited and `took` how long it was used.
    pub fn give_back(&mut self, level: usize, queue: Option<usize>, width: u32, took: Duration) {
        let state = &mut self.levels[level];
        state.used = state.used.saturating_sub(width);
        if let Some(queue) = queue.and_then(|q| state.queues.get_mut(q)) {
            queue.served += f64::from(width) * (took.as_secs_f64() - GUESS);
        }
        self.pump();
    }

    /// Takes a waiting request out; `false`: it is no longer waiting, so it has a seat.
    pub fn leave(&mut self, level: usize, queue: usize, id: u64) -> bool {
        let state = &mut self.levels[level];
        let Some(queue) = state.queues.get_mut(queue) else { return false };
        let Some(at) = queue.waiting.iter().position(|w| w.id == id) else { return false };
        if let Some(gone) = queue.waiting.remove(at) {
            queue.waiting_seats -= gone.width;
            state.waiting -= 1;
            self.waiting -= 1;
        }
        true
    }

    /// The seats a request of this width really takes in a level.
    pub fn width(&self, level: usize, width: u32) -> u32 {
        width.min(self.levels[level].config.nominal.max(1))
    }

    /// Seats whoever can be seated: first the level that uses least of its share.
    fn pump(&mut self) {
        while self.waiting > 0 {
            let candidates = self.levels.iter().enumerate().filter_map(|(index, state)| {
                let queue = state.next_queue()?;
                let width = state.queues[queue].waiting.front()?.width;
                let share = f64::from(state.used) / f64::from(state.config.nominal.max(1));
                self.fits(index, width).then_some((share, index, queue))
            });
            let Some((_, index, queue)) = candidates.min_by(|a, b| a.0.total_cmp(&b.0)) else { return };
            let state = &mut self.levels[index];
            let Some(waiter) = state.queues[queue].waiting.pop_front() else { return };
            let chosen = &mut state.queues[queue];
            chosen.waiting_seats -= waiter.width;
            state.now = state.now.max(chosen.served);
            chosen.served += f64::from(waiter.width) * GUESS;
            state.used += waiter.width;
            state.waiting -= 1;
            self.waiting -= 1;
            // one that went away meanwhile gives its seat back by itself
            let _ = waiter.wake.send(());
        }
    }
}

impl LevelState {
    fn next_queue(&self) -> Option<usize> {
        if self.waiting == 0 {
            return None;
        }
        let waiting = self.queues.iter().enumerate().filter(|(_, q)| !q.waiting.is_empty());
        waiting.min_by(|a, b| a.1.served.total_cmp(&b.1.served)).map(|(index, _)| index)
    }

    /// Of the queues dealt to a flow, the one with the least that waits.
    fn shortest(&self, flow: u64) -> usize {
        let mut hand = [0; HAND_MAX];
        let hand = deal(flow, self.config.queues.min(self.queues.len()), self.config.hand, &mut hand);
        let by_load = |q: &&usize| (self.queues[**q].waiting_seats, self.queues[**q].served.to_bits());
        hand.iter().min_by_key(by_load).copied().unwrap_or(0)
    }
}

/// `hand` different cards of a deck of `deck`, the same for the same hash (upstream: util/shufflesharding).
fn deal(mut hash: u64, deck: usize, hand: usize, cards: &mut [usize; HAND_MAX]) -> &[usize] {
    let hand = hand.min(deck).min(HAND_MAX);
    let mut sorted: [usize; HAND_MAX] = [0; HAND_MAX];
    for dealt in 0..hand {
        let left = (deck - dealt) as u64;
        let mut card = (hash % left) as usize;
        hash /= left;
        // the n-th of the cards that are left
        let mut place = dealt;
        for (index, taken) in sorted[..dealt].iter().enumerate() {
            if card >= *taken {
                card += 1;
            } else {
                place = index;
                break;
            }
        }
        sorted.copy_within(place..dealt, place + 1);
        sorted[place] = card;
        cards[dealt] = card;
    }
    &cards[..hand]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    fn level(name: &str, nominal: u32, min: u32) -> Level {
        Level { name: name.into(), nominal, min, max: 10, queues: 8, hand: 2, queue_length: 100, ..Level::default() }
    }

    fn state() -> State {
        let mut state = State::new(10);
        state.configure(vec![level("a", 5, 3), level("b", 5, 5)]);
        state
    }

    #[test]
    fn a_hand_has_different_cards() {
        for hash in [0, 1, 12_345_678_901, u64::MAX, u64::MAX / 3] {
            let mut cards = [0; HAND_MAX];
            let hand = deal(hash, 8, 6, &mut cards);
            assert_eq!(hand.iter().collect::<BTreeSet<_>>().len(), 6, "{hand:?}");
            assert!(hand.iter().all(|c| *c < 8), "{hand:?}");
        }
        let mut cards = [0; HAND_MAX];
        assert_eq!(deal(7, 1, 6, &mut cards), [0]);
    }

    #[test]
    fn seats_are_borrowed_only_where_they_are_lent() {
        let mut state = state();
        let seated = |state: &mut State, level: usize, n: usize| {
            (0..n).filter(|_| matches!(state.ask(level, 1, 0), Asked::Seated)).count()
        };
        assert_eq!(seated(&mut state, 0, 8), 5, "b lends nothing");
        assert_eq!(seated(&mut state, 1, 8), 5, "b has all of its own");
        let mut other = self::state();
        assert_eq!(seated(&mut other, 1, 9), 7, "a lends two");
        assert_eq!(seated(&mut other, 0, 9), 3, "and keeps three, whatever b does");
    }

    #[test]
    fn a_flood_of_one_flow_does_not_keep_others_waiting() {
        let mut state = state();
        let mut held = Vec::new();
        for _ in 0..50 {
            held.push(state.ask(0, 1, 1));
        }
        // another flow comes last, to queues of its own
        let Asked::Queued(mut quiet, ..) = state.ask(0, 1, 40) else { panic!("the level is full") };
        for _ in 0..3 {
            state.give_back(0, None, 1, Duration::from_millis(5));
        }
        assert!(quiet.try_recv().is_ok(), "it is served among the first");
    }

    #[test]
    fn who_leaves_gives_up_his_place_and_widths_are_bounded() {
        let mut state = state();
        assert_eq!(state.width(0, 50), 5);
        assert!(matches!(state.ask(0, 50, 1), Asked::Seated));
        let Asked::Queued(_, queue, id) = state.ask(0, 1, 1) else { panic!("the level is full") };
        assert!(state.leave(0, queue, id) && !state.leave(0, queue, id));
        assert_eq!(state.levels[0].waiting, 0);
        state.give_back(0, None, 5, Duration::ZERO);
        assert_eq!(state.levels[0].used, 0);
    }

    #[test]
    fn queues_have_an_end() {
        let mut state = State::new(1);
        state.configure(vec![Level { queue_length: 2, hand: 1, max: 1, ..level("a", 1, 1) }]);
        let results: Vec<Asked> = (0..4).map(|_| state.ask(0, 1, 9)).collect();
        assert!(matches!(
            results[..],
            [Asked::Seated, Asked::Queued(..), Asked::Queued(..), Asked::Refused("queue-full")]
        ));
    }

    #[test]
    fn a_level_that_went_away_serves_what_it_has() {
        let mut state = state();
        assert!(matches!(state.ask(0, 1, 1), Asked::Seated));
        state.configure(vec![level("b", 10, 10)]);
        assert_eq!(state.index("a"), Some(0));
        state.give_back(0, None, 1, Duration::ZERO);
        assert_eq!(state.levels[0].used, 0);
    }
}
