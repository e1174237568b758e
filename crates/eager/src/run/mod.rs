//! A run is a folder with one folder a stage. This module decides what has to be done again: a stage whose inputs digest
//! is the recorded one is skipped, one that was interrupted finds its folder as it left it, any other starts from nothing.
//!
//! In a stage's folder, `stage.json` stands for "done" and `inputs.json` for "begun". Neither is ever there half-written,
//! and no folder of a stage is ever there without one of them.

mod files;
mod memory;
mod record;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

pub use files::{read_json, write_atomic, write_by, write_json};
pub use record::{Stage, StageRecord, Versions, processor};

use eager_data::digest::sha256;

/// Part of every inputs digest: raised when a change of the program makes the stages of older runs worthless.
const FORMAT: u32 = 1;
const RECORD: &str = "stage.json";
const INPUTS: &str = "inputs.json";
/// Name of the input that is the stage itself.
const STAGE: &str = "stage";

/// A run's folder, held against other processes until this value goes.
#[derive(Debug)]
pub struct Run {
    root: PathBuf,
    device: String,
    /// Folder of another run, whose stages are taken where they are what this run would make.
    reuse: Option<PathBuf>,
    /// Holds the lock; the system releases it however the process ends.
    _lock: File,
}

/// `inputs.json`: a stage was begun with these inputs and is not done.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    inputs: String,
    input_parts: BTreeMap<String, String>,
    /// Attempts before this one, and their time.
    earlier_attempts: u32,
    earlier_seconds: f64,
    /// Start of this attempt, seconds since 1970.
    started: f64,
}

