//! Each operation at the shapes of a training shard on Amazon Beauty (128 sequences, width 128, codes of three levels),
//! forward alone and with its backward pass, fused and plain, on one thread as a shard has.
//!
//!     cargo bench -p eager-ops

use candle_core::{Device, Result, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use eager_ops::{
    AdamW, AdamWConfig, Attended, Dropout, Layer, LayerInput, LayerShape, Ops, Pass, RowRanges,
    Segments, Trainable,
};

const SEQUENCES: usize = 128;
/// Start, three tokens, summary.
const LENGTH: usize = 5;
const ROWS: usize = SEQUENCES * LENGTH;
const WIDTH: usize = 128;
const FEED_FORWARD: usize = 512;
const HEADS: usize = 4;
const ITEMS: usize = 12_101;

fn var(shape: &[usize]) -> Var {
    Var::randn(0f32, 0.1, shape, &Device::Cpu).expect("memory for a benchmark")
}

/// History lengths with Beauty's mean, about six.
fn histories() -> Segments {
    let lengths: Vec<usize> = (0..SEQUENCES)
        .map(|i| [1, 2, 3, 4, 6, 9, 19, 4][i % 8])
        .collect();
    Segments::from_lengths(&lengths)
}

/// Times `f` on one thread, with and without differentiating its sum.
fn operation(c: &mut Criterion, name: &str, f: impl Fn(Ops) -> Result<Tensor> + Sync) {
    let one = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .expect("a thread");
    let mut group = c.benchmark_group(name);
    for (form, ops) in [("fused", Ops::Fused), ("plain", Ops::Plain)] {
        group.bench_function(format!("{form}, forward"), |b| {
            one.install(|| b.iter(|| f(ops).expect("shapes that fit")));
        });
        group.bench_function(format!("{form}, and backward"), |b| {
            one.install(|| b.iter(|| f(ops)?.sum_all()?.backward()))
        });
    }
    group.finish();
}

fn all(c: &mut Criterion) {
    let (x, inner) = (var(&[ROWS, WIDTH]), var(&[ROWS, FEED_FORWARD]));
    let (w, b) = (var(&[FEED_FORWARD, WIDTH]), var(&[FEED_FORWARD]));
    let (scale, shift) = (var(&[WIDTH]), var(&[WIDTH]));
    let dropout = || Dropout::new(0.1, 1, 1);
    let rows = Segments::uniform(SEQUENCES, LENGTH);
    let memory_rows = histories();
    operation(c, "linear 640x128x512", |ops| ops.linear(&x, &w, &b));
    operation(c, "layer norm 640x128", |ops| {
        ops.layer_norm(&x, &scale, &shift, 1e-5)
    });
    operation(c, "gelu 640x512", |ops| ops.gelu(&inner));
    operation(c, "add dropout 640x128", |ops| {
        ops.add_dropout(&x, &x, &dropout())
    });

    let own = var(&[ROWS, 2 * WIDTH]);
    let seen: Vec<u32> = (0..ROWS).map(|r| (r % LENGTH) as u32 + 1).collect();
    operation(c, "causal self-attention, 128 of 5", |ops| {
        let attended = Attended {
            kv: &own,
            rows: &rows,
        };
        ops.attention(&x, &rows, attended, Some(&seen), HEADS, &dropout())
    });
    let kv = var(&[memory_rows.rows(), 2 * WIDTH]);
    operation(c, "cross-attention, 128 of 5 over 1 to 19", |ops| {
        let attended = Attended {
            kv: &kv,
            rows: &memory_rows,
        };
        ops.attention(&x, &rows, attended, None, HEADS, &dropout())
    });

    let shape = LayerShape {
        d_model: WIDTH,
        heads: HEADS,
        feed_forward: FEED_FORWARD,
        cross: true,
        eps: 1e-5,
    };
    let (packed, memory) = (var(&[shape.size()]), var(&[memory_rows.rows(), WIDTH]));
    operation(c, "decoder layer", |ops| {
        let input = LayerInput {
            rows: &rows,
            wanted: None,
            causal: true,
            memory: Some((&memory, &memory_rows)),
        };
        let dropout = dropout();
        let pass = Pass {
            ops,
            dropout: &dropout,
            leaves: None,
        };
        Layer::new(shape, packed.as_tensor().clone())?.forward(pass, &x, input)
    });

    for width in [16, 64] {
        let (x, alpha) = (var(&[65_536 / width, width]), var(&[width]));
        operation(c, &format!("dice {}x{width}", 65_536 / width), |ops| {
            Ok(ops.dice(&x, &alpha, None, 1e-8)?.0)
        });
    }

    let table = var(&[ITEMS, WIDTH]);
    let ids: Vec<u32> = (0..ROWS).map(|i| (i * 7919 % ITEMS) as u32).collect();
    operation(c, "gather 640 of 12101x128", |ops| ops.gather(&table, &ids));
    // The first level's 256 children for a third of the rows, then some of 256 families of 46.
    let (ranges, targets) = (0..3 * SEQUENCES as u32)
        .map(|i| match i % 3 {
            0 => (0..256, i * 31 % 256),
            _ => {
                let first = 256 + i * 13 % 256 * 46;
                (first..first + 46, first + i % 46)
            }
        })
        .unzip();
    let children = RowRanges::new(ranges, targets).expect("targets inside their ranges");
    let hidden = var(&[3 * SEQUENCES, WIDTH]);
    operation(c, "tree cross-entropy, 384 rows", |ops| {
        ops.tree_cross_entropy(&hidden, &table, &children)
    });

    let targets: Vec<u32> = (0..SEQUENCES as u32).map(|i| i * 31 % 256).collect();
    let states = var(&[SEQUENCES, WIDTH]);
    operation(c, "cross-entropy, 128 rows over 12101", |ops| {
        ops.cross_entropy(&states, &table, &targets)
    });

    let vars: Vec<Var> = (0..3).map(|_| var(&[ITEMS, WIDTH])).collect();
    let loss = Tensor::cat(&vars.iter().map(Var::as_tensor).collect::<Vec<_>>(), 0);
    let grads = loss
        .and_then(|all| all.sum_all()?.backward())
        .expect("a gradient");
    let trainable = vars.iter().map(|v| Trainable::new("table", v.clone()));
    let mut optimiser =
        AdamW::new(trainable.collect(), AdamWConfig::default()).expect("memory for moments");
    let grads = [grads.into()];
    c.bench_function("adamw, 4.6 million parameters, all threads", |b| {
        b.iter(|| optimiser.step(&grads, 1e-3).expect("finite gradients"));
    });
}

criterion_group!(benches, all);
criterion_main!(benches);
