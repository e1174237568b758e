//! Every fused operation against its plain form in f64, forward and gradient, on random shapes; and the
//! plain gradients against central differences. These run inside the crate so that fresh buffers hold
//! NaN (see `storage::uninit`).

mod din;
#[cfg(feature = "cuda")]
mod gpu;
mod leaves;
mod next_item;

use candle_core::{DType, Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    AdamW, AdamWConfig, Attended, Dropout, Gradients, Layer, LayerInput, LayerShape, Ops, Pass,
    RowRanges, Segments, Trainable,
};

fn random(rng: &mut ChaCha8Rng, shape: &[usize]) -> Tensor {
    let n = shape.iter().product();
    let data: Vec<f32> = (0..n).map(|_| rng.random_range(-1.5..1.5)).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

/// Where the fused operations run: the CPU, and a GPU if this build knows one and the machine has it.
fn devices() -> Vec<Device> {
    #[cfg(feature = "cuda")]
    match crate::gpu(0) {
        Ok(gpu) => return vec![Device::Cpu, gpu],
        Err(error) => eprintln!("not checked on a GPU: {error}"),
    }
    vec![Device::Cpu]
}

fn values(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn close(name: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), want.dims(), "{name}");
    for (i, (a, b)) in values(got).into_iter().zip(values(want)).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * (1.0 + b.abs()),
            "{name}: element {i} is {a}, not {b}"
        );
    }
}

/// Runs `f` fused in f32, wherever that can be, and plain in f64 and compares output and gradients of a random projection of it.
fn check(
    name: &str,
    rng: &mut ChaCha8Rng,
    inputs: &[Tensor],
    f: impl Fn(Ops, &[Tensor]) -> Result<Tensor>,
) {
    let run = |ops: Ops, (dtype, device): (DType, &Device), weights: Option<&Tensor>| {
        let there = |x: &Tensor| x.to_dtype(dtype).unwrap().to_device(device).unwrap();
        let vars: Vec<Var> = inputs
            .iter()
            .map(|x| Var::from_tensor(&there(x)).unwrap())
            .collect();
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let out = f(ops, &tensors).unwrap();
        let weights = weights.map_or_else(|| out.ones_like().unwrap(), there);
        let grads = (&out * weights)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        let grads: Vec<Tensor> = vars.iter().map(|v| grads.get(v).unwrap().clone()).collect();
        (out, grads)
    };
    let exact = (DType::F64, &Device::Cpu);
    let (out, _) = run(Ops::Plain, exact, None);
    let weights = random(rng, out.dims());
    let (want, want_grads) = run(Ops::Plain, exact, Some(&weights));
    let empty = inputs.iter().any(|x| x.elem_count() == 0);
    for device in devices() {
        // candle has no empty tensors on a GPU.
        if empty && device.is_cuda() {
            continue;
        }
        let (got, got_grads) = run(Ops::Fused, (DType::F32, &device), Some(&weights));
        let name = format!("{name} on {:?}", device.location());
        close(&format!("{name} forward"), &got, &want, 2e-5);
        for (i, (got, want)) in got_grads.iter().zip(&want_grads).enumerate() {
            close(&format!("{name} gradient {i}"), got, want, 5e-5);
        }
    }
    // Central differences along a random direction of each input.
    let objective = |inputs: &[Tensor]| -> f64 {
        let out = f(Ops::Plain, inputs).unwrap();
        (out * weights.to_dtype(DType::F64).unwrap())
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar()
            .unwrap()
    };
    let base: Vec<Tensor> = inputs
        .iter()
        .map(|x| x.to_dtype(DType::F64).unwrap())
        .collect();
    for (i, grad) in want_grads.iter().enumerate() {
        let direction = random(rng, base[i].dims()).to_dtype(DType::F64).unwrap();
        let at = |h: f64| {
            let mut moved = base.clone();
            moved[i] = (&base[i] + (&direction * h).unwrap()).unwrap();
            objective(&moved)
        };
        let h = 1e-5;
        let slope = (at(h) - at(-h)) / (2.0 * h);
        let want: f64 = values(&(grad * &direction).unwrap()).iter().sum();
        assert!(
            (slope - want).abs() < 1e-5 * (1.0 + want.abs()),
            "{name}: slope {slope}, gradient {want}"
        );
    }
}

