//! Worker threads do not survive a fork: a child that went on with its parent's bundle would wait for them for ever.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// The process in which an object's threads are.
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn this() -> Self {
        Self(std::process::id())
    }

    /// Refuses to go on in another process.
    pub(crate) fn check(&self, what: &str) -> PyResult<()> {
        if self.0 == std::process::id() {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(format!(
            "this {what} was made before the process was forked, and its threads are not in this one; make it anew here, or \
             start workers with multiprocessing's \"spawn\" or \"forkserver\""
        )))
    }
}
