//! Explanations and similar items as dictionaries.

use eager_bundle::{Bundle, CodePath, Explanation, Ranked, Similar};
use pyo3::prelude::*;

/// An item of a list, as in the JSON of `eager recommend`.
#[derive(IntoPyObject)]
pub(crate) struct Listed<'a> {
    id: &'a str,
    title: Option<&'a str>,
    score: f32,
    behaviour: Option<f32>,
    semantic: Option<f32>,
}

/// Why an item: its code in each stream.
#[derive(IntoPyObject)]
pub(crate) struct Explained<'a> {
    id: &'a str,
    title: Option<&'a str>,
    behaviour: Code<'a>,
    semantic: Code<'a>,
}

#[derive(IntoPyObject)]
struct Code<'a> {
    log_prob: f32,
    tokens: Vec<Token<'a>>,
}

#[derive(IntoPyObject)]
struct Token<'a> {
    token: u32,
    log_prob: f32,
    siblings: usize,
    leaves: usize,
    samples: Vec<&'a str>,
}

/// An item near another.
#[derive(IntoPyObject)]
pub(crate) struct Near<'a> {
    id: &'a str,
    title: Option<&'a str>,
    cosine: f32,
}

fn id(bundle: &Bundle, item: u32) -> &str {
    &bundle.items()[item as usize].id
}

fn title(bundle: &Bundle, item: u32) -> Option<&str> {
    bundle.items()[item as usize].title.as_deref()
}

impl<'a> Listed<'a> {
    pub(crate) fn new(bundle: &'a Bundle, ranked: &Ranked) -> Self {
        Self {
            id: id(bundle, ranked.item),
            title: title(bundle, ranked.item),
            score: ranked.score,
            behaviour: ranked.behaviour,
            semantic: ranked.semantic,
        }
    }
}

impl<'a> Near<'a> {
    pub(crate) fn new(bundle: &'a Bundle, similar: &Similar) -> Self {
        Self {
            id: id(bundle, similar.item),
            title: title(bundle, similar.item),
            cosine: similar.cosine,
        }
    }
}

impl<'a> Explained<'a> {
    pub(crate) fn new(bundle: &'a Bundle, explanation: &Explanation) -> Self {
        let code = |path: &CodePath| Code {
            log_prob: path.log_prob,
            tokens: path
                .tokens
                .iter()
                .map(|token| Token {
                    token: token.ordinal,
                    log_prob: token.log_prob,
                    siblings: token.siblings,
                    leaves: token.leaves,
                    samples: token.samples.iter().map(|&item| id(bundle, item)).collect(),
                })
                .collect(),
        };
        Self {
            id: id(bundle, explanation.item),
            title: title(bundle, explanation.item),
            behaviour: code(&explanation.streams.behaviour),
            semantic: code(&explanation.streams.semantic),
        }
    }
}
