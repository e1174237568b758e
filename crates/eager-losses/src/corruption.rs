//! Codes with tokens masked or replaced, for the transfer task (paper §3.4).

use std::ops::Range;

use rand::Rng;

use crate::Masking;

/// Which tokens of `codes` codes of `levels` levels are taken: row numbers `code · levels + level`, ascending, at least
/// one of every code. `ratio` counts for [`Masking::Tokens`] alone. With [`Masking::OnePosition`] all codes have one position:
/// so do the parts of a batch, if `rng` is the same for each.
pub fn masked(
    codes: usize,
    levels: usize,
    masking: Masking,
    ratio: f64,
    rng: &mut impl Rng,
) -> Vec<u32> {
    match masking {
        Masking::OnePosition => {
            let level = rng.random_range(0..levels);
            (0..codes).map(|c| (c * levels + level) as u32).collect()
        }
        Masking::Tokens => (0..codes)
            .flat_map(|c| {
                let mut taken: Vec<usize> =
                    (0..levels).filter(|_| rng.random_bool(ratio)).collect();
                let one = rng.random_range(0..levels); // drawn always: the draws of one code do not shift the next's
                if taken.is_empty() {
                    taken.push(one);
                }
                taken.into_iter().map(move |l| (c * levels + l) as u32)
            })
            .collect(),
    }
}

/// `paths` `[codes, levels]` with the tokens at `rows` replaced by others of their level, drawn evenly; `levels` gives the
/// nodes of each. A level that has one node alone keeps it.
pub fn replaced(
    paths: &[u32],
    rows: &[u32],
    levels: &[Range<u32>],
    rng: &mut impl Rng,
) -> Vec<u32> {
    let mut out = paths.to_vec();
    for &row in rows {
        let nodes = &levels[row as usize % levels.len()];
        if nodes.len() > 1 {
            // One of the others: a draw from one node fewer, moved up past the true one.
            let draw = rng.random_range(nodes.start..nodes.end - 1);
            let token = &mut out[row as usize];
            *token = draw + u32::from(draw >= *token);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn tokens_are_taken_at_the_ratio_and_at_least_one_of_a_code() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (codes, levels) = (5000, 3);
        let rows = masked(codes, levels, Masking::Tokens, 0.3, &mut rng);
        assert!(rows.is_sorted_by(|a, b| a < b));
        let mut of_code = vec![0; codes];
        rows.iter().for_each(|&r| of_code[r as usize / levels] += 1);
        assert!(of_code.iter().all(|&n| n >= 1));
        // 0.3, and of the 0.7³ codes with none another third of a token.
        let want = 0.3 + 0.343 / 3.0;
        let share = rows.len() as f64 / (codes * levels) as f64;
        assert!((share - want).abs() < 0.01, "{share} against {want}");
        let all = masked(4, 2, Masking::Tokens, 1.0, &mut rng);
        assert_eq!(all, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn one_position_is_the_same_for_every_code() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut seen = [false; 2];
        for _ in 0..20 {
            let rows = masked(3, 2, Masking::OnePosition, 0.5, &mut rng);
            assert_eq!(
                (rows.len(), rows[1] - rows[0], rows[2] - rows[1]),
                (3, 2, 2)
            );
            seen[rows[0] as usize] = true;
        }
        assert_eq!(seen, [true; 2]);
    }

    #[test]
    fn a_replaced_token_is_another_of_its_level_drawn_evenly() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let levels = [1..4, 4..9];
        let mut counts = [0; 9];
        for _ in 0..4000 {
            let out = replaced(&[2, 6, 3, 4], &[0, 1], &levels, &mut rng);
            assert_eq!(out[2..], [3, 4], "rows not named stay");
            assert!(out[0] != 2 && levels[0].contains(&out[0]));
            assert!(out[1] != 6 && levels[1].contains(&out[1]));
            counts[out[0] as usize] += 1;
            counts[out[1] as usize] += 1;
        }
        assert!(
            [1, 3]
                .iter()
                .all(|&i: &usize| (counts[i] as f64 / 2000.0 - 1.0).abs() < 0.1)
        );
        assert!(
            [4, 5, 7, 8]
                .iter()
                .all(|&i: &usize| (counts[i] as f64 / 1000.0 - 1.0).abs() < 0.15)
        );
        assert_eq!(
            replaced(&[1, 3], &[0], &[1..2, 2..4], &mut rng),
            [1, 3],
            "a level of one node"
        );
    }
}
