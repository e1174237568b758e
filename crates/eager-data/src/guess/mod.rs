//! From files that nobody has described to a [`Source`]: which table is which, and which column means what, told by names
//! and by what the first rows hold. What cannot be told is asked, with what there is to choose from.

mod ask;
mod describe;
mod names;
mod roles;
mod sample;
mod sniff;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use roles::{Asked, Role, assign};
pub use sample::{Column, Content, Sample};

use crate::read::rows::Kind;
use crate::source::{Columns, FileRef, Source};
use crate::{DataError, Result};

/// What the files were found to be.
#[derive(Clone, Debug)]
pub struct Guess {
    /// The table of interactions.
    pub interactions: Sample,
    /// The table of items, where there is one.
    pub items: Option<Sample>,
    /// Which columns are which.
    pub columns: Columns,
    /// Why: a role a line, in the order in which a reader wants them.
    pub roles: Vec<Role>,
    /// Parts of the items' text.
    pub text: Vec<String>,
}

/// Looks at the first rows of one or two files.
///
/// # Errors
/// When a file is no table that can be read, which the message says how to mend, or when it cannot be told what is what:
/// then with the columns, some of their values, and the options that decide.
pub fn guess(files: &[PathBuf], asked: &Asked) -> Result<Guess> {
    let samples = files.iter().map(|path| Sample::of(path));
    assign(samples.collect::<Result<_>>()?, asked)
}

impl Guess {
    /// The source, as a manifest in `folder` names it: files below that folder by their path from there, others by their
    /// absolute path.
    ///
    /// # Errors
    /// When a path cannot be resolved, or is no UTF-8.
    pub fn source(&self, folder: &Path) -> Result<Source> {
        let interactions = file_ref(&self.interactions, folder)?;
        let items = self.items.as_ref().map(|items| file_ref(items, folder));
        let (items, columns) = (items.transpose()?, self.columns.clone());
        let atomic = |sample: &Sample| sample.kind == Kind::Atomic;
        // A file of RecBole beside one that is none is a table like any other.
        if atomic(&self.interactions) && self.items.as_ref().is_none_or(atomic) {
            return Ok(Source::Recbole {
                interactions,
                items,
                columns,
                package: None,
            });
        }
        Ok(Source::Table {
            interactions,
            items,
            columns,
        })
    }
}

fn file_ref(sample: &Sample, folder: &Path) -> Result<FileRef> {
    let path = &sample.path;
    let absolute = |path: &Path| path.canonicalize().map_err(DataError::io(path, "find"));
    let here = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let (file, here) = (absolute(path)?, absolute(here)?);
    let name = file.strip_prefix(&here).unwrap_or(&file);
    let name = name.to_str().ok_or_else(|| DataError::Table {
        path: path.clone(),
        message: "its path is no UTF-8, which a manifest is; rename it".to_owned(),
    })?;
    Ok(FileRef {
        // As on every system: `/` between folders.
        name: name.replace(std::path::MAIN_SEPARATOR, "/"),
        sha256: None,
        url: None,
        member: None,
        delimiter: sample.delimiter,
    })
}
