//! With the feature `cuda`: compiles the GPU's kernels, as `candle-kernels` does its own.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    {
        let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
        cudaforge::KernelBuilder::new()
            .source_dir("src/cuda")
            .arg("-std=c++17")
            .arg("-O3")
            .build_ptx()?
            .write(out.join("ptx.rs"))?;
    }
    Ok(())
}
