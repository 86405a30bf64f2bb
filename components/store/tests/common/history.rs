//! A checker of linearizability for one register with compare-and-swap (Wing and Gong's search, with Lowe's memory of states
//! that were visited).

use std::collections::HashSet;
use std::time::Duration;

/// One request of one client, as that client saw it.
#[derive(Clone, Debug)]
pub struct Operation {
    pub started: Duration,
    /// `None`: no answer came; it may take effect at any time later, or never.
    pub ended: Option<Duration>,
    pub call: Call,
}

#[derive(Clone, Debug)]
pub enum Call {
    Read(Option<String>),
    Swapped {
        from: Option<String>,
        to: Option<String>,
    },
    /// A swap whose end is not known.
    Unknown {
        from: Option<String>,
        to: Option<String>,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    Impossible,
}

/// Whether there is an order of all operations in which each gives what it gave, and none comes before one that had ended when
/// it started. The register begins empty.
pub fn check(history: &[Operation]) -> Verdict {
    let (mut answered, mut unanswered): (Vec<_>, Vec<_>) = history.iter().partition(|it| it.ended.is_some());
    answered.sort_by_key(|operation| operation.started);
    unanswered.sort_by_key(|operation| operation.started);
    let mut search = Search { answered, unanswered, seen: HashSet::new() };
    if search.go() { Verdict::Linearizable } else { Verdict::Impossible }
}

struct Search<'a> {
    answered: Vec<&'a Operation>,
    unanswered: Vec<&'a Operation>,
    seen: HashSet<Position<'a>>,
}

/// Which operations have their place, and what they left. As small as what happened at the same time, however long the history is.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Position<'a> {
    /// Of the answered ones all before this one have their place,
    first: usize,
    /// and these after it.
    further: Vec<usize>,
    /// Unanswered ones that took effect; the others need not.
    happened: Vec<usize>,
    state: Option<&'a str>,
}

impl<'a> Search<'a> {
    /// Depth first, with a stack of its own: histories are long.
    fn go(&mut self) -> bool {
        let mut stack = vec![Position::default()];
        while let Some(mut position) = stack.pop() {
            while position.further.first() == Some(&position.first) {
                position.further.remove(0);
                position.first += 1;
            }
            if position.first == self.answered.len() {
                return true;
            }
            if self.seen.insert(position.clone()) {
                self.go_on(&position, &mut stack);
            }
        }
        false
    }

    /// Every position that can be the next one.
    fn go_on(&self, position: &Position<'a>, stack: &mut Vec<Position<'a>>) {
        let (mut found, mut before) = (Vec::new(), Duration::MAX);
        for (n, &operation) in self.answered.iter().enumerate().skip(position.first) {
            if operation.started > before {
                break;
            }
            if position.further.contains(&n) {
                continue;
            }
            before = before.min(operation.ended.unwrap_or(Duration::MAX));
            let Some(state) = step(&operation.call, position.state) else { continue };
            let next = Position { further: with(&position.further, n), state, ..position.clone() };
            // what changes nothing can as well come now: an order in which it comes later is one in which it comes now, too
            if matches!(operation.call, Call::Read(_)) {
                stack.push(next);
                return;
            }
            found.push(next);
        }
        for (n, &operation) in self.unanswered.iter().enumerate() {
            if operation.started > before {
                break;
            }
            if position.happened.contains(&n) {
                continue;
            }
            if let Some(state) = step(&operation.call, position.state) {
                stack.push(Position { happened: with(&position.happened, n), state, ..position.clone() });
            }
        }
        stack.append(&mut found);
    }
}

/// In order: the same operations make the same position.
fn with(operations: &[usize], n: usize) -> Vec<usize> {
    let mut operations = operations.to_vec();
    operations.insert(operations.partition_point(|other| *other < n), n);
    operations
}

/// The state after a call, if it can give what it gave in this state.
fn step<'a>(call: &'a Call, state: Option<&'a str>) -> Option<Option<&'a str>> {
    match call {
        Call::Read(value) => (value.as_deref() == state).then_some(state),
        Call::Swapped { from, to } => (from.as_deref() == state).then_some(to.as_deref()),
        // without effect it is never placed
        Call::Unknown { from, to } => (from.as_deref() == state).then_some(to.as_deref()),
    }
}
