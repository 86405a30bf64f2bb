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
    let mut operations: Vec<&Operation> = history.iter().collect();
    operations.sort_by_key(|operation| operation.started);
    let mut search = Search { operations, seen: HashSet::new() };
    let done = vec![0; search.operations.len().div_ceil(64)];
    if search.go(done, 0, None) { Verdict::Linearizable } else { Verdict::Impossible }
}

struct Search<'a> {
    operations: Vec<&'a Operation>,
    seen: HashSet<(Vec<u64>, Option<&'a str>)>,
}

impl<'a> Search<'a> {
    /// Depth first, with a stack of its own: histories are long. `first` is the first operation that is not placed.
    fn go(&mut self, done: Vec<u64>, first: usize, state: Option<&'a str>) -> bool {
        let mut stack = vec![(done, first, state)];
        while let Some((done, mut first, state)) = stack.pop() {
            while first < self.operations.len() && is(&done, first) {
                first += 1;
            }
            // what is left has no answer, and need not have happened
            if self.operations[first..].iter().enumerate().all(|(n, it)| is(&done, first + n) || it.ended.is_none()) {
                return true;
            }
            if !self.seen.insert((done.clone(), state)) {
                continue;
            }
            let mut before = Duration::MAX;
            for n in first..self.operations.len() {
                let operation = self.operations[n];
                if operation.started > before {
                    break;
                }
                if is(&done, n) {
                    continue;
                }
                before = before.min(operation.ended.unwrap_or(Duration::MAX));
                if let Some(next) = step(&operation.call, state) {
                    let mut done = done.clone();
                    done[n / 64] |= 1 << (n % 64);
                    stack.push((done, first, next));
                }
            }
        }
        false
    }
}

fn is(done: &[u64], n: usize) -> bool {
    done[n / 64] & (1 << (n % 64)) != 0
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