impl Run {
    /// Makes the folder if need be and locks it.
    ///
    /// # Errors
    /// When the folder cannot be made, or another process holds it.
    pub fn open(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root)
            .with_context(|| format!("{}: cannot create the run's folder", root.display()))?;
        let lock = lock(root)?;
        for stage in Stage::ALL {
            for leftover in [new_folder(root, stage), old_folder(root, stage)] {
                files::remove_folder(&leftover)?;
            }
        }
        Ok(Self {
            root: root.to_owned(),
            device: "cpu".to_owned(),
            reuse: None,
            _lock: lock,
        })
    }

    /// Takes stages from another run's folder where they were made from the same inputs: a stage is copied, without its
    /// checkpoints and logs, instead of being done again.
    #[must_use]
    pub fn with_reuse(mut self, other: Option<&Path>) -> Self {
        self.reuse = other.map(Path::to_owned);
        self
    }

    /// Names the device that the stages of this run are recorded with; `cpu` unless named.
    #[must_use]
    pub fn with_device(mut self, device: &str) -> Self {
        device.clone_into(&mut self.device);
        self
    }

    /// The run's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A stage's folder; it may not be there yet.
    #[must_use]
    pub fn folder(&self, stage: Stage) -> PathBuf {
        self.root.join(stage.name())
    }

    /// The record of a stage that is done, whatever its inputs were.
    ///
    /// # Errors
    /// When there is a record that cannot be read.
    pub fn record(&self, stage: Stage) -> Result<Option<StageRecord>> {
        read_json(&self.folder(stage).join(RECORD))
    }

    /// Does a stage, unless it is done: returns its record and whether it was skipped.
    ///
    /// The inputs digest is the SHA-256 of everything the outputs follow from: the stage and the format, `config` as
    /// JSON, `seed`, the outputs of `upstream`, and `extra` (name and digest of anything else that is read). It is *not*
    /// of the device, the program's version or the machine: those are recorded, and move figures in the last digits only.
    ///
    /// - Done with the same digest, and every output has its recorded digest: skipped.
    /// - Done with the same digest, but an output was lost or changed: outputs are deleted, checkpoints and logs stay,
    ///   and `body` runs, so that it can go on from its last checkpoint.
    /// - Begun with the same digest: `body` runs in the folder as it is.
    /// - Anything else: `body` runs in an empty folder. What was there is given up for it when `body` starts where a stage trains
    ///   ([`Stage::trains`]), which goes on where it was interrupted; otherwise when `body` has succeeded, so that a command that
    ///   fails costs nothing.
    ///
    /// Outputs are those of [`Stage::outputs`] that `body` leaves; it writes them with [`write_atomic`] or the like. Others are
    /// none: `checkpoints/`, `tensorboard/` and `metrics.jsonl` say how the outputs came about, a note is its writer's.
    ///
    /// `wall_seconds` adds all attempts of a training, one that was interrupted from its start to the last file it wrote: what
    /// was done after that had to be done again.
    ///
    /// # Errors
    /// When `body` fails (the folder then counts as interrupted), or a file cannot be read or written.
    pub fn stage<C: Serialize>(
        &self,
        stage: Stage,
        config: &C,
        seed: u64,
        upstream: &[&StageRecord],
        extra: &[(&str, String)],
        body: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<(StageRecord, bool)> {
        let folder = self.folder(stage);
        let config = record::canonical(config)?;
        let parts = input_parts(stage, &config, seed, upstream, extra);
        let inputs = digest(&parts);

        if let Some(record) = self.current(stage, &inputs, &parts)? {
            files::remove_file(&folder.join(INPUTS))?;
            tracing::info!("{stage}: up to date");
            return Ok((record, true));
        }
        if let Some(record) = self.reuse(stage, &inputs, &parts)? {
            tracing::info!("{stage}: taken from another run");
            return Ok((record, true));
        }
        let (begun, place) = self.begin(stage, inputs, parts)?;
        memory::reset_peak();
        let start = Instant::now();
        let done = body(&place).with_context(|| format!("stage `{stage}`"));
        if done.is_err() && place != folder {
            files::remove_folder(&place)?;
        }
        done?;

        let record = StageRecord {
            stage,
            inputs: begun.inputs,
            input_parts: begun.input_parts,
            config,
            seed,
            versions: Versions::of_this_program(),
            device: self.device.clone(),
            outputs: files::digests(&place, stage.outputs())?,
            attempts: begun.earlier_attempts + 1,
            wall_seconds: begun.earlier_seconds + start.elapsed().as_secs_f64(),
            peak_memory_bytes: memory::peak(),
        };
        write_json(&place.join(RECORD), &record)?;
        files::remove_file(&place.join(INPUTS))?;
        if place != folder {
            self.put(stage)?;
        }
        tracing::info!("{stage}: done in {:.1} s", record.wall_seconds);
        Ok((record, false))
    }

    /// The record, if the stage is done with these inputs and its outputs are all as they were. Else says why not, and
    /// takes the record of a stage with lost outputs away.
    fn current(
        &self,
        stage: Stage,
        inputs: &str,
        parts: &BTreeMap<String, String>,
    ) -> Result<Option<StageRecord>> {
        let folder = self.folder(stage);
        let Some(record) = self.record(stage)? else {
            return Ok(None);
        };
        if record.inputs != inputs {
            let changed = changes(&record.input_parts, parts);
            tracing::info!("{stage}: to be done again, changed: {changed}");
            return Ok(None);
        }
        let found = files::digests(&folder, record.outputs.keys())?;
        if found == record.outputs {
            return Ok(Some(record));
        }
        let changed = changes(&record.outputs, &found);
        tracing::warn!("{stage}: to be done again, its files are not those it wrote: {changed}");
        // From here on the stage counts as begun, in this order. `begin` takes what it finds for an attempt: here the last one.
        let earlier = (record.attempts.saturating_sub(1), record.wall_seconds);
        let begun = Begun::new(record.inputs, record.input_parts, earlier);
        write_json(&folder.join(INPUTS), &begun)?;
        files::remove_file(&folder.join(RECORD))?;
        for file in found.keys() {
            files::remove_file(&folder.join(file))?;
        }
        Ok(None)
    }

    /// Copies a stage of the run to be reused, if it is done with these inputs and its outputs are as they were. What a
    /// baseline has as its model, EAGER has as its behaviour model.
    fn reuse(
        &self,
        stage: Stage,
        inputs: &str,
        parts: &BTreeMap<String, String>,
    ) -> Result<Option<StageRecord>> {
        let Some(run) = &self.reuse else {
            return Ok(None);
        };
        let made_as = |source: Stage| -> Result<Option<(PathBuf, StageRecord)>> {
            let mut parts = parts.clone();
            parts.insert(STAGE.to_owned(), source.name().to_owned());
            let (folder, inputs) = (run.join(source.name()), digest(&parts));
            let record: Option<StageRecord> = read_json(&folder.join(RECORD))?;
            let record = record.filter(|record| record.inputs == inputs);
            Ok(record.map(|record| (folder, record)))
        };
        let mut found = made_as(stage)?;
        if found.is_none() && stage == Stage::Behaviour {
            found = made_as(Stage::Model)?; // a baseline's
        }
        let Some((other, record)) = found else {
            return Ok(None);
        };
        let record = StageRecord {
            stage,
            inputs: inputs.to_owned(),
            input_parts: parts.clone(),
            ..record
        };
        if files::digests(&other, record.outputs.keys())? != record.outputs {
            tracing::warn!("{}: not taken, its files were changed", other.display());
            return Ok(None);
        }
        let new = new_folder(&self.root, stage);
        files::remove_folder(&new)?;
        files::copy(&other, record.outputs.keys().map(String::as_str), &new)?;
        write_json(&new.join(RECORD), &record)?;
        self.put(stage)?;
        Ok(Some(record))
    }

    /// Makes sure that what stands in a stage's place is a stage's.
    fn check_place(&self, stage: Stage) -> Result<()> {
        let folder = self.folder(stage);
        let known = folder.join(INPUTS).exists() || folder.join(RECORD).exists();
        if folder.exists() && !known && !files::is_empty(&folder)? {
            bail!(
                "{}: was not made by a stage (no {RECORD}, no {INPUTS}); move it away, or choose another place with \
                 --out or --run",
                folder.display()
            );
        }
        Ok(())
    }

    /// Puts a stage's new folder in the place of the one there, unless that is not a stage's.
    fn put(&self, stage: Stage) -> Result<()> {
        self.check_place(stage)?;
        // Two renames, so that a folder is never there with some of its files gone.
        let (folder, new) = (self.folder(stage), new_folder(&self.root, stage));
        let old = old_folder(&self.root, stage);
        if folder.exists() {
            files::remove_folder(&old)?;
            files::rename(&folder, &old)?;
        }
        files::rename(&new, &folder)?;
        files::remove_folder(&old)
    }

    /// A folder with `inputs.json` for these inputs: the one there is, if it was begun with them, or a new one, which is in the
    /// stage's place already where the stage trains.
    fn begin(
        &self,
        stage: Stage,
        inputs: String,
        parts: BTreeMap<String, String>,
    ) -> Result<(Begun, PathBuf)> {
        let folder = self.folder(stage);
        let before: Option<Begun> = read_json(&folder.join(INPUTS))?;
        if let Some(before) = before.filter(|before| before.inputs == inputs) {
            files::remove_unfinished(&folder)?;
            let last = files::last_written(&folder, stage.outputs())?;
            let seconds = (last - before.started).max(0.0);
            let earlier = (
                before.earlier_attempts + 1,
                before.earlier_seconds + seconds,
            );
            let begun = Begun::new(inputs, parts, earlier);
            write_json(&folder.join(INPUTS), &begun)?;
            tracing::info!("{stage}: begun before, going on");
            return Ok((begun, folder));
        }
        let begun = Begun::new(inputs, parts, (0, 0.0));
        let new = new_folder(&self.root, stage);
        files::remove_folder(&new)?;
        std::fs::create_dir(&new).with_context(|| format!("{}: cannot create", new.display()))?;
        write_json(&new.join(INPUTS), &begun)?;
        self.check_place(stage)?;
        tracing::info!("{stage}: starting");
        if !stage.trains() {
            return Ok((begun, new));
        }
        self.put(stage)?;
        Ok((begun, folder))
    }
}

