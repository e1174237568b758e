//! Throws damaged requests at the routes, or damaged bundles at the loader, for so many minutes; prints what came of it and the
//! memory used on the way. A panic ends it with exit code 1 and the input in hexadecimal.
//!
//! `cargo run --release --workspace --example fuzz -- http|bundle MINUTES [SEED]`
//!
//! Inputs are valid ones with bytes changed, cut, doubled and spliced. Of the bundles half are signed anew after the damage, so
//! that it reaches the readers behind the digests.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::Request;
use candle_core::Device;
use eager_bundle::{Bundle, Query};
use eager_serve::{App, Config, Source};
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tower::ServiceExt as _;

const BODIES: [(&str, &str); 6] = [
    (
        "/v1/recommend",
        r#"{"history":["i1","i2","i3"],"k":5,"list":"merged","exclude_seen":true}"#,
    ),
    (
        "/v1/recommend",
        r#"{"history":["i4"],"allow":["i1","i5","i9"],"deny":["i5"],"categories":["c1","all"]}"#,
    ),
    (
        "/v1/recommend",
        r#"{"history":["x","i4"],"unknown":"skip","model":"random","k":100,"list":"semantic"}"#,
    ),
    (
        "/v1/explain",
        r#"{"history":["i1","i2"],"items":["i3","i4"],"samples":3}"#,
    ),
    ("/v1/admin/reload", r#"{"model":"random"}"#),
    ("/v1/recommend", r#"{"history":[],"k":0}"#),
];

const PATHS: [&str; 6] = [
    "/v1/items?q=item%20num&limit=5&offset=3&category=c1",
    "/v1/items/i3",
    "/v1/items/i3/similar?view=behaviour&k=3",
    "/v1/tree/semantic?prefix=1,0&limit=9&samples=2",
    "/v1/models?model=random",
    "/docs",
];

/// What damage likes to put in.
const WORDS: [&str; 24] = [
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "1e999",
    "18446744073709551616",
    "0",
    "\"i1\"",
    "\"k\":",
    "\"history\":",
    "\\ud800",
    "\u{fffd}",
    "\0",
    "%ff",
    "%2F",
    "&",
    "4294967295",
];

fn damaged(rng: &mut ChaCha8Rng, valid: &[u8], others: &[&[u8]]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=bytes.len());
        let end = rng.random_range(at..=bytes.len()).min(at + 64);
        match rng.random_range(0..7) {
            0 if at < bytes.len() => bytes[at] = rng.random(),
            1 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let copy = bytes[at..end].to_vec();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, copy);
            }
            4 => bytes.truncate(at),
            5 => {
                let word = WORDS.choose(rng).copied().unwrap_or_default();
                bytes.splice(at..end.min(at + 3), word.bytes());
            }
            _ => {
                let other = others.choose(rng).copied().unwrap_or_default();
                let from = rng.random_range(0..=other.len());
                bytes.splice(at..end, other[from..].iter().take(64).copied());
            }
        }
    }
    bytes
}

/// Resident memory in MB, where the system says it.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map_or_else(
        || "unknown memory".to_owned(),
        |kb| format!("{} MB", kb / 1024),
    )
}

/// Executions and outcomes, printed now and then.
struct Tally {
    since: Instant,
    limit: Duration,
    next: Duration,
    done: u64,
    outcomes: BTreeMap<String, u64>,
}

impl Tally {
    fn new(limit: Duration) -> Self {
        Self {
            since: Instant::now(),
            limit,
            next: Duration::from_secs(10),
            done: 0,
            outcomes: BTreeMap::new(),
        }
    }

    /// Whether time is left.
    fn count(&mut self, outcome: String) -> bool {
        self.done += 1;
        *self.outcomes.entry(outcome).or_default() += 1;
        let elapsed = self.since.elapsed();
        let over = elapsed >= self.limit;
        if over || elapsed >= self.next {
            println!(
                "{:>5.0} s  {:>9} executions  {}",
                elapsed.as_secs_f64(),
                self.done,
                memory()
            );
            self.next = elapsed + self.limit / 10;
        }
        if over {
            println!("{:#?}", self.outcomes);
        }
        !over
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn open(folder: &Path) -> Result<Bundle, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Bundle::load(folder, &Device::Cpu)?)
}

