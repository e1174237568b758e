//! The four benchmark sets have the published figures. Needs `../shared/datasets`; says so and passes where it is not.

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use common::{histories, put};
use eager_data::{
    Dataset, Manifest, Order, Places, PrepareConfig, Split, Ties, WINDOW, Windows, acquire,
};

fn shared() -> Option<PathBuf> {
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/datasets"
    ));
    if folder.is_dir() {
        return Some(folder.to_owned());
    }
    println!("skipped: {} is not there", folder.display());
    None
}

fn load(name: &str, data: &Path, change: impl Fn(&mut PrepareConfig)) -> Dataset {
    let manifest = Manifest::find(name).unwrap();
    let mut config = manifest.prepare.clone();
    change(&mut config);
    let places = Places {
        data: Some(data.to_owned()),
        cache: None,
    };
    Dataset::from_manifest(&manifest, &config, &places, &mut |_| {}).unwrap()
}

/// Users, items, interactions and mean length as printed in the papers of S³-Rec (table 1) and TIGER.
#[test]
fn statistics_equal_the_published_ones() {
    let Some(data) = shared() else { return };
    for (name, users, items, interactions, mean, ties) in [
        (
            "amazon-beauty",
            22_363,
            12_101,
            198_502,
            "8.88",
            Some((77_402, 176_139)),
        ),
        (
            "amazon-sports",
            35_598,
            18_357,
            296_337,
            "8.32",
            Some((124_223, 260_739)),
        ),
        (
            "amazon-toys",
            19_412,
            11_924,
            167_597,
            "8.63",
            Some((69_475, 148_185)),
        ),
        ("yelp", 30_431, 20_033, 316_354, "10.40", None),
    ] {
        let dataset = load(name, &data, |_| {});
        let found = dataset.statistics();
        assert_eq!(
            (found.users, found.items, found.interactions),
            (users, items, interactions),
            "{name}"
        );
        assert_eq!(format!("{:.2}", found.mean_length), mean, "{name}");
        assert_eq!(
            found.ties,
            ties.map(|(equal, pairs)| f64::from(equal) / f64::from(pairs)),
            "{name}"
        );
        assert!(
            dataset.files.iter().all(|file| file.pinned),
            "{name}: every file is pinned"
        );

        let manifest = Manifest::find(name).unwrap();
        let texts = dataset.item_texts(&manifest.text).unwrap();
        assert!(
            texts
                .iter()
                .all(|text| !text.is_empty() && !text.contains("Unknown.")),
            "{name}"
        );
        let windows = Windows::new(&Split::new(&dataset).unwrap(), WINDOW);
        assert_eq!(
            windows.len(),
            interactions - 3 * users,
            "{name}: all but the first, the last and the one before"
        );
    }
}

/// The raw 2014 files, rebuilt from the benchmark form (reviews item by item in ASIN order, metadata as Python
/// literals), give the same histories in time order and in the official code's file order. That holds because the
/// benchmark form lists ties in ASIN order, as a stable sort of the raw files does.
#[test]
fn raw_files_and_benchmark_form_agree() {
    let Some(data) = shared() else { return };
    let dataset = load("amazon-beauty", &data, |_| {});
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("amazon-beauty");
    std::fs::create_dir(&raw).unwrap();
    let mut events = Vec::new();
    for user in 0..dataset.users.len() {
        for (&item, time) in dataset
            .interactions
            .history(user)
            .iter()
            .zip(&dataset.times[dataset.interactions.range(user)])
        {
            events.push((
                &dataset.items[item.index()].id,
                user,
                1_000_000_000.0 + 86_400.0 * user as f64 + time,
            ));
        }
    }
    events.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    let mut reviews = String::new();
    for (asin, user, time) in events {
        writeln!(reviews, "{{\"reviewerID\": \"{}\", \"asin\": \"{asin}\", \"helpful\": [0, 0], \"unixReviewTime\": {time}}}", dataset.users[user]).unwrap();
    }
    let mut metadata = String::new();
    for item in &dataset.items {
        let title = item
            .title
            .as_deref()
            .unwrap_or("")
            .replace('\\', "\\\\")
            .replace('\'', "\\'");
        writeln!(
            metadata,
            "{{'asin': '{}', 'title': '{title}', 'categories': [{:?}]}}",
            item.id, item.categories
        )
        .unwrap();
    }
    put(&raw.join("reviews_Beauty_5.json.gz"), &reviews);
    put(&raw.join("meta_Beauty.json.gz"), &metadata);

    let manifest = Manifest::find("amazon-beauty").unwrap();
    let places = Places {
        data: Some(folder.path().to_owned()),
        cache: None,
    };
    assert_eq!(
        acquire(&manifest, &places, &mut |_| {})
            .unwrap()
            .source()
            .format(),
        "amazon2014"
    );
    for order in [Order::Time, Order::File] {
        let from_raw = load("amazon-beauty", folder.path(), |config| {
            config.order = order
        });
        let from_form = load("amazon-beauty", &data, |config| config.order = order);
        assert_eq!(histories(&from_raw), histories(&from_form), "{order:?}");
        let title = |dataset: &Dataset, id: &str| {
            dataset
                .items
                .iter()
                .find(|item| item.id == id)
                .unwrap()
                .title
                .clone()
        };
        assert_eq!(
            title(&from_raw, "B004756YJA"),
            title(&from_form, "B004756YJA")
        );
    }
}

#[test]
fn shuffled_ties_keep_times_and_change_orders() {
    let Some(data) = shared() else { return };
    let plain = load("amazon-toys", &data, |_| {});
    let shuffled = |seed| {
        load("amazon-toys", &data, |config| {
            config.ties = Ties::Shuffle { seed }
        })
    };
    let (a, b) = (shuffled(1), shuffled(2));
    assert_eq!(a.times, plain.times);
    assert_eq!(a.interactions, shuffled(1).interactions);
    let differing = |x: &Dataset, y: &Dataset| {
        (0..x.users.len())
            .filter(|&u| x.interactions.history(u) != y.interactions.history(u))
            .count()
    };
    // Three users in five have a tie among their interactions.
    for other in [differing(&plain, &a), differing(&a, &b)] {
        assert!(
            other > plain.users.len() / 2,
            "{other} of {}",
            plain.users.len()
        );
    }
}
