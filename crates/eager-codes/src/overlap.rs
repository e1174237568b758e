//! How far two trees over the same items agree: the behaviour tree and the semantic tree should tell different things
//! (that is why EAGER has two), but not unrelated ones.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::report::{entropy, pairs, ratio};
use crate::{CodeTrie, CodesError, Result};

/// Agreement of the first levels of two trees, exact over all pairs of items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlap {
    /// Items.
    pub items: usize,
    /// Of the pairs of items that share a level-1 cluster in the first tree, the share that do in the second.
    pub of_first: f64,
    /// Of the pairs that share one in the second tree, the share that do in the first.
    pub of_second: f64,
    /// Share of all pairs that share one in the first tree: what `of_second` is by chance.
    pub chance_first: f64,
    /// Share of all pairs that share one in the second tree: what `of_first` is by chance.
    pub chance_second: f64,
    /// Mutual information of the level-1 clusters by the mean of their entropies: 0 unrelated, 1 the same clusters (also
    /// where both trees have one cluster).
    pub normalised_mutual_information: f64,
}

/// Compares the level-1 clusters of two trees.
///
/// # Errors
/// When they have different numbers of items.
pub fn overlap(first: &CodeTrie, second: &CodeTrie) -> Result<Overlap> {
    let n = first.n_items();
    if second.n_items() != n {
        return Err(CodesError::Mismatch {
            what: "the second tree of an overlap",
            found: second.n_items(),
            expected: n,
        });
    }
    let clusters = |trie: &CodeTrie| (0..n as u32).map(|item| trie.path(item)[0]).collect();
    let (a, b): (Vec<u32>, Vec<u32>) = (clusters(first), clusters(second));
    let both: Vec<(u32, u32)> = a.iter().copied().zip(b.iter().copied()).collect();
    let (a, b, both) = (sizes(a), sizes(b), sizes(both));

    let count = |sizes: &[usize]| sizes.iter().map(|&size| pairs(size)).sum::<u64>() as f64;
    let bits = |sizes: &[usize]| entropy(sizes.iter().copied());
    let (in_first, in_second, in_both) = (count(&a), count(&b), count(&both));
    let (of_a, of_b) = (bits(&a), bits(&b));
    let information = (of_a + of_b - bits(&both)).max(0.0);
    let all = pairs(n) as f64;
    Ok(Overlap {
        items: n,
        of_first: ratio(in_both, in_first),
        of_second: ratio(in_both, in_second),
        chance_first: ratio(in_first, all),
        chance_second: ratio(in_second, all),
        normalised_mutual_information: if of_a + of_b == 0.0 {
            1.0
        } else {
            2.0 * information / (of_a + of_b)
        },
    })
}

/// How often each label comes.
fn sizes<T: Ord>(mut labels: Vec<T>) -> Vec<usize> {
    labels.sort_unstable();
    labels.chunk_by(|a, b| a == b).map(<[T]>::len).collect()
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "level-1 clusters of two trees over {} items: of pairs together in the first, {:.4} are in the second \
             (chance {:.4}); of those in the second, {:.4} in the first (chance {:.4}); normalised mutual information {:.4}",
            self.items,
            self.of_first,
            self.chance_second,
            self.of_second,
            self.chance_first,
            self.normalised_mutual_information
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ItemCodes;

    /// A tree of two levels whose level-1 clusters are the given ones.
    fn tree(clusters: &[u32]) -> CodeTrie {
        let mut sizes = [0; 8];
        let mut codes = Vec::new();
        for &cluster in clusters {
            codes.extend([cluster, sizes[cluster as usize]]);
            sizes[cluster as usize] += 1;
        }
        CodeTrie::new(&ItemCodes::new(2, codes, Vec::new(), Vec::new()).unwrap()).unwrap()
    }

    #[test]
    fn a_hand_computed_pair() {
        // Together in the first: 01, 02, 12, 34; in the second: 01, 23, 24, 34; in both: 01, 34. All pairs: 10.
        let found = overlap(&tree(&[0, 0, 0, 1, 1]), &tree(&[0, 0, 1, 1, 1])).unwrap();
        assert_eq!((found.of_first, found.of_second), (0.5, 0.5));
        assert_eq!((found.chance_first, found.chance_second), (0.4, 0.4));
        let h = |p: f64| -p * p.log2();
        let single = h(0.6) + h(0.4);
        let joint = 2.0 * h(0.4) + h(0.2);
        let want = (2.0 * single - joint) / single;
        assert!((found.normalised_mutual_information - want).abs() < 1e-12);
    }

    #[test]
    fn the_ends_of_the_scale() {
        let (a, renamed) = (tree(&[0, 0, 1, 1]), tree(&[1, 1, 0, 0]));
        let same = overlap(&a, &renamed).unwrap();
        assert_eq!((same.of_first, same.of_second), (1.0, 1.0));
        assert!((same.normalised_mutual_information - 1.0).abs() < 1e-12);
        let crossed = overlap(&a, &tree(&[0, 1, 0, 1])).unwrap();
        assert_eq!(crossed.of_first, 0.0);
        assert!(crossed.normalised_mutual_information.abs() < 1e-12);
        assert!(matches!(
            overlap(&a, &tree(&[0, 0, 0])),
            Err(CodesError::Mismatch {
                found: 3,
                expected: 4,
                ..
            })
        ));
    }
}
