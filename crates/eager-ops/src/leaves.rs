//! Rows of large tables as leaves of their own. A batch reads a few thousand rows of a table; differentiated as such, the
//! table's gradient is as large as the table, mostly zeros, and is made, zeroed and added for every use. A leaf that is a
//! copy of the rows has a gradient of their size, which [`crate::AdamW`] adds to the table's.

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId, Var};

use crate::Ops;

/// The rows that one graph has read of tables.
#[derive(Debug, Default)]
pub struct Leaves(RefCell<Vec<Leaf>>);

#[derive(Debug)]
struct Leaf {
    table: TensorId,
    /// Ascending, each once.
    ids: Vec<u32>,
    rows: Var,
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
        let mut own = ids.to_vec();
        own.sort_unstable();
        own.dedup();
        let leaf = Var::from_tensor(&ops.gather(&table.detach(), &own)?)?;
        let rows = leaf.as_tensor().clone();
        let rows = if own == ids {
            rows
        } else {
            // `own` has each of `ids`.
            let places = ids.iter().map(|id| own.partition_point(|o| o < id) as u32);
            ops.gather(&rows, &places.collect::<Vec<_>>())?
        };
        self.0.borrow_mut().push(Leaf {
            table: table.id(),
            ids: own,
            rows: leaf,
        });
        Ok(rows)
    }

    /// The gradients of a graph that read these rows.
    #[must_use]
    pub fn gradients(self, store: GradStore) -> Gradients {
        let rows = self.0.into_inner().into_iter().filter_map(|leaf| {
            let grad = store.get(&leaf.rows)?.clone();
            Some(RowGradients {
                table: leaf.table,
                ids: leaf.ids,
                grad,
            })
        });
        Gradients {
            rows: rows.collect(),
            store,
        }
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
