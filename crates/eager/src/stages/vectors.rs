//! `vectors.safetensors`: the vectors of a catalogue's items, what stages `behaviour` and `text` hand to `codes` and
//! `model`.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use candle_core::{Device, Tensor};
use eager_codes::Vectors;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::run::write_atomic;

/// One vector an item, row-major `[items, dim]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemVectors {
    /// Width of a vector.
    pub dim: usize,
    /// `[items · dim]`.
    pub data: Vec<f32>,
}

/// Name of the tensor in the file.
const TENSOR: &str = "vectors";

impl ItemVectors {
    /// Number of items.
    #[must_use]
    pub fn items(&self) -> usize {
        self.data.len() / self.dim.max(1)
    }

    /// The same, checked: at least one, all finite.
    ///
    /// # Errors
    /// When they are not.
    pub fn checked(&self) -> Result<Vectors<'_>> {
        Ok(Vectors::new(&self.data, self.dim)?)
    }

    /// The same as a tensor `[items, dim]`.
    ///
    /// # Errors
    /// When it cannot be made on `device`.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        let shape = (self.items(), self.dim);
        Ok(Tensor::from_slice(&self.data, shape, device)?)
    }

    /// Writes tensor `vectors` `[items, dim]`, f32, with at most one entry of metadata: several would be written in any
    /// order, and the same vectors must give the same file.
    ///
    /// # Errors
    /// When the vectors are not finite, or the file cannot be written.
    pub fn save(&self, path: &Path, origin: Option<(&str, String)>) -> Result<()> {
        self.checked()?;
        let bytes: Vec<u8> = self.data.iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![self.items(), self.dim], &bytes)?;
        let metadata = origin.map(|(key, value)| HashMap::from([(key.to_owned(), value)]));
        write_atomic(path, &safetensors::serialize([(TENSOR, view)], metadata)?)
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// When the file cannot be read or is not of that form.
    pub fn load(path: &Path) -> Result<Self> {
        let named = || path.display().to_string();
        let bytes = std::fs::read(path).with_context(named)?;
        let file = SafeTensors::deserialize(&bytes).with_context(named)?;
        let tensor = file.tensor(TENSOR).with_context(named)?;
        ensure!(
            tensor.dtype() == Dtype::F32 && tensor.shape().len() == 2,
            "{}: `{TENSOR}` is {:?} {:?}, expected F32 [items, dim]",
            path.display(),
            tensor.dtype(),
            tensor.shape()
        );
        let values = tensor.data().as_chunks::<4>().0;
        Ok(Self {
            dim: tensor.shape()[1],
            data: values.iter().map(|&x| f32::from_le_bytes(x)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_read_back_and_equal_ones_are_equal_files() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let vectors = ItemVectors {
            dim: 2,
            data: vec![1.0, -0.5, 0.0, 3.0, 1e-9, 2.0],
        };
        for path in [&a, &b] {
            vectors
                .save(path, Some(("encoder", "x".to_owned())))
                .unwrap();
        }
        assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
        let back = ItemVectors::load(&a).unwrap();
        assert_eq!(back, vectors);
        assert_eq!(back.items(), 3);
        std::fs::write(&a, "x").unwrap();
        assert!(ItemVectors::load(&a).is_err());
        let broken = ItemVectors {
            dim: 1,
            data: vec![f32::NAN],
        };
        assert!(broken.save(&a, None).is_err());
    }
}
