//! The whole loss of a batch, or of a shard of one: `L = L_gen + λ₁·L_con + λ₂·(L_recon + L_recog)` (paper §3.5).
//!
//! One pass of the encoder, one of each decoder, one of the auxiliary decoder over the masked, the true and the replaced
//! codes together. Parts whose weight is 0 are not computed. All that is random is drawn from (seed, update, shard), or from
//! (seed, update) where shards share it.

use candle_core::{DType, Result, Tensor};
use eager_codes::CodeTrie;
use eager_data::Batch;
use eager_losses::{
    LossConfig, Masking, Metric, Negatives, TransferConfig, contrastive, generation, masked,
    recognition, reconstruction, replaced,
};
use eager_model::{Eager, Histories, PerStream, Stream, TargetCodes, TransferCodes};
use eager_ops::{Pass, RowRanges};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Of the draws that shards share: InfoNCE's negatives.
const NEGATIVES: u64 = 0x6e65_6761_7469_7665; // "negative"

/// Of the draws that shards share: the one position that is masked, and the one that is replaced.
const POSITION: u64 = 0x706f_7369_7469_6f6e; // "position"

/// What the losses know of the items.
#[derive(Debug)]
pub struct Items {
    /// The two code trees.
    pub tries: PerStream<CodeTrie>,
    /// The items' own vectors, `[n_items, width]` f32, on the model's device.
    pub vectors: PerStream<Tensor>,
}

/// Where the randomness of a shard comes from.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// The run's seed.
    pub seed: u64,
    /// The update, from 0.
    pub update: u64,
    /// The shard of the update's batch.
    pub shard: usize,
}

impl Draw {
    /// Draws of `what` that all shards of an update share.
    fn shared(self, what: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ what);
        rng.set_stream(self.update);
        rng
    }

    /// Draws of the shard alone: the transfer task's, in the order of [`masked`] for the reconstruction, [`masked`] for the
    /// recognition, [`replaced`]. With [`Masking::OnePosition`] it is [`replaced`] alone.
    #[must_use]
    pub fn own(self) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(self.shard as u64));
        rng.set_stream(self.update);
        rng
    }

    /// The tokens of `codes` codes of `levels` levels to mask, and those to replace. `own` are the shard's draws, which
    /// [`Masking::OnePosition`] does not take: its two positions are the whole batch's.
    fn taken(
        self,
        task: &TransferConfig,
        (codes, levels): (usize, usize),
        own: &mut ChaCha8Rng,
    ) -> [Vec<u32>; 2] {
        match task.masking {
            Masking::Tokens => [task.mask_ratio, task.replace_ratio]
                .map(|ratio| masked(codes, levels, task.masking, ratio, own)),
            Masking::OnePosition => {
                let mut rng = self.shared(POSITION);
                [task.mask_ratio, task.replace_ratio]
                    .map(|ratio| masked(codes, levels, task.masking, ratio, &mut rng))
            }
        }
    }

    /// The seed of the shard's dropout.
    pub fn dropout_seed(self) -> u64 {
        self.own().random()
    }
}

/// The parts of the loss, unweighted; 0 where a part's weight is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// The weighted sum: what is minimised.
    pub total: f64,
    /// Cross-entropy of the codes.
    pub generation: PerStream<f64>,
    /// Distance of the summaries to the items' vectors.
    pub contrastive: PerStream<f64>,
    /// Cross-entropy of masked tokens.
    pub reconstruction: f64,
    /// Binary cross-entropy of true against replaced codes.
    pub recognition: f64,
    /// Cross-entropy of the target among all items, by the direct head.
    pub direct: f64,
}

impl Parts {
    /// Adds `other`, weighted.
    pub fn add(&mut self, other: &Self, weight: f64) {
        let pairs = self.values_mut().into_iter().zip(other.named());
        pairs.for_each(|(sum, (_, x))| *sum += weight * x);
    }

