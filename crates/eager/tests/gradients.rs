//! The whole model under the whole loss: gradients against finite differences in f64, the fused path against the plain
//! one, and a gradient for every parameter.

use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use eager::train::objective::{Draw, Items, Objective};
use eager_codes::{CodeTrie, CodesConfig, ItemCodes, Variant, Vectors};
use eager_data::Batch;
use eager_losses::{LossConfig, Metric};
use eager_model::{Catalogue, Eager, EagerConfig, FilterConfig, Guide, PerStream, Stream, Weights};
use eager_ops::{Dropout, Gradients, Leaves, Ops, Pass};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ITEMS: usize = 30;

fn draws(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect()
}

/// Two trees of thirty items, of different depth, and random vectors.
fn items(variant: Variant, dtype: DType) -> Items {
    let dims = PerStream {
        behaviour: 6,
        semantic: 5,
    };
    let data = PerStream::from_fn(|s| draws(ITEMS * dims[s], s as u64));
    let config = CodesConfig {
        branching: 3,
        variant,
        ..CodesConfig::default()
    };
    Items {
        tries: PerStream::from_fn(|s| {
            let vectors = Vectors::new(&data[s], dims[s]).unwrap();
            CodeTrie::new(&ItemCodes::build(vectors, &config, 1).unwrap()).unwrap()
        }),
        vectors: PerStream::from_fn(|s| {
            Tensor::from_slice(&data[s], (ITEMS, dims[s]), &Device::Cpu)
                .unwrap()
                .to_dtype(dtype)
                .unwrap()
        }),
    }
}

fn small(config: EagerConfig) -> EagerConfig {
    EagerConfig {
        d_model: 8,
        heads: 2,
        feed_forward: 12,
        decoder_layers: 2,
        window: 6,
        init: 0.3, // so that no gradient is lost in rounding
        ..config
    }
}

fn model(config: &EagerConfig, items: &Items, weights: Weights) -> Eager {
    let catalogue = Catalogue {
        tries: PerStream::from_fn(|s| &items.tries[s]),
        dims: PerStream::from_fn(|s| items.vectors[s].dim(1).unwrap()),
    };
    Eager::new(config, &catalogue, weights).unwrap()
}

fn batch() -> Batch {
    let histories: [&[u32]; 4] = [&[3], &[4, 5, 29, 0, 0], &[7, 7], &[1, 12, 20]];
    let mut batch = Batch {
        offsets: vec![0],
        ..Batch::default()
    };
    for (user, (history, target)) in histories.into_iter().zip([9, 0, 17, 28]).enumerate() {
        batch.users.push(user as u32);
        batch.items.extend(history);
        batch.offsets.push(batch.items.len() as u32);
        batch.targets.push(target);
    }
    batch
}

fn loss(model: &Eager, items: &Items, config: &LossConfig, ops: Ops) -> Tensor {
    loss_of(model, items, config, ops, None)
}

fn loss_of(
    model: &Eager,
    items: &Items,
    config: &LossConfig,
    ops: Ops,
    leaves: Option<&Leaves>,
) -> Tensor {
    let dropout = Dropout::new(0.1, 5, 3);
    let objective = Objective {
        model,
        items,
        config,
        pass: Pass {
            ops,
            dropout: &dropout,
            leaves,
        },
        draw: Draw {
            seed: 7,
            update: 3,
            shard: 1,
        },
    };
    objective.loss(&batch()).unwrap().total
}

fn flat(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    t.to_vec1().unwrap()
}

fn gradients(model: &Eager, grads: &GradStore) -> HashMap<String, Vec<f64>> {
    let parts = model.parameters().parts().into_iter();
    parts
        .map(|(name, var, own)| {
            let Some(grad) = grads.get(&var) else {
                panic!("{name} has no gradient")
            };
            (name, flat(grad)[own].to_vec())
        })
        .collect()
}

