//! Rows of a table with named columns, whatever it is written in: CSV, TSV, RecBole atomic, JSON lines, Parquet.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::lines::{self, Lines};
use super::{json, separated, table_error};
use crate::Result;
use crate::error::LineFault;

/// What a table is written in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Separated by this byte, quoted as in RFC 4180.
    Csv(u8),
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
        let (name, packed) = lines::name(path);
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("csv") => Ok(Kind::Csv(b',')),
            Some("tsv") => Ok(Kind::Tsv),
            Some("inter" | "item") => Ok(Kind::Atomic),
            Some("jsonl" | "ndjson") => Ok(Kind::Jsonl),
            Some("parquet") if !packed => Ok(Kind::Parquet),
            _ => Err(table_error(
                path,
                "what the table is written in is told by its name; call it .csv, .tsv, .jsonl, .inter, .item (each also .gz) or .parquet",
            )),
        }
    }

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Csv(_) => "CSV",
            Kind::Tsv => "TSV",
            Kind::Atomic => "RecBole",
            Kind::Jsonl => "JSON lines",
            Kind::Parquet => "Parquet",
        }
    }
}

/// A table and what it is written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableFile {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
}

impl TableFile {
    /// Told by the delimiter where one is named, else by the file's name.
    ///
    /// # Errors
    /// As [`Kind::of`]; for a delimiter beyond ASCII.
    pub(crate) fn new(path: &Path, delimiter: Option<char>) -> Result<Self> {
        let kind = match delimiter.map(u8::try_from) {
            None => Kind::of(path)?,
            Some(Ok(byte)) => Kind::Csv(byte),
            Some(Err(_)) => {
                return Err(table_error(path, "`delimiter` must be one ASCII character"));
            }
        };
        Ok(Self {
            path: path.to_owned(),
            kind,
        })
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
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self {
            Cell::Text(text) => text.into(),
            Cell::Int(number) => number.to_string().into(),
            Cell::Float(number) => number.to_string().into(),
            Cell::List(parts) => parts.join(" ").into(),
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

    /// Whether it is a word that exports write where a number is not known.
    pub(crate) fn is_unknown(&self) -> bool {
        let unknown = |text: &str| {
            let words = ["n/a", "na", "-", "null", "none"];
            words.iter().any(|word| text.eq_ignore_ascii_case(word))
        };
        matches!(self, Cell::Text(text) if unknown(text.trim()))
    }
}

/// The values of one row, in the order wanted, blank ones `None`; or what is wrong with a row that the reading can go on
/// after.
pub(crate) type Row<'a> = std::result::Result<&'a [Option<Cell>], LineFault>;

/// The id in column `name` of a row, without blanks around it, so that it is one id whatever the table is written in.
///
/// # Errors
/// Where there is none.
pub(super) fn id<'a>(
    row: &'a [Option<Cell>],
    place: usize,
    name: &str,
) -> std::result::Result<Cow<'a, str>, LineFault> {
    let id: Cow<'a, str> = match row.get(place).and_then(Option::as_ref) {
        Some(Cell::Text(text)) => text.trim().into(),
        Some(Cell::List(parts)) => parts.join(" ").trim().to_owned().into(),
        Some(number) => number.text(),
        None => "".into(),
    };
    match id.is_empty() {
        true => Err(LineFault::MissingField(name.to_owned())),
        false => Ok(id),
    }
}

/// Called with each row and its line (in Parquet: row); what it refuses ends the reading.
pub(crate) type EachRow<'a> = dyn FnMut(Row, usize) -> std::result::Result<(), LineFault> + 'a;

/// Hears now and then how much of a table is read: bytes (in Parquet: rows) so far, and in all.
pub(crate) type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// After so many rows the progress is told.
const STEP: usize = 1 << 15;

/// Reads every row of the table at `path`.
///
/// # Errors
/// With file and line (in Parquet: row) of what cannot be read, or of what `each` refuses.
pub(crate) fn read(
    path: &Path,
    kind: Kind,
    wanted: &[Wanted],
    progress: &mut Progress,
    each: &mut EachRow,
) -> Result<()> {
    let mut rows = 0;
    let mut counted = |meter: &dyn Fn() -> (u64, u64)| {
        rows += 1;
        if rows % STEP == 0 {
            let (done, total) = meter();
            progress(done, total);
        }
    };
    match kind {
        Kind::Csv(_) | Kind::Tsv | Kind::Atomic => {
            separated::read(path, kind, wanted, &mut counted, each)
        }
        Kind::Jsonl => {
            let lines = Lines::open(path)?;
            let meter = lines.meter().clone();
            json::read(lines, wanted, &mut |row, line| {
                counted(&|| meter.of());
                each(row, line)
            })
        }
        #[cfg(feature = "parquet")]
        Kind::Parquet => super::parquet::read(path, wanted, &mut counted, each),
        #[cfg(not(feature = "parquet"))]
        Kind::Parquet => Err(no_parquet(path)),
    }
}

