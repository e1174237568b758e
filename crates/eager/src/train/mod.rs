//! Training: one loop ([`epochs`]), and what the generator, DIN and the baselines do in it.
//!
//! The loop is bit-for-bit reproducible from its seed whatever the number of threads (see [`shards`]), and resumes from its
//! last checkpoint as if it had never stopped (see [`checkpoint`]).

pub mod checkpoint;
pub mod din;
pub mod epochs;
pub mod generator;
pub mod next_item;
pub mod objective;
pub mod schedule;
pub mod shards;
pub mod start;
pub mod tiger;
pub mod validation;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use schedule::{InverseSqrt, WarmupExponential};
pub use shards::{SHARDS, Shards};
pub use start::TableStart;
