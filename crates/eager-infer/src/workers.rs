//! Threads that work off chunks of users, each with a rayon pool of its own of one thread: on a shared pool their small
//! matrix products would wait for each other. What a chunk is does not depend on how many threads there are.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::Result;

#[derive(Debug)]
pub(crate) struct Workers {
    pools: Vec<ThreadPool>,
    /// Single chunks that each pool has to do: several threads may ask for one each.
    busy: Vec<AtomicUsize>,
}

/// A pool's place while it does a single chunk.
struct Turn<'a>(usize, &'a AtomicUsize);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    pub(crate) fn new(threads: usize) -> Result<Self> {
        let pool = || ThreadPoolBuilder::new().num_threads(1).build();
        Ok(Self {
            pools: (0..threads.max(1))
                .map(|_| pool())
                .collect::<std::result::Result<_, _>>()?,
            busy: (0..threads.max(1)).map(|_| AtomicUsize::new(0)).collect(),
        })
    }

    /// The pool with the least to do. (Two threads may take the same one, which costs time and nothing else.)
    fn turn(&self) -> Turn<'_> {
        let busy = self.busy.iter().enumerate();
        let least = busy.min_by_key(|(_, busy)| busy.load(Ordering::Relaxed));
        let (at, busy) = least.unwrap_or((0, &self.busy[0]));
        busy.fetch_add(1, Ordering::Relaxed);
        Turn(at, busy)
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
            let turn = self.turn();
            for chunk in 0..chunks {
                done(chunk, self.pools[turn.0].install(|| work(chunk))?);
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
    fn single_chunks_go_to_whoever_is_free() {
        let workers = Workers::new(2).unwrap();
        let (first, second) = (workers.turn(), workers.turn());
        assert_eq!((first.0, second.0), (0, 1));
        drop(second);
        assert_eq!(workers.turn().0, 1);
        drop(first);
        assert_eq!(workers.turn().0, 0);
    }

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