/// Every configuration that changes the arithmetic.
fn cases() -> Vec<(&'static str, EagerConfig, LossConfig, Variant)> {
    let metric = |metric| {
        let mut config = LossConfig::default();
        config.contrastive.metric = metric;
        config
    };
    let official_losses = LossConfig::official();
    // So that every parameter of tables of their own is compared.
    let mut whole = official_losses.clone();
    whole.transfer.detach_tokens = false;
    vec![
        (
            "paper",
            small(EagerConfig::default()),
            LossConfig::default(),
            Variant::Plain,
        ),
        (
            "official",
            small(EagerConfig::official()),
            official_losses,
            Variant::Balanced,
        ),
        (
            "official, nothing detached",
            small(EagerConfig {
                detach_guide: false,
                ..EagerConfig::official()
            }),
            whole,
            Variant::Balanced,
        ),
        (
            "cosine",
            small(EagerConfig::default()),
            metric(Metric::Cosine),
            Variant::Plain,
        ),
        (
            "l2",
            small(EagerConfig::default()),
            metric(Metric::L2),
            Variant::Balanced,
        ),
        (
            "direct head",
            small(EagerConfig {
                direct_head: true,
                ..EagerConfig::default()
            }),
            LossConfig {
                direct: 0.7,
                ..LossConfig::default()
            },
            Variant::Plain,
        ),
        (
            "filter",
            small(EagerConfig {
                encoder_layers: 2,
                filter: FilterConfig {
                    alpha: 0.4,
                    cutoff: 3,
                },
                ..EagerConfig::default()
            }),
            LossConfig::default(),
            Variant::Plain,
        ),
    ]
}

#[test]
fn every_parameter_s_gradient_is_that_of_finite_differences() {
    for (name, config, losses, variant) in cases() {
        let items = items(variant, DType::F64);
        let drawn = model(&config, &items, Weights::random(1, &Device::Cpu));
        let saved: HashMap<String, Tensor> = drawn
            .parameters()
            .tensors()
            .into_iter()
            .map(|(n, t)| (n, t.to_dtype(DType::F64).unwrap()))
            .collect();
        let model = model(&config, &items, Weights::saved(saved, &Device::Cpu));
        let value = |model: &Eager| flat(&loss(model, &items, &losses, Ops::Plain))[0];
        let grads = loss(&model, &items, &losses, Ops::Plain)
            .backward()
            .unwrap();
        let grads = gradients(&model, &grads);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for (parameter, var, own) in model.parameters().parts() {
            let grad = &grads[&parameter];
            let largest = (0..grad.len())
                .max_by(|&a, &b| grad[a].abs().total_cmp(&grad[b].abs()))
                .unwrap();
            // A row of a table that the batch does not use has no gradient; the largest element must have one.
            // Keys' biases move every score of a softmax alike, and the transfer task attends to one key alone, whose
            // weight is 1 whatever the query: there the true gradient is 0.
            let constant = parameter.ends_with("bias") || parameter.ends_with("cross.q.weight");
            assert!(
                grad[largest].abs() > 1e-9
                    || constant
                        && (parameter.starts_with("transfer") || parameter.ends_with("qkv.bias")),
                "{name}: {parameter} has a gradient of 0"
            );
            let before = flat(&var);
            let set = |i: usize, x: f64| {
                let mut data = before.clone();
                data[own.start + i] = x;
                var.set(&Tensor::from_vec(data, var.shape(), &Device::Cpu).unwrap())
                    .unwrap();
            };
            for i in [largest, rng.random_range(0..grad.len())] {
                let h = 1e-5;
                set(i, before[own.start + i] + h);
                let above = value(&model);
                set(i, before[own.start + i] - h);
                let below = value(&model);
                set(i, before[own.start + i]);
                // What is detached is a constant for the gradient, but not for the difference.
                if detached(&config, &losses, &parameter) {
                    continue;
                }
                let want = (above - below) / (2.0 * h);
                assert!(
                    (grad[i] - want).abs() <= 1e-5 * want.abs().max(0.1),
                    "{name}: {parameter}[{i}]: {} against {want}",
                    grad[i]
                );
            }
        }
    }
}

