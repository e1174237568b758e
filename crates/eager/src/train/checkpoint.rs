//! A training run's state in one safetensors file: weights (`w.` before their names), the optimiser's moments (`o.`)
//! and, as JSON in the file's metadata, a cursor that says where the loop stood.
//!
//! The file is written under a temporary name and renamed, so that a kill leaves the last checkpoint or the new one,
//! never half of one. Equal states make equal bytes.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where the cursor stands in the file's metadata.
const CURSOR: &str = "cursor";
const WEIGHTS: &str = "w.";
const OPTIMISER: &str = "o.";

/// What is needed to go on as if nothing had happened. `T` is the loop's cursor: updates made, place in the data,
/// seed, best figure so far, …
#[derive(Debug)]
pub struct Checkpoint<T> {
    /// The model's weights and running statistics, e.g. `Parameters::tensors`.
    pub weights: HashMap<String, Tensor>,
    /// The optimiser's state, e.g. `AdamW::state`; may be empty.
    pub optimiser: HashMap<String, Tensor>,
    /// Where the loop stood.
    pub cursor: T,
}

/// What can be wrong with a checkpoint file.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be written.
    #[error(
        "{path}: cannot write the checkpoint: {source}; is the disk full, or the folder not yours?"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be read.
    #[error("{path}: cannot read the checkpoint: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no checkpoint.
    #[error(
        "{path}: not a checkpoint of this training loop: {reason}; delete it to train from the start"
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl<T: Serialize + DeserializeOwned> Checkpoint<T> {
    /// Writes the checkpoint to `path`, whose folders are made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let fault = |source| CheckpointError::Write {
            path: path.to_owned(),
            source,
        };
        let cursor = serde_json::to_string(&self.cursor).map_err(|e| fault(e.into()))?;
        let metadata = HashMap::from([(CURSOR.to_owned(), cursor)]);
        let named = |prefix: &'static str, tensors: &HashMap<String, Tensor>| {
            tensors
                .iter()
                .map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone()))
                .collect::<Vec<_>>()
        };
        let mut tensors: BTreeMap<String, Tensor> =
            named(WEIGHTS, &self.weights).into_iter().collect();
        tensors.extend(named(OPTIMISER, &self.optimiser));
        write(path, &tensors, Some(metadata)).map_err(fault)
    }

    /// Reads the checkpoint at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or is no checkpoint with such a cursor.
    pub fn load(path: &Path, device: &Device) -> Result<Self, CheckpointError> {
        let data = std::fs::read(path).map_err(|source| CheckpointError::Read {
            path: path.to_owned(),
            source,
        })?;
        let fault = |reason: String| CheckpointError::Content {
            path: path.to_owned(),
            reason,
        };
        let (_, header) = SafeTensors::read_metadata(&data).map_err(|e| fault(e.to_string()))?;
        let cursor = header
            .metadata()
            .as_ref()
            .and_then(|m| m.get(CURSOR))
            .ok_or_else(|| fault("its metadata have no `cursor`".into()))?;
        let cursor = serde_json::from_str(cursor).map_err(|e| fault(format!("cursor: {e}")))?;
        let (mut weights, mut optimiser) = (HashMap::new(), HashMap::new());
        let tensors = candle_core::safetensors::load_buffer(&data, device)
            .map_err(|e| fault(e.to_string()))?;
        for (name, tensor) in tensors {
            if let Some(name) = name.strip_prefix(WEIGHTS) {
                weights.insert(name.to_owned(), tensor);
            } else if let Some(name) = name.strip_prefix(OPTIMISER) {
                optimiser.insert(name.to_owned(), tensor);
            } else {
                return Err(fault(format!("it holds a tensor {name:?}")));
            }
        }
        Ok(Self {
            weights,
            optimiser,
            cursor,
        })
    }

    /// Reads the checkpoint at `path` if there is one.
    ///
    /// # Errors
    /// As [`Checkpoint::load`], but for a file that does not exist.
    pub fn load_if_present(path: &Path, device: &Device) -> Result<Option<Self>, CheckpointError> {
        match Self::load(path, device) {
            Err(CheckpointError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            other => other.map(Some),
        }
    }
}

/// Writes tensors to a safetensors file at `path` through a temporary name; its folders are made. `metadata` of more
/// than one entry would make the bytes depend on a hash map's order.
///
/// # Errors
/// When the file cannot be written.
pub fn write(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: Option<HashMap<String, String>>,
) -> std::io::Result<()> {
    let bytes = safetensors::serialize(tensors.iter(), metadata).map_err(std::io::Error::other)?;
    write_bytes(path, &bytes)
}

/// Writes `bytes` to `path` by way of `path` + `.partial`, which is renamed; its folders are made.
fn write_bytes(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let mut file = std::fs::File::create(&partial)?;
    file.write_all(bytes)?;
    // A rename may reach the disk before the content does.
    file.sync_all()?;
    drop(file);
    std::fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Cursor {
        update: u64,
        best: f64,
    }

    fn tensors(names: &[&str]) -> HashMap<String, Tensor> {
        names
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let t = Tensor::full(i as f32 + 0.1, (2, 3), &Device::Cpu).unwrap();
                ((*name).to_owned(), t)
            })
            .collect()
    }

    fn example() -> Checkpoint<Cursor> {
        Checkpoint {
            weights: tensors(&["b", "a", "o.c"]),
            optimiser: tensors(&["m.a", "v.a", "m.b"]),
            cursor: Cursor {
                update: 7,
                best: 0.1 + 0.2,
            },
        }
    }

    #[test]
    fn comes_back_as_it_was_in_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/last.safetensors");
        assert!(
            Checkpoint::<Cursor>::load_if_present(&path, &Device::Cpu)
                .unwrap()
                .is_none()
        );
        example().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let back = Checkpoint::<Cursor>::load(&path, &Device::Cpu).unwrap();
        assert_eq!(back.cursor, example().cursor);
        for (got, want) in [
            (&back.weights, example().weights),
            (&back.optimiser, example().optimiser),
        ] {
            assert_eq!(got.len(), want.len());
            for (name, want) in want {
                let flat = |t: &Tensor| t.to_vec2::<f32>().unwrap();
                assert_eq!(flat(&got[&name]), flat(&want), "{name}");
            }
        }
        back.save(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary file stays");
    }

    #[test]
    fn damage_is_told_with_the_path_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let message = || {
            let error = Checkpoint::<Cursor>::load(&path, &Device::Cpu).unwrap_err();
            error.to_string()
        };
        assert!(message().contains("last.safetensors: cannot read"));
        example().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        assert!(message().contains("delete it"), "{}", message());
        std::fs::write(&path, "no such thing").unwrap();
        assert!(message().contains("not a checkpoint"), "{}", message());
        write(&path, &BTreeMap::new(), None).unwrap();
        assert!(message().contains("no `cursor`"), "{}", message());
    }
}
