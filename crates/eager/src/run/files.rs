//! Files of a run: written whole or not at all, listed and hashed.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result};
use eager_data::digest::sha256_file;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use super::{INPUTS, RECORD};

/// Writes a file under a temporary name beside `path`, syncs it, and renames it: whoever opens `path` finds the old bytes
/// or the new ones.
///
/// # Errors
/// When the file cannot be written.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_by(path, ".tmp", |mut file| {
        let written = file.write_all(bytes);
        written.with_context(|| format!("{}: cannot write", path.display()))?;
        Ok(file)
    })
}

/// As [`write_atomic`], what `write` writes into the file, whose temporary name begins with `prefix`.
///
/// # Errors
/// When `write` fails, or the file cannot be made, synced or renamed; nothing of it is left then.
pub fn write_by(
    path: &Path,
    prefix: &str,
    write: impl FnOnce(NamedTempFile) -> Result<NamedTempFile>,
) -> Result<()> {
    let failed = || format!("{}: cannot write", path.display());
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    // As any new file: what the umask leaves, not this user's alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = builder.tempfile_in(folder.unwrap_or(Path::new(".")));
    let file = write(file.with_context(failed)?)?;
    file.as_file().sync_all().with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}

/// Writes a value as indented JSON, as [`write_atomic`] does.
///
/// # Errors
/// When it cannot be written as JSON, or the file cannot be written.
pub fn write_json<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .with_context(|| format!("{}: cannot be written as JSON", path.display()))?;
    bytes.push(b'\n');
    write_atomic(path, &bytes)
}

/// Reads a JSON file; `None` where there is no such file. What to do about one of another form depends on whether it is a
/// stage's.
///
/// # Errors
/// When it cannot be read, or is not of that form.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("{}: cannot read", path.display()));
        }
    };
    serde_json::from_slice(&bytes).map(Some).with_context(|| {
        let again = match path.parent().is_some_and(is_stage) {
            true => "delete the stage's folder to do it again",
            false => "delete this file to have it made again",
        };
        format!("{}: not what this version writes; {again}", path.display())
    })
}

/// Whether a folder is a stage's, done or begun.
fn is_stage(folder: &Path) -> bool {
    [RECORD, INPUTS]
        .iter()
        .any(|name| folder.join(name).exists())
}

/// Digests of those of these files that are in a folder, by name. Other files are nobody's business: a note, or what a file
/// manager or a network file system left.
pub(super) fn digests(
    folder: &Path,
    names: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<BTreeMap<String, String>> {
    let mut digests = BTreeMap::new();
    for name in names {
        let path = folder.join(name.as_ref());
        if path.is_file() {
            digests.insert(name.as_ref().to_owned(), sha256_file(&path)?);
        }
    }
    Ok(digests)
}

/// Copies files of a folder, by their path with `/`, into a new folder.
pub(super) fn copy<'a>(
    from: &Path,
    names: impl IntoIterator<Item = &'a str>,
    to: &Path,
) -> Result<()> {
    for name in names {
        let (source, target) = (from.join(name), to.join(name));
        let failed = || format!("{}: cannot copy", source.display());
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder).with_context(failed)?;
        }
        std::fs::copy(&source, &target).with_context(failed)?;
    }
    Ok(())
}

/// Deletes what a killed process left of files it was writing under temporary names (as `tempfile` or with `.part`).
pub(super) fn remove_unfinished(folder: &Path) -> Result<()> {
    walk(folder, &mut |file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(".tmp") || name.ends_with(".part") {
            remove_file(file)?;
        }
        Ok(())
    })
}

/// When the newest file of a stage that was begun, an output or another of its own, was written, seconds since 1970.
pub(super) fn last_written(folder: &Path, outputs: &[&str]) -> Result<f64> {
    let mut last = 0.0f64;
    let others = ["inputs.json", "checkpoints", "tensorboard", "metrics.jsonl"];
    for name in others.into_iter().chain(outputs.iter().copied()) {
        walk(&folder.join(name), &mut |file| {
            let modified = std::fs::metadata(file).and_then(|file| file.modified());
            let modified = modified.with_context(|| format!("{}: cannot read", file.display()))?;
            let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
            last = last.max(since.as_secs_f64());
            Ok(())
        })?;
    }
    Ok(last)
}

/// Calls `of` for every regular file at or below `path`.
fn walk(path: &Path, of: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    if path.is_file() {
        return of(path);
    }
    if !path.is_dir() {
        return Ok(());
    }
    for entry in entries(path)? {
        walk(&path.join(entry), of)?;
    }
    Ok(())
}

/// Names in a folder, sorted.
fn entries(folder: &Path) -> Result<Vec<String>> {
    let failed = || format!("{}: cannot list", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(failed)? {
        let name = entry.with_context(failed)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

pub(super) fn is_empty(folder: &Path) -> Result<bool> {
    Ok(entries(folder)?.is_empty())
}

/// Deletes a file that may not be there.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    absent_is_fine(std::fs::remove_file(path), path)
}

/// Deletes a folder that may not be there, with all that is in it.
pub(super) fn remove_folder(path: &Path) -> Result<()> {
    absent_is_fine(std::fs::remove_dir_all(path), path)
}

fn absent_is_fine(result: std::io::Result<()>, path: &Path) -> Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot delete", path.display()))
        }
        _ => Ok(()),
    }
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to)
        .with_context(|| format!("{}: cannot rename to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The folder of a table's record holds all the others.
    #[test]
    fn a_stage_alone_is_to_be_deleted_with_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let told = |file: &str| {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "[1").unwrap();
            let message = read_json::<Vec<u32>>(&path).unwrap_err().to_string();
            assert!(message.contains(file), "{message}");
            message.contains("the stage's folder")
        };
        // A dataset can have the name of a stage.
        assert!(!told("results/runs/data/eager-1.json"));
        assert!(!told("run/eval/metrics.json"));
        for own in [RECORD, INPUTS] {
            let stage = format!("{own}-run/eval");
            assert!(told(&format!("{stage}/{own}")));
            assert!(told(&format!("{stage}/metrics.json")));
        }
    }
}
