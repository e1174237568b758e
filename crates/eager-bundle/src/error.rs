//! Everything that can go wrong between a folder and an answer, each with its place and the way on.

use std::path::PathBuf;

use eager_codes::CodesError;
use eager_infer::InferError;

/// `Result` with this crate's error.
pub type Result<T> = std::result::Result<T, BundleError>;

/// What went wrong while loading a bundle, writing it, or answering a query.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The operating system refused a read or a write.
    #[error("{}: cannot {action}: {source}", .path.display())]
    Io {
        /// File or folder concerned.
        path: PathBuf,
        /// What was being tried, as a verb.
        action: &'static str,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A file of the bundle that does not hold what it should.
    #[error("{}: {fault}; export the bundle again, or copy it again from where it came", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// A file of the bundle that was another one when it was looked at again.
    #[error(
        "{}: was changed or removed while the bundle was read; load it again, when nothing writes there", .path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A bundle of another program's form.
    #[error(
        "{}: a bundle of form {found}, this program reads forms up to {newest}; use the version of eager that wrote it, or \
         a newer one", .path.display()
    )]
    Form {
        /// Its manifest.
        path: PathBuf,
        /// Number of its form.
        found: u32,
        /// Number of the newest form that is read.
        newest: u32,
    },
    /// Parts that do not belong together.
    #[error("{0}; all parts must come from one run")]
    Mismatch(String),
    /// The place is taken.
    #[error("{}: {what} is there already; give another folder, or remove it", .path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// An id that the catalogue does not have.
    #[error("item {id:?} is not in the catalogue of {items} items")]
    UnknownItem {
        /// The id.
        id: String,
        /// Items there are.
        items: usize,
    },
    /// A category that no item has.
    #[error("no item has category {category:?}")]
    UnknownCategory {
        /// The category.
        category: String,
    },
    /// A line of a file of items or ids that cannot be used.
    #[error("{}:{line}: {fault}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it, and what was expected.
        fault: String,
    },
    /// A change of the catalogue that cannot be made.
    #[error("catalogue: {0}")]
    Catalogue(String),
    /// A tree that an item does not fit into.
    #[error(
        "item {id:?}: every node of the {stream} tree that could take it has its {branching} children; allow more with \
         `--branching`, or train anew with the item"
    )]
    NoRoom {
        /// The item.
        id: String,
        /// The stream's name.
        stream: &'static str,
        /// Children that a node may have.
        branching: usize,
    },
    /// A query that cannot be answered.
    #[error("query {query}: {fault}")]
    Query {
        /// Place among the queries.
        query: usize,
        /// What is wrong with it, and what was expected.
        fault: String,
    },
    /// The recommender failed or cannot be read.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// Codes or vectors that cannot be read or are not valid.
    #[error(transparent)]
    Codes(#[from] CodesError),
}

impl From<candle_core::Error> for BundleError {
    fn from(error: candle_core::Error) -> Self {
        Self::Infer(error.into())
    }
}
