//! Weights files: safetensors (or PyTorch's `pytorch_model.bin` where that is all there is), whatever
//! their stored float type, as f32 tensors that are known to be finite.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use crate::error::{Result, TextError};

/// The weights file of a module's folder: `model.safetensors`, else `pytorch_model.bin`.
///
/// # Errors
/// When there is neither.
pub(crate) fn locate(dir: &Path) -> Result<PathBuf> {
    let candidates = ["model.safetensors", "pytorch_model.bin"].map(|name| dir.join(name));
    let found = candidates.iter().find(|path| path.exists());
    found.cloned().ok_or_else(|| TextError::Missing {
        path: dir.join("model.safetensors"),
        why: "the weights are read from it, or from pytorch_model.bin beside it (checkpoints in \
              several shards are not read: merge them with `save_pretrained(max_shard_size=…)`)"
            .to_owned(),
    })
}

/// All float tensors of `path` in f32 on `device`, by name.
///
/// # Errors
/// When the file is damaged or truncated, or a tensor holds NaN or infinite values.
pub(crate) fn load(path: &Path, device: &Device) -> Result<VarBuilder<'static>> {
    let stored: Vec<(String, Tensor)> = if path.extension().is_some_and(|e| e == "bin") {
        candle_core::pickle::read_all(path).map_err(TextError::weights(path))?
    } else {
        let bytes = std::fs::read(path).map_err(TextError::io("read", path))?;
        let mut tensors: Vec<_> = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .map_err(TextError::weights(path))?
            .into_iter()
            .collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0)); // the first bad tensor by name is reported
        tensors
    };
    let mut tensors = HashMap::with_capacity(stored.len());
    for (name, tensor) in stored {
        if !tensor.dtype().is_float() {
            continue; // BERT's stored position ids
        }
        let tensor = tensor.to_dtype(DType::F32)?;
        let finite = tensor
            .flatten_all()?
            .to_vec1::<f32>()?
            .iter()
            .all(|x| x.is_finite());
        if !finite {
            return Err(TextError::NotFiniteWeight {
                path: path.to_path_buf(),
                tensor: name,
            });
        }
        tensors.insert(name, tensor.to_device(device)?);
    }
    Ok(VarBuilder::from_tensors(tensors, DType::F32, device))
}
