//! Vectors kept on disk: encoding a catalogue takes minutes, reading its vectors back takes none.
//!
//! A file is named by the digest of (encoder digest, texts in their order), so a changed model, catalogue or text
//! template has another file and nothing ever goes stale. Its values carry their own digest: a damaged file is noticed
//! and replaced.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};

use crate::error::{Result, TextError};
use crate::{Places, TextEncoder, digest};

/// Changes when the vectors of the same encoder and texts would change.
const FORMAT: &str = "eager-text vectors 1";
/// Name of the tensor in the file.
const TENSOR: &str = "vectors";

/// Vectors of `texts` ([`TextEncoder::encode`]: [texts.len(), dim], f32, on the CPU) from the cache, or encoded and kept
/// there as `<cache>/text/<digest of (encoder digest, texts)>.safetensors`.
///
/// `progress` is called on this thread with the number of texts done so far; once where all come from the cache. A file
/// that cannot be written costs a warning, not the vectors; without a cache folder this is `encode` alone.
///
/// # Errors
/// Those of [`TextEncoder::encode`].
pub fn encode_cached(
    encoder: &dyn TextEncoder,
    texts: &[&str],
    places: &Places,
    progress: &mut dyn FnMut(usize),
) -> Result<Tensor> {
    let Some(path) = file(encoder, texts, places) else {
        return encoder.encode(texts, progress);
    };
    if path.is_file() {
        match read(&path, texts.len(), encoder.dim()) {
            Ok(vectors) => {
                progress(texts.len());
                return Ok(vectors);
            }
            Err(error) => tracing::warn!("encoding anew: {error}"),
        }
    }
    let vectors = encoder.encode(texts, progress)?;
    if let Err(error) = write(&path, &vectors) {
        tracing::warn!("the vectors are not kept: {error}");
    }
    Ok(vectors)
}

/// The file of these vectors.
fn file(encoder: &dyn TextEncoder, texts: &[&str], places: &Places) -> Option<PathBuf> {
    let mut hasher = Sha256::new();
    for part in [FORMAT, encoder.digest()].iter().chain(texts) {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let name = format!("{}.safetensors", digest::hex(hasher));
    Some(places.text()?.join(name))
}

fn read(path: &Path, texts: usize, dim: usize) -> Result<Tensor> {
    let bytes = std::fs::read(path).map_err(TextError::io("read", path))?;
    let fault = TextError::weights::<String>;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(TextError::weights(path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(TextError::weights(path))?;
    let tensor = file.tensor(TENSOR).map_err(TextError::weights(path))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != [texts, dim] {
        let found = (tensor.dtype(), tensor.shape());
        return Err(fault(path)(format!(
            "{found:?}, expected F32 [{texts}, {dim}]"
        )));
    }
    let kept = header.metadata().as_ref().and_then(|m| m.get("sha256"));
    if kept != Some(&of_bytes(tensor.data())) {
        return Err(fault(path)(
            "the values are not those that were written".to_owned(),
        ));
    }
    let values = tensor.data().as_chunks::<4>().0;
    let values = values
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect();
    Ok(Tensor::from_vec(values, (texts, dim), &Device::Cpu)?)
}

/// Writes beside `path` and renames.
fn write(path: &Path, vectors: &Tensor) -> Result<()> {
    let values = vectors.flatten_all()?.to_vec1::<f32>()?;
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    // One entry: a map of several would be written in any order, and the same vectors give the same file.
    let metadata = HashMap::from([("sha256".to_owned(), of_bytes(&bytes))]);
    let view = TensorView::new(Dtype::F32, vectors.dims().to_vec(), &bytes)
        .map_err(TextError::weights(path))?;
    let content = safetensors::serialize([(TENSOR, view)], Some(metadata))
        .map_err(TextError::weights(path))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(TextError::io("create the folder", folder))?;
    let mut builder = tempfile::Builder::new();
    // As any new file, not this user's alone: a cache may be shared.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder
        .tempfile_in(folder)
        .map_err(TextError::io("write into", folder))?;
    let mut file = temporary.as_file();
    // Before the rename: after a crash the name must not be that of half a file.
    file.write_all(&content)
        .and_then(|()| file.sync_all())
        .map_err(TextError::io("write", path))?;
    temporary
        .persist(path)
        .map_err(|error| TextError::io("write", path)(error.error))?;
    Ok(())
}

fn of_bytes(bytes: &[u8]) -> String {
    digest::hex(Sha256::new_with_prefix(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// The text's length and its first byte, and how often it was asked.
    struct Lengths {
        digest: &'static str,
        calls: AtomicUsize,
    }

    impl TextEncoder for Lengths {
        fn name(&self) -> &str {
            "lengths"
        }
        fn dim(&self) -> usize {
            2
        }
        fn digest(&self) -> &str {
            self.digest
        }
        fn encode(&self, texts: &[&str], progress: &mut dyn FnMut(usize)) -> Result<Tensor> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let row = |t: &&str| [t.len() as f32, f32::from(t.as_bytes()[0])];
            let rows: Vec<f32> = texts.iter().flat_map(row).collect();
            progress(texts.len());
            Ok(Tensor::from_vec(rows, (texts.len(), 2), &Device::Cpu)?)
        }
    }

    #[test]
    fn vectors_are_kept_by_encoder_and_texts_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places {
            cache: Some(folder.path().join("made")),
        };
        let encoder = Lengths {
            digest: "a",
            calls: AtomicUsize::new(0),
        };
        let texts = ["x", "yy", "zzz"];
        let expected = [[1.0, 120.0], [2.0, 121.0], [3.0, 122.0]];
        let mut calls = 0;
        let mut ask = |encoder: &Lengths, texts: &[&str], misses: usize| {
            let mut done = 0;
            let vectors = encode_cached(encoder, texts, &places, &mut |n| done = n).unwrap();
            assert_eq!(done, texts.len());
            calls += misses;
            assert_eq!(encoder.calls.load(Ordering::Relaxed), calls);
            vectors.to_vec2::<f32>().unwrap()
        };
        assert_eq!(ask(&encoder, &texts, 1), expected);
        assert_eq!(ask(&encoder, &texts, 0), expected, "from the file");
        // The cut between texts counts, and so does their order.
        assert_ne!(ask(&encoder, &["xy", "y", "zzz"], 1), expected);
        assert_ne!(ask(&encoder, &["yy", "x", "zzz"], 1), expected);

        let path = file(&encoder, &texts, &places).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let last = whole.len() - 1;
        let mut flipped = whole.clone();
        flipped[last] ^= 1;
        for damaged in [&whole[..last], &flipped, b"", b"no safetensors at all"] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(ask(&encoder, &texts, 1), expected);
            assert_eq!(std::fs::read(&path).unwrap(), whole, "replaced");
        }
        let other = Lengths {
            digest: "b",
            calls: AtomicUsize::new(0),
        };
        assert_ne!(file(&other, &texts, &places), Some(path));
        let names: Vec<_> = std::fs::read_dir(places.text().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(names.len(), 3, "nothing half-written: {names:?}");
    }

    #[test]
    fn a_cache_that_cannot_be_written_does_not_cost_the_vectors() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        let encoder = Lengths {
            digest: "a",
            calls: AtomicUsize::new(0),
        };
        for cache in [Some(blocked), None] {
            let vectors = encode_cached(&encoder, &["x"], &Places { cache }, &mut |_| {}).unwrap();
            assert_eq!(vectors.dims(), [1, 2]);
        }
    }
}
