//! Everything that can go wrong between a dataset's files and a batch, each with the place it happened and the way on.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::statistics::counted;

/// `Result` with this crate's error.
pub type Result<T> = std::result::Result<T, DataError>;

/// What went wrong while finding, reading, preparing or keeping a dataset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A line (or a row of a Parquet table) could not be used.
    #[error("{}:{line}: {fault}", .path.display())]
    Line {
        /// File being read.
        path: PathBuf,
        /// Line, counted from 1; in a Parquet table the row.
        line: usize,
        /// What is wrong with it.
        fault: LineFault,
    },
    /// The operating system refused a read or a write.
    #[error("{}: cannot {action}: {source}", .path.display())]
    Io {
        /// File or folder concerned.
        path: PathBuf,
        /// What was being tried, as a verb: "read", "create", ….
        action: &'static str,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A file without a single line.
    #[error("{}: the file is empty; fetch or write it again", .path.display())]
    Empty {
        /// The empty file.
        path: PathBuf,
    },
    /// A table that has names of columns and nothing else.
    #[error("{}: there is no row below the header; write at least one, or name another file", .path.display())]
    NoRows {
        /// The table without rows.
        path: PathBuf,
    },
    /// A file is not the one that the manifest pins.
    #[error(
        "{}: sha256 is {found}, the manifest of `{dataset}` pins {expected}; \
         fetch the file again, or correct `sha256` in the manifest if you changed the file on purpose",
        .path.display()
    )]
    Digest {
        /// The file with other content.
        path: PathBuf,
        /// Dataset whose manifest pins it.
        dataset: String,
        /// Pinned digest, lower-case hex.
        expected: String,
        /// Digest of what is there.
        found: String,
    },
    /// A table that cannot be read as what its name says it is.
    #[error("{}: {message}", .path.display())]
    Table {
        /// The table.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// What was asked for is not there, or cannot be done with so many files.
    #[error("{}: {message}", .path.display())]
    Asked {
        /// The file concerned.
        path: PathBuf,
        /// What was asked for and what there is.
        message: String,
    },
    /// A manifest that cannot be read or contradicts itself.
    #[error("{}: {message}", .path.display())]
    Manifest {
        /// The manifest (for a preset, its name).
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// Not the name of a preset, nor a file.
    #[error(
        "`{name}` is neither a preset ({presets}) nor a manifest file; name one of them or give the path of a .toml file"
    )]
    UnknownDataset {
        /// What was asked for.
        name: String,
        /// The presets, comma-separated.
        presets: String,
    },
    /// Preparation settings outside their range, or that contradict the source.
    #[error("preparation: {0}")]
    Prepare(String),
    /// No source of the manifest could be had.
    #[error("dataset `{dataset}` is not to be had here:\n{tried}\n{advice}")]
    Unavailable {
        /// Dataset asked for.
        dataset: String,
        /// A line for each source: where it was looked for and what happened.
        tried: String,
        /// What to do.
        advice: String,
    },
    /// A file could not be fetched over HTTP.
    #[error("{url}: {message}")]
    Download {
        /// Where from.
        url: String,
        /// What happened and what to do.
        message: String,
    },
    /// A package could not be fetched with `pip download`, or does not hold what it should.
    #[error("{requirement}: {message}")]
    Package {
        /// The pinned requirement, such as `recbole==1.2.1`.
        requirement: String,
        /// What happened and what to do.
        message: String,
    },
    /// The data differ from what the manifest expects.
    #[error(
        "dataset `{dataset}` is not what its manifest expects (found, expected):\n{table}\n\
         the files are of another edition or the preparation differs; use the files the manifest names, or change `[expected]`"
    )]
    Statistics {
        /// Dataset read.
        dataset: String,
        /// Found and expected figures side by side.
        table: String,
    },
    /// The k-core filter left nothing.
    #[error(
        "dataset `{dataset}`: none of {} is left when every user needs {user_core} and every item {item_core}; \
         lower `user_core` or `item_core`",
        counted(.before, "interaction")
    )]
    NothingLeft {
        /// Dataset read.
        dataset: String,
        /// Least interactions of a user.
        user_core: usize,
        /// Least interactions of an item.
        item_core: usize,
        /// Interactions before filtering.
        before: usize,
    },
    /// A user too short for the leave-one-out split.
    #[error(
        "user {user} has {}; the leave-one-out split needs at least {MIN_HISTORY} \
         (one to train on, one to validate, one to test): set `user_core` to {MIN_HISTORY} or more",
        counted(.found, "interaction")
    )]
    ShortUser {
        /// Raw id of the user.
        user: String,
        /// Interactions of that user.
        found: usize,
    },
    /// Items for which no piece of the text template could be filled.
    #[error(
        "item {item}{others} no text by the template {template}; name more fields in `[text] parts` \
         or give `[text] fallback`"
    )]
    NoText {
        /// Raw id of the first such item.
        item: String,
        /// " has", or " and n others have" where there are more.
        others: String,
        /// The template's parts.
        template: String,
    },
    /// A kept dataset that is not as [`Dataset::save`](crate::Dataset::save) wrote it.
    #[error("{}: {message}; delete the folder and run the data stage again", .path.display())]
    Kept {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// Fewest interactions of a user that a leave-one-out split can use.
pub const MIN_HISTORY: usize = 3;

/// What is wrong with one line; [`DataError::Line`] says which.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineFault {
    /// A gzip stream that stops in the middle.
    #[error(
        "the gzip stream ends in the middle of this line; the file was cut short: delete it and fetch it again"
    )]
    TruncatedGzip,
    /// A gzip stream with a wrong checksum or broken codes.
    #[error("damaged gzip data ({0}); delete the file and fetch it again")]
    DamagedGzip(String),
    /// Bytes that are no UTF-8.
    #[error(
        "byte {0} of the line is not UTF-8; convert the file to UTF-8 (for instance with iconv)"
    )]
    NotUtf8(usize),
    /// Not the JSON expected.
    #[error("column {column}: {message}; expected one JSON object a line")]
    Json {
        /// Column, from 1.
        column: usize,
        /// The parser's words.
        message: String,
    },
    /// Not a Python literal.
    #[error("column {column}: {message}; expected one Python literal (a dict) a line")]
    Python {
        /// Column in bytes, from 1.
        column: usize,
        /// What was expected there.
        message: String,
    },
    /// A required field is absent.
    #[error("field `{0}` is missing; complete the line or remove it")]
    MissingField(String),
    /// A field that holds something else than it should.
    #[error("field `{field}` is `{found}`, expected {expected}; correct or remove the line")]
    BadField {
        /// Name of the field.
        field: String,
        /// What it holds.
        found: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A header without a column that the manifest names.
    #[error(
        "no column `{column}`; the header has {header}: rename one, or correct `columns` where a manifest names it"
    )]
    MissingColumn {
        /// The column asked for.
        column: String,
        /// The columns there are.
        header: String,
    },
    /// A table of histories whose header is of something else.
    #[error(
        "the header has {header}; a table of users has `user` and `history` (ids, oldest first), or `user` and `item` (one id \
         a row, a user's rows together){own}: rename its columns"
    )]
    NoHistories {
        /// The columns there are.
        header: String,
        /// Other names that would do.
        own: String,
    },
    /// A row of a table of histories that names no item, or is of the other form than the rows above.
    #[error(
        "no item in `history` or `item`; a row needs `user` and `history` (ids, oldest first), or, of every row, \
         `user` and `item` (one id): complete or remove it"
    )]
    NoHistory,
    /// A user with two histories, or whose interactions do not stand together.
    #[error(
        "user {0} is further up already; with `history` a user has one row, with `item` all rows together, oldest first: \
         join or sort them"
    )]
    SplitUser(String),
    /// A row of another width than the header.
    #[error("{} where the header has {expected}; correct the row", counted(.found, "field"))]
    FieldCount {
        /// Fields of the row.
        found: u64,
        /// Fields of the header.
        expected: u64,
    },
    /// A quoted field without its end.
    #[error(
        "the quote opened in this line is not closed; close it, or double it where it belongs to the text (\"\")"
    )]
    OpenQuote,
    /// A row that the table's reader refuses for another reason.
    #[error("{0}; correct the row")]
    Row(String),
    /// A header field of an atomic file without `:type`, or with one that does not exist.
    #[error(
        "header field `{0}` is not `name:type` with type token, token_seq, float or float_seq, as RecBole atomic files have it"
    )]
    AtomicHeader(String),
    /// An interaction with an item that has no line among the items.
    #[error("item {item} is not in {items}; remove the interaction or add the item")]
    UnknownItem {
        /// The item as written.
        item: String,
        /// File of the items.
        items: String,
    },
    /// Two lines for one item.
    #[error("item {item} is already on line {first}; keep one of the two lines")]
    DuplicateItem {
        /// Raw id.
        item: String,
        /// Line of its first appearance.
        first: usize,
    },
    /// Ids that do not count up from 1.
    #[error(
        "id is {found}, expected {expected}: ids count up from 1, a line each; put the lines in order"
    )]
    OutOfOrder {
        /// Id as written.
        found: String,
        /// Id that this line must have.
        expected: usize,
    },
    /// A user too short for the split, in a form that must already be filtered.
    #[error(
        "user {user} has {}, the leave-one-out split needs {MIN_HISTORY} or more; remove the user",
        counted(.found, "interaction")
    )]
    ShortUser {
        /// The user as written.
        user: String,
        /// Interactions on the line.
        found: usize,
    },
    /// Two aligned files that do not agree.
    #[error(
        "{} for user {user}, but {expected} in {other}; both files must list the same interactions",
        counted(.found, "value")
    )]
    Misaligned {
        /// The user as written.
        user: String,
        /// Values on this line.
        found: usize,
        /// Values on the same line of the other file.
        expected: usize,
        /// The other file.
        other: String,
    },
    /// A file that stops before the one it is aligned with.
    #[error(
        "the file ends here, but {other} has {}; both files must have a line a user",
        counted(.expected, "line")
    )]
    TooFewLines {
        /// Lines of the other file.
        expected: usize,
        /// The other file.
        other: String,
    },
}

