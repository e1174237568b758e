//! Where each sequence of a packed tensor begins and ends.

use std::ops::Range;
use std::sync::Arc;

/// Row ranges of packed sequences: sequence `i` holds rows `offsets[i]..offsets[i + 1]`.
///
/// Cheap to clone. Lengths may differ and may be zero.
#[derive(Clone, Debug)]
pub struct Segments {
    offsets: Arc<[u32]>,
    /// The offsets and every row's sequence on the first GPU that they were wanted on.
    #[cfg(feature = "cuda")]
    on_gpu: Arc<std::sync::OnceLock<crate::cuda::Buffer<u32>>>,
}

impl PartialEq for Segments {
    fn eq(&self, other: &Self) -> bool {
        self.offsets == other.offsets
    }
}

impl Eq for Segments {}

impl Segments {
    /// Sequences of the given lengths, one after the other.
    pub fn from_lengths(lengths: &[usize]) -> Self {
        let mut end = 0u32;
        let offsets = std::iter::once(0)
            .chain(lengths.iter().map(|&l| {
                end += l as u32;
                end
            }))
            .collect();
        Self::of(offsets)
    }

    /// `n` sequences of `length` rows each.
    pub fn uniform(n: usize, length: usize) -> Self {
        Self::of((0..=n).map(|i| (i * length) as u32).collect())
    }

    /// From offsets that start at 0 and never decrease, one more than there are sequences.
    ///
    /// # Errors
    /// When they do not.
    pub fn from_offsets(offsets: &[u32]) -> candle_core::Result<Self> {
        if offsets.first() != Some(&0) || offsets.windows(2).any(|w| w[0] > w[1]) {
            candle_core::bail!(
                "segments: offsets must start at 0 and never decrease, got {offsets:?}"
            )
        }
        Ok(Self::of(offsets.into()))
    }

    fn of(offsets: Arc<[u32]>) -> Self {
        Self {
            offsets,
            #[cfg(feature = "cuda")]
            on_gpu: Arc::default(),
        }
    }

    /// The offsets and every row's sequence in GPU memory.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_gpu(
        &self,
        gpu: &crate::cuda::Gpu,
    ) -> candle_core::Result<(crate::cuda::At, crate::cuda::At)> {
        let buffer = match self.on_gpu.get() {
            Some(buffer) => buffer,
            None => {
                let owners = self.iter().enumerate();
                let owners = owners.flat_map(|(s, rows)| rows.map(move |_| s as u32));
                let all: Vec<u32> = self.offsets.iter().copied().chain(owners).collect();
                let buffer = gpu.upload(&all)?;
                self.on_gpu.get_or_init(|| buffer)
            }
        };
        if !buffer.is_on(gpu) {
            candle_core::bail!("segments: used on a second GPU; make them anew for it")
        }
        Ok((buffer.at(), buffer.at().plus(self.offsets.len())))
    }

    /// How many sequences there are.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no sequence at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows of all sequences together.
    pub fn rows(&self) -> usize {
        self.offsets[self.len()] as usize
    }

    /// Rows of sequence `i`.
    pub fn range(&self, i: usize) -> Range<usize> {
        self.offsets[i] as usize..self.offsets[i + 1] as usize
    }

    /// The ranges of all sequences, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        self.offsets
            .windows(2)
            .map(|w| w[0] as usize..w[1] as usize)
    }

    /// Length of the longest sequence; 0 if there is none.
    pub fn longest(&self) -> usize {
        self.iter().map(|r| r.len()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_offsets_agree() {
        let s = Segments::from_lengths(&[2, 0, 3]);
        assert_eq!(s, Segments::from_offsets(&[0, 2, 2, 5]).unwrap());
        assert_eq!(
            (s.len(), s.rows(), s.longest(), s.range(2)),
            (3, 5, 3, 2..5)
        );
        assert_eq!(Segments::uniform(2, 3), Segments::from_lengths(&[3, 3]));
        assert_eq!(Segments::from_lengths(&[]).rows(), 0);
    }

    #[test]
    fn bad_offsets_are_refused() {
        assert!(Segments::from_offsets(&[]).is_err());
        assert!(Segments::from_offsets(&[1, 2]).is_err());
        assert!(Segments::from_offsets(&[0, 3, 2]).is_err());
    }
}
