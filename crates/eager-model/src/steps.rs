//! Decoder layers between two tokens: the keys and values of everything said so far, by the beams that said it.
//!
//! Beams are rows; a step says for each new row which row of the step before it goes on from, so that nothing is
//! copied when beams are dropped or multiplied.

use candle_core::{Result, Tensor};
use eager_ops::{Attended, Layer, Ops, Segments};

/// Layers that cross-attend the memory of some histories, a position at a time.
#[derive(Clone, Debug)]
pub struct Steps<'a> {
    layers: &'a [Layer],
    ops: Ops,
    /// A layer: `[memory rows, 2·d]`.
    memory: Vec<Tensor>,
    memory_rows: Segments,
    /// For every step before the next: the row that each beam's prefix has there.
    prefix: Vec<Vec<u32>>,
    /// A layer, a step: keys and values `[rows of that step, 2·d]`.
    past: Vec<Vec<Tensor>>,
}

impl<'a> Steps<'a> {
    /// Begins for the histories behind `memory` `[memory rows, d]`: their keys and values are computed once.
    ///
    /// # Errors
    /// When a layer does not cross-attend, or the width is not its.
    pub fn new(
        layers: &'a [Layer],
        ops: Ops,
        memory: &Tensor,
        memory_rows: &Segments,
    ) -> Result<Self> {
        let kv = layers.iter().map(|layer| layer.memory_kv(ops, memory));
        Ok(Self {
            layers,
            ops,
            memory: kv.collect::<Result<_>>()?,
            memory_rows: memory_rows.clone(),
            prefix: vec![],
            past: vec![vec![]; layers.len()],
        })
    }

    /// Steps that were made.
    #[must_use]
    pub fn made(&self) -> usize {
        self.prefix.len()
    }

    /// Runs one more position on every beam: `x` `[beams, d]`, each going on from row `parents[i]` of the last step
    /// (ignored at the first). The beams of a history stand together; `beams` says how many each has. `[beams, d]` out.
    ///
    /// # Errors
    /// When the lengths do not fit, or a parent is no row of the last step.
    pub fn step(&mut self, x: &Tensor, parents: &[u32], beams: &Segments) -> Result<Tensor> {
        let n = x.dim(0)?;
        if n != beams.rows() || beams.len() != self.memory_rows.len() {
            candle_core::bail!(
                "{n} rows for {} beams of {} histories, of {} begun with",
                beams.rows(),
                beams.len(),
                self.memory_rows.len()
            )
        }
        if self.made() > 0 && parents.len() != n {
            candle_core::bail!("{} parents for {n} rows", parents.len())
        }
        for rows in &mut self.prefix {
            let Some(moved) = parents
                .iter()
                .map(|&p| rows.get(p as usize).copied())
                .collect::<Option<Vec<u32>>>()
            else {
                candle_core::bail!("a parent is not among the {} beams before", rows.len())
            };
            *rows = moved;
        }
        self.prefix.push((0..n as u32).collect());
        let mut x = x.clone();
        for ((layer, past), memory) in self.layers.iter().zip(&mut self.past).zip(&self.memory) {
            let (queries, kv) = layer.step_qkv(self.ops, &x)?;
            past.push(kv);
            let memory = Attended {
                kv: memory,
                rows: &self.memory_rows,
            };
            let past = (past.as_slice(), self.prefix.as_slice());
            x = layer.step(self.ops, &x, &queries, past, beams, memory)?;
        }
        Ok(x)
    }
}
