//! Parquet tables through the row reader of the `parquet` crate: only the columns asked for are decoded.

use std::fs::File;
use std::path::Path;

use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};

use super::rows::{Cell, Counted, EachRow, Wanted, places};
use super::table_error;
use crate::error::LineFault;
use crate::{DataError, Result};

fn broken(path: &Path) -> impl Fn(parquet::errors::ParquetError) -> DataError {
    move |error| {
        table_error(
            path,
            format!("no readable Parquet file ({error}); write it again"),
        )
    }
}

fn open(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = File::open(path).map_err(DataError::io(path, "open"))?;
    if file.metadata().map_err(DataError::io(path, "read"))?.len() == 0 {
        return Err(DataError::Empty {
            path: path.to_owned(),
        });
    }
    SerializedFileReader::new(file).map_err(broken(path))
}

/// Names of the columns that can be read.
pub(super) fn columns(path: &Path) -> Result<Vec<String>> {
    let reader = open(path)?;
    let fields = reader.metadata().file_metadata().schema().get_fields();
    Ok(fields
        .iter()
        .filter(|field| readable(field).is_ok())
        .map(|field| field.name().to_owned())
        .collect())
}

pub(super) fn read(
    path: &Path,
    wanted: &[Wanted],
    counted: &mut Counted,
    each: &mut EachRow,
) -> Result<()> {
    let reader = open(path)?;
    let schema = reader.metadata().file_metadata().schema().clone();
    let names: Vec<&str> = schema
        .get_fields()
        .iter()
        .map(|field| field.name())
        .collect();
    let found = places(&names, wanted).map_err(|fault| fault.at(path, 1))?;

    let mut columns: Vec<usize> = found.iter().flatten().copied().collect();
    columns.sort_unstable();
    columns.dedup();
    let fields: Vec<TypePtr> = columns
        .iter()
        .map(|&column| schema.get_fields()[column].clone())
        .collect();
    for field in &fields {
        readable(field).map_err(|fault| fault.at(path, 1))?;
    }
    let scales: Vec<f64> = fields
        .iter()
        .map(|field| if is_nanoseconds(field) { 1e-9 } else { 1.0 })
        .collect();
    let projection = Type::group_type_builder(schema.name())
        .with_fields(fields)
        .build()
        .map_err(broken(path))?;
    // Where each wanted column is in the projected row.
    let places: Vec<Option<usize>> = found
        .iter()
        .map(|place| place.and_then(|place| columns.binary_search(&place).ok()))
        .collect();

    let total = reader.metadata().file_metadata().num_rows() as u64;
    let (mut row_number, mut values) = (0, vec![None; wanted.len()]);
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(broken(path))?;
        for row in RowIter::from_row_group(Some(projection.clone()), group.as_ref())
            .map_err(broken(path))?
        {
            row_number += 1;
            counted(&|| (row_number as u64, total));
            let row =
                row.map_err(|error| LineFault::Row(error.to_string()).at(path, row_number))?;
            let filled = fill(&mut values, &row, &places, &scales, wanted);
            each(filled.map(|()| values.as_slice()), row_number)
                .map_err(|fault| fault.at(path, row_number))?;
        }
    }
    match row_number {
        0 => Err(DataError::NoRows {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn fill(
    values: &mut [Option<Cell>],
    row: &Row,
    places: &[Option<usize>],
    scales: &[f64],
    wanted: &[Wanted],
) -> std::result::Result<(), LineFault> {
    let fields: Vec<&Field> = row.get_column_iter().map(|(_, field)| field).collect();
    for ((value, place), column) in values.iter_mut().zip(places).zip(wanted) {
        let field = place.and_then(|place| Some((*fields.get(place)?, *scales.get(place)?)));
        *value = match field {
            Some((field, scale)) => cell(field, scale, column.name)?,
            None => None,
        };
    }
    Ok(())
}

/// A value as a [`Cell`]; timestamps in seconds.
fn cell(field: &Field, scale: f64, name: &str) -> std::result::Result<Option<Cell>, LineFault> {
    Ok(Some(match field {
        Field::Null => return Ok(None),
        Field::Str(_) | Field::Bytes(_) => return Ok(text(field, name)?.map(Cell::Text)),
        Field::Byte(n) => Cell::Int(i64::from(*n)),
        Field::Short(n) => Cell::Int(i64::from(*n)),
        Field::Int(n) => Cell::Int(i64::from(*n)),
        Field::Long(n) if scale != 1.0 => Cell::Float(*n as f64 * scale),
        Field::Long(n) => Cell::Int(*n),
        Field::UByte(n) => Cell::Int(i64::from(*n)),
        Field::UShort(n) => Cell::Int(i64::from(*n)),
        Field::UInt(n) => Cell::Int(i64::from(*n)),
        Field::ULong(n) => i64::try_from(*n).map_or_else(|_| Cell::Text(n.to_string()), Cell::Int),
        Field::Float(x) => Cell::Float(f64::from(*x)),
        Field::Double(x) => Cell::Float(*x),
        Field::TimestampMillis(n) => Cell::Float(*n as f64 / 1e3),
        Field::TimestampMicros(n) => Cell::Float(*n as f64 / 1e6),
        Field::Date(days) => Cell::Float(f64::from(*days) * 86_400.0),
        Field::ListInternal(list) => Cell::List(
            list.elements()
                .iter()
                .filter_map(|element| match element {
                    Field::Str(_) | Field::Bytes(_) => text(element, name).transpose(),
                    Field::Byte(_)
                    | Field::Short(_)
                    | Field::Int(_)
                    | Field::Long(_)
                    | Field::UByte(_)
                    | Field::UShort(_)
                    | Field::UInt(_)
                    | Field::ULong(_) => Some(Ok(element.to_string())),
                    other => Some(Err(LineFault::bad(
                        name,
                        other,
                        "a list of texts or whole numbers",
                    ))),
                })
                .collect::<std::result::Result<_, _>>()?,
        ),
        other => {
            return Err(LineFault::bad(
                name,
                other,
                "text, a number, a time or a list of texts",
            ));
        }
    }))
}

/// A text, whether the file marks it as UTF-8 or as bare bytes; `None` where it is blank.
fn text(field: &Field, name: &str) -> std::result::Result<Option<String>, LineFault> {
    let text = match field {
        Field::Str(text) => text.as_str(),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data())
            .map_err(|_| LineFault::bad(name, "bytes", "text in UTF-8"))?,
        other => return Err(LineFault::bad(name, other, "text")),
    };
    Ok((!text.trim().is_empty()).then(|| text.to_owned()))
}

/// Whether the row reader can decode the column and [`cell`] can use it. Asked before reading: the row reader panics
/// on the types it lacks.
fn readable(field: &Type) -> std::result::Result<(), LineFault> {
    let good = match field {
        Type::PrimitiveType {
            basic_info,
            physical_type,
            ..
        } => {
            use ConvertedType as C;
            basic_info.repetition() != Repetition::REPEATED
                && match physical_type {
                    Physical::BYTE_ARRAY => {
                        matches!(
                            basic_info.converted_type(),
                            C::NONE | C::UTF8 | C::ENUM | C::JSON
                        )
                    }
                    Physical::INT32 => matches!(
                        basic_info.converted_type(),
                        C::NONE
                            | C::INT_8
                            | C::INT_16
                            | C::INT_32
                            | C::UINT_8
                            | C::UINT_16
                            | C::UINT_32
                            | C::DATE
                    ),
                    Physical::INT64 => matches!(
                        basic_info.converted_type(),
                        C::NONE
                            | C::INT_64
                            | C::UINT_64
                            | C::TIMESTAMP_MILLIS
                            | C::TIMESTAMP_MICROS
                    ),
                    Physical::INT96 | Physical::FLOAT | Physical::DOUBLE => true,
                    Physical::BOOLEAN | Physical::FIXED_LEN_BYTE_ARRAY => false,
                }
        }
        // `optional group x (LIST) { repeated group list { optional binary element (UTF8) } }`
        Type::GroupType { basic_info, fields } => {
            basic_info.converted_type() == ConvertedType::LIST
                && matches!(fields.as_slice(), [list] if list.is_group()
                    && matches!(list.get_fields(), [element] if element.is_primitive()
                        && matches!(element.get_physical_type(),
                            Physical::BYTE_ARRAY | Physical::INT32 | Physical::INT64)
                        && readable(element).is_ok()))
        }
    };
    if good {
        return Ok(());
    }
    let found = if field.is_primitive() {
        field.get_physical_type().to_string()
    } else {
        "a group".to_owned()
    };
    Err(LineFault::bad(
        field.name(),
        format!("of type {found}"),
        "text, a number, a time or a list of texts",
    ))
}

/// Timestamps in nanoseconds have no converted type, so the row reader gives bare integers.
fn is_nanoseconds(field: &Type) -> bool {
    matches!(field.get_basic_info().logical_type_ref(), Some(LogicalType::Timestamp(t)) if t.unit == TimeUnit::NANOS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use std::sync::Arc;

    const SCHEMA: &str = "message m {
        required binary unused (UTF8);
        required int64 item;
        optional binary user (UTF8);
        required int64 nanos (TIMESTAMP(NANOS,true));
        required int64 millis (TIMESTAMP_MILLIS);
        optional double price;
        optional group tags (LIST) { repeated group list { optional binary element (UTF8); } }
        required boolean flag;
    }";

    /// Two row groups of two rows, compressed.
    fn write(path: &Path) {
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let properties = WriterProperties::builder()
            .set_compression(parquet::basic::Compression::SNAPPY)
            .build();
        let mut writer =
            SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties))
                .unwrap();
        for group in 0..2i64 {
            let mut columns = writer.next_row_group().unwrap();
            let text = |s: &str| ByteArray::from(s.to_owned().into_bytes());
            let mut column = 0;
            while let Some(mut next) = columns.next_column().unwrap() {
                match column {
                    0 => drop(next.typed::<ByteArrayType>().write_batch(
                        &[text("x"), text("y")],
                        None,
                        None,
                    )),
                    1 => drop(next.typed::<Int64Type>().write_batch(
                        &[10 + group, 20 + group],
                        None,
                        None,
                    )),
                    2 => drop(next.typed::<ByteArrayType>().write_batch(
                        &[text("ann")],
                        Some(&[1, 0]),
                        None,
                    )),
                    3 => drop(next.typed::<Int64Type>().write_batch(
                        &[1_500_000_000, 0],
                        None,
                        None,
                    )),
                    4 => drop(
                        next.typed::<Int64Type>()
                            .write_batch(&[2_500, 0], None, None),
                    ),
                    5 => drop(
                        next.typed::<DoubleType>()
                            .write_batch(&[0.5], Some(&[0, 1]), None),
                    ),
                    6 => drop(next.typed::<ByteArrayType>().write_batch(
                        &[text("a"), text("b")],
                        Some(&[3, 3, 0]),
                        Some(&[0, 1, 0]),
                    )),
                    _ => drop(next.typed::<parquet::data_type::BoolType>().write_batch(
                        &[true, false],
                        None,
                        None,
                    )),
                }
                next.close().unwrap();
                column += 1;
            }
            columns.close().unwrap();
        }
        writer.close().unwrap();
    }

    fn wanted<'a>(names: &[&'a str]) -> Vec<Wanted<'a>> {
        names
            .iter()
            .map(|name| Wanted {
                name,
                required: true,
            })
            .collect()
    }

    #[test]
    fn reads_the_wanted_columns_of_every_row_group() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&path);
        let mut rows = Vec::new();
        read(
            &path,
            &wanted(&["user", "item", "nanos", "millis", "price", "tags", "item"]),
            &mut |_| {},
            &mut |row, line| {
                rows.push((line, row?.to_vec()));
                Ok(())
            },
        )
        .unwrap();
        let tags = Cell::List(vec!["a".into(), "b".into()]);
        let first = |item: i64| {
            vec![
                Some(Cell::Text("ann".into())),
                Some(Cell::Int(item)),
                Some(Cell::Float(1.5)),
                Some(Cell::Float(2.5)),
                None,
                Some(tags.clone()),
                Some(Cell::Int(item)),
            ]
        };
        assert_eq!(
            rows.iter().map(|row| row.0).collect::<Vec<_>>(),
            [1, 2, 3, 4]
        );
        assert_eq!(rows[0].1, first(10));
        assert_eq!(rows[2].1, first(11));
        assert_eq!(rows[1].1[0], None);
        assert_eq!(rows[1].1[4], Some(Cell::Float(0.5)));
        assert_eq!(rows[1].1[5], None);
    }

    /// Writers that know no texts (Hive, old pandas) leave the mark out.
    #[test]
    fn bytes_without_a_mark_are_read_as_texts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let schema = "message m {
            required binary user;
            optional group tags (LIST) { repeated group list { optional binary element; } }
        }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let file = File::create(&path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let text = |s: &str| ByteArray::from(s.to_owned().into_bytes());
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&[text(" "), text("ann")], None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(
                &[text("a"), text(" "), text("b")],
                Some(&[3, 3, 3]),
                Some(&[0, 1, 0]),
            )
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();

        assert_eq!(columns(&path).unwrap(), ["user", "tags"]);
        let mut rows = Vec::new();
        let wanted = wanted(&["user", "tags"]);
        read(&path, &wanted, &mut |_| {}, &mut |row, _| {
            rows.push(row?.to_vec());
            Ok(())
        })
        .unwrap();
        let list = |id: &str| Some(Cell::List(vec![id.to_owned()]));
        assert_eq!(rows[0], [None, list("a")]);
        assert_eq!(rows[1], [Some(Cell::Text("ann".into())), list("b")]);
    }

    #[test]
    fn faults_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&path);
        let fault = |names: &[&str]| {
            read(&path, &wanted(names), &mut |_| {}, &mut |_, _| Ok(()))
                .unwrap_err()
                .to_string()
        };
        assert!(
            fault(&["users"])
                .contains("a.parquet:1: no column `users`; the header has unused, item")
        );
        assert!(fault(&["flag"]).contains("a.parquet:1: field `flag` is `of type BOOLEAN`"));
        let bytes = std::fs::read(&path).unwrap();
        for cut in [1, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(fault(&["user"]).contains("a.parquet: no readable Parquet file"));
        }
        std::fs::write(&path, b"").unwrap();
        assert!(fault(&["user"]).contains("a.parquet: the file is empty"));
    }
}