#[test]
fn linear_layer_norm_gelu_and_gather() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (n, inner, out) in [(1, 1, 1), (3, 16, 48), (301, 33, 7)] {
        let inputs = [
            random(&mut rng, &[n, inner]),
            random(&mut rng, &[out, inner]),
            random(&mut rng, &[out]),
        ];
        check("linear", &mut rng, &inputs, |ops, x| {
            ops.linear(&x[0], &x[1], &x[2])
        });
        let inputs = [
            random(&mut rng, &[n, out]),
            random(&mut rng, &[out]),
            random(&mut rng, &[out]),
        ];
        if out > 1 {
            check("layer_norm", &mut rng, &inputs, |ops, x| {
                ops.layer_norm(&x[0], &x[1], &x[2], 1e-5)
            });
        }
        let inputs = [(random(&mut rng, &[n, inner]) * 4.0).unwrap()];
        check("gelu", &mut rng, &inputs, |ops, x| ops.gelu(&x[0]));
        let ids: Vec<u32> = (0..2 * n).map(|_| rng.random_range(0..n as u32)).collect();
        check("gather", &mut rng, &inputs, |ops, x| {
            ops.gather(&x[0], &ids)
        });
    }
}

#[test]
fn a_large_mean_costs_layer_norm_no_precision() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let x = (random(&mut rng, &[4, 64]) + 300.0).unwrap();
    let (w, b) = (random(&mut rng, &[64]), random(&mut rng, &[64]));
    let exact = Ops::Plain
        .layer_norm(
            &x.to_dtype(DType::F64).unwrap(),
            &w.to_dtype(DType::F64).unwrap(),
            &b.to_dtype(DType::F64).unwrap(),
            1e-5,
        )
        .unwrap();
    close(
        "layer_norm",
        &Ops::Fused.layer_norm(&x, &w, &b, 1e-5).unwrap(),
        &exact,
        1e-4,
    );
}

#[test]
fn dropout_drops_the_same_elements_fused_and_plain() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let inputs = [random(&mut rng, &[700, 33]), random(&mut rng, &[700, 33])];
    check("dropout", &mut rng, &inputs[..1], |ops, x| {
        ops.dropout(&x[0], &Dropout::new(0.3, 5, 6))
    });
    check("add_dropout", &mut rng, &inputs, |ops, x| {
        ops.add_dropout(&x[0], &x[1], &Dropout::new(0.3, 5, 6))
    });
    check("add_dropout off", &mut rng, &inputs, |ops, x| {
        ops.add_dropout(&x[0], &x[1], &Dropout::off())
    });
}

#[test]
fn attention_over_ragged_sequences() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    // Constant and other head widths, more keys than a vector holds, empty and length-1 sequences.
    for (heads, width, longest) in [
        (1, 1, 3),
        (2, 16, 8),
        (3, 5, 16),
        (4, 32, 20),
        (2, 64, 40),
        (1, 40, 70),
    ] {
        let d = heads * width;
        let mut lengths: Vec<usize> = (0..9).map(|_| rng.random_range(0..=longest)).collect();
        lengths.extend([0, 1, longest]);
        let rows = Segments::from_lengths(&lengths);
        let queries: Vec<usize> = lengths.iter().map(|_| rng.random_range(0..=5)).collect();
        let queries = Segments::from_lengths(&queries);
        let seen: Vec<u32> = queries
            .iter()
            .zip(&lengths)
            .flat_map(|(q, &l)| q.map(move |_| l as u32))
            .map(|l| rng.random_range(0..=l))
            .collect();
        let inputs = [
            random(&mut rng, &[queries.rows(), d]),
            random(&mut rng, &[rows.rows(), 2 * d]),
        ];
        for seen in [None, Some(seen.as_slice())] {
            for p in [0.0, 0.25] {
                check("attention", &mut rng, &inputs, |ops, x| {
                    let attended = Attended {
                        kv: &x[1],
                        rows: &rows,
                    };
                    let dropout = Dropout::new(p, 1, 2);
                    ops.attention(&x[0], &queries, attended, seen, heads, &dropout)
                });
            }
        }
    }
}