    /// Every part with its name in logs.
    #[must_use]
    pub fn named(&self) -> [(&'static str, f64); 8] {
        [
            ("loss", self.total),
            ("generation/behaviour", self.generation.behaviour),
            ("generation/semantic", self.generation.semantic),
            ("contrastive/behaviour", self.contrastive.behaviour),
            ("contrastive/semantic", self.contrastive.semantic),
            ("reconstruction", self.reconstruction),
            ("recognition", self.recognition),
            ("direct", self.direct),
        ]
    }

    fn values_mut(&mut self) -> [&mut f64; 8] {
        [
            &mut self.total,
            &mut self.generation.behaviour,
            &mut self.generation.semantic,
            &mut self.contrastive.behaviour,
            &mut self.contrastive.semantic,
            &mut self.reconstruction,
            &mut self.recognition,
            &mut self.direct,
        ]
    }
}

/// One shard's part of one update.
#[derive(Clone, Copy, Debug)]
pub struct Objective<'a> {
    /// The model.
    pub model: &'a Eager,
    /// The items' codes and vectors.
    pub items: &'a Items,
    /// The losses' weights.
    pub config: &'a LossConfig,
    /// How the pass is computed.
    pub pass: Pass<'a>,
    /// Where its randomness comes from.
    pub draw: Draw,
}

impl Objective<'_> {
    /// The loss of `batch`.
    ///
    /// # Errors
    /// When the batch does not fit the model, or a tensor operation fails.
    pub fn loss(&self, batch: &Batch) -> Result<Loss> {
        let histories = Histories::new(&batch.items, &batch.offsets)?;
        let memory = self.model.encode(self.pass, &histories)?;
        let codes =
            PerStream::try_from_fn(|s| TargetCodes::new(&self.items.tries[s], &batch.targets))?;
        let negatives = negatives(self.items, self.config, self.draw)?;
        let corrupted = transfers(self.config).then(|| self.corrupted(&codes.behaviour));
        let vocabularies = PerStream::try_from_fn(|stream| {
            let mut tokens: Vec<u32> = codes[stream].siblings().collect();
            if let (Stream::Behaviour, Some(corrupted)) = (stream, &corrupted) {
                tokens.extend_from_slice(&corrupted.codes.tokens);
            }
            self.model.part_of_vocabulary(stream, self.pass, tokens)
        })?;
        let mut sum = Sum::default();
        for stream in Stream::ALL {
            let guides = corrupted.as_ref().filter(|_| stream == Stream::Semantic);
            let [generating, contrasting] = stream_weights(self.config, stream);
            if generating == 0.0 && contrasting == 0.0 && guides.is_none() {
                continue;
            }
            let (codes_here, vocabulary) = (&codes[stream], &vocabularies[stream]);
            let decoded =
                (self.model).decode(stream, self.pass, &memory, codes_here, vocabulary)?;
            if generating > 0.0 {
                let loss = generation(
                    self.pass,
                    &decoded.hidden,
                    vocabulary.table(),
                    &vocabulary.rows(&codes_here.rows)?,
                    codes_here.levels,
                    self.config.generation.levels,
                )?;
                sum.add(Part::Generation(stream), loss, generating)?;
            }
            if contrasting == 0.0 && guides.is_none() {
                continue;
            }
            let summary = &decoded.summary;
            let projection = self.model.project(stream, self.pass, summary)?; // [batch, width]
            if contrasting > 0.0 {
                let vectors = &self.items.vectors[stream];
                let loss = contrastive(
                    self.pass.ops,
                    &self.config.contrastive,
                    &projection,
                    &self.pass.ops.gather(vectors, &batch.targets)?,
                    &batch.targets,
                    negatives.as_ref().map(|n| &n[stream]),
                )?;
                sum.add(Part::Contrastive(stream), loss, contrasting)?;
            }
            if let Some(corrupted) = guides {
                let vocabulary = &vocabularies.behaviour;
                let states = self.model.transfer(
                    self.pass,
                    summary,
                    &projection,
                    &corrupted.codes,
                    vocabulary,
                )?; // [wanted, d]
                let rows = vocabulary.rows(&codes.behaviour.rows)?;
                self.transfer(&states, vocabulary.table(), &rows, corrupted, &mut sum)?;
            }
        }
        if self.config.direct > 0.0 {
            let Some(queries) = self.model.direct(self.pass, &memory)? else {
                candle_core::bail!("the loss `direct` has a weight, the model no `direct_head`")
            };
            let (ops, items) = (self.pass.ops, self.model.items());
            let loss = ops.cross_entropy(&queries, items, &batch.targets)?;
            sum.add(Part::Direct, loss, self.config.direct)?;
        }
        sum.finish()
    }

    /// The masked, the true and the replaced behaviour codes, for one pass over all of them.
    fn corrupted(&self, codes: &TargetCodes) -> Corrupted {
        let task = &self.config.transfer;
        let (n, levels) = (codes.len(), codes.levels);
        let mut rng = self.draw.own();
        let [masked_rows, replaced_rows] = self.draw.taken(task, (n, levels), &mut rng);
        let tree = &self.items.tries.behaviour;
        let nodes: Vec<_> = (1..=levels).map(|l| tree.level(l)).collect();

        let (mut tokens, mut wanted) = (vec![], vec![]);
        if task.reconstruction > 0.0 {
            tokens.extend_from_slice(&codes.paths);
            for &row in &masked_rows {
                tokens[row as usize] = self.model.mask_token();
                wanted.push(TransferCodes::token(row as usize, levels));
            }
        }
        let first = tokens.len() / levels; // of the codes to recognise
        if task.recognition > 0.0 {
            tokens.extend_from_slice(&codes.paths);
            tokens.extend(replaced(&codes.paths, &replaced_rows, &nodes, &mut rng));
            wanted.extend((first..first + 2 * n).map(|code| TransferCodes::cls(code, levels)));
        }
        let copies = tokens.len() / codes.paths.len();
        Corrupted {
            codes: TransferCodes {
                tokens,
                guides: (0..copies).flat_map(|_| 0..n as u32).collect(),
                wanted,
            },
            masked: masked_rows,
        }
    }

    /// The transfer task's two losses, of its network's `states` at the wanted positions, the behaviour tokens' embeddings
    /// and, for every token of the true codes, its siblings among them.
    fn transfer(
        &self,
        states: &Tensor,
        table: &Tensor,
        rows: &RowRanges,
        corrupted: &Corrupted,
        sum: &mut Sum,
    ) -> Result<()> {
        let (task, ops) = (&self.config.transfer, self.pass.ops);
        let mut first = 0;
        if task.reconstruction > 0.0 {
            let table = if task.detach_tokens {
                table.detach()
            } else {
                table.clone()
            };
            first = corrupted.masked.len();
            let hidden = states.narrow(0, 0, first)?;
            let loss = reconstruction(self.pass, &hidden, &table, rows, &corrupted.masked)?;
            sum.add(Part::Reconstruction, loss, task.reconstruction)?;
        }
        if task.recognition > 0.0 {
            let n = (states.dim(0)? - first) / 2;
            let cls = states.narrow(0, first, 2 * n)?;
            let logits = self.model.recognise(self.pass, &cls)?;
            let loss = recognition(ops, &logits.narrow(0, 0, n)?, &logits.narrow(0, n, n)?)?;
            sum.add(Part::Recognition, loss, task.recognition)?;
        }
        Ok(())
    }
}

