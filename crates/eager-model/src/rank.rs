//! An item's place among all items.

use candle_core::Result;

/// How many items score higher than `target`; one of equal score and lower number counts as higher.
///
/// # Errors
/// When there is no such item, or its score is not finite.
pub fn items_above(scores: &[f32], target: u32) -> Result<usize> {
    let at = target as usize;
    let Some(&own) = scores.get(at) else {
        candle_core::bail!("item {target} is not among {} items", scores.len())
    };
    if !own.is_finite() {
        candle_core::bail!("item {target} scores {own}; training has diverged")
    }
    // As whole loops over one comparison each, which the compiler turns into vector code.
    let (lower, others) = scores.split_at(at);
    let lower = lower.iter().map(|&x| usize::from(x >= own)).sum::<usize>();
    Ok(lower + others.iter().map(|&x| usize::from(x > own)).sum::<usize>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_rank_by_item() {
        let scores = [2.0, f32::NAN, 5.0, 2.0, 7.0, 2.0, f32::NEG_INFINITY];
        let above = |target| items_above(&scores, target).unwrap();
        assert_eq!([4, 2, 0, 3, 5].map(above), [0, 1, 2, 3, 4]);
        for target in [1, 6, 7] {
            assert!(items_above(&scores, target).is_err(), "{target}");
        }
    }
}
