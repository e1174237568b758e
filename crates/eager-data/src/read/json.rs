//! Rows of JSON lines.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::lines::Lines;
use super::rows::{Cell, EachRow, Wanted};
use crate::Result;
use crate::error::LineFault;
use crate::plain_words;

/// The fields of the first `look` lines that can be read.
pub(super) fn columns(path: &Path, look: usize) -> Result<Vec<String>> {
    let mut lines = Lines::open(path)?;
    // Of each field how many values can be read, and how many there are: most have to.
    let mut fields: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    while let Ok(Some(line)) = lines.next() {
        let object: Map<String, Value> = serde_json::from_str(line).unwrap_or_default();
        for (name, value) in object {
            let readable = cell(Some(&value), &name).is_ok();
            let (good, all) = fields.entry(name).or_default();
            *good += usize::from(readable);
            *all += 1;
        }
        if lines.number() == look {
            break;
        }
    }
    let fields = fields.into_iter();
    Ok(fields
        .filter_map(|(name, (good, all))| (good * 2 > all).then_some(name))
        .collect())
}

/// Reads a JSON object a line; blank lines are passed over.
pub(super) fn read(mut lines: Lines, wanted: &[Wanted], each: &mut EachRow) -> Result<()> {
    let mut values = vec![None; wanted.len()];
    loop {
        let row = match lines.next() {
            Ok(None) => return Ok(()),
            // As in the other forms; many a file ends with one.
            Ok(Some(line)) if line.trim().is_empty() => continue,
            Ok(Some(line)) => fields(line, wanted, &mut values),
            Err(crate::DataError::Line {
                fault: fault @ LineFault::NotUtf8(_),
                ..
            }) => Err(fault),
            Err(error) => return Err(error),
        };
        let row = row.map(|()| values.as_slice());
        each(row, lines.number()).map_err(|fault| lines.at(fault))?;
    }
}

fn fields(
    line: &str,
    wanted: &[Wanted],
    values: &mut [Option<Cell>],
) -> std::result::Result<(), LineFault> {
    let object: Map<String, Value> =
        serde_json::from_str(line).map_err(|error| json_fault(&error))?;
    for (value, column) in values.iter_mut().zip(wanted) {
        *value = cell(object.get(column.name), column.name)?;
    }
    Ok(())
}

/// A JSON error of one line; the parser's own "at line 1 column n" is left out.
pub(super) fn json_fault(error: &serde_json::Error) -> LineFault {
    let words = error.to_string();
    let message = words
        .rsplit_once(" at line ")
        .map_or(words.as_str(), |(message, _)| message);
    if let Some(field) = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'))
    {
        return LineFault::MissingField(field.to_owned());
    }
    LineFault::Json {
        column: error.column(),
        message: plain_words(message),
    }
}

fn cell(value: Option<&Value>, field: &str) -> std::result::Result<Option<Cell>, LineFault> {
    Ok(Some(match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => Cell::Text(text.clone()),
        Some(Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Cell::Int(int),
            // Ids of 64 bits without a sign: as a float, neighbours would be one.
            _ if number.is_u64() => Cell::Text(number.to_string()),
            (None, Some(float)) => Cell::Float(float),
            (None, None) => Cell::Text(number.to_string()),
        },
        Some(Value::Array(parts)) => Cell::List(
            parts
                .iter()
                .filter_map(|part| match part {
                    Value::String(text) if text.trim().is_empty() => None,
                    Value::String(text) => Some(Ok(text.clone())),
                    Value::Number(id) if id.is_i64() || id.is_u64() => Some(Ok(id.to_string())),
                    other => Some(Err(LineFault::bad(
                        field,
                        other,
                        "a list of texts or whole numbers",
                    ))),
                })
                .collect::<std::result::Result<_, _>>()?,
        ),
        Some(other) => {
            return Err(LineFault::bad(field, other, "text, a number, or a list"));
        }
    }))
}
