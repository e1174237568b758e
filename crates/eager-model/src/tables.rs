//! The tables of a model that have a row for each item or token, apart from the rest: what changes when the catalogue does.

use candle_core::{Device, Result, Tensor};

use crate::{Catalogue, Eager, ItemTable, PerStream, Stream, Weights};

/// The rows that a model has for items and tokens, each `d_model` wide, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tables {
    /// The encoder's tables of items, `[n_items, d]`: one, or with [`ItemTable::PerStream`]
    /// behaviour's and the semantic stream's.
    pub items: Vec<Vec<f32>>,
    /// Embeddings of the nodes of a stream's trie, `[nodes, d]`, without the special tokens.
    pub tokens: PerStream<Vec<f32>>,
}

const ITEMS: &str = "encoder.items";

fn tokens(stream: Stream) -> String {
    format!("{}.tokens", stream.name())
}

impl Eager {
    /// A copy of the tables.
    ///
    /// # Errors
    /// When the device fails.
    pub fn tables(&self) -> Result<Tables> {
        let saved = self.parameters().tensors();
        let rows = |name: &str| saved[name].flatten_all()?.to_vec1::<f32>();
        let items = rows(ITEMS)?;
        let tables = match self.config().items {
            ItemTable::Shared => 1,
            ItemTable::PerStream => 2,
        };
        let tokens = PerStream::try_from_fn(|stream| {
            let mut rows = rows(&tokens(stream))?;
            rows.truncate(rows.len() - self.special_rows(stream)?.elem_count());
            Ok::<_, candle_core::Error>(rows)
        })?;
        Ok(Tables {
            items: items
                .chunks_exact(items.len() / tables)
                .map(<[f32]>::to_vec)
                .collect(),
            tokens,
        })
    }

    /// Overwrites the tables, before training. The special tokens stay.
    ///
    /// # Errors
    /// When the tables have not the model's numbers of rows.
    pub fn set_tables(&self, tables: &Tables) -> Result<()> {
        let set = |name: &str, rows: Tensor| self.parameters().set_one(name, &rows);
        let d = self.config().d_model;
        let matrix = |rows: &[f32]| Tensor::from_slice(rows, (rows.len() / d, d), &Device::Cpu);
        set(ITEMS, matrix(&tables.items.concat())?)?;
        for stream in Stream::ALL {
            let specials = self.special_rows(stream)?.to_device(&Device::Cpu)?;
            let rows = Tensor::cat(&[&matrix(&tables.tokens[stream])?, &specials], 0)?;
            set(&tokens(stream), rows)?;
        }
        Ok(())
    }

    /// A model for inference with the same parameters but for the tables, which are of another `catalogue`. The special
    /// tokens stay.
    ///
    /// # Errors
    /// When the tables are not of that catalogue, or its codes have other numbers of levels or its vectors other widths.
    pub fn with_tables(&self, catalogue: &Catalogue<'_>, tables: Tables) -> Result<Self> {
        let d = self.config().d_model;
        let mut saved = self.parameters().tensors();
        let device: Device = saved[ITEMS].device().clone();
        let items = tables.items.concat();
        let shape = (items.len() / d, d);
        saved.insert(ITEMS.to_owned(), Tensor::from_vec(items, shape, &device)?);
        for stream in Stream::ALL {
            let specials = self.special_rows(stream)?;
            let rows = &tables.tokens[stream];
            let rows = Tensor::from_slice(rows, (rows.len() / d, d), &device)?;
            saved.insert(tokens(stream), Tensor::cat(&[&rows, &specials], 0)?);
        }
        let weights = Weights::saved(saved, &device).frozen();
        Self::new(self.config(), catalogue, weights)
    }
}