#[test]
fn attention_over_prefixes() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for (heads, width, steps) in [(4, 32, 3), (3, 5, 1), (1, 40, 4)] {
        let (n, d) = (150, heads * width);
        let queries = random(&mut rng, &[n, d]);
        let (past, rows): (Vec<Tensor>, Vec<Vec<u32>>) = (1..=steps)
            .map(|step| {
                let len = 9 * step;
                let rows = (0..n).map(|_| rng.random_range(0..len as u32)).collect();
                (random(&mut rng, &[len, 2 * d]), rows)
            })
            .unzip();
        let wide = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
        let want = Ops::Plain
            .prefix_attention(
                &wide(&queries),
                &past.iter().map(wide).collect::<Vec<_>>(),
                &rows,
                heads,
            )
            .unwrap();
        let got = Ops::Fused.prefix_attention(&queries, &past, &rows, heads);
        close("prefix_attention", &got.unwrap(), &want, 1e-5);
        for ops in [Ops::Fused, Ops::Plain] {
            let bad = vec![vec![9 * steps as u32; n]; steps];
            assert!(ops.prefix_attention(&queries, &past, &bad, heads).is_err());
            assert!(ops.prefix_attention(&queries, &[], &[], heads).is_err());
        }
    }
}

/// Layers over more than one tile, with empty sequences; wanted rows; every gradient, of all parameters too.
#[test]
fn layers_with_and_without_memory() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for (heads, width, feed_forward) in [(2, 16, 24), (1, 7, 5)] {
        let lengths: Vec<usize> = (0..70).map(|i| [5, 0, 9, 1, 3][i % 5]).collect();
        let rows = Segments::from_lengths(&lengths);
        let memory_lengths: Vec<usize> = (0..70).map(|i| [2, 3, 0, 12][i % 4]).collect();
        let memory_rows = Segments::from_lengths(&memory_lengths);
        let wanted: Vec<u32> = (0..rows.rows() as u32).filter(|r| r % 3 != 1).collect();
        for (cross, wanted, causal, p) in [
            (false, None, false, 0.0),
            (false, Some(wanted.as_slice()), true, 0.2),
            (true, None, true, 0.2),
            (true, Some(&wanted), false, 0.0),
        ] {
            let shape = LayerShape {
                d_model: heads * width,
                heads,
                feed_forward,
                cross,
                eps: 1e-5,
            };
            let mut inputs = vec![
                random(&mut rng, &[rows.rows(), shape.d_model]),
                (random(&mut rng, &[shape.size()]) * 0.5).unwrap(),
            ];
            if cross {
                inputs.push(random(&mut rng, &[memory_rows.rows(), shape.d_model]));
            }
            let name = format!("layer {shape:?}, {} wanted", wanted.map_or(0, <[u32]>::len));
            check(&name, &mut rng, &inputs, |ops, x| {
                let input = LayerInput {
                    rows: &rows,
                    wanted,
                    causal,
                    memory: x.get(2).map(|memory| (memory, &memory_rows)),
                };
                let dropout = Dropout::new(p, 3, 4);
                let pass = Pass {
                    ops,
                    dropout: &dropout,
                    leaves: None,
                };
                Layer::new(shape, x[1].clone())?.forward(pass, &x[0], input)
            });
        }
    }
}

const SMALL: LayerShape = LayerShape {
    d_model: 8,
    heads: 2,
    feed_forward: 8,
    cross: false,
    eps: 1e-5,
};

