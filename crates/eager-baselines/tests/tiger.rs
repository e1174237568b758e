//! TIGER against its formula, written out in f64 with loops; its gradients against central differences of that; its search
//! against scoring every item.

mod common;

use candle_core::Device;
use common::{D, Matrix, Plain, add, attention, check_gradients, pack, pass};
use eager_baselines::{Tiger, TigerConfig};
use eager_codes::SemanticIds;
use eager_model::Weights;
use eager_ops::{Dropout, Ops};

const WINDOW: usize = 4;

/// Nine items with two codewords; three of them share both, and not all prefixes are there.
fn ids() -> SemanticIds {
    let ids: [[u32; 3]; 9] = [
        [0, 0, 0],
        [1, 2, 0],
        [0, 0, 1],
        [2, 1, 0],
        [0, 3, 0],
        [0, 0, 2],
        [1, 0, 0],
        [1, 2, 1],
        [2, 3, 0],
    ];
    SemanticIds::new(3, ids.concat()).unwrap()
}

fn tiger() -> Tiger {
    let config = TigerConfig {
        d_model: D,
        heads: common::HEADS,
        feed_forward: 12,
        encoder_layers: 2,
        decoder_layers: 2,
        dropout: 0.1,
        window: WINDOW,
        init: 0.4,
    };
    Tiger::new(&config, &ids(), Weights::random(7, &Device::Cpu)).unwrap()
}

const HISTORIES: [&[u32]; 4] = [&[3], &[0, 1, 2], &[8, 7, 6, 5], &[4, 4]];
const TARGETS: [u32; 4] = [7, 3, 0, 8];

/// Places of an id begin here in the table of tokens, then comes the start.
const PLACES: [usize; 4] = [0, 3, 7, 10];

fn rows(item: u32) -> Vec<usize> {
    let ids = ids();
    let tokens = ids.id(item).iter().zip(PLACES);
    tokens
        .map(|(&token, place)| place + token as usize)
        .collect()
}

fn embed(p: &Plain, stack: &str, rows: &[usize], positions: &[usize]) -> Matrix {
    let (tokens, table) = (p.matrix("tokens"), p.matrix(&format!("{stack}.positions")));
    let sum = |(&row, &position): (&usize, &usize)| {
        let pairs = tokens[row].iter().zip(&table[position]);
        pairs.map(|(a, b)| a + b).collect()
    };
    let x = rows.iter().zip(positions).map(sum).collect();
    p.norm(&format!("{stack}.norm"), &x)
}

fn feed_forward(p: &Plain, layer: &str, x: &Matrix) -> Matrix {
    let name = |part: &str| format!("{layer}.{part}");
    p.feed_forward((&name("inner"), &name("outer"), &name("norm")), x)
}

/// The states that the tokens of `target` are predicted from.
fn plain_states(p: &Plain, history: &[u32], target: u32) -> Matrix {
    let read: Vec<usize> = history.iter().flat_map(|&item| rows(item)).collect();
    let ages = (0..history.len()).rev().flat_map(|age| [age; 3]);
    let mut memory = embed(p, "encoder", &read, &ages.collect::<Vec<_>>());
    for layer in ["encoder.0", "encoder.1"] {
        let self_attention = format!("{layer}.self");
        memory = p.self_attention(&self_attention, &memory, |_| (0..read.len()).collect());
        memory = feed_forward(p, layer, &memory);
    }
    let said = [&[PLACES[3]][..], &rows(target)[..2]].concat();
    let mut x = embed(p, "decoder", &said, &[0, 1, 2]);
    for layer in ["decoder.0", "decoder.1"] {
        x = p.self_attention(&format!("{layer}.self"), &x, |i| (0..=i).collect());
        let name = |part: &str| format!("{layer}.cross.{part}");
        let kv = p.linear(&name("kv"), &memory);
        let part = |n: usize| -> Matrix { kv.iter().map(|r| r[n * D..][..D].to_vec()).collect() };
        let q = p.linear(&name("q"), &x);
        let mixed = attention(&q, &part(0), &part(1), |_| (0..read.len()).collect());
        x = p.norm(
            &name("norm"),
            &add(&x, &p.linear(&name("attended"), &mixed)),
        );
        x = feed_forward(p, layer, &x);
    }
    x
}

/// Log-probability of every token of an item's id after those before it, among all tokens of its place.
fn plain_log_probs(p: &Plain, history: &[u32], item: u32) -> Vec<f64> {
    let tokens = p.matrix("tokens");
    let states = plain_states(p, history, item);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let of = |((place, state), row): ((usize, &Vec<f64>), usize)| {
        let all = PLACES[place]..PLACES[place + 1];
        let sum: f64 = all.map(|row| dot(state, &tokens[row]).exp()).sum();
        dot(state, &tokens[row]) - sum.ln()
    };
    let states = states.iter().enumerate().zip(rows(item));
    states.map(of).collect()
}

