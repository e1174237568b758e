//! A small dataset whose next items can be learnt.

use eager_data::{Clock, Dataset, Interactions, Item, ItemId, PrepareConfig, Split};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Items on the ring.
pub const ITEMS: u32 = 40;

/// Users who walk along a ring of items, a step of one or two at a time.
pub fn split() -> Split {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let histories: Vec<Vec<ItemId>> = (0..60)
        .map(|_| {
            let mut at = rng.random_range(0..ITEMS);
            let length = rng.random_range(5..12);
            let walk = (0..length).map(|_| {
                at = (at + rng.random_range(1..=2)) % ITEMS;
                ItemId(at)
            });
            walk.collect()
        })
        .collect();
    let interactions =
        Interactions::new(histories.iter().map(Vec::as_slice), ITEMS as usize).unwrap();
    Split::new(&Dataset {
        name: "ring".into(),
        times: (0..interactions.len()).map(|i| i as f64).collect(),
        interactions,
        clock: Clock::Absolute,
        items: (0..ITEMS).map(|i| Item::new(format!("i{i}"))).collect(),
        users: (0..60).map(|u| format!("u{u}")).collect(),
        prepare: PrepareConfig::default(),
        format: "test".into(),
        files: vec![],
    })
    .unwrap()
}
