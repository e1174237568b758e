//! The lists of a call, as arrays, dictionaries and an Arrow table.

use std::sync::Arc;

use arrow_schema::Field;
use eager_bundle::Ranked;
use numpy::{PyArray1, PyArray2, PyArrayMethods as _};
use pyo3::exceptions::{PyIndexError, PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyCapsule;
use pyo3_arrow::ffi::{ArrayIterator, to_stream_pycapsule};

use crate::arrow;
use crate::bundle::Bundle;
use crate::explain::Listed;

/// A list of items for each history, best first.
///
/// The arrays have a row a history and `k` columns; where a list is shorter than `k`, its row ends with -1 in `items`, None
/// in `ids`, and NaN in the others. As a sequence it has a list of dictionaries a history. It is also a table in Arrow's
/// sense, a row an item: ``pyarrow.table(lists)``, ``polars.DataFrame(lists)``, DuckDB's ``FROM lists``.
#[pyclass(frozen, module = "eager_rec")]
pub(crate) struct Lists {
    bundle: Py<Bundle>,
    users: Option<Vec<String>>,
    k: usize,
    lists: Vec<Vec<Ranked>>,
    arrays: Arrays,
}

/// Arrays that were asked for.
struct Arrays {
    items: PyOnceLock<Py<PyArray2<i32>>>,
    ids: PyOnceLock<Py<PyArray2<Py<PyAny>>>>,
    scores: PyOnceLock<Py<PyArray2<f32>>>,
    behaviour: PyOnceLock<Py<PyArray2<f32>>>,
    semantic: PyOnceLock<Py<PyArray2<f32>>>,
    direct: PyOnceLock<Py<PyArray2<f32>>>,
}

impl Lists {
    pub(crate) fn new(
        bundle: Py<Bundle>,
        users: Option<Vec<String>>,
        k: usize,
        lists: Vec<Vec<Ranked>>,
    ) -> Self {
        let arrays = Arrays {
            items: PyOnceLock::new(),
            ids: PyOnceLock::new(),
            scores: PyOnceLock::new(),
            behaviour: PyOnceLock::new(),
            semantic: PyOnceLock::new(),
            direct: PyOnceLock::new(),
        };
        Self {
            bundle,
            users,
            k,
            lists,
            arrays,
        }
    }

    /// `value` of every item, `missing` where a list has ended, row after row.
    fn padded<T>(&self, value: impl Fn(&Ranked) -> T, missing: impl Fn() -> T) -> PyResult<Vec<T>> {
        let (lists, k) = (self.lists.len(), self.k);
        // Lists end with the catalogue, but `k` has no bound.
        let mut values = Vec::new();
        let room = lists.checked_mul(k);
        let room = room.map(|room| values.try_reserve_exact(room));
        if !matches!(room, Some(Ok(()))) {
            return Err(PyMemoryError::new_err(format!(
                "there is no memory for an array of shape ({lists}, {k}); ask for a smaller k, or take the lists one by one"
            )));
        }
        for list in &self.lists {
            values.extend(list.iter().map(&value));
            values.extend((list.len()..k).map(|_| missing()));
        }
        Ok(values)
    }

    fn array<'py, T: numpy::Element>(
        &self,
        cell: &PyOnceLock<Py<PyArray2<T>>>,
        py: Python<'py>,
        values: impl FnOnce() -> PyResult<Vec<T>>,
    ) -> PyResult<Bound<'py, PyArray2<T>>> {
        let shape = [self.lists.len(), self.k];
        let made = || {
            PyArray1::from_vec(py, values()?)
                .reshape(shape)
                .map(Bound::unbind)
        };
        Ok(cell.get_or_try_init(py, made)?.bind(py).clone())
    }

    fn log_probs<'py>(
        &self,
        cell: &PyOnceLock<Py<PyArray2<f32>>>,
        py: Python<'py>,
        value: impl Fn(&Ranked) -> Option<f32>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let nan = || f32::NAN;
        let value = |ranked: &Ranked| value(ranked).unwrap_or_else(nan);
        self.array(cell, py, || self.padded(value, nan))
    }

    fn listed<'py>(&self, py: Python<'py>, list: &[Ranked]) -> PyResult<Bound<'py, PyAny>> {
        let bundle = &self.bundle.get().inner;
        let listed = list.iter().map(|ranked| {
            let listed = Listed::new(bundle, ranked).into_pyobject(py)?;
            if arrow::has_direct(bundle) {
                listed.set_item("direct", ranked.direct)?;
            }
            Ok(listed)
        });
        listed.collect::<PyResult<Vec<_>>>()?.into_pyobject(py)
    }
}

