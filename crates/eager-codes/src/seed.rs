//! Seeds of the nodes of a tree: every node draws from its own generator, known by (seed, path) alone, so that the
//! order in which threads come to the nodes cannot matter.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Seed of a node. The root's is the caller's seed.
#[derive(Copy, Clone, Debug)]
pub(crate) struct NodeSeed(pub(crate) u64);

impl NodeSeed {
    /// The generator of the node's own draws: stream 0 of its seed.
    pub(crate) fn rng(self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.0)
    }

    /// The seed of its child `ordinal`: the first word of stream `ordinal + 1`.
    pub(crate) fn child(self, ordinal: u32) -> Self {
        let mut rng = self.rng();
        rng.set_stream(u64::from(ordinal) + 1);
        Self(rng.next_u64())
    }
}
