//! A prepared dataset, and how it is kept as the artefact of a run's data stage.
//!
//! A kept dataset is three files: `items.jsonl` (an [`Item`] a line, in id order), `interactions.jsonl` (a user a line:
//! raw id, item ids from 0, times) and `dataset.json` (everything else, with the digests of the other two).

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::acquire::{Acquired, Places, Progress, SourceFile, acquire};
use crate::digest::Hashed;
use crate::item::TextTemplate;
use crate::manifest::Manifest;
use crate::prepare::{Order, PrepareConfig, prepare};
use crate::replace::replace;
use crate::source::Source;
use crate::{Clock, DataError, Interactions, Item, ItemId, Result, Statistics, read};

/// Histories, items and where they came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Name of the manifest.
    pub name: String,
    /// Histories in the order that `prepare` asks for.
    pub interactions: Interactions,
    /// Time of each interaction, aligned with them (see [`Interactions::range`]); seconds in every preset.
    pub times: Vec<f64>,
    /// What the times count from.
    pub clock: Clock,
    /// The items by [`ItemId`].
    pub items: Vec<Item>,
    /// Raw ids of the users.
    pub users: Vec<String>,
    /// Filter, order and tie rule that made it.
    pub prepare: PrepareConfig,
    /// Form of the source.
    pub format: String,
    /// Files of the source.
    pub files: Vec<SourceFile>,
}

impl Dataset {
    /// Finds or fetches the manifest's files, reads, filters and orders them, and compares with `[expected]`.
    ///
    /// # Errors
    /// Every [`DataError`]: what was read, where, what was expected, what to do. Nothing is kept but fetched files.
    pub fn from_manifest(
        manifest: &Manifest,
        config: &PrepareConfig,
        places: &Places,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        config.validate()?;
        let acquired = acquire(manifest, places, progress)?;
        Self::build(manifest, config, &acquired, progress)
    }

    /// As [`from_manifest`](Self::from_manifest), from files that are at hand. `[expected]` is compared when `config` filters as the
    /// manifest does; with other cores the figures must differ, and are not. `progress` hears how much of a table is read.
    ///
    /// # Errors
    /// As [`from_manifest`](Self::from_manifest).
    pub fn build(
        manifest: &Manifest,
        config: &PrepareConfig,
        acquired: &Acquired,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let by_item = match acquired.source() {
            Source::Benchmark {
                listed_by_item: false,
                ..
            } if config.order == Order::File => {
                return Err(DataError::Prepare(format!(
                    "dataset `{}` comes in the benchmark form here, whose files are in time order, and the order of the \
                     raw files is not known; use `order = \"time\"`",
                    manifest.name
                )));
            }
            Source::Benchmark { listed_by_item, .. } => *listed_by_item,
            _ => false,
        };
        let log = read::read(acquired.source(), |file| acquired.locate(file), progress)?;
        let prepared = prepare(&manifest.name, log, config, by_item)?;
        let dataset = Self {
            name: manifest.name.clone(),
            interactions: prepared.interactions,
            times: prepared.times,
            clock: prepared.clock,
            items: prepared.items,
            users: prepared.users,
            prepare: config.clone(),
            format: acquired.source().format().to_owned(),
            files: acquired.files().to_vec(),
        };
        let cores = |config: &PrepareConfig| (config.user_core, config.item_core);
        if let Some(expected) = manifest
            .expected
            .filter(|_| cores(config) == cores(&manifest.prepare))
        {
            dataset.statistics().check(&manifest.name, &expected)?;
        }
        Ok(dataset)
    }

    /// The dataset's figures.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics::of(self)
    }

    /// A text for each item, in id order.
    ///
    /// # Errors
    /// When an item has none.
    pub fn item_texts(&self, template: &TextTemplate) -> Result<Vec<String>> {
        template.fill_all(&self.items)
    }

    /// Keeps the dataset in `folder`, made if need be. Every file is written beside and renamed, `dataset.json` last:
    /// where it is, the other two are whole.
    ///
    /// # Errors
    /// When a file cannot be written; then there is no `dataset.json`.
    pub fn save(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(DataError::io(folder, "create"))?;
        let old = folder.join(HEAD);
        if old.exists() {
            std::fs::remove_file(&old).map_err(DataError::io(&old, "delete"))?;
        }
        let users = (0..self.interactions.n_users()).map(|user| KeptUser {
            user: self.users[user].as_str().into(),
            items: self.interactions.history(user).into(),
            times: self.times[self.interactions.range(user)].into(),
        });
        let head = Head {
            version: VERSION,
            name: self.name.clone(),
            format: self.format.clone(),
            files: self.files.clone(),
            prepare: self.prepare.clone(),
            clock: self.clock,
            statistics: self.statistics(),
            items_sha256: write(&folder.join(ITEMS), |out| lines(self.items.iter(), out))?,
            interactions_sha256: write(&folder.join(INTERACTIONS), |out| lines(users, out))?,
        };
        write(&old, |out| {
            serde_json::to_writer_pretty(&mut *out, &head)?;
            out.write_all(b"\n")
        })?;
        Ok(())
    }

    /// Loads what [`save`](Self::save) kept.
    ///
    /// # Errors
    /// When a file is absent, of another version, or not the one that `dataset.json` names.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(HEAD);
        let text = std::fs::read(&path).map_err(DataError::io(&path, "read"))?;
        let kept = |path: &Path, message: String| DataError::Kept {
            path: path.to_owned(),
            message,
        };
        let head: Head =
            serde_json::from_slice(&text).map_err(|error| kept(&path, error.to_string()))?;
        if head.version != VERSION {
            return Err(kept(
                &path,
                format!(
                    "version {}, this program keeps version {VERSION}",
                    head.version
                ),
            ));
        }
        let mut items: Vec<Item> = Vec::new();
        parse_lines(&folder.join(ITEMS), &head.items_sha256, |item| {
            items.push(item);
            Ok(())
        })?;
        let path = folder.join(INTERACTIONS);
        let (mut users, mut offsets) = (Vec::new(), vec![0]);
        let (mut ids, mut times) = (Vec::new(), Vec::new());
        parse_lines(&path, &head.interactions_sha256, |user: KeptUser| {
            if user.items.len() != user.times.len() {
                return Err("as many times as items are needed".to_owned());
            }
            users.push(user.user.into_owned());
            ids.extend_from_slice(&user.items);
            times.extend_from_slice(&user.times);
            offsets.push(ids.len());
            Ok(())
        })?;
        let interactions = Interactions::packed(offsets, ids, items.len())
            .ok_or_else(|| kept(&path, "an item id that is not in items.jsonl".to_owned()))?;
        Ok(Self {
            name: head.name,
            interactions,
            times,
            clock: head.clock,
            items,
            users,
            prepare: head.prepare,
            format: head.format,
            files: head.files,
        })
    }
}

