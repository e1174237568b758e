//! What Rust's errors are in Python, with their own words.

use std::io::ErrorKind;

use eager_bundle::BundleError as Fault;
use eager_infer::InferError;
use eager_text::TextError;
use pyo3::create_exception;
use pyo3::exceptions::{
    PyException, PyFileNotFoundError, PyLookupError, PyOSError, PyPermissionError, PyRuntimeError,
    PyValueError,
};
use pyo3::prelude::*;

create_exception!(
    eager_rec,
    BundleError,
    PyException,
    "A bundle's files are missing, altered, or do not hold what they should."
);

/// Of a bundle: files that are not there are `OSError`, wrong ones `BundleError`; what the catalogue does not have is
/// `LookupError`, a query that cannot be answered `ValueError`.
pub(crate) fn of_bundle(error: Fault) -> PyErr {
    let words = error.to_string();
    match error {
        Fault::Io { source, .. } | Fault::Infer(InferError::Io { source, .. }) => {
            system(&source, words)
        }
        Fault::UnknownItem { .. } | Fault::UnknownCategory { .. } => PyLookupError::new_err(words),
        Fault::Query { .. } => PyValueError::new_err(words),
        Fault::Infer(InferError::Config { .. } | InferError::EmptyHistory { .. }) => {
            PyValueError::new_err(words)
        }
        Fault::Infer(
            InferError::Threads(_) | InferError::Tensor(_) | InferError::NotANumber { .. },
        ) => PyRuntimeError::new_err(words),
        _ => BundleError::new_err(words),
    }
}

/// Of a text encoder: what is not there or cannot be fetched is `OSError`, a name, folder or catalogue that is none
/// `ValueError`, a computation that failed `RuntimeError`.
pub(crate) fn of_text(error: TextError) -> PyErr {
    let words = error.to_string();
    match error {
        TextError::Io { source, .. } => system(&source, words),
        TextError::Missing { .. } => PyFileNotFoundError::new_err(words),
        TextError::Unavailable { .. } => PyOSError::new_err(words),
        TextError::NotFiniteVector { .. } | TextError::Threads(_) | TextError::Tensor(_) => {
            PyRuntimeError::new_err(words)
        }
        _ => PyValueError::new_err(words),
    }
}

pub(crate) fn system(source: &std::io::Error, words: String) -> PyErr {
    match source.kind() {
        ErrorKind::NotFound => PyFileNotFoundError::new_err(words),
        ErrorKind::PermissionDenied => PyPermissionError::new_err(words),
        _ => PyOSError::new_err(words),
    }
}
