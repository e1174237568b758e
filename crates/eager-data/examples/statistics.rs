//! Prints a dataset's figures: `cargo run --release -p eager-data --example statistics -- movielens-100k [DATA_DIR]`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use eager_data::{DataError, Dataset, Manifest, Places, acquire};

fn main() -> ExitCode {
    match print() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print() -> Result<(), DataError> {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_else(|| "demo".to_owned());
    let data = args.next().map(PathBuf::from);
    let manifest = Manifest::find(&name)?;
    let start = Instant::now();
    let acquired = acquire(&manifest, &Places::new(data.as_deref()), &mut |progress| {
        eprintln!(
            "{}: {} of {:?} bytes",
            progress.what, progress.done, progress.total
        );
    })?;
    for (file, path) in acquired.files().iter().zip(acquired.paths()) {
        println!(
            "{}  {}{}",
            file.sha256,
            path.display(),
            if file.pinned { "" } else { "  (not pinned)" }
        );
    }
    let dataset = Dataset::build(&manifest, &manifest.prepare, &acquired, &mut |_| {})?;
    println!(
        "{}: {}\n{}",
        dataset.name,
        manifest.title,
        dataset.statistics()
    );
    for text in dataset.item_texts(&manifest.text)?.iter().take(3) {
        println!("  {text}");
    }
    println!("{:.2} s", start.elapsed().as_secs_f64());
    Ok(())
}
