//! Seeds for the parts of a run, derived from its one seed.

use sha2::{Digest, Sha256};

/// The seed of the part called `purpose`: the first 8 bytes of SHA-256 of both, so that parts draw independently and none
/// moves when another is added.
#[must_use]
pub fn derive(seed: u64, purpose: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(purpose);
    let digest = hash.finalize();
    digest
        .iter()
        .take(8)
        .fold(0, |seed, &byte| seed << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_seeds_differ() {
        let seeds = [
            derive(1, "a"),
            derive(1, "b"),
            derive(2, "a"),
            derive(2, "b"),
        ];
        for (i, seed) in seeds.iter().enumerate() {
            assert!(!seeds[..i].contains(seed));
        }
        assert_eq!(derive(1, "a"), seeds[0]);
    }
}
