//! Text encoders.

use candle_core::Device;
use eager_text::{Places, TextError};
use numpy::{PyArray1, PyArray2, PyArrayMethods as _};
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::errors::of_text;
use crate::process::Process;

/// A text encoder, by name or from a folder.
///
/// Parameters
/// ----------
/// name : str or path-like
///     `"minilm"`, `"sentence-t5-base"` (the paper's), `"sentence-t5-large"`, `"sentence-t5-xl"`, `"sentence-t5-xxl"`, which
///     are fetched where no cache has them; `"lsa"`, which is fitted on `catalogue`; or a folder as sentence-transformers
///     writes it, of the T5 or BERT family.
/// catalogue : list of str, optional
///     The texts that `"lsa"` is fitted on.
///
/// Raises
/// ------
/// OSError
///     If the model is not there, or cannot be fetched.
/// ValueError
///     If the name is none, or the folder is not of a kind that is known.
#[pyclass(frozen, module = "eager_rec")]
pub(crate) struct TextEncoder {
    inner: Box<dyn eager_text::TextEncoder>,
    /// Its own: rayon's threads for all are started once, and a forked child would wait for those of its parent.
    pool: ThreadPool,
    process: Process,
}

#[pymethods]
impl TextEncoder {
    #[new]
    #[pyo3(signature = (name, catalogue=None))]
    fn new(
        py: Python<'_>,
        name: std::path::PathBuf,
        catalogue: Option<Vec<String>>,
    ) -> PyResult<Self> {
        let catalogue = catalogue.unwrap_or_default();
        let catalogue: Vec<&str> = catalogue.iter().map(String::as_str).collect();
        let name = name.to_string_lossy();
        let pool = ThreadPoolBuilder::new().build();
        let pool = pool.map_err(|error| of_text(TextError::Threads(error.to_string())))?;
        let open =
            || eager_text::open(&name, &catalogue, &Places::new(), &Device::Cpu, &mut |_| {});
        Ok(Self {
            inner: py.detach(|| pool.install(open)).map_err(of_text)?,
            pool,
            process: Process::this(),
        })
    }

    /// Name of the preset or folder.
    #[getter]
    fn name(&self) -> &str {
        self.inner.name()
    }

    /// Width of the vectors.
    #[getter]
    fn dim(&self) -> usize {
        self.inner.dim()
    }

    /// SHA-256 of all that decides the vectors.
    #[getter]
    fn digest(&self) -> &str {
        self.inner.digest()
    }

    /// Vectors of texts.
    ///
    /// Parameters
    /// ----------
    /// texts : list of str
    ///
    /// Returns
    /// -------
    /// numpy.ndarray
    ///     float32 of shape (texts, dim). Rows have length 1, or 0 where `"lsa"` knows no word of the text.
    ///
    /// Raises
    /// ------
    /// RuntimeError
    ///     If a vector is not finite.
    fn encode<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<String>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        self.process.check("TextEncoder")?;
        let encode = || -> Result<Vec<f32>, TextError> {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let vectors = self.inner.encode(&texts, &mut |_| {})?;
            Ok(vectors.flatten_all()?.to_vec1::<f32>()?)
        };
        let values = py.detach(|| self.pool.install(encode)).map_err(of_text)?;
        PyArray1::from_vec(py, values).reshape([texts.len(), self.inner.dim()])
    }

    fn __repr__(&self) -> String {
        format!(
            "<eager_rec.TextEncoder {:?}: {} wide>",
            self.inner.name(),
            self.inner.dim()
        )
    }
}