impl Begun {
    /// Now, after so many attempts that took so many seconds.
    fn new(
        inputs: String,
        input_parts: BTreeMap<String, String>,
        (earlier_attempts, earlier_seconds): (u32, f64),
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            inputs,
            input_parts,
            earlier_attempts,
            earlier_seconds,
            started: now.unwrap_or_default().as_secs_f64(),
        }
    }
}

/// The records of a run's stages that belong together, in their order. A stage whose inputs were made anew since, by a command
/// that ended before it, is none of them, and neither is what was made of it. Where the run is evaluated, neither is a stage that
/// its figures do not come from, which another command with the same `--run` has left.
///
/// # Errors
/// When a record cannot be read.
pub fn records(root: &Path) -> Result<Vec<StageRecord>> {
    let mut kept: Vec<StageRecord> = vec![];
    for stage in Stage::ALL {
        let record: Option<StageRecord> = read_json(&root.join(stage.name()).join(RECORD))?;
        kept.extend(record.filter(|record| record.made_of(&kept)));
    }
    if kept.last().is_some_and(|last| last.stage == Stage::Eval) {
        let mut needed = vec![Stage::Eval];
        for record in kept.iter().rev() {
            if needed.contains(&record.stage) {
                needed.extend(Stage::ALL.into_iter().filter(|&other| record.reads(other)));
            }
        }
        kept.retain(|record| needed.contains(&record.stage));
    }
    Ok(kept)
}

