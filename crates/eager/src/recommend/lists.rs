//! Lists in JSON lines, CSV and Parquet, and as text to read.

use std::io::{BufWriter, Write};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use eager_bundle::{Bundle, CodePath, Explanation, Ranked};
use eager_data::UserHistory;
use eager_model::{PerStream, Stream};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde::{Deserialize, Serialize};

/// Rows of a Parquet row group, about.
const GROUP: usize = 1 << 17;

/// What lists are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A JSON object a user
    Jsonl,
    /// A row an item, with a header
    Csv,
    /// A row an item, compressed with zstd
    Parquet,
}

impl Format {
    /// Its name, which is the extension of its files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

/// One user's list.
pub(super) struct UserList {
    /// Whose. Without a name where there is one history only.
    pub(super) user: UserHistory,
    pub(super) ranked: Vec<Ranked>,
    /// Aligned with `ranked`; empty where it was not asked for.
    pub(super) explained: Vec<Explained>,
}

/// Why an item is in a list.
#[derive(Serialize)]
pub(super) struct Explained {
    /// The stream whose prediction put it there: of two, the one that was surer.
    stream: &'static str,
    /// Probability that the stream gives the item's code.
    confidence: f32,
    behaviour: Code,
    semantic: Code,
}

/// An item's code in one stream.
#[derive(Serialize)]
struct Code {
    log_prob: f32,
    tokens: Vec<Token>,
}

#[derive(Serialize)]
struct Token {
    /// Which of its siblings, from 0.
    token: u32,
    log_prob: f32,
}

impl Explained {
    pub(super) fn new(ranked: &Ranked, explanation: &Explanation) -> Self {
        let streams = &explanation.streams;
        let predicted = PerStream {
            behaviour: ranked.behaviour,
            semantic: ranked.semantic,
        };
        // A missing one is less than any other.
        let stream = match predicted.semantic > predicted.behaviour {
            true => Stream::Semantic,
            false => Stream::Behaviour,
        };
        let code = |path: &CodePath| Code {
            log_prob: path.log_prob,
            tokens: path
                .tokens
                .iter()
                .map(|token| Token {
                    token: token.ordinal,
                    log_prob: token.log_prob,
                })
                .collect(),
        };
        Self {
            stream: stream.name(),
            confidence: streams[stream].log_prob.exp(),
            behaviour: code(&streams.behaviour),
            semantic: code(&streams.semantic),
        }
    }
}

impl Code {
    /// `12 4 7`
    fn tokens(&self) -> String {
        let tokens = self.tokens.iter().map(|token| token.token.to_string());
        tokens.collect::<Vec<_>>().join(" ")
    }

    /// `-0.5 -1.25 -0.1`, aligned with the tokens.
    fn log_probs(&self) -> String {
        let tokens = self.tokens.iter().map(|token| token.log_prob.to_string());
        tokens.collect::<Vec<_>>().join(" ")
    }
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    items: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    behaviour: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    semantic: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<&'a Explained>,
}

impl UserList {
    fn line<'a>(&'a self, bundle: &'a Bundle) -> Line<'a> {
        let listed = |(place, ranked): (usize, &Ranked)| {
            let item = &bundle.items()[ranked.item as usize];
            Listed {
                id: &item.id,
                title: item.title.as_deref(),
                score: ranked.score,
                behaviour: ranked.behaviour,
                semantic: ranked.semantic,
                explanation: self.explained.get(place),
            }
        };
        Line {
            user: &self.user.user,
            items: self.ranked.iter().enumerate().map(listed).collect(),
        }
    }

