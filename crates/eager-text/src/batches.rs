//! Batches without padding, and the threads they run on.
//!
//! candle's T5 takes no attention mask, so a padded batch would give wrong vectors: a batch here holds
//! texts of exactly one length, for both families, and nothing is ever padded or masked. On the CPU
//! each worker runs whole batches inside its own one-thread rayon pool, because workers that share a
//! pool for their matrix products wait for each other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use crate::error::{Result, TextError};

/// Groups the indices of `lengths` by length, longest first, each batch of at most `tokens` tokens (or
/// of one text). Within a length the input order is kept, so the cut depends on the lengths alone.
pub(crate) fn by_length(lengths: &[usize], tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(lengths[i]), i));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for i in order {
        match batches.last_mut() {
            Some(batch)
                if lengths[batch[0]] == lengths[i] && (batch.len() + 1) * lengths[i] <= tokens =>
            {
                batch.push(i);
            }
            _ => batches.push(vec![i]),
        }
    }
    batches
}

/// Runs `work` on every job number below `jobs` on `workers` threads and hands each result to `take`
/// on the calling thread, in whatever order they are done. The first error ends it.
///
/// # Errors
/// The first error of `work` or `take`; or that a thread could not be started.
pub(crate) fn run<T: Send>(
    jobs: usize,
    workers: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
    mut take: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    let pools = (0..workers.min(jobs))
        .map(|_| rayon::ThreadPoolBuilder::new().num_threads(1).build())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| TextError::Threads(e.to_string()))?;
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for pool in &pools {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                pool.install(|| {
                    loop {
                        let job = next.fetch_add(1, Ordering::Relaxed);
                        // A failed send means that the caller has given up.
                        if job >= jobs || sender.send((job, work(job))).is_err() {
                            break;
                        }
                    }
                });
            });
        }
        drop(sender);
        // The receiver moves in, so that it is closed when an error ends the loop.
        results
            .into_iter()
            .try_for_each(|(job, result)| take(job, result?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_in_one_batch_of_its_length_within_the_budget() {
        let lengths: Vec<usize> = (0..500).map(|i| 1 + (i * 7919) % 23).collect();
        let batches = by_length(&lengths, 40);
        let mut seen: Vec<usize> = batches.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
        for batch in &batches {
            let length = lengths[batch[0]];
            assert!(batch.iter().all(|&i| lengths[i] == length));
            assert!(batch.len() == 1 || batch.len() * length <= 40);
        }
        let firsts: Vec<usize> = batches.iter().map(|b| lengths[b[0]]).collect();
        assert!(firsts.is_sorted_by(|a, b| a >= b), "longest first");
        assert!(by_length(&[], 40).is_empty());
        assert_eq!(
            by_length(&[99, 99], 40).len(),
            2,
            "a text over the budget is its own batch"
        );
    }

    #[test]
    fn results_arrive_and_an_error_ends_the_run() {
        let mut squares = vec![0; 100];
        run(
            100,
            3,
            |i| Ok(i * i),
            |i, x| {
                squares[i] = x;
                Ok(())
            },
        )
        .unwrap();
        assert!(squares.iter().enumerate().all(|(i, &x)| x == i * i));

        let fail = |i| {
            if i == 5 {
                Err(TextError::Catalogue("five".into()))
            } else {
                Ok(i)
            }
        };
        let error = run(1_000_000, 2, fail, |_, _| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "lsa: five");
        run(0, 2, |_| Ok(()), |_, ()| Ok(())).unwrap();
    }
}
