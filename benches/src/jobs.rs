//! The jobs: the same workload for both sides, proof that it was the same, rounds by turns, rows of the table.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use candle_core::{Device, Tensor};
use eager::train::generator::TrainingConfig;
use eager::train::objective::{Draw, Items};
use eager_codes::{Clustering, CodeTrie, CodesConfig, Vectors};
use eager_data::{Batch, Windows};
use eager_infer::{InferConfig, Ranking};
use eager_losses::{LossConfig, masked, replaced};
use eager_model::{EagerConfig, PerStream};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::beauty::{Beauty, SEED};
use crate::ours::Job;
use crate::sides::{Measured, Side, Spread, race};
use crate::table::{Goal, Table, short};
use crate::workload::{self, DeviceKind, Kmeans, Search, Tensors, Text, Train};
use crate::{Options, flops};

/// Batches that training goes through again and again.
const BATCHES: usize = 16;
/// Users of a round of the official scheme.
const OFFICIAL_USERS: usize = 32;

/// What every job needs.
pub struct Bench<'a> {
    options: &'a Options,
    pub beauty: Beauty,
    /// The same as tensors, and the tries.
    items: Items,
    folder: TempDir,
}

impl<'a> Bench<'a> {
    /// Prepares the data.
    pub fn new(options: &'a Options) -> Result<Self> {
        ensure!(
            options.rounds > 0 && options.steps > 0 && options.users > 0 && options.threads > 0,
            "--rounds, --steps, --users and --threads: use 1 or more"
        );
        eprintln!("preparing amazon-beauty");
        let beauty = Beauty::load(options.data_dir.as_deref(), options.run.as_deref())?;
        let codes = &beauty.codes;
        let items = Items {
            tries: PerStream::try_from_fn(|stream| CodeTrie::new(&codes[stream]))?,
            vectors: beauty.tensors()?,
        };
        Ok(Self {
            options,
            beauty,
            items,
            folder: tempfile::tempdir()?,
        })
    }

    /// Writes a workload.
    fn workload(
        &self,
        name: &str,
        settings: &impl Serialize,
        tensors: &Tensors,
    ) -> Result<PathBuf> {
        let path = self.folder.path().join(format!("{name}.safetensors"));
        workload::save(&path, settings, tensors)?;
        Ok(path)
    }

    fn ours(&self, job: Job, workload: &Path) -> Result<Side> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["ours", job.name()]).arg(workload);
        command.envs(eager::cli::RUNTIME);
        Side::start("ours", self.limited(&mut command))
    }

    fn peer(&self, name: &str, script: &str, workload: &Path, args: &[&str]) -> Result<Side> {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let mut command = Command::new(&self.options.python);
        command.arg(peers.join(script)).arg(workload).args(args);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        Side::start(name, self.limited(&mut command)).with_context(|| {
            format!(
                "{}: it needs benches/peers/requirements.txt (`cargo xtask bench` installs them)",
                self.options.python.display()
            )
        })
    }

    fn limited<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let threads = self.options.threads.to_string();
        for variable in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(variable, &threads);
        }
        command
    }

    fn race(&self, sides: Vec<Side>, table: &mut Table) -> Result<Vec<Measured>> {
        self.race_at_most(usize::MAX, sides, table)
    }

    /// A race of few rounds, where one takes a minute.
    fn race_at_most(
        &self,
        rounds: usize,
        sides: Vec<Side>,
        table: &mut Table,
    ) -> Result<Vec<Measured>> {
        let measured = race(sides, self.options.rounds.min(rounds))?;
        for side in &measured {
            table.busy(side.elsewhere);
        }
        Ok(measured)
    }

    /// The model's tensors of a workload.
    fn model(&self, config: &EagerConfig) -> Result<Tensors> {
        let mut tensors = Tensors::new();
        let vectors = &self.items.vectors;
        workload::put_items(&mut tensors, &self.beauty.codes, vectors)?;
        workload::put_weights(&mut tensors, config, &self.items, SEED)?;
        Ok(tensors)
    }
}

/// A number that a side said when it was ready.
fn said(ready: &Value, name: &str) -> Result<f64> {
    let value = ready[name].as_f64();
    value.with_context(|| format!("a side did not say its `{name}`"))
}

/// Fails unless two sides said the same number, up to `relative`.
fn same(a: &Side, b: &Side, name: &str, relative: f64) -> Result<()> {
    let (x, y) = (said(&a.ready, name)?, said(&b.ready, name)?);
    ensure!(
        (x - y).abs() <= relative * x.abs().max(y.abs()),
        "{name}: {} has {x}, {} {y}; expected the same within {relative}, so the work is not the same",
        a.name,
        b.name
    );
    eprintln!("{name}: {} {x}, {} {y}", a.name, b.name);
    Ok(())
}

