//! The two streams of EAGER, and what there is one of for each.

use std::ops::{Index, IndexMut};

use serde::{Deserialize, Serialize};

/// A view of the items with its own codes and decoder (paper §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Codes of vectors learnt from histories (DIN).
    Behaviour,
    /// Codes of vectors of the items' text.
    Semantic,
}

impl Stream {
    /// Both, in the order in which everything of two is kept.
    pub const ALL: [Self; 2] = [Self::Behaviour, Self::Semantic];

    /// The name in files and parameters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Behaviour => "behaviour",
            Self::Semantic => "semantic",
        }
    }
}

/// One `T` a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerStream<T> {
    /// The behaviour stream's.
    pub behaviour: T,
    /// The semantic stream's.
    pub semantic: T,
}

impl<T> PerStream<T> {
    /// Both made by `f`, behaviour first.
    pub fn from_fn(mut f: impl FnMut(Stream) -> T) -> Self {
        Self {
            behaviour: f(Stream::Behaviour),
            semantic: f(Stream::Semantic),
        }
    }

    /// As [`from_fn`](Self::from_fn), for an `f` that may fail.
    ///
    /// # Errors
    /// The first error of `f`.
    pub fn try_from_fn<E>(mut f: impl FnMut(Stream) -> Result<T, E>) -> Result<Self, E> {
        Ok(Self {
            behaviour: f(Stream::Behaviour)?,
            semantic: f(Stream::Semantic)?,
        })
    }
}

impl<T> Index<Stream> for PerStream<T> {
    type Output = T;

    fn index(&self, stream: Stream) -> &T {
        match stream {
            Stream::Behaviour => &self.behaviour,
            Stream::Semantic => &self.semantic,
        }
    }
}

impl<T> IndexMut<Stream> for PerStream<T> {
    fn index_mut(&mut self, stream: Stream) -> &mut T {
        match stream {
            Stream::Behaviour => &mut self.behaviour,
            Stream::Semantic => &mut self.semantic,
        }
    }
}
