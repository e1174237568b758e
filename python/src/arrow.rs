//! Arrow in and out, by its C data interface: pyarrow, polars, pandas and DuckDB hand over their columns as they are, and take
//! lists as a table. None of them is needed.

use std::sync::Arc;

use arrow_array::builder::{Float32Builder, Int32Builder, Int64Builder, StringBuilder};
use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, StructArray};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, Fields};
use eager_bundle::{Bundle, Ranked};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3_arrow::PyChunkedArray;

use crate::histories::Histories;
use crate::ids::Ids;

/// Rows of a batch of lists, about.
const ROWS: usize = 1 << 16;

fn arrow_fault(error: ArrowError) -> PyErr {
    PyValueError::new_err(format!("Arrow: {error}"))
}

/// Histories of a list array, or of a table with a column `history` of them and perhaps one `user`. Which of them it is says
/// the type, as there may be no row.
pub(crate) fn histories(ids: Ids<'_>, array: &PyChunkedArray) -> PyResult<Histories> {
    let mut histories = Histories::default();
    let DataType::Struct(columns) = array.data_type() else {
        one_kind(array.data_type())?;
        for chunk in array.chunks() {
            read_lists(ids, chunk, &mut histories.items)?;
        }
        return Ok(histories);
    };
    let Some((_, lists)) = columns.find("history") else {
        let names: Vec<&str> = columns
            .iter()
            .map(|column| column.name().as_str())
            .collect();
        return Err(PyValueError::new_err(format!(
            "the table has columns {}, expected `history` (lists of items), and `user` where users have names",
            names.join(", ")
        )));
    };
    one_kind(lists.data_type())?;
    let mut users = columns.find("user").map(|_| vec![]);
    for chunk in array.chunks() {
        let table = chunk.as_struct();
        if let Some(lists) = table.column_by_name("history") {
            read_lists(ids, lists, &mut histories.items)?;
        }
        if let (Some(users), Some(names)) = (&mut users, table.column_by_name("user")) {
            read_users(names, users)?;
        }
    }
    histories.users = users;
    Ok(histories)
}

/// Adds the names of a chunk.
fn read_users(names: &ArrayRef, users: &mut Vec<String>) -> PyResult<()> {
    let names = cast(names, &DataType::LargeUtf8).map_err(arrow_fault)?;
    for name in names.as_string::<i64>() {
        let name = name.ok_or_else(|| {
            let row = users.len();
            PyValueError::new_err(format!("user[{row}] is null, expected the user's name"))
        })?;
        users.push(name.to_owned());
    }
    Ok(())
}

/// The type that lists are read in, whatever kind of list and of text or integer they are made of.
fn one_kind(lists: &DataType) -> PyResult<DataType> {
    let fault = || {
        PyTypeError::new_err(format!(
            "histories are of Arrow type {lists}, expected lists of strings (ids) or of integers (numbers)"
        ))
    };
    let (DataType::List(values)
    | DataType::LargeList(values)
    | DataType::FixedSizeList(values, _)
    | DataType::ListView(values)
    | DataType::LargeListView(values)) = lists
    else {
        return Err(fault());
    };
    let values = match values.data_type() {
        DataType::Dictionary(_, values) => values,
        values => values,
    };
    let values = match values {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::LargeUtf8,
        values if values.is_integer() || *values == DataType::Null => DataType::Int64,
        _ => return Err(fault()),
    };
    Ok(DataType::LargeList(Arc::new(Field::new_list_field(
        values, true,
    ))))
}