    /// To read.
    pub(super) fn table(&self, bundle: &Bundle) -> String {
        let items = self.line(bundle).items;
        let width = items.iter().map(|item| item.id.len()).max().unwrap_or(0);
        let log_prob = |value: Option<f32>| value.map_or("–".to_owned(), |v| format!("{v:.2}"));
        let mut text = format!(
            "{:>4}  {:width$}  {:>9}  {:>8}  title\n",
            "rank", "item", "behaviour", "semantic"
        );
        for (rank, item) in (1..).zip(items) {
            text += &format!(
                "{rank:>4}  {:width$}  {:>9}  {:>8}  {}\n",
                item.id,
                log_prob(item.behaviour),
                log_prob(item.semantic),
                item.title.unwrap_or("")
            );
            if let Some(why) = item.explanation {
                text += &format!(
                    "      by {}, confidence {:.4}\n",
                    why.stream, why.confidence
                );
                for (name, code) in [("behaviour", &why.behaviour), ("semantic", &why.semantic)] {
                    let tokens = code.tokens.iter();
                    let tokens: Vec<String> = tokens
                        .map(|token| format!("{} ({:.2})", token.token, token.log_prob))
                        .collect();
                    let (tokens, sum) = (tokens.join(" "), code.log_prob);
                    text += &format!("      {name:<9} {tokens}, together {sum:.2}\n");
                }
            }
        }
        text
    }
}

/// Writes lists in a format. What is written is the same however they are handed over.
pub(super) enum ListWriter<W: Write + Send> {
    Jsonl(BufWriter<W>),
    Csv {
        writer: csv::Writer<W>,
        explain: bool,
    },
    Parquet {
        writer: SerializedFileWriter<W>,
        rows: Columns,
    },
}

const COLUMNS: [&str; 6] = ["user", "rank", "item", "score", "behaviour", "semantic"];
const EXPLAINED: [&str; 6] = [
    "stream",
    "confidence",
    "behaviour_code",
    "behaviour_log_probs",
    "semantic_code",
    "semantic_log_probs",
];

impl<W: Write + Send> ListWriter<W> {
    /// `explain`: whether the lists are explained.
    pub(super) fn new(format: Format, out: W, explain: bool) -> Result<Self> {
        Ok(match format {
            Format::Jsonl => Self::Jsonl(BufWriter::new(out)),
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                let more = EXPLAINED.iter().filter(|_| explain);
                writer.write_record(COLUMNS.iter().chain(more))?;
                Self::Csv { writer, explain }
            }
            Format::Parquet => {
                let rows = Columns::new(explain);
                let schema = Arc::new(parse_message_type(&rows.schema())?);
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .build();
                let writer = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
                Self::Parquet { writer, rows }
            }
        })
    }

    /// Adds lists; says how many rows (in JSON lines: lines) they are.
    pub(super) fn write(&mut self, bundle: &Bundle, lists: &[UserList]) -> Result<u64> {
        let items = lists.iter().map(|list| list.ranked.len()).sum::<usize>() as u64;
        match self {
            Self::Jsonl(out) => {
                for list in lists {
                    serde_json::to_writer(&mut *out, &list.line(bundle)).context("lists")?;
                    out.write_all(b"\n").context("lists")?;
                }
                out.flush().context("lists")?;
                return Ok(lists.len() as u64);
            }
            Self::Csv { writer, explain } => {
                for list in lists {
                    for (place, item) in list.line(bundle).items.iter().enumerate() {
                        let float = |value: f32| value.to_string();
                        let maybe = |value: Option<f32>| value.map_or(String::new(), float);
                        writer.write_field(&list.user.user)?;
                        writer.write_field((place + 1).to_string())?;
                        writer.write_field(item.id)?;
                        writer.write_field(float(item.score))?;
                        writer.write_field(maybe(item.behaviour))?;
                        writer.write_field(maybe(item.semantic))?;
                        if let Some(why) = item.explanation.filter(|_| *explain) {
                            writer.write_field(why.stream)?;
                            writer.write_field(float(why.confidence))?;
                            for code in [&why.behaviour, &why.semantic] {
                                writer.write_field(code.tokens())?;
                                writer.write_field(code.log_probs())?;
                            }
                        }
                        writer.write_record(None::<&[u8]>)?;
                    }
                }
                writer.flush().context("lists")?;
            }
            Self::Parquet { writer, rows } => {
                for list in lists {
                    rows.push(bundle, list);
                    if rows.rank.len() >= GROUP {
                        rows.flush(writer)?;
                    }
                }
            }
        }
        Ok(items)
    }

    /// Ends the file and gives it back.
    pub(super) fn finish(self) -> Result<W> {
        match self {
            Self::Jsonl(out) => Ok(out.into_inner().map_err(|e| e.into_error())?),
            Self::Csv { writer, .. } => Ok(writer.into_inner().map_err(|e| e.into_error())?),
            Self::Parquet {
                mut writer,
                mut rows,
            } => {
                rows.flush(&mut writer)?;
                Ok(writer.into_inner()?)
            }
        }
    }
}

