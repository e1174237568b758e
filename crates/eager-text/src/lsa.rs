//! Latent semantic analysis (Deerwester et al. 1990): TF-IDF over the catalogue's own words, and the leading singular
//! vectors of that matrix. Nothing is downloaded and nothing is learnt from other text.
//!
//! For word w of text d: (1 + ln tf) · (1 + ln((1 + n) / (1 + df))), with tf its count in d, df the number of the n texts
//! that it is in; each row scaled to length 1. A text's vector is its row times the leading right singular vectors,
//! scaled to length 1. Words are single (no bigrams), nothing is stemmed and no word is left out for being common.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::error::{Result, TextError};
use crate::svd::{self, Sparse};
use crate::{TextEncoder, digest};

/// Words that are kept at most, those in the most texts first.
const MOST_WORDS: usize = 1 << 16;
/// A row (of length 1) whose projection is shorter has nothing in the subspace: scaled up it would be rounding errors.
const NOTHING: f32 = 1e-4;
/// Texts from one report of progress to the next.
const STEP: usize = 4096;

/// Latent semantic analysis of a catalogue.
///
/// ```
/// # fn main() -> Result<(), eager_text::TextError> {
/// use eager_text::{Lsa, TextEncoder};
/// let titles = ["red nail polish", "nail polish remover", "lip gloss", "red lip gloss"];
/// let lsa = Lsa::fit(&titles, 2, Lsa::DEFAULT_SEED)?;
/// let vectors = lsa.encode(&["a red lipstick and lip gloss", "unheard of"], &mut |_| {})?; // [2, 2]
/// assert_eq!(vectors.get(1)?.to_vec1::<f32>()?, [0.0, 0.0]); // no known word
/// # Ok(()) }
/// ```
pub struct Lsa {
    digest: String,
    words: HashMap<String, u32>,
    idf: Vec<f32>,
    dim: usize,
    right: Vec<f32>, // [words, dim]
    singular_values: Vec<f64>,
}

impl Lsa {
    /// Its name among the encoders.
    pub const NAME: &'static str = "lsa";
    /// Width of the vectors, where the catalogue gives as many.
    pub const DEFAULT_DIM: usize = 256;
    /// Seed of the range finder.
    pub const DEFAULT_SEED: u64 = 0;

    /// Fits `dim` dimensions on `texts`, or as many as the texts span. Words are runs of letters and digits, lower-cased.
    /// The result depends on the arguments alone, not on the number of threads.
    ///
    /// # Errors
    /// [`TextError::Catalogue`] where the texts have no words, [`TextError::Config`] where `dim` is 0.
    pub fn fit(texts: &[&str], dim: usize, seed: u64) -> Result<Self> {
        if dim == 0 {
            return Err(TextError::Config {
                field: "dim",
                value: "0".to_owned(),
                expected: "1 or more",
            });
        }
        let mut frequencies: HashMap<String, u32> = HashMap::new();
        for text in texts {
            for (word, _) in counts(text) {
                *frequencies.entry(word).or_default() += 1;
            }
        }
        let mut known: Vec<(String, u32)> = frequencies.into_iter().collect();
        known.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        known.truncate(MOST_WORDS);
        let n = texts.len() as f64;
        let idf =
            |&(_, df): &(String, u32)| (1.0 + ((1.0 + n) / (1.0 + f64::from(df))).ln()) as f32;
        let mut lsa = Self {
            digest: key(texts, dim, seed),
            idf: known.iter().map(idf).collect(),
            words: (0u32..)
                .zip(known)
                .map(|(at, (word, _))| (word, at))
                .collect(),
            dim: 0,
            right: Vec::new(),
            singular_values: Vec::new(),
        };
        if lsa.words.is_empty() {
            return Err(TextError::Catalogue(format!(
                "none of the {} texts of the catalogue has a word; give every item a text",
                texts.len()
            )));
        }
        let rows = texts.iter().map(|text| lsa.row(text));
        let matrix = Sparse::new(lsa.words.len(), rows);
        let found = svd::truncated(&matrix, dim, seed)?;
        lsa.dim = found.values.len();
        lsa.right = found.right.iter().map(|&x| x as f32).collect();
        lsa.singular_values = found.values;
        Ok(lsa)
    }

    /// The singular values of the dimensions, largest first.
    #[must_use]
    pub fn singular_values(&self) -> &[f64] {
        &self.singular_values
    }

    /// The text's TF-IDF row, of length 1, columns ascending; empty where no word is known.
    fn row(&self, text: &str) -> Vec<(u32, f32)> {
        let known = counts(text).into_iter().filter_map(|(word, count)| {
            let &at = self.words.get(&word)?;
            Some((at, (1.0 + (count as f32).ln()) * self.idf[at as usize]))
        });
        let mut row: Vec<(u32, f32)> = known.collect();
        row.sort_unstable_by_key(|&(at, _)| at); // one order of summation
        let length = row.iter().map(|(_, x)| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|(_, x)| *x /= length);
        row
    }

    /// The text's vector into `out` [dim], which is 0.
    fn project(&self, text: &str, out: &mut [f32]) {
        for (at, value) in self.row(text) {
            let right = &self.right[at as usize * self.dim..][..self.dim];
            for (out, x) in out.iter_mut().zip(right) {
                *out += value * x;
            }
        }
        let length = out.iter().map(|x| x * x).sum::<f32>().sqrt();
        let scale = if length < NOTHING { 0.0 } else { 1.0 / length };
        out.iter_mut().for_each(|x| *x *= scale);
    }
}

