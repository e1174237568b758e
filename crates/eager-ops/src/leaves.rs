//! Gradients past the graph.
//!
//! *Rows of large tables.* A batch reads a few thousand rows of a table; differentiated as such, the table's gradient is as
//! large as the table, mostly zeros, and is made, zeroed and added for every use. A leaf that is a copy of the rows has a
//! gradient of their size, which [`crate::AdamW`] adds to the table's.
//!
//! *Slots.* candle adds every gradient that an operation gives to zeros made for it. Operations on the CPU that read a large
//! variable leave its gradient in a slot instead: the first is the sum, the others are added to it where they are not 0. The
//! result has the same bits, unless candle's own operations read the variable too, whose gradient comes last.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId, Var};

use crate::Ops;
use crate::gather::distinct;
use crate::storage::{is_cpu_f32, keep, take, tensor};
use crate::vector::{add_scaled, dispatch};

/// The variables of one graph whose gradients go past it, and those gradients.
#[derive(Debug, Default)]
pub struct Leaves {
    rows: RefCell<Vec<Leaf>>,
    slots: RefCell<HashMap<TensorId, (Tensor, Slot)>>,
}

#[derive(Debug)]
struct Leaf {
    table: TensorId,
    /// Ascending, each once.
    ids: Vec<u32>,
    rows: Var,
}

/// The sum of a variable's gradients, in the order in which backward passes give them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<Vec<f32>>>>);

impl Slot {
    /// Adds a gradient of the variable's size.
    pub(crate) fn add(&self, gradient: Vec<f32>) -> Result<()> {
        let sum = match take(&self.0)? {
            None => gradient,
            Some(mut sum) => {
                dispatch(
                    #[inline(always)]
                    || add_scaled(&mut sum, 1.0, &gradient),
                );
                sum
            }
        };
        keep(&self.0, sum)
    }

    /// Adds a gradient that is 0 but in rows `ids` of a variable of `elements`: `rows` `[ids, d]`.
    pub(crate) fn add_rows(&self, elements: usize, ids: &[u32], rows: &[f32]) -> Result<()> {
        let mut sum = take(&self.0)?.unwrap_or_else(|| vec![0.0; elements]);
        let d = rows.len() / ids.len().max(1);
        dispatch(
            #[inline(always)]
            || {
                for (&id, row) in ids.iter().zip(rows.chunks_exact(d.max(1))) {
                    add_scaled(&mut sum[id as usize * d..][..d], 1.0, row);
                }
            },
        );
        keep(&self.0, sum)
    }

    /// Leaves `gradient`, of `shape`, in the slot, or where there is none gives it back for candle.
    pub(crate) fn take_in(
        slot: Option<&Self>,
        gradient: Vec<f32>,
        shape: &[usize],
    ) -> Result<Option<Tensor>> {
        match slot {
            None => tensor(gradient, shape).map(Some),
            Some(slot) => slot.add(gradient).map(|()| None),
        }
    }
}

/// What differentiating gave: gradients of variables, and of some rows of others.
#[derive(Debug)]
pub struct Gradients {
    pub(crate) store: GradStore,
    pub(crate) rows: Vec<RowGradients>,
}

#[derive(Debug)]
pub(crate) struct RowGradients {
    pub(crate) table: TensorId,
    pub(crate) ids: Vec<u32>,
    /// `[ids, d]`.
    pub(crate) grad: Tensor,
}

impl Leaves {
    /// Rows `ids` of `table` `[rows, d]`, `[ids, d]`, as [`Ops::gather`] but for where the gradient goes.
    ///
    /// # Errors
    /// When an id is not a row of the table.
    pub fn rows(&self, ops: Ops, table: &Tensor, ids: &[u32]) -> Result<Tensor> {
        let (own, places) = distinct(ids);
        let leaf = Var::from_tensor(&ops.gather(&table.detach(), &own)?)?;
        let rows = leaf.as_tensor().clone();
        let rows = if own == ids {
            rows
        } else {
            ops.gather_into(&rows, &places, self.slot(&rows))?
        };
        self.rows.borrow_mut().push(Leaf {
            table: table.id(),
            ids: own,
            rows: leaf,
        });
        Ok(rows)
    }

    /// Where a backward pass can leave the gradient of `variable`: if it is one, and on the CPU.
    pub(crate) fn slot(&self, variable: &Tensor) -> Option<Slot> {
        if !variable.is_variable() || !is_cpu_f32(variable) {
            return None;
        }
        let mut slots = self.slots.borrow_mut();
        let own = slots.entry(variable.id());
        let (_, slot) = own.or_insert_with(|| (variable.clone(), Slot::default()));
        Some(slot.clone())
    }

    /// The gradients of the graph that these belong to, which has been differentiated once.
    ///
    /// # Errors
    /// When memory cannot be had, or a backward pass panicked.
    pub fn gradients(self, mut store: GradStore) -> Result<Gradients> {
        for (variable, slot) in self.slots.into_inner().into_values() {
            let Some(sum) = take(&slot.0)? else { continue };
            let mut sum = tensor(sum, variable.dims())?;
            if let Some(rest) = store.remove(&variable) {
                sum = (rest + sum)?;
            }
            store.insert(&variable, sum);
        }
        let rows = self.rows.into_inner().into_iter().filter_map(|leaf| {
            let grad = store.get(&leaf.rows)?.clone();
            Some(RowGradients {
                table: leaf.table,
                ids: leaf.ids,
                grad,
            })
        });
        Ok(Gradients {
            rows: rows.collect(),
            store,
        })
    }
}

impl From<GradStore> for Gradients {
    fn from(store: GradStore) -> Self {
        Self {
            store,
            rows: vec![],
        }
    }
}

impl Gradients {
    /// The gradient of `var`, of its size; `None` if nothing depends on it.
    ///
    /// # Errors
    /// When memory cannot be had.
    pub fn get(&self, var: &Var) -> Result<Option<Tensor>> {
        let mut sum = self.store.get(var).cloned();
        for own in self.rows.iter().filter(|own| own.table == var.id()) {
            let dense = own.dense(var)?;
            sum = Some(match sum {
                None => dense,
                Some(sum) => (sum + dense)?,
            });
        }
        Ok(sum)
    }
}

impl RowGradients {
    /// Of the table's size.
    pub(crate) fn dense(&self, table: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if crate::cuda::is_cuda_f32(&self.grad) {
            let (n, d) = self.grad.dims2()?;
            return crate::cuda::with([&self.grad], |gpu, [grad]| {
                let sums = gpu.zeros(table.elem_count())?;
                let ids = gpu.upload(&self.ids)?;
                gpu.add_at(sums.at(), grad, &ids, n, d)?;
                Ok(gpu.tensor(sums, table.dims()))
            });
        }
        let ids = Tensor::from_slice(&self.ids, self.ids.len(), table.device())?;
        table.zeros_like()?.index_add(&ids, &self.grad, 0)
    }
}