fn plain_loss(p: &Plain) -> f64 {
    let pairs = HISTORIES.iter().zip(TARGETS);
    let terms = pairs.flat_map(|(history, target)| plain_log_probs(p, history, target));
    -terms.sum::<f64>() / 12.0
}

#[test]
fn loss_and_gradients_are_those_of_the_formula() {
    let (tiger, off) = (tiger(), Dropout::off());
    let plain = Plain::of(tiger.parameters());
    let want = plain_loss(&plain);
    for ops in [Ops::Fused, Ops::Plain] {
        let loss = tiger
            .loss(pass(ops, &off), &pack(&HISTORIES), &TARGETS)
            .unwrap();
        let got = f64::from(loss.to_scalar::<f32>().unwrap());
        assert!((got - want).abs() < 1e-5, "loss {got}, not {want}");
        if ops == Ops::Fused {
            let grads = loss.backward().unwrap();
            check_gradients(tiger.parameters(), &grads, &plain, plain_loss);
        }
    }
}

#[test]
fn as_many_beams_as_items_score_every_item() {
    let tiger = tiger();
    let plain = Plain::of(tiger.parameters());
    for ops in [Ops::Fused, Ops::Plain] {
        let found = tiger.beam_search(ops, &pack(&HISTORIES), 9).unwrap();
        for (history, list) in HISTORIES.iter().zip(&found) {
            assert!(list.is_sorted_by(|a, b| a.log_prob >= b.log_prob));
            let mut items: Vec<u32> = list.iter().map(|found| found.item).collect();
            items.sort_unstable();
            assert_eq!(items, (0..9).collect::<Vec<_>>());
            for found in list {
                let want: f64 = plain_log_probs(&plain, history, found.item).iter().sum();
                assert!((f64::from(found.log_prob) - want).abs() < 1e-4);
            }
            // Some of the probability goes to ids of no item.
            let all: f64 = list.iter().map(|f| f64::from(f.log_prob).exp()).sum();
            assert!(all < 1.0);
        }
        let alone = tiger.beam_search(ops, &pack(&HISTORIES[1..2]), 9).unwrap();
        for (a, b) in alone[0].iter().zip(&found[1]) {
            assert!(a.item == b.item && (a.log_prob - b.log_prob).abs() < 1e-5);
        }
    }
}

/// Beam search level by level on the log-probabilities of the formula.
#[test]
fn narrow_beams_keep_the_best_prefixes_of_every_place() {
    let (tiger, ids) = (tiger(), ids());
    let plain = Plain::of(tiger.parameters());
    for width in [1, 2, 4] {
        let found = tiger
            .beam_search(Ops::Fused, &pack(&HISTORIES), width)
            .unwrap();
        for (history, list) in HISTORIES.iter().zip(&found) {
            let scores: Vec<Vec<f64>> = (0..9)
                .map(|item| plain_log_probs(&plain, history, item))
                .collect();
            let mut kept: Vec<Vec<u32>> = vec![vec![]];
            for length in 1..=3 {
                let mut next: Vec<(f64, Vec<u32>)> = vec![];
                for item in 0..9u32 {
                    let prefix = ids.id(item)[..length].to_vec();
                    let score = scores[item as usize][..length].iter().sum();
                    let known = next.iter().any(|(_, other)| *other == prefix);
                    if !known && kept.contains(&prefix[..length - 1].to_vec()) {
                        next.push((score, prefix));
                    }
                }
                next.sort_by(|a, b| b.0.total_cmp(&a.0));
                next.truncate(width);
                kept = next.into_iter().map(|(_, prefix)| prefix).collect();
            }
            let found: Vec<Vec<u32>> = list.iter().map(|f| ids.id(f.item).to_vec()).collect();
            assert_eq!(found, kept, "{width} beams");
        }
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let (tiger, off) = (tiger(), Dropout::off());
    let refused = |histories: &[&[u32]], targets: &[u32]| {
        let loss = tiger.loss(pass(Ops::Fused, &off), &pack(histories), targets);
        loss.unwrap_err().to_string()
    };
    assert!(refused(&[&[0; WINDOW + 1]], &[0]).contains("history 0 has 5 items; 1 to 4"));
    assert!(refused(&[&[]], &[0]).contains("history 0 has 0 items"));
    assert!(refused(&[&[9]], &[0]).contains("item 9 of a history is not among 9 items"));
    assert!(refused(&[&[1]], &[9]).contains("up to Some(9) of 9 items"));
    assert!(refused(&[&[1]], &[0, 0]).contains("2 targets"));
    let config = TigerConfig {
        window: 90,
        ..TigerConfig::default()
    };
    let weights = Weights::random(1, &Device::Cpu);
    let message = Tiger::new(&config, &ids(), weights)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("expected 1 to 85 items of 3 tokens"),
        "{message}"
    );
}
