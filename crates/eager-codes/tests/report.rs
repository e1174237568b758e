//! The quality report against figures counted the slow way.

mod common;

use std::collections::BTreeMap;

use common::mixture;
use eager_codes::{
    CodeTrie, CodesConfig, CodesError, ItemCodes, QualityReport, ReportConfig, Vectors, overlap,
};

#[test]
fn every_figure_equals_its_definition() {
    let (n, dim) = (240, 6);
    let data = mixture(n, dim, 12, 0.5, 4);
    let vectors = Vectors::new(&data, dim).unwrap();
    for config in [
        CodesConfig {
            branching: 5,
            ..CodesConfig::default()
        },
        CodesConfig {
            branching: 7,
            ..CodesConfig::official()
        },
    ] {
        let codes = ItemCodes::build(vectors, &config, 1).unwrap();
        let trie = CodeTrie::new(&codes).unwrap();
        let settings = ReportConfig {
            sample: n,
            neighbours: 4,
        };
        let report = QualityReport::new(vectors, &trie, &settings, 5).unwrap();
        assert_eq!(
            (report.items, report.leaves, report.nodes),
            (n, trie.n_leaves(), trie.n_nodes())
        );
        assert_eq!(report.levels.len(), trie.levels());

        let row = |i: u32| vectors.row(i as usize).iter().map(|&x| f64::from(x));
        let dot = |a: u32, b: u32| -> f64 { row(a).zip(row(b)).map(|(x, y)| x * y).sum() };
        let near: Vec<Vec<u32>> = (0..n as u32)
            .map(|a| {
                let mut others: Vec<u32> = (0..n as u32).filter(|&b| b != a).collect();
                let cosine = |b: u32| dot(a, b) / dot(b, b).sqrt();
                others.sort_by(|&b, &c| cosine(c).total_cmp(&cosine(b)));
                others.truncate(4);
                others
            })
            .collect();
        let mut above = 0.0;
        for (level, found) in (1..).zip(&report.levels) {
            let mut groups: BTreeMap<&[u32], Vec<u32>> = BTreeMap::new();
            for item in 0..n as u32 {
                groups
                    .entry(&codes.code(item)[..level])
                    .or_default()
                    .push(item);
            }
            let mut inertia = 0.0;
            let mut entropy = 0.0;
            let mut pairs = 0;
            for group in groups.values() {
                let share = group.len() as f64 / n as f64;
                entropy -= share * share.log2();
                pairs += group.len() * (group.len() - 1) / 2;
                // Σ ‖x − mean‖² = Σ over pairs of ‖x − y‖² / members.
                for &a in group {
                    for &b in group {
                        let distance = dot(a, a) + dot(b, b) - 2.0 * dot(a, b);
                        inertia += distance / 2.0 / group.len() as f64;
                    }
                }
            }
            let same = |a: u32, b: u32| codes.code(a)[..level] == codes.code(b)[..level];
            let sharing: usize = (0..n as u32)
                .map(|a| near[a as usize].iter().filter(|&&b| same(a, b)).count())
                .sum();
            let equal = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} for {b}");
            equal(found.entropy, entropy);
            equal(
                found.entropy_normalised,
                entropy / (found.nodes as f64).log2(),
            );
            equal(found.entropy_given_prefix, entropy - above);
            equal(found.inertia, inertia / n as f64);
            equal(found.pairs_sharing, pairs as f64 / (n * (n - 1) / 2) as f64);
            equal(found.neighbours_sharing, sharing as f64 / (4 * n) as f64);
            let widths: Vec<usize> = trie
                .level(level - 1)
                .map(|v| trie.children(v).len())
                .collect();
            let choices: Vec<usize> = widths.iter().copied().filter(|&w| w > 1).collect();
            assert_eq!(found.nodes, trie.level(level).len());
            assert_eq!(found.branching_max, widths.into_iter().max().unwrap());
            assert_eq!(found.choices, choices.len());
            if !choices.is_empty() {
                equal(
                    found.branching_mean,
                    choices.iter().sum::<usize>() as f64 / choices.len() as f64,
                );
            }
            let alone = groups.values().filter(|group| group.len() == 1).count();
            assert_eq!(report.depths[..level].iter().sum::<usize>(), alone);
            above = entropy;
        }
    }
}

#[test]
fn far_groups_show_and_the_report_reads_and_keeps() {
    let data = mixture(600, 10, 30, 0.05, 2);
    let vectors = Vectors::new(&data, 10).unwrap();
    let config = CodesConfig {
        branching: 30,
        ..CodesConfig::default()
    };
    let trie = |seed| CodeTrie::new(&ItemCodes::build(vectors, &config, seed).unwrap()).unwrap();
    let settings = ReportConfig {
        sample: 50,
        ..ReportConfig::default()
    };
    let report = QualityReport::new(vectors, &trie(1), &settings, 9).unwrap();
    assert_eq!(
        report,
        QualityReport::new(vectors, &trie(1), &settings, 9).unwrap()
    );
    assert_eq!((report.sample, report.neighbours), (50, 10));
    let first = &report.levels[0];
    assert!(first.neighbours_sharing > 0.8 && first.pairs_sharing < 0.1);
    assert!(first.inertia < 0.1 * report.variance);
    let agreement = overlap(&trie(1), &trie(2)).unwrap();
    assert!(agreement.normalised_mutual_information > 0.8);
    assert!(agreement.of_first > 5.0 * agreement.chance_second);

    let text = report.to_string();
    assert!(
        text.starts_with("600 items, 600 leaves")
            && text.lines().count() == 2 + report.levels.len() + 1
    );
    let kept = serde_json::to_string(&report).unwrap();
    let back: QualityReport = serde_json::from_str(&kept).unwrap();
    assert_eq!(back.to_string(), text);
}

#[test]
fn a_single_item_has_a_report_and_another_catalogue_has_none() {
    let one = Vectors::new(&[3.0, 4.0], 2).unwrap();
    let trie = CodeTrie::new(&ItemCodes::build(one, &CodesConfig::default(), 1).unwrap()).unwrap();
    let report = QualityReport::new(one, &trie, &ReportConfig::default(), 1).unwrap();
    assert_eq!(report.depths, [1]);
    assert_eq!(report.levels[0].entropy, 0.0);
    assert!(serde_json::to_string(&report).is_ok_and(|text| !text.contains("null")));
    let two = Vectors::new(&[1.0, 2.0], 1).unwrap();
    assert!(matches!(
        QualityReport::new(two, &trie, &ReportConfig::default(), 1),
        Err(CodesError::Mismatch {
            found: 2,
            expected: 1,
            ..
        })
    ));
}
