//! Encodes a file of texts and prints how fast that went and the first texts' nearest neighbours.
//!
//! ```text
//! cargo run --release -p eager-text --example encode -- ENCODER FILE [NUMBER]
//! ```
//!
//! `ENCODER`: `sentence-t5-base`, `minilm`, `lsa`, … or a model folder. `FILE`: a text a line, or `.jsonl` with a `title`
//! a line. `NUMBER`: how many of them (all). The vectors come from the cache where they are in it; set
//! `EAGER_CACHE_DIR` to an empty folder to time the encoding.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use candle_core::Device;
use eager_text::{Places, encode_cached, open};

/// Every operation allocates its result, some megabytes: with glibc's allocator a third of the time goes into pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(file)) = (args.next(), args.next()) else {
        return Err("usage: encode ENCODER FILE [NUMBER]".into());
    };
    let number = args.next().map_or(Ok(usize::MAX), |n| n.parse())?;
    let texts = texts(&file, number)?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    if texts.is_empty() {
        return Err(format!("{file} has no texts").into());
    }

    let places = Places::new();
    let start = Instant::now();
    let encoder = open(&name, &texts, &places, &Device::Cpu, &mut |download| {
        let total = download
            .total
            .map_or(String::new(), |t| format!(" of {}", t >> 20));
        eprint!("\r{}: {}{total} MiB ", download.what, download.done >> 20);
    })?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}, {} dimensions, sha256 {}…, opened in {seconds:.2} s",
        encoder.name(),
        encoder.dim(),
        &encoder.digest()[..12]
    );

    let start = Instant::now();
    let vectors = encode_cached(encoder.as_ref(), &texts, &places, &mut |done| {
        eprint!("\r{done} of {} ", texts.len());
        std::io::stderr().flush().ok();
    })?; // [texts, dim]
    let seconds = start.elapsed().as_secs_f64();
    let n = texts.len();
    println!(
        "\r{n} texts in {seconds:.2} s: {:.0} a second",
        n as f64 / seconds
    );

    // Unit rows: cosines are dot products.
    let shown = n.min(3);
    let cosines = vectors.narrow(0, 0, shown)?.matmul(&vectors.t()?)?;
    for (i, row) in cosines.to_vec2::<f32>()?.into_iter().enumerate() {
        println!("\n{}", texts[i]);
        let mut others: Vec<usize> = (0..n).filter(|&j| j != i).collect();
        others.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        for &j in others.iter().take(3) {
            println!("  {:.3}  {}", row[j], texts[j]);
        }
    }
    Ok(())
}

/// The file's first `number` texts: its lines, or the titles of its JSON lines.
fn texts(file: &str, number: usize) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let content = std::fs::read_to_string(file)?;
    let lines = content.lines().filter(|line| !line.is_empty()).take(number);
    if !file.ends_with(".jsonl") {
        return Ok(lines.map(str::to_owned).collect());
    }
    let title = |line| -> Result<String, Box<dyn std::error::Error>> {
        let item: serde_json::Value = serde_json::from_str(line)?;
        Ok(item["title"].as_str().unwrap_or_default().to_owned())
    };
    lines.map(title).collect()
}
