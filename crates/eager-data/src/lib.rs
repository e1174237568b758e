#![doc = include_str!("../README.md")]

mod acquire;
mod dataset;
pub mod demo;
pub mod digest;
#[cfg(feature = "download")]
mod download;
mod error;
pub mod guess;
mod interactions;
mod item;
mod log;
mod manifest;
mod package;
mod prepare;
mod read;
mod replace;
mod sequences;
mod source;
mod split;
mod statistics;
pub mod survey;
mod windows;
mod words;

pub use acquire::{Acquired, Places, Progress, SourceFile, acquire};
pub use dataset::Dataset;
pub use error::{DataError, LineFault, MIN_HISTORY, Result};
pub use interactions::{Interactions, ItemId};
pub use item::{Item, TextTemplate};
pub use log::Clock;
pub use manifest::{Manifest, Paper};
pub use prepare::{Order, PrepareConfig, SplitRule, Ties};
pub use read::histories::{UserHistory, read_histories, read_id_column, read_ids};
pub use sequences::{SequenceBatch, Sequences};
pub use source::{Columns, FileRef, Package, Source};
pub use split::{Example, Split};
pub use statistics::{Expected, Statistics, counted, thousands};
pub use windows::{Batch, Batches, WINDOW, Windows};
pub use words::plain_words;