fn milliseconds(seconds: f64) -> String {
    format!("{} ms", short(1e3 * seconds))
}

fn each_second(seconds: f64, what: &str) -> String {
    format!("{:.0} {what}/s", 1.0 / seconds)
}

/// PyTorch's ways to make the same updates, by the arguments of its program.
const TRAINERS: [(&str, &[&str]); 4] = [
    ("PyTorch", &[]),
    ("PyTorch, torch.compile", &["--compile"]),
    ("PyTorch, bf16 autocast", &["--bf16"]),
    (
        "PyTorch, torch.compile, bf16 autocast",
        &["--compile", "--bf16"],
    ),
];

/// What a training step must reach over a peer of [`TRAINERS`].
fn training_goal(device: DeviceKind, histories: &str, args: &[&str]) -> Goal {
    match (device, histories, args) {
        (DeviceKind::Cpu, "full", []) => Goal::AtLeast(1.8),
        (DeviceKind::Cpu, "real", []) => Goal::AtLeast(2.8),
        (DeviceKind::Cuda, "real", []) => Goal::AtLeast(1.5),
        (DeviceKind::Cuda, "real", ["--compile"]) => Goal::AtLeast(1.0),
        _ => Goal::None,
    }
}

/// Rows 1 and 4: the step, with histories of full length and with real ones, and its memory.
pub fn train(bench: &Bench, table: &mut Table) -> Result<()> {
    let config = EagerConfig::default();
    let windows = Windows::new(&bench.beauty.split, config.window);
    let training = TrainingConfig::default();
    let data = bench.folder.path().join("data");
    bench.beauty.dataset.save(&data)?;
    let order = windows.batches(windows.len(), SEED, 0);
    let order = order.get(0).unwrap_or_default();
    let needed = BATCHES * training.batch_size;
    let full: Vec<u32> = order
        .iter()
        .copied()
        .filter(|&example| windows.batch(&[example]).items.len() == config.window - 1)
        .take(needed)
        .collect();
    let settings = Train {
        model: config,
        losses: LossConfig::default(),
        training,
        seed: SEED,
        data,
        steps: bench.options.steps,
        threads: bench.options.threads,
        device: bench.options.device,
    };
    let on_gpu = settings.device == DeviceKind::Cuda;
    let mut peers = TRAINERS.to_vec();
    peers.retain(|(_, args)| {
        (on_gpu || !args.contains(&"--bf16"))
            && !(bench.options.no_compile && args.contains(&"--compile"))
    });
    let histories = [
        ("full", "training step, histories of full length", &full[..]),
        (
            "real",
            "training step, real histories: ours packed, peer padded",
            &order[..needed],
        ),
    ];
    // A GPU's step takes as long as its launches, whatever the rows: there the real histories alone.
    for (name, what, examples) in histories.into_iter().skip(usize::from(on_gpu)) {
        let batches: Vec<&[u32]> = examples.chunks(settings.training.batch_size).collect();
        let mut tensors = bench.model(&settings.model)?;
        put_batches(&mut tensors, &windows, &batches)?;
        put_check(
            &mut tensors,
            &settings,
            &bench.items,
            &windows.batch(batches[0]),
        )?;
        let workload = bench.workload(name, &settings, &tensors)?;
        drop(tensors);
        let mut sides = vec![bench.ours(Job::Train, &workload)?];
        for (peer, args) in &peers {
            let peer = bench.peer(peer, "train.py", &workload, args)?;
            // bf16 itself has no more than three digits.
            if !args.contains(&"--bf16") {
                same(&sides[0], &peer, "loss", 1e-4)?;
                same(&sides[0], &peer, "gradient_norm", 1e-4)?;
            }
            sides.push(peer);
        }
        let measured = bench.race(sides, table)?;
        let ours = &measured[0];
        for (peer, (_, args)) in measured[1..].iter().zip(&peers) {
            let times = [ours, peer].map(|side| milliseconds(side.seconds.median));
            let goal = training_goal(settings.device, name, args);
            table.row(what, &peer.name, times, peer.slower, goal);
        }
        // Ours is not measured on a GPU.
        if name == "real" && !on_gpu {
            let peaks = [ours, &measured[1]].map(|side| side.peak_bytes);
            table.row(
                "peak memory of training, the whole process",
                &measured[1].name,
                peaks.map(|bytes| format!("{:.0} MB", bytes as f64 / 1e6)),
                Spread::one(peaks[0] as f64 / peaks[1] as f64),
                Goal::AtMost(0.6),
            );
        }
        let mut peak = 0f64;
        for side in &measured {
            peak = peak.max(said(&side.ready, "gemm_gflops")?);
        }
        let step = batches.iter().map(|examples| {
            let batch = windows.batch(examples);
            let lengths: Vec<usize> = (0..batch.len()).map(|i| batch.history(i).len()).collect();
            let Train { model, losses, .. } = &settings;
            flops::step(model, losses, &bench.items, &lengths, &batch.targets)
        });
        let gigaflops = step.sum::<f64>() / batches.len() as f64 / 1e9;
        let sgemm = match settings.device {
            DeviceKind::Cpu => "1,024³ or 2,048³",
            DeviceKind::Cuda => "4,096³",
        };
        table.note(format!(
            "{what}: {gigaflops:.1} GFLOP a step by count (forward × 3); ours {:.0} GFLOP/s, the best {sgemm} \
             sgemm of any side {peak:.0} GFLOP/s; floor (GFLOP / sgemm) {}",
            gigaflops / ours.seconds.median,
            milliseconds(gigaflops / peak)
        ));
    }
    table.note(format!(
        "Training: batch {}, `paper` configuration with all tasks, dropout 0.1, clipping and AdamW (PyTorch: fused) on both \
         sides, f32; the first batch's loss without dropout agrees within 1e-4, and so does its gradient's norm. The time \
         of ours has the packing of batches in it, the peer's batches are padded beforehand",
        settings.training.batch_size
    ));
    if on_gpu {
        table.note(
            "On the GPU f32 is f32 on both sides, not TF32, and rounds end when the GPU has done the work. Rows of bf16 \
             autocast are for information: ours stays in f32 there, and their losses are not compared"
                .to_owned(),
        );
    }
    Ok(())
}

