//! Figures and faults of small files.

use std::path::PathBuf;

use super::*;
use crate::guess::{Asked, guess};

fn surveyed(files: &[(&str, &[u8])]) -> Survey {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files
        .iter()
        .map(|(name, bytes)| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        })
        .collect();
    let guess = guess(&paths, &Asked::default()).unwrap();
    let template = TextTemplate {
        parts: guess.text.clone(),
        fallback: guess.text.is_empty().then(|| "item {id}".to_owned()),
        ..TextTemplate::default()
    };
    survey(&guess, &template, &mut |_| {}).unwrap()
}

fn told(survey: &Survey) -> Vec<(String, String, usize, Vec<usize>)> {
    let faults = survey.faults.iter();
    faults
        .map(|faults| {
            let file = faults
                .file
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let lines = faults.first.iter().map(|(line, _)| *line).collect();
            (file, faults.kind.clone(), faults.count, lines)
        })
        .collect()
}

#[test]
fn figures_are_those_of_the_files() {
    let log = "user_id,item_id,timestamp\n\
               a,x,1600000000\na,y,1600000100\na,x,1600000000\nb,x,1600000300\nb,z,1600000400\nb,x,1600000500\nc,q,1600000600\n";
    let items = "item_id,title\nx,Ex\ny,Why\nz,\nother,Other\n";
    let survey = surveyed(&[("log.csv", log.as_bytes()), ("items.csv", items.as_bytes())]);
    assert!(survey.is_sound(), "{:?}", survey.faults);
    assert_eq!(
        (survey.rows, survey.interactions, survey.users, survey.items),
        (7, 7, 3, 4)
    );
    assert_eq!((survey.item_rows, survey.median_length), (Some(4), 3.0));
    assert_eq!((survey.repeats, survey.duplicates), (2, 1));
    let times = survey.times.unwrap();
    assert_eq!(
        (times.first, times.last, times.unit),
        (1.6e9, 1_600_000_600.0, Unit::Seconds)
    );
    assert_eq!(times.other_units, []);
    let dates = ["2020-09-13 12:26:40", "2020-09-13 12:36:40"].map(str::to_owned);
    assert_eq!(times.dates(), Some(dates));
    let missing = |count, item: &str, line| {
        Some(Missing {
            count,
            item: item.to_owned(),
            line,
        })
    };
    assert_eq!(survey.undescribed, missing(1, "q", 8));
    assert_eq!(survey.without_text, missing(2, "z", 6));
    assert_eq!(survey.texts, 2);
    let left: Vec<_> = survey
        .filters
        .iter()
        .map(|l| (l.users, l.items, l.interactions))
        .collect();
    assert_eq!(left, [(0, 0, 0), (0, 0, 0), (2, 3, 6)]);
}

/// Every kind of fault that a row can have, all of them in one reading, each with its line.
#[test]
fn every_fault_is_told_with_its_line() {
    let mut log = b"user_id,item_id,timestamp\n".to_vec();
    for i in 0..60 {
        log.extend(format!("u{},i{},{}\n", i % 7, i % 11, 1_600_000_000 + i).bytes());
    }
    log.extend(b"u1,i1,yesterday\nu1,,1600000000\nu1,i1\n,i1,1600000000\nu1,i\xff,1600000000\nu1,i1,-5\nu1,i1,1600000000,x\n");
    log.extend(b"u1,i1,1600000000000\nu1,i1,later\n");
    let mut items = b"item_id,title,price\n".to_vec();
    for i in 0..10 {
        items.extend(format!("i{i},\"Item, {i}\",{i}.5\n").bytes());
    }
    items.extend(b"i3,again,1\ni10,x,free\n,none,1\ni12,\"open,1\ni13,x,1\n");
    let survey = surveyed(&[("log.csv", &log), ("items.csv", &items)]);
    let expected = [
        ("items.csv", "field `item_id` is missing", 1, vec![14]),
        ("items.csv", "field `price` cannot be read", 1, vec![13]),
        ("items.csv", "item twice", 1, vec![12]),
        ("items.csv", "quote left open", 1, vec![15]),
        ("log.csv", "field `item_id` is missing", 1, vec![63]),
        (
            "log.csv",
            "field `timestamp` cannot be read",
            3,
            vec![62, 67, 70],
        ),
        ("log.csv", "field `user_id` is missing", 1, vec![65]),
        ("log.csv", "not UTF-8", 1, vec![66]),
        ("log.csv", "wrong number of fields", 2, vec![64, 68]),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(file, kind, count, lines)| (file.to_owned(), kind.to_owned(), count, lines))
        .collect();
    assert_eq!(told(&survey), expected);
    assert!(survey.faults[3].ended && !survey.faults[0].ended);
    assert_eq!(survey.rows, 69);
}

