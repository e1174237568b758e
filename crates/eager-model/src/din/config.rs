//! DIN's shape.

use candle_core::Result;
use eager_ops::Segments;
use serde::{Deserialize, Serialize};

/// DIN's shape; `Default` is the official code's (`DIN_Model.py`), with DIN's own form of the activation unit: the official
/// one has dropout after its first Dice and no Dice after its second layer, its Dice an α drawn from 0 to 1 (here 0) and a learnt
/// scale and shift, its linear maps Xavier's start (here PyTorch's).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DinConfig {
    /// Width of an item's vector. Official code: 96.
    pub width: usize,
    /// Standard deviation of the item table's normal start. Official code: 1e-4.
    pub init_std: f64,
    /// Widths of the local activation unit's hidden layers. Official code: 64, 16.
    pub unit: Vec<usize>,
    /// Positions of each time window, oldest first; the newest item of a history is in the last. Their sum is the
    /// longest history. Official code: 5, 4, 2, 2 and six of 1, together 19.
    pub windows: Vec<usize>,
    /// Widths of the upper network's hidden layers. Official code: 200, 80.
    pub top: Vec<usize>,
    /// Batch normalisation before the upper network's activations. Official code: yes.
    pub batch_norm: bool,
    /// Probability of dropout after the upper network's activations. Official code: 0.1.
    pub dropout: f64,
    /// Added to the variance within Dice. DIN paper: 1e-8; official code: 1e-9.
    pub dice_eps: f64,
    /// Added to the variance in batch normalisation. PyTorch: 1e-5.
    pub norm_eps: f64,
}

impl Default for DinConfig {
    fn default() -> Self {
        Self {
            width: 96,
            init_std: 1e-4,
            unit: vec![64, 16],
            windows: vec![5, 4, 2, 2, 1, 1, 1, 1, 1, 1],
            top: vec![200, 80],
            batch_norm: true,
            dropout: 0.1,
            dice_eps: 1e-8,
            norm_eps: 1e-5,
        }
    }
}

/// A field of [`DinConfig`] out of range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("DIN: `{field}` is {value}; use {wanted}")]
pub struct DinConfigError {
    field: &'static str,
    value: String,
    wanted: &'static str,
}

impl DinConfig {
    /// The longest history that the windows hold.
    #[must_use]
    pub fn longest_history(&self) -> usize {
        self.windows.iter().sum()
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// Names the field that is out of range, its value and what to use.
    pub fn validate(&self) -> std::result::Result<(), DinConfigError> {
        let check = |field, value: String, good, wanted| {
            let error = DinConfigError {
                field,
                value,
                wanted,
            };
            if good { Ok(()) } else { Err(error) }
        };
        check("width", self.width.to_string(), self.width > 0, "1 or more")?;
        for (field, widths) in [
            ("unit", &self.unit),
            ("top", &self.top),
            ("windows", &self.windows),
        ] {
            let good = !widths.is_empty() && !widths.contains(&0);
            check(
                field,
                format!("{widths:?}"),
                good,
                "at least one number, each 1 or more",
            )?;
        }
        // As it is used: a number just below 1 is 1 in single precision.
        let good = (0.0..1.0).contains(&(self.dropout as f32));
        check("dropout", self.dropout.to_string(), good, "0 to below 1")?;
        for (field, value) in [
            ("init_std", self.init_std),
            ("dice_eps", self.dice_eps),
            ("norm_eps", self.norm_eps),
        ] {
            let good = value > 0.0 && value.is_finite();
            check(field, value.to_string(), good, "a number above 0")?;
        }
        Ok(())
    }

    /// For each window, the rows of packed histories that lie in it. A history shorter than the windows fills their
    /// newest positions.
    pub(super) fn rows_by_window(&self, histories: &Segments) -> Result<Vec<Vec<u32>>> {
        let longest = self.longest_history();
        if histories.longest() > longest {
            candle_core::bail!(
                "DIN: a history of {} items; the windows {:?} hold {longest}",
                histories.longest(),
                self.windows
            )
        }
        let window_of: Vec<usize> = (0..self.windows.len())
            .flat_map(|w| std::iter::repeat_n(w, self.windows[w]))
            .collect();
        let mut rows = vec![Vec::new(); self.windows.len()];
        for range in histories.iter() {
            let first = longest - range.len();
            for (i, row) in range.enumerate() {
                rows[window_of[first + i]].push(row as u32);
            }
        }
        Ok(rows)
    }
}
