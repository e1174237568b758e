//! What the integration tests share.

use std::path::{Path, PathBuf};

/// The folder of the small Sentence-T5 that is kept with the tests: random weights, 75 kB.
pub fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/st5-mini")
}

/// A copy of the fixture, to be damaged.
#[allow(dead_code)] // not in every test binary
pub fn copy() -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_folder(&fixture(), to.path());
    to
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy_folder(&from, &to);
        } else {
            std::fs::write(to, std::fs::read(from).unwrap()).unwrap(); // not its read-only bit
        }
    }
}
