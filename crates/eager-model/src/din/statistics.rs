//! The means and variances that DIN's normalisations go by: a batch's in training, running averages in evaluation.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};
use eager_ops::ColumnStatistics;

use super::DinConfig;

/// Statistics of every normalisation of a DIN. They belong to its weights and are saved beside them.
#[derive(Clone, Debug)]
pub struct DinStatistics(Vec<ColumnStatistics>);

/// Names and widths, in the order of the activations' slots.
fn slots(config: &DinConfig) -> Vec<(String, usize)> {
    let unit = config.unit.iter().enumerate();
    let unit = unit.map(|(i, &width)| (format!("statistics.unit.{i}"), width));
    let norms: &[&str] = if config.batch_norm {
        &[".norm", ""]
    } else {
        &[""]
    };
    let top = config.top.iter().enumerate().flat_map(|(i, &width)| {
        norms
            .iter()
            .map(move |norm| (format!("statistics.top.{i}{norm}"), width))
    });
    unit.chain(top).collect()
}

impl DinStatistics {
    /// Mean 0 and variance 1 everywhere.
    ///
    /// # Errors
    /// When a tensor cannot be made on the device.
    pub fn new(config: &DinConfig, device: &Device) -> Result<Self> {
        slots(config)
            .iter()
            .map(|&(_, width)| {
                Ok(ColumnStatistics {
                    mean: Tensor::zeros(width, DType::F32, device)?,
                    var: Tensor::ones(width, DType::F32, device)?,
                })
            })
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Moves each statistic `momentum` of the way to the batch's: `s ← (1 - momentum)·s + momentum·batch`.
    ///
    /// # Errors
    /// When `batch` is another model's.
    pub fn update(&mut self, batch: &Self, momentum: f64) -> Result<()> {
        if self.widths() != batch.widths() {
            candle_core::bail!(
                "DIN: statistics of widths {:?} cannot move to a batch's of {:?}, which is another model's",
                self.widths(),
                batch.widths()
            )
        }
        let towards = |s: &Tensor, batch: &Tensor| (s * (1.0 - momentum))? + (batch * momentum)?;
        for (s, batch) in self.0.iter_mut().zip(&batch.0) {
            s.mean = towards(&s.mean, &batch.mean)?;
            s.var = towards(&s.var, &batch.var)?;
        }
        Ok(())
    }

    fn widths(&self) -> Vec<usize> {
        self.0.iter().map(|s| s.mean.elem_count()).collect()
    }

    /// By name, to save beside the weights; no name is a parameter's.
    #[must_use]
    pub fn tensors(&self, config: &DinConfig) -> HashMap<String, Tensor> {
        slots(config)
            .into_iter()
            .zip(&self.0)
            .flat_map(|((name, _), s)| {
                [
                    (format!("{name}.mean"), s.mean.clone()),
                    (format!("{name}.var"), s.var.clone()),
                ]
            })
            .collect()
    }

    /// Takes from `saved` what [`DinStatistics::tensors`] gave; leaves the rest there.
    ///
    /// # Errors
    /// When one is missing or has another width.
    pub fn take(
        config: &DinConfig,
        saved: &mut HashMap<String, Tensor>,
        device: &Device,
    ) -> Result<Self> {
        let mut one = |name: String, width: usize| match saved.remove(&name) {
            Some(s) if s.dims() == [width] => s.to_device(device),
            Some(s) => candle_core::bail!(
                "the saved {name:?} has shape {:?}, the configuration asks for {width}",
                s.shape()
            ),
            None => candle_core::bail!(
                "the saved weights have no {name:?}; they belong to a DIN of another configuration"
            ),
        };
        slots(config)
            .into_iter()
            .map(|(name, width)| {
                Ok(ColumnStatistics {
                    mean: one(format!("{name}.mean"), width)?,
                    var: one(format!("{name}.var"), width)?,
                })
            })
            .collect::<Result<_>>()
            .map(Self)
    }
}

/// What a forward pass normalises by.
pub(super) enum Norms<'a> {
    /// The batch's own statistics, kept by slot.
    OfBatch(Vec<Option<ColumnStatistics>>),
    /// These.
    Known(&'a DinStatistics),
}

impl<'a> Norms<'a> {
    pub(super) fn of_batch(config: &DinConfig) -> Self {
        Self::OfBatch(vec![None; slots(config).len()])
    }

    /// Calls a normalisation with what it is to go by, and keeps what it went by.
    pub(super) fn apply(
        &mut self,
        slot: usize,
        normalise: impl FnOnce(Option<&ColumnStatistics>) -> Result<(Tensor, ColumnStatistics)>,
    ) -> Result<Tensor> {
        match self {
            Self::Known(statistics) => Ok(normalise(Some(&statistics.0[slot]))?.0),
            Self::OfBatch(seen) => {
                let (y, statistics) = normalise(None)?;
                seen[slot] = Some(statistics);
                Ok(y)
            }
        }
    }

    /// The batch's statistics.
    pub(super) fn into_statistics(self) -> Result<DinStatistics> {
        match self {
            Self::Known(statistics) => Ok(statistics.clone()),
            Self::OfBatch(seen) => match seen.into_iter().collect() {
                Some(all) => Ok(DinStatistics(all)),
                None => candle_core::bail!("DIN: a training batch without any history"),
            },
        }
    }
}