/// The words of a text and how often each is there.
fn counts(text: &str) -> HashMap<String, u32> {
    let mut counts = HashMap::new();
    let text = text.to_lowercase();
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        if !word.is_empty() {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// Digest of everything that decides the vectors.
fn key(texts: &[&str], dim: usize, seed: u64) -> String {
    let mut hasher = Sha256::new_with_prefix("eager-text lsa 1");
    hasher.update((dim as u64).to_le_bytes());
    hasher.update(seed.to_le_bytes());
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    digest::hex(hasher)
}

impl TextEncoder for Lsa {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn encode(&self, texts: &[&str], progress: &mut dyn FnMut(usize)) -> Result<Tensor> {
        let mut rows = vec![0f32; texts.len() * self.dim];
        let mut done = 0;
        for (texts, rows) in texts.chunks(STEP).zip(rows.chunks_mut(STEP * self.dim)) {
            let pairs = texts.par_iter().zip(rows.par_chunks_exact_mut(self.dim));
            pairs.for_each(|(text, out)| self.project(text, out));
            done += texts.len();
            progress(done);
        }
        Ok(Tensor::from_vec(
            rows,
            (texts.len(), self.dim),
            &Device::Cpu,
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLES: [&str; 6] = [
        "OPI Nail Lacquer, red",
        "Nail lacquer remover; for nail lacquer",
        "Lip gloss (red)",
        "Clear lip gloss, lip balm",
        "Hair dryer 1875W",
        "Ionic HAIR dryer",
    ];

    #[test]
    fn words_and_weights_are_those_of_the_formula() {
        let words = counts("Nail-lacquer, NAIL 0.5oz Crème");
        let mut words: Vec<_> = words.iter().map(|(w, &c)| (w.as_str(), c)).collect();
        words.sort_unstable();
        assert_eq!(
            words,
            [
                ("0", 1),
                ("5oz", 1),
                ("crème", 1),
                ("lacquer", 1),
                ("nail", 2)
            ]
        );

        let lsa = Lsa::fit(&TITLES, 6, 0).unwrap();
        let row = lsa.row("nail nail dryer unheard");
        let idf = 1.0 + (7f32 / 3.0).ln(); // both words are in two of the six
        let (nail, dryer) = ((1.0 + 2f32.ln()) * idf, idf);
        let length = nail.hypot(dryer);
        let at = |word: &str| row.iter().find(|(at, _)| *at == lsa.words[word]).unwrap().1;
        assert!((at("nail") - nail / length).abs() < 1e-6);
        assert!((at("dryer") - dryer / length).abs() < 1e-6);
        assert_eq!(row.len(), 2);
    }

    #[test]
    fn all_dimensions_give_the_cosines_of_tf_idf() {
        let lsa = Lsa::fit(&TITLES, 100, 0).unwrap();
        assert_eq!(lsa.dim(), 6, "as many as the texts span");
        let vectors = lsa.encode(&TITLES, &mut |_| {}).unwrap();
        let found = vectors.matmul(&vectors.t().unwrap()).unwrap();
        let found = found.to_vec2::<f32>().unwrap();
        for (i, a) in TITLES.iter().enumerate() {
            for (j, b) in TITLES.iter().enumerate() {
                let b: HashMap<u32, f32> = lsa.row(b).into_iter().collect();
                let a = lsa.row(a);
                let cosine: f32 = a.iter().filter_map(|(w, x)| Some(x * b.get(w)?)).sum();
                assert!((found[i][j] - cosine).abs() < 1e-5, "{i}, {j}");
            }
        }
    }

    #[test]
    fn few_dimensions_keep_the_groups_and_unknown_texts_are_zero() {
        let lsa = Lsa::fit(&TITLES, 3, 0).unwrap();
        assert_eq!((lsa.dim(), lsa.singular_values().len()), (3, 3));
        let mut done = 0;
        let texts = ["hair", "dryer", "nail", "lip", "", "?!", "unheard of"];
        let vectors = lsa.encode(&texts, &mut |n| done = n).unwrap();
        assert_eq!(done, texts.len());
        let rows = vectors.to_vec2::<f32>().unwrap();
        let cosine = |i: usize, j: usize| {
            rows[i]
                .iter()
                .zip(&rows[j])
                .map(|(a, b)| a * b)
                .sum::<f32>()
        };
        assert!(cosine(0, 1) > 0.99 && cosine(0, 2).abs() < 0.1 && cosine(0, 3).abs() < 0.1);
        for row in &rows[..4] {
            assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
        }
        assert!(rows[4..].iter().flatten().all(|&x| x == 0.0));
    }

    #[test]
    fn the_digest_covers_catalogue_dim_and_seed() {
        let digests: Vec<String> = [
            Lsa::fit(&TITLES, 2, 0),
            Lsa::fit(&TITLES, 3, 0),
            Lsa::fit(&TITLES, 2, 1),
            Lsa::fit(&TITLES[1..], 2, 0),
        ]
        .map(|lsa| lsa.unwrap().digest().to_owned())
        .into();
        let distinct: std::collections::HashSet<_> = digests.iter().collect();
        assert_eq!(distinct.len(), 4);
    }

    #[test]
    fn a_catalogue_without_words_and_no_dimensions_are_refused() {
        for texts in [&[][..], &["", "…"][..]] {
            let error = Lsa::fit(texts, 2, 0).err().unwrap();
            assert!(matches!(error, TextError::Catalogue(_)), "{error}");
        }
        let error = Lsa::fit(&TITLES, 0, 0).err().unwrap();
        assert!(error.to_string().starts_with("dim is 0"), "{error}");
        assert_eq!(Lsa::fit(&["one text"], 9, 0).unwrap().dim(), 1);
    }
}
