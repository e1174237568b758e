//! Beam search over the ids that there are. Prefixes are held to the tree of ids, but a token's probability is that among all
//! tokens of its place, as in training: what goes to ids of no item is lost.

use std::cmp::Ordering;

use candle_core::Result;
use eager_model::{Histories, Steps};
use eager_ops::{Dropout, Ops, Pass, Segments};

use super::Tiger;

/// An item that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The item.
    pub item: u32,
    /// Sum of the log-probabilities of its id's tokens.
    pub log_prob: f32,
}

/// A prefix.
#[derive(Clone, Copy, Debug)]
struct Beam {
    /// Of the trie.
    node: u32,
    log_prob: f32,
    /// Row of the step that predicted it.
    row: u32,
}

/// Best first, then by node.
fn best_first(a: &Beam, b: &Beam) -> Ordering {
    b.log_prob.total_cmp(&a.log_prob).then(a.node.cmp(&b.node))
}

impl Tiger {
    /// The items that beam search finds for every history, best first, equal ones by id: in every place the `width` best
    /// prefixes are kept. With as many beams as items that is every item.
    ///
    /// # Errors
    /// When a history is empty, longer than the window or holds an unknown item, or a log-probability is not a number.
    pub fn beam_search(
        &self,
        ops: Ops,
        histories: &Histories,
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>> {
        let (ids, off) = (&self.ids, Dropout::off());
        let pass = Pass {
            ops,
            dropout: &off,
            leaves: None,
        };
        let (memory, rows) = self.encode(pass, histories)?;
        let mut steps = Steps::new(&self.decoder.layers, ops, &memory, &rows)?;
        let root = Beam {
            node: 0,
            log_prob: 0.0,
            row: 0,
        };
        let mut found = vec![vec![root]; histories.len()];
        for (position, place) in ids.places.iter().enumerate() {
            let beams = || found.iter().flatten();
            let said: Vec<u32> = beams().map(|beam| ids.nodes[beam.node as usize]).collect();
            let parents: Vec<u32> = beams().map(|beam| beam.row).collect();
            let lengths: Vec<usize> = found.iter().map(Vec::len).collect();
            let positions = vec![position as u32; said.len()];
            let x = ops.gather(&self.tokens, &said)?;
            let x = self.decoder.embedding.forward(pass, &x, &positions)?;
            let hidden = steps.step(&x, &parents, &Segments::from_lengths(&lengths))?; // [beams, d]
            let all = vec![place.clone(); said.len()];
            let scores = ops.tree_scores(&hidden, &self.tokens, &all)?;
            let mut row = 0;
            for (history, beams) in found.iter_mut().enumerate() {
                let mut next = vec![];
                for beam in beams.iter() {
                    let scores = scores.row(row);
                    next.extend(ids.trie.children(beam.node).map(|node| Beam {
                        node,
                        log_prob: beam.log_prob
                            + scores[(ids.nodes[node as usize] - place.start) as usize],
                        row: row as u32,
                    }));
                    row += 1;
                }
                if next.iter().any(|beam| beam.log_prob.is_nan()) {
                    candle_core::bail!(
                        "history {history}: log-probabilities are not numbers; the weights have diverged"
                    )
                }
                if width > 0 && width < next.len() {
                    next.select_nth_unstable_by(width - 1, best_first);
                }
                next.truncate(width);
                next.sort_unstable_by(best_first);
                *beams = next;
            }
        }
        let candidate = |beam: &Beam| {
            let item = ids.trie.item(beam.node)?;
            let log_prob = beam.log_prob;
            Some(Candidate { item, log_prob })
        };
        let list = |beams: &Vec<Beam>| beams.iter().filter_map(candidate).collect();
        Ok(found.iter().map(list).collect())
    }
}
