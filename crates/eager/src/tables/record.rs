//! What tables need of a run, apart from its folder: `<results>/runs/<dataset>/<run>-<seed>.json`, and every user's ranks in
//! `….ranks.csv.gz`, in the order of the dataset's users and without their names.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use eager_data::digest::sha256;
use eager_infer::metrics::{Metrics, Rank};
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::report::Report;
use crate::run::{Stage, Versions, read_json, records, write_atomic, write_json};

/// A line a user, in a run's stage `eval`.
const RANKS: &str = "ranks.csv";
/// Its columns that are no ranks.
const IDS: [&str; 2] = ["user", "target"];

/// A run as tables know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Name of the dataset.
    pub dataset: String,
    /// Name of the run without its seed.
    pub run: String,
    /// Its seed.
    pub seed: u64,
    /// The command that makes it, but for places.
    pub command: String,
    /// SHA-256 over the digests of all files of the run's stages: a name for exactly these results.
    pub digest: String,
    /// Encoder of the semantic vectors.
    pub text_encoder: String,
    /// Users evaluated.
    pub users: usize,
    /// SHA-256 over the ids of the users and of their targets, in order: runs of equal ones can be compared user by user.
    pub targets: String,
    /// Figures of each list.
    pub lists: BTreeMap<String, Metrics>,
    /// What trained its model, in this run or in one that it is taken from; of older records, what ranked.
    pub versions: Versions,
    /// Device that its model was trained on; of older records, that it ranked on.
    pub device: String,
    /// Time of each stage, seconds; of one that was taken from another run the time it took there.
    pub seconds: BTreeMap<String, f64>,
}

impl Record {
    /// Where a record is kept.
    #[must_use]
    pub fn path(results: &Path, dataset: &str, run: &str, seed: u64) -> PathBuf {
        let name = format!("{run}-{seed}.json");
        results.join("runs").join(dataset).join(name)
    }

    fn own_path(&self, results: &Path) -> PathBuf {
        Self::path(results, &self.dataset, &self.run, self.seed)
    }

    /// A record that is there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find(results: &Path, dataset: &str, run: &str, seed: u64) -> Result<Option<Self>> {
        read_json(&Self::path(results, dataset, run, seed))
    }

    /// The record of a finished run.
    ///
    /// # Errors
    /// When the run is not evaluated or has no model, or a file cannot be read.
    pub fn of_run(folder: &Path, run: &str, command: &str, seed: u64) -> Result<Self> {
        let eval = folder.join(Stage::Eval.name());
        let report: Option<Report> = read_json(&eval.join("metrics.json"))?;
        let report = report.with_context(|| format!("{}: is not evaluated", folder.display()))?;
        let (mut files, mut seconds, mut model) = (String::new(), BTreeMap::new(), None);
        for record in records(folder)? {
            let stage = record.stage;
            for (file, digest) in &record.outputs {
                files.push_str(&format!("{stage}/{file} {digest}\n"));
            }
            seconds.insert(stage.name().to_owned(), record.wall_seconds);
            if stage == Stage::Model {
                model = Some(record);
            }
        }
        let model = model.with_context(|| {
            format!(
                "{}: has no stage `model` that its figures are of; give the run's command again",
                folder.display()
            )
        })?;
        let mut lists = report.streams;
        lists.extend(report.baselines);
        lists.insert("merged".to_owned(), report.metrics);
        Ok(Self {
            dataset: report.dataset,
            run: run.to_owned(),
            seed,
            command: command.to_owned(),
            digest: sha256(files.as_bytes()),
            text_encoder: report.text_encoder,
            users: report.users,
            targets: targets(&eval.join(RANKS))?,
            lists,
            versions: model.versions,
            device: model.device,
            seconds,
        })
    }

    /// Keeps the record, with the ranks of the run's folder.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn save(&self, results: &Path, folder: &Path) -> Result<()> {
        let source = folder.join(Stage::Eval.name()).join(RANKS);
        let named = || source.display().to_string();
        let mut reader = csv::Reader::from_path(&source).with_context(named)?;
        let header = reader.headers().with_context(named)?.clone();
        // Of the ids of users and targets the digest is enough here.
        let kept: Vec<usize> = (0..header.len())
            .filter(|&column| !IDS.contains(&&header[column]))
            .collect();
        let mut writer = csv::Writer::from_writer(vec![]);
        writer.write_record(kept.iter().map(|&column| &header[column]))?;
        for line in reader.records() {
            let line = line.with_context(named)?;
            writer.write_record(kept.iter().map(|&column| &line[column]))?;
        }
        let text = writer.into_inner().with_context(named)?;
        // No time and no name in the header: the same ranks give the same bytes.
        let mut gz = GzEncoder::new(vec![], flate2::Compression::best());
        gz.write_all(&text)
            .and_then(|()| gz.flush())
            .with_context(named)?;
        let path = self.own_path(results);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{}: cannot make the folder", folder.display()))?;
        }
        write_atomic(&ranks_path(&path), &gz.finish().with_context(named)?)?;
        write_json(&path, self)
    }

    /// Every user's rank in one of the lists.
    ///
    /// # Errors
    /// When the file is not there, has no such list, or not as many users as the record says.
    pub fn ranks(&self, results: &Path, list: &str) -> Result<Vec<Rank>> {
        let path = ranks_path(&self.own_path(results));
        let named = || path.display().to_string();
        let bytes = std::fs::read(&path).with_context(named)?;
        let mut text = String::new();
        GzDecoder::new(&*bytes)
            .read_to_string(&mut text)
            .with_context(named)?;
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers().with_context(named)?;
        let column = header.iter().position(|name| name == list);
        let column = column.with_context(|| format!("{}: no column {list:?}", named()))?;
        let rank = |line: Result<csv::StringRecord, csv::Error>| -> Result<Rank> {
            let line = line?;
            Ok(match &line[column] {
                "" => None,
                rank => Some(rank.parse()?),
            })
        };
        let ranks = reader.records().map(rank).collect::<Result<Vec<Rank>>>();
        let ranks = ranks.with_context(named)?;
        ensure!(
            ranks.len() == self.users,
            "{}: {} users, the record has {}",
            named(),
            ranks.len(),
            self.users
        );
        Ok(ranks)
    }
}

