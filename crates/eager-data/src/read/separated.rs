//! Rows of separated text: CSV, TSV, RecBole's atomic files.

use std::io::{BufRead, Read};
use std::path::Path;

use csv::{ByteRecord, ErrorKind, ReaderBuilder, Terminator};

use super::lines;
use super::quotes::Quotes;
use super::rows::{Cell, Counted, EachRow, Kind, Wanted, places};
use crate::Result;
use crate::error::LineFault;

/// Names of the header.
pub(super) fn columns(path: &Path, kind: Kind) -> Result<Vec<String>> {
    let (stream, _) = lines::open(path)?;
    let mut reader = reader(stream, kind);
    let header = reader.headers();
    let header = header.map_err(|error| stream_error(error, path, 1))?;
    let columns = header
        .iter()
        .map(|field| Column::parse(field.trim_start_matches('\u{feff}').trim(), kind));
    let names = columns.map(|column| Ok(column?.name.to_owned()));
    let names: std::result::Result<_, LineFault> = names.collect();
    names.map_err(|fault| fault.at(path, 1))
}

fn reader(stream: Box<dyn BufRead>, kind: Kind) -> csv::Reader<Box<dyn Read>> {
    let (delimiter, quoted) = match kind {
        Kind::Csv(delimiter) => (delimiter, true),
        _ => (b'\t', false),
    };
    let stream: Box<dyn Read> = match quoted {
        true => Box::new(Quotes::new(stream, delimiter)),
        false => Box::new(stream),
    };
    ReaderBuilder::new()
        .delimiter(delimiter)
        // With csv's own CRLF rule the line numbers of CRLF files are one too low; fields are trimmed below instead.
        .terminator(Terminator::Any(b'\n'))
        .quoting(quoted)
        .flexible(true) // a row of another width is a fault of ours, with its fields at hand
        .from_reader(stream)
}

pub(super) fn read(
    path: &Path,
    kind: Kind,
    wanted: &[Wanted],
    counted: &mut Counted,
    each: &mut EachRow,
) -> Result<()> {
    let (stream, meter) = lines::open(path)?;
    let mut reader = reader(stream, kind);
    let header = match reader.headers() {
        Ok(header) if header.is_empty() => {
            return Err(crate::DataError::Empty {
                path: path.to_owned(),
            });
        }
        Ok(header) => header.clone(),
        Err(error) => return Err(stream_error(error, path, 1)),
    };
    let columns = header
        .iter()
        .map(|field| Column::parse(field.trim_start_matches('\u{feff}').trim(), kind))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|fault| fault.at(path, 1))?;
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    let places = places(&names, wanted).map_err(|fault| fault.at(path, 1))?;

    let mut record = ByteRecord::new();
    let mut values = vec![None; wanted.len()];
    loop {
        let before = reader.position().line();
        match reader.read_byte_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => return Err(stream_error(error, path, before as usize)),
        }
        counted(&|| meter.of());
        // A blank line with a line end of Windows; the csv crate passes over the others.
        if record.iter().eq([b"\r"]) {
            continue;
        }
        // Those are in the reader's own count of where the record began.
        let breaks = record.as_slice().iter().filter(|&&b| b == b'\n').count() as u64;
        let line = before.max(reader.position().line() - 1 - breaks) as usize;
        let row = fields(&record, &columns, &places, &mut values).map(|()| values.as_slice());
        each(row, line).map_err(|fault| fault.at(path, line))?;
    }
}

/// The wanted fields of a record.
fn fields(
    record: &ByteRecord,
    columns: &[Column],
    places: &[Option<usize>],
    values: &mut [Option<Cell>],
) -> std::result::Result<(), LineFault> {
    if record.len() != columns.len() {
        return Err(LineFault::FieldCount {
            found: record.len() as u64,
            expected: columns.len() as u64,
        });
    }
    if let Err(error) = std::str::from_utf8(record.as_slice()) {
        let bad = error.valid_up_to();
        // The fields of a record lie end to end; in the line a delimiter stands before each but the first.
        let ends = (0..record.len()).filter_map(|i| record.range(i));
        let delimiters = ends.filter(|field| field.end <= bad).count();
        return Err(LineFault::NotUtf8(bad + delimiters + 1));
    }
    for (value, place) in values.iter_mut().zip(places) {
        let field = place.and_then(|place| Some((record.get(place)?, columns.get(place)?)));
        *value = match field {
            Some((bytes, column)) => {
                let text = std::str::from_utf8(bytes);
                let text = text.map_err(|error| LineFault::NotUtf8(error.valid_up_to() + 1))?;
                Some(text.trim())
                    .filter(|text| !text.is_empty())
                    .map(|text| column.cell(text))
            }
            None => None,
        };
    }
    Ok(())
}

/// A header field.
struct Column<'a> {
    name: &'a str,
    /// `token_seq` or `float_seq`: values separated by blanks.
    sequence: bool,
}

impl<'a> Column<'a> {
    fn parse(field: &'a str, kind: Kind) -> std::result::Result<Self, LineFault> {
        if kind != Kind::Atomic {
            return Ok(Self {
                name: field,
                sequence: false,
            });
        }
        match field.rsplit_once(':') {
            Some((name, "token" | "float")) => Ok(Self {
                name,
                sequence: false,
            }),
            Some((name, "token_seq" | "float_seq")) => Ok(Self {
                name,
                sequence: true,
            }),
            _ => Err(LineFault::AtomicHeader(field.to_owned())),
        }
    }

    fn cell(&self, text: &str) -> Cell {
        match self.sequence {
            true => Cell::List(text.split_whitespace().map(str::to_owned).collect()),
            false => Cell::Text(text.to_owned()),
        }
    }
}

/// A stream that cannot be read on.
fn stream_error(error: csv::Error, path: &Path, line: usize) -> crate::DataError {
    let words = error.to_string();
    match error.into_kind() {
        ErrorKind::Io(error) => lines::read_error(error, path, line),
        ErrorKind::Utf8 { err, .. } => LineFault::NotUtf8(err.valid_up_to() + 1).at(path, line),
        _ => LineFault::Row(words).at(path, line),
    }
}
