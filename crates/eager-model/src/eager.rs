//! The whole generator (paper figure 2): the shared encoder, the two decoders, the projections of their summaries to the
//! items' vectors, and the transfer task's network.

use candle_core::{D, Result, Tensor};
use eager_codes::CodeTrie;
use eager_ops::{Ops, Pass};

use crate::decoder::{Decoded, Decoder, Decoding, SUMMARY, TargetCodes};
use crate::encoder::{Encoder, Histories, Memory};
use crate::layers::Linear;
use crate::transfer::{SPECIALS, Transfer, TransferCodes, mask_token};
use crate::{EagerConfig, Guide, Parameters, PerStream, Stream, Vocabulary, Weights};

/// What the model must know of the items.
#[derive(Clone, Copy, Debug)]
pub struct Catalogue<'a> {
    /// The code tries; both over the same items.
    pub tries: PerStream<&'a CodeTrie>,
    /// Widths of the items' vectors, which summaries are projected to.
    pub dims: PerStream<usize>,
}

/// The generator. Cheap to share between threads by reference; a forward pass changes nothing.
#[derive(Debug)]
pub struct Eager {
    config: EagerConfig,
    encoder: Encoder,
    decoders: PerStream<Decoder>,
    projections: PerStream<Linear>,
    transfer: Transfer,
    parameters: Parameters,
}

