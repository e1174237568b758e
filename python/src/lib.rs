//! The Python package `eager_rec`: what a bundle answers, and text encoders, over lists, NumPy arrays and Arrow.
//!
//! Nothing is computed here. Python's objects become queries of `eager-bundle`, its lists become arrays; while Rust computes
//! the interpreter's lock is released. The names and types are in `eager_rec/_native.pyi`.

mod arrow;
mod bundle;
mod errors;
mod explain;
mod histories;
mod ids;
mod lists;
mod process;
mod text;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    use super::*;

    #[pymodule_export]
    use crate::bundle::Bundle;
    #[pymodule_export]
    use crate::errors::BundleError;
    #[pymodule_export]
    use crate::lists::Lists;
    #[pymodule_export]
    use crate::text::TextEncoder;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
