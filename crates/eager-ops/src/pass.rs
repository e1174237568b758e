use candle_core::{Result, Tensor};

use crate::leaves::Slot;
use crate::{Dropout, Leaves, Ops, RowRanges};

/// How a forward pass is computed: which form of the operations, what is dropped, and where gradients go.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// Fused or plain.
    pub ops: Ops,
    /// The pass's dropout; [`Dropout::off`] outside training.
    pub dropout: &'a Dropout,
    /// What takes gradients of layers' parameters and of tables; without, they are the graph's.
    pub leaves: Option<&'a Leaves>,
}

impl Pass<'_> {
    /// Rows `ids` of a parameter `table` `[rows, d]`, of which the pass reads few: `[ids, d]`.
    ///
    /// # Errors
    /// When an id is not a row of the table.
    pub fn rows(self, table: &Tensor, ids: &[u32]) -> Result<Tensor> {
        match self.leaves {
            None => self.ops.gather(table, ids),
            Some(leaves) => leaves.rows(self.ops, table, ids),
        }
    }

    /// As [`Ops::gather`], of a table that the pass reads most of.
    ///
    /// # Errors
    /// When an id is not a row of the table.
    pub fn gather(self, table: &Tensor, ids: &[u32]) -> Result<Tensor> {
        self.ops.gather_into(table, ids, self.slot(table))
    }

    /// As [`Ops::tree_cross_entropy`].
    ///
    /// # Errors
    /// When shapes do not fit `rows` or a range leaves the table.
    pub fn tree_cross_entropy(
        self,
        hidden: &Tensor,
        table: &Tensor,
        rows: &RowRanges,
    ) -> Result<Tensor> {
        let slot = self.slot(table);
        self.ops.tree_cross_entropy_into(hidden, table, rows, slot)
    }

    fn slot(self, variable: &Tensor) -> Option<Slot> {
        self.leaves?.slot(variable)
    }
}
