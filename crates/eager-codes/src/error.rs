//! Everything that can go wrong between item vectors and a trie, each with the place it happened and the way on.

use std::path::PathBuf;

/// `Result` with this crate's error.
pub type Result<T> = std::result::Result<T, CodesError>;

/// What went wrong while clustering vectors, or while checking, keeping or reading codes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodesError {
    /// No vector at all.
    #[error("there is no vector to cluster; codes need at least one item")]
    NoVectors,
    /// The numbers do not divide into rows.
    #[error("{len} numbers are no whole rows of {dim}; pass row-major [n, dim] data with dim ≥ 1")]
    VectorShape {
        /// Numbers given.
        len: usize,
        /// Width asked for.
        dim: usize,
    },
    /// NaN or an infinity in a vector.
    #[error(
        "vector {row}, component {column}: {value} is not finite; \
         find out what made it (a diverged training, an empty text) and make the vectors again"
    )]
    NotFinite {
        /// Row, counted from 0.
        row: usize,
        /// Component, counted from 0.
        column: usize,
        /// What is there.
        value: f32,
    },
    /// A vector so long that squared distances overflow `f32`.
    #[error(
        "vector {row}: its squared length {squared_length:e} is above {limit:e}, where squared distances overflow f32; \
         scale the vectors down"
    )]
    TooLong {
        /// Row, counted from 0.
        row: usize,
        /// Its squared length.
        squared_length: f64,
        /// The largest allowed.
        limit: f64,
    },
    /// Vectors all so short that squared distances underflow `f32`.
    #[error(
        "the longest vector's squared length {squared_length:e} is below {limit:e}, where squared distances vanish in f32; \
         scale the vectors up"
    )]
    TooShort {
        /// The largest squared length.
        squared_length: f64,
        /// The least that it may be.
        limit: f64,
    },
    /// More items than a node number can count.
    #[error("{items} items on {levels} levels need more nodes than a u32 can number")]
    TooManyNodes {
        /// Items (or leaves).
        items: usize,
        /// Levels.
        levels: usize,
    },
    /// Settings outside their range, or that contradict each other.
    #[error("codes config: {0}")]
    Config(String),
    /// The given depth has too few leaves for the items.
    #[error(
        "branching {branching} to depth {depth} has {leaves} leaves for {items} items; \
         raise `depth` or `branching`, or leave `depth` out to have it chosen"
    )]
    TooFewLeaves {
        /// Children a node.
        branching: usize,
        /// Levels asked for.
        depth: usize,
        /// `branching ^ depth`.
        leaves: u64,
        /// Items to place.
        items: usize,
    },
    /// A full tree of that depth would not fit in memory.
    #[error(
        "branching {branching} to depth {depth} has more than {limit} leaves; \
         lower `depth` or `branching`, or leave `depth` out to have it chosen"
    )]
    TooManyLeaves {
        /// Children a node.
        branching: usize,
        /// Levels asked for.
        depth: usize,
        /// The most leaves allowed.
        limit: u64,
    },
    /// No depth was given, and none fits: one level less has too few leaves.
    #[error(
        "branching {branching} needs more than {limit} leaves to have one for each of {items} items; \
         set `branching` to {fitting}"
    )]
    NoDepth {
        /// Children a node.
        branching: usize,
        /// Items to place.
        items: usize,
        /// The most leaves allowed.
        limit: u64,
        /// A branching that has a depth.
        fitting: usize,
    },
    /// The clusters did not come apart within the levels a code may have.
    #[error(
        "after {levels} levels {items} items still share clusters (the largest: {largest}); \
         set `depth`, so that the last level gives every remaining item its own leaf, or raise `branching`"
    )]
    TooDeep {
        /// Levels made.
        levels: usize,
        /// Items not yet alone.
        items: usize,
        /// Items of the largest cluster left.
        largest: usize,
    },
    /// A new item on a tree without room.
    #[error(
        "new item {row}: every node it could be a child of has {branching} children or more; \
         allow more children a node, or train anew with the items"
    )]
    NoRoom {
        /// Row of the item's vector, counted from 0.
        row: usize,
        /// Children a node may have.
        branching: usize,
    },
    /// The `kmeans` crate gave up.
    #[error(
        "the `kmeans` crate failed on {items} vectors and {clusters} clusters: {message}; use the `blocked` backend"
    )]
    Backend {
        /// Vectors of the clustering.
        items: usize,
        /// Clusters asked for.
        clusters: usize,
        /// Its own words.
        message: String,
    },
    /// Codes whose parts do not fit together.
    #[error("codes: {0}")]
    Shape(String),
    /// A leaf of an item that does not exist.
    #[error("codes: leaf {leaf} belongs to item {item}, but there are {items} items (0..{items})")]
    UnknownItem {
        /// Row among the extra leaves.
        leaf: usize,
        /// The item named there.
        item: u32,
        /// Items there are.
        items: usize,
    },
    /// Two leaves with the same path.
    #[error(
        "codes: items {first} and {second} have the same leaf {path:?}; every leaf decodes to one item"
    )]
    SharedLeaf {
        /// One of the items.
        first: u32,
        /// The other (the same item if it has the leaf twice).
        second: u32,
        /// The path, child ordinals from the root.
        path: Vec<u32>,
    },
    /// Siblings that are not numbered 0, 1, 2, ….
    #[error(
        "codes: below prefix {prefix:?} child {expected} is missing, child {found} is there; \
         siblings are numbered from 0 without gaps"
    )]
    Gap {
        /// Prefix of the parent, child ordinals from the root.
        prefix: Vec<u32>,
        /// Ordinal that should come next.
        expected: u32,
        /// Ordinal found instead.
        found: u32,
    },
    /// Two things that should be about the same items are not.
    #[error("{what}: {found} items, expected {expected}; both must come from the same catalogue")]
    Mismatch {
        /// What has the wrong number.
        what: &'static str,
        /// Its number of items.
        found: usize,
        /// The other's.
        expected: usize,
    },
    /// The operating system refused a read or a write.
    #[error("{}: cannot {action}: {source}", .path.display())]
    Io {
        /// File concerned.
        path: PathBuf,
        /// What was being tried, as a verb.
        action: &'static str,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A file that is not a codes file, or holds codes that are not valid.
    #[error("{}: {fault}; build the codes again", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: Box<CodesError>,
    },
    /// A file that cannot be read as safetensors.
    #[error("not a readable safetensors file: {0}")]
    Format(#[from] safetensors::SafeTensorError),
}