/// Batches by example numbers (ours) and as histories and targets.
fn put_batches(tensors: &mut Tensors, windows: &Windows, batches: &[&[u32]]) -> Result<()> {
    let size = batches[0].len();
    ensure!(
        batches.len() == BATCHES && batches.iter().all(|batch| batch.len() == size),
        "the dataset has too few examples for {BATCHES} batches of {size}"
    );
    let all = windows.batch(&batches.concat());
    let end = all.offsets.len();
    tensors.extend([
        (
            "batches/examples".to_owned(),
            workload::ids(batches.concat(), size)?,
        ),
        (
            "batches/items".to_owned(),
            Tensor::new(all.items, &Device::Cpu)?,
        ),
        (
            "batches/offsets".to_owned(),
            workload::ids(all.offsets, end)?.squeeze(0)?,
        ),
        (
            "batches/targets".to_owned(),
            workload::ids(all.targets, size)?,
        ),
    ]);
    Ok(())
}

/// What the transfer task masks and replaces in the first update, which our side draws itself.
fn put_check(tensors: &mut Tensors, settings: &Train, items: &Items, batch: &Batch) -> Result<()> {
    let (trie, task) = (&items.tries.behaviour, &settings.losses.transfer);
    let levels = trie.levels();
    let nodes: Vec<Range<u32>> = (1..=levels).map(|level| trie.level(level)).collect();
    let (mut hidden, mut negatives) = (vec![], vec![]);
    let shards = settings.device.shards(settings.threads)?.count();
    for (shard, targets) in batch
        .targets
        .chunks(batch.len().div_ceil(shards))
        .enumerate()
    {
        let draw = Draw {
            seed: settings.seed,
            update: 0,
            shard,
        };
        let n = targets.len();
        let paths: Vec<u32> = targets
            .iter()
            .flat_map(|&t| trie.path(t))
            .copied()
            .collect();
        let mut rng = draw.own();
        let masked_rows = masked(n, levels, task.masking, task.mask_ratio, &mut rng);
        let replaced_rows = masked(n, levels, task.masking, task.replace_ratio, &mut rng);
        negatives.extend(replaced(&paths, &replaced_rows, &nodes, &mut rng));
        hidden.extend((0..(n * levels) as u32).map(|row| u32::from(masked_rows.contains(&row))));
    }
    tensors.insert("check/masked".to_owned(), workload::ids(hidden, levels)?);
    tensors.insert(
        "check/replaced".to_owned(),
        workload::ids(negatives, levels)?,
    );
    Ok(())
}

