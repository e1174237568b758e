//! Between requests and the threads that compute: a queue with an end, and workers that take from it what can be computed
//! together.
//!
//! A worker that becomes free takes the oldest query and with it those behind it that the model answers in the same pass
//! (a code has a fixed number of tokens, so the decoders of all of them take the same steps). Nothing ever waits for a batch
//! to fill: with an idle worker a query is alone, and under load batches grow by themselves while the workers are busy.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use eager_bundle::{BundleError, Query, Ranked};
use tokio::sync::oneshot;

use crate::error::{ApiError, ApiResult};
use crate::metrics::Metrics;
use crate::models::Model;

/// The queue's and the workers' common part.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    max_queue: usize,
    max_batch: usize,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Job {
    since: Instant,
    work: Work,
}

enum Work {
    List(ListJob),
    Other(Box<dyn Other>),
}

struct ListJob {
    model: Arc<Model>,
    query: Query,
    reply: oneshot::Sender<Result<Vec<Ranked>, BundleError>>,
}

/// Anything else that takes long.
trait Other: Send {
    fn cancelled(&self) -> bool;
    fn run(self: Box<Self>);
}

struct OtherJob<T, F> {
    work: F,
    reply: oneshot::Sender<T>,
}

impl<T: Send, F: FnOnce() -> T + Send> Other for OtherJob<T, F> {
    fn cancelled(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(self: Box<Self>) {
        let Self { work, reply } = *self;
        let _ = reply.send(work());
    }
}

impl ListJob {
    /// What queries of one batch have in common: the model, and what it answers in one pass.
    fn pass(&self) -> (*const Model, (bool, usize)) {
        let pass = self.model.bundle.pass(&self.query);
        (Arc::as_ptr(&self.model), pass)
    }
}

impl Job {
    /// Whether the client has gone.
    fn cancelled(&self) -> bool {
        match &self.work {
            Work::List(job) => job.reply.is_closed(),
            Work::Other(job) => job.cancelled(),
        }
    }
}

/// Of a worker that panicked. It has no request's span, so the line with the request's id is this one.
fn unanswered(_: oneshot::error::RecvError) -> ApiError {
    tracing::error!("the worker that had this request panicked; a line before says where");
    ApiError::internal()
}

impl Queue {
    pub(crate) fn new(max_queue: usize, max_batch: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            max_queue: max_queue.max(1),
            max_batch: max_batch.max(1),
            metrics,
        }
    }

    /// A query's list.
    pub(crate) async fn list(&self, model: Arc<Model>, query: Query) -> ApiResult<Vec<Ranked>> {
        let (reply, answer) = oneshot::channel();
        let job = ListJob {
            model,
            query,
            reply,
        };
        self.push(Work::List(job))?;
        Ok(answer.await.map_err(unanswered)??)
    }