#[cfg(not(feature = "parquet"))]
fn no_parquet(path: &Path) -> crate::DataError {
    table_error(
        path,
        "this build reads no Parquet; build eager-data with its feature `parquet`",
    )
}

/// Names of the columns that can be read, in order: those of the header; in JSON lines, which have none, the fields of the
/// first `look` lines.
///
/// # Errors
/// When the file cannot be read so far.
pub(crate) fn columns(table: &TableFile, look: usize) -> Result<Vec<String>> {
    let TableFile { path, kind } = table;
    match kind {
        Kind::Csv(_) | Kind::Tsv | Kind::Atomic => separated::columns(path, *kind),
        Kind::Jsonl => json::columns(path, look),
        #[cfg(feature = "parquet")]
        Kind::Parquet => super::parquet::columns(path),
        #[cfg(not(feature = "parquet"))]
        Kind::Parquet => Err(no_parquet(path)),
    }
}

/// Called once a row with what tells how far the reading is.
pub(super) type Counted<'a> = dyn FnMut(&dyn Fn() -> (u64, u64)) + 'a;

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
        let kind = Kind::of(&path).unwrap();
        let mut rows = Vec::new();
        read(&path, kind, &wanted, &mut |_, _| {}, &mut |row, line| {
            rows.push((line, row?.to_vec()));
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
        // From 2^63 on, where an `i64` ends.
        let ids = b"{\"a\": 9223372036854775808}\n{\"a\": 18446744073709551615}\n";
        assert_eq!(
            table("a.jsonl", ids, &["a"]).unwrap(),
            [
                (1, vec![text("9223372036854775808")]),
                (2, vec![text("18446744073709551615")])
            ]
        );
    }

    /// Whatever the line ends; a row of blank fields is none, and the rows below keep their lines.
    #[test]
    fn blank_lines_are_passed_over() {
        for end in ["\n", "\r\n"] {
            let content =
                ["{\"user\": \"u1\"}", "", " ", "{}", ""].map(|line| line.to_owned() + end);
            assert_eq!(
                table("a.jsonl", content.concat().as_bytes(), &["user"]).unwrap(),
                [(1, vec![text("u1")]), (4, vec![None])]
            );
            for (name, delimiter) in [("a.csv", ","), ("a.tsv", "\t")] {
                let lines = ["user,item", "", "u1,i1", "", ",", ""];
                let content = lines
                    .map(|line| line.replace(',', delimiter) + end)
                    .concat();
                assert_eq!(
                    table(name, content.as_bytes(), &["user"]).unwrap(),
                    [(3, vec![text("u1")]), (5, vec![None])],
                    "{content:?}"
                );
            }
        }
    }

    /// Whoever wants to can go on after a row at fault, and hears of the next by its own line.
    #[test]
    fn the_reading_can_go_on_after_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("a.csv", &b"user,item\nu,i\nu\nu,\xff\n\nu,\"i\nj\"\nu,i,j\nu,i\n"[..]),
            (
                "a.jsonl",
                b"{\"user\":1,\"item\":2}\n[]\n\xff\n\n{\"user\":1,\"item\":2}\n{\"user\":1}\n{\"user\":{}}\n{\"user\":1,\"item\":2}\n",
            ),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let wanted = ["user", "item"].map(|name| Wanted {
                name,
                required: true,
            });
            let (mut good, mut bad) = (vec![], vec![]);
            let kind = Kind::of(&path).unwrap();
            read(&path, kind, &wanted, &mut |_, _| {}, &mut |row, line| {
                match row {
                    Ok(_) => good.push(line),
                    Err(_) => bad.push(line),
                }
                Ok(())
            })
            .unwrap();
            match name {
                "a.csv" => assert_eq!((good, bad), (vec![2, 6, 9], vec![3, 4, 8])),
                _ => assert_eq!((good, bad), (vec![1, 5, 6, 8], vec![2, 3, 7])),
            }
        }
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
                "a.csv:3: 1 field where the header has 2",
            ),
            ("a.csv", b"user,item\nu,\"i\nj\"\nu\n", "a.csv:4: 1 field "),
            (
                "a.csv",
                b"user,item\nu,i\nu,\"i\nu,i\nu,i\n",
                "a.csv:3: the quote opened in this line is not closed",
            ),
            (
                "a.tsv",
                b"user\titem\nu\t\xff\n",
                "a.tsv:2: byte 3 of the line is not UTF-8",
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
        assert_eq!(Kind::of(Path::new("a.CSV.GZ")).unwrap(), Kind::Csv(b','));
        assert_eq!(Kind::of(Path::new("a.item.gz")).unwrap(), Kind::Atomic);
    }
}