#[pymethods]
impl Lists {
    /// Numbers of the items, int32 of shape (histories, k).
    #[getter]
    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<i32>>> {
        self.array(&self.arrays.items, py, || {
            self.padded(|ranked| ranked.item as i32, || -1)
        })
    }

    /// Ids of the items, strings of shape (histories, k).
    #[getter]
    fn ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<Py<PyAny>>>> {
        let ids = self.bundle.get().ids(py)?.as_slice();
        self.array(&self.arrays.ids, py, || {
            self.padded(
                |ranked| ids[ranked.item as usize].clone_ref(py),
                || py.None(),
            )
        })
    }

    /// What the lists are ranked by, float32 of shape (histories, k).
    #[getter]
    fn scores<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        self.log_probs(&self.arrays.scores, py, |ranked| Some(ranked.score))
    }

    /// Log-probabilities of the items' behaviour codes, float32 of shape (histories, k); NaN where that stream did not
    /// predict the item.
    #[getter]
    fn behaviour<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        self.log_probs(&self.arrays.behaviour, py, |ranked| ranked.behaviour)
    }

    /// Log-probabilities of the items' semantic codes, float32 of shape (histories, k); NaN where that stream did not
    /// predict the item.
    #[getter]
    fn semantic<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        self.log_probs(&self.arrays.semantic, py, |ranked| ranked.semantic)
    }

    /// Log-probabilities of the items by the direct head, float32 of shape (histories, k); NaN where it did not predict the
    /// item. None where the model has no direct head.
    #[getter]
    fn direct<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyArray2<f32>>>> {
        let has = arrow::has_direct(&self.bundle.get().inner);
        let values = || self.log_probs(&self.arrays.direct, py, |ranked| ranked.direct);
        has.then(values).transpose()
    }

    /// Number of items in each list, int32 of shape (histories,).
    #[getter]
    fn lengths<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i32>> {
        let lengths = self.lists.iter().map(|list| list.len() as i32);
        PyArray1::from_iter(py, lengths)
    }

    /// The users' names, where the histories came as a table with a column `user`.
    #[getter]
    fn users(&self) -> Option<&[String]> {
        self.users.as_deref()
    }

    /// The lists as dictionaries.
    ///
    /// Returns
    /// -------
    /// list of list of dict
    ///     Of each item `id`, `title`, `score`, `behaviour` and `semantic`, and `direct` where the model has a direct head; the
    ///     last ones are None where that stream, or the head, did not predict the item.
    fn to_lists<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.lists
            .iter()
            .map(|list| self.listed(py, list))
            .collect()
    }

    /// The lists as a pyarrow table, a row an item.
    ///
    /// Returns
    /// -------
    /// pyarrow.Table
    ///     Columns `user` (the name, otherwise the place of the history), `rank` (from 1), `item` (the id), `score`,
    ///     `behaviour`, `semantic`, and `direct` where the model has a direct head.
    ///
    /// Raises
    /// ------
    /// ImportError
    ///     Without pyarrow. Other libraries of data frames take the lists themselves.
    fn to_arrow<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("pyarrow")?.call_method1("table", (slf,))
    }

    /// The lists as a stream of Arrow record batches, in a PyCapsule.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let (bundle, users) = (&self.bundle.get().inner, self.users.as_deref());
        let batches = py.detach(|| arrow::batches(bundle, users, &self.lists));
        let batches = batches.map_err(|error| PyValueError::new_err(error.to_string()))?;
        let table = Field::new_struct("", arrow::columns(bundle, users.is_some()), false);
        let batches = ArrayIterator::new(batches.into_iter().map(Ok), Arc::new(table));
        Ok(to_stream_pycapsule(
            py,
            Box::new(batches),
            requested_schema,
        )?)
    }

    fn __len__(&self) -> usize {
        self.lists.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Bound<'py, PyAny>> {
        let from_end = if index < 0 { self.lists.len() } else { 0 };
        let list = from_end
            .checked_add_signed(index)
            .and_then(|at| self.lists.get(at));
        let fault = || {
            PyIndexError::new_err(format!(
                "there is no list {index}, only {} of them",
                self.lists.len()
            ))
        };
        self.listed(py, list.ok_or_else(fault)?)
    }

    fn __repr__(&self) -> String {
        format!(
            "<eager_rec.Lists: {} lists of up to {} items>",
            self.lists.len(),
            self.k
        )
    }
}
