//! A borrowed table of item vectors, checked once so that everything after it may rely on finite numbers.

use crate::{CodesError, Result};

/// The largest squared length of a vector: a squared distance between two such vectors (at most four times as much),
/// and twice that in intermediate sums, still fit `f32` (3.4e38).
pub const MAX_SQUARED_LENGTH: f64 = 1e36;

/// The least that the largest squared length may be, where it is not 0: much shorter vectors have squared distances below
/// the least number of `f32` (1.4e-45), and would all be taken for equal.
pub const MIN_SQUARED_LENGTH: f64 = 1e-30;

/// Row-major `[n, dim]` vectors, one an item: n ≥ 1, dim ≥ 1, all finite.
///
/// ```
/// use eager_codes::Vectors;
///
/// let vectors = Vectors::new(&[1.0, 0.0, 0.5, 0.5], 2)?;
/// assert_eq!((vectors.rows(), vectors.dim()), (2, 2));
/// assert_eq!(vectors.row(1), [0.5, 0.5]);
/// # Ok::<(), eager_codes::CodesError>(())
/// ```
#[derive(Copy, Clone, Debug)]
pub struct Vectors<'a> {
    data: &'a [f32],
    dim: usize,
}

impl<'a> Vectors<'a> {
    /// Checks and borrows `data`, row-major `[n, dim]`.
    ///
    /// # Errors
    /// When there is no vector, `data` is no whole number of rows, there are more than `u32::MAX` rows, a component
    /// is NaN or infinite (the first is named), a squared length is above [`MAX_SQUARED_LENGTH`], or the largest is
    /// below [`MIN_SQUARED_LENGTH`] and not 0.
    pub fn new(data: &'a [f32], dim: usize) -> Result<Self> {
        let vectors = Self::of_any_scale(data, dim)?;
        // One vector is enough, nearly always the first.
        let lengths = data.chunks_exact(dim).map(squared_length);
        if lengths.clone().all(|length| length < MIN_SQUARED_LENGTH) {
            let squared_length = lengths.fold(0.0, f64::max);
            if squared_length > 0.0 {
                return Err(CodesError::TooShort {
                    squared_length,
                    limit: MIN_SQUARED_LENGTH,
                });
            }
        }
        Ok(vectors)
    }

    /// As [`new`](Self::new), however short: for what is made of vectors that were checked, such as their residuals.
    pub(crate) fn of_any_scale(data: &'a [f32], dim: usize) -> Result<Self> {
        if data.is_empty() {
            return Err(CodesError::NoVectors);
        }
        if dim == 0 || !data.len().is_multiple_of(dim) {
            return Err(CodesError::VectorShape {
                len: data.len(),
                dim,
            });
        }
        if data.len() / dim >= u32::MAX as usize {
            return Err(CodesError::TooManyNodes {
                items: data.len() / dim,
                levels: 1,
            });
        }
        for (row, vector) in data.chunks_exact(dim).enumerate() {
            let squared_length = squared_length(vector);
            if squared_length <= MAX_SQUARED_LENGTH {
                continue;
            }
            return Err(match vector.iter().position(|x| !x.is_finite()) {
                Some(column) => CodesError::NotFinite {
                    row,
                    column,
                    value: vector[column],
                },
                None => CodesError::TooLong {
                    row,
                    squared_length,
                    limit: MAX_SQUARED_LENGTH,
                },
            });
        }
        Ok(Self { data, dim })
    }

    /// Number of vectors, n ≥ 1.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.data.len() / self.dim
    }

    /// Width of a vector.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Vector `row`, `[dim]`.
    ///
    /// # Panics
    /// When `row` is not below [`rows`](Self::rows).
    #[must_use]
    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.data[row * self.dim..(row + 1) * self.dim]
    }
}

fn squared_length(vector: &[f32]) -> f64 {
    vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_clustered_is_refused_by_name() {
        assert!(matches!(Vectors::new(&[], 2), Err(CodesError::NoVectors)));
        assert!(matches!(
            Vectors::new(&[1.0; 3], 2),
            Err(CodesError::VectorShape { len: 3, dim: 2 })
        ));
        assert!(matches!(
            Vectors::new(&[1.0], 0),
            Err(CodesError::VectorShape { .. })
        ));
        let nan = Vectors::new(&[0.0, 1.0, 2.0, f32::NAN], 2).unwrap_err();
        assert!(nan.to_string().contains("vector 1, component 1: NaN"));
        let infinite = Vectors::new(&[0.0, f32::NEG_INFINITY], 2).unwrap_err();
        assert!(infinite.to_string().contains("component 1: -inf"));
        let long = Vectors::new(&[0.0, 0.0, 1e18, 1e18], 2).unwrap_err();
        assert!(matches!(long, CodesError::TooLong { row: 1, .. }));
        let short = Vectors::new(&[0.0, 0.0, 1e-20, 1e-20], 2).unwrap_err();
        assert!(matches!(short, CodesError::TooShort { .. }));
        assert!(short.to_string().ends_with("scale the vectors up"));
        // Zeros are equal indeed, and one longer vector gives the scale.
        assert!(Vectors::new(&[0.0; 4], 2).is_ok());
        assert!(Vectors::new(&[1e-20, 1e-20, 0.0, 1.0], 2).is_ok());
    }
}