impl Eager {
    /// Makes the model of `weights`: drawn, or saved ones of the same configuration and catalogue.
    ///
    /// # Errors
    /// When `config` is not valid, the tries are of different items, or saved weights do not fit.
    pub fn new(
        config: &EagerConfig,
        catalogue: &Catalogue<'_>,
        mut weights: Weights,
    ) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let Catalogue { tries, dims } = catalogue;
        let n_items = tries.behaviour.n_items();
        if tries.semantic.n_items() != n_items {
            candle_core::bail!(
                "{n_items} items have behaviour codes, {} semantic ones",
                tries.semantic.n_items()
            )
        }
        let w = &mut weights;
        let encoder = Encoder::new(w, config, n_items)?;
        let decoders = PerStream::try_from_fn(|stream| {
            let specials = match stream {
                Stream::Behaviour => SPECIALS,
                Stream::Semantic => SUMMARY as usize + 1,
            };
            Decoder::new(w, stream.name(), config, tries[stream], specials)
        })?;
        let projections = PerStream::try_from_fn(|stream| {
            let name = format!("{}.projection", stream.name());
            Linear::new(w, &name, config.d_model, dims[stream], config.init)
        })?;
        let transfer = Transfer::new(w, config, tries.behaviour.levels(), dims.semantic)?;
        Ok(Self {
            config: config.clone(),
            encoder,
            decoders,
            projections,
            transfer,
            parameters: weights.finish()?,
        })
    }

    /// The configuration it was made with.
    #[must_use]
    pub fn config(&self) -> &EagerConfig {
        &self.config
    }

    /// Its parameters.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Encodes histories, each of at most `window - 1` items and at least one.
    ///
    /// # Errors
    /// When a history is empty or longer, or holds an unknown item.
    pub fn encode(&self, pass: Pass<'_>, histories: &Histories) -> Result<Memory> {
        self.encoder.forward(pass, histories)
    }

    /// What the direct head makes of histories: the states at their newest items, `[batch, d]`. Logits over the catalogue are
    /// their products with [`items`](Self::items), as in SASRec; the head has no parameters of its own. `None` without
    /// [`EagerConfig::direct_head`].
    ///
    /// # Errors
    /// When memory cannot be had.
    pub fn direct(&self, pass: Pass<'_>, memory: &Memory) -> Result<Option<Tensor>> {
        if !self.config.direct_head {
            return Ok(None);
        }
        let newest: Vec<u32> = memory.rows.iter().map(|rows| rows.end as u32 - 1).collect();
        // With a head there is one table, so both streams' states are the same.
        let states = &memory.hidden[Stream::Behaviour];
        pass.ops.gather(states, &newest).map(Some)
    }

    /// The items' embeddings that the encoder reads, `[n_items, d]`; `[2 · n_items, d]` with a table for each stream.
    #[must_use]
    pub fn items(&self) -> &Tensor {
        self.encoder.items()
    }

    /// All tokens of a stream.
    #[must_use]
    pub fn vocabulary(&self, stream: Stream) -> Vocabulary {
        Vocabulary::all(self.tokens(stream))
    }

    /// Some tokens of a stream, with the start and the special tokens: for a pass that reads no others.
    ///
    /// # Errors
    /// When there is no such token.
    pub fn part_of_vocabulary(
        &self,
        stream: Stream,
        pass: Pass<'_>,
        mut tokens: Vec<u32>,
    ) -> Result<Vocabulary> {
        let decoder = &self.decoders[stream];
        tokens.push(0);
        tokens.extend(decoder.specials());
        Vocabulary::some(pass, decoder.tokens(), tokens)
    }

    /// One stream's teacher-forced pass over the targets' codes, whose tokens `vocabulary` has.
    ///
    /// # Errors
    /// When there are not as many codes as histories, or a token is not in the vocabulary.
    pub fn decode(
        &self,
        stream: Stream,
        pass: Pass<'_>,
        memory: &Memory,
        codes: &TargetCodes,
        vocabulary: &Vocabulary,
    ) -> Result<Decoded> {
        let (hidden, rows) = (&memory.hidden[stream], &memory.rows);
        self.decoders[stream].forward(pass, (hidden, rows), codes, vocabulary)
    }

    /// Begins to generate codes of one stream for every history.
    ///
    /// # Errors
    /// When memory cannot be had.
    pub fn begin(&self, stream: Stream, ops: Ops, memory: &Memory) -> Result<Decoding<'_>> {
        self.decoders[stream].begin(ops, &memory.hidden[stream], &memory.rows)
    }

    /// The embeddings that a stream's logits are products with; row i is node i of its trie.
    #[must_use]
    pub fn tokens(&self, stream: Stream) -> &Tensor {
        self.decoders[stream].tokens()
    }

    /// Nodes of the trie that a stream's tokens are of.
    #[must_use]
    pub fn nodes(&self, stream: Stream) -> usize {
        // The special tokens stand behind them.
        self.decoders[stream].specials().start as usize
    }

    /// The embeddings of a stream's special tokens, `[specials, d]`.
    pub(crate) fn special_rows(&self, stream: Stream) -> Result<Tensor> {
        let decoder = &self.decoders[stream];
        let rows = decoder.specials();
        (decoder.tokens().detach()).narrow(0, rows.start as usize, rows.len())
    }

    /// Summaries `[batch, d]` in the space of the stream's item vectors: `[batch, dims[stream]]` (paper §3.3).
    ///
    /// # Errors
    /// When the width is not the model's.
    pub fn project(&self, stream: Stream, pass: Pass<'_>, summary: &Tensor) -> Result<Tensor> {
        let summary = if self.config.normalise_summary {
            let norm = summary.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
            summary.broadcast_div(&(norm + 1e-12)?)?
        } else {
            summary.clone()
        };
        self.projections[stream].forward(pass.ops, &summary)
    }

    /// The transfer task's pass over behaviour codes, whose tokens `vocabulary` has, guided by the semantic stream's `summary` `[batch, d]` and its
    /// `projection` `[batch, dims.semantic]`, whichever the configuration names: the states at the wanted positions,
    /// `[wanted, d]`.
    ///
    /// # Errors
    /// When a token or a guide does not exist.
    pub fn transfer(
        &self,
        pass: Pass<'_>,
        summary: &Tensor,
        projection: &Tensor,
        codes: &TransferCodes,
        vocabulary: &Vocabulary,
    ) -> Result<Tensor> {
        let guide = match self.config.guide {
            Guide::Summary => summary,
            Guide::Projection => projection,
        };
        let guide = if self.config.detach_guide {
            guide.detach()
        } else {
            guide.clone()
        };
        self.transfer
            .forward(pass, &self.decoders.behaviour, &guide, codes, vocabulary)
    }

    /// Logits `[n]` that code and guide belong together, of states at `[CLS]`.
    ///
    /// # Errors
    /// When the width is not the model's.
    pub fn recognise(&self, pass: Pass<'_>, cls: &Tensor) -> Result<Tensor> {
        self.transfer.recognise(pass, cls)
    }

    /// The token that stands for a masked one in [`TransferCodes`].
    #[must_use]
    pub fn mask_token(&self) -> u32 {
        mask_token(&self.decoders.behaviour)
    }
}
