//! Floating-point operations of a training step, counted from the shapes: two for a multiplication with addition, of matrix
//! products and attention alone. A backward pass makes twice as many as the forward.

use eager::train::objective::Items;
use eager_codes::CodeTrie;
use eager_losses::LossConfig;
use eager_model::{EagerConfig, Stream};

/// Of a batch with histories of these lengths and these targets.
pub fn step(
    config: &EagerConfig,
    losses: &LossConfig,
    items: &Items,
    lengths: &[usize],
    targets: &[u32],
) -> f64 {
    let d = config.d_model as f64;
    let (batch, memory) = (lengths.len() as f64, lengths.iter().sum::<usize>() as f64);
    let squares: f64 = lengths.iter().map(|&l| (l * l) as f64).sum();
    let linear = |rows: f64, inputs: f64, outputs: f64| 2.0 * rows * inputs * outputs;
    // Scores and weighted sums of pairs of a query and a key.
    let attention = |pairs: f64| 4.0 * d * pairs;
    let inner = config.feed_forward as f64;
    let layer = |rows: f64, pairs: f64, cross: Option<(f64, f64)>| {
        let own = linear(rows, d, 4.0 * d) + attention(pairs) + 2.0 * linear(rows, d, inner);
        let cross = cross.map_or(0.0, |(keys, pairs)| {
            linear(rows, d, 2.0 * d) + linear(keys, d, 2.0 * d) + attention(pairs)
        });
        own + cross
    };
    let siblings = |trie: &CodeTrie| -> f64 {
        let path = targets.iter().flat_map(|&item| trie.path(item));
        path.map(|&node| trie.children(trie.parent(node)).len() as f64)
            .sum()
    };

    let mut forward = config.encoder_layers as f64 * layer(memory, squares, None);
    for stream in Stream::ALL {
        let trie = &items.tries[stream];
        let length = (trie.levels() + 2) as f64;
        let causal = batch * length * (length + 1.0) / 2.0;
        let cross = Some((memory, length * memory));
        forward += config.decoder_layers as f64 * layer(batch * length, causal, cross);
        forward += 2.0 * d * siblings(trie);
        let width = items.vectors[stream].dim(1).unwrap_or(0) as f64;
        forward += linear(batch, d, width);
    }
    let trie = &items.tries.behaviour;
    let (codes, length) = (3.0 * batch, (trie.levels() + 1) as f64);
    let rows = codes * length;
    let cross = Some((codes, rows));
    forward += linear(batch, d, d);
    forward += config.transfer_layers as f64 * layer(rows, rows * length, cross);
    // The masked share of the tokens, at least one of a code's levels.
    forward += losses.transfer.mask_ratio * 2.0 * d * siblings(trie);
    3.0 * forward
}
