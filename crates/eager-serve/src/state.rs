//! What all requests share.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::batch::{self, Queue};
use crate::error::{ApiError, ApiResult};
use crate::metrics::{Metrics, Reload};
use crate::models::{Change, Models};
use crate::{Config, Open, Result, Source};

/// A server without its socket: models, queue, workers.
pub struct App {
    pub(crate) config: Config,
    pub(crate) models: Arc<Models>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: Arc<Metrics>,
    draining: AtomicBool,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("config", &self.config)
            .field("models", &self.models)
            .finish_non_exhaustive()
    }
}

impl App {
    /// Opens every model with `open` and starts the workers.
    ///
    /// # Errors
    /// When a limit is out of its range, a model cannot be opened or does not answer, two have one name, or a thread cannot be
    /// started.
    pub fn new(config: Config, sources: &[Source], open: Box<Open>) -> Result<Arc<Self>> {
        config.check()?;
        let models = Arc::new(Models::open(sources, open, config.workers)?);
        let metrics = Arc::new(Metrics::new(&models));
        let queue = Arc::new(Queue::new(
            config.max_queue,
            config.max_batch,
            metrics.clone(),
        ));
        let workers = batch::start(&queue, config.workers)?;
        Ok(Arc::new(Self {
            config,
            models,
            queue,
            metrics,
            draining: AtomicBool::new(false),
            workers: Mutex::new(workers),
        }))
    }

    /// From now on `/readyz` says `draining`.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Waits until the workers have done what was left to do, and ends them.
    pub fn close(&self) {
        self.queue.close();
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        for worker in workers.drain(..) {
            let _ = worker.join();
        }
    }

    /// Changes a model for what its folder holds now; counted and logged.
    pub(crate) async fn reload(&self, name: Option<&str>) -> ApiResult<Result<Change>> {
        let model = self.models.get(name)?.name.clone();
        let changed = self.models.reload(name).await?;
        let result = match &changed {
            Ok(change) if change.old.bundle.digest() == change.new.bundle.digest() => "unchanged",
            Ok(_) => "changed",
            Err(error) => {
                tracing::error!("reload of {model:?}: {error}; the model that was there goes on");
                "failed"
            }
        };
        self.metrics
            .reloads
            .get_or_create(&Reload { model, result })
            .inc();
        Ok(changed)
    }

    /// Reloads every model.
    pub async fn reload_all(&self) {
        let names: Vec<String> = self.models.names().map(str::to_owned).collect();
        for name in names {
            if let Err(error) = self.reload(Some(&name)).await {
                let _: ApiError = error; // the names are our own, and a panic is logged where it happens
            }
        }
    }
}