/// Adds the lists of a chunk. A null list is an empty one.
fn read_lists(ids: Ids<'_>, lists: &ArrayRef, histories: &mut Vec<Vec<u32>>) -> PyResult<()> {
    let lists = cast(lists, &one_kind(lists.data_type())?).map_err(arrow_fault)?;
    let (lists, before) = (lists.as_list::<i64>(), histories.len());
    let texts = lists.values().as_string_opt::<i64>();
    for (row, ends) in lists.value_offsets().windows(2).enumerate() {
        let mut history = vec![];
        let places = if lists.is_null(row) {
            0..0
        } else {
            ends[0] as usize..ends[1] as usize
        };
        for (at, value) in places.enumerate() {
            let place = || format!("histories[{}][{at}]", before + row);
            if lists.values().is_null(value) {
                return Err(PyValueError::new_err(format!(
                    "{} is null, expected an item",
                    place()
                )));
            }
            history.extend(match texts {
                Some(texts) => ids.text(texts.value(value), place)?,
                // Of `one_kind` there are texts, or these.
                None => {
                    let numbers = lists.values().as_primitive::<Int64Type>();
                    ids.number(numbers.value(value), place)?
                }
            });
        }
        histories.push(history);
    }
    Ok(())
}

/// Whether the model has a direct head, so that lists say what it predicts.
pub(crate) fn has_direct(bundle: &Bundle) -> bool {
    bundle.recommender().model().config().direct_head
}

/// The columns of a table of lists: a row an item, as `eager recommend` writes it.
pub(crate) fn columns(bundle: &Bundle, named: bool) -> Fields {
    let user = match named {
        true => DataType::Utf8,
        false => DataType::Int64,
    };
    let fields = [
        Field::new("user", user, false),
        Field::new("rank", DataType::Int32, false),
        Field::new("item", DataType::Utf8, false),
        Field::new("score", DataType::Float32, false),
        Field::new("behaviour", DataType::Float32, true),
        Field::new("semantic", DataType::Float32, true),
    ];
    let direct = has_direct(bundle).then(|| Field::new("direct", DataType::Float32, true));
    fields.into_iter().chain(direct).collect()
}

/// Lists as such a table, in batches: `users` names them, otherwise they are numbered from 0.
pub(crate) fn batches(
    bundle: &Bundle,
    users: Option<&[String]>,
    lists: &[Vec<Ranked>],
) -> Result<Vec<ArrayRef>, ArrowError> {
    let mut batches: Vec<ArrayRef> = vec![];
    let (mut first, mut rows) = (0, 0);
    for (user, list) in lists.iter().enumerate() {
        rows += list.len();
        if rows >= ROWS || user + 1 == lists.len() {
            batches.push(batch(bundle, users, lists, first..user + 1)?);
            (first, rows) = (user + 1, 0);
        }
    }
    Ok(batches)
}

fn batch(
    bundle: &Bundle,
    users: Option<&[String]>,
    lists: &[Vec<Ranked>],
    of: std::ops::Range<usize>,
) -> Result<ArrayRef, ArrowError> {
    let (mut names, mut numbers) = (StringBuilder::new(), Int64Builder::new());
    let (mut ranks, mut items) = (Int32Builder::new(), StringBuilder::new());
    let mut scores = [(); 4].map(|()| Float32Builder::new());
    for user in of {
        for (rank, ranked) in (1..).zip(&lists[user]) {
            match users {
                Some(users) => names.append_value(&users[user]),
                None => numbers.append_value(user as i64),
            }
            ranks.append_value(rank);
            items.append_value(&bundle.items()[ranked.item as usize].id);
            let parts = [ranked.behaviour, ranked.semantic, ranked.direct];
            let values = std::iter::once(Some(ranked.score)).chain(parts);
            for (builder, value) in scores.iter_mut().zip(values) {
                builder.append_option(value);
            }
        }
    }
    let user: ArrayRef = match users {
        Some(_) => Arc::new(names.finish()),
        None => Arc::new(numbers.finish()),
    };
    let mut values: Vec<ArrayRef> = vec![user, Arc::new(ranks.finish()), Arc::new(items.finish())];
    values.extend(scores.map(|mut builder| Arc::new(builder.finish()) as ArrayRef));
    let columns = columns(bundle, users.is_some());
    values.truncate(columns.len());
    let batch = StructArray::try_new(columns, values, None)?;
    Ok(Arc::new(batch))
}
