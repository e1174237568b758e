//! Where the rows of a new item start: from those of its nearest neighbours.

use eager_codes::{ChangedCodes, CodeTrie, ItemVectors, nearest_by_cosine, node_means};

use crate::Result;

/// The nearest items of new ones.
pub(crate) struct Nearest(Vec<Vec<(u32, f64)>>);

impl Nearest {
    /// The `count` items of `known` nearest to each of `new` by cosine, with 1 − cosine as the distance.
    pub(crate) fn new(known: &ItemVectors, new: &ItemVectors, count: usize) -> Result<Self> {
        let near = nearest_by_cosine(known.checked()?, new.checked()?, count)?;
        let distances = near.into_iter().map(|near| {
            let near = near.into_iter();
            near.map(|near| (near.row, 1.0 - f64::from(near.cosine)))
                .collect()
        });
        Ok(Self(distances.collect()))
    }

    /// A row for each new item, made of its neighbours' in `table`, which is `width` wide: `[new, width]`.
    pub(crate) fn rows(&self, table: &[f32], width: usize) -> Vec<f32> {
        self.0
            .iter()
            .flat_map(|near| mean(table, width, near))
            .collect()
    }
}

/// Embeddings of the tokens of a changed trie, `[nodes, d]`: an old node's is its own, and a new one's is made of those of
/// the `neighbours` nearest nodes of the same depth below its lowest old ancestor, its siblings where it is the first new
/// one of its path. A node is as far away as the mean of the vectors below it, squared.
pub(crate) fn token_rows(
    before: &CodeTrie,
    change: &ChangedCodes,
    known: &ItemVectors,
    new: &ItemVectors,
    (table, d): (&[f32], usize),
    neighbours: usize,
) -> Result<Vec<f32>> {
    let after = CodeTrie::new(&change.codes)?;
    let means = node_means(before, known.checked()?)?;
    let dim = known.dim;
    let first_new = before.n_items() as u32;
    let mut rows = Vec::with_capacity(change.origins.len() * d);
    for (node, origin) in (0u32..).zip(&change.origins) {
        if let Some(origin) = origin {
            rows.extend_from_slice(&table[*origin as usize * d..][..d]);
            continue;
        }
        // A new node has one leaf, that of a new item.
        let item = after.leaves_below(node).find_map(|leaf| after.item(leaf));
        let vector = new.row(item.unwrap_or(first_new) - first_new);
        let (mut ancestor, mut depth) = (node, 0);
        let ancestor = loop {
            match change.origins[ancestor as usize] {
                Some(origin) => break origin,
                None => (ancestor, depth) = (after.parent(ancestor), depth + 1),
            }
        };
        let (mut first, mut end) = (ancestor, ancestor + 1);
        for _ in 0..depth {
            (first, end) = (before.children(first).start, before.children(end - 1).end);
        }
        let distance = |node: u32| -> f64 {
            let mean = means[node as usize * dim..][..dim].iter();
            let differences = mean.zip(vector).map(|(&a, &b)| f64::from(a) - f64::from(b));
            differences.map(|x| x * x).sum()
        };
        let mut near: Vec<(u32, f64)> = (first..end).map(|node| (node, distance(node))).collect();
        near.sort_unstable_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        near.truncate(neighbours);
        rows.extend(mean(table, d, &near));
    }
    Ok(rows)
}

/// The mean of rows of `table`, each weighted by its inverse distance; of one row that row itself.
fn mean(table: &[f32], width: usize, near: &[(u32, f64)]) -> Vec<f32> {
    let row = |at: u32| &table[at as usize * width..][..width];
    if let [(only, _)] = near {
        return row(*only).to_vec();
    }
    // Distances of 0 share the weight between them.
    let weights = near.iter().map(|&(_, distance)| 1.0 / distance.max(1e-12));
    let total: f64 = weights.clone().sum();
    let mut sums = vec![0.0; width];
    for (&(at, _), weight) in near.iter().zip(weights) {
        for (sum, &x) in sums.iter_mut().zip(row(at)) {
            *sum += weight / total * f64::from(x);
        }
    }
    sums.into_iter().map(|x| x as f32).collect()
}
