#![doc = include_str!("../README.md")]

mod balanced;
mod clustering;
mod config;
mod error;
mod files;
mod grow;
mod item_codes;
mod item_vectors;
#[cfg(any(test, feature = "kmeans"))]
mod kmeans_crate;
mod lloyd;
mod matmul;
mod neighbours;
mod overlap;
mod plain;
mod points;
mod report;
mod seed;
mod semantic_ids;
mod start;
mod trie;
mod vectors;

pub use clustering::Clustering;
pub use config::{Backend, CodesConfig, MAX_BRANCHING, MAX_LEAVES, MAX_LEVELS, Variant};
pub use error::{CodesError, Result};
pub use files::write_whole;
pub use grow::{ChangedCodes, node_means};
pub use item_codes::ItemCodes;
pub use item_vectors::ItemVectors;
pub use neighbours::{Near, cosine, nearest_by_cosine};
pub use overlap::{Overlap, overlap};
pub use report::{LevelReport, QualityReport, ReportConfig};
pub use semantic_ids::{SemanticIdConfig, SemanticIdReport, SemanticIds};
pub use trie::CodeTrie;
pub use vectors::{MAX_SQUARED_LENGTH, MIN_SQUARED_LENGTH, Vectors};
