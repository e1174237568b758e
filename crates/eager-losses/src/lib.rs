#![doc = include_str!("../README.md")]

mod config;
mod contrastive;
mod corruption;
mod generation;
mod transfer;

pub use config::{
    ContrastiveConfig, GenerationConfig, Levels, LossConfig, LossConfigError, Masking, Metric,
    TransferConfig,
};
pub use contrastive::{Negatives, contrastive};
pub use corruption::{masked, replaced};
pub use generation::generation;
pub use transfer::{recognition, reconstruction};