/// Whether a part of the loss reaches `parameter` through a tensor that the configuration detaches.
fn detached(config: &EagerConfig, losses: &LossConfig, parameter: &str) -> bool {
    let behaviour_layers = parameter.starts_with("behaviour") && parameter != "behaviour.tokens";
    let semantic = !(behaviour_layers || parameter.starts_with("transfer"));
    (config.detach_guide && semantic)
        || (losses.transfer.detach_tokens && parameter == "behaviour.tokens")
}

#[test]
fn the_fused_path_agrees_with_the_plain_one() {
    for (name, config, losses, variant) in cases() {
        let items = items(variant, DType::F32);
        let model = model(&config, &items, Weights::random(1, &Device::Cpu));
        let [fused, plain] = [Ops::Fused, Ops::Plain].map(|ops| {
            let loss = loss(&model, &items, &losses, ops);
            let grads = gradients(&model, &loss.backward().unwrap());
            (flat(&loss)[0], grads)
        });
        assert!((fused.0 - plain.0).abs() < 1e-5 * plain.0.abs(), "{name}");
        for (parameter, want) in &plain.1 {
            let scale = want.iter().fold(1e-3, |a: f64, x| a.max(x.abs()));
            for (found, want) in fused.1[parameter].iter().zip(want) {
                assert!(
                    (found - want).abs() < 2e-5 * scale.max(1.0) + 1e-4 * want.abs(),
                    "{name}: {parameter}: {found} against {want}"
                );
            }
        }
    }
}

/// Where the transfer task reaches the semantic stream: by its guide alone, unless that is detached.
#[test]
fn a_detached_guide_ends_the_transfer_task_s_gradient() {
    let items = items(Variant::Plain, DType::F32);
    let mut losses = LossConfig::default();
    losses.generation.semantic = 0.0;
    losses.contrastive.semantic = 0.0;
    for guide in [Guide::Summary, Guide::Projection] {
        for detach_guide in [true, false] {
            let config = small(EagerConfig {
                guide,
                detach_guide,
                ..EagerConfig::default()
            });
            let model = model(&config, &items, Weights::random(1, &Device::Cpu));
            let loss = loss(&model, &items, &losses, Ops::Fused);
            let grads = loss.backward().unwrap();
            for (parameter, var, _) in model.parameters().parts() {
                if parameter.starts_with("semantic.") {
                    // A summary that guides as it is has not been projected.
                    let read =
                        guide == Guide::Projection || !parameter.starts_with("semantic.projection");
                    assert_eq!(
                        grads.get(&var).is_some(),
                        read && !detach_guide,
                        "{guide:?}, detached {detach_guide}: {parameter}"
                    );
                }
            }
        }
    }
}

/// The reconstruction trains the behaviour tokens that it is scored against, unless they are detached.
#[test]
fn detached_tokens_are_not_trained_by_what_is_scored_against_them() {
    let items = items(Variant::Plain, DType::F32);
    let config = small(EagerConfig::default());
    let model = model(&config, &items, Weights::random(1, &Device::Cpu));
    let mut losses = LossConfig::default();
    (losses.generation.behaviour, losses.generation.semantic) = (0.0, 0.0);
    (losses.contrastive.behaviour, losses.contrastive.semantic) = (0.0, 0.0);
    losses.transfer.recognition = 0.0;
    losses.transfer.mask_ratio = 1.0; // so that no node's token is read, only special ones behind them
    let parts = model.parameters().parts();
    let tokens = parts.iter().find(|(name, ..)| name == "behaviour.tokens");
    let (_, tokens, _) = tokens.unwrap();
    let nodes = items.tries.behaviour.n_nodes();
    for detach_tokens in [true, false] {
        losses.transfer.detach_tokens = detach_tokens;
        let loss = loss(&model, &items, &losses, Ops::Fused);
        let grads = loss.backward().unwrap();
        let grad = flat(grads.get(tokens).unwrap());
        let (scored, read) = grad.split_at(nodes * config.d_model);
        let trained = |rows: &[f64]| rows.iter().any(|x| *x != 0.0);
        assert!(trained(read));
        assert_eq!(trained(scored), !detach_tokens);
    }
}

