//! Safetensors files: read whole, written beside and renamed.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors};

use crate::{CodesError, Result};

/// Writes `bytes` to a temporary name beside `path`, then renames it: whatever happens, there are the old bytes or the new
/// ones. What was written of a file that could not be is taken away.
///
/// # Errors
/// When it cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let whole = || {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        // A rename may reach the disk before the content does.
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    whole().inspect_err(|_| {
        let _ = std::fs::remove_file(&beside); // the error at hand says more than another
    })
}

/// As [`write_whole`], with the path in the error.
pub(crate) fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, bytes).map_err(|source| CodesError::Io {
        path: path.to_owned(),
        action: "write",
        source,
    })
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
