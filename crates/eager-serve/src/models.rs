//! The models that are served, each of which can be changed for another while requests go on: a request holds the model that
//! it began with, and the old one goes when its last request is done.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use eager_bundle::{Bundle, Query};
use jiff::Timestamp;

use crate::error::{ApiError, ApiResult};
use crate::search::TitleSearch;
use crate::{Result, ServeError};

/// Opens a folder as a bundle whose digest is known.
pub type Open = dyn Fn(&Path) -> std::result::Result<Bundle, Box<dyn std::error::Error + Send + Sync>>
    + Send
    + Sync;

/// A model to serve.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name in requests; otherwise that of its bundle when the server starts.
    pub name: Option<String>,
    /// Its folder, opened again at every reload.
    pub folder: PathBuf,
}

/// A bundle with what serving adds to it.
pub(crate) struct Model {
    /// The name in requests.
    pub(crate) name: String,
    pub(crate) bundle: Bundle,
    pub(crate) titles: TitleSearch,
    pub(crate) loaded_at: Timestamp,
}

/// A name, with the model that has it now.
struct Slot {
    name: String,
    folder: PathBuf,
    current: ArcSwap<Model>,
    /// One change at a time.
    change: tokio::sync::Mutex<()>,
}

/// What a reload did.
pub(crate) struct Change {
    pub(crate) old: Arc<Model>,
    pub(crate) new: Arc<Model>,
}

/// All models, in the order in which they were given.
pub(crate) struct Models {
    slots: Vec<Slot>,
    open: Box<Open>,
    workers: usize,
}

impl Models {
    /// Opens every source, and asks each a question.
    pub(crate) fn open(sources: &[Source], open: Box<Open>, workers: usize) -> Result<Self> {
        let mut slots: Vec<Slot> = vec![];
        for Source { name, folder } in sources {
            let model = load(&open, folder, name.as_deref(), workers)?;
            let name = model.name.clone();
            if slots.iter().any(|slot| slot.name == name) {
                return Err(ServeError::Name { name });
            }
            slots.push(Slot {
                name,
                folder: folder.clone(),
                current: ArcSwap::from_pointee(model),
                change: tokio::sync::Mutex::default(),
            });
        }
        Ok(Self {
            slots,
            open,
            workers,
        })
    }

    /// Every model as it is now.
    pub(crate) fn all(&self) -> impl Iterator<Item = Arc<Model>> {
        self.slots.iter().map(|slot| slot.current.load_full())
    }

    /// The names, in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|slot| slot.name.as_str())
    }

    /// The model of that name, or the first.
    pub(crate) fn get(&self, name: Option<&str>) -> ApiResult<Arc<Model>> {
        Ok(self.slot(name)?.current.load_full())
    }

    fn slot(&self, name: Option<&str>) -> ApiResult<&Slot> {
        let slot = match name {
            Some(name) => self.slots.iter().find(|slot| slot.name == name),
            None => self.slots.first(),
        };
        slot.ok_or_else(|| {
            let names: Vec<&str> = self.names().collect();
            let message = format!("there is no model {:?}, only {names:?}", name.unwrap_or(""));
            ApiError::not_found("unknown_model", message).at("model")
        })
    }

    /// Opens a model's folder anew and, once the new one has been checked, puts it in the place of the old one.
    ///
    /// The outer error is an unknown name; with the inner one the old model goes on.
    pub(crate) async fn reload(self: &Arc<Self>, name: Option<&str>) -> ApiResult<Result<Change>> {
        let slot = self.slot(name)?;
        let _one = slot.change.lock().await;
        let (models, folder, name) = (self.clone(), slot.folder.clone(), slot.name.clone());
        let request = tracing::Span::current();
        let loaded = tokio::task::spawn_blocking(move || {
            let _request = request.entered();
            let open = || load(&models.open, &folder, Some(&name), models.workers);
            let loaded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(open));
            loaded.unwrap_or_else(|_| {
                Err(ServeError::Check {
                    folder,
                    fault: "it panicked".to_owned(),
                })
            })
        });
        let Ok(loaded) = loaded.await else {
            return Err(ApiError::internal());
        };
        Ok(loaded.map(|model| {
            let new = Arc::new(model);
            let old = slot.current.swap(new.clone());
            Change { old, new }
        }))
    }
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// Opens and checks a model.
fn load(open: &Open, folder: &Path, name: Option<&str>, workers: usize) -> Result<Model> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| ServeError::Open {
        folder: folder.to_owned(),
        source,
    };
    let bundle = open(folder).map_err(failed)?;
    let bundle = bundle.with_threads(workers).map_err(|e| failed(e.into()))?;
    check(&bundle).map_err(|fault| ServeError::Check {
        folder: folder.to_owned(),
        fault,
    })?;
    let model = Model {
        name: name.unwrap_or(&bundle.manifest().name).to_owned(),
        titles: TitleSearch::new(bundle.items()),
        bundle,
        loaded_at: Timestamp::now(),
    };
    tracing::info!(
        "model {:?} of {}: {} items, digest {}",
        model.name,
        folder.display(),
        model.bundle.items().len(),
        model.bundle.digest()
    );
    Ok(model)
}

/// A question whose answer must be a list of finite scores: weights that are not numbers are found here, not by a client.
fn check(bundle: &Bundle) -> std::result::Result<(), String> {
    let query = Query {
        history: vec![0],
        k: 1,
        ..Query::default()
    };
    let lists = bundle
        .recommend(&[query])
        .map_err(|error| error.to_string())?;
    match lists.first().and_then(|list| list.first()) {
        Some(first) if first.score.is_finite() => Ok(()),
        Some(first) => Err(format!("a score is {}", first.score)),
        None => Err("a list is empty".to_owned()),
    }
}
