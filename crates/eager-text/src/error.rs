//! What can go wrong between a model folder and a matrix of vectors.
//!
//! Every message says what was being read, where, what was expected and what to do about it.

use std::path::{Path, PathBuf};

/// The result of everything fallible in this crate.
pub type Result<T, E = TextError> = std::result::Result<T, E>;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file or folder could not be read or written.
    #[error("{path}: cannot {action}: {source}")]
    Io {
        /// What was being done, as a verb phrase ("read", "create the folder").
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A model folder lacks a file that its layout calls for.
    #[error("{path} is missing: {why}")]
    Missing {
        /// The file that should be there.
        path: PathBuf,
        /// What calls for it, and what to do.
        why: String,
    },
    /// A configuration file is not the JSON that was expected.
    #[error("{path}: not the expected JSON: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's reason, with line and column.
        source: serde_json::Error,
    },
    /// A model folder asks for something that this crate does not compute.
    #[error("{path}: {found} is not supported; supported: {supported}")]
    Unsupported {
        /// The file that asks for it.
        path: PathBuf,
        /// What it asks for.
        found: String,
        /// What could be used instead.
        supported: &'static str,
    },
    /// Two files of a model folder, or a configuration's own numbers, contradict each other.
    #[error("{path}: {problem}")]
    Inconsistent {
        /// The file in which the contradiction shows.
        path: PathBuf,
        /// The two sides of it.
        problem: String,
    },
    /// A tokenizer could not be read, or could not tokenise a text.
    #[error("{path}: tokenizer: {message}")]
    Tokenizer {
        /// The tokenizer file.
        path: PathBuf,
        /// The tokenizer's reason.
        message: String,
    },
    /// A weights file is damaged, or lacks a tensor, or holds one of another shape.
    #[error("{path}: weights: {message}")]
    Weights {
        /// The weights file.
        path: PathBuf,
        /// The reader's reason.
        message: String,
    },
    /// A weight is NaN or infinite.
    #[error("{path}: tensor {tensor} holds NaN or infinite values; fetch the model again")]
    NotFiniteWeight {
        /// The weights file.
        path: PathBuf,
        /// The first such tensor, by name.
        tensor: String,
    },
    /// A vector came out NaN or infinite although every weight is finite.
    #[error(
        "{encoder}: the vector of text {index} ({text:?}) is not finite: the model overflows on it"
    )]
    NotFiniteVector {
        /// The encoder's name.
        encoder: String,
        /// The text's index in the list given to `encode`.
        index: usize,
        /// The beginning of the text.
        text: String,
    },
    /// A file's content is not what its published digest says.
    #[error(
        "{path}: sha256 is {found}, expected {expected}; the file is damaged or another version: delete it and fetch it again"
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// The published digest, lower-case hexadecimal.
        expected: String,
        /// The digest of what is there.
        found: String,
    },
    /// An encoder's name is neither a preset, nor `lsa`, nor a folder.
    #[error("`{name}` is no text encoder: give one of {known}, or the path of a model folder")]
    UnknownEncoder {
        /// What was given.
        name: String,
        /// The names that would do.
        known: String,
    },
    /// A preset's files are neither in a cache nor to be had.
    #[error("text encoder `{preset}`: {reason}; ways on: {ways}")]
    Unavailable {
        /// The preset's name.
        preset: &'static str,
        /// What was tried, and how each attempt ended.
        reason: String,
        /// What the user can do now.
        ways: String,
    },
    /// A catalogue holds nothing that TF-IDF could be computed from.
    #[error("lsa: {0}")]
    Catalogue(String),
    /// A configuration value is out of its range.
    #[error("{field} is {value}: expected {expected}")]
    Config {
        /// The field's name.
        field: &'static str,
        /// The value given.
        value: String,
        /// The range.
        expected: &'static str,
    },
    /// A worker thread could not be started.
    #[error("cannot start a worker thread: {0}")]
    Threads(String),
    /// A tensor operation failed (out of memory, or a device error).
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

impl TextError {
    /// An [`TextError::Io`] maker for `map_err`.
    pub(crate) fn io(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// A [`TextError::Weights`] maker for `map_err`.
    pub(crate) fn weights<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> Self + use<E> {
        let path = path.to_path_buf();
        move |e| Self::Weights {
            path,
            message: e.to_string(),
        }
    }
}
