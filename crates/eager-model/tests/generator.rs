//! The generator as a whole: streams, causality, and token-by-token decoding against the teacher-forced pass.

use candle_core::{Device, Tensor};
use eager_codes::{CodeTrie, ItemCodes};
use eager_model::{
    Catalogue, Eager, EagerConfig, FilterConfig, Histories, ItemTable, PerStream, Stream,
    TargetCodes, TransferCodes, Weights,
};
use eager_ops::{Dropout, Ops, Pass, Segments};

/// Nine items in a tree of three levels: ordinals of `i` in base `k`, padded.
fn trie(bases: [u32; 3]) -> CodeTrie {
    let codes = (0..9u32)
        .flat_map(|i| {
            [
                i / (bases[1] * bases[2]),
                i / bases[2] % bases[1],
                i % bases[2],
            ]
        })
        .collect();
    CodeTrie::new(&ItemCodes::new(3, codes, vec![], vec![]).unwrap()).unwrap()
}

fn config() -> EagerConfig {
    EagerConfig {
        d_model: 16,
        heads: 2,
        feed_forward: 24,
        decoder_layers: 2,
        window: 6,
        init: 0.2, // so that attention is not even
        ..EagerConfig::default()
    }
}

fn model(config: &EagerConfig) -> (Eager, PerStream<CodeTrie>) {
    let tries = PerStream {
        behaviour: trie([3, 3, 1]),
        semantic: trie([3, 1, 3]),
    };
    let catalogue = Catalogue {
        tries: PerStream {
            behaviour: &tries.behaviour,
            semantic: &tries.semantic,
        },
        dims: PerStream {
            behaviour: 5,
            semantic: 4,
        },
    };
    let model = Eager::new(config, &catalogue, Weights::random(3, &Device::Cpu)).unwrap();
    (model, tries)
}

