//! The official code's codes (`KmeansTree.py`, `Tree_Model.py`): a full k-ary tree in which every cluster has exactly as
//! many members as its siblings.
//!
//! Items are duplicated at random (uniformly, with replacement) until they fill `k ^ levels` places, and the places are
//! shuffled. An item's first place is its code; every place decodes to the item in it. The official code also has an
//! option to cluster on a random part of the vectors' components; its training script does not use it, nor is it here.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::config::{CodesConfig, MAX_BRANCHING, MAX_LEAVES};
use crate::points::{Points, squared_distance};
use crate::seed::NodeSeed;
use crate::{CodesError, ItemCodes, Result, Vectors};

/// A cluster, in the order of the tree.
struct Node {
    /// The places it holds, ascending.
    places: Vec<u32>,
    seed: NodeSeed,
}

/// Builds the codes; `config` is valid and there are at least two items.
pub(crate) fn build(vectors: Vectors<'_>, config: &CodesConfig, seed: u64) -> Result<ItemCodes> {
    let (n, k) = (vectors.rows(), config.branching);
    let (levels, leaves) = size(n, k, config.depth)?;
    let seed = NodeSeed(seed);
    let mut rng = seed.rng();
    let mut item_of: Vec<u32> = (0..n as u32).collect(); // place → item
    item_of.extend((n..leaves).map(|_| rng.random_range(0..n as u32)));
    item_of.shuffle(&mut rng);

    let mut frontier = vec![Node {
        places: (0..leaves as u32).collect(),
        seed: seed.child(0),
    }];
    for _ in 0..levels {
        let split: Vec<Vec<Node>> = frontier
            .par_iter()
            .map(|node| children(vectors, &item_of, node, config))
            .collect();
        frontier = split.into_iter().flatten().collect();
    }

    // The tree is full: leaf `l` in order has the digits of `l` in base k as its path.
    let mut leaf_of = vec![0u32; leaves]; // place → leaf
    for (leaf, node) in (0u32..).zip(&frontier) {
        for &place in &node.places {
            leaf_of[place as usize] = leaf;
        }
    }
    let path = |leaf: u32| {
        let digit = move |level: usize| leaf as u64 / (k as u64).pow(level as u32) % k as u64;
        (0..levels).rev().map(move |level| digit(level) as u32)
    };
    let mut codes = vec![u32::MAX; n * levels]; // no code yet
    let (mut extra_codes, mut extra_items) = (Vec::new(), Vec::new());
    for (&item, &leaf) in item_of.iter().zip(&leaf_of) {
        let code = &mut codes[item as usize * levels..][..levels];
        if code[0] == u32::MAX {
            code.iter_mut().zip(path(leaf)).for_each(|(to, c)| *to = c);
        } else {
            extra_codes.extend(path(leaf));
            extra_items.push(item);
        }
    }
    ItemCodes::new(levels, codes, extra_codes, extra_items)
}

/// Levels and leaves of the tree: the fewest levels with a leaf for every item, or those of `depth`.
fn size(items: usize, branching: usize, depth: Option<usize>) -> Result<(usize, usize)> {
    if items as u64 > MAX_LEAVES {
        return Err(CodesError::Config(format!(
            "{items} items are more than the {MAX_LEAVES} leaves a balanced tree may have; use the plain variant"
        )));
    }
    let Some(depth) = depth else {
        return fewest(items, branching).ok_or_else(|| CodesError::NoDepth {
            branching,
            items,
            limit: MAX_LEAVES,
            fitting: fitting(items, branching),
        });
    };
    let leaves = (branching as u64).saturating_pow(depth as u32);
    if leaves > MAX_LEAVES {
        return Err(CodesError::TooManyLeaves {
            branching,
            depth,
            limit: MAX_LEAVES,
        });
    }
    if leaves < items as u64 {
        return Err(CodesError::TooFewLeaves {
            branching,
            depth,
            leaves,
            items,
        });
    }
    Ok((depth, leaves as usize))
}

/// The fewest levels with a leaf for every item, and their leaves; `None` where those are too many.
fn fewest(items: usize, branching: usize) -> Option<(usize, usize)> {
    let (mut levels, mut leaves) = (0, 1u64);
    while leaves < items as u64 {
        levels += 1;
        leaves *= branching as u64;
    }
    (leaves <= MAX_LEAVES).then_some((levels, leaves as usize))
}

/// A branching that has such levels: the next higher one, else that of two levels, which always has, as the most leaves are
/// a square.
fn fitting(items: usize, branching: usize) -> usize {
    (branching..=MAX_BRANCHING)
        .find(|&higher| fewest(items, higher).is_some())
        .unwrap_or_else(|| (items as f64).sqrt().ceil() as usize)
}

