//! A batch is cut into a fixed number of shards, and each shard's graph is built and differentiated by one thread.
//!
//! The number of shards is part of the arithmetic (gradients are summed in shard order, batch statistics are those of
//! a shard), so on the CPU it is a constant; a GPU, which is parallel by itself, has the batch whole. The number of workers is the machine's and changes nothing but the time. A worker
//! is a rayon pool of one thread: inside it candle's kernels and those of `eager-ops` see one thread and do not wait
//! for each other, which two workers on rayon's global pool do.

use std::ops::Range;
use std::sync::Mutex;

use anyhow::{Context, Result};
use candle_core::Device;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Shards of a training batch on the CPU.
pub const SHARDS: usize = 2;

/// The workers that compute a batch's shards.
#[derive(Debug)]
pub struct Shards {
    /// None where the one shard is the caller's own work.
    workers: Vec<ThreadPool>,
}

impl Shards {
    /// For work on `device`: on the CPU as many workers as there are cores to run on, at most [`SHARDS`]; else
    /// [`Shards::whole`].
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(device: &Device) -> Result<Self> {
        if !device.is_cpu() {
            return Ok(Self::whole());
        }
        Self::with_workers(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// One shard, the whole batch, which the calling thread computes.
    #[must_use]
    pub fn whole() -> Self {
        Self { workers: vec![] }
    }

    /// How many shards there are.
    #[must_use]
    pub fn count(&self) -> usize {
        if self.workers.is_empty() { 1 } else { SHARDS }
    }

    /// `workers` of them, but at least one and at most [`SHARDS`]. The results are the same for any number.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn with_workers(workers: usize) -> Result<Self> {
        let start = |worker: usize| {
            ThreadPoolBuilder::new()
                .num_threads(1)
                .thread_name(move |_| format!("shard-{worker}"))
                .build()
                .context("cannot start a worker thread; is a limit on threads reached?")
        };
        let workers = (0..workers.clamp(1, SHARDS)).map(start);
        Ok(Self {
            workers: workers.collect::<Result<_>>()?,
        })
    }

    /// What `work` makes of each shard's part of a batch of `n` examples, in the order of the shards: `work(shard, part)`.
    /// The parts follow each other and are equally long, but for the last; a shard that has no example makes nothing.
    ///
    /// # Errors
    /// As [`Shards::run`].
    pub fn parts<T: Send>(
        &self,
        n: usize,
        work: impl Fn(usize, Range<usize>) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let share = n.div_ceil(self.count());
        let made = self.run(|shard| {
            let part = (shard * share).min(n)..((shard + 1) * share).min(n);
            (!part.is_empty()).then(|| work(shard, part)).transpose()
        })?;
        Ok(made.into_iter().flatten().collect())
    }

    /// `work(0)`, …, `work(count - 1)`, in this order, however they were spread over the workers.
    ///
    /// # Errors
    /// The first shard's that failed; all of them have run by then.
    pub fn run<T: Send>(&self, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
        if self.workers.is_empty() {
            return Ok(vec![work(0)?]);
        }
        let results: [Mutex<Option<Result<T>>>; SHARDS] = std::array::from_fn(|_| Mutex::new(None));
        start_each(&self.workers, 0, &|worker| {
            for shard in (worker..SHARDS).step_by(self.workers.len()) {
                let result = work(shard);
                if let Ok(mut slot) = results[shard].lock() {
                    *slot = Some(result);
                }
            }
        });
        results
            .into_iter()
            .map(|slot| {
                slot.into_inner()
                    .ok()
                    .flatten()
                    .unwrap_or_else(|| Err(anyhow::anyhow!("a shard gave no result")))
            })
            .collect()
    }
}

/// Runs `job(worker)` on every worker and waits for all. A panic in one goes on in the caller.
fn start_each(workers: &[ThreadPool], worker: usize, job: &(dyn Fn(usize) + Sync)) {
    if let Some((pool, rest)) = workers.split_first() {
        pool.in_place_scope(|scope| {
            scope.spawn(move |_| job(worker));
            start_each(rest, worker + 1, job);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_shard_order_for_any_number_of_workers() {
        for workers in 0..5 {
            let shards = Shards::with_workers(workers).unwrap();
            let got = shards
                .run(|shard| {
                    assert_eq!(rayon::current_num_threads(), 1);
                    Ok(shard * 10)
                })
                .unwrap();
            assert_eq!(got, (0..SHARDS).map(|s| s * 10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn parts_are_all_of_a_batch_and_none_is_empty() {
        let shards = Shards::new(&Device::Cpu).unwrap();
        let parts = |n| {
            let parts = shards.parts(n, |shard, part| Ok((shard, part)));
            parts.unwrap()
        };
        assert_eq!(parts(5), [(0, 0..3), (1, 3..5)]);
        assert_eq!(parts(1), [(0, 0..1)]);
        assert_eq!(parts(0), []);
    }

    #[test]
    fn two_workers_run_at_the_same_time() {
        let shards = Shards::with_workers(SHARDS).unwrap();
        let meeting = std::sync::Barrier::new(SHARDS);
        shards
            .run(|_| {
                meeting.wait();
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_whole_batch_is_the_callers_own_work() {
        let (shards, caller) = (Shards::whole(), std::thread::current().id());
        let got = shards.run(|shard| Ok((shard, std::thread::current().id())));
        assert_eq!(got.unwrap(), [(0, caller)]);
        assert_eq!(shards.count(), 1);
    }

    #[test]
    fn the_first_error_wins() {
        let shards = Shards::new(&Device::Cpu).unwrap();
        let error = shards
            .run(|shard| -> Result<()> { anyhow::bail!("shard {shard} failed") })
            .unwrap_err();
        assert_eq!(error.to_string(), "shard 0 failed");
    }
}
