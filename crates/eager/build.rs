//! Puts the compiler, the target and candle's version into the binary: every stage of a run records them.

use std::path::Path;
use std::process::Command;

fn main() {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output();
    let version = version
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    println!("cargo::rustc-env=EAGER_RUSTC={version}");
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=EAGER_TARGET={target}");

    // The workspace's lock file; a crate built outside the workspace has none here.
    let lock = Path::new("../../Cargo.lock");
    println!("cargo::rerun-if-changed=build.rs");
    if lock.exists() {
        println!("cargo::rerun-if-changed={}", lock.display());
    }
    let lock = std::fs::read_to_string(lock).unwrap_or_default();
    let candle = lock
        .split("[[package]]")
        .find(|package| package.contains("name = \"candle-core\"\n"))
        .and_then(|package| package.split("version = \"").nth(1)?.split('"').next())
        .unwrap_or("unknown");
    println!("cargo::rustc-env=EAGER_CANDLE={candle}");
}
