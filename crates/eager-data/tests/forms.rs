//! The same data in every form give the same dataset, and the artefact kept of it loads as it was.

mod common;

use common::{BY_TIME, FORMS, histories, stage, write};
use eager_data::{DataError, Dataset, Manifest, Order, Places, PrepareConfig, Split, Ties};

#[test]
fn every_form_gives_the_same_dataset() {
    let expected: Vec<(String, Vec<String>)> = BY_TIME
        .iter()
        .map(|(user, items)| ((*user).to_owned(), items.map(str::to_owned).to_vec()))
        .collect();
    for form in FORMS {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run/data");
        let dataset = stage(
            &write(folder.path(), form),
            &folder.path().join("cache"),
            &out,
        )
        .unwrap();
        assert_eq!(histories(&dataset), expected, "{form}");
        let template = Manifest::load(&folder.path().join("mine.toml"))
            .unwrap()
            .text;
        let mut texts = dataset.item_texts(&template).unwrap();
        texts.sort();
        assert_eq!(
            texts,
            ["Item's 1. x, y", "Item's 2. x, y", "Item's 3. x, y"],
            "{form}"
        );
        assert_eq!(dataset.statistics().ties, Some(1.0 / 6.0), "{form}");
        assert_eq!(Dataset::load(&out).unwrap(), dataset, "{form}");
        let split = Split::new(&dataset).unwrap();
        let ann = dataset.users.iter().position(|user| user == "ann").unwrap();
        assert_eq!(
            dataset.items[split.test(ann).unwrap().target.index()].id,
            "B1",
            "{form}"
        );
    }
}

/// File order is the order of the raw files, which list the events item by item: known for every form but a
/// benchmark form that does not say so.
#[test]
fn file_order_is_that_of_the_raw_files() {
    for form in FORMS {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), form);
        let manifest = Manifest::load(&path).unwrap();
        let config = PrepareConfig {
            order: Order::File,
            ..manifest.prepare.clone()
        };
        let load = |manifest: &Manifest| {
            Dataset::from_manifest(manifest, &config, &Places::default(), &mut |_| {})
        };
        for (_, history) in histories(&load(&manifest).unwrap()) {
            assert_eq!(history, ["B1", "B2", "B3"], "{form}");
        }
        if form == "benchmark" {
            let text = std::fs::read_to_string(&path)
                .unwrap()
                .replace("listed_by_item = true\n", "");
            std::fs::write(&path, text).unwrap();
            let error = load(&Manifest::load(&path).unwrap()).unwrap_err();
            assert!(
                matches!(&error, DataError::Prepare(words) if words.contains("raw files is not known")),
                "{error}"
            );
        }
    }
}

#[test]
fn other_cores_are_not_held_to_the_expected_figures() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = Manifest::load(&write(folder.path(), "csv")).unwrap();
    let config = PrepareConfig {
        item_core: 1,
        ties: Ties::Shuffle { seed: 1 },
        ..manifest.prepare.clone()
    };
    let dataset =
        Dataset::from_manifest(&manifest, &config, &Places::default(), &mut |_| {}).unwrap();
    assert_eq!(
        (dataset.statistics().users, dataset.statistics().items),
        (3, 4)
    );
}

/// The data folder comes before the manifest's own, and that before the cache.
#[test]
fn folders_are_looked_through_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = Manifest::load(&write(folder.path(), "csv")).unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir_all(data.join("mine")).unwrap();
    let places = Places {
        data: Some(data.clone()),
        cache: None,
    };
    let found = |places: &Places| {
        eager_data::acquire(&manifest, places, &mut |_| {}).map(|a| a.paths().to_vec())
    };
    assert_eq!(
        found(&places).unwrap()[0],
        folder.path().join("log.csv"),
        "an empty data folder is passed over"
    );
    for name in ["log.csv", "items.csv"] {
        std::fs::copy(folder.path().join(name), data.join("mine").join(name)).unwrap();
    }
    assert_eq!(found(&places).unwrap()[0], data.join("mine/log.csv"));
}
