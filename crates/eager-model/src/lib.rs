#![doc = include_str!("../README.md")]

mod config;
mod decoder;
mod din;
mod eager;
mod encoder;
mod filter_layer;
mod layers;
mod rank;
mod steps;
mod stream;
mod tables;
mod transfer;
mod vocabulary;
mod weights;

pub use config::{ConfigError, EagerConfig, FilterConfig, Guide, ItemTable};
pub use decoder::{Decoded, Decoding, TargetCodes};
pub use din::{Din, DinBatch, DinConfig, DinConfigError, DinScorer, DinStatistics};
pub use eager::{Catalogue, Eager};
pub use encoder::{Histories, Memory};
pub use filter_layer::{FilterInput, FilterLayer};
pub use layers::{EPS, Embedding, Linear, Norm, layers};
pub use rank::items_above;
pub use steps::Steps;
pub use stream::{PerStream, Stream};
pub use tables::Tables;
pub use transfer::TransferCodes;
pub use vocabulary::Vocabulary;
pub use weights::{Init, Parameters, Weights};
