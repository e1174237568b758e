//! TIGER (Rajput et al., "Recommender systems with generative retrieval", NeurIPS 2023): an encoder–decoder over the tokens
//! of semantic ids. The encoder reads the history's ids end to end, the decoder says the next item's, each token by a softmax
//! over all tokens of its place, whatever the prefix.
//!
//! One table of token embeddings is the encoder's input, the decoder's input and the logits' other factor; every place of an
//! id has its own rows. A history's position is an item's, counted from the newest: its tokens share one, since a token's
//! rows already say which place it has. Layers are post-norm with GELU as EAGER's, sequences packed.

mod search;

use std::iter::repeat_n;
use std::ops::Range;

use candle_core::{Error, Result, Tensor};
use eager_codes::{CodeTrie, SemanticIds};
use eager_model::{Embedding, Histories, Init, Parameters, Weights, layers};
use eager_ops::{Layer, LayerInput, Pass, RowRanges, Segments};

use crate::{TigerConfig, check};

pub use search::Candidate;

/// The model, with the ids of the items that it was made for.
#[derive(Debug)]
pub struct Tiger {
    config: TigerConfig,
    ids: Ids,
    /// `[tokens + 1, d]`: those of every place, one place after the other, and the start.
    tokens: Tensor,
    encoder: Stack,
    decoder: Stack,
    parameters: Parameters,
}

/// How a sequence begins, and the layers it runs through.
#[derive(Debug)]
struct Stack {
    embedding: Embedding,
    layers: Vec<Layer>,
}

/// Semantic ids as rows of the table of tokens.
#[derive(Debug)]
struct Ids {
    /// `[items, length]`.
    rows: Vec<u32>,
    /// The rows of every place's tokens, `[length]`.
    places: Vec<Range<u32>>,
    /// The prefixes that there are.
    trie: CodeTrie,
    /// The row of every node of the trie; the root's is the start.
    nodes: Vec<u32>,
}

impl Ids {
    fn new(ids: &SemanticIds) -> eager_codes::Result<Self> {
        let mut end = 0;
        let place = |&tokens: &u32| {
            end += tokens;
            end - tokens..end
        };
        let places: Vec<Range<u32>> = ids.vocabulary().iter().map(place).collect();
        let items = 0..ids.n_items() as u32;
        let row = |(&token, place): (&u32, &Range<u32>)| place.start + token;
        let rows: Vec<u32> = items
            .flat_map(|item| ids.id(item).iter().zip(&places).map(row))
            .collect();
        let trie = CodeTrie::new(&ids.tree()?)?;
        let mut nodes = vec![end; trie.n_nodes()];
        for (item, rows) in (0..).zip(rows.chunks_exact(places.len())) {
            for (&node, &row) in trie.path(item).iter().zip(rows) {
                nodes[node as usize] = row;
            }
        }
        Ok(Self {
            rows,
            places,
            trie,
            nodes,
        })
    }

    /// Tokens of an id.
    fn length(&self) -> usize {
        self.places.len()
    }

    /// The row of the start token, the last of the table.
    fn start(&self) -> u32 {
        self.nodes[0]
    }

    /// The rows of an item's tokens, `[length]`.
    fn of(&self, item: u32) -> &[u32] {
        &self.rows[item as usize * self.length()..][..self.length()]
    }
}

impl Stack {
    /// Embedded rows of the table at their positions, through all layers.
    fn forward(
        &self,
        pass: Pass<'_>,
        (tokens, rows): (&Tensor, &[u32]),
        positions: &[u32],
        input: LayerInput<'_>,
    ) -> Result<Tensor> {
        let x = pass.ops.gather(tokens, rows)?;
        let mut x = self.embedding.forward(pass, &x, positions)?;
        for layer in &self.layers {
            x = layer.forward(pass, &x, input)?;
        }
        Ok(x)
    }
}

