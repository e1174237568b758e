//! What the environment decides, each in a child process of its own: this test binary run again for one test.

use std::process::Command;

use candle_core::Device;
use eager_text::{DEFAULT_ENCODER, Lsa, Places, TextEncoder, TextError, open};

/// Set in the child alone.
const CHILD: &str = "EAGER_TEXT_TEST_CHILD";

/// The output of the ignored test `name`, run with these variables.
fn child(name: &str, variables: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--ignored", "--nocapture"])
        .env(CHILD, "1")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
#[ignore = "the child of `without_the_hub_the_default_names_the_ways_on`"]
fn open_the_default() {
    if std::env::var_os(CHILD).is_some() {
        let places = Places::new();
        let opened = open(DEFAULT_ENCODER, &[], &places, &Device::Cpu, &mut |_| {});
        let error = opened.err().unwrap();
        assert!(matches!(error, TextError::Unavailable { .. }));
        println!("{error}");
    }
}

#[test]
fn without_the_hub_the_default_names_the_ways_on() {
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    let mut cases = vec![(("HF_HUB_OFFLINE", "1"), "HF_HUB_OFFLINE")];
    if cfg!(feature = "hub") {
        // Nothing listens on port 1; a proxy must not answer for it.
        cases.push((("HF_ENDPOINT", "http://127.0.0.1:1"), "cannot be reached"));
    }
    for (variable, reason) in cases {
        let home = ("HF_HOME", empty);
        let variables = [home, variable, ("NO_PROXY", "*"), ("no_proxy", "*")];
        let words = child("open_the_default", &variables);
        if cfg!(feature = "hub") {
            assert!(words.contains(reason), "{words}");
        }
        for way in ["minilm", "lsa", "DIR"] {
            let way = format!("`--text-encoder {way}`");
            assert!(words.contains(&way), "{words}");
        }
    }
}

#[test]
#[ignore = "the child of `lsa_is_the_same_on_any_number_of_threads`"]
fn fit_lsa() {
    if std::env::var_os(CHILD).is_some() {
        // Large enough that its products are shared out among the threads.
        let word = |i: usize| format!("w{}", i * i % 997);
        let text = |i: usize| {
            let words: Vec<String> = (0..3 + i % 9).map(|k| word(i * 31 + k * k * 7)).collect();
            words.join(" ")
        };
        let texts: Vec<String> = (0..2000).map(text).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let lsa = Lsa::fit(&texts, 64, 0).unwrap();
        let vectors = lsa.encode(&texts, &mut |_| {}).unwrap();
        let vectors = vectors.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let mut hash = 0u64;
        for x in vectors {
            hash =
                (hash.rotate_left(5) ^ u64::from(x.to_bits())).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        println!("hash {hash:016x} of dim {}", lsa.dim());
    }
}

#[test]
fn lsa_is_the_same_on_any_number_of_threads() {
    let line = |threads: &str| {
        let text = child("fit_lsa", &[("RAYON_NUM_THREADS", threads)]);
        let line = text.lines().find(|line| line.contains("hash "));
        line.unwrap().to_owned()
    };
    let one = line("1");
    assert!(one.ends_with("of dim 64"), "{one}");
    for threads in ["2", "5"] {
        assert_eq!(line(threads), one);
    }
}