/// A search over test users: workload of `users` of them.
fn search_workload(
    bench: &Bench,
    name: &str,
    users: usize,
    ranking: Ranking,
) -> Result<(PathBuf, Search)> {
    let settings = Search {
        model: EagerConfig {
            init: 0.1, // a trained model is not even
            ..EagerConfig::default()
        },
        infer: InferConfig {
            ranking,
            ..InferConfig::default()
        },
        top: 10,
        checked: users.min(256),
        threads: bench.options.threads,
    };
    let split = &bench.beauty.split;
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let sample = rand::seq::index::sample(&mut rng, split.n_users(), users.min(split.n_users()));
    let sample: Vec<u32> = sample.iter().map(|user| user as u32).collect();
    let batch = split.test_batch(&sample, settings.model.window);
    let mut tensors = bench.model(&settings.model)?;
    tensors.extend([
        (
            "histories/items".to_owned(),
            Tensor::new(batch.items, &Device::Cpu)?,
        ),
        (
            "histories/offsets".to_owned(),
            Tensor::new(batch.offsets, &Device::Cpu)?,
        ),
    ]);
    Ok((bench.workload(name, &settings, &tensors)?, settings))
}

/// Fails unless nearly all of the first users' lists are the same; the share that is.
fn same_lists(a: &Side, b: &Side, users: usize) -> Result<f64> {
    const ENOUGH: f64 = 0.98;
    let lists = |side: &Side| -> Result<Vec<Vec<u32>>> {
        Ok(serde_json::from_value(side.ready["lists"].clone())?)
    };
    let (ours, theirs) = (lists(a)?, lists(b)?);
    let equal = ours.iter().zip(&theirs).take(users).filter(|(a, b)| a == b);
    let share = equal.count() as f64 / users.min(ours.len()).min(theirs.len()).max(1) as f64;
    ensure!(
        share >= ENOUGH,
        "the first ten items of {} and {} are the same for {:.1} % of the users; expected {:.0} % (ties may differ), so the \
         work is not the same",
        a.name,
        b.name,
        100.0 * share,
        100.0 * ENOUGH
    );
    eprintln!("same first ten: {:.1} % of {users} users", 100.0 * share);
    Ok(share)
}

/// Row 2: beam search.
pub fn search(bench: &Bench, table: &mut Table) -> Result<()> {
    let users = bench.options.users;
    let (workload, settings) = search_workload(bench, "search", users, Ranking::Confidence)?;
    let sides = vec![
        bench.ours(Job::Search, &workload)?,
        bench.peer("PyTorch, cached", "search.py", &workload, &[])?,
    ];
    let share = same_lists(&sides[0], &sides[1], settings.checked)?;
    let measured = bench.race(sides, table)?;
    let peer = &measured[1];
    let rates = [&measured[0], peer].map(|side| each_second(side.seconds.median, "users"));
    table.row(
        "beam search, 100 beams, both streams",
        &peer.name,
        rates,
        peer.slower,
        Goal::AtLeast(3.0),
    );
    let whole = bench.beauty.split.n_users() as f64;
    table.note(format!(
        "Beam search: {users} test users a round, weights drawn at random (standard deviation 0.1); the first ten items \
         are the same for {:.1} % of {} users. The peer keeps keys and values of histories and prefixes; ours also skips \
         prefixes that can go on in one way only. Extrapolated, not measured: all {whole} test users take ours {:.0} s, \
         the peer {:.0} s",
        100.0 * share,
        settings.checked,
        whole * measured[0].seconds.median,
        whole * peer.seconds.median
    ));
    Ok(())
}

/// Row 3: the official scheme.
pub fn official(bench: &Bench, table: &mut Table) -> Result<()> {
    let users = bench.options.users.max(OFFICIAL_USERS);
    let (ours, _) = search_workload(bench, "official-ours", users, Ranking::Sum)?;
    let sides = vec![
        bench.ours(Job::Search, &ours)?,
        bench.peer(
            "the official scheme in PyTorch",
            "official.py",
            &ours,
            &[&OFFICIAL_USERS.to_string()],
        )?,
    ];
    let share = same_lists(&sides[0], &sides[1], OFFICIAL_USERS)?;
    let measured = bench.race(sides, table)?;
    let peer = &measured[1];
    let rates = [
        each_second(measured[0].seconds.median, "users"),
        format!("{:.1} users/s", 1.0 / peer.seconds.median),
    ];
    table.row(
        "recommending by the sum of both streams",
        &peer.name,
        rates,
        peer.slower,
        Goal::AtLeast(100.0),
    );
    table.note(format!(
        "The official scheme encodes the history anew for every beam at every step, keeps no keys and values, and scores \
         the union of both lists by both decoders; our own program of it, on our model, {OFFICIAL_USERS} users a round \
         (ours {users}). The first ten items are the same for {:.1} %",
        100.0 * share
    ));
    Ok(())
}