#[test]
fn a_graph_can_be_differentiated_twice() {
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    let shape = SMALL;
    let packed = Var::from_tensor(&random(&mut rng, &[shape.size()])).unwrap();
    let layer = Layer::new(shape, packed.as_tensor().clone()).unwrap();
    let (x, rows) = (random(&mut rng, &[6, 8]), Segments::from_lengths(&[2, 4]));
    let input = LayerInput {
        rows: &rows,
        wanted: None,
        causal: false,
        memory: None,
    };
    let y = layer
        .forward(
            Pass {
                ops: Ops::Fused,
                dropout: &Dropout::new(0.1, 1, 1),
                leaves: None,
            },
            &x,
            input,
        )
        .unwrap();
    let loss = y.sqr().unwrap().sum_all().unwrap();
    let grad = || values(loss.backward().unwrap().get(&packed).unwrap());
    assert_eq!(grad(), grad());

    let hidden = Var::from_tensor(&random(&mut rng, &[3, 4])).unwrap();
    let table = Var::from_tensor(&random(&mut rng, &[7, 4])).unwrap();
    let rows = RowRanges::new(vec![0..3, 3..7, 0..3], vec![1, 6, 2]).unwrap();
    let loss = Ops::Fused
        .tree_cross_entropy(&hidden, &table, &rows)
        .unwrap();
    for var in [&hidden, &table] {
        let grad = || values(loss.backward().unwrap().get(var).unwrap());
        assert_eq!(grad(), grad());
    }
}

#[test]
fn causal_layers_cannot_see_ahead() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let rows = Segments::from_lengths(&[6]);
    let x = random(&mut rng, &[6, 8]);
    let later = random(&mut rng, &[2, 8]);
    let later = Tensor::cat(&[&x.narrow(0, 0, 4).unwrap(), &later], 0).unwrap();
    let shape = SMALL;
    let layer = Layer::new(shape, random(&mut rng, &[shape.size()])).unwrap();
    for ops in [Ops::Fused, Ops::Plain] {
        let out = |x, causal| {
            let input = LayerInput {
                rows: &rows,
                wanted: None,
                causal,
                memory: None,
            };
            let out = layer
                .forward(
                    Pass {
                        ops,
                        dropout: &Dropout::off(),
                        leaves: None,
                    },
                    x,
                    input,
                )
                .unwrap();
            values(&out.narrow(0, 0, 4).unwrap())
        };
        assert_eq!(out(&x, true), out(&later, true));
        assert_ne!(out(&x, false), out(&later, false));
    }
}

#[test]
fn tree_cross_entropy_over_siblings() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let table = random(&mut rng, &[60, 12]);
    let siblings = [0..1, 1..20, 20..22, 22..60];
    let (ranges, targets): (Vec<_>, Vec<_>) = (0..41)
        .map(|_| {
            let range = siblings[rng.random_range(0..4)].clone();
            let target = rng.random_range(range.clone());
            (range, target)
        })
        .unzip();
    let rows = RowRanges::new(ranges, targets).unwrap();
    let inputs = [random(&mut rng, &[41, 12]), table];
    check("tree_cross_entropy", &mut rng, &inputs, |ops, x| {
        ops.tree_cross_entropy(&x[0], &x[1], &rows)
    });
}

#[test]
fn elementwise_losses() {
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    for (n, m, d) in [(1, 1, 1), (5, 9, 7), (200, 130, 33)] {
        let inputs = [
            (random(&mut rng, &[n, d]) * 1.5).unwrap(),
            random(&mut rng, &[n, d]),
        ];
        check("smooth_l1", &mut rng, &inputs, |ops, x| {
            ops.smooth_l1(&x[0], &x[1])
        });
        let inputs = [
            random(&mut rng, &[n]),
            (random(&mut rng, &[m]) * 20.0).unwrap(),
        ];
        check("logistic_loss", &mut rng, &inputs, |ops, x| {
            ops.logistic_loss(&x[0], &x[1])
        });
    }
}