/// Rows of a Parquet file not yet written, a column each.
#[derive(Default)]
pub(super) struct Columns {
    user: Vec<ByteArray>,
    rank: Vec<i32>,
    item: Vec<ByteArray>,
    score: Vec<f32>,
    behaviour: Maybe,
    semantic: Maybe,
    explained: Option<ExplainedColumns>,
}

#[derive(Default)]
struct ExplainedColumns {
    confidence: Vec<f32>,
    /// Those of [`EXPLAINED`] that are text, in its order.
    texts: [Vec<ByteArray>; 5],
}

/// A column that may lack values: those that are there, and for every row whether one is.
#[derive(Default)]
struct Maybe {
    values: Vec<f32>,
    levels: Vec<i16>,
}

impl Maybe {
    fn push(&mut self, value: Option<f32>) {
        self.values.extend(value);
        self.levels.push(i16::from(value.is_some()));
    }
}

impl Columns {
    fn new(explain: bool) -> Self {
        Self {
            explained: explain.then(ExplainedColumns::default),
            ..Self::default()
        }
    }

    /// In Parquet's own words.
    fn schema(&self) -> String {
        let more = EXPLAINED.iter().filter(|_| self.explained.is_some());
        let mut text = "message lists {".to_owned();
        for name in COLUMNS.iter().chain(more) {
            text += &match *name {
                "rank" => format!(" required int32 {name};"),
                "score" | "confidence" => format!(" required float {name};"),
                "behaviour" | "semantic" => format!(" optional float {name};"),
                _ => format!(" required binary {name} (STRING);"),
            };
        }
        text + " }"
    }

    fn push(&mut self, bundle: &Bundle, list: &UserList) {
        let user = ByteArray::from(list.user.user.as_bytes().to_vec());
        for (place, ranked) in list.ranked.iter().enumerate() {
            let item = &bundle.items()[ranked.item as usize].id;
            self.user.push(user.clone());
            self.rank.push(place as i32 + 1);
            self.item.push(item.as_str().into());
            self.score.push(ranked.score);
            self.behaviour.push(ranked.behaviour);
            self.semantic.push(ranked.semantic);
            if let (Some(columns), Some(why)) = (&mut self.explained, list.explained.get(place)) {
                columns.confidence.push(why.confidence);
                let texts = [
                    why.stream.to_owned(),
                    why.behaviour.tokens(),
                    why.behaviour.log_probs(),
                    why.semantic.tokens(),
                    why.semantic.log_probs(),
                ];
                for (column, text) in columns.texts.iter_mut().zip(texts) {
                    column.push(text.into_bytes().into());
                }
            }
        }
    }

    /// Writes the rows as a group, if there are any, and forgets them.
    fn flush<W: Write + Send>(&mut self, writer: &mut SerializedFileWriter<W>) -> Result<()> {
        if self.rank.is_empty() {
            return Ok(());
        }
        let mut group = writer.next_row_group()?;
        column::<ByteArrayType, W>(&mut group, &self.user, None)?;
        column::<Int32Type, W>(&mut group, &self.rank, None)?;
        column::<ByteArrayType, W>(&mut group, &self.item, None)?;
        column::<FloatType, W>(&mut group, &self.score, None)?;
        for of in [&self.behaviour, &self.semantic] {
            column::<FloatType, W>(&mut group, &of.values, Some(&of.levels))?;
        }
        if let Some(explained) = &self.explained {
            let [stream, texts @ ..] = &explained.texts;
            column::<ByteArrayType, W>(&mut group, stream, None)?;
            column::<FloatType, W>(&mut group, &explained.confidence, None)?;
            for texts in texts {
                column::<ByteArrayType, W>(&mut group, texts, None)?;
            }
        }
        group.close()?;
        *self = Self::new(self.explained.is_some());
        Ok(())
    }
}

fn column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<()> {
    let column = group.next_column()?;
    let mut column = column.context("the schema has fewer columns than rows have values")?;
    column.typed::<T>().write_batch(values, levels, None)?;
    column.close()?;
    Ok(())
}