/// Ours until nothing changes any more, as scikit-learn with a tolerance of 0.
pub fn lloyd() -> CodesConfig {
    CodesConfig {
        max_iterations: 1000,
        ..CodesConfig::default()
    }
}

/// Row 5: k-means.
pub fn kmeans(bench: &Bench, table: &mut Table) -> Result<()> {
    const K: usize = 256;
    let vectors = &bench.beauty.vectors.semantic;
    let points = bench.items.vectors.semantic.clone();
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let rows = rand::seq::index::sample(&mut rng, vectors.items(), K);
    let rows: Vec<u32> = rows.iter().map(|row| row as u32).collect();
    let start = points.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?;
    let flat: Vec<f32> = start.flatten_all()?.to_vec1()?;
    let found = Clustering::from_start(Vectors::new(&vectors.data, vectors.dim)?, &flat, &lloyd())?;
    let settings = Kmeans {
        iterations: found.iterations,
        threads: bench.options.threads,
    };
    let tensors = HashMap::from([("points".to_owned(), points), ("start".to_owned(), start)]);
    let workload = bench.workload("kmeans", &settings, &tensors)?;
    let sides = vec![
        bench.ours(Job::Kmeans, &workload)?,
        bench.peer("scikit-learn", "kmeans.py", &workload, &["sklearn"])?,
        bench.peer("faiss", "kmeans.py", &workload, &["faiss"])?,
    ];
    for peer in &sides[1..] {
        same(&sides[0], peer, "inertia", 1e-3)?;
    }
    let measured = bench.race(sides, table)?;
    let what = format!("k-means of {} × {}, k = {K}", vectors.items(), vectors.dim);
    for peer in &measured[1..] {
        let times = [&measured[0], peer].map(|side| milliseconds(side.seconds.median));
        table.row(&what, &peer.name, times, peer.slower, Goal::AtLeast(1.5));
    }
    table.note(format!(
        "k-means: the semantic stream's vectors, from the same {K} rows, until no vector changes its cluster ({} \
         iterations; faiss, which does not look, makes as many); inertia agrees within 1e-3",
        found.iterations
    ));
    Ok(())
}

/// Row 6: text encoding.
pub fn text(bench: &Bench, table: &mut Table) -> Result<()> {
    let Some(encoder) = &bench.options.text_encoder else {
        table.not_measured("text encoding (no --text-encoder DIR)");
        return Ok(());
    };
    let encoder = encoder.canonicalize().with_context(|| {
        format!(
            "--text-encoder {}: expected a model folder",
            encoder.display()
        )
    })?;
    let items = &bench.beauty.dataset.items;
    let title =
        |item: &eager_data::Item| item.title.clone().unwrap_or_else(|| "Unknown".to_owned());
    let settings = Text {
        texts: items.iter().map(title).collect(),
        encoder,
        checked: 64,
        threads: bench.options.threads,
    };
    let workload = bench.workload("text", &settings, &HashMap::new())?;
    let sides = vec![
        bench.ours(Job::Text, &workload)?,
        bench.peer("sentence-transformers", "text.py", &workload, &[])?,
    ];
    let vectors = |side: &Side| -> Result<Vec<Vec<f32>>> {
        Ok(serde_json::from_value(side.ready["vectors"].clone())?)
    };
    let (ours, theirs) = (vectors(&sides[0])?.concat(), vectors(&sides[1])?.concat());
    let apart = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
    let apart = apart.fold(0.0, f32::max);
    ensure!(
        ours.len() == theirs.len() && apart < 1e-4,
        "the vectors of both sides are {apart} apart; expected below 1e-4, so the work is not the same"
    );
    let measured = bench.race_at_most(3, sides, table)?;
    let peer = &measured[1];
    let rates = [&measured[0], peer].map(|side| each_second(side.seconds.median, "texts"));
    let name = settings
        .encoder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let what = format!("text encoding, {name}, {} titles", settings.texts.len());
    table.row(&what, &peer.name, rates, peer.slower, Goal::AtLeast(1.2));
    table.note(format!(
        "Text encoding: f32, unit rows, tokenising included; the first {} vectors are at most {apart:.1e} apart",
        settings.checked
    ));
    Ok(())
}
