//! Lists in JSON lines, CSV and Parquet, and as text to read.

use std::io::{BufWriter, Write};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use eager_bundle::{Bundle, CodePath, Explanation, Ranked};
use eager_data::UserHistory;
use parquet::file::writer::SerializedFileWriter;
use serde::{Deserialize, Serialize};

use super::columns::Columns;

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
    /// What predicted it: a stream, or `direct` for the direct head; of several, the one that was surest.
    pub(super) stream: &'static str,
    /// The probability that it gives the item.
    pub(super) confidence: f32,
    pub(super) behaviour: Code,
    pub(super) semantic: Code,
}

/// An item's code in one stream.
#[derive(Serialize)]
pub(super) struct Code {
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
        let (stream, log_prob) = match ranked.surest() {
            Some(stream) => (stream.name(), streams[stream].log_prob),
            None => ("direct", ranked.direct.unwrap_or_default()),
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
            stream,
            confidence: log_prob.exp(),
            behaviour: code(&streams.behaviour),
            semantic: code(&streams.semantic),
        }
    }
}

impl Code {
    /// `12 4 7`
    pub(super) fn tokens(&self) -> String {
        let tokens = self.tokens.iter().map(|token| token.token.to_string());
        tokens.collect::<Vec<_>>().join(" ")
    }

    /// `-0.5 -1.25 -0.1`, aligned with the tokens.
    pub(super) fn log_probs(&self) -> String {
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
    direct: Option<f32>,
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
                direct: ranked.direct,
                explanation: self.explained.get(place),
            }
        };
        Line {
            user: &self.user.user,
            items: self.ranked.iter().enumerate().map(listed).collect(),
        }
    }

    /// To read.
    pub(super) fn table(&self, bundle: &Bundle, shape: Shape) -> String {
        let items = self.line(bundle).items;
        let width = items.iter().map(|item| item.id.len()).max().unwrap_or(0);
        let log_prob = |value: Option<f32>| value.map_or("–".to_owned(), |v| format!("{v:.2}"));
        let direct = |cell: String| {
            if shape.direct {
                format!("{cell:>6}  ")
            } else {
                String::new()
            }
        };
        let mut text = format!(
            "{:>4}  {:width$}  {:>9}  {:>8}  {}title\n",
            "rank",
            "item",
            "behaviour",
            "semantic",
            direct("direct".to_owned())
        );
        for (rank, item) in (1..).zip(items) {
            text += &format!(
                "{rank:>4}  {:width$}  {:>9}  {:>8}  {}{}\n",
                item.id,
                log_prob(item.behaviour),
                log_prob(item.semantic),
                direct(log_prob(item.direct)),
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
        shape: Shape,
    },
    Parquet {
        writer: SerializedFileWriter<W>,
        rows: Box<Columns>,
    },
}

/// What there is to say of an item.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    /// Whether the model has a direct head.
    pub(super) direct: bool,
    /// Whether the lists are explained.
    pub(super) explain: bool,
}

impl Shape {
    /// Names of the columns of a row an item.
    pub(super) fn columns(self) -> impl Iterator<Item = &'static str> {
        let always = ["user", "rank", "item", "score", "behaviour", "semantic"];
        let direct = self.direct.then_some("direct");
        let explained = [
            "stream",
            "confidence",
            "behaviour_code",
            "behaviour_log_probs",
            "semantic_code",
            "semantic_log_probs",
        ];
        let explained = explained.into_iter().filter(move |_| self.explain);
        always.into_iter().chain(direct).chain(explained)
    }
}

impl<W: Write + Send> ListWriter<W> {
    pub(super) fn new(format: Format, out: W, shape: Shape) -> Result<Self> {
        Ok(match format {
            Format::Jsonl => Self::Jsonl(BufWriter::new(out)),
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(shape.columns())?;
                Self::Csv { writer, shape }
            }
            Format::Parquet => {
                let rows = Box::new(Columns::new(shape));
                let writer = rows.writer(out)?;
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
            Self::Csv { writer, shape } => {
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
                        if shape.direct {
                            writer.write_field(maybe(item.direct))?;
                        }
                        if let Some(why) = item.explanation.filter(|_| shape.explain) {
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
                    if rows.len() >= GROUP {
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
