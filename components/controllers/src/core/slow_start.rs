//! Runs many similar writes in batches that double while all succeed, so that a quota that refuses everything costs one
//! request instead of hundreds.

use std::future::Future;

use futures::future::join_all;

/// Returns how many were not tried, and the first error.
pub async fn slow_start<F, Fut, E>(count: usize, mut start: F) -> (usize, Option<E>)
where
    F: FnMut(usize) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let (mut done, mut batch) = (0, 1);
    while done < count {
        let size = batch.min(count - done);
        let results = join_all((done..done + size).map(&mut start)).await;
        done += size;
        if let Some(error) = results.into_iter().find_map(Result::err) {
            return (count - done, Some(error));
        }
        batch *= 2;
    }
    (0, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stops_after_the_first_failing_batch() {
        let (skipped, error) = slow_start(10, |index| async move { if index == 2 { Err("no") } else { Ok(()) } }).await;
        assert_eq!((skipped, error), (7, Some("no")));
        let (skipped, error) = slow_start(10, |_| async { Ok::<(), &str>(()) }).await;
        assert_eq!((skipped, error), (0, None));
    }
}