/// The `k` children of a node, each with the same number of places in ascending order.
fn children(vectors: Vectors<'_>, item_of: &[u32], node: &Node, config: &CodesConfig) -> Vec<Node> {
    let k = config.branching;
    let (places, size) = (&node.places, node.places.len() / k);
    let groups: Vec<Vec<u32>> = if size == 1 {
        places.iter().map(|&place| vec![place]).collect()
    } else {
        let items: Vec<u32> = places.iter().map(|&p| item_of[p as usize]).collect();
        let points = Points::gather(vectors, &items);
        let groups = equal_clusters(&points, k, config, &mut node.seed.rng());
        let place = |member: &u32| places[*member as usize];
        groups
            .iter()
            .map(|members| members.iter().map(place).collect())
            .collect()
    };
    (0u32..)
        .zip(groups)
        .map(|(ordinal, places)| Node {
            places,
            seed: node.seed.child(ordinal),
        })
        .collect()
}

/// k-means with clusters of equal size; the number of points is a multiple of `k`. Members ascend.
///
/// Centres start as the means of random groups. In every iteration a point ranks the clusters by distance; the clusters,
/// in random order, each take the free points that rank them highest (of those the nearest, then the first one) and move to
/// their mean. It ends when the squared sum of the centres' moves is below the tolerance.
fn equal_clusters(
    points: &Points,
    k: usize,
    config: &CodesConfig,
    rng: &mut ChaCha8Rng,
) -> Vec<Vec<u32>> {
    let (n, dim) = (points.len(), points.dim());
    let size = n / k;
    let mut shuffled: Vec<u32> = (0..n as u32).collect();
    shuffled.shuffle(rng);
    let mut clusters: Vec<Vec<u32>> = shuffled.chunks_exact(size).map(<[u32]>::to_vec).collect();
    let mut centres: Vec<f32> = clusters.iter().flat_map(|c| points.mean(c)).collect(); // [k, dim]
    let mut order: Vec<usize> = (0..k).collect();
    for _ in 0..config.max_iterations {
        let distances = points.squared_distances(&centres); // [n, k]
        let mut free: Vec<u32> = (0..n as u32).collect();
        order.shuffle(rng);
        let mut shift = 0.0;
        for &cluster in &order {
            let taken = take(&mut free, &distances, k, cluster, size);
            let centre = &mut centres[cluster * dim..(cluster + 1) * dim];
            let mean = points.mean(&taken);
            shift += squared_distance(&mean, centre).sqrt();
            centre.copy_from_slice(&mean);
            clusters[cluster] = taken;
        }
        if shift * shift < config.tolerance || shift == 0.0 {
            break;
        }
    }
    clusters
}

/// Takes the `size` free points that prefer `cluster` most out of `free`; both stay ascending.
fn take(free: &mut Vec<u32>, distances: &[f32], k: usize, cluster: usize, size: usize) -> Vec<u32> {
    if free.len() == size {
        return std::mem::take(free);
    }
    // Rank = number of clusters nearer than this one. Squared distances are not negative: their bits order as they do.
    let preference: Vec<(u32, u32, u32)> = free
        .par_iter()
        .with_min_len(512)
        .map(|&point| {
            let row = &distances[point as usize * k..][..k];
            let own = row[cluster];
            let rank = row.iter().map(|&d| u32::from(d < own)).sum();
            (rank, own.to_bits(), point)
        })
        .collect();
    let (_, &mut last, _) = preference.clone().select_nth_unstable(size - 1);
    let mut taken = Vec::with_capacity(size);
    let mut left = Vec::with_capacity(free.len() - size);
    for key in preference {
        let side = if key <= last { &mut taken } else { &mut left };
        side.push(key.2);
    }
    *free = left;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branching_that_fits_is_named_where_none_of_its_depths_does() {
        for (items, branching, expected) in [
            (2_097_153, 128, 129),
            (6_000, 5_000, 6_000),
            (100_000, 5_000, 317),
            (1 << 24, 5_000, 4_096),
        ] {
            let message = size(items, branching, None).unwrap_err().to_string();
            let advice = format!("set `branching` to {expected}");
            assert!(message.ends_with(&advice), "{message}");
            let (_, leaves) = size(items, expected, None).unwrap();
            assert!((items..=1 << 24).contains(&leaves));
        }
        for depth in [None, Some(3)] {
            let message = size((1 << 24) + 1, 256, depth).unwrap_err().to_string();
            assert!(message.contains("use the plain variant"), "{message}");
        }
    }
}