/// An item whose row is at fault has one all the same; a word for an unknown price is no fault.
#[test]
fn items_with_a_faulty_row_are_not_without_one() {
    let log = b"user,sku\nu,s1\nu,s2\nu,s3\nu,s4\nu,s5\nu,s6\nu,s7\n";
    let items = b"sku,title,price\ns1,A,1.5\ns2,A,1.5\ns3,A,1.5\ns4,A,1.5\ns5,A,free\ns6,A,N/A\n";
    let survey = surveyed(&[("log.csv", log), ("items.csv", items)]);
    let (file, kind) = ("items.csv", "field `price` cannot be read");
    let price = (file.to_owned(), kind.to_owned(), 1, vec![6]);
    assert_eq!(told(&survey), [price]);
    assert_eq!(survey.item_rows, Some(6));
    let missing = survey.undescribed.unwrap();
    assert_eq!((missing.count, &*missing.item), (1, "s7"));
    assert_eq!(survey.texts, 2, "with a price and without");
}

/// In a short table one id that is there twice is a tenth of them and more; the column is that of the ids all the same.
#[test]
fn an_item_twice_is_told_in_a_short_table() {
    let log = b"user,sku\nu1,s1\nu1,s2\nu2,s1\n";
    let items = b"id,title\ns1,Shirt\ns2,Hat\ns1,Cap\n,Tie\n";
    let survey = surveyed(&[("log.csv", log), ("items.csv", items)]);
    let expected = [("field `id` is missing", 5), ("item twice", 4)];
    let expected =
        expected.map(|(kind, line)| ("items.csv".to_owned(), kind.to_owned(), 1, vec![line]));
    assert_eq!(told(&survey), expected);
}

/// One table that is both is read twice: a row is told once, by whichever reading stops at it, and so is its end.
#[test]
fn one_table_has_the_faults_of_items_too() {
    let mut log = "user_id,item_id,timestamp,title,price\n".to_owned();
    for i in 0..60 {
        let (user, item) = (i % 7, i % 11);
        log += &format!(
            "u{user},i{item},{},Item {item},{item}.5\n",
            1_600_000_000 + i
        );
    }
    // Lines 62 to 66: the third and the last are known from the first reading, and what i1 is was said above.
    log += "u1,j1,1600000000,Jay,free\nu1,j2,1600000000,Jay,2\nu1,j3,soon,Jay,free\nu1,i1,1600000000,Item 1,free\nu1,i1\n";
    let fault =
        |kind: &str, line: usize| ("log.csv".to_owned(), kind.to_owned(), 1_usize, vec![line]);
    let time = fault("field `timestamp` cannot be read", 64);
    let width = fault("wrong number of fields", 66);
    let survey = surveyed(&[("log.csv", log.as_bytes())]);
    let price = fault("field `price` cannot be read", 62);
    assert_eq!(told(&survey), [price, time.clone(), width.clone()]);
    assert_eq!((survey.rows, survey.item_rows), (65, None));

    log += "u1,\"i1,1600000000,open,1\nu1,i1,1600000000,Item 1,1\n";
    let survey = surveyed(&[("log.csv", log.as_bytes())]);
    let open = fault("quote left open", 67);
    assert_eq!(told(&survey), [time, open, width]);
}

#[test]
fn json_lines_and_a_cut_archive() {
    let lines = "{\"user\": 1, \"item\": 1, \"ts\": 1600000000000}\n{\"user\": 1, \"item\": {}}\n{\"user\": 1\n{\"user\": 1, \"item\": 2}\n{\"user\": 1, \"item\": 1, \"ts\": 1600000000}\n";
    let survey = surveyed(&[("a.jsonl", lines.as_bytes())]);
    let kinds: Vec<_> = survey
        .faults
        .iter()
        .map(|f| (f.kind.as_str(), f.first[0].0))
        .collect();
    assert_eq!(
        kinds,
        [
            ("field `item` cannot be read", 2),
            ("field `ts` is missing", 4),
            ("no JSON object", 3)
        ]
    );
    let times = survey.times.unwrap();
    assert_eq!(times.other_units.len(), 1, "two units: {times:?}");

    let text: String = (0..9_000u32)
        .map(|i| {
            format!(
                "u{},i{},{}\n",
                i % 71,
                i.wrapping_mul(2_654_435_761) % 977,
                1_600_000_000 + i
            )
        })
        .collect();
    let text = format!("user,item,time\n{text}");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, text.as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    let survey = surveyed(&[("a.csv.gz", &gz[..gz.len() / 2])]);
    assert_eq!(survey.faults.len(), 1);
    assert!(survey.faults[0].ended && survey.faults[0].kind == "cut short");
    assert!(survey.rows > 1_000);
}
