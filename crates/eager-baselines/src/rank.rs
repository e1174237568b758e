//! Ranks of targets among all items.

use candle_core::{DType, Result, Tensor};
use eager_model::items_above;

/// A target's rank, counted from 1; `None` where it is masked.
pub type Rank = Option<u32>;

/// Rank of every state's target by its product with the item embeddings, equal scores by item: `states` `[n, d]`, `items`
/// `[n_items, d]`, a target and the items that are left out a state. A target that is left out has no rank.
///
/// # Errors
/// When shapes do not fit, an item is unknown, or the score of a target that has a rank is not finite.
pub fn ranks(
    states: &Tensor,
    items: &Tensor,
    targets: &[u32],
    masked: &[&[u32]],
) -> Result<Vec<Rank>> {
    let (n, n_items) = (states.dim(0)?, items.dim(0)?);
    let all = || targets.iter().chain(masked.iter().copied().flatten());
    if n != targets.len() || n != masked.len() || all().any(|&item| item as usize >= n_items) {
        candle_core::bail!(
            "ranks: {n} states, {} targets, {} histories, items up to {:?} of {n_items}",
            targets.len(),
            masked.len(),
            all().max()
        )
    }
    let scores = states.matmul(&items.t()?)?.to_dtype(DType::F32)?; // [n, n_items]
    let mut scores = scores.flatten_all()?.to_vec1::<f32>()?;
    let rows = scores.chunks_exact_mut(n_items).zip(targets).zip(masked);
    rows.map(|((scores, &target), masked)| rank(scores, target, masked))
        .collect()
}

fn rank(scores: &mut [f32], target: u32, masked: &[u32]) -> Result<Rank> {
    if masked.contains(&target) {
        return Ok(None);
    }
    for &item in masked {
        scores[item as usize] = f32::NEG_INFINITY;
    }
    Ok(Some(items_above(scores, target)? as u32 + 1))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn by_score_then_by_item_without_what_is_masked() {
        // One column, so an item's score is its number times the state's.
        let items = Tensor::new(&[[1f32], [5.], [1.], [7.], [5.]], &Device::Cpu).unwrap();
        let states = Tensor::new(&[[1f32], [1.], [2.], [1.], [-1.]], &Device::Cpu).unwrap();
        let none: &[u32] = &[];
        let found =
            |masked: [&[u32]; 5]| ranks(&states, &items, &[2, 4, 3, 1, 0], &masked).unwrap();
        assert_eq!(
            found([none; 5]),
            [Some(5), Some(3), Some(1), Some(2), Some(1)]
        );
        assert_eq!(
            found([&[3, 3, 4], &[1], &[0], &[4, 1], &[2]]),
            [Some(3), Some(2), Some(1), None, Some(1)]
        );
        assert!(ranks(&states, &items, &[5, 0, 0, 0, 0], &[none; 5]).is_err());
        assert!(ranks(&states, &items, &[0], &[none]).is_err());
        let nan = Tensor::new(&[[f32::NAN]], &Device::Cpu).unwrap();
        assert!(ranks(&nan, &items, &[0], &[none]).is_err());
    }
}
