//! `bundle.json`: what a bundle is, where it came from, and the digest of each of its files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use eager_data::TextTemplate;
use eager_infer::InferConfig;
use eager_model::PerStream;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{BundleError, Result};

/// Number of the form that is written. It grows with every change that an older program could not read, a new field too
/// (unknown fields are refused: a list made without them would be another list), so that it refuses the bundle by this
/// number. Every older form is read.
///
/// 1: the first. 2: weights of the predictions (`infer.weights`), `evaluation`.
pub(crate) const FORMAT: u32 = 2;

/// Name of the file.
pub(crate) const MANIFEST: &str = "bundle.json";

/// What a bundle is, without its contents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Number of the form.
    pub format: u32,
    /// A name for people, such as `amazon-beauty/paper`.
    pub name: String,
    /// Name of the dataset.
    pub dataset: String,
    /// Counts the changes of the catalogue since the training, from 1.
    pub revision: u32,
    /// Digest of the bundle that this one was made from by a change of the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Version of the program that trained the model.
    pub version: String,
    /// Seed of the run.
    pub seed: u64,
    /// Number of items.
    pub items: usize,
    /// Children that a node of each tree was to have at most; absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branching: Option<PerStream<usize>>,
    /// How an item became its semantic vector.
    pub text: TextSource,
    /// How lists are made unless a query says otherwise.
    pub infer: InferConfig,
    /// Figures on the test set by name (`recall@10`, …), of the run as it was trained; empty where it was not evaluated.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// How the figures were found; absent where there are none, and in bundles of form 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
    /// Every other file of the bundle. Filled in by [`Bundle::save`](crate::Bundle::save).
    #[serde(default)]
    pub files: BTreeMap<String, FileDigest>,
}

/// How the figures of a run were found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Users of the test set.
    pub users: usize,
    /// Bootstrap intervals of the figures by name, lower and upper end; empty where none were made.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub intervals: BTreeMap<String, [f64; 2]>,
    /// Share of bootstrap resamples that each interval holds.
    pub interval_level: f64,
    /// What else decides the figures: order of histories, tie rule, split, …
    pub protocol: serde_json::Map<String, serde_json::Value>,
}

/// How an item became its semantic vector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSource {
    /// The encoder's name; of a folder the last part of its path.
    pub encoder: String,
    /// Digest of its weights; empty where it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// How an item became text.
    pub template: TextTemplate,
}

/// What a file must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256, in hexadecimal.
    pub sha256: String,
}

/// Read first, so that a later form is named as such.
#[derive(Deserialize)]
struct Form {
    format: u32,
}

impl Manifest {
    /// Reads `bundle.json` of a folder alone; with its digest, which names this state of the bundle.
    ///
    /// # Errors
    /// When it is missing, of a newer form, or names a file outside of its folder.
    pub fn load(folder: &Path) -> Result<(Self, String)> {
        let path = folder.join(MANIFEST);
        Self::parse(&read(&path)?, &path)
    }

    /// The same of the file's bytes; `path` says in errors where they are from.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(bytes: &[u8], path: &Path) -> Result<(Self, String)> {
        let path = path.to_owned();
        let fault = |error: serde_json::Error| BundleError::File {
            path: path.clone(),
            fault: error.to_string(),
        };
        let Form { format } = serde_json::from_slice(bytes).map_err(fault)?;
        if !(1..=FORMAT).contains(&format) {
            return Err(BundleError::Form {
                path,
                found: format,
                newest: FORMAT,
            });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(fault)?;
        let plain = |name: &String| Path::new(name).file_name() == Some(OsStr::new(name));
        if let Some(name) = manifest.files.keys().find(|name| !plain(name)) {
            return Err(BundleError::File {
                path,
                fault: format!("names the file {name:?}, expected a name without a folder"),
            });
        }
        Ok((manifest, sha256(bytes)))
    }

    /// Compares every file of the folder that the manifest names with its length and digest.
    ///
    /// # Errors
    /// The first that is missing, cut short or altered, by name.
    pub fn verify(&self, folder: &Path) -> Result<()> {
        for (name, expected) in &self.files {
            let path = folder.join(name);
            let found = FileDigest::of(&path)?;
            let fault = if found.bytes != expected.bytes {
                format!(
                    "has {} bytes, the manifest says {}",
                    found.bytes, expected.bytes
                )
            } else if found.sha256 != expected.sha256 {
                format!(
                    "sha256 is {}, the manifest says {}",
                    found.sha256, expected.sha256
                )
            } else {
                continue;
            };
            return Err(BundleError::File { path, fault });
        }
        Ok(())
    }

    /// Compares a folder again whose manifest had `digest` and whose files were those of it.
    pub(crate) fn still_there(&self, folder: &Path, digest: &str) -> Result<()> {
        still(folder, MANIFEST, digest)?;
        let mut files = self.files.iter();
        files.try_for_each(|(name, file)| still(folder, name, &file.sha256))
    }
}

/// Whether a file has the digest that it had.
pub(crate) fn still(folder: &Path, name: &str, sha256: &str) -> Result<()> {
    let path = folder.join(name);
    match FileDigest::of(&path) {
        Ok(found) if found.sha256 == sha256 => Ok(()),
        _ => Err(BundleError::Changed { path }),
    }
}

impl FileDigest {
    /// Of the file as it is read: it is not held in memory.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(io(path, "read"))?;
        let mut hash = Sha256::new();
        let bytes = std::io::copy(&mut file, &mut hash).map_err(io(path, "read"))?;
        Ok(Self {
            bytes,
            sha256: hex(&hash.finalize()),
        })
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(io(path, "read"))
}

pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::Io {
        path,
        action,
        source,
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
