//! The generated dataset is worth training on: both what users did and what items say tell the next item far better
//! than popularity does, so a pipeline that learns nothing shows.

use std::collections::{BTreeMap, BTreeSet};

use eager_data::{Dataset, ItemId, Manifest, Places, Split};

/// Share of users whose test target is among the ten items of highest score; items of the history do not count.
fn recall_at_10(split: &Split, score: impl Fn(&[ItemId], usize) -> f64) -> f64 {
    let hits = (0..split.n_users()).filter(|&user| {
        let example = split.test(user).unwrap();
        let (history, target) = (example.history, example.target.index());
        let of_target = score(history, target);
        let above = (0..split.n_items())
            .filter(|&item| !history.contains(&ItemId(item as u32)))
            .filter(|&item| {
                let of_item = score(history, item);
                of_item > of_target || (of_item == of_target && item < target)
            })
            .count();
        above < 10
    });
    hits.count() as f64 / split.n_users() as f64
}

#[test]
fn behaviour_and_text_both_beat_popularity_clearly() {
    let manifest = Manifest::find("demo").unwrap();
    let dataset = Dataset::from_manifest(
        &manifest,
        &manifest.prepare,
        &Places::default(),
        &mut |_| {},
    )
    .unwrap();
    let split = Split::new(&dataset).unwrap();

    let counts = split.train_counts();
    let popularity = recall_at_10(&split, |_, item| f64::from(counts[item]));

    // How often two items stand within two steps of each other in the training parts.
    let mut together: BTreeMap<(u32, u32), f64> = BTreeMap::new();
    for user in 0..split.n_users() {
        let train = split.train(user);
        for (i, a) in train.iter().enumerate() {
            for b in &train[i + 1..train.len().min(i + 3)] {
                *together.entry((a.0, b.0)).or_default() += 1.0;
                *together.entry((b.0, a.0)).or_default() += 1.0;
            }
        }
    }
    let behaviour = recall_at_10(&split, |history, item| {
        let last = history.iter().rev().take(3).enumerate();
        last.map(|(age, a)| {
            together.get(&(a.0, item as u32)).copied().unwrap_or(0.0) / (age + 1) as f64
        })
        .sum()
    });

    // Rare words shared with the last items.
    let words: Vec<BTreeSet<String>> = dataset
        .item_texts(&manifest.text)
        .unwrap()
        .iter()
        .map(|text| {
            text.split(|c: char| !c.is_alphanumeric())
                .filter(|w| !w.is_empty())
                .map(str::to_lowercase)
                .collect()
        })
        .collect();
    let mut holders: BTreeMap<&str, f64> = BTreeMap::new();
    for word in words.iter().flatten() {
        *holders.entry(word).or_default() += 1.0;
    }
    let text = recall_at_10(&split, |history, item| {
        let last = history.iter().rev().take(3).enumerate();
        last.map(|(age, a)| {
            words[a.index()]
                .intersection(&words[item])
                .map(|w| 1.0 / holders[w.as_str()])
                .sum::<f64>()
                / (age + 1) as f64
        })
        .sum()
    });

    println!("recall@10: popularity {popularity:.4}, behaviour {behaviour:.4}, text {text:.4}");
    assert!(popularity < 0.05, "{popularity}");
    assert!(
        behaviour > 3.0 * popularity && behaviour > 0.08,
        "behaviour {behaviour}, popularity {popularity}"
    );
    assert!(
        text > 3.0 * popularity && text > 0.08,
        "text {text}, popularity {popularity}"
    );
}