/// The digest of the users and their targets.
fn targets(ranks: &Path) -> Result<String> {
    let named = || ranks.display().to_string();
    let mut reader = csv::Reader::from_path(ranks).with_context(named)?;
    let header = reader.headers().with_context(named)?;
    let mut columns = vec![];
    for id in IDS {
        let column = header.iter().position(|name| name == id);
        columns.push(column.with_context(|| format!("{}: no column {id:?}", named()))?);
    }
    let mut writer = csv::Writer::from_writer(vec![]);
    for line in reader.records() {
        let line = line.with_context(named)?;
        writer.write_record(columns.iter().map(|&column| &line[column]))?;
    }
    Ok(sha256(&writer.into_inner().with_context(named)?))
}

fn ranks_path(record: &Path) -> PathBuf {
    record.with_extension("ranks.csv.gz")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::StageRecord;

    /// A model that was taken from another run is still that run's.
    #[test]
    fn what_made_a_run_is_what_trained_its_model() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let stage = |stage: Stage, device: &str, reads: &[&str], output: &str| {
            let parts = reads.iter().map(|&file| (file.to_owned(), "d".to_owned()));
            let record = StageRecord {
                stage,
                inputs: "i".to_owned(),
                input_parts: parts.collect(),
                config: serde_json::Value::Null,
                seed: 1,
                versions: Versions {
                    processor: Some(format!("of {stage}")),
                    ..Versions::of_this_program()
                },
                device: device.to_owned(),
                outputs: BTreeMap::from([(output.to_owned(), "d".to_owned())]),
                attempts: 1,
                wall_seconds: 1.0,
                peak_memory_bytes: None,
            };
            let place = folder.join(stage.name());
            std::fs::create_dir_all(&place).unwrap();
            write_json(&place.join("stage.json"), &record).unwrap();
        };
        let model = "model.safetensors";
        stage(Stage::Eval, "cpu", &["model/model.safetensors"], RANKS);
        let eval = folder.join(Stage::Eval.name());
        let report = serde_json::json!({
            "dataset": "demo", "users": 1, "text_encoder": "none", "protocol": {},
            "recall@10": 1.0, "ndcg@10": 1.0, "intervals": null, "paper": null,
        });
        write_json(&eval.join("metrics.json"), &report).unwrap();
        std::fs::write(eval.join(RANKS), "user,target,merged\nu,i,1\n").unwrap();
        let of_run = || Record::of_run(folder, "r", "eager …", 1);
        let message = of_run().unwrap_err().to_string();
        assert!(message.contains("no stage `model`"), "{message}");
        stage(Stage::Model, "cuda", &[], model);
        let record = of_run().unwrap();
        assert_eq!(record.device, "cuda");
        assert_eq!(record.versions.processor.as_deref(), Some("of model"));
        assert_eq!(record.seconds.len(), 2);
    }
}
