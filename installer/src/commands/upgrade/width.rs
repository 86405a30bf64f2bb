//! How many hosts are worked on at once.

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

/// Does `work` for `items` in their order, `at_once` of them at a time; after a failure none is begun any more, and those that were are
/// brought to their end. Gives the failures.
pub async fn each<T, E>(
    items: impl IntoIterator<Item = T>,
    at_once: usize,
    work: impl AsyncFn(T) -> Result<(), E>,
) -> Vec<E> {
    let mut waiting = items.into_iter();
    let mut working = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        while working.len() < at_once && failures.is_empty() {
            let Some(item) = waiting.next() else { break };
            working.push(work(item));
        }
        let Some(result) = working.next().await else { return failures };
        failures.extend(result.err());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use futures::FutureExt as _;
    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn so_many_are_worked_on_as_is_asked_for_and_never_more() {
        for at_once in [1, 2, 4] {
            let (working, most) = (Cell::new(0), Cell::new(0));
            let ends = Semaphore::new(0);
            let all = each(0..9, at_once, async |_| {
                working.set(working.get() + 1);
                most.set(most.get().max(working.get()));
                let permit = ends.acquire().await;
                working.set(working.get() - 1);
                permit.map(tokio::sync::SemaphorePermit::forget)
            });
            let mut all = Box::pin(all);
            assert!(all.as_mut().now_or_never().is_none(), "nobody may end yet");
            assert_eq!(working.get(), at_once);
            for left in (1..9).rev() {
                ends.add_permits(1);
                assert!(all.as_mut().now_or_never().is_none());
                assert_eq!(working.get(), at_once.min(left), "who ends makes room for one");
            }
            ends.add_permits(1);
            assert!(all.as_mut().now_or_never().is_some_and(|failures| failures.is_empty()));
            assert_eq!(most.get(), at_once);
        }
    }

    #[test]
    fn after_a_failure_nobody_begins_and_who_began_comes_to_an_end() {
        let ended = RefCell::new(Vec::new());
        let ends = Semaphore::new(0);
        let mut all = Box::pin(each(0..5, 2, async |item| match item {
            0 => Err("broken"),
            item => {
                let _permit = ends.acquire().await;
                ended.borrow_mut().push(item);
                Ok(())
            }
        }));
        assert!(all.as_mut().now_or_never().is_none());
        ends.add_permits(1);
        assert_eq!(all.now_or_never(), Some(vec!["broken"]));
        assert_eq!(ended.into_inner(), [1]);
    }
}
