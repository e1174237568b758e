//! Files that are there whole or not at all.

use std::path::Path;

use tempfile::NamedTempFile;

use crate::{DataError, Result};

/// Fills a file beside `path`, then renames it over `path`; what `fill` returns. Where it fails, what was there stays.
///
/// # Errors
/// That of `fill`; when the file cannot be written.
pub(crate) fn replace<T>(
    path: &Path,
    fill: impl FnOnce(&mut NamedTempFile) -> Result<T>,
) -> Result<T> {
    let mut builder = tempfile::Builder::new();
    // As any new file: what the umask leaves, not this user's alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let folder = path.parent().unwrap_or(Path::new("."));
    let file = builder.tempfile_in(folder);
    let mut file = file.map_err(DataError::io(path, "create"))?;
    let filled = fill(&mut file)?;
    // Before the rename: after a crash the name must not be that of half a file.
    file.as_file()
        .sync_all()
        .map_err(DataError::io(path, "write"))?;
    file.persist(path)
        .map_err(|error| DataError::io(path, "write")(error.error))?;
    Ok(filled)
}
