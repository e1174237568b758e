//! Stage `data`: the dataset's files found or fetched, filtered, ordered, and kept as `eager_data::Dataset` keeps them.

use anyhow::Result;
use eager_data::{Dataset, Expected, PrepareConfig, Source, Split, acquire};
use indicatif::HumanCount;
use serde::Serialize;

use super::{Context, FileBars};
use crate::logs::say;
use crate::run::{Run, Stage, StageRecord};

/// All that the prepared data follow from, besides the files.
#[derive(Serialize)]
struct Settings<'a> {
    dataset: &'a str,
    source: &'a Source,
    prepare: &'a PrepareConfig,
    expected: Option<&'a Expected>,
}

/// Prepares the dataset, unless that is done, and prints its figures beside those that the manifest expects.
///
/// # Errors
/// When files cannot be had or are not what the manifest says, or the artefacts cannot be written or read back.
pub fn run(run: &Run, ctx: &Context) -> Result<(StageRecord, Dataset)> {
    let manifest = &ctx.manifest;
    let mut downloads = FileBars::new("fetching");
    let acquired = acquire(manifest, &ctx.places, &mut |p| {
        downloads.show(p.what, p.done, p.total);
    })?;
    drop(downloads);
    let prepare = &ctx.config.prepare;
    let cores = |config: &PrepareConfig| (config.user_core, config.item_core);
    // The figures hold for the manifest's own filter alone.
    let same_cores = cores(prepare) == cores(&manifest.prepare);
    let settings = Settings {
        dataset: &manifest.name,
        source: acquired.source(),
        prepare,
        expected: manifest.expected.as_ref().filter(|_| same_cores),
    };
    let files: Vec<(&str, String)> = acquired
        .files()
        .iter()
        .map(|file| (file.name.as_str(), file.sha256.clone()))
        .collect();
    // The seed has no part in it: a shuffling tie rule has its own.
    let (record, _) = run.stage(Stage::Data, &settings, 0, &[], &files, |folder| {
        let mut bars = FileBars::new("reading");
        let dataset = Dataset::build(manifest, prepare, &acquired, &mut |p| {
            bars.show(p.what, p.done, p.total);
        })?;
        Ok(dataset.save(folder)?)
    })?;
    let dataset = Dataset::load(&run.folder(Stage::Data))?;
    say(&dataset.statistics().table(settings.expected));
    let split = Split::new(&dataset)?;
    if let Some([valid, test]) = split.cut_times() {
        let trained: u64 = split.train_counts().iter().copied().map(u64::from).sum();
        tracing::info!(
            "global time split: {} interactions before {valid} are trained on, {} users are validated until {test}, {} are \
             tested after it",
            HumanCount(trained),
            HumanCount(split.valid_users().len() as u64),
            HumanCount(split.test_users().len() as u64)
        );
    }
    Ok((record, dataset))
}
