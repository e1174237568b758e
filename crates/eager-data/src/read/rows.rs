//! Rows of a table with named columns, whatever it is written in: CSV, TSV, RecBole atomic, JSON lines, Parquet.

use std::path::Path;

use csv::{ErrorKind, ReaderBuilder, StringRecord, Terminator};
use serde_json::{Map, Value};

use super::lines::{self, Lines};
use super::table_error;
use crate::Result;
use crate::error::LineFault;

/// What a table is written in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Comma-separated, quoted as in RFC 4180.
    Csv,
    /// Tab-separated, without quotes.
    Tsv,
    /// RecBole: TSV whose header fields are `name:type`.
    Atomic,
    /// A JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

impl Kind {
    /// Told by the file's name.
    ///
    /// # Errors
    /// For any other name.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let name = super::short(path).to_ascii_lowercase();
        match name
            .strip_suffix(".gz")
            .unwrap_or(&name)
            .rsplit_once('.')
            .map(|(_, extension)| extension)
        {
            Some("csv") => Ok(Kind::Csv),
            Some("tsv") => Ok(Kind::Tsv),
            Some("jsonl" | "ndjson") => Ok(Kind::Jsonl),
            Some("parquet") if !name.ends_with(".gz") => Ok(Kind::Parquet),
            _ => Err(table_error(
                path,
                "what the table is written in is told by its name; call it .csv, .tsv, .jsonl (each also .gz) or .parquet",
            )),
        }
    }
}

/// A column asked for.
#[derive(Copy, Clone)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    /// Whether its absence from a header is an error. In JSON lines, which have no header, any field may be absent.
    pub(crate) required: bool,
}

/// A value of a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    Int(i64),
    Float(f64),
    List(Vec<String>),
}

impl Cell {
    /// As a raw id or running text; lists are joined by blanks.
    pub(crate) fn text(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Int(number) => number.to_string(),
            Cell::Float(number) => number.to_string(),
            Cell::List(parts) => parts.join(" "),
        }
    }

    /// As a number, where it is one.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Cell::Text(text) => text.trim().parse().ok(),
            Cell::Int(number) => Some(*number as f64),
            Cell::Float(number) => Some(*number),
            Cell::List(_) => None,
        }
    }
}

/// Called with the values of one row, in the order wanted; blank values are `None`.
pub(crate) type EachRow<'a> =
    dyn FnMut(&[Option<Cell>], usize) -> std::result::Result<(), LineFault> + 'a;

/// Reads every row of the table at `path`.
///
/// # Errors
/// With file and line (in Parquet: row) of what cannot be read, or of what `each` refuses.
pub(crate) fn read(path: &Path, kind: Kind, wanted: &[Wanted], each: &mut EachRow) -> Result<()> {
    match kind {
        Kind::Csv => separated(path, b',', kind, wanted, each),
        Kind::Tsv | Kind::Atomic => separated(path, b'\t', kind, wanted, each),
        Kind::Jsonl => json_lines(Lines::open(path)?, wanted, each),
        #[cfg(feature = "parquet")]
        Kind::Parquet => super::parquet::read(path, wanted, each),
        #[cfg(not(feature = "parquet"))]
        Kind::Parquet => Err(table_error(
            path,
            "this build reads no Parquet; build eager-data with its feature `parquet`",
        )),
    }
}