fn http(
    rng: &mut ChaCha8Rng,
    folder: &Path,
    mut tally: Tally,
) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let config = Config {
        workers: 1,
        max_body: 4096,
        ..Config::default()
    };
    let source = Source {
        name: None,
        folder: folder.to_owned(),
    };
    let router = eager_serve::router(App::new(config, &[source], Box::new(open))?);
    let texts: Vec<&[u8]> = BODIES
        .iter()
        .map(|(_, body)| body.as_bytes())
        .chain(PATHS.map(str::as_bytes))
        .collect();
    loop {
        let (request, input) = if rng.random_bool(0.7) {
            let (path, body) = BODIES[rng.random_range(0..BODIES.len())];
            let body = damaged(rng, body.as_bytes(), &texts);
            let request = Request::post(path).header("content-type", "application/json");
            (request.body(Body::from(body.clone())), body)
        } else {
            let path = PATHS[rng.random_range(0..PATHS.len())];
            let path = damaged(rng, path.as_bytes(), &texts);
            (Request::get(&path[..]).body(Body::empty()), path)
        };
        // What is no address does not come through a socket either.
        let outcome = match request {
            Err(_) => "no request".to_owned(),
            Ok(request) => runtime.block_on(async {
                let response = router.clone().oneshot(request).await?;
                let status = response.status();
                let body = to_bytes(response.into_body(), usize::MAX).await?;
                if status.is_server_error() {
                    return Err(format!("{status} for {}: {body:?}", hex(&input)).into());
                }
                if status.is_client_error() {
                    let answer: Value = serde_json::from_slice(&body)?;
                    assert!(
                        answer["error"]["message"].is_string() && answer["request_id"].is_string()
                    );
                }
                Ok::<_, Box<dyn std::error::Error>>(status.as_str().to_owned())
            })?,
        };
        if !tally.count(outcome) {
            return Ok(());
        }
    }
}

fn bundle(
    rng: &mut ChaCha8Rng,
    folder: &Path,
    mut tally: Tally,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        files.insert(
            entry.file_name().to_string_lossy().into_owned(),
            std::fs::read(entry.path())?,
        );
    }
    let names: Vec<&String> = files.keys().collect();
    let others: Vec<&[u8]> = files.values().map(Vec::as_slice).collect();
    loop {
        let name = names[rng.random_range(0..names.len())];
        let bytes = damaged(rng, &files[name], &others);
        let signed = name != "bundle.json" && rng.random_bool(0.5);
        std::fs::write(folder.join(name), &bytes)?;
        if signed {
            let mut manifest: Value = serde_json::from_slice(&files["bundle.json"])?;
            manifest["files"][name] =
                json!({"bytes": bytes.len(), "sha256": hex(&Sha256::digest(&bytes))});
            std::fs::write(folder.join("bundle.json"), manifest.to_string())?;
        }
        let asked = catch_unwind(AssertUnwindSafe(|| {
            let bundle = Bundle::load(folder, &Device::Cpu).map_err(|error| error.to_string())?;
            let query = Query {
                history: vec![0],
                k: 3,
                ..Query::default()
            };
            let lists = bundle
                .recommend(&[query])
                .map_err(|error| error.to_string())?;
            Ok::<usize, String>(lists[0].len())
        }));
        let unchanged = bytes == files[name];
        let outcome = match asked {
            Err(_) => {
                return Err(format!(
                    "panic: {name}, {}: {}",
                    if signed { "signed" } else { "unsigned" },
                    hex(&bytes)
                )
                .into());
            }
            Ok(Ok(_)) if signed || unchanged => "loaded",
            Ok(Ok(_)) if name == "bundle.json" => "loaded, another manifest",
            Ok(Ok(_)) => return Err(format!("{name} was altered and loaded").into()),
            // Another digest in the manifest is a fault of the file that it stands for.
            Ok(Err(_)) if signed || name == "bundle.json" => "refused",
            Ok(Err(error)) if error.contains(name.as_str()) => "refused by name",
            Ok(Err(error)) => return Err(format!("{name} is not named in {error:?}").into()),
        };
        for restored in [name.as_str(), "bundle.json"] {
            std::fs::write(folder.join(restored), &files[restored])?;
        }
        let signed = if signed { " (signed)" } else { "" };
        if !tally.count(format!("{name}{signed}: {outcome}")) {
            return Ok(());
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: fuzz http|bundle MINUTES [SEED]";
    let (what, minutes) = (
        arguments.first().ok_or(usage)?,
        arguments.get(1).ok_or(usage)?,
    );
    let seed = arguments.get(2).map_or(Ok(1), |text| text.parse())?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let root = tempfile::tempdir()?;
    let folder = root.path().join("random");
    eager_fixtures::bundle(40, 3).save(&folder)?;
    let tally = Tally::new(Duration::try_from_secs_f64(minutes.parse::<f64>()? * 60.0)?);
    match what.as_str() {
        "http" => http(&mut rng, &folder, tally),
        "bundle" => bundle(&mut rng, &folder, tally),
        _ => Err(usage.into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
