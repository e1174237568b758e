//! Safetensors files: read whole, written beside and renamed.

use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors};

use crate::{CodesError, Result};

/// Writes `bytes` to a temporary name beside `path`, then renames it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let io = |source| CodesError::Io {
        path: path.to_owned(),
        action: "write",
        source,
    };
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    std::fs::write(&beside, bytes).map_err(io)?;
    std::fs::rename(&beside, path).map_err(io)
}

/// What `parse` makes of a file's bytes; its faults name the file.
pub(crate) fn read<T>(path: &Path, parse: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|source| CodesError::Io {
        path: path.to_owned(),
        action: "read",
        source,
    })?;
    parse(&bytes).map_err(|fault| CodesError::File {
        path: path.to_owned(),
        fault: Box::new(fault),
    })
}

/// Shape and numbers of a `u32` tensor of the given rank.
pub(crate) fn numbers(
    file: &SafeTensors<'_>,
    name: &str,
    rank: usize,
) -> Result<(Vec<usize>, Vec<u32>)> {
    let tensor = file.tensor(name)?;
    if tensor.dtype() != Dtype::U32 || tensor.shape().len() != rank {
        return Err(CodesError::Shape(format!(
            "`{name}` is {:?} of shape {:?}, expected U32 of rank {rank}",
            tensor.dtype(),
            tensor.shape()
        )));
    }
    let numbers = tensor
        .data()
        .chunks_exact(4)
        .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    Ok((tensor.shape().to_vec(), numbers))
}
