//! The paper's codes (§ codes, step 2): cluster all items into k, cluster every cluster again, until each holds one item.
//!
//! The rules where the paper is silent: a cluster of at most k items gives each its own child, in the order of their
//! ids; clusters are numbered by their smallest item; at the last level that `depth` allows every item left becomes a
//! leaf; a cluster whose vectors are all equal is cut into k runs of ids, as equal in size as can be.

use rayon::prelude::*;

use crate::clustering::partition;
use crate::config::{CodesConfig, MAX_LEVELS};
use crate::lloyd::members;
use crate::points::Points;
use crate::seed::NodeSeed;
use crate::{CodesError, ItemCodes, Result, Vectors};

/// A cluster that is not yet one item.
struct Node {
    /// Its items, ascending, at least two.
    items: Vec<u32>,
    seed: NodeSeed,
}

/// Builds the codes; `config` is valid.
pub(crate) fn build(vectors: Vectors<'_>, config: &CodesConfig, seed: u64) -> Result<ItemCodes> {
    let n = vectors.rows();
    let last = config.depth.unwrap_or(MAX_LEVELS);
    let mut frontier = vec![Node {
        items: (0..n as u32).collect(),
        seed: NodeSeed(seed),
    }];
    let mut columns: Vec<Vec<u32>> = Vec::new(); // ordinals of a level, `[n]`; 0 for items already alone
    while !frontier.is_empty() {
        let level = columns.len() + 1;
        if level > last {
            return Err(too_deep(last, &frontier));
        }
        let all_leaves = config.depth == Some(level);
        let split: Vec<Vec<Vec<u32>>> = frontier
            .par_iter()
            .map(|node| children(vectors, node, config, all_leaves))
            .collect::<Result<_>>()?;
        let mut column = vec![0; n];
        let mut next = Vec::new();
        for (node, children) in frontier.iter().zip(split) {
            for (ordinal, items) in (0u32..).zip(children) {
                for &item in &items {
                    column[item as usize] = ordinal;
                }
                if items.len() > 1 {
                    let seed = node.seed.child(ordinal);
                    next.push(Node { items, seed });
                }
            }
        }
        columns.push(column);
        frontier = next;
    }
    let levels = columns.len();
    let codes = (0..n).flat_map(|item| columns.iter().map(move |column| column[item]));
    ItemCodes::new(levels, codes.collect(), Vec::new(), Vec::new())
}

/// The items of every child of a node, none empty, in the order of their ordinals.
fn children(
    vectors: Vectors<'_>,
    node: &Node,
    config: &CodesConfig,
    all_leaves: bool,
) -> Result<Vec<Vec<u32>>> {
    let (items, k) = (&node.items, config.branching);
    if all_leaves || items.len() <= k {
        return Ok(items.iter().map(|&item| vec![item]).collect());
    }
    let points = Points::gather(vectors, items);
    let partition = partition(&points, k, config, &mut node.seed.rng())?;
    let clusters = partition.centres.len() / points.dim();
    let (offsets, members) = members(&partition.assignment, clusters);
    let mut children: Vec<Vec<u32>> = offsets
        .windows(2)
        .map(|run| &members[run[0]..run[1]])
        .filter(|members| !members.is_empty())
        .map(|members| members.iter().map(|&i| items[i as usize]).collect())
        .collect();
    if children.len() == 1 {
        return Ok(equal_runs(items, k));
    }
    children.sort_unstable_by_key(|items| items[0]);
    Ok(children)
}

/// Cuts `items` into `k` runs whose sizes differ by one at most, the longer ones first. There are more than `k` items.
fn equal_runs(items: &[u32], k: usize) -> Vec<Vec<u32>> {
    let (size, longer) = (items.len() / k, items.len() % k);
    let (head, tail) = items.split_at(longer * (size + 1));
    head.chunks(size + 1)
        .chain(tail.chunks(size))
        .map(<[u32]>::to_vec)
        .collect()
}

fn too_deep(levels: usize, left: &[Node]) -> CodesError {
    CodesError::TooDeep {
        levels,
        items: left.iter().map(|node| node.items.len()).sum(),
        largest: left.iter().map(|node| node.items.len()).max().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_differ_by_one_at_most() {
        let items: Vec<u32> = (10..21).collect();
        let runs = equal_runs(&items, 4);
        assert_eq!(
            runs,
            [
                vec![10, 11, 12],
                vec![13, 14, 15],
                vec![16, 17, 18],
                vec![19, 20]
            ]
        );
        assert_eq!(equal_runs(&items[..9], 3).len(), 3);
    }
}