impl LineFault {
    /// What is wrong in a few words, without what is peculiar to the line.
    pub(crate) fn kind(&self) -> String {
        match self {
            LineFault::TruncatedGzip => "cut short",
            LineFault::DamagedGzip(_) => "damaged",
            LineFault::NotUtf8(_) => "not UTF-8",
            LineFault::Json { .. } => "no JSON object",
            LineFault::MissingField(field) => return format!("field `{field}` is missing"),
            LineFault::BadField { field, .. } => return format!("field `{field}` cannot be read"),
            LineFault::FieldCount { .. } => "wrong number of fields",
            LineFault::OpenQuote => "quote left open",
            LineFault::DuplicateItem { .. } => "item twice",
            _ => "row cannot be read",
        }
        .to_owned()
    }

    /// The fault at its place.
    pub(crate) fn at(self, path: &Path, line: usize) -> DataError {
        DataError::Line {
            path: path.to_owned(),
            line,
            fault: self,
        }
    }

    /// A field that holds `found` where `expected` should be; long values are cut to a readable length.
    pub(crate) fn bad(field: &str, found: impl fmt::Display, expected: &'static str) -> Self {
        let mut found = found.to_string();
        if let Some((cut, _)) = found.char_indices().nth(80) {
            found.truncate(cut);
            found.push('…');
        }
        LineFault::BadField {
            field: field.to_owned(),
            found,
            expected,
        }
    }
}

impl DataError {
    /// Wraps an I/O error with what was being done to which path.
    pub(crate) fn io<'a>(
        path: &'a Path,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> DataError + 'a {
        move |source| DataError::Io {
            path: path.to_owned(),
            action,
            source,
        }
    }
}
