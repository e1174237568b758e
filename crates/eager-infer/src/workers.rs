//! Threads that work off chunks of users, each with a rayon pool of its own of one thread: on a shared pool their small
//! matrix products would wait for each other. What a chunk is does not depend on how many threads there are.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::Result;

#[derive(Debug)]
pub(crate) struct Workers {
    pools: Vec<ThreadPool>,
    /// Whose turn it is with a single chunk.
    turn: AtomicUsize,
}

impl Workers {
    pub(crate) fn new(threads: usize) -> Result<Self> {
        let pool = || ThreadPoolBuilder::new().num_threads(1).build();
        Ok(Self {
            pools: (0..threads.max(1))
                .map(|_| pool())
                .collect::<std::result::Result<_, _>>()?,
            turn: AtomicUsize::new(0),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.pools.len()
    }

    /// Calls `work` with `0..chunks` on the workers, and `done` on this thread with each result as it comes. Ends at the
    /// first error.
    pub(crate) fn run<T: Send>(
        &self,
        chunks: usize,
        work: impl Fn(usize) -> Result<T> + Sync,
        mut done: impl FnMut(usize, T),
    ) -> Result<()> {
        let threads = self.pools.len().min(chunks);
        if threads <= 1 {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.pools.len();
            for chunk in 0..chunks {
                done(chunk, self.pools[turn].install(|| work(chunk))?);
            }
            return Ok(());
        }
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let (sender, results) = mpsc::channel();
            for pool in &self.pools[..threads] {
                let (sender, next, stop, work) = (sender.clone(), &next, &stop, &work);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let chunk = next.fetch_add(1, Ordering::Relaxed);
                        if chunk >= chunks {
                            return;
                        }
                        let result = pool.install(|| work(chunk));
                        if sender.send((chunk, result)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for (chunk, result) in results {
                match result {
                    Ok(result) => done(chunk, result),
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InferError;

    #[test]
    fn every_chunk_is_done_once_and_errors_come_back() {
        for threads in [1, 2, 5] {
            let workers = Workers::new(threads).unwrap();
            for chunks in [0, 1, 40] {
                let mut seen = vec![0; chunks];
                let square = |chunk: usize| {
                    assert_eq!(rayon::current_num_threads(), 1);
                    Ok(chunk * chunk)
                };
                workers
                    .run(chunks, square, |chunk, result| {
                        assert_eq!(result, chunk * chunk);
                        seen[chunk] += 1;
                    })
                    .unwrap();
                assert!(seen.iter().all(|&n| n == 1));
            }
            let fail = |chunk: usize| match chunk {
                7 => Err(InferError::EmptyHistory { history: chunk }),
                _ => Ok(()),
            };
            assert!(workers.run(40, fail, |_, ()| ()).is_err());
        }
    }
}
