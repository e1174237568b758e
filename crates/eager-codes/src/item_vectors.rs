//! The vectors of a catalogue's items as a file, `vectors.safetensors`: what behaviour and text models hand to codes.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::{CodesError, Result, Vectors, files};

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

    /// An item's vector, `[dim]`.
    ///
    /// # Panics
    /// When there is no such item.
    #[must_use]
    pub fn row(&self, item: u32) -> &[f32] {
        &self.data[item as usize * self.dim..][..self.dim]
    }

    /// The same, checked: at least one, all finite.
    ///
    /// # Errors
    /// When they are not.
    pub fn checked(&self) -> Result<Vectors<'_>> {
        Vectors::new(&self.data, self.dim)
    }

    /// Writes tensor `vectors` `[items, dim]`, f32, with at most one entry of metadata: several would be written in any
    /// order, and the same vectors must give the same file. To a temporary name beside, then renamed.
    ///
    /// # Errors
    /// When the vectors are not finite, or the file cannot be written.
    pub fn save(&self, path: &Path, origin: Option<(&str, String)>) -> Result<()> {
        self.checked()?;
        let bytes: Vec<u8> = self.data.iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![self.items(), self.dim], &bytes)?;
        let metadata = origin.map(|(key, value)| HashMap::from([(key.to_owned(), value)]));
        let bytes = safetensors::serialize([(TENSOR, view)], metadata)?;
        files::save(path, &bytes)
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// When the file cannot be read, is not of that form, or holds a vector that is not finite.
    pub fn load(path: &Path) -> Result<Self> {
        files::read(path, Self::from_bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes)?;
        let tensor = file.tensor(TENSOR)?;
        if tensor.dtype() != Dtype::F32 || tensor.shape().len() != 2 {
            return Err(CodesError::Shape(format!(
                "`{TENSOR}` is {:?} {:?}, expected F32 [items, dim]",
                tensor.dtype(),
                tensor.shape()
            )));
        }
        let values = tensor.data().as_chunks::<4>().0;
        let vectors = Self {
            dim: tensor.shape()[1],
            data: values.iter().map(|&x| f32::from_le_bytes(x)).collect(),
        };
        vectors.checked()?;
        Ok(vectors)
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
        assert_eq!((back.items(), back.row(1)), (3, &[0.0, 3.0][..]));
        std::fs::write(&a, "x").unwrap();
        let message = ItemVectors::load(&a).unwrap_err().to_string();
        assert!(
            message.contains(&a.display().to_string()),
            "{message} names the file"
        );
        let broken = ItemVectors {
            dim: 1,
            data: vec![f32::NAN],
        };
        assert!(broken.save(&a, None).is_err());
    }
}
