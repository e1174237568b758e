//! The documents are whole: no merge left half done, no link to a file that is not there.

use std::path::{Path, PathBuf};

/// Every markdown file of the repository, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let made = ["target", "runs", "dist", "node_modules"].contains(&name.as_str());
            if path.is_symlink() || name.starts_with('.') || made {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".md") {
                found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(
        found.len() >= 20,
        "only {} documents below {}",
        found.len(),
        root.display()
    );
    found
}

/// What `[text](target)` points to, as written.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

#[test]
fn no_merge_is_left_half_done() {
    for (path, text) in documents() {
        for (i, line) in text.lines().enumerate() {
            let marker = ["<<<<<<< ", ">>>>>>> "].iter().any(|m| line.starts_with(m));
            assert!(
                !marker && line != "=======",
                "{}:{}: {line}",
                path.display(),
                i + 1
            );
        }
    }
}

#[test]
fn links_lead_to_files() {
    let mut seen = 0;
    for (path, text) in documents() {
        for target in links(&text) {
            let elsewhere = ["http://", "https://", "mailto:", "#"];
            if elsewhere.iter().any(|scheme| target.starts_with(scheme)) {
                continue;
            }
            let file = target.split('#').next().unwrap();
            assert!(
                path.parent().unwrap().join(file).exists(),
                "{}: nothing at {target}",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen >= 20, "only {seen} links");
}
