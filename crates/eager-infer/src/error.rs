//! Everything that can go wrong between a folder and a list of items, each with its place and the way on.

use std::path::PathBuf;

use eager_codes::CodesError;

/// `Result` with this crate's error.
pub type Result<T> = std::result::Result<T, InferError>;

/// What went wrong while loading, searching or evaluating. ([`crate::MetricsError`] is what is wrong with ranks.)
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferError {
    /// A setting outside its range.
    #[error("inference config: `{field}` is {found}, expected {expected}")]
    Config {
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// The range.
        expected: String,
    },
    /// A user nothing is known of.
    #[error(
        "history {history} is empty; the encoder needs at least one item (recommend the most popular instead)"
    )]
    EmptyHistory {
        /// Place among the histories.
        history: usize,
    },
    /// An item that has no code.
    #[error("history {history}: item {item} is not among the model's {items} items (0..{items})")]
    UnknownItem {
        /// Place among the histories; the item is of the history, its target or its candidates.
        history: usize,
        /// The item.
        item: u32,
        /// Items there are.
        items: usize,
    },
    /// As many things as there are not.
    #[error("{found} {what} for {expected} histories")]
    Lengths {
        /// What there is of each history.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many histories.
        expected: usize,
    },
    /// A node of a trie that no code ends at.
    #[error("history {history}: node {node} is no leaf of the {stream} codes' trie")]
    NotALeaf {
        /// Place among the histories.
        history: usize,
        /// The node.
        node: u32,
        /// The stream's name.
        stream: &'static str,
    },
    /// Log-probabilities that are none.
    #[error(
        "history {history}: the {part}'s log-probabilities are not numbers; the model's weights have diverged"
    )]
    NotANumber {
        /// Place among the histories.
        history: usize,
        /// What computed them: a stream's decoder, or the direct head.
        part: &'static str,
    },
    /// Model and codes that do not belong together.
    #[error("{0}; both must come from the same run")]
    Mismatch(String),
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
    /// A file of a recommender's folder that does not hold what it should.
    #[error("{}: {fault}; save the recommender again", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// The operating system refused a thread.
    #[error("cannot start a worker thread: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// Codes that cannot be read or are not valid.
    #[error(transparent)]
    Codes(#[from] CodesError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