/// Makes sure that a stage's files are those that it wrote.
///
/// # Errors
/// Names those that are gone or changed.
pub fn check(root: &Path, record: &StageRecord) -> Result<()> {
    let folder = root.join(record.stage.name());
    let found = files::digests(&folder, record.outputs.keys())?;
    ensure!(
        found == record.outputs,
        "{}: not as stage `{}` wrote it: {}; give the run's command again",
        folder.display(),
        record.stage,
        changes(&record.outputs, &found)
    );
    Ok(())
}

/// Every input by name, so that a stage that is done again can say what changed.
fn input_parts(
    stage: Stage,
    config: &serde_json::Value,
    seed: u64,
    upstream: &[&StageRecord],
    extra: &[(&str, String)],
) -> BTreeMap<String, String> {
    let own = [
        (STAGE, stage.name().to_owned()),
        ("format", FORMAT.to_string()),
        ("config", sha256(config.to_string().as_bytes())),
        ("seed", seed.to_string()),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    let outputs = upstream.iter().flat_map(|record| {
        let outputs = record.outputs.iter();
        outputs.map(|(file, digest)| (format!("{}/{file}", record.stage), digest.clone()))
    });
    let extra = extra.iter().map(|(n, d)| (format!("extra {n}"), d.clone()));
    own.into_iter().chain(outputs).chain(extra).collect()
}

fn digest(parts: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (name, value) in parts {
        // Lengths, so that no two different maps have the same text.
        text.push_str(&format!("{} {name} {} {value}\n", name.len(), value.len()));
    }
    sha256(text.as_bytes())
}

/// The names whose values differ, for a reader.
fn changes(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> String {
    let differs = |name: &&String| before.get(*name) != now.get(*name);
    let mut names: Vec<&String> = before.keys().chain(now.keys()).filter(differs).collect();
    names.sort();
    names.dedup();
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    names.join(", ")
}

fn new_folder(root: &Path, stage: Stage) -> PathBuf {
    root.join(format!(".{stage}.new"))
}

fn old_folder(root: &Path, stage: Stage) -> PathBuf {
    root.join(format!(".{stage}.old"))
}

/// The open `.lock` file, with this process's id in it for whoever finds it locked.
fn lock(root: &Path) -> Result<File> {
    let path = root.join(".lock");
    let unreadable = || format!("{}: cannot open", path.display());
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).with_context(unreadable)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).with_context(unreadable)?;
            file.rewind().with_context(unreadable)?;
            write!(file, "{}", std::process::id()).with_context(unreadable)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let known = file.read_to_string(&mut holder).is_ok_and(|n| n > 0);
            let holder = if known { holder.as_str() } else { "unknown" };
            bail!(
                "{}: another process (id {holder}) is writing this run; wait for it, or give this one its own folder \
                 with --run",
                root.display()
            );
        }
        Err(TryLockError::Error(error)) => {
            // Some network file systems have no locks; that should not keep anyone from a run.
            tracing::warn!(
                "{}: cannot be locked ({error}); see to it yourself that no other process writes this run",
                root.display()
            );
            Ok(file)
        }
    }
}

#[cfg(test)]
mod tests;
