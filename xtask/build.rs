//! Hands the host's target triple to xtask, which names a cargo setting after it.

fn main() {
    let host = std::env::var("HOST").unwrap_or_default();
    println!("cargo::rustc-env=XTASK_HOST={host}");
    println!("cargo::rerun-if-changed=build.rs");
}