fn separated(
    path: &Path,
    delimiter: u8,
    kind: Kind,
    wanted: &[Wanted],
    each: &mut EachRow,
) -> Result<()> {
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        // With csv's own CRLF rule the line numbers of CRLF files are one too low; fields are trimmed below instead.
        .terminator(Terminator::Any(b'\n'))
        .quoting(kind == Kind::Csv)
        .from_reader(lines::open(path)?);
    let header = match reader.headers() {
        Ok(header) if header.is_empty() => {
            return Err(crate::DataError::Empty {
                path: path.to_owned(),
            });
        }
        Ok(header) => header.clone(),
        Err(error) => return Err(separated_error(error, path, 1)),
    };
    let columns = header
        .iter()
        .map(|field| Column::parse(field.trim_start_matches('\u{feff}').trim(), kind))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|fault| fault.at(path, 1))?;
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    let places = places(&names, wanted).map_err(|fault| fault.at(path, 1))?;

    let mut record = StringRecord::new();
    let mut values = vec![None; wanted.len()];
    loop {
        let before = reader.position().line() as usize;
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => return Err(separated_error(error, path, before)),
        }
        let line = record
            .position()
            .map_or(before, |position| position.line() as usize);
        for (value, place) in values.iter_mut().zip(&places) {
            let field =
                place.and_then(|place| Some((record.get(place)?.trim(), columns.get(place)?)));
            *value = field
                .filter(|(text, _)| !text.is_empty())
                .map(|(text, column)| column.cell(text));
        }
        each(&values, line).map_err(|fault| fault.at(path, line))?;
    }
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

/// Where each wanted column is among `names`.
pub(super) fn places(
    names: &[&str],
    wanted: &[Wanted],
) -> std::result::Result<Vec<Option<usize>>, LineFault> {
    wanted
        .iter()
        .map(
            |column| match names.iter().position(|name| *name == column.name) {
                None if column.required => Err(LineFault::MissingColumn {
                    column: column.name.to_owned(),
                    header: names.join(", "),
                }),
                place => Ok(place),
            },
        )
        .collect()
}

fn separated_error(error: csv::Error, path: &Path, before: usize) -> crate::DataError {
    let line = error
        .position()
        .map_or(before, |position| position.line() as usize);
    let words = error.to_string();
    match error.into_kind() {
        ErrorKind::Io(error) => lines::read_error(error, path, line),
        ErrorKind::Utf8 { err, .. } => LineFault::NotUtf8(err.valid_up_to() + 1).at(path, line),
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => LineFault::FieldCount {
            found: len,
            expected: expected_len,
        }
        .at(path, line),
        _ => LineFault::Row(words).at(path, line),
    }
}

/// Reads a JSON object a line.
pub(super) fn json_lines(mut lines: Lines, wanted: &[Wanted], each: &mut EachRow) -> Result<()> {
    let mut values = vec![None; wanted.len()];
    while let Some(line) = lines.next()? {
        let object: Map<String, Value> = match serde_json::from_str(line) {
            Ok(object) => object,
            Err(error) => return Err(lines.at(json_fault(&error))),
        };
        for (value, column) in values.iter_mut().zip(wanted) {
            *value =
                json_cell(object.get(column.name), column.name).map_err(|fault| lines.at(fault))?;
        }
        each(&values, lines.number()).map_err(|fault| lines.at(fault))?;
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
        message: message.to_owned(),
    }
}

