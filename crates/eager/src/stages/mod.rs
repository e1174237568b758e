//! The pipeline's stages: each reads the folders of those above it and writes its own, and knows nothing else of them.

pub mod behaviour;
pub mod codes;
pub mod data;
pub mod eval;
pub mod model;
pub mod text;

use candle_core::Device;
use eager_data::{Manifest, Places};

use crate::config::Config;
use crate::logs::Progress;

/// What every stage may look at.
#[derive(Clone, Debug)]
pub struct Context {
    /// The dataset.
    pub manifest: Manifest,
    /// The run's settings.
    pub config: Config,
    /// Where files are looked for and put.
    pub places: Places,
    /// Where tensors live.
    pub device: Device,
    /// The run's seed; stages derive theirs with [`seed::derive`](crate::seed::derive).
    pub seed: u64,
}

/// A bar for each file that is fetched or read, one after the other.
pub(crate) struct FileBars {
    /// What is done with them: "fetching", "reading".
    doing: &'static str,
    current: Option<(String, Progress)>,
}

impl FileBars {
    pub(crate) fn new(doing: &'static str) -> Self {
        Self {
            doing,
            current: None,
        }
    }

    pub(crate) fn show(&mut self, what: &str, done: u64, total: Option<u64>) {
        let total = total.unwrap_or(done).max(done);
        let bar = match &mut self.current {
            Some((name, bar)) if name == what => bar,
            current => {
                tracing::info!("{} {what}", self.doing);
                let mut bar = Progress::new(self.doing, total, 0);
                bar.message(what.to_owned());
                &mut current.insert((what.to_owned(), bar)).1
            }
        };
        bar.set_total(total);
        bar.set(done);
    }
}