/// Leaves change where the gradients of tables and, on fused operations, of layers are found, and no bit of them; but of a table
/// that is also read whole the order of additions.
#[test]
fn leaves_have_the_gradients_of_their_tables() {
    for (name, config, losses, variant) in cases() {
        let items = items(variant, DType::F32);
        let model = model(&config, &items, Weights::random(1, &Device::Cpu));
        for ops in [Ops::Fused, Ops::Plain] {
            let whole = loss(&model, &items, &losses, ops);
            let whole = Gradients::from(whole.backward().unwrap());
            let leaves = Leaves::default();
            let own = loss_of(&model, &items, &losses, ops, Some(&leaves));
            let store = own.backward().unwrap();
            for (parameter, var, range) in model.parameters().parts() {
                // The direct head reads every item's embedding, so the whole table.
                let items = parameter == "encoder.items" && !config.direct_head;
                let table = parameter.ends_with(".tokens") || items;
                let layer = ops == Ops::Fused && range.len() < var.elem_count();
                assert_eq!(
                    store.get(&var).is_none(),
                    table || layer,
                    "{name}: {parameter}"
                );
            }
            let own = leaves.gradients(store).unwrap();
            for (parameter, var, _) in model.parameters().parts() {
                let of = |grads: &Gradients| flat(&grads.get(&var).unwrap().unwrap());
                let (own, whole) = (of(&own), of(&whole));
                if parameter == "encoder.items" && config.direct_head {
                    let mut pairs = own.iter().zip(&whole);
                    assert!(
                        pairs.all(|(own, whole)| (own - whole).abs() < 1e-6),
                        "{name}: {parameter}"
                    );
                } else {
                    assert_eq!(own, whole, "{name}: {parameter}");
                }
            }
        }
    }
}

/// A weight of 0 leaves its part out; the others do not change.
#[test]
fn parts_of_weight_0_are_left_out() {
    let items = items(Variant::Plain, DType::F32);
    let model = model(
        &small(EagerConfig::default()),
        &items,
        Weights::random(1, &Device::Cpu),
    );
    let off = Dropout::off();
    let parts = |config: &LossConfig| {
        let objective = Objective {
            model: &model,
            items: &items,
            config,
            pass: Pass {
                ops: Ops::Fused,
                dropout: &off,
                leaves: None,
            },
            draw: Draw {
                seed: 1,
                update: 0,
                shard: 0,
            },
        };
        objective.loss(&batch()).unwrap().parts().unwrap()
    };
    let whole = parts(&LossConfig::default());
    let mut config = LossConfig::default();
    config.transfer.reconstruction = 0.0;
    config.transfer.recognition = 0.0;
    config.contrastive.behaviour = 0.0;
    config.generation.semantic = 2.0;
    let some = parts(&config);
    assert_eq!((some.reconstruction, some.recognition), (0.0, 0.0));
    assert_eq!(some.contrastive[Stream::Behaviour], 0.0);
    assert_eq!(some.generation, whole.generation, "parts are unweighted");
    let want =
        whole.generation.behaviour + 2.0 * whole.generation.semantic + whole.contrastive.semantic;
    assert!((some.total - want).abs() < 1e-5);
    assert!(whole.reconstruction > 0.0 && whole.recognition > 0.0);
    // No stream at all is refused.
    config.generation.behaviour = 0.0;
    config.generation.semantic = 0.0;
    assert!(config.validate().is_err());
}
