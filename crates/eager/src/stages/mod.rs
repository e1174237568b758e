//! The pipeline's stages: each reads the folders of those above it and writes its own, and knows nothing else of them.

pub mod baseline;
pub mod behaviour;
pub mod codes;
pub mod data;
pub mod eval;
pub mod model;
pub mod text;
pub mod tiger;

use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::Device;
use eager_data::{Manifest, Places};

use crate::config::Config;
use crate::logs::{Progress, TrainingLog};
use crate::train::epochs::{Event, Found, Losses};

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

/// Writes an event of a training loop down in the stage's folder, and moves the bar, which is called `phase`.
fn show<L: Losses, F: Found>(
    log: &mut Option<TrainingLog>,
    (folder, phase): (&Path, &str),
    batch_size: usize,
    event: Event<L, F>,
) -> Result<()> {
    match event {
        Event::Started { update, limit } => {
            let resumed = (update > 0).then_some(update);
            *log = Some(TrainingLog::open(folder, phase, limit, resumed)?);
            Ok(())
        }
        Event::Updates {
            update,
            made,
            epoch,
            parts,
            rate,
            norm,
        } => {
            let log = log.as_mut().context("an update before the start")?;
            log.advance(update, made as usize * batch_size);
            let mut values = parts.named();
            values.extend([
                ("epoch", epoch as f64),
                ("learning_rate", rate),
                ("gradient_norm", norm),
            ]);
            log.log(update, &values)
        }
        Event::Validated {
            update,
            epoch,
            found,
            best,
        } => {
            let [(recall, r), (ndcg, n)] = found.named();
            let best = if best { ", the best so far" } else { "" };
            tracing::info!("epoch {epoch}: validation {recall} {r:.4}, {ndcg} {n:.4}{best}");
            let log = log.as_mut().context("a validation before the start")?;
            let named = found.named().map(|(name, value)| (validated(name), value));
            log.log(
                update,
                &named
                    .each_ref()
                    .map(|(name, value)| (name.as_str(), *value)),
            )
        }
    }
}

/// What a figure of validation is called in the log.
pub(crate) fn validated(name: &str) -> String {
    format!("valid/{name}")
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