    /// What `work` returns, computed by a worker.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> ApiResult<T> {
        let (reply, answer) = oneshot::channel();
        self.push(Work::Other(Box::new(OtherJob { work, reply })))?;
        answer.await.map_err(unanswered)
    }

    fn push(&self, work: Work) -> ApiResult<()> {
        let mut waiting = self.lock();
        if waiting.jobs.len() >= self.max_queue {
            self.leave_out(&mut waiting.jobs);
        }
        let length = waiting.jobs.len();
        if length >= self.max_queue {
            return Err(ApiError::busy(length));
        }
        waiting.jobs.push_back(Job {
            since: Instant::now(),
            work,
        });
        self.metrics.queue.set(waiting.jobs.len() as i64);
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// Lets the workers end when nothing is left to do.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// What a free worker does next, oldest first; waits for it. `None` once the queue is closed and empty.
    fn take(&self) -> Option<Vec<Job>> {
        let mut waiting = self.lock();
        loop {
            self.leave_out(&mut waiting.jobs);
            if let Some(first) = waiting.jobs.pop_front() {
                let batch = together(first, &mut waiting.jobs, self.max_batch);
                self.metrics.queue.set(waiting.jobs.len() as i64);
                return Some(batch);
            }
            self.metrics.queue.set(0);
            if waiting.closed {
                return None;
            }
            waiting = self
                .changed
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Drops what nobody waits for any more.
    fn leave_out(&self, jobs: &mut VecDeque<Job>) {
        let before = jobs.len();
        jobs.retain(|job| !job.cancelled());
        self.metrics.cancelled.inc_by((before - jobs.len()) as u64);
    }

    /// Nothing panics while it is locked, so a poisoned lock guards what it should.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `first` and, where it is a query, up to `max` in all that go with it; the others keep their order.
fn together(first: Job, jobs: &mut VecDeque<Job>, max: usize) -> Vec<Job> {
    let Work::List(list) = &first.work else {
        return vec![first];
    };
    let pass = list.pass();
    let mut batch = vec![first];
    for job in std::mem::take(jobs) {
        match &job.work {
            Work::List(list) if batch.len() < max && list.pass() == pass => batch.push(job),
            _ => jobs.push_back(job),
        }
    }
    batch
}

/// Starts the threads that compute. They end after [`Queue::close`].
pub(crate) fn start(queue: &Arc<Queue>, workers: usize) -> std::io::Result<Vec<JoinHandle<()>>> {
    let start = |number: usize| {
        let queue = queue.clone();
        // The products of an explanation are small: on a shared pool they would wait for each other.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let pool = pool.map_err(std::io::Error::other)?;
        let work = move || {
            while let Some(jobs) = queue.take() {
                answer(&queue.metrics, &pool, jobs);
            }
        };
        std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(work)
    };
    (0..workers.max(1)).map(start).collect()
}

fn answer(metrics: &Metrics, pool: &rayon::ThreadPool, jobs: Vec<Job>) {
    let started = Instant::now();
    let mut lists = vec![];
    for job in jobs {
        metrics.waited.observe((started - job.since).as_secs_f64());
        match job.work {
            Work::List(job) => lists.push(job),
            Work::Other(job) => {
                let run = AssertUnwindSafe(|| pool.install(|| job.run()));
                if catch_unwind(run).is_err() {
                    metrics.panics.inc();
                }
            }
        }
    }
    if let Some(first) = lists.first() {
        metrics.batches.observe(lists.len() as f64);
        let model = first.model.clone();
        answer_lists(metrics, &model, lists);
        metrics.computed.observe(started.elapsed().as_secs_f64());
    }
}

/// One pass for all; where it fails, one for each, so that a query fails alone.
fn answer_lists(metrics: &Metrics, model: &Model, jobs: Vec<ListJob>) {
    let (queries, replies): (Vec<Query>, Vec<_>) =
        jobs.into_iter().map(|job| (job.query, job.reply)).unzip();
    let pass = |queries: &[Query]| {
        let pass = catch_unwind(AssertUnwindSafe(|| model.bundle.recommend(queries)));
        pass.inspect_err(|_| {
            metrics.panics.inc();
        })
    };
    match pass(&queries) {
        Ok(Ok(lists)) => {
            for (reply, list) in replies.into_iter().zip(lists) {
                let _ = reply.send(Ok(list));
            }
        }
        // A reply that is dropped says that there was a panic.
        Err(_) if queries.len() == 1 => {}
        _ => {
            for (query, reply) in queries.iter().zip(replies) {
                if let Ok(list) = pass(std::slice::from_ref(query)) {
                    let _ = reply.send(list.map(|lists| lists.into_iter().flatten().collect()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use eager_bundle::Filter;

    use super::*;
    use crate::models::Models;
    use crate::search::TitleSearch;

    fn model(seed: u64) -> Arc<Model> {
        let bundle = eager_fixtures::bundle(30, seed);
        Arc::new(Model {
            name: "random".to_owned(),
            titles: TitleSearch::new(bundle.items()),
            bundle,
            loaded_at: jiff::Timestamp::UNIX_EPOCH,
        })
    }

    fn queue(max_queue: usize, max_batch: usize) -> Arc<Queue> {
        let models = Models::open(&[], Box::new(|_| Err("none".into())), 1).unwrap();
        let metrics = Arc::new(Metrics::new(&Arc::new(models)));
        Arc::new(Queue::new(max_queue, max_batch, metrics))
    }

    fn query(item: u32) -> Query {
        Query {
            history: vec![item],
            k: 3,
            ..Query::default()
        }
    }

    /// Puts a query into the queue; the task ends with its list.
    async fn ask(
        queue: &Arc<Queue>,
        model: &Arc<Model>,
        query: Query,
    ) -> tokio::task::JoinHandle<ApiResult<Vec<Ranked>>> {
        let (queue, model) = (queue.clone(), model.clone());
        let task = tokio::spawn(async move { queue.list(model, query).await });
        tokio::task::yield_now().await;
        task
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_whoever_left_makes_room() {
        let (queue, model) = (queue(2, 8), model(1));
        let first = ask(&queue, &model, query(1)).await;
        let second = ask(&queue, &model, query(2)).await;
        let third = ask(&queue, &model, query(3))
            .await
            .await
            .unwrap()
            .unwrap_err();
        assert!(format!("{third:?}").contains("429"), "{third:?}");
        assert!(queue.compute(|| ()).await.is_err());
        first.abort();
        tokio::task::yield_now().await;
        let fourth = ask(&queue, &model, query(4)).await;
        second.abort();
        tokio::task::yield_now().await;
        let workers = start(&queue, 1).unwrap();
        let expected = model.bundle.recommend(&[query(4)]).unwrap().remove(0);
        assert_eq!(fourth.await.unwrap().unwrap(), expected);
        assert_eq!(
            queue.metrics.cancelled.get(),
            2,
            "the first, for the fourth, and the second"
        );
        queue.close();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
    }

    #[tokio::test]
    async fn a_pass_is_of_those_who_wait_alone() {
        let (queue, model) = (queue(9, 8), model(1));
        let stays = ask(&queue, &model, query(1)).await;
        for item in 2..5 {
            ask(&queue, &model, query(item)).await.abort();
        }
        tokio::task::yield_now().await;
        let workers = start(&queue, 1).unwrap();
        assert_eq!(stays.await.unwrap().unwrap().len(), 3);
        queue.close();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        assert_eq!(queue.metrics.cancelled.get(), 3);
        let text = queue.metrics.text().unwrap();
        assert!(text.contains("eager_batch_queries_sum 1.0"), "{text}");
    }

    #[tokio::test]
    async fn a_fault_or_a_panic_is_one_requests_alone() {
        let (queue, model) = (queue(9, 8), model(1));
        let mut tasks = vec![];
        for k in [3, 0, 2] {
            tasks.push(ask(&queue, &model, Query { k, ..query(5) }).await);
        }
        let workers = start(&queue, 2).unwrap();
        let mut lengths = vec![];
        for task in tasks {
            lengths.push(task.await.unwrap().map(|list| list.len()).ok());
        }
        assert_eq!(lengths, [Some(3), None, Some(2)]);
        let text = queue.metrics.text().unwrap();
        let one_of_three = ["eager_batch_queries_sum 3.0", "eager_batch_queries_count 1"];
        assert!(
            one_of_three
                .iter()
                .all(|line| text.lines().any(|l| l == *line)),
            "{text}"
        );
        for _ in 0..4 {
            assert!(queue.compute(|| panic!("as tests do")).await.is_err());
        }
        assert_eq!(queue.compute(|| 7).await.unwrap(), 7);
        queue.close();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        // A panic is counted after whoever asked has heard of it.
        assert_eq!(queue.metrics.panics.get(), 4);
    }

    #[test]
    fn a_batch_is_of_one_pass_and_the_others_keep_their_order() {
        let (a, b) = (model(1), model(2));
        let filter = Filter {
            categories: vec!["c1".to_owned()],
            ..Filter::default()
        };
        let wide = Query { k: 25, ..query(3) };
        let narrow = Query { filter, ..query(4) };
        let jobs = [
            (&a, query(0)),
            (&b, query(1)),
            (&a, query(2)),
            (&a, wide),
            (&a, narrow),
            (&a, query(5)),
            (&a, query(6)),
        ];
        let mut jobs: VecDeque<Job> = jobs
            .into_iter()
            .map(|(model, query)| {
                let work = Work::List(ListJob {
                    model: model.clone(),
                    query,
                    reply: oneshot::channel().0,
                });
                let since = Instant::now();
                Job { since, work }
            })
            .collect();
        let items = |jobs: &mut dyn Iterator<Item = &Job>| -> Vec<u32> {
            jobs.map(|job| match &job.work {
                Work::List(job) => job.query.history[0],
                Work::Other(_) => unreachable!(),
            })
            .collect()
        };
        let first = jobs.pop_front().unwrap();
        let batch = together(first, &mut jobs, 3);
        assert_eq!(items(&mut batch.iter()), [0, 2, 5]);
        assert_eq!(items(&mut jobs.iter()), [1, 3, 4, 6]);
    }
}
