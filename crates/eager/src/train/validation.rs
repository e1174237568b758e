//! What a validation looks at: some users' items, the same at every validation.

use anyhow::{Context as _, Result};
use eager_data::{ItemId, Split};
use eager_infer::metrics::{Metrics, Rank};
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use super::epochs::Validation;
use crate::seed;

/// Users with what is known of each and the item to be found.
#[derive(Clone, Debug)]
pub struct ValidationUsers {
    histories: Vec<Vec<u32>>,
    /// `[users]`.
    pub targets: Vec<u32>,
}

impl ValidationUsers {
    /// `most` users drawn from `seed`, of those that have a target in validation; all for 0.
    #[must_use]
    pub fn new(split: &Split, most: usize, seed: u64) -> Self {
        let all = split.valid_users();
        let users: Vec<u32> = match most {
            n if n == 0 || n >= all.len() => all,
            n => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed::derive(seed, "validation users"));
                let mut places = index::sample(&mut rng, all.len(), n).into_vec();
                places.sort_unstable();
                places.into_iter().map(|place| all[place]).collect()
            }
        };
        let examples = || users.iter().filter_map(|&user| split.valid(user as usize));
        let ids = |items: &[ItemId]| items.iter().map(|i| i.0).collect();
        Self {
            histories: examples().map(|example| ids(example.history)).collect(),
            targets: examples().map(|example| example.target.0).collect(),
        }
    }

    /// The histories, oldest item first.
    #[must_use]
    pub fn histories(&self) -> Vec<&[u32]> {
        self.histories.iter().map(Vec::as_slice).collect()
    }
}

/// What the targets' ranks come to.
///
/// # Errors
/// When there is none.
pub fn validation(ranks: &[Rank]) -> Result<Validation> {
    let metrics = Metrics::new(ranks, &[10])?;
    let at = metrics.at(10).context("no figures at 10")?;
    Ok(Validation {
        recall_10: at.recall,
        ndcg_10: at.ndcg,
    })
}