fn json_cell(value: Option<&Value>, field: &str) -> std::result::Result<Option<Cell>, LineFault> {
    Ok(Some(match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => Cell::Text(text.clone()),
        Some(Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Cell::Int(int),
            (None, Some(float)) => Cell::Float(float),
            (None, None) => Cell::Text(number.to_string()),
        },
        Some(Value::Array(parts)) => Cell::List(
            parts
                .iter()
                .map(|part| match part {
                    Value::String(text) => Ok(text.clone()),
                    Value::Number(id) if id.is_i64() || id.is_u64() => Ok(id.to_string()),
                    other => Err(LineFault::bad(
                        field,
                        other,
                        "a list of texts or whole numbers",
                    )),
                })
                .collect::<std::result::Result<_, _>>()?,
        ),
        Some(other) => {
            return Err(LineFault::bad(field, other, "text, a number, or a list"));
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = Vec<Option<Cell>>;

    fn table(
        name: &str,
        content: &[u8],
        wanted: &[&str],
    ) -> std::result::Result<Vec<(usize, Row)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let wanted: Vec<Wanted> = wanted
            .iter()
            .map(|name| Wanted {
                name,
                required: *name != "maybe",
            })
            .collect();
        let kind = if name.ends_with(".inter") {
            Kind::Atomic
        } else {
            Kind::of(&path).unwrap()
        };
        let mut rows = Vec::new();
        read(&path, kind, &wanted, &mut |row, line| {
            rows.push((line, row.to_vec()));
            Ok(())
        })
        .map(|()| rows)
        .map_err(|error| error.to_string())
    }

    fn text(s: &str) -> Option<Cell> {
        Some(Cell::Text(s.to_owned()))
    }

    #[test]
    fn every_kind_gives_the_same_rows() {
        let wanted = ["item", "user", "maybe"];
        let expected = |a: &str, b: &str| vec![text(a), text(b), None];
        for (name, content) in [
            ("a.csv", "\u{feff}user,item,x\nu1,\"i,1\",\nu2,i2,3\n"),
            ("a.tsv", "user\titem\tx\r\nu1\ti,1\t\r\nu2\ti2\t3\r\n"),
            (
                "a.inter",
                "user:token\titem:token\tx:float\nu1\ti,1\t\nu2\ti2\t3\n",
            ),
        ] {
            let rows = table(name, content.as_bytes(), &wanted).unwrap();
            assert_eq!(
                rows,
                [(2, expected("i,1", "u1")), (3, expected("i2", "u2"))],
                "{name}"
            );
        }
        let lines = "{\"user\": \"u1\", \"item\": \"i,1\"}\n{\"item\": \"i2\", \"user\": \"u2\", \"maybe\": null}\n";
        assert_eq!(
            table("a.jsonl", lines.as_bytes(), &wanted).unwrap(),
            [(1, expected("i,1", "u1")), (2, expected("i2", "u2"))]
        );
    }

    #[test]
    fn sequences_and_json_types() {
        let rows = table("a.inter", b"c:token_seq\nDrama  Sci-Fi\n", &["c"]).unwrap();
        assert_eq!(
            rows[0].1[0],
            Some(Cell::List(vec!["Drama".into(), "Sci-Fi".into()]))
        );
        let rows = table(
            "a.jsonl",
            b"{\"a\": 7, \"b\": 1.5, \"c\": [\"x\", \"y\"], \"d\": \" \"}",
            &["a", "b", "c", "d"],
        )
        .unwrap();
        let list = Cell::List(vec!["x".into(), "y".into()]);
        assert_eq!(
            rows[0].1,
            [Some(Cell::Int(7)), Some(Cell::Float(1.5)), Some(list), None]
        );
    }

    #[test]
    fn faults_name_file_and_line() {
        for (name, content, words) in [
            (
                "a.csv",
                &b"user,thing\nu,i\n"[..],
                "a.csv:1: no column `item`; the header has user, thing",
            ),
            (
                "a.csv",
                b"user,item\nu,i\nu\n",
                "a.csv:3: 1 fields where the header has 2",
            ),
            ("a.csv", b"user,item\nu,\"i\nj\"\nu\n", "a.csv:4: 1 fields"),
            (
                "a.tsv",
                b"user\titem\nu\t\xff\n",
                "a.tsv:2: byte 1 of the line is not UTF-8",
            ),
            (
                "a.inter",
                b"user:token\titem\n",
                "a.inter:1: header field `item`",
            ),
            (
                "a.jsonl",
                b"{\"user\": 1, \"item\": 2}\n{\"user\": \n",
                "a.jsonl:2: column",
            ),
            (
                "a.jsonl",
                b"{\"user\": {}, \"item\": 2}\n",
                "a.jsonl:1: field `user` is `{}`",
            ),
            ("a.jsonl", b"[1]\n", "a.jsonl:1: column"),
            ("a.csv", b"", "a.csv: the file is empty"),
        ] {
            let message = table(name, content, &["user", "item"]).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
        assert!(
            Kind::of(Path::new("a.xlsx"))
                .unwrap_err()
                .to_string()
                .contains("a.xlsx: what the table")
        );
        assert_eq!(Kind::of(Path::new("a.CSV.gz")).unwrap(), Kind::Csv);
    }
}
