//! Readers, one a form: each turns a source's files into a [`Log`] or says which line is wrong.

mod amazon;
mod benchmark;
pub(crate) mod histories;
mod json;
pub(crate) mod lines;
#[cfg(feature = "parquet")]
mod parquet;
mod python;
mod quotes;
pub(crate) mod rows;
mod separated;
pub(crate) mod table;
pub(crate) mod times;

use std::path::Path;

use crate::acquire::Progress;
use crate::log::Log;
use crate::source::{FileRef, Source};
use crate::{DataError, Result};
use rows::{Kind, TableFile};
use table::Strict;

/// Reads `source`, whose files lie where `locate` says; `progress` hears of tables.
///
/// # Errors
/// With file and line, when a file does not hold what its form asks for.
pub(crate) fn read<'a>(
    source: &Source,
    locate: impl Fn(&FileRef) -> Result<&'a Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Log> {
    match source {
        Source::Benchmark {
            sequences,
            items,
            gaps,
            users,
            ..
        } => benchmark::read(&benchmark::Files {
            sequences: locate(sequences)?,
            items: locate(items)?,
            gaps: gaps.as_ref().map(&locate).transpose()?,
            users: users.as_ref().map(&locate).transpose()?,
        }),
        Source::Amazon2014 { reviews, metadata } => {
            amazon::read(locate(reviews)?, locate(metadata)?)
        }
        Source::Recbole {
            interactions,
            items,
            columns,
            ..
        } => {
            let atomic = |file: &FileRef| {
                Ok::<_, DataError>(TableFile {
                    path: locate(file)?.to_owned(),
                    kind: Kind::Atomic,
                })
            };
            let items = items.as_ref().map(atomic).transpose()?;
            let watch = &mut Strict(progress);
            table::read(&atomic(interactions)?, items.as_ref(), columns, watch)
        }
        Source::Table {
            interactions,
            items,
            columns,
        } => {
            let table = |file: &FileRef| TableFile::new(locate(file)?, file.delimiter);
            let items = items.as_ref().map(table).transpose()?;
            let watch = &mut Strict(progress);
            table::read(&table(interactions)?, items.as_ref(), columns, watch)
        }
        Source::Demo(config) => Ok(crate::demo::generate(config)),
    }
}

/// A file's own name, for messages about another file.
fn short(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// A table that cannot be read as what its name says.
fn table_error(path: &Path, message: impl Into<String>) -> DataError {
    DataError::Table {
        path: path.to_owned(),
        message: message.into(),
    }
}
