//! Where downloads and vectors are kept, and how a download reports itself.

use std::path::PathBuf;

/// Where downloads and vectors are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The cache folder, shared with the datasets; `None` where the platform has none, and then no wheel is
    /// fetched and no vectors are kept. What comes from the hub goes into the hub's own cache.
    pub cache: Option<PathBuf>,
}

impl Places {
    /// The cache folder that `EAGER_CACHE_DIR` names, or else the platform's own (`~/.cache/eager` on Linux).
    #[must_use]
    pub fn new() -> Self {
        let cache = std::env::var_os("EAGER_CACHE_DIR")
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from);
        Self {
            cache: cache.or_else(|| Some(dirs::cache_dir()?.join("eager"))),
        }
    }

    /// This crate's part of the cache.
    pub(crate) fn text(&self) -> Option<PathBuf> {
        Some(self.cache.as_ref()?.join("text"))
    }
}

/// How far a download has come.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Download<'a> {
    /// The file or package.
    pub what: &'a str,
    /// Bytes there are.
    pub done: u64,
    /// Bytes in all, where they are known.
    pub total: Option<u64>,
}