impl Tiger {
    /// Makes the model of `weights`: drawn, or saved ones of the same configuration and ids.
    ///
    /// # Errors
    /// When `config` is not valid for such ids, or saved weights do not fit.
    pub fn new(config: &TigerConfig, ids: &SemanticIds, mut weights: Weights) -> Result<Self> {
        config.validate(ids.length()).map_err(Error::wrap)?;
        let ids = Ids::new(ids).map_err(Error::wrap)?;
        let (d, init) = (config.d_model, config.init);
        let tokens = ids.start() as usize + 1;
        let w = &mut weights;
        let tokens = w.get("tokens", (tokens, d), Init::Normal(init))?;
        let mut stack = |name: &str, positions, cross, n| {
            let shape = config.layer(cross);
            Ok::<_, Error>(Stack {
                embedding: Embedding::new(w, name, (positions, d), init)?,
                layers: layers(w, name, shape, n, init)?,
            })
        };
        Ok(Self {
            encoder: stack("encoder", config.window, false, config.encoder_layers)?,
            decoder: stack("decoder", ids.length(), true, config.decoder_layers)?,
            tokens,
            ids,
            parameters: weights.finish()?,
            config: config.clone(),
        })
    }

    /// The configuration it was made with.
    #[must_use]
    pub fn config(&self) -> &TigerConfig {
        &self.config
    }

    /// Its parameters.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Number of items.
    #[must_use]
    pub fn n_items(&self) -> usize {
        self.ids.trie.n_items()
    }

    /// A state for every token of the histories, `[tokens, d]`, and where each history's are.
    fn encode(&self, pass: Pass<'_>, histories: &Histories) -> Result<(Tensor, Segments)> {
        check(histories, self.config.window, self.n_items())?;
        let length = self.ids.length();
        let items = histories.items().iter();
        let rows: Vec<u32> = items.flat_map(|&item| self.ids.of(item)).copied().collect();
        let ages = histories.rows().iter().flat_map(|r| (0..r.len()).rev());
        let positions: Vec<u32> = ages.flat_map(|age| repeat_n(age as u32, length)).collect();
        let lengths: Vec<usize> = histories.rows().iter().map(|r| r.len() * length).collect();
        let segments = Segments::from_lengths(&lengths);
        let input = LayerInput {
            rows: &segments,
            wanted: None,
            causal: false,
            memory: None,
        };
        let hidden = (self.encoder).forward(pass, (&self.tokens, &rows), &positions, input)?;
        Ok((hidden, segments))
    }

    /// The states that the tokens of one target a history are predicted from, teacher-forced: `[histories · length, d]`.
    fn decode(
        &self,
        pass: Pass<'_>,
        (memory, memory_rows): (&Tensor, &Segments),
        targets: &[u32],
    ) -> Result<Tensor> {
        let length = self.ids.length();
        let said = |&target: &u32| &self.ids.of(target)[..length - 1];
        let rows: Vec<u32> = targets
            .iter()
            .flat_map(|target| [self.ids.start()].into_iter().chain(said(target).to_vec()))
            .collect();
        let positions: Vec<u32> = (targets.iter().flat_map(|_| 0..length as u32)).collect();
        let input = LayerInput {
            rows: &Segments::uniform(targets.len(), length),
            wanted: None,
            causal: true,
            memory: Some((memory, memory_rows)),
        };
        (self.decoder).forward(pass, (&self.tokens, &rows), &positions, input)
    }

    /// Mean over histories and places of `-log softmax(logits)[token]` of the target's id, over all tokens of the place.
    /// `targets` `[histories]`; scalar out.
    ///
    /// # Errors
    /// When a history is empty, longer than the window or holds an unknown item, there are not as many targets, or one is
    /// unknown.
    pub fn loss(&self, pass: Pass<'_>, histories: &Histories, targets: &[u32]) -> Result<Tensor> {
        let unknown = targets.iter().find(|&&t| t as usize >= self.n_items());
        if targets.len() != histories.len() || unknown.is_some() {
            candle_core::bail!(
                "{} targets, up to {:?} of {} items, for {} histories",
                targets.len(),
                targets.iter().max(),
                self.n_items(),
                histories.len()
            )
        }
        let (memory, rows) = self.encode(pass, histories)?;
        let hidden = self.decode(pass, (&memory, &rows), targets)?;
        let ranges = targets.iter().flat_map(|_| self.ids.places.clone());
        let tokens = targets.iter().flat_map(|&target| self.ids.of(target));
        let choices = RowRanges::new(ranges.collect(), tokens.copied().collect())?;
        pass.ops.tree_cross_entropy(&hidden, &self.tokens, &choices)
    }
}
