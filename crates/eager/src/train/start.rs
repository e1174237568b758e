//! Tables of a model that start from what is known of the items: embeddings as the principal components of their vectors,
//! so that items that are alike start alike. Not in the paper (`docs/eager-plus.md`).

use anyhow::{Context as _, Result, ensure};
use candle_core::Tensor;
use eager_codes::CodeTrie;
use eager_model::{Eager, PerStream, Stream, Tables};
use nalgebra::{DMatrix, SymmetricEigen};
use serde::{Deserialize, Serialize};

use super::objective::Items;

/// How the embeddings of items and of code tokens start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableStart {
    /// Drawn, as all other weights (the paper, as far as it says, and the official code).
    #[default]
    Random,
    /// An item's: principal components of its two vectors. A token's: the mean over the items below its node of the
    /// principal components of the stream's vectors.
    Vectors,
}

/// The tables of `model` as [`TableStart::Vectors`] has them. The root mean square of each table is the standard deviation
/// that its rows would be drawn with; the root's token stays as it is.
///
/// # Errors
/// When the vectors are not of the model's catalogue, or the device fails.
pub fn tables_of_vectors(model: &Eager, items: &Items) -> Result<Tables> {
    let (width, std) = (model.config().d_model, model.config().init);
    let mut tables = model.tables()?;
    let views = PerStream::try_from_fn(|stream| View::new(&items.vectors[stream]))?;
    let rows = scaled(&View::side_by_side(&views).principal(width), std);
    tables.items.fill(rows);
    for stream in Stream::ALL {
        let rows = views[stream].principal(width);
        let means = node_means(&items.tries[stream], &rows, width);
        let table = &mut tables.tokens[stream];
        ensure!(
            table.len() == means.len(),
            "the model has {} token weights, the tree {}",
            table.len(),
            means.len()
        );
        table[width..].copy_from_slice(&scaled(&means[width..], std));
    }
    Ok(tables)
}

/// Vectors without their mean, of mean square length 1.
struct View(DMatrix<f64>);

impl View {
    fn new(vectors: &Tensor) -> Result<Self> {
        let (items, dim) = vectors.dims2()?;
        let data = vectors.flatten_all()?.to_vec1::<f32>()?;
        let mut rows = DMatrix::from_row_iterator(items, dim, data.into_iter().map(f64::from));
        let mean = rows.row_mean();
        for mut row in rows.row_iter_mut() {
            row -= &mean;
        }
        let square = rows.norm_squared() / items as f64;
        let scale = (square > 0.0).then(|| square.sqrt().recip());
        let scale = scale.context("the vectors of all items are the same")?;
        Ok(Self(rows * scale))
    }

    fn side_by_side(views: &PerStream<Self>) -> Self {
        let (a, b) = (&views.behaviour.0, &views.semantic.0);
        let mut both = DMatrix::zeros(a.nrows(), a.ncols() + b.ncols());
        both.columns_mut(0, a.ncols()).copy_from(a);
        both.columns_mut(a.ncols(), b.ncols()).copy_from(b);
        Self(both)
    }

    /// Coordinates along the `width` directions of most variance, row-major `[items, width]`; 0 beyond the vectors' width.
    fn principal(&self, width: usize) -> Vec<f64> {
        let eigen = SymmetricEigen::new(self.0.tr_mul(&self.0));
        let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        order.truncate(width);
        let axes = DMatrix::from_fn(self.0.ncols(), width, |row, axis| {
            (order.get(axis)).map_or(0.0, |&column| eigen.eigenvectors[(row, column)])
        });
        let coordinates = &self.0 * axes;
        coordinates.transpose().as_slice().to_vec() // column-major, so the transpose has the rows end to end
    }
}

/// The mean of the rows of the items below each node, `[nodes, width]`.
fn node_means(trie: &CodeTrie, rows: &[f64], width: usize) -> Vec<f64> {
    let mut means = vec![0.0; trie.n_nodes() * width];
    for (node, mean) in means.chunks_exact_mut(width).enumerate() {
        let leaves = trie.leaves_below(node as u32);
        let n = leaves.len() as f64;
        for item in leaves.filter_map(|leaf| trie.item(leaf)) {
            let row = &rows[item as usize * width..][..width];
            for (sum, x) in mean.iter_mut().zip(row) {
                *sum += x / n;
            }
        }
    }
    means
}

