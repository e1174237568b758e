//! Tensor operations for transformers over short packed sequences, each with its own backward pass.
//!
//! Plain candle trains this model several times slower than it could: a layer norm or a GELU is a
//! chain of a dozen small graph nodes, and every node's gradient is a pass over memory. Here each is
//! one node. [`Ops`] chooses between the fused form and the *plain* one, the same formula composed of
//! candle's differentiable operations, which runs on every device and is what the fused form is
//! tested against. Nothing here knows about recommendation.
//!
//! Sequences are *packed*: rows of all sequences stand one after the other and [`Segments`] says
//! where each begins, so no padding is ever computed on.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use eager_ops::{Dropout, Layer, LayerInput, LayerShape, Ops, Pass, Segments};
//!
//! # fn main() -> candle_core::Result<()> {
//! // Two sequences of 1 and 2 rows through a layer of width 16, its parameters in one tensor.
//! let shape = LayerShape { d_model: 16, heads: 2, feed_forward: 32, cross: false, eps: 1e-5 };
//! let parameters = Tensor::randn(0f32, 0.1, shape.size(), &Device::Cpu)?;
//! let layer = Layer::new(shape, parameters)?;
//! let x = Tensor::randn(0f32, 1.0, (3, 16), &Device::Cpu)?;
//! let rows = Segments::from_lengths(&[1, 2]);
//! let input = LayerInput { rows: &rows, wanted: None, causal: false, memory: None };
//! let dropout = Dropout::off();
//! let pass = Pass { ops: Ops::Fused, dropout: &dropout, leaves: None };
//! let out = layer.forward(pass, &x, input)?;
//! assert_eq!(out.dims(), &[3, 16]);
//! # Ok(())
//! # }
//! ```

mod adamw;
mod attention;
mod batch_norm;
mod columns;
mod cross_entropy;
#[cfg(feature = "cuda")]
mod cuda;
mod dice;
mod dropout;
mod frequency;
mod gather;
mod gelu;
mod layer;
mod layer_norm;
mod leaves;
mod linear;
mod matmul;
mod moving_average;
mod ops;
mod pair_linear;
mod pairs;
mod pass;
mod plain;
mod segments;
mod storage;
mod tree_scores;
mod tree_softmax;
mod vector;
mod weighted_sum;

#[cfg(test)]
mod against_plain;

pub use adamw::{AdamW, AdamWConfig, Trainable};
pub use attention::MAX_KEYS;
pub use columns::ColumnStatistics;
#[cfg(feature = "cuda")]
pub use cuda::gpu;
pub use dropout::Dropout;
pub use frequency::LowPass;
pub use layer::{Attended, Layer, LayerInput, LayerShape};
pub use leaves::{Gradients, Leaves};
pub use moving_average::MovingAverage;
pub use ops::Ops;
pub use pairs::Pairs;
pub use pass::Pass;
pub use segments::Segments;
pub use tree_scores::TreeScores;
pub use tree_softmax::RowRanges;