/// What the transfer task reads.
struct Corrupted {
    codes: TransferCodes,
    /// The tokens that are masked.
    masked: Vec<u32>,
}

/// The loss of a batch, a scalar to differentiate, and the parts that it is the weighted sum of.
#[derive(Debug)]
pub struct Loss {
    /// The weighted sum.
    pub total: Tensor,
    terms: Vec<(Part, Tensor)>,
}

impl Loss {
    /// The parts' values, in one transfer from the device.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn parts(&self) -> Result<Parts> {
        let all = self.terms.iter().map(|(_, loss)| loss);
        let all: Vec<&Tensor> = all.chain([&self.total]).collect();
        let values = Tensor::stack(&all, 0)?.to_dtype(DType::F64)?.to_vec1()?;
        let mut parts = Parts::default();
        for ((part, _), &value) in self.terms.iter().zip(&values) {
            *parts.of(*part) = value;
        }
        parts.total = values[self.terms.len()];
        Ok(parts)
    }
}

/// One of [`Parts`].
#[derive(Clone, Copy, Debug)]
enum Part {
    Generation(Stream),
    Contrastive(Stream),
    Reconstruction,
    Recognition,
    Direct,
}

impl Parts {
    fn of(&mut self, part: Part) -> &mut f64 {
        match part {
            Part::Generation(stream) => &mut self.generation[stream],
            Part::Contrastive(stream) => &mut self.contrastive[stream],
            Part::Reconstruction => &mut self.reconstruction,
            Part::Recognition => &mut self.recognition,
            Part::Direct => &mut self.direct,
        }
    }
}

