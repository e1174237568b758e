//! Histories as Python has them: lists of lists, a matrix of numbers, or Arrow's lists and tables.

use numpy::{
    PyArrayDescrMethods as _, PyReadonlyArray2, PyUntypedArray, PyUntypedArrayMethods as _,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3_arrow::input::AnyArray;

use crate::arrow;
use crate::ids::{Ids, shown};

/// Histories as numbers of items, oldest first.
#[derive(Default)]
pub(crate) struct Histories {
    /// The users' names, where a table has them.
    pub(crate) users: Option<Vec<String>>,
    pub(crate) items: Vec<Vec<u32>>,
}

impl Histories {
    /// Reads whatever form there is.
    pub(crate) fn read(ids: Ids<'_>, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(array) = value.cast::<PyUntypedArray>() {
            if array.ndim() == 2 && matches!(array.dtype().kind(), b'i' | b'u') {
                return Self::of_matrix(ids, array);
            }
        } else if value.hasattr("__arrow_c_array__")? || value.hasattr("__arrow_c_stream__")? {
            let chunks = value.extract::<AnyArray>()?.into_chunked_array()?;
            return arrow::histories(ids, &chunks);
        }
        Self::of_lists(ids, value)
    }

    /// A row a history; a negative number is an empty place.
    fn of_matrix(ids: Ids<'_>, array: &Bound<'_, PyUntypedArray>) -> PyResult<Self> {
        let array = array.call_method1("astype", ("int64",))?;
        let array: PyReadonlyArray2<'_, i64> = array.extract()?;
        let rows = array.as_array();
        let items = rows.outer_iter().enumerate().map(|(user, row)| {
            let mut history = vec![];
            for (at, &number) in row.iter().enumerate().filter(|&(_, &number)| number >= 0) {
                history.extend(ids.number(number, || format!("histories[{user}, {at}]"))?);
            }
            Ok(history)
        });
        Ok(Self {
            users: None,
            items: items.collect::<PyResult<_>>()?,
        })
    }

    fn of_lists(ids: Ids<'_>, value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let iterator = match value.is_instance_of::<PyString>() {
            true => None,
            false => value.try_iter().ok(),
        };
        let iterator = iterator.ok_or_else(|| {
            PyTypeError::new_err(format!(
                "histories is {}, expected a list of lists of items, a matrix of their numbers, or an Arrow array or table",
                shown(value)
            ))
        })?;
        let items = iterator.enumerate().map(|(user, history)| {
            let history = history?;
            // The likeliest mistake: one history where several are expected.
            if history.is_instance_of::<PyString>() || history.extract::<i64>().is_ok() {
                return Err(PyTypeError::new_err(format!(
                    "histories[{user}] is {}, expected a list of items; a single history is a list of one: [[…]]",
                    shown(&history)
                )));
            }
            ids.list(&history, || format!("histories[{user}]"))
        });
        Ok(Self {
            users: None,
            items: items.collect::<PyResult<_>>()?,
        })
    }
}
