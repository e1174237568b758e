//! Which rows meet: per sequence, every one of its candidates with every one of its positions.

use std::ops::Range;

use candle_core::Result;

use crate::Segments;

/// All (candidate, position) pairs within each sequence, packed: sequence after sequence, and in each row-major,
/// `[candidates, positions]`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pairs {
    candidates: Segments,
    positions: Segments,
    /// Number of pairs.
    len: usize,
}

/// One sequence's rows.
pub(crate) struct Block {
    pub(crate) candidates: Range<usize>,
    pub(crate) positions: Range<usize>,
    /// Where its pairs begin.
    pub(crate) start: usize,
}

impl Pairs {
    /// Pairs of the sequences with the same number.
    ///
    /// # Errors
    /// When there are more candidate sequences than position sequences, or fewer.
    pub fn new(candidates: &Segments, positions: &Segments) -> Result<Self> {
        if candidates.len() != positions.len() {
            candle_core::bail!(
                "pairs: {} sequences of candidates, {} of positions",
                candidates.len(),
                positions.len()
            )
        }
        let len = candidates
            .iter()
            .zip(positions.iter())
            .map(|(c, p)| c.len() * p.len())
            .sum();
        Ok(Self {
            candidates: candidates.clone(),
            positions: positions.clone(),
            len,
        })
    }

    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing meets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rows of each sequence's candidates.
    #[must_use]
    pub fn candidates(&self) -> &Segments {
        &self.candidates
    }

    /// Rows of each sequence's positions.
    #[must_use]
    pub fn positions(&self) -> &Segments {
        &self.positions
    }

    /// Candidate row and position row of every pair, for gathers.
    pub(crate) fn rows(&self) -> (Vec<u32>, Vec<u32>) {
        self.blocks()
            .flat_map(|b| {
                let positions = b.positions;
                b.candidates
                    .flat_map(move |c| positions.clone().map(move |t| (c as u32, t as u32)))
            })
            .unzip()
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = Block> + '_ {
        let mut start = 0;
        self.candidates
            .iter()
            .zip(self.positions.iter())
            .map(move |(candidates, positions)| {
                let block = Block {
                    start,
                    candidates,
                    positions,
                };
                start += block.candidates.len() * block.positions.len();
                block
            })
    }

    /// # Errors
    /// When the rows are not those of tensors with so many.
    pub(crate) fn check(&self, what: &str, candidates: usize, positions: usize) -> Result<()> {
        if (self.candidates.rows(), self.positions.rows()) != (candidates, positions) {
            candle_core::bail!(
                "{what}: pairs of {} candidates and {} positions for tensors of {candidates} and {positions} rows",
                self.candidates.rows(),
                self.positions.rows()
            )
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_stay_within_their_sequence() {
        let pairs = Pairs::new(
            &Segments::from_lengths(&[2, 1, 0]),
            &Segments::from_lengths(&[2, 0, 3]),
        )
        .unwrap();
        assert_eq!((pairs.len(), pairs.is_empty()), (4, false));
        assert_eq!(pairs.rows(), (vec![0, 0, 1, 1], vec![0, 1, 0, 1]));
        assert!(Pairs::new(&Segments::uniform(2, 1), &Segments::uniform(3, 1)).is_err());
        assert!(pairs.check("test", 3, 5).is_ok() && pairs.check("test", 3, 4).is_err());
    }
}