/// A weighted sum of losses.
#[derive(Default)]
struct Sum {
    total: Option<Tensor>,
    terms: Vec<(Part, Tensor)>,
}

impl Sum {
    fn add(&mut self, part: Part, loss: Tensor, weight: f64) -> Result<()> {
        let weighted = (&loss * weight)?;
        self.total = Some(match self.total.take() {
            None => weighted,
            Some(sum) => (sum + weighted)?,
        });
        self.terms.push((part, loss));
        Ok(())
    }

    fn finish(self) -> Result<Loss> {
        let Some(total) = self.total else {
            candle_core::bail!("every part of the loss has weight 0")
        };
        Ok(Loss {
            total,
            terms: self.terms,
        })
    }
}

/// Weights of generation and contrastive task.
fn stream_weights(config: &LossConfig, stream: Stream) -> [f64; 2] {
    let (g, c) = (&config.generation, &config.contrastive);
    match stream {
        Stream::Behaviour => [g.behaviour, c.behaviour],
        Stream::Semantic => [g.semantic, c.semantic],
    }
}

fn transfers(config: &LossConfig) -> bool {
    config.transfer.reconstruction > 0.0 || config.transfer.recognition > 0.0
}

/// The sampled items of InfoNCE, the same for all shards of an update and for both streams.
fn negatives(
    items: &Items,
    config: &LossConfig,
    draw: Draw,
) -> Result<Option<PerStream<Negatives>>> {
    if config.contrastive.metric != Metric::InfoNce {
        return Ok(None);
    }
    let n = items.tries.behaviour.n_items() as u32;
    let mut rng = draw.shared(NEGATIVES);
    let ids: Vec<u32> = (0..config.contrastive.negatives)
        .map(|_| rng.random_range(0..n))
        .collect();
    let on_device = Tensor::from_slice(&ids, ids.len(), items.vectors.behaviour.device())?;
    PerStream::try_from_fn(|stream| {
        Ok(Negatives {
            items: ids.clone(),
            vectors: items.vectors[stream].index_select(&on_device, 0)?,
        })
    })
    .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shards of an update, and what each masks and replaces in codes of three levels.
    fn shards(task: &TransferConfig, update: u64) -> [(ChaCha8Rng, [Vec<u32>; 2]); 2] {
        [(0, 5), (1, 4)].map(|(shard, codes)| {
            let draw = Draw {
                seed: 3,
                update,
                shard,
            };
            let mut own = draw.own();
            let rows = draw.taken(task, (codes, 3), &mut own);
            (own, rows)
        })
    }

    #[test]
    fn shards_of_an_update_mask_one_position_and_replace_one() {
        let task = LossConfig::official().transfer;
        let mut drawn = [[false; 3]; 3];
        for update in 0..50 {
            let [(_, a), (_, b)] = shards(&task, update);
            assert_eq!((a[0].len(), b[0].len()), (5, 4));
            for task in 0..2 {
                assert_eq!(a[task][..4], b[task], "both shards have it");
            }
            drawn[a[0][0] as usize][a[1][0] as usize] = true;
        }
        assert_eq!(drawn, [[true; 3]; 3], "each update and task draws anew");
    }

    #[test]
    fn shards_draw_single_tokens_for_themselves() {
        let task = TransferConfig {
            mask_ratio: 0.3,
            ..TransferConfig::default()
        };
        let shards = shards(&task, 7);
        for (shard, (mut own, rows)) in shards.into_iter().enumerate() {
            let draw = Draw {
                seed: 3,
                update: 7,
                shard,
            };
            let mut want = draw.own();
            for (rows, ratio) in rows.into_iter().zip([0.3, 0.5]) {
                let codes = 5 - shard;
                assert_eq!(rows, masked(codes, 3, Masking::Tokens, ratio, &mut want));
            }
            // The tokens to replace them with are drawn next.
            assert_eq!(own.random::<u64>(), want.random::<u64>());
        }
    }
}