const VERSION: u32 = 1;
const HEAD: &str = "dataset.json";
const ITEMS: &str = "items.jsonl";
const INTERACTIONS: &str = "interactions.jsonl";

/// `dataset.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: u32,
    name: String,
    format: String,
    files: Vec<SourceFile>,
    prepare: PrepareConfig,
    clock: Clock,
    statistics: Statistics,
    items_sha256: String,
    interactions_sha256: String,
}

/// A line of `interactions.jsonl`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptUser<'a> {
    user: Cow<'a, str>,
    items: Cow<'a, [ItemId]>,
    times: Cow<'a, [f64]>,
}

/// Writes a file through [`replace`]; its digest.
fn write(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<String> {
    replace(path, |file| {
        let mut out = BufWriter::new(Hashed::new(file));
        content(&mut out).map_err(DataError::io(path, "write"))?;
        let hashed = out.into_inner().map_err(|error| error.into_error());
        let (_, digest) = hashed.map_err(DataError::io(path, "write"))?.finish();
        Ok(digest)
    })
}

fn lines<T: Serialize>(
    values: impl Iterator<Item = T>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    for value in values {
        serde_json::to_writer(&mut *out, &value)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Hands every line of a kept file to `each`, and compares the file's digest when all are read.
fn parse_lines<T: for<'de> Deserialize<'de>>(
    path: &Path,
    digest: &str,
    mut each: impl FnMut(T) -> std::result::Result<(), String>,
) -> Result<()> {
    let kept = |message: String| DataError::Kept {
        path: path.to_owned(),
        message,
    };
    let file = File::open(path).map_err(DataError::io(path, "read"))?;
    let mut reader = BufReader::with_capacity(1 << 16, Hashed::new(file));
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        if read.map_err(DataError::io(path, "read"))? == 0 {
            break;
        }
        number += 1;
        let parsed = serde_json::from_slice(&line).map_err(|error| error.to_string());
        parsed
            .and_then(&mut each)
            .map_err(|message| kept(format!("line {number}: {message}")))?;
    }
    match reader.into_inner().finish().1 == digest {
        true => Ok(()),
        false => Err(kept(format!(
            "not the file that {HEAD} names (its sha256 differs)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256;
    use crate::split::tests::dataset;

    #[test]
    fn what_is_kept_is_what_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let mut data = dataset(&[vec![0, 1, 2], vec![2, 1, 0, 1]], 3);
        data.items[0].title = Some("Ünïcode \"quoted\"\nline".into());
        data.items[1].price = Some(0.1 + 0.2);
        data.times[3] = 881_250_949.123_456_7;
        data.files = vec![SourceFile {
            name: "a".into(),
            sha256: sha256(b""),
            pinned: true,
        }];
        let run = folder.path().join("run/data");
        data.save(&run).unwrap();
        assert_eq!(Dataset::load(&run).unwrap(), data);
        // Again over what is there, and byte for byte the same.
        let before = std::fs::read(run.join(INTERACTIONS)).unwrap();
        data.save(&run).unwrap();
        assert_eq!(std::fs::read(run.join(INTERACTIONS)).unwrap(), before);
        let mut names: Vec<_> = std::fs::read_dir(&run)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, [HEAD, INTERACTIONS, ITEMS]);
    }

    #[test]
    fn changed_cut_or_absent_files_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let data = dataset(&[vec![0, 1, 2]], 3);
        for name in [HEAD, INTERACTIONS, ITEMS] {
            data.save(folder.path()).unwrap();
            let path = folder.path().join(name);
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            let message = Dataset::load(folder.path()).unwrap_err().to_string();
            assert!(
                message.contains(name) && message.contains("run the data stage again"),
                "{message}"
            );
            std::fs::remove_file(&path).unwrap();
            assert!(matches!(
                Dataset::load(folder.path()),
                Err(DataError::Io { .. })
            ));
        }
    }
}
