//! The part of a stream's token table that a pass reads. A batch reads a fraction of the tokens, a few times over; the
//! gradient of the table itself is as large as the table each time, that of the part as large as the part.

use candle_core::{Result, Tensor};
use eager_ops::{Pass, RowRanges};

/// Tokens of one stream and their embeddings.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    table: Tensor,
    /// The token of each row, ascending; without, row i is token i.
    tokens: Option<Vec<u32>>,
}

impl Vocabulary {
    /// Every token.
    pub(crate) fn all(table: &Tensor) -> Self {
        Self {
            table: table.clone(),
            tokens: None,
        }
    }

    /// Some of the rows of `table`, in any order and as often as may be.
    pub(crate) fn some(pass: Pass<'_>, table: &Tensor, mut tokens: Vec<u32>) -> Result<Self> {
        tokens.sort_unstable();
        tokens.dedup();
        Ok(Self {
            table: pass.rows(table, &tokens)?,
            tokens: Some(tokens),
        })
    }

    /// Embeddings, `[tokens, d]`.
    #[must_use]
    pub fn table(&self) -> &Tensor {
        &self.table
    }

    /// The row of the table that is `token`'s.
    ///
    /// # Errors
    /// When the vocabulary does not have it.
    pub fn row(&self, token: u32) -> Result<u32> {
        let all = self.table.dim(0)?;
        let row = match &self.tokens {
            Some(tokens) => tokens.binary_search(&token).ok(),
            None => Some(token as usize).filter(|&row| row < all),
        };
        match row {
            Some(row) => Ok(row as u32),
            None => candle_core::bail!("token {token} is not in this pass's vocabulary"),
        }
    }

    /// Ranges of tokens, and targets in them, as rows of the table.
    ///
    /// # Errors
    /// When the vocabulary does not have all of a range.
    pub fn rows(&self, of: &RowRanges) -> Result<RowRanges> {
        let mut ranges = Vec::with_capacity(of.len());
        for range in of.ranges() {
            let first = self.row(range.start)?;
            let last = self.row(range.end - 1)?;
            if last - first != range.end - 1 - range.start {
                candle_core::bail!("not all tokens of {range:?} are in this pass's vocabulary")
            }
            ranges.push(first..last + 1);
        }
        let targets = of.targets().iter().map(|&t| self.row(t));
        RowRanges::new(ranges, targets.collect::<Result<_>>()?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use eager_ops::{Dropout, Leaves, Ops};

    use super::*;

    #[test]
    fn rows_of_a_part_are_found_and_the_rest_is_refused() {
        let table = Tensor::arange(0f32, 20.0, &Device::Cpu).unwrap();
        let table = table.reshape((10, 2)).unwrap();
        for ops in [Ops::Fused, Ops::Plain] {
            let (off, leaves) = (Dropout::off(), Leaves::default());
            let pass = Pass {
                ops,
                dropout: &off,
                leaves: (ops == Ops::Fused).then_some(&leaves),
            };
            let part = Vocabulary::some(pass, &table, vec![9, 4, 5, 0, 4]).unwrap();
            assert_eq!(
                part.table().to_vec2::<f32>().unwrap(),
                [[0.0, 1.0], [8.0, 9.0], [10.0, 11.0], [18.0, 19.0]]
            );
            assert_eq!(part.row(9).unwrap(), 3);
            assert!(part.row(8).is_err());
            let rows = RowRanges::new(vec![4..6, 9..10], vec![5, 9]).unwrap();
            let rows = part.rows(&rows).unwrap();
            assert_eq!(
                (rows.ranges(), rows.targets()),
                (&[1..3, 3..4][..], &[2, 3][..])
            );
            let gap = RowRanges::new(vec![0..6, 9..10], vec![5, 9]).unwrap();
            assert!(part.rows(&gap).is_err());
        }
        let all = Vocabulary::all(&table);
        assert_eq!((all.row(8).unwrap(), all.table().dims()), (8, &[10, 2][..]));
        assert!(all.row(10).is_err());
        let rows = RowRanges::new(vec![4..6, 9..10], vec![5, 9]).unwrap();
        let same = all.rows(&rows).unwrap();
        assert_eq!(
            (same.ranges(), same.targets()),
            (rows.ranges(), rows.targets())
        );
        let beyond = RowRanges::new(vec![4..6, 8..11], vec![5, 9]).unwrap();
        assert!(all.rows(&beyond).is_err());
    }
}
