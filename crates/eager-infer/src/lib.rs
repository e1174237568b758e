#![doc = include_str!("../README.md")]

mod config;
mod error;
mod evaluate;
mod files;
mod merge;
pub mod metrics;
mod recommender;
mod search;
mod workers;

pub use config::InferConfig;
pub use error::{InferError, Result};
pub use evaluate::{Evaluation, TOP, TopScores, evaluate, popularity_ranks};
pub use merge::{ItemScore, Ranked, Ranking, RankingWeights};
pub use metrics::{
    AtCutoff, BootstrapConfig, CUTOFFS, Difference, Interval, Metrics, MetricsError, Rank,
};
pub use recommender::{Lists, Recommender};
pub use search::{Leaf, Search};