/// The same with this root mean square.
fn scaled(values: &[f64], rms: f64) -> Vec<f32> {
    let square = values.iter().map(|x| x * x).sum::<f64>() / values.len().max(1) as f64;
    let scale = if square > 0.0 {
        rms / square.sqrt()
    } else {
        0.0
    };
    values.iter().map(|x| (x * scale) as f32).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use eager_codes::{CodesConfig, ItemCodes, Vectors};
    use eager_model::{Catalogue, EagerConfig, Weights};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const ITEMS: usize = 60;

    fn vectors(seed: u64, dim: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Of unequal spread, so that the directions are told apart, and not around 0.
        let x = |i: usize| (1.0 + (i % dim) as f32) * rng.random_range(-1.0..1.0) + 3.0;
        (0..ITEMS * dim).map(x).collect()
    }

    fn distances(rows: &[f64], width: usize) -> Vec<f64> {
        let row = |item: usize| &rows[item * width..][..width];
        let square = |a: usize, b: usize| -> f64 {
            (row(a).iter().zip(row(b)))
                .map(|(x, y)| (x - y).powi(2))
                .sum()
        };
        (0..ITEMS)
            .flat_map(|a| (0..a).map(move |b| square(a, b)))
            .collect()
    }

    #[test]
    fn components_are_a_rotation_ordered_by_variance() {
        let dim = 6;
        let data = vectors(1, dim);
        let view =
            View::new(&Tensor::from_slice(&data, (ITEMS, dim), &Device::Cpu).unwrap()).unwrap();
        let wide = view.principal(8);
        let given: Vec<f64> = data.iter().map(|&x| f64::from(x)).collect();
        let (before, after) = (distances(&given, dim), distances(&wide, 8));
        let scale = before[0] / after[0];
        for (before, after) in before.iter().zip(&after) {
            assert!(
                (before - scale * after).abs() < 1e-9 * before,
                "{before} {after}"
            );
        }
        let variance =
            |axis: usize| -> f64 { wide.iter().skip(axis).step_by(8).map(|x| x * x).sum() };
        let variances: Vec<f64> = (0..8).map(variance).collect();
        assert!((variances.iter().sum::<f64>() / ITEMS as f64 - 1.0).abs() < 1e-12);
        assert!(
            variances.windows(2).all(|pair| pair[0] >= pair[1]),
            "{variances:?}"
        );
        assert_eq!(variances[6..], [0.0, 0.0]);
        for (axis, covariance) in (1..6).map(|axis| {
            let products = wide.chunks_exact(8).map(|row| row[0] * row[axis]);
            (axis, products.sum::<f64>())
        }) {
            assert!(covariance.abs() < 1e-9, "axes 0 and {axis}: {covariance}");
        }
        let narrow = view.principal(2);
        for (row, kept) in wide.chunks_exact(8).zip(narrow.chunks_exact(2)) {
            for (a, b) in row.iter().zip(kept) {
                assert!((a - b).abs() < 1e-12, "{row:?} {kept:?}"); // products of other shapes sum in another order
            }
        }
    }

    #[test]
    fn a_model_starts_with_the_items_of_a_node_in_its_token() {
        let dims = PerStream {
            behaviour: 5,
            semantic: 7,
        };
        let data = PerStream {
            behaviour: vectors(2, 5),
            semantic: vectors(3, 7),
        };
        let codes = |stream: Stream| {
            let config = CodesConfig {
                branching: 4,
                ..CodesConfig::default()
            };
            let vectors = Vectors::new(&data[stream], dims[stream]).unwrap();
            CodeTrie::new(&ItemCodes::build(vectors, &config, 4).unwrap()).unwrap()
        };
        let items = Items {
            tries: PerStream::from_fn(codes),
            vectors: PerStream::from_fn(|s| {
                Tensor::from_slice(&data[s], (ITEMS, dims[s]), &Device::Cpu).unwrap()
            }),
        };
        let catalogue = Catalogue {
            tries: PerStream::from_fn(|s| &items.tries[s]),
            dims,
        };
        let config = EagerConfig {
            d_model: 4,
            heads: 2,
            feed_forward: 8,
            ..EagerConfig::default()
        };
        let weights = Weights::random(5, &Device::Cpu);
        let model = Eager::new(&config, &catalogue, weights).unwrap();
        let drawn = model.tables().unwrap();
        let tables = tables_of_vectors(&model, &items).unwrap();
        model.set_tables(&tables).unwrap();
        assert_eq!(model.tables().unwrap(), tables);

        let rms =
            |rows: &[f32]| (rows.iter().map(|x| x * x).sum::<f32>() / rows.len() as f32).sqrt();
        assert!((rms(&tables.items[0]) - 0.02).abs() < 1e-6);
        for stream in Stream::ALL {
            let (trie, rows) = (&items.tries[stream], &tables.tokens[stream]);
            assert_eq!(rows[..4], drawn.tokens[stream][..4], "the root's token");
            assert!((rms(&rows[4..]) - 0.02).abs() < 1e-6);
            // A node's row is the mean of its items' rows, which are their leaves' rows.
            for node in 1..trie.n_nodes() as u32 {
                let leaves = trie.leaves_below(node);
                for axis in 0..4 {
                    let at = |node: u32| rows[node as usize * 4 + axis];
                    let mean = leaves.clone().map(at).sum::<f32>() / leaves.len() as f32;
                    assert!(
                        (at(node) - mean).abs() < 1e-6,
                        "{} node {node}",
                        stream.name()
                    );
                }
            }
        }
    }
}
