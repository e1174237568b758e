#![doc = include_str!("../README.md")]

mod beside;
mod bundle;
mod catalogue;
mod error;
mod explain;
mod manifest;
mod query;
mod similar;
mod start;

pub use bundle::Bundle;
pub use catalogue::{AddConfig, NewItems};
pub use error::{BundleError, Result};
pub use explain::{CodePath, Explanation, Token};
pub use manifest::{Evaluation, FileDigest, Manifest, TextSource};
pub use query::{Filter, ListKind, Query};
pub use similar::Similar;

/// An item as a bundle keeps it, a line of `items.jsonl`.
pub use eager_data::Item;
/// An item in a list, with what each stream says of it.
pub use eager_infer::Ranked;
