//! Writes a bundle of random weights with the codes and the model of the paper's form, for load tests: what it costs to ask
//! does not depend on what it has learnt. Its size is that of Amazon Beauty unless another is given.
//!
//! `cargo run --release --workspace --example random_bundle FOLDER [ITEMS]`

use std::process::ExitCode;

use eager_codes::CodesConfig;
use eager_fixtures::bundle_searched;
use eager_infer::InferConfig;
use eager_model::EagerConfig;

/// Items of Amazon Beauty, 5-core.
const BEAUTY: usize = 12_101;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let items = |text: Option<String>| {
        text.map_or(Some(BEAUTY), |text| text.parse().ok().filter(|&n| n > 1))
    };
    let (Some(folder), Some(items)) = (arguments.next(), items(arguments.next())) else {
        eprintln!("usage: random_bundle FOLDER [ITEMS]");
        return ExitCode::from(2);
    };
    let (codes, model, infer) = (
        CodesConfig::default(),
        EagerConfig::default(),
        InferConfig::default(),
    );
    let mut bundle = bundle_searched(items, 1, &codes, &model, infer);
    match bundle.save(folder.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