#[test]
fn bad_shapes_are_errors_not_panics() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let x = random(&mut rng, &[4, 12]);
    let seqs = Segments::from_lengths(&[4]);
    for ops in [Ops::Fused, Ops::Plain] {
        assert!(ops.gather(&x, &[4]).is_err());
        assert!(
            ops.linear(&x, &random(&mut rng, &[3, 5]), &random(&mut rng, &[3]))
                .is_err()
        );
        let kv = random(&mut rng, &[4, 24]);
        let attend = |rows: &[usize], seen: Option<&[u32]>, heads| {
            let attended = Attended {
                kv: &kv,
                rows: &seqs,
            };
            let rows = Segments::from_lengths(rows);
            ops.attention(&x, &rows, attended, seen, heads, &Dropout::off())
        };
        assert!(attend(&[4], None, 2).is_ok());
        assert!(attend(&[3], None, 2).is_err());
        assert!(attend(&[4], None, 5).is_err());
        assert!(attend(&[4], Some(&[1, 2, 3, 5]), 2).is_err());
        assert!(attend(&[4], Some(&[1, 2, 3]), 2).is_err());
        let shape = |cross| LayerShape {
            d_model: 12,
            heads: 2,
            feed_forward: 4,
            cross,
            eps: 1e-5,
        };
        let layer = |cross| {
            let packed = random(&mut ChaCha8Rng::seed_from_u64(1), &[shape(cross).size()]);
            Layer::new(shape(cross), packed).unwrap()
        };
        let input = |wanted| LayerInput {
            rows: &seqs,
            wanted,
            causal: false,
            memory: None,
        };
        let off = Dropout::off();
        let pass = Pass {
            ops,
            dropout: &off,
            leaves: None,
        };
        let forward = |cross, wanted| layer(cross).forward(pass, &x, input(wanted));
        assert_eq!(forward(false, Some(&[1, 3][..])).unwrap().dims(), [2, 12]);
        assert_eq!(forward(false, Some(&[][..])).unwrap().dims(), [0, 12]);
        assert!(forward(false, Some(&[3, 1][..])).is_err());
        assert!(forward(false, Some(&[4][..])).is_err());
        assert!(forward(true, None).is_err());
    }
    let short = random(&mut rng, &[7]);
    let shape = LayerShape {
        d_model: 12,
        heads: 2,
        feed_forward: 4,
        cross: false,
        eps: 1e-5,
    };
    assert!(Layer::new(shape, short).is_err());
    assert!(RowRanges::new(vec![0..2, 2..4], vec![2, 2]).is_err());
    assert!(RowRanges::new(vec![0..2, 1..3], vec![0, 1]).is_err());
    assert!(RowRanges::new(vec![], vec![]).is_err());
}

