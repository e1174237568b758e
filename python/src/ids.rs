//! Items as Python names them, by id or by number, and the few words that choose between things.

use eager_bundle::{Bundle, ListKind};
use eager_model::Stream;
use pyo3::exceptions::{PyLookupError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

/// What to do with an item that the catalogue does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    Error,
    Skip,
}

/// Turns what Python calls an item into its number.
#[derive(Clone, Copy)]
pub(crate) struct Ids<'a> {
    pub(crate) bundle: &'a Bundle,
    pub(crate) unknown: Unknown,
}

impl Ids<'_> {
    /// The number of an id; `None` where it is left out. `place` says where it stands.
    pub(crate) fn text(&self, id: &str, place: impl Fn() -> String) -> PyResult<Option<u32>> {
        match self.bundle.number(id) {
            Ok(number) => Ok(Some(number)),
            Err(error) => self.unknown(error.to_string(), place),
        }
    }

    /// The same of a number.
    pub(crate) fn number(&self, number: i64, place: impl Fn() -> String) -> PyResult<Option<u32>> {
        let n = self.bundle.items().len();
        match u32::try_from(number) {
            Ok(number) if (number as usize) < n => Ok(Some(number)),
            _ => self.unknown(
                format!("there is no item {number}, only 0 to {}", n - 1),
                place,
            ),
        }
    }

    fn unknown(&self, words: String, place: impl Fn() -> String) -> PyResult<Option<u32>> {
        match self.unknown {
            Unknown::Skip => Ok(None),
            Unknown::Error => Err(PyLookupError::new_err(format!("{}: {words}", place()))),
        }
    }

    /// An id or a number.
    pub(crate) fn one(
        &self,
        value: &Bound<'_, PyAny>,
        place: impl Fn() -> String,
    ) -> PyResult<Option<u32>> {
        if let Ok(id) = value.cast::<PyString>() {
            return self.text(&id.to_cow()?, place);
        }
        match value.extract() {
            Ok(number) => self.number(number, place),
            Err(_) => Err(PyTypeError::new_err(format!(
                "{} is {}, expected an item's id (str) or number (int)",
                place(),
                shown(value)
            ))),
        }
    }

    /// Ids or numbers, of anything that can be iterated over but a text.
    pub(crate) fn list(
        &self,
        values: &Bound<'_, PyAny>,
        place: impl Fn() -> String,
    ) -> PyResult<Vec<u32>> {
        let fault = || {
            PyTypeError::new_err(format!(
                "{} is {}, expected a list of items, such as [\"a\", \"b\"]",
                place(),
                shown(values)
            ))
        };
        if values.is_instance_of::<PyString>() {
            return Err(fault());
        }
        let mut list = vec![];
        for (at, value) in values.try_iter().map_err(|_| fault())?.enumerate() {
            list.extend(self.one(&value?, || format!("{}[{at}]", place()))?);
        }
        Ok(list)
    }
}

/// The beginning of an object's `repr`, for messages.
pub(crate) fn shown(value: &Bound<'_, PyAny>) -> String {
    const MOST: usize = 60;
    let text = value.repr().map_or_else(
        |_| "an object without repr".to_owned(),
        |text| text.to_string(),
    );
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// One of a few words.
fn word<T: Copy>(argument: &str, found: &str, words: &[(&str, T)]) -> PyResult<T> {
    let known = words.iter().find(|(word, _)| *word == found);
    known.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let names = names.join(" or ");
        PyValueError::new_err(format!("{argument} is {found:?}, expected {names}"))
    })
}

pub(crate) fn list_kind(found: &str) -> PyResult<ListKind> {
    let words = [
        ("merged", ListKind::Merged),
        ("behaviour", ListKind::Behaviour),
        ("semantic", ListKind::Semantic),
    ];
    word("list", found, &words)
}

pub(crate) fn view(found: &str) -> PyResult<Stream> {
    let words = Stream::ALL.map(|stream| (stream.name(), stream));
    word("view", found, &words)
}

pub(crate) fn unknown(found: &str) -> PyResult<Unknown> {
    word(
        "unknown",
        found,
        &[("error", Unknown::Error), ("skip", Unknown::Skip)],
    )
}
