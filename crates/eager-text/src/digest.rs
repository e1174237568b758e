//! sha256 digests of files, and of a model folder as a whole.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Result, TextError};
use crate::layout::{Head, Layout};
use crate::weights;

/// sha256 of a file's bytes, lower-case hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn of_file(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path).map_err(TextError::io("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file
            .read(&mut buffer)
            .map_err(TextError::io("read", path))?
        {
            0 => return Ok(hex(hasher)),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Fails where `path`'s sha256 is not `expected`.
///
/// # Errors
/// [`TextError::Digest`], or that the file cannot be read.
pub(crate) fn check(path: &Path, expected: &str) -> Result<()> {
    same(path, &of_file(path)?, Some(expected))
}

fn same(path: &Path, found: &str, expected: Option<&str>) -> Result<()> {
    match expected.filter(|expected| *expected != found) {
        None => Ok(()),
        Some(expected) => Err(TextError::Digest {
            path: path.to_path_buf(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }),
    }
}

/// Digest of every file in `folder` that has a part in the vectors: configurations, tokenizer, weights.
/// It covers each file's path within the folder and its sha256, in the order of the paths.
///
/// # Errors
/// When one of them cannot be read; [`TextError::Digest`] where `weights_sha256` is given and the transformer's weights
/// have another.
pub(crate) fn of_folder(
    folder: &Path,
    layout: &Layout,
    weights_sha256: Option<&str>,
) -> Result<String> {
    let mut files: Vec<PathBuf> = vec![folder.join("modules.json")];
    let names = [
        "config.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    files.extend(names.map(|name| layout.transformer.join(name)));
    let transformer = weights::locate(&layout.transformer)?;
    files.push(transformer.clone());
    files.push(layout.pooling_config.clone());
    for module in &layout.head {
        if let Head::Dense { dir, .. } = module {
            files.extend([dir.join("config.json"), weights::locate(dir)?]);
        }
    }
    files.retain(|path| path.exists()); // two of the four names are optional
    files.sort();
    let mut hasher = Sha256::new();
    for path in files {
        let name = path.strip_prefix(folder).unwrap_or(&path);
        hasher.update(name.to_string_lossy().replace('\\', "/"));
        hasher.update([0]);
        let found = of_file(&path)?;
        if path == transformer {
            same(&path, &found, weights_sha256)?;
        }
        hasher.update(found);
    }
    Ok(hex(hasher))
}

/// The digest so far, lower-case hexadecimal.
pub(crate) fn hex(hasher: Sha256) -> String {
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
