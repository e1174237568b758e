//! Lists as the columns of a Parquet file, a row group at a time.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use eager_bundle::Bundle;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::lists::{Shape, UserList};

/// Rows of a Parquet file not yet written, a column each.
#[derive(Default)]
pub(super) struct Columns {
    user: Vec<ByteArray>,
    rank: Vec<i32>,
    item: Vec<ByteArray>,
    score: Vec<f32>,
    behaviour: Maybe,
    semantic: Maybe,
    direct: Maybe,
    shape: Shape,
    explained: ExplainedColumns,
}

#[derive(Default)]
struct ExplainedColumns {
    confidence: Vec<f32>,
    /// Those that are text, in their order.
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
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            shape,
            ..Self::default()
        }
    }

    pub(super) fn writer<W: Write + Send>(&self, out: W) -> Result<SerializedFileWriter<W>> {
        let schema = Arc::new(parse_message_type(&self.schema())?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        Ok(SerializedFileWriter::new(
            out,
            schema,
            Arc::new(properties),
        )?)
    }

    /// Rows that are not written yet.
    pub(super) fn len(&self) -> usize {
        self.rank.len()
    }

    /// In Parquet's own words.
    fn schema(&self) -> String {
        let mut text = "message lists {".to_owned();
        for name in self.shape.columns() {
            text += &match name {
                "rank" => format!(" required int32 {name};"),
                "score" | "confidence" => format!(" required float {name};"),
                "behaviour" | "semantic" | "direct" => format!(" optional float {name};"),
                _ => format!(" required binary {name} (STRING);"),
            };
        }
        text + " }"
    }

    pub(super) fn push(&mut self, bundle: &Bundle, list: &UserList) {
        let user = ByteArray::from(list.user.user.as_bytes().to_vec());
        for (place, ranked) in list.ranked.iter().enumerate() {
            let item = &bundle.items()[ranked.item as usize].id;
            self.user.push(user.clone());
            self.rank.push(place as i32 + 1);
            self.item.push(item.as_str().into());
            self.score.push(ranked.score);
            self.behaviour.push(ranked.behaviour);
            self.semantic.push(ranked.semantic);
            self.direct.push(ranked.direct);
            if let Some(why) = list.explained.get(place) {
                let columns = &mut self.explained;
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
    pub(super) fn flush<W: Write + Send>(
        &mut self,
        writer: &mut SerializedFileWriter<W>,
    ) -> Result<()> {
        if self.rank.is_empty() {
            return Ok(());
        }
        let mut group = writer.next_row_group()?;
        column::<ByteArrayType, W>(&mut group, &self.user, None)?;
        column::<Int32Type, W>(&mut group, &self.rank, None)?;
        column::<ByteArrayType, W>(&mut group, &self.item, None)?;
        column::<FloatType, W>(&mut group, &self.score, None)?;
        let direct = self.shape.direct.then_some(&self.direct);
        for of in [&self.behaviour, &self.semantic].into_iter().chain(direct) {
            column::<FloatType, W>(&mut group, &of.values, Some(&of.levels))?;
        }
        if self.shape.explain {
            let explained = &self.explained;
            let [stream, texts @ ..] = &explained.texts;
            column::<ByteArrayType, W>(&mut group, stream, None)?;
            column::<FloatType, W>(&mut group, &explained.confidence, None)?;
            for texts in texts {
                column::<ByteArrayType, W>(&mut group, texts, None)?;
            }
        }
        group.close()?;
        *self = Self::new(self.shape);
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
