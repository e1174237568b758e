#![doc = include_str!("../README.md")]

mod block;
mod config;
mod decoder;
mod din;
mod eager;
mod encoder;
mod stream;
mod transfer;
mod weights;

pub use block::Pass;
pub use config::{ConfigError, EagerConfig, Guide, ItemTable};
pub use decoder::{Decoded, Decoder, Decoding, TargetCodes};
pub use din::{Din, DinBatch, DinConfig, DinConfigError, DinScorer, DinStatistics};
pub use eager::{Catalogue, Eager};
pub use encoder::{Histories, Memory};
pub use stream::{PerStream, Stream};
pub use transfer::{TransferCodes, Transferred};
pub use weights::{Init, Parameters, Weights};