/// AdamW by its formula in f64, one element at a time.
#[test]
fn adamw_follows_its_formula_and_resumes_exactly() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let config = AdamWConfig {
        weight_decay: 0.1,
        clip_norm: 0.7,
        ..Default::default()
    };
    let devices = devices();
    let cases = [false, true]
        .into_iter()
        .flat_map(|amsgrad| devices.iter().map(move |d| (amsgrad, d)));
    for (amsgrad, device) in cases {
        let random =
            |rng: &mut ChaCha8Rng, shape: &[usize]| random(rng, shape).to_device(device).unwrap();
        let config = AdamWConfig {
            amsgrad,
            ..config.clone()
        };
        let start = [random(&mut rng, &[5, 7]), random(&mut rng, &[7])];
        let vars: Vec<Var> = start.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
        let named = |vars: &[Var]| {
            vars.iter()
                .enumerate()
                .map(|(i, v)| Trainable::new(format!("p{i}"), v.clone()))
                .collect()
        };
        let mut optimiser = AdamW::new(named(&vars), config.clone()).unwrap();
        let mut want: Vec<Vec<f64>> = start.iter().map(values).collect();
        let mut m: Vec<Vec<f64>> = want.iter().map(|p| vec![0.0; p.len()]).collect();
        let (mut v, mut highest) = (m.clone(), m.clone());
        let mut resumed = None;
        for t in 1..=6 {
            // Two shards, whose gradients are summed.
            let targets = [
                [random(&mut rng, &[5, 7]), random(&mut rng, &[7])],
                [random(&mut rng, &[5, 7]), random(&mut rng, &[7])],
            ];
            let grads: Vec<Gradients> = targets
                .iter()
                .map(|shard| {
                    let losses: Vec<Tensor> = vars
                        .iter()
                        .zip(shard)
                        .map(|(v, t)| {
                            (v.as_tensor() - t)
                                .unwrap()
                                .sqr()
                                .unwrap()
                                .sum_all()
                                .unwrap()
                        })
                        .collect();
                    (&losses[0] + &losses[1])
                        .unwrap()
                        .backward()
                        .unwrap()
                        .into()
                })
                .collect();
            let g: Vec<Vec<f64>> = (0..2)
                .map(|i| {
                    let shards: Vec<Vec<f64>> = targets.iter().map(|s| values(&s[i])).collect();
                    (0..want[i].len())
                        .map(|j| shards.iter().map(|s| 2.0 * (want[i][j] - s[j])).sum())
                        .collect()
                })
                .collect();
            let norm = g.iter().flatten().map(|x| x * x).sum::<f64>().sqrt();
            let clip = (0.7 / norm).min(1.0);
            let lr = 0.01 * f64::from(t);
            for i in 0..2 {
                for j in 0..want[i].len() {
                    let g = g[i][j] * clip;
                    m[i][j] = 0.9 * m[i][j] + 0.1 * g;
                    v[i][j] = 0.999 * v[i][j] + 0.001 * g * g;
                    highest[i][j] = highest[i][j].max(v[i][j]);
                    let second = if amsgrad { highest[i][j] } else { v[i][j] };
                    let m_hat = m[i][j] / (1.0 - 0.9f64.powi(t));
                    let v_hat = second / (1.0 - 0.999f64.powi(t));
                    let keep = if i == 0 { 1.0 - lr * 0.1 } else { 1.0 };
                    want[i][j] = want[i][j] * keep - lr * m_hat / (v_hat.sqrt() + 1e-8);
                }
            }
            if t == 4 {
                let copies: Vec<Var> = vars
                    .iter()
                    .map(|v| Var::from_tensor(&v.as_tensor().copy().unwrap()).unwrap())
                    .collect();
                let mut other = AdamW::new(named(&copies), config.clone()).unwrap();
                other
                    .load_state(optimiser.updates(), &optimiser.state().unwrap())
                    .unwrap();
                resumed = Some((copies, other));
            }
            let got = optimiser.step(&grads, lr).unwrap();
            assert!((got - norm).abs() < 1e-4 * norm, "norm {got}, not {norm}");
            for (var, want) in vars.iter().zip(&want) {
                for (a, b) in values(var).into_iter().zip(want) {
                    assert!((a - b).abs() < 1e-5, "step {t}: {a}, not {b}");
                }
            }
            if let (4, Some((copies, other))) = (t, &mut resumed) {
                // The same gradients, by the copies' own ids, from the restored state: equal bit for bit.
                let grads: Vec<Gradients> = targets
                    .iter()
                    .map(|shard| {
                        let losses: Vec<Tensor> = copies
                            .iter()
                            .zip(shard)
                            .map(|(v, t)| {
                                (v.as_tensor() - t)
                                    .unwrap()
                                    .sqr()
                                    .unwrap()
                                    .sum_all()
                                    .unwrap()
                            })
                            .collect();
                        (&losses[0] + &losses[1])
                            .unwrap()
                            .backward()
                            .unwrap()
                            .into()
                    })
                    .collect();
                other.step(&grads, lr).unwrap();
                for (a, b) in copies.iter().zip(&vars) {
                    assert_eq!(values(a), values(b));
                }
            }
        }
    }
}

#[test]
fn a_gradient_that_is_not_finite_leaves_the_parameters_alone() {
    let var = Var::from_tensor(&Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap()).unwrap();
    let mut optimiser = AdamW::new(
        vec![Trainable::new("p", var.clone())],
        AdamWConfig::default(),
    )
    .unwrap();
    let grads = (var.as_tensor() * f64::NAN)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    assert!(
        optimiser
            .step(&[grads.into()], 0.1)
            .unwrap_err()
            .to_string()
            .contains("norm")
    );
    assert_eq!(values(&var), [1.0, 2.0]);
    assert_eq!(optimiser.updates(), 0);
}
