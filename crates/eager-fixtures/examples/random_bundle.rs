//! Writes a bundle of random weights with the codes and the model of the paper's form, for load tests: what it costs to ask
//! does not depend on what it has learnt. Its size is that of Amazon Beauty unless another is given. Or one of the two of the
//! Python package's tests: `small`, and `direct`, which has a direct head.
//!
//! `cargo run --release --workspace --example random_bundle FOLDER [ITEMS|small|direct]`

use std::process::ExitCode;

use eager_bundle::Bundle;
use eager_codes::CodesConfig;
use eager_fixtures::{bundle, bundle_searched, bundle_with_direct_head};
use eager_infer::InferConfig;
use eager_model::EagerConfig;

/// Items of Amazon Beauty, 5-core.
const BEAUTY: usize = 12_101;

/// A bundle of the paper's form.
fn of_paper(items: usize) -> Bundle {
    let (codes, model, infer) = (
        CodesConfig::default(),
        EagerConfig::default(),
        InferConfig::default(),
    );
    bundle_searched(items, 1, &codes, &model, infer)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let bundle = match words[..] {
        [_] => Some(of_paper(BEAUTY)),
        [_, "small"] => Some(bundle(60, 7)),
        [_, "direct"] => Some(bundle_with_direct_head(60, 7)),
        [_, items] => items.parse().ok().filter(|&n| n > 1).map(of_paper),
        _ => None,
    };
    let Some(mut bundle) = bundle else {
        eprintln!("usage: random_bundle FOLDER [ITEMS|small|direct]");
        return ExitCode::from(2);
    };
    match bundle.save(arguments[0].as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
