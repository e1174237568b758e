//! Texts to token ids: the model's own `tokenizer.json`, with its padding removed and its truncation
//! replaced by the model's `max_seq_length`, special tokens (such as `</s>`) counted.

use std::path::{Path, PathBuf};

use tokenizers::{Tokenizer, TruncationParams};

use crate::error::{Result, TextError};

/// A tokenizer that never pads and cuts at a fixed number of tokens.
pub(crate) struct Tokens {
    tokenizer: Tokenizer,
    lower_case: bool,
    path: PathBuf,
}

impl Tokens {
    /// Reads `tokenizer.json` in `dir`; ids must stay below `vocabulary`.
    ///
    /// # Errors
    /// When the file is missing or malformed, or knows more tokens than the model has vectors.
    pub fn read(
        dir: &Path,
        max_tokens: usize,
        lower_case: bool,
        vocabulary: usize,
    ) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        if !path.exists() {
            let why = "texts are tokenised with it (a model saved with a slow tokenizer only has \
                       spiece.model or vocab.txt: save it again with the fast one)";
            return Err(TextError::Missing {
                path,
                why: why.to_owned(),
            });
        }
        let fail = |message: String| TextError::Tokenizer {
            path: path.clone(),
            message,
        };
        let mut tokenizer = Tokenizer::from_file(&path).map_err(|e| fail(e.to_string()))?;
        let known = tokenizer.get_vocab_size(true);
        if known > vocabulary {
            return Err(fail(format!(
                "{known} tokens, but the model has {vocabulary} vectors"
            )));
        }
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(Some(TruncationParams {
                max_length: max_tokens,
                ..Default::default()
            }))
            .map_err(|e| fail(e.to_string()))?;
        Ok(Self {
            tokenizer,
            lower_case,
            path,
        })
    }

    /// Token ids of every text, special tokens included, at least one each.
    ///
    /// # Errors
    /// When the tokenizer fails, or a text has no token at all.
    pub fn ids(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>> {
        let fail = |message: String| TextError::Tokenizer {
            path: self.path.clone(),
            message,
        };
        let encodings = if self.lower_case {
            let texts = texts.iter().map(|t| t.to_lowercase()).collect();
            self.tokenizer.encode_batch_fast::<String>(texts, true)
        } else {
            self.tokenizer.encode_batch_fast(texts.to_vec(), true)
        };
        let encodings = encodings.map_err(|e| fail(e.to_string()))?;
        let ids: Vec<Vec<u32>> = encodings.iter().map(|e| e.get_ids().to_vec()).collect();
        match ids.iter().position(Vec::is_empty) {
            None => Ok(ids),
            Some(index) => Err(fail(format!(
                "text {index} ({:?}) has no token, and the tokenizer adds no special one",
                texts[index]
            ))),
        }
    }
}
