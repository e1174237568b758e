//! Attention on the GPU: see [`crate::attention`] for the formulas.

use candle_core::Result;

use super::{At, Buffer, Gpu, Grid, args};
use crate::attention::Attention;
use crate::dropout::Mask;

/// Rows of a wider matrix: the first, and how far the next is.
#[derive(Clone, Copy)]
pub(crate) struct Strided {
    pub(crate) at: At,
    pub(crate) stride: usize,
}

/// The sequences of an attention in GPU memory.
pub(crate) struct Sequences {
    op: Attention,
    d: usize,
    queries: (At, At),
    keys: (At, At),
    seen: Option<Buffer<u32>>,
}

impl Sequences {
    pub(crate) fn new(gpu: &Gpu, op: &Attention, d: usize) -> Result<Self> {
        Ok(Self {
            d,
            queries: op.queries.on_gpu(gpu)?,
            keys: op.keys.on_gpu(gpu)?,
            seen: op
                .seen
                .as_deref()
                .map(|seen| gpu.upload(seen))
                .transpose()?,
            op: op.clone(),
        })
    }

    /// `Rows` of the kernels; `owner` is of the rows that the warps have.
    fn rows(&self, owner: At, query_stride: usize, key_stride: usize) -> [u64; 6] {
        let pair = |low: usize, high: usize| low as u64 | (high as u64) << 32;
        let seen = self.seen.as_ref().map_or(At::NONE, Buffer::at);
        [
            owner.0,
            self.queries.0.0,
            self.keys.0.0,
            seen.0,
            pair(self.op.heads, self.d),
            pair(query_stride, key_stride),
        ]
    }

    fn mask(&self) -> Option<Mask> {
        self.op.mask
    }

    /// `out` `[query rows, d]`.
    pub(crate) fn forward(&self, gpu: &Gpu, out: At, q: Strided, kv: Strided) -> Result<()> {
        let n = self.op.queries.rows();
        gpu.launch(
            "attention_forward",
            Grid::Rows(n * self.op.heads),
            args![
                out,
                q.at,
                kv.at,
                self.rows(self.queries.1, q.stride, kv.stride),
                self.mask(),
                n as i32
            ],
        )
    }

    /// Gradients of queries and of keys and values, laid out as they are.
    pub(crate) fn backward(
        &self,
        gpu: &Gpu,
        (q, kv): (Strided, Strided),
        g: At,
        (dq, dkv): (At, At),
    ) -> Result<()> {
        let (n, keys, heads) = (self.op.queries.rows(), self.op.keys.rows(), self.op.heads);
        let most = self.op.keys.longest();
        let (_scratch, [dropped, dscores]) = gpu.slab([n * heads * most; 2])?;
        gpu.launch(
            "attention_backward_q",
            Grid::Rows(n * heads),
            args![
                dq,
                dropped,
                dscores,
                g,
                q.at,
                kv.at,
                self.rows(self.queries.1, q.stride, kv.stride),
                self.mask(),
                n as i32,
                most as i32
            ],
        )?;
        gpu.launch(
            "attention_backward_kv",
            Grid::Rows(keys * heads),
            args![
                dkv,
                dropped,
                dscores,
                g,
                q.at,
                self.rows(self.keys.1, q.stride, kv.stride),
                keys as i32,
                most as i32
            ],
        )
    }
}