fn histories() -> Histories {
    Histories::new(&[0, 1, 2, 8, 4, 4, 3, 7, 5], &[0, 1, 6, 9]).unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f32 {
    let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    d.max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn decoding_token_by_token_equals_the_teacher_forced_pass() {
    for items in [ItemTable::Shared, ItemTable::PerStream] {
        for ops in [Ops::Fused, Ops::Plain] {
            let (model, tries) = model(&EagerConfig { items, ..config() });
            let off = Dropout::off();
            let pass = Pass {
                ops,
                dropout: &off,
                leaves: None,
            };
            let memory = model.encode(pass, &histories()).unwrap();
            for stream in Stream::ALL {
                // Beams of the three histories: two, none, one; every beam a whole code.
                let (beams, owners) = ([4u32, 6, 2], [0u32, 0, 2]);
                let users = Segments::from_lengths(&[2, 0, 1]);
                let codes = TargetCodes::new(&tries[stream], &beams).unwrap();
                let mut decoding = model.begin(stream, ops, &memory).unwrap();
                let mut states = vec![
                    decoding
                        .step(&[0; 3], &[], &Segments::uniform(3, 1))
                        .unwrap(),
                ];
                for level in 1..3 {
                    let nodes: Vec<u32> = (0..3).map(|b| codes.paths[b * 3 + level - 1]).collect();
                    let parents = if level == 1 { owners } else { [0, 1, 2] };
                    states.push(decoding.step(&nodes, &parents, &users).unwrap());
                }
                // The same codes, teacher-forced, each with its owner's history.
                let histories = Histories::new(&[0, 0, 3, 7, 5], &[0, 1, 2, 5]).unwrap();
                let memory = model.encode(pass, &histories).unwrap();
                let whole = model
                    .decode(stream, pass, &memory, &codes, &model.vocabulary(stream))
                    .unwrap();
                let whole = whole.hidden.reshape((3, 3, 16)).unwrap();
                for (level, state) in states.iter().enumerate() {
                    // Who predicts an only child is not asked for its state.
                    let only = |b: usize| codes.rows.ranges()[b * 3 + level].len() == 1;
                    if (0..3).all(only) {
                        continue;
                    }
                    let want = whole.narrow(1, level, 1).unwrap().squeeze(1).unwrap();
                    let found = if level == 0 {
                        let owners = Tensor::new(&owners, &Device::Cpu).unwrap();
                        state.index_select(&owners, 0).unwrap()
                    } else {
                        state.clone()
                    };
                    assert!(distance(&found, &want) < 1e-5, "{stream:?} {level}");
                }
                assert!(
                    decoding.step(&[0; 3], &[0, 1, 2], &users).is_err(),
                    "the code has ended"
                );
            }
        }
    }
}

/// A position must not see the tokens after it; the summary must see them all.
#[test]
fn only_the_summary_has_seen_the_whole_code() {
    let (model, tries) = model(&config());
    let off = Dropout::off();
    let pass = Pass {
        ops: Ops::Fused,
        dropout: &off,
        leaves: None,
    };
    let memory = model
        .encode(pass, &Histories::new(&[1, 2], &[0, 2]).unwrap())
        .unwrap();
    // Items 0 and 1 differ in the last token, 0 and 3 in the first.
    let decode = |item| {
        let codes = TargetCodes::new(&tries.semantic, &[item]).unwrap();
        model
            .decode(
                Stream::Semantic,
                pass,
                &memory,
                &codes,
                &model.vocabulary(Stream::Semantic),
            )
            .unwrap()
    };
    let (a, b) = (decode(0), decode(1));
    assert_eq!(distance(&a.hidden, &b.hidden), 0.0);
    assert!(distance(&a.summary, &b.summary) > 1e-3);
}

#[test]
fn histories_do_not_see_each_other_and_order_counts() {
    for alpha in [0.0, 0.7] {
        let filter = FilterConfig { alpha, cutoff: 3 };
        let (model, _) = model(&EagerConfig { filter, ..config() });
        let off = Dropout::off();
        let pass = Pass {
            ops: Ops::Fused,
            dropout: &off,
            leaves: None,
        };
        let encode = |items: &[u32], offsets: &[u32]| {
            let histories = Histories::new(items, offsets).unwrap();
            model.encode(pass, &histories).unwrap().hidden.behaviour
        };
        let alone = encode(&[3, 7, 5], &[0, 3]);
        let together = encode(&[0, 3, 7, 5, 1], &[0, 1, 4, 5])
            .narrow(0, 1, 3)
            .unwrap();
        assert!(distance(&alone, &together) < 1e-6);
        let swapped = encode(&[7, 3, 5], &[0, 3]).narrow(0, 2, 1).unwrap();
        assert!(distance(&alone.narrow(0, 2, 1).unwrap(), &swapped) > 1e-4);
    }
}

#[test]
fn the_transfer_task_reads_code_and_guide() {
    let (model, _) = model(&config());
    let off = Dropout::off();
    let pass = Pass {
        ops: Ops::Fused,
        dropout: &off,
        leaves: None,
    };
    let summary = Tensor::new(&[[0.5f32; 16], [-0.5; 16]], &Device::Cpu).unwrap();
    let projection = Tensor::zeros((2, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
    let mask = model.mask_token();
    let codes = TransferCodes {
        tokens: vec![1, 4, 13, 1, mask, 13, 1, 4, 13],
        guides: vec![0, 0, 1],
        wanted: (0..3).map(|code| TransferCodes::cls(code, 3)).collect(),
    };
    let all = model.vocabulary(Stream::Behaviour);
    let transfer = |codes| {
        model
            .transfer(pass, &summary, &projection, codes, &all)
            .unwrap()
    };
    let cls = transfer(&codes);
    assert_eq!(cls.dims(), [3, 16]);
    let logits: Vec<f32> = model.recognise(pass, &cls).unwrap().to_vec1().unwrap();
    assert!(
        (logits[0] - logits[1]).abs() > 1e-4,
        "a masked token shows at [CLS]"
    );
    assert!(
        (logits[0] - logits[2]).abs() > 1e-4,
        "and so does the guide"
    );
    // A position's state does not depend on what else is wanted.
    let codes = TransferCodes {
        wanted: vec![
            TransferCodes::cls(0, 3),
            TransferCodes::token(2, 3),
            TransferCodes::token(4, 3),
            TransferCodes::cls(2, 3),
        ],
        ..codes.clone()
    };
    assert_eq!(codes.wanted, [0, 3, 6, 8]);
    let some = transfer(&codes);
    assert!(distance(&some.get(3).unwrap(), &cls.get(2).unwrap()) < 1e-6);
    assert!(distance(&some.get(1).unwrap(), &some.get(2).unwrap()) > 1e-4);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let (model, tries) = model(&config());
    let off = Dropout::off();
    let pass = Pass {
        ops: Ops::Fused,
        dropout: &off,
        leaves: None,
    };
    let refused = |items: &[u32], offsets: &[u32]| {
        let histories = Histories::new(items, offsets);
        let memory = histories.and_then(|h| model.encode(pass, &h));
        memory.unwrap_err().to_string()
    };
    assert!(refused(&[9], &[0, 1]).contains("item 9"));
    assert!(refused(&[0, 1], &[0, 0, 2]).contains("history 0 is empty"));
    assert!(refused(&[0, 1], &[0, 2, 2]).contains("history 1 is empty"));
    assert!(refused(&[0; 6], &[0, 6]).contains("at most 5"));
    assert!(refused(&[0; 6], &[0, 5]).contains("offsets end at 5"));
    assert!(TargetCodes::new(&tries.behaviour, &[9]).is_err());
    let saved = model.parameters().tensors();
    let other = EagerConfig {
        decoder_layers: 3,
        ..config()
    };
    let catalogue = Catalogue {
        tries: PerStream {
            behaviour: &tries.behaviour,
            semantic: &tries.semantic,
        },
        dims: PerStream {
            behaviour: 5,
            semantic: 4,
        },
    };
    let message = Eager::new(
        &other,
        &catalogue,
        Weights::saved(saved.clone(), &Device::Cpu),
    )
    .unwrap_err()
    .to_string();
    assert!(message.contains("another configuration"), "{message}");
    assert!(Eager::new(&config(), &catalogue, Weights::saved(saved, &Device::Cpu)).is_ok());
}
